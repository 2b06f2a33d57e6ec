"""What a layout file may say: how one vendor's export is recognised and read. The layouts are `layouts/*.toml`."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from schemas.events import ENVELOPE, EVENT_TYPES, PAYLOADS

ColumnType = Literal[
    "text",  # as written, blanks trimmed
    "code",  # through `values` or `patterns`; anything else is rejected unless `otherwise` says what it becomes
    "number",  # 12, 12.0, 1,234.5
    "integer",
    "date",  # ISO, M/D/YYYY and what `formats` adds; a time behind the day is dropped
    "instant",  # UTC instant, converted to the district's local day
    "local_time",  # HH:MM:SS, 9:00:00 AM
    "local_datetime",  # kept as YYYY-MM-DDTHH:MM:SS; the day alone where no time is given
    "grade",  # every spelling of PK, K, 1 to 12
    "percentile",
    "boolean",
    "school_year",  # "2025-2026", "2025-26", "Fall 2021-2022", "2026": the ending year
    "id",  # an id of a person; `id_type` says which; never leaves the vault
    "person",  # an id of a person who is not the student (a tutor); becomes a key of the vault
    "terms",  # words of the section vocabulary found in the text
    "note",  # free text: its length goes to the log, the text to the notes store
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Model):
    """One of our columns and where an export has it."""

    headers: tuple[str, ...] = ()
    """Vendor headers; the first is today's name, the others are known aliases. The first present wins."""
    pattern: str | None = None
    """Inside a block: regular expression found in the header. Elsewhere: the part of the cell to take (group 1)."""
    type: ColumnType = "text"
    required: bool = False
    """The header must exist, and a row without a value is rejected."""
    header_required: bool = False
    """The header must exist; blank cells are null."""
    hashed: bool = True
    """False for what a vendor recomputes: stored, never compared (SEMANTICS 1.2)."""
    vault: bool = False
    """Goes to the vault only: names, birth dates, class titles, teachers."""
    id_type: str | None = None
    formats: tuple[str, ...] = ()
    values: dict[str, str] = {}
    """Cell to value, compared without regard to case and surrounding blanks."""
    patterns: tuple[tuple[str, str], ...] = ()
    """(regular expression, value) pairs tried in order, after `values`; found anywhere, without regard to case."""
    otherwise: str | None = None
    """Value of a cell that cannot be understood: a value, `null` for unknown, or absent to reject."""
    blank: str | None = None
    """Value of a blank cell; absent: null."""
    missing: tuple[str, ...] = ()
    """Further spellings of a missing value, beside the layout's."""
    capture: str | None = None
    """Inside a block: named group of the block's header that gives the value."""
    position: bool = False
    """Inside a block: take the column right at the header that opens the block."""
    min: float | None = None
    max: float | None = None
    """Of a number; of a day: how many days after the export it may lie (400 unless given)."""
    split: str | None = None
    """Separator of lists in one cell; kept joined by `;` in sorted order."""
    where: dict[str, tuple[str, ...]] = {}
    """Read only where these columns of the row hold one of these values (as converted); null elsewhere."""
    join: tuple[str, ...] = ()
    """Instead of headers: our columns of the row whose values, joined by ` / `, are the text of this one."""
    pairs: str | None = None
    """The cell lists several ids: regular expression with groups `type` and `id`; `id_type` becomes `id_type:type`."""


class Strand(_Model):
    """Columns of one strand (goal, domain) of a test."""

    strand: str | None = None
    """Fixed name of the strand."""
    name: str | None = None
    """Header that holds its name."""
    score: str | None = None
    standard_error: str | None = None
    label: str | None = None


