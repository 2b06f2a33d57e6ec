"""Which of many findings to believe: flags of a family of tests with few of them wrong (METHOD 3.4)."""

from collections.abc import Sequence

import polars as pl

EXACT = 1e-9
"""What sums of rounded probabilities may be off by, in favour of the flag."""


def believed(rows: pl.DataFrame, probability: str, family: Sequence[str], share: str) -> pl.Series:
    """Bayesian false discovery: the most probable findings of each family, as many as stay within the share.

    Believed are the first k, in falling probability, with the largest k whose mean probability of being wrong is at
    most the row's share; equal probabilities stand or fall together. A null probability is no finding: it is not
    believed and does not count.

    Args:
        rows: One row per finding.
        probability: Column with the probability that the finding is true.
        family: Columns of findings that are judged together.
        share: Column with the largest mean probability of being wrong.
    """
    told = pl.col(probability).is_not_null()
    worst = (
        rows.with_row_index("row")
        .filter(told)
        .sort(probability, descending=True)
        .with_columns(
            wrong=(1 - pl.col(probability)).cum_sum().over(family), rank=pl.int_range(1, pl.len() + 1).over(family)
        )
        .with_columns(wrong=(pl.col("wrong") / pl.col("rank")).max().over([*family, probability]))
        .select("row", believed=pl.col("wrong") <= pl.col(share) + EXACT)
    )
    return _in_place(rows, worst)


def discovered(rows: pl.DataFrame, p_value: str, family: Sequence[str], share: str) -> pl.Series:
    """Benjamini-Hochberg: findings of each family whose adjusted tail probability is at most the row's share.

    Equal tails stand or fall together; a null one is no finding and does not count.

    Args:
        rows: One row per finding.
        p_value: Column with the tail probability under chance.
        family: Columns of findings that are judged together.
        share: Column with the largest expected share of wrong ones.
    """
    adjusted = (
        rows.with_row_index("row")
        .filter(pl.col(p_value).is_not_null())
        .sort(p_value, descending=True)
        .with_columns(
            adjusted=(pl.col(p_value) * pl.len().over(family) / pl.col(p_value).rank("max").over(family))
            .cum_min()
            .over(family)
        )
        .select("row", believed=pl.col("adjusted") <= pl.col(share) + EXACT)
    )
    return _in_place(rows, adjusted)


def _in_place(rows: pl.DataFrame, found: pl.DataFrame) -> pl.Series:
    placed = rows.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("row")).join(
        found, on="row", how="left", maintain_order="left"
    )
    return placed["believed"].fill_null(value=False)
