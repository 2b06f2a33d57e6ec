"""Names for a person who has the vault; everyone else's report shows keys and labels."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.rights import with_statement
from warehouse.home import Home, HomeError, refuse_open

STATEMENT = " (a statement is attached)"
"""Said of a student whose family had one attached, wherever the record is shown (34 CFR 99.21(c))."""


class NamesRefused(Exception):
    """Names were asked for and the vault cannot be read; says what to do, never a name."""


@dataclass(frozen=True)
class Names:
    """Names of one district's students and titles of its classes."""

    students: Mapping[str, str]
    """`Family, Given` by subject key."""
    classes: Mapping[str, str]
    """Title by class id."""


_STUDENTS = """
select subject_key, coalesce(family_name, ''), coalesce(preferred_name, given_name, '') from person
where district_id = ? and coalesce(family_name, given_name, preferred_name) is not null order by subject_key, layout
"""
_CLASSES = """
select class_id, class_title from class where district_id = ? and class_title is not null order by class_id, layout
"""


def read_names(home: Home, district: str) -> Names:
    """Read the vault, and never write it.

    Raises:
        NamesRefused: there is no vault here, it may not be read, or others can read it.
    """
    path = home.vault / "vault.sqlite"
    try:
        refuse_open(home.vault)
        refuse_open(path)
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            people = connection.execute(_STUDENTS, [district]).fetchall()
            classes = connection.execute(_CLASSES, [district]).fetchall()
        finally:
            connection.close()
    except HomeError as error:
        raise NamesRefused(f"No names: {error}") from None
    except (OSError, sqlite3.Error):
        raise NamesRefused(
            "--with-names needs the vault, and vault/vault.sqlite of this home cannot be read here. Ask a person who"
            " has the vault to make the report, or leave --with-names out."
        ) from None
    marked = with_statement(home, district)
    students = {
        key: ", ".join(each for each in (family, given) if each) + (STATEMENT if key in marked else "")
        for key, family, given in people
    }
    return Names(students, dict(classes))
