"""Bytes of one landed file to one table of text, whatever its format; nothing of vendors."""

import io
import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import fastexcel
import numpy as np
import polars as pl

from warehouse.delimited import (
    LONGEST_CELL,
    Damage,
    RawTable,
    damage,
    positions,
    read_delimited,
    read_delimited_header,
    trimmed,
)
from warehouse.lines import LONGEST_LINE, MOST_COLUMNS, UnreadableExport, decoded, refuse_odd_header, too_long_a_line
from warehouse.packed import Unsafe, opened, refuse_unsafe_workbook
from warehouse.plain import plain

__all__ = ["RawTable", "UnreadableExport", "is_workbook", "read_header", "read_table", "sheet_names"]

HEADER_LINES = 1000  # JSON Lines has no header: its first lines stand for one
BLOCK = 20_000  # lines that Polars reads at once
FEW_LINES = 256  # lines not worth another attempt by Polars

OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml|table)", re.IGNORECASE)
DATE_ONLY = r"^(\d{4}-\d\d-\d\d) 00:00:00(?:\.0+)?$"
KEY = re.compile(rb'"([^"]*)"\s*:')
CONTROL_CHARACTERS = r"[\x00-\x08\x0b\x0c\x0e-\x1f]"
TIME_ONLY = r"^1899-12-3[01] (\d\d:\d\d:\d\d)(?:\.0+)?$"

Flat = dict[str, str | None]


def read_table(data: bytes, name: str, columns: Collection[int] | None = None) -> RawTable:
    """Read a workbook, JSON Lines or delimited text, told apart by content.

    Args:
        data: The whole file.
        name: Used in messages; ``book.xlsx!Sheet`` chooses a sheet.
        columns: Positions in the header; all by default.
    """
    if is_workbook(data):
        return _read_workbook(data, name, columns)
    if _is_json_lines(data):
        return _read_json_lines(data, name, columns)
    _refuse_other(data, name)
    return read_delimited(data, name, columns)


def read_header(data: bytes, name: str) -> tuple[str, ...]:
    """The header alone. For JSON Lines the keys of the first 1,000 lines: the table's header begins so."""
    if is_workbook(data):
        rows = _sheet(data, name, 100)
        if rows.is_empty():
            rows = _sheet(data, name, None)
        return _workbook_header(rows, name)
    if _is_json_lines(data):
        text, _ = decoded(data)
        return refuse_odd_header(_json_header(_lines(text, HEADER_LINES)), name)
    _refuse_other(data, name)
    return read_delimited_header(data, name)


def is_workbook(data: bytes) -> bool:
    if data.startswith(OLD_WORKBOOK):
        return True
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        with opened(data) as archive:
            return any(member.startswith("xl/") for member in archive.namelist())
    except Unsafe:
        return False


def sheet_names(data: bytes) -> list[str]:
    """Visible sheets that hold a cell; none where the workbook cannot be read.

    Raises:
        Unsafe: reading it would fill the memory, or it is no workbook that a spreadsheet program wrote.
    """
    refuse_unsafe_workbook(data)
    try:
        with _calm():
            book = fastexcel.read_excel(data)
            sheets = [book.load_sheet(sheet, header_row=None, n_rows=1, dtypes="string") for sheet in book.sheet_names]
    except fastexcel.FastExcelError:
        return []
    return [sheet.name for sheet in sheets if sheet.visible == "visible" and sheet.total_height]


