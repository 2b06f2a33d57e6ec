"""What a layout file may say: how one vendor's export is recognised and read. The layouts are `layouts/*.toml`."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    """Inside a block: regular expression of the header. Elsewhere: the part of the cell to take (group 1)."""
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
    """(regular expression, value) pairs tried in order, after `values`."""
    otherwise: str | None = None
    """Value of a cell that `values` and `patterns` do not know: a value, `null` for unknown, or absent to reject."""
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
    split: str | None = None
    """Separator of lists in one cell; kept joined by `;` in sorted order."""


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
    """Regular expression of the header that opens a block; it ends where the next one opens."""


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
    format: Literal["table", "json_lines"] = "table"
    bundle: str | None = None
    """Files of one bundle (a OneRoster folder) are read together."""
    file_names: tuple[str, ...] = ()
    """Regular expressions of file names that settle a header that several layouts share."""
    missing: tuple[str, ...] = ()
    """Spellings of a missing value in this layout."""
    absent: tuple[str, ...] = ()
    """Headers whose presence means that the file is another layout."""
    also: tuple[str, ...] = ()
    """Headers the vendor has and we do not read; `re:` starts a regular expression."""
    export_name: str | None = None
    """Regular expression of the file name with groups year, month, day of the export."""
    scope: Scope | None = None
    people: tuple[str, ...] = ()
    """Id columns of the student, in the order in which a row's own id is taken."""
    names_people: bool = False
    """True for a roster of people: its ids become known ids that other files are matched against."""
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
        for block in self.blocks:
            re.compile(block.opens)
        return self


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


class Binding(_Model):
    """A layout bound to one header: which position holds what, and how the header differs."""

    layout: Layout
    positions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Our column to header positions (several only for columns that join texts)."""
    blocks: tuple[dict[str, Any], ...] = ()
    """One per block found: index of the block in the layout, captured groups, positions of its columns."""
    renamed: tuple[tuple[str, str], ...] = ()
    """(today's header, alias found)."""
    new: tuple[str, ...] = ()
    """Headers no layout knows."""
