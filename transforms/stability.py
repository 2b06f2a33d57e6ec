"""Need levels between adjacent windows: how many change, and how many measurement error alone would change."""

import polars as pl

from schemas.contract import columns
from schemas.projections import TierStability
from transforms.classes import RECOMMENDED, season_rank
from transforms.intervals import wilson
from transforms.windows import DISTRICT_YEAR, WINDOW

WITH_ERROR = ("sem", "sem_default", "kelley")
"""What a probability rests on where a standard error enters it."""
_BASIS = ("probability_basis", "probability_flag")
_PAIR = [*DISTRICT_YEAR, "measure", "grade", "from_window", "to_window"]


def tier_stability(needs: pl.DataFrame) -> pl.DataFrame:
    """Compare the need levels of each student in adjacent windows of a measure (METHOD 1.5).

    Adjacent are the windows of a school year in which the district tested the measure, in order. Expected is the mean
    of p(1 - p') + (1 - p)p' over students whose two probabilities of being below the tier 2 cut rest on a standard
    error: a test without one says 0 or 1, and would expect just what was seen. Real growth is in both numbers.

    Args:
        needs: ``NeedLevel`` rows.

    Returns:
        ``TierStability`` rows without ``input_id``.
    """
    levels = needs.filter(pl.col("need_level").is_not_null())
    by = [*DISTRICT_YEAR, "measure"]
    following = (
        levels.select(*WINDOW, "measure")
        .unique()
        .sort(*by, season_rank())
        .with_columns(to_window=pl.col("benchmark_window").shift(-1).over(by))
        .filter(pl.col("to_window").is_not_null())
    )
    said = levels.select(*WINDOW, "measure", "subject_key", "grade", "need_level", "p_tier_2", *_BASIS)
    p, later = pl.col("p_tier_2"), pl.col("p_tier_2_later")
    has_error = _has_error("") & _has_error("_later")
    pairs = (
        said.drop("grade")
        .join(following, on=[*WINDOW, "measure"])
        .join(
            said.rename({"benchmark_window": "to_window"}),
            on=[*by, "to_window", "subject_key"],
            suffix="_later",
        )
        .rename({"benchmark_window": "from_window"})
        .with_columns(expected=pl.when(has_error).then(p * (1 - later) + (1 - p) * later))
    )
    below, below_later = (pl.col(name).is_in(RECOMMENDED) for name in ("need_level", "need_level_later"))
    counts = (
        pairs.sort("subject_key")
        .group_by(_PAIR)
        .agg(
            students=pl.len().cast(pl.Int64),
            level_changed=(pl.col("need_level") != pl.col("need_level_later")).sum().cast(pl.Int64),
            crossed=(below != below_later).sum().cast(pl.Int64),
            error_known=pl.col("expected").count().cast(pl.Int64),
            expected_crossed_share=pl.col("expected").mean().round(9),
        )
        .sort(_PAIR, nulls_last=True)
    )
    return counts.with_columns(
        *_share(counts, "level_changed"),
        *_share(counts, "crossed"),
    ).select(name for name in columns(TierStability) if name != "input_id")


def _has_error(suffix: str) -> pl.Expr:
    """Whether ``p_tier_2`` rests on a standard error: a flagged row may mean another cut, or a 0 or 1 as observed."""
    basis, flag = (pl.col(f"{name}{suffix}") for name in _BASIS)
    is_between = pl.col(f"p_tier_2{suffix}").is_between(0, 1, closed="none")
    return basis.is_in(WITH_ERROR) & (flag.is_null() | is_between)


def _share(counts: pl.DataFrame, part: str) -> list[pl.Series]:
    """The share with its interval; nobody has no row, so there is always a share."""
    y, n = counts[part].to_numpy(), counts["students"].to_numpy()
    low, high = wilson(y, n)
    return [
        pl.Series(f"{part}_share", y / n),
        pl.Series(f"{part}_low", low),
        pl.Series(f"{part}_high", high),
    ]
