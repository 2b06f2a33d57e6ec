"""A student is erased: from every byte of the home, for good, and nobody else is touched."""

import gzip
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter
from typer.testing import CliRunner

from pipelines import cli, erasure
from pipelines.corrections import merge, retract, split
from pipelines.erasure import at_work, erase, look, undo_block
from pipelines.refresh import refresh
from pipelines.report.names import read_names
from pipelines.report.site import build_report
from pipelines.rights import answer, ask, attach_statement, log_disclosure, rights_of
from pipelines.statements import NotPossible
from pipelines.verify import verify_home
from pipelines.work import Work, plausible
from tests.homes import MAP_HEADER, POLICY, SECRET, Place, map_file, map_row, users_file
from tests.test_corrections import CLASSES, enrolled
from tests.test_equality import same
from warehouse.home import Home
from warehouse.publish import connect

CHILD = "7770013"
STATE = "CO7770013X"
OTHERS = ("7770011", "7770012", "7770014", "7770015")
WHY = "request"
DAY = date(2026, 9, 1)


def row(student: str, **about: object) -> str:
    said = {"score": 180 + int(student[-2:]), "state": f"CO{student}X", "test": f"t{student}"} | about
    return map_row(student, said.pop("score"), **said)  # type: ignore[arg-type]


def referrals(*students: str) -> str:
    """Referrals with a note of two lines each."""
    rows = [f'r{each},{each},,s1,2025-10-02,teacher,fractions,"counts for {each}q\nby ones"' for each in students]
    return "\n".join(("row_id,student_id,state_id,school_id,referred_on,referred_by,concern,note", *rows)) + "\n"


def members(*students: str) -> str:
    """A cycle and its members, one event a line."""
    about = {"school_id": "s1", "cycle_id": "c1"}
    opened = about | {"opened_on": "2025-10-06", "tier": 2, "measure": "m", "planned_sessions": 12}
    lines = [("CycleOpened", opened)]
    for each in students:
        lines.append(("StudentJoined", about | {"student_id": each, "joined_on": "2025-10-06", "baseline": 4}))
    told = [
        {"specversion": "1.0", "id": f"e{number}", "source": "/s1", "type": f"org.tierline.{kind}", "data": data}
        for number, (kind, data) in enumerate(lines)
    ]
    return "".join(f"{json.dumps(each | {'time': '2025-10-06T20:00:00Z'})}\n" for each in told)


def workbook(*students: str) -> bytes:
    """The same tests as a workbook with a second sheet."""
    made = io.BytesIO()
    with xlsxwriter.Workbook(made) as book:
        for name, day in (("Fall", "01/12/2026"), ("More", "01/13/2026")):
            sheet = book.add_worksheet(name)
            lines = [MAP_HEADER, *(row(each, term="Winter 2025-2026", day=day, test=f"w{name}{each}") for each in students)]
            for number, line in enumerate(lines):
                sheet.write_row(number, 0, line.split(","))
    return made.getvalue()


def make(root: Path, *students: str) -> Place:
    """A home with these students in two schools, and files of every kind; nothing is loaded yet."""
    place = Place(root, POLICY)
    (place.home.vault / "secret").write_text(SECRET.hex())
    (place.home.vault / "secret").chmod(0o600)
    place.land("2025-09-01/classes.csv", CLASSES)
    place.land("2025-09-01/users.csv", users_file(*students))
    lines = [(each, "X", "2025-08-20", "2025-12-01") for each in students]
    lines += [(each, "Y", "2025-12-02", "") for each in students]
    place.land("2025-09-01/enrollments.csv", enrolled(*lines))
    place.land("2025-09-20/map.csv", map_file(*map(row, students)).encode("utf-16"))
    place.land("2025-10-03/referrals.csv", referrals(*students))
    place.land("2025-10-07/events.jsonl", members(*students))
    place.land("2026-01-20/map.xlsx", workbook(*students))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        tests = [row(each, term="Spring 2025-2026", day="05/04/2026", school="Oak", test=f"s{each}") for each in students]
        science = [row(each, subject="Science", test=f"x{each}") for each in students]
        broken = [row(each, score="n/a", test=f"b{each}") for each in students]
        archive.writestr("map.csv", map_file(*tests, *science, *broken))
    place.land("2026-05-20/map.zip", packed.getvalue())
    return place


