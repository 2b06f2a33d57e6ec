"""Writing exports: a vendor's header, quoting and line ends, and the export day as the file's time."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import polars as pl

ROWS_AT_ONCE = 100_000


def names(header: str) -> tuple[str, ...]:
    """Columns of a header written with commas."""
    return tuple(header.split(","))


def write(
    path: Path,
    header: Sequence[str],
    rows: pl.DataFrame | Iterator[pl.DataFrame],
    *,
    exported: date,
    quote: Literal["necessary", "always"] = "necessary",
    line_end: str = "\n",
    bom: bool = False,
) -> Path:
    """Write rows under a header that may repeat names or leave them blank; columns go by position.

    The file's time is set to 03:00 UTC of the export day, since a loader without a date in the name takes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write((("\ufeff" if bom else "") + ",".join(header) + line_end).encode())
        for chunk in [rows] if isinstance(rows, pl.DataFrame) else rows:
            if chunk.width != len(header):
                raise ValueError(f"{path.name}: {chunk.width} columns for {len(header)} headers")
            chunk.write_csv(
                file, include_header=False, quote_style=quote, line_terminator=line_end, null_value="", batch_size=8192
            )
    stamp(path, exported)
    return path


def stamp(path: Path, exported: date) -> None:
    when = datetime(exported.year, exported.month, exported.day, 3, tzinfo=UTC).timestamp()
    os.utime(path, (when, when))


def in_order(header: Sequence[str], rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with exactly the header's columns; those not given are empty."""
    return rows.select(pl.col(name) if name in rows.columns else pl.lit(None).alias(name) for name in header)


def day_text(days: pl.Expr | str, form: str) -> pl.Expr:
    """Days since 1970 as text."""
    column = pl.col(days) if isinstance(days, str) else days
    return column.cast(pl.Int32).cast(pl.Date).dt.strftime(form)
