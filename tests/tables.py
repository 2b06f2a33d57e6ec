"""Tables written as text: one line per row, cells between `|`, a blank cell is null."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from schemas.contract import Contract, columns
from schemas.events import FAMILIES

EXPORTED = datetime(2025, 10, 1, tzinfo=UTC)
ENVELOPE_DEFAULTS = {
    "district_id": "d1",
    "school_year": "2026",
    "export_at": EXPORTED,
    "content_hash": "c",
    "batch_id": "b",
    "layout": "layout_a",
    "schema_version": 1,
}


def rows(text: str) -> list[dict[str, str | None]]:
    """Cells of a table as text."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return []
    names, *body = [[cell.strip() for cell in line.split("|")] for line in lines]
    if any(len(cells) != len(names) for cells in body):
        raise ValueError("a line of the table has another number of cells than its header")
    return [dict(zip(names, (cell or None for cell in cells), strict=True)) for cells in body]


def frame(text: str, schema: Mapping[str, Any], **constants: Any) -> pl.DataFrame:
    """A table of these columns; constants fill columns the text leaves out."""
    written = rows(text)
    names = list(written[0]) if written else []
    unknown = {*names, *constants} - set(schema)
    if unknown:
        raise ValueError(f"no such columns: {sorted(unknown)}")
    return pl.DataFrame(
        [
            _cast(pl.Series(name, [row[name] for row in written], dtype=pl.String), dtype)
            if name in names
            else pl.Series(name, [constants.get(name)] * len(written), dtype=dtype)
            for name, dtype in schema.items()
        ]
    )


def table(contract: type[Contract], text: str, **constants: Any) -> pl.DataFrame:
    """A table of a contract without ``input_id``; columns that neither text nor constants give are null."""
    schema = {name: dtype for name, dtype in columns(contract).items() if name != "input_id"}
    return frame(text, schema, **constants)


def facts(**families: str | pl.DataFrame) -> dict[str, pl.LazyFrame]:
    """Facts of every family, by name; families not given are empty. Keys and ids are numbered where not written."""
    return {name: fact_rows(name, families.get(name, "")).lazy() for name in FAMILIES}


def fact_rows(family: str, text: str | pl.DataFrame) -> pl.DataFrame:
    """Facts of one family."""
    if isinstance(text, pl.DataFrame):
        return text
    schema = columns(FAMILIES[family])
    written = frame(text, schema, **{k: v for k, v in ENVELOPE_DEFAULTS.items() if k not in _header(text)})
    number = pl.int_range(pl.len()).cast(pl.String).str.zfill(4)
    return written.with_columns(
        pl.coalesce("event_id", pl.format("e{}", number)).alias("event_id"),
        pl.coalesce("natural_key", pl.format("k{}", number)).alias("natural_key"),
        pl.coalesce("event_type", pl.lit("ScreenerScored" if family == "screening" else None)).alias("event_type"),
    )


def _header(text: str) -> list[str]:
    written = rows(text)
    return list(written[0]) if written else []


def _cast(cells: pl.Series, dtype: Any) -> pl.Series:
    if dtype == pl.Boolean:
        return cells.replace_strict({"true": True, "false": False}, return_dtype=pl.Boolean)
    if isinstance(dtype, pl.Datetime):
        return cells.str.to_datetime(time_unit=dtype.time_unit, time_zone=dtype.time_zone)
    if dtype == pl.Date:
        return cells.str.to_date()
    return cells.cast(dtype)