@contextmanager
def _calm() -> Iterator[None]:
    """A reader of workbooks that gives up in panic, which is no `Exception`, has met one that is broken."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise fastexcel.FastExcelError from None


def _refuse_other(data: bytes, name: str) -> None:
    if data.startswith(b"PK\x03\x04"):
        raise UnreadableExport(
            f"{name}: the file is an archive inside another or is broken. Land its files themselves."
        )
    if data.startswith(b"%PDF") or MARKUP.match(data, 0, 1000):
        raise UnreadableExport(f"{name}: the file is a document, not a table. Export it as CSV, .xlsx or JSON Lines.")


def _without_long_cells(rows: pl.DataFrame, header: tuple[str, ...]) -> tuple[pl.DataFrame, list[Damage]]:
    cells = pl.all().exclude("source_line")
    if rows.width == 1 or not rows.select(pl.any_horizontal((cells.str.len_bytes() > LONGEST_CELL).any())).item():
        return rows, []
    too_long = [pl.col(f"c{position}").str.len_chars() > LONGEST_CELL for position in range(len(header))]
    first = pl.coalesce(pl.when(long).then(pl.lit(position)) for position, long in enumerate(too_long))
    judged = rows.with_columns(first.alias("first"))
    long_rows = judged.filter(pl.col("first").is_not_null()).select("source_line", "first").rows()
    kept = judged.filter(pl.col("first").is_null()).drop("first")
    return kept, [(line, header[position], "oversized_cell") for line, position in long_rows]


def _without_controls(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[Damage]]:
    """As in delimited text: what no export writes, and a terminal would obey."""
    has_control = pl.any_horizontal(
        pl.lit(value=False), pl.all().exclude("source_line").str.contains(CONTROL_CHARACTERS)
    )
    judged = rows.select("source_line", odd=has_control.fill_null(value=False))
    lines = judged.filter("odd")["source_line"]
    if lines.is_empty():
        return rows, []
    return rows.filter(~judged["odd"]), [(line, None, "control_character") for line in lines.to_list()]


def _table(
    name: str,
    header: tuple[str, ...],
    rows: pl.DataFrame,
    damaged: Iterable[Damage],
    columns: Collection[int] | None,
    encoding: str,
) -> RawTable:
    refuse_odd_header(header, name)
    rows, odd = _without_controls(rows)
    rows, long = _without_long_cells(rows, header)
    found = sorted([*damaged, *odd, *long], key=lambda record: record[0])
    frame = damage(found)
    wanted = rows.select("source_line", *(f"c{position}" for position in positions(columns, len(header))))
    return RawTable(header, wanted, frame, encoding, "", rows.height + frame.height)


# Workbooks


def _sheet(data: bytes, name: str, most_rows: int | None) -> pl.DataFrame:
    """Every row of the sheet as text, the empty ones above the first cell included."""
    try:
        refuse_unsafe_workbook(data)
    except Unsafe as unsafe:
        raise UnreadableExport(f"{name}: {unsafe.advice}") from None
    try:
        with _calm():
            book = fastexcel.read_excel(data)
            names = book.sheet_names
            # A sheet's name may itself hold "!", so the longest that fits is meant.
            named = max((sheet for sheet in names if name.endswith(f"!{plain(sheet)}")), key=len, default=None)
            sheet = names[0] if named is None else named
            loaded = book.load_sheet(sheet, header_row=None, skip_rows=0, n_rows=most_rows, dtypes="string")
            rows = pl.DataFrame(loaded)
    except (fastexcel.FastExcelError, IndexError, pl.exceptions.PolarsError):
        raise UnreadableExport(
            f"{name}: the workbook cannot be read: it is broken or protected by a password. "
            "Save it without a password, or as CSV (UTF-8)."
        ) from None
    rows.columns = [f"c{position}" for position in range(rows.width)]
    cells = trimmed(pl.all().str.replace(DATE_ONLY, "$1").str.replace(TIME_ONLY, "$1"))
    blank = pl.all_horizontal(pl.all().exclude("source_line").is_null())
    return rows.select(cells).with_row_index("source_line", offset=1).cast({"source_line": pl.Int64}).filter(~blank)


def _workbook_header(rows: pl.DataFrame, name: str) -> tuple[str, ...]:
    if rows.is_empty():
        raise UnreadableExport(f"{name}: the sheet has no header and no rows. Export it again.")
    return refuse_odd_header(tuple(cell or "" for cell in rows.row(0)[1:]), name)


def _read_workbook(data: bytes, name: str, columns: Collection[int] | None) -> RawTable:
    rows = _sheet(data, name, None)
    header = _workbook_header(rows, name)
    repeated = pl.all_horizontal(
        pl.col(f"c{position}").eq_missing(pl.lit(cell or None, pl.String)) for position, cell in enumerate(header)
    )
    judged = rows[1:].with_columns(repeated.alias("repeated"))
    lines = judged.filter("repeated")["source_line"].to_list()
    kept = judged.filter(~pl.col("repeated")).drop("repeated")
    return _table(name, header, kept, [(line, None, "repeated_header") for line in lines], columns, "utf-8")


# JSON Lines


def _is_json_lines(data: bytes) -> bool:
    head = data[:4096]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "ignore").encode()
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _lines(text: bytes, most: int | None = None) -> list[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    stream = enumerate(io.BytesIO(text.removeprefix(b"\xef\xbb\xbf")), 1)
    filled = ((number, line) for number, line in stream if line.strip())
    return list(itertools.islice(filled, most))


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that repeats a key, read as Polars reads it."""
    values = dict(pairs)
    return values if len(values) == len(pairs) else dict(reversed(pairs))


def _refuse_constant(constant: str) -> float:
    raise ValueError(constant)


def _text(value: Any) -> str | None:
    """A JSON value as text: the shortest number, compact JSON for what is nested deeper."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError
        return np.format_float_positional(value, trim="-")
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _flat(line: bytes) -> Flat | str:
    """One object with text values, flattened one level; or the rule that the line breaks."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "invalid_encoding"
    try:
        record = json.loads(text, object_pairs_hook=_first_wins, parse_constant=_refuse_constant)
        if not isinstance(record, dict):
            return "invalid_json"
        flat: Flat = {}
        for key, value in record.items():
            if isinstance(value, dict):
                flat |= {f"{key}.{inner}": _text(nested) for inner, nested in value.items()}
            else:
                flat[key] = _text(value)
        "".join(itertools.chain(flat, filter(None, flat.values()))).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        return "invalid_json"
    return flat


