"""Delimited text: bytes to rows of text, and by its line every record that could not be read as a row."""

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from warehouse.lines import (
    LONGEST_RECORD,
    UNDEFINED_1252,
    Flags,
    Header,
    Lines,
    Scan,
    UnreadableExport,
    cells_of,
    decoded,
    read_first_record,
    scan_lines,
)

LONGEST_CELL = 10_000  # characters
LONGEST_TAIL = 1_000  # surplus empty fields
WIDE = 10  # columns: from here on text that happens to have as many delimiters is unlikely

RULES = (
    "control_character",
    "invalid_encoding",
    "unbalanced_quote",
    "repeated_header",
    "too_many_fields",
    "too_few_fields",
    "oversized_cell",
)
CONTROL, ENCODING, QUOTES, HEADER, MANY, FEW, OVERSIZED = range(1, len(RULES) + 1)
GOOD, NOT_A_RECORD = 0, -1

Damage = tuple[int, str | None, str]  # source_line, column, rule


@dataclass(frozen=True)
class RawTable:
    """The text of one table, as landed. One row per record that could be read.

    ``rows`` holds ``source_line`` (the physical line where the record starts; the header is line 1) and the
    wanted of ``c0``, ``c1``…, named by position since headers repeat names. ``damaged`` holds
    ``source_line``, ``column`` and ``rule``, one row per record that could not be read; together they are
    ``records``.
    """

    header: tuple[str, ...]
    rows: pl.DataFrame
    damaged: pl.DataFrame
    encoding: str
    delimiter: str
    records: int


def read_delimited_header(data: bytes, name: str) -> tuple[str, ...]:
    text, _ = decoded(data[: 1 << 20])
    return read_first_record(text, name).cells


def read_delimited(data: bytes, name: str, columns: Collection[int] | None = None) -> RawTable:
    """Read delimited text.

    A record of several lines is believed only where its quotes close within 50 lines and it then has exactly
    the header's fields; in a wide table also only if its lines do not look like records themselves, since two
    lost quotes would swallow the students between. Otherwise its first line alone is damaged and reading goes
    on at the next, so that one lost quote costs one record. The last record may be one field short: NWEA writes it
    so. If more is missing the file was cut, perhaps within a cell.
    """
    data, encoding = decoded(data)
    header = read_first_record(data, name)
    scan = scan_lines(data, header, name)
    encoding, illegible = _encoding(data, encoding, header, scan, name)
    fates = _Fates(data, header, scan, illegible, encoding)
    if not _is_clean(header, scan, illegible):
        fates.judge()
    good = fates.status == GOOD
    body = _body(data, scan.starts, good, fates.repairs)
    if encoding == "windows-1252":
        body = body.decode("cp1252").encode()
    wanted = positions(columns, len(header.cells))
    cells = _parse(body, header, wanted, name)
    kept = np.flatnonzero(good)
    if wanted and cells.height != kept.size:
        raise UnreadableExport(
            f"{name}: {kept.size} records were counted but {cells.height} were read. "
            "Open the file in a spreadsheet, save it as CSV (UTF-8) and land it again."
        )
    first = header.lines + 1
    rows = pl.DataFrame([pl.Series("source_line", kept + first, pl.Int64), *cells.get_columns()])
    damaged = damage(
        (
            line + first,
            header.cells[at] if (at := fates.long_cells.get(line, -1)) >= 0 else None,
            RULES[fates.status[line] - 1],
        )
        for line in np.flatnonzero(fates.status > 0).tolist()
    )
    return RawTable(header.cells, rows, damaged, encoding, header.delimiter, rows.height + damaged.height)


def positions(columns: Collection[int] | None, width: int) -> list[int]:
    wanted = list(range(width)) if columns is None else sorted(set(columns))
    if wanted and not 0 <= wanted[0] <= wanted[-1] < width:
        raise ValueError(f"columns are positions from 0 to {width - 1}")
    return wanted


def damage(found: Iterable[Damage]) -> pl.DataFrame:
    schema = {"source_line": pl.Int64, "column": pl.String, "rule": pl.String}
    return pl.DataFrame(list(found), schema=schema, orient="row")


def trimmed(cells: pl.Expr) -> pl.Expr:
    """Text without surrounding blanks; nothing left is null."""
    text = cells.str.strip_chars()
    return pl.when(text != "").then(text)


