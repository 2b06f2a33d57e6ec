"""Each student of one group with the nearest of another, nobody twice."""

from typing import Any

import polars as pl

TOLERANCE = 1e-9
"""Distances nearer to each other than this are equal."""


def nearest_pairs(treated: pl.DataFrame, pool: pl.DataFrame) -> pl.DataFrame:
    """Pair each treated student with the nearest of the pool, nobody twice, the closest pairs first.

    Values that are nearest to each other are paired in each round, as many students as both have, which gives what
    taking the closest of all possible pairs over and over would. Of two values equally near the lower is nearer; of
    students with one score the first key goes first.

    Args:
        treated: ``cell``, ``score``, ``key``, and ``reach``, the farthest a partner of the cell may be.
        pool: ``cell``, ``score``, ``key``.

    Returns:
        ``cell``, ``key``, ``key_pool``; one row per pair.
    """
    left = _values(treated).join(treated.group_by("cell").agg(pl.col("reach").first()), on="cell").sort("cell", "score")
    right = _values(pool).join(left, on="cell", how="semi").sort("cell", "score")
    rounds = []
    while not (found := _mutual(left, right)).is_empty():
        rounds.append(found)
        left, right = _less(left, found, "score"), _less(right, found, "score_pool")
    keys: dict[str, Any] = {"cell": treated.schema["cell"], "key": pl.String, "key_pool": pl.String}
    if not rounds:
        return pl.DataFrame(schema=keys)
    many = pl.concat(rounds).select(
        "cell",
        "score",
        "score_pool",
        place=pl.int_ranges("used", pl.col("used") + pl.col("pairs")),
        place_pool=pl.int_ranges("used_pool", pl.col("used_pool") + pl.col("pairs")),
    )
    ones = _in_place(treated, many.select("cell", "score"))
    others = _in_place(pool, many.select("cell", score="score_pool"))
    return (
        many.explode("place", "place_pool")
        .join(ones, on=["cell", "score", "place"])
        .join(
            others.select("cell", score_pool="score", place_pool="place", key_pool="key"),
            on=["cell", "score_pool", "place_pool"],
        )
        .select("cell", "key", "key_pool")
        .sort("cell", "key")
    )


def _in_place(students: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """Students with one of the values, each with their `place` among those of that value, by key."""
    place = pl.int_range(pl.len(), dtype=pl.Int64).over("cell", "score")
    return (
        students.select("cell", "score", "key")
        .join(values, on=["cell", "score"], how="semi")
        .sort("cell", "score", "key")
        .with_columns(place=place)
    )


def _values(students: pl.DataFrame) -> pl.DataFrame:
    return students.group_by("cell", "score").agg(free=pl.len().cast(pl.Int64), used=pl.lit(0, pl.Int64))


def _nearest(rows: pl.DataFrame, among: pl.DataFrame) -> pl.DataFrame:
    """Each value's nearest free value on the other side; of two equally near the lower."""
    other = among.select("cell", "score", score_pool="score", free_pool="free", used_pool="used")
    below, above = (
        rows.join_asof(other, on="score", by="cell", strategy=strategy, check_sortedness=False)
        for strategy in ("backward", "forward")
    )
    names = ["score_pool", "free_pool", "used_pool"]
    both = below.with_columns(above[name].alias(f"{name}_above") for name in names)
    up, down = pl.col("score_pool_above") - pl.col("score"), pl.col("score") - pl.col("score_pool")
    is_above = pl.col("score_pool").is_null() | (up < down - TOLERANCE).fill_null(value=False)
    return both.with_columns(
        pl.when(is_above).then(f"{name}_above").otherwise(name).alias(name) for name in names
    ).drop(f"{name}_above" for name in names)


def _mutual(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    back = _nearest(right, left).select("cell", score_pool="score", score="score_pool")
    return (
        _nearest(left, right)
        .filter((pl.col("score") - pl.col("score_pool")).abs() <= pl.col("reach") + TOLERANCE)
        .join(back, on=["cell", "score", "score_pool"], how="semi")
        .with_columns(pairs=pl.min_horizontal("free", "free_pool"))
    )


def _less(rows: pl.DataFrame, found: pl.DataFrame, score: str) -> pl.DataFrame:
    taken = found.select("cell", "pairs", score=score)
    count = pl.col("pairs").fill_null(0)
    return (
        rows.join(taken, on=["cell", "score"], how="left", maintain_order="left")
        .with_columns(free=pl.col("free") - count, used=pl.col("used") + count)
        .filter(pl.col("free") > 0)
        .drop("pairs")
    )
