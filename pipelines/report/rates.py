"""Rates of rows that pages add up: counts, and the Jeffreys interval of METHOD 3.2."""

import math

import polars as pl

from pipelines.report.reading import Record
from pipelines.report.words import Rate
from transforms.intervals import jeffreys


def with_rate(rows: pl.DataFrame, count: str, of: str, prefix: str = "") -> pl.DataFrame:
    """Adds `share`, `low` and `high` of two columns of counts, under a prefix; null where nobody is counted."""
    low, high = jeffreys(rows[count].cast(pl.Float64).to_numpy(), rows[of].cast(pl.Float64).to_numpy())
    share = pl.col(count) / pl.when(pl.col(of) > 0).then(pl.col(of))
    return rows.with_columns(
        share.alias(f"{prefix}share"),
        pl.Series(f"{prefix}low", low, pl.Float64).fill_nan(None),
        pl.Series(f"{prefix}high", high, pl.Float64).fill_nan(None),
    )


def rate(row: Record, count: str, of: str, share: str, low: str = "", high: str = "") -> Rate:
    """A rate from the columns of a row."""
    return Rate(row[count], row[of], row[share], row[low] if low else None, row[high] if high else None)


def need(row: Record) -> Rate:
    """In need of tested, of a row of ``ClassroomFlag``."""
    return rate(row, "in_need", "tested", "need_share", "interval_low", "interval_high")


def coverage(row: Record) -> Rate:
    """Tested of enrolled."""
    return rate(row, "tested", "enrolled", "coverage")


class Scale:
    """Places on an axis of shares from 0 to `top`, as percents of its width."""

    def __init__(self, top: float) -> None:
        self.top = top

    @classmethod
    def of(cls, *highest: float | None) -> "Scale":
        """An axis that ends at the next 20 %, and shows at least 40 %."""
        most = max((each for each in highest if each is not None), default=0.0)
        return cls(min(1.0, max(0.4, math.ceil(most * 5 - 1e-9) / 5)))

    def x(self, share: float) -> str:
        return f"{100 * min(share, self.top) / self.top:.2f}%"

    @property
    def ticks(self) -> list[float]:
        """Every 20 %, fewer on a long axis, so that their numbers have room on a phone."""
        return [0.0, 0.2, self.top / 2, self.top] if self.top > 0.6 else [i / 5 for i in range(round(self.top * 5) + 1)]