def _json_header(lines: list[tuple[int, bytes]], more: Iterable[str] = ()) -> tuple[str, ...]:
    known = {key for _, line in lines if isinstance(flat := _flat(line), dict) for key in flat}
    return (*sorted(known), *sorted(set(more) - known))


def _read_json_lines(data: bytes, name: str, columns: Collection[int] | None) -> RawTable:
    """Read one object a line. Keys first met after the lines that stand for the header follow it, sorted."""
    text, encoding = decoded(data)
    lines = _lines(text)
    if vast := next((number for number, line in lines if len(line) > LONGEST_LINE), 0):
        raise too_long_a_line(name, vast)
    blocks: list[pl.DataFrame] = []
    damaged: list[Damage] = []
    met: set[bytes] = set()
    for start in range(0, len(lines), BLOCK):
        # before Polars makes a column of each
        met.update(*(KEY.findall(line) for _, line in lines[start : start + BLOCK]))
        if len(met) > MOST_COLUMNS:
            raise UnreadableExport(f"{name}: the lines have more than {MOST_COLUMNS:,} keys. It is no table of tests.")
        _read_block(lines[start : start + BLOCK], blocks.append, damaged)
    if not blocks:
        raise UnreadableExport(
            f"{name}: no line of the file is a JSON object. Export it as JSON Lines: one object on each line."
        )
    found = pl.concat(blocks, how="diagonal")
    # A key that holds an object in one line and null in another is no column of its own.
    parents = {f".{key[1:at]}" for key in found.columns for at in range(2, len(key)) if key[at] == "."}
    keys = [key for key in found.columns[1:] if key not in parents or found[key].null_count() < found.height]
    header = _json_header(lines[:HEADER_LINES], (key.removeprefix(".") for key in keys))
    cells = [
        trimmed(pl.col(f".{key}") if f".{key}" in found.columns else pl.lit(None, pl.String)).alias(f"c{position}")
        for position, key in enumerate(header)
    ]
    return _table(name, header, found.select("source_line", *cells), damaged, columns, encoding or "utf-8")


def _read_block(
    lines: list[tuple[int, bytes]],
    keep: Callable[[pl.DataFrame], None],
    damaged: list[Damage],
) -> None:
    """Read lines by Polars as far as it agrees, in ever smaller blocks, and the rest one by one."""
    rows, is_nested = _by_polars([line for _, line in lines])
    if rows is not None:
        keep(rows.insert_column(0, pl.Series("source_line", [number for number, _ in lines], pl.Int64)))
        return
    if len(lines) > FEW_LINES and not is_nested:
        step = max(FEW_LINES, len(lines) // 16)
        for start in range(0, len(lines), step):
            _read_block(lines[start : start + step], keep, damaged)
        return
    flat = [(number, _flat(line)) for number, line in lines]
    damaged += [(number, None, rule) for number, rule in flat if isinstance(rule, str)]
    read = [(number, record) for number, record in flat if isinstance(record, dict)]
    if read:
        names = dict.fromkeys(itertools.chain.from_iterable(record for _, record in read))
        cells = {f".{key}": [record.get(key) for _, record in read] for key in names}
        keep(
            pl.DataFrame(
                {"source_line": [number for number, _ in read], **cells},
                schema={"source_line": pl.Int64, **dict.fromkeys(cells, pl.String)},
            )
        )


def _by_polars(lines: list[bytes]) -> tuple[pl.DataFrame | None, bool]:
    """The cells of all lines, named "." + key, unless Polars might read a line in another way than we do.

    The flag tells values nested deeper, whose text Polars writes in its own way, from lines that are broken.
    """
    text = b"\n".join(line.strip() for line in lines)
    try:
        text.decode()
        shapes = pl.read_ndjson(text, infer_schema_length=None).schema
        wanted = {
            key: pl.Struct(dict.fromkeys((field.name for field in shape.fields), pl.String))
            if isinstance(shape, pl.Struct)
            else pl.String
            for key, shape in shapes.items()
        }
        rows = pl.read_ndjson(text, schema=wanted)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError, ValueError):
        return None, False
    cells: list[pl.Series] = []
    for key, shape in shapes.items():
        column = rows[key]
        if isinstance(shape, pl.Struct):
            cells += [column.struct.field(field.name).alias(f".{key}.{field.name}") for field in shape.fields]
        else:
            cells.append(column.alias(f".{key}"))
    if rows.height != len(lines) or len({cell.name for cell in cells}) != len(cells):
        return None, False
    if any(cell.str.contains(r"^\s*[\[{]").any() for cell in cells):  # or text that looks so
        return None, True
    return (pl.DataFrame(cells) if cells else None), False
