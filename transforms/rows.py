"""Rows picked or put in order without copying what they hold where it can be helped."""

from collections.abc import Sequence

import polars as pl

_IS_KEY = "is_key"


def among(rows: pl.DataFrame, keys: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """The rows whose ``on`` stands in ``keys``, in their order: a semi join.

    A join gathers every column of the rows, which for wide tables costs more than all else that is done with them;
    a filter that keeps most of them is next to nothing. A null is equal to none.
    """
    return rows.filter(is_among(rows, keys, on))


def outside(rows: pl.DataFrame, keys: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """The rows whose ``on`` does not stand in ``keys``, in their order: an anti join."""
    return rows.filter(~is_among(rows, keys, on))


def is_among(rows: pl.DataFrame, keys: pl.DataFrame, on: Sequence[str]) -> pl.Series:
    """Whether ``on`` of each row stands in ``keys``."""
    named = keys.select(on).unique().with_columns(pl.lit(value=True).alias(_IS_KEY))
    found = rows.select(on).join(named, on=on, how="left", maintain_order="left")
    return found[_IS_KEY].fill_null(value=False)


def in_order(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The rows sorted by whole numbers; those that stand in this order already are not copied."""
    follows = pl.lit(value=True)
    for name in reversed(by):
        here, before = pl.col(name), pl.col(name).shift(1)
        follows = (before < here) | ((before == here) & follows)
    is_sorted = rows.select(follows.slice(1).fill_null(value=False).all()).item()
    return rows if is_sorted else rows.sort(by)