def run(place: Place) -> None:
    outcome = Work(place.home, place.sources()).run([place.district])
    assert (outcome.exit_code, outcome.failed) == (0, {})


def told_of(place: Place) -> dict[str, pl.DataFrame]:
    """The projections; of what is asked of the files themselves only that they are asked."""
    tables = place.tables()
    tables["quality_result"] = tables["quality_result"].filter(pl.col("stage") != "exports")
    return tables


def texts(path: Path) -> Iterator[bytes]:
    """Everything a file says, unpacked as far as it goes."""
    data = path.read_bytes()
    yield data
    yield data.decode("utf-16", "replace").encode()
    if data.startswith(b"PAR1"):
        yield pl.read_parquet(data).write_ndjson().encode()
    if data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    if data.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if path.suffix == ".duckdb":
        with connect(path) as connection:
            named = "select table_schema || '.' || table_name from information_schema.tables"
            for (name,) in connection.execute(named).fetchall():
                yield pl.DataFrame(connection.sql(f"select * from {name}")).write_ndjson().encode()


def holding(home: Home, markers: list[str]) -> set[str]:
    """Below the home, the first folder or file of everything that says one of these, in any file."""
    found = set()
    for path in home.root.rglob("*"):
        if path.is_file() and any(marker.encode() in text for text in texts(path) for marker in markers):
            found.add(path.relative_to(home.root).parts[0])
    return found


def hashes_of(place: Place, keys: set[str]) -> list[str]:
    """Natural keys and ids of every event of these keys."""
    parts = [
        table.scan().filter(pl.col("subject_key").is_in(keys)).select("natural_key", "event_id").collect()
        for table in place.log.families.values()
    ]
    rows = pl.concat(parts)
    return [*rows["natural_key"].unique(), *rows["event_id"].unique()]


def keys_of(place: Place, student: str = CHILD) -> set[str]:
    """Every key under which the vault knows a student."""
    with closing(sqlite3.connect(place.home.vault / "vault.sqlite")) as vault:
        rows = vault.execute("select subject_key from subject_id where id like ?", (f"%{student}%",)).fetchall()
    return {key for (key,) in rows}


def passes(place: Place) -> None:
    """The log agrees with its hashes, the ledger with its files, the projections with a rebuild."""
    results = verify_home(place.home, [place.district], plausible=plausible)
    assert [each["rule"] for each in results if not each["is_passed"]] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Loaded, published, reported on, with a statement, a disclosure and a plan for everything to go wrong with."""
    place = make(tmp_path_factory.mktemp("whole"), *OTHERS[:2], CHILD, *OTHERS[2:])
    run(place)
    return place


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same home, which never had the child's rows."""
    place = make(tmp_path_factory.mktemp("without"), *OTHERS)
    run(place)
    return place


def test_no_byte_of_an_erased_student_is_left_and_the_tables_are_as_if_there_had_been_none(
    whole: Place, without: Place, tmp_path: Path
):
    place = whole.copy(tmp_path)
    keys = keys_of(place)
    key = min(keys)
    attach_statement(place.home, key, f"{CHILD} counts on", DAY, place.sources())
    log_disclosure(place.home, key, "consent", f"The tutor of {CHILD}", DAY, place.sources())
    for with_names in (False, True):
        build_report(place.home, place.district, with_names=with_names)
    markers = [CHILD, *keys, *hashes_of(place, keys)]
    held = {"archive", "log", "notes", "projections", "reports", "vault", "warehouse.duckdb"}
    assert holding(place.home, markers) == held
    told = erase(place.home, CHILD, WHY, sources=place.sources())
    assert holding(place.home, markers) == set()
    assert CHILD not in repr(told)
    assert (told["archived_files_rewritten"], told["disclosures"], told["files_in_landing"]) == (8, 1, 0)
    same(told_of(without), told_of(place))
    passes(place)
    run(place)
    same(told_of(without), told_of(place))