def _encoding(data: bytes, marked: str, header: Header, scan: Scan, name: str) -> tuple[str, Lines]:
    """Windows-1252 where no mark and no line beyond ASCII is of UTF-8; and the lines in no encoding."""
    try:
        header.text.decode()
        is_utf8 = bool(marked) or scan.has_utf8 or not header.text.isascii()
        if is_utf8 or not scan.broken.size:
            return marked or "utf-8", scan.broken
    except UnicodeDecodeError:
        if marked or scan.has_utf8:
            raise UnreadableExport(
                f"{name}: the header is in another encoding than the rows. Save the file as CSV (UTF-8)."
            ) from None
    starts, ends = scan.starts, scan.ends
    undefined = [line for line in scan.broken.tolist() if UNDEFINED_1252.search(data, starts[line], ends[line])]
    return "windows-1252", np.array(undefined, np.int64)


def _is_clean(header: Header, scan: Scan, illegible: Lines) -> bool:
    """Whether every line is one record with the header's fields: most files."""
    odd_lines = scan.odd | scan.misplaced | scan.control | scan.repeats_header
    odd_lines |= (scan.fields != len(header.cells)) | (scan.ends - scan.starts > LONGEST_CELL)
    return not illegible.size and not odd_lines.any()


class _Fates:
    """What becomes of every line: good, damaged by a rule, or no record of its own (blank, or in another).

    ``repairs`` are good records to be written anew, ``long_cells`` the positions of cells that are too long.
    """

    def __init__(self, data: bytes, header: Header, scan: Scan, illegible: Lines, encoding: str) -> None:
        self.data, self.header, self.scan = data, header, scan
        self.encoding = "cp1252" if encoding == "windows-1252" else "utf-8"
        self.illegible = np.zeros(scan.starts.size, np.bool_)
        self.illegible[illegible] = True
        self.alone = ~scan.odd & (scan.fields > 0)
        self.status = np.zeros(scan.starts.size, np.int8)
        self.repairs: dict[int, bytes] = {}
        self.long_cells: dict[int, int] = {}

    def judge(self) -> None:
        self.status[self.scan.fields == 0] = NOT_A_RECORD
        self._count_fields()
        self._reread_misplaced_quotes()
        self.status[self.scan.repeats_header & self.alone] = HEADER
        self._join_lines()
        records = np.flatnonzero(self.status != NOT_A_RECORD)
        if records.size and self.scan.fields[records[-1]] == len(self.header.cells) - 1:
            self.status[records[-1]] = GOOD if self.status[records[-1]] == FEW else self.status[records[-1]]
        self._measure_cells()
        self.status[(self.status != NOT_A_RECORD) & self.illegible] = ENCODING
        self.status[(self.status != NOT_A_RECORD) & self.scan.control] = CONTROL

    def _count_fields(self) -> None:
        fields, width = self.scan.fields, len(self.header.cells)
        long = self.alone & (fields > width)
        self.status[long & ~_empty_tail(self.data, self.scan.ends, fields - width, long, self.header)] = MANY
        short = self.alone & (fields < width) & (fields != _usual_short(fields[self.alone], self.header))
        self.status[short] = FEW
        for line in np.flatnonzero(short).tolist():
            if not self._text(line, line).strip(b" "):
                self.status[line] = NOT_A_RECORD

    def _reread_misplaced_quotes(self) -> None:
        """Quotes inside unquoted text (Ann "Nan" Lee) are text; text after a closing quote is damage."""
        width = len(self.header.cells)
        misplaced = self.scan.misplaced
        for line in np.flatnonzero(self.alone & (misplaced | (self.status == MANY))).tolist():
            cells = self._cells(line, line)
            if cells is not None and len(cells) >= width and not any(map(str.strip, cells[width:])):
                self.status[line] = GOOD
                self.repairs[line] = _written(cells[:width], self.header)
            elif cells is None or misplaced[line]:
                self.status[line] = QUOTES

    def _join_lines(self) -> None:
        """A quote left open closes on the next line with an odd number of quotes."""
        odd = np.flatnonzero(self.scan.odd).tolist()
        taken = -1
        for line, until in zip(odd, [*odd[1:], None], strict=False):
            if line <= taken:
                continue
            if until is None or until - line > LONGEST_RECORD or self._are_records(line, until):
                self.status[line] = QUOTES
                continue
            cells = self._cells(line, until)
            if cells is None or len(cells) != len(self.header.cells):
                self.status[line] = QUOTES
                continue
            taken = until
            whole = slice(line, until + 1)
            self.status[whole] = NOT_A_RECORD
            self.status[line] = GOOD
            self.repairs[line] = _written(cells, self.header)
            self.illegible[line] = self.illegible[whole].any()
            self.scan.control[line] = self.scan.control[whole].any()
            if self.scan.ends[until] - self.scan.starts[line] > LONGEST_CELL:
                self._measure(line, cells)

    def _are_records(self, first: int, last: int) -> bool:
        """Whether a line between, or both the first and the last, have the header's fields by themselves."""
        width = len(self.header.cells)
        if width < WIDE:
            return False
        delimiters = [self._text(line, line).count(self.header.delimiter.encode()) for line in (first, last)]
        return delimiters == [width - 1] * 2 or bool((self.scan.fields[first + 1 : last] == width).any())

    def _measure_cells(self) -> None:
        long = (self.status == GOOD) & self.alone & (self.scan.ends - self.scan.starts > LONGEST_CELL)
        for line in np.flatnonzero(long).tolist():
            self._measure(line, self._cells(line, line))

    def _measure(self, line: int, cells: list[str] | None) -> None:
        if cells is None:  # longer than the csv module reads
            self.status[line] = OVERSIZED
            return
        for position, cell in enumerate(cells[: len(self.header.cells)]):
            if len(cell) > LONGEST_CELL < len(cell.encode("latin-1").decode(self.encoding, "replace")):
                self.status[line], self.long_cells[line] = OVERSIZED, position
                return

    def _text(self, first: int, last: int) -> bytes:
        return self.data[self.scan.starts[first] : self.scan.ends[last]]

    def _cells(self, first: int, last: int) -> list[str] | None:
        # Latin-1 gives every byte one character and back, whatever the encoding.
        return cells_of(self._text(first, last).decode("latin-1"), self.header.delimiter)


