"""How many of a group are in need, each with a probability of their own (Poisson-binomial), for many groups at once."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def pmf(p: Floats) -> Floats:
    """P(exactly k) for k from 0 to students, one row per row of ``p`` (groups x students).

    Exact to rounding, by adding one student at a time to all groups. A probability of 0 changes no digit, so short
    groups are filled up with it.
    """
    groups, students = p.shape
    made = np.zeros((groups, students + 1))
    made[:, 0] = 1.0
    for k in range(students):
        here = p[:, k, None]
        made[:, 1 : k + 2] = made[:, 1 : k + 2] * (1 - here) + made[:, : k + 1] * here
        made[:, 0] *= 1 - here[:, 0]
    return made


def at_least(rows: pl.DataFrame, by: Sequence[str], probability: str, least: str) -> pl.DataFrame:
    """Expected number, and the probability that at least so many are, of each group.

    Args:
        rows: One row per student.
        by: Columns that make a group; null is a value like any other.
        probability: Column with the probability of the student, never null.
        least: Column with the number asked about, the same in all rows of a group.

    Returns:
        One row per group, in the order of ``by``: these columns, `students`, `expected` and `p_at_least`, both rounded
        to nine decimals. 1 where the number asked about is 0 or less, 0 where it is more than the group has.
    """
    ordered = rows.select(*by, p=pl.col(probability), least=pl.col(least)).sort(*by, "p", nulls_last=True)
    groups = ordered.group_by(by, maintain_order=True).agg(
        students=pl.len().cast(pl.Int64), least=pl.col("least").first().cast(pl.Int64)
    )
    sizes, p = groups["students"].to_numpy(), ordered["p"].to_numpy()
    starts = np.cumsum(sizes) - sizes
    expected, tail = np.zeros(len(groups)), np.zeros(len(groups))
    # Groups of like size together, so that one large group does not widen the table of all others.
    widths = 1 << np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    for width in np.unique(widths):
        here = np.flatnonzero(widths == width)
        place = np.arange(width)
        padded = np.where(place < sizes[here, None], p[np.minimum(starts[here, None] + place, len(p) - 1)], 0.0)
        from_above = np.cumsum(pmf(padded)[:, ::-1], axis=1)[:, ::-1]
        asked = groups["least"].to_numpy()[here]
        found = from_above[np.arange(len(here)), np.clip(asked, 0, width)]
        expected[here] = np.cumsum(padded, axis=1)[:, -1]
        tail[here] = np.where(asked <= 0, 1.0, np.where(asked > sizes[here], 0.0, np.minimum(found, 1.0)))
    return groups.drop("least").with_columns(
        expected=pl.Series(expected.round(9), dtype=pl.Float64), p_at_least=pl.Series(tail.round(9), dtype=pl.Float64)
    )
