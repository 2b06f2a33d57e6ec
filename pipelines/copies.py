"""Which archived and landed files hold a student, and where."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.blocking import Aliases, BlockList, bound, tables_in
from schemas.exports import Binding
from transforms.exports import Context, parse
from warehouse.archive import RECORD
from warehouse.home import Home
from warehouse.landing import UnreadableExport, discover
from warehouse.lines import decoded
from warehouse.log import exports
from warehouse.redaction import physical_lines
from warehouse.tabular import RawTable, is_workbook, read_table

NO_IDS = pl.DataFrame(schema={"id_type": pl.String, "id": pl.String})
_BETWEEN_CELLS = re.compile(r'[,;|\t"\r\n]+')


@dataclass(frozen=True)
class Copy:
    """An archived file that holds the student."""

    path: str
    """Below the home."""
    batch_id: str
    """Its batch; of a second copy, under the name by which the file landed again, ""."""
    lines: list[int]
    """Where the student's records start in the table that was loaded as this batch."""
    gone: dict[str, list[int]]
    """By sheet, every line of the student's records; of a file without sheets under ""."""


@dataclass(frozen=True)
class Subject:
    """What a file names a student by."""

    blocked: BlockList
    ids: list[str]
    names: list[tuple[str, str]]
    """Given and family name."""
    told: pl.DataFrame
    """`batch_id`, `source_line` of the events that go."""

    def records(
        self, table: RawTable, binding: Binding | None, context: Context, data: bytes
    ) -> tuple[set[int], pl.DataFrame]:
        """Where the student's records in a table start, those included that could not be read; and ids in them.

        The ids, `id_type` and `id`, are those that no other record of the table has.
        """
        if binding is None:
            cells = pl.any_horizontal(pl.all().exclude("source_line").is_in(self.ids))
            return {*table.rows.filter(cells)["source_line"], *self._damaged(table, data)}, NO_IDS
        parsed = parse(table.rows, binding, context, name_all=True)
        found = self.blocked.lines(parsed)
        ids, key = parsed.named, ["id_type", "id"]
        others = ids.join(found, on="source_line", how="anti").select(key).unique()
        own = ids.join(found, on="source_line", how="semi").select(key).unique().join(others, on=key, how="anti")
        return {*found["source_line"], *self._damaged(table, data)}, own

    def _damaged(self, table: RawTable, data: bytes) -> Iterator[int]:
        """Records that are no row and name the student all the same."""
        if table.damaged.is_empty() or is_workbook(data):
            return
        text = decoded(data)[0].split(b"\n")
        for line in table.damaged["source_line"].unique():
            words = text[line - 1].decode(errors="replace").casefold()
            cells = {cell.strip() for cell in _BETWEEN_CELLS.split(words)}
            is_named = any(given.casefold() in cells and family.casefold() in cells for given, family in self.names)
            if is_named or any(each.casefold() in cells for each in self.ids):
                yield line

    def may_be_in(self, data: bytes) -> bool:
        """Whether it is worth reading a file: its text has an id or a family name of the student."""
        if is_workbook(data):
            return True
        text = decoded(data)[0]
        words = {*self.ids, *(family for _, family in self.names)}
        return any(word.encode(code, "ignore") in text for word in words for code in ("utf-8", "cp1252") if word)


def copies_with(
    home: Home, subject: Subject, ledger: pl.DataFrame, aliases: Aliases
) -> tuple[list[Copy], pl.DataFrame]:
    """Archived files of the district that hold the student, and every id that they name the student by.

    A record is the student's where an id of it is, where an event that goes was read from it, or where it could not be
    read and names the student.
    """
    files = {batch[:24]: (batch, name) for batch, name in exports(ledger).select("batch_id", "file").rows()}
    district = subject.blocked.district_id
    context = _context(district)
    found, named = [], [NO_IDS]
    for path in sorted((home.archive / district).glob("*/*")):
        if path.name == RECORD or path.name.startswith("."):
            continue
        batch_id, name = files.get(path.parent.name, ("", path.name))
        told = subject.told.filter(pl.col("batch_id") == batch_id)["source_line"].to_list()
        data = path.read_bytes()
        if not told and not subject.may_be_in(data):
            continue
        records, starts, ids = _records(data, name, subject, aliases, context)
        named.append(ids)
        own = next((sheet for sheet in records if sheet and name.endswith(f"!{sheet}")), next(iter(records), ""))
        records[own] = {*records.get(own, ()), *told}
        if any(records.values()):
            gone = {
                sheet: sorted(lines) if sheet else physical_lines(data, lines, starts.get(sheet, ()))
                for sheet, lines in records.items()
            }
            is_first = path == home.archived(district, batch_id, name)
            below = path.relative_to(home.root).as_posix()
            found.append(Copy(below, batch_id if is_first else "", sorted(records[own]), gone))
    return found, pl.concat(named).unique()


def landed_with(home: Home, subject: Subject, aliases: Aliases) -> int:
    """How many files in the landing folder of the district hold the student; they are the district's own."""
    district = subject.blocked.district_id
    context = _context(district)
    found: set[Path] = set()
    for landed in discover(home.landing / district, district)[0]:
        try:
            data = landed.read()
        except UnreadableExport:  # it changed just now
            continue
        if subject.may_be_in(data) and any(_records(data, landed.name, subject, aliases, context)[0].values()):
            found.add(landed.path)
    return len(found)


def _records(
    data: bytes, name: str, subject: Subject, aliases: Aliases, context: Context
) -> tuple[dict[str, set[int]], dict[str, list[int]], pl.DataFrame]:
    """By sheet, where the student's records start, and where any does; and ids that the student's have."""
    records: dict[str, set[int]] = {}
    named = [NO_IDS]
    starts: dict[str, list[int]] = {}
    for sheet, called in tables_in(data, name):
        try:
            table = read_table(data, called)
            binding = bound(data, called, aliases)
        except UnreadableExport:
            continue
        records[sheet], ids = subject.records(table, binding, context, data)
        named.append(ids)
        starts[sheet] = [*table.rows["source_line"].to_list(), *table.damaged["source_line"].to_list()]
    return records, starts, pl.concat(named)


def _context(district: str) -> Context:
    """Only ids are asked for, and they mean the same on every day."""
    return Context(district, "", datetime.now(UTC), "UTC")