def _usual_short(fields: Lines, header: Header) -> int:
    """The count of fields that half of the records share, if only columns without a name are missing."""
    if not fields.size:
        return 0
    counts = np.bincount(np.minimum(fields, len(header.cells)))
    usual = int(counts.argmax())
    return 0 if any(header.cells[usual:]) or counts[usual] * 2 < fields.size else usual


def _empty_tail(data: bytes, ends: Lines, surplus: Lines, long: Flags, header: Header) -> Flags:
    """Lines whose surplus fields are empty, which are those that end in as many delimiters."""
    empty = long & (surplus <= LONGEST_TAIL)
    octets = np.frombuffer(data, np.uint8)
    at, step = np.flatnonzero(empty), 0
    while (at := at[surplus[at] > step]).size:
        is_empty = octets[ends[at] - 1 - step] == ord(header.delimiter)
        empty[at[~is_empty]] = False
        at, step = at[is_empty], step + 1
    return empty


def _written(cells: list[str], header: Header) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=header.delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("latin-1")


def _body(data: bytes, starts: Lines, good: Flags, repairs: dict[int, bytes]) -> bytes:
    """The good records only, in as few copies as there are gaps."""
    whole = good.copy()
    whole[list(repairs)] = False
    limits = np.append(starts, len(data))
    edges = np.flatnonzero(np.diff(whole, prepend=False, append=False)).reshape(-1, 2)
    pieces = [(first, data[limits[first] : limits[last]]) for first, last in edges.tolist()]
    pieces += [(line, text) for line, text in repairs.items() if good[line]]
    pieces.sort(key=lambda piece: piece[0])
    return pieces[0][1] if len(pieces) == 1 else b"".join(text for _, text in pieces)


def _parse(body: bytes, header: Header, wanted: list[int], name: str) -> pl.DataFrame:
    names = [f"c{position}" for position in wanted]
    if not body or not names:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    # Polars takes text that begins with "x^" for a zlib stream.
    shield = b"\n" if body.startswith(b"x^") else b""
    try:
        rows = pl.read_csv(
            shield + body if shield else body,
            has_header=False,
            skip_lines=len(shield),
            separator=header.delimiter,
            schema={f"column_{position + 1}": pl.String for position in range(len(header.cells))},
            columns=wanted,
            missing_columns="insert",
            extra_columns="ignore",
        )
    except (pl.exceptions.PolarsError, OSError):
        raise UnreadableExport(
            f"{name}: the rows cannot be read. Open the file in a spreadsheet and save it as CSV (UTF-8)."
        ) from None
    rows.columns = names
    return rows.select(trimmed(pl.all()))