class Fact(_Model):
    """One fact slot of a row."""

    event: str
    constants: dict[str, str | int | float | bool] = {}
    columns: dict[str, Column] = {}
    """Columns of this slot alone, beside or instead of the row's."""
    when: dict[str, tuple[str, ...]] = {}
    """Slot is filled only where these columns hold one of these values (as converted)."""
    filled_by: tuple[str, ...] = ()
    """Slot is empty where all of these columns are null."""
    only: tuple[str, ...] = ()
    """Payload columns this slot takes from the row; empty: all that its family has."""
    strands: tuple[Strand, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> "Fact":
        if self.event not in EVENT_TYPES:
            raise ValueError(f"unknown event type {self.event}")
        payload = PAYLOADS[EVENT_TYPES[self.event].family]
        for name in (*self.constants, *self.only):
            if name not in payload and name not in ENVELOPE:
                raise ValueError(f"{self.event} has no column {name}")
        return self


class Block(Fact):
    """A fact slot that repeats across the header of a wide file: once per season, level or session."""

    opens: str
    """Regular expression found in the header that opens a block; the block ends where the next one opens."""


class Scope(_Model):
    """Rows that are another subject or another kind of test: counted out of scope."""

    column: str
    values: tuple[str, ...]


class Layout(_Model):
    """How one export is recognised and read."""

    id: str
    title: str
    vendor: str
    source: str
    """Where the header was seen."""
    test_family: str | None = None
    richness: int = 1
    """Of two layouts that show one test with equal export time, the higher one's columns are shown."""
    kind: Literal["assessment", "roster", "sessions", "cycle_log"] = "assessment"
    """A roster says who is a student of the district; the students of every other file are looked for in it."""
    format: Literal["table", "json_lines"] = "table"
    bundle: str | None = None
    """Files of one bundle (a OneRoster folder) are read together."""
    file_names: tuple[str, ...] = ()
    """Regular expressions of file names that settle a header that several layouts share."""
    missing: tuple[str, ...] = ()
    """Spellings of a missing value in this layout."""
    absent: tuple[str, ...] = ()
    """Headers whose presence means that the file is another layout; `re:` starts a regular expression."""
    also: tuple[str, ...] = ()
    """Headers the vendor has and we do not read; `re:` starts a regular expression found in the header."""
    export_name: str | None = None
    """Regular expression of the file name with groups year, month, day of the export."""
    scope: Scope | None = None
    extract_within: tuple[str, ...] = ()
    """Columns whose values are the subject area and term of a full extract (SEMANTICS 1.6); empty: its files can be
    none."""
    people: tuple[str, ...] = ()
    """Id columns of the student, in the order in which a row's own id is taken."""
    names_people: bool = False
    """True for the file of a roster that names its people: its ids are what other files are matched against."""
    columns: dict[str, Column] = {}
    facts: tuple[Fact, ...] = ()
    blocks: tuple[Block, ...] = ()
    strands: tuple[Strand, ...] = ()
    """Strands of the row's test, for layouts with one test per row."""

    @model_validator(mode="after")
    def _consistent(self) -> "Layout":
        for name in self.people:
            column = self.columns.get(name)
            if column is None or column.type != "id" or not column.id_type:
                raise ValueError(f"people: {name} is not a column of type id with an id_type")
        if self.scope and self.scope.column not in self.columns:
            raise ValueError(f"scope: no column {self.scope.column}")
        stated = (*PAYLOADS["screening"], "school_year")
        if self.extract_within and "school_id" not in self.columns:
            raise ValueError("extract_within: a full extract is told apart by school, and there is no school_id")
        for name in self.extract_within:
            if name not in stated:
                raise ValueError(f"extract_within: a test has no column {name}")
        for column in self.columns.values():
            for name in (*column.join, *column.where):
                other = self.columns.get(name)
                if other is None or other.join or other.where:
                    raise ValueError(f"join, where: {name} is not a plain column of the row")
        for block in self.blocks:
            re.compile(block.opens)
        return self


def id_types(kind: Literal["id", "person"]) -> frozenset[str]:
    """Types of the ids of students (`id`), or of others (`person`), that any layout has."""
    own = [layout.columns for layout in layouts().values()]
    own += [fact.columns for layout in layouts().values() for fact in (*layout.facts, *layout.blocks)]
    columns = [column for each in own for column in each.values()]
    return frozenset(column.id_type for column in columns if column.type == kind and column.id_type)


class UnknownLayout(Exception):
    """No layout of this name."""


@cache
def layouts() -> dict[str, Layout]:
    """Every layout of the distribution, by id."""
    found: dict[str, Layout] = {}
    for entry in sorted(files("schemas").joinpath("layouts").iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            for layout in read_layouts(tomllib.loads(entry.read_text("utf-8"))):
                if layout.id in found:
                    raise ValueError(f"{entry.name}: a second layout is called {layout.id}")
                found[layout.id] = layout
    return found


@cache
def measures() -> frozenset[str]:
    """Every measure that a layout can read, but for those that files name themselves."""
    found: set[str] = set()
    for layout in layouts().values():
        facts = (*layout.facts, *layout.blocks)
        found.update(str(fact.constants["measure"]) for fact in facts if "measure" in fact.constants)
        for columns in (layout.columns, *(fact.columns for fact in facts)):
            if "measure" in columns:
                column = columns["measure"]
                found.update((*column.values.values(), *(value for _, value in column.patterns)))
    return frozenset(found)


def read_layouts(document: dict[str, Any]) -> list[Layout]:
    """Layouts of one TOML document: one, or a `[[layout]]` list whose members share `[base]`."""
    if "layout" not in document:
        return [Layout.model_validate(document)]
    base = document.get("base", {})
    return [Layout.model_validate(_over(base, each)) for each in document["layout"]]


def _over(base: dict[str, Any], each: dict[str, Any]) -> dict[str, Any]:
    """``each`` over ``base``, tables merged, everything else replaced."""
    merged = dict(base)
    for key, value in each.items():
        inner = merged.get(key)
        merged[key] = _over(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


class Slot(_Model):
    """One fact slot bound to a header: a fact of the layout, or one block found."""

    fact: Fact
    captured: dict[str, str] = {}
    """Our column to the text a block's header gives it."""
    positions: dict[str, int] = {}
    """Our column to its header position, for the slot's own columns."""
    strands: tuple[dict[str, int], ...] = ()
    """Part of the strand to header position, one per strand of the fact."""


class Binding(_Model):
    """A layout bound to one header: which position holds what, and how the header differs."""

    layout: Layout
    header: tuple[str, ...] = ()
    """The file's header, cleaned: names are shown from here."""
    positions: dict[str, int] = {}
    """Our column to its header position, for the columns of the row."""
    slots: tuple[Slot, ...] = ()
    """The facts of the layout, then the blocks in the order of the header."""
    strands: tuple[dict[str, int], ...] = ()
    """Part of the strand to header position, one per strand of the layout."""
    renamed: tuple[tuple[str, str], ...] = ()
    """(today's header, header in the file)."""
    new: tuple[str, ...] = ()
    """Headers the layout does not know."""
    missing: tuple[str, ...] = ()
    """Headers we would read and the file does not have."""
    repeated: tuple[str, ...] = ()
    """Headers of columns of the row that occur more than once; the first is read."""
