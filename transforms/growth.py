"""Growth of a score: slopes with their errors, the aim line, the point rule. Knows series, not cycles."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

DAYS_PER_WEEK = 7
CONFIDENCE = 0.95
TOLERANCE = 1e-9
"""Differences below this are rounding: a point on the line is on the line."""

Array = NDArray[np.float64]


def ols(series: pl.DataFrame) -> pl.DataFrame:
    """Fit a straight line to every series at once.

    Sums run over each series in the order of its days, after centring, so that neither the order of
    the rows nor the other series of the run can change a digit. Residuals that are rounding only count
    as none: the error is then 0, not 1e-16.

    Args:
        series: ``series_no``, ``day`` (days from the start) and ``score``; one row per series and day.

    Returns:
        One row per series: ``series_no``, ``probes``, ``first_day``, ``last_day``, ``slope`` per week and
        ``intercept`` from 2 days on, ``slope_standard_error``, ``slope_low`` and ``slope_high`` from 3 on.
    """
    rows = series.sort("series_no", "day")
    number = rows["series_no"].to_numpy()
    starts = np.flatnonzero(np.r_[True, number[1:] != number[:-1]][: rows.height])
    probes = np.diff(np.r_[starts, rows.height])
    days = rows["day"].to_numpy()
    score = rows["score"].to_numpy().astype(np.float64)
    weeks = days / DAYS_PER_WEEK

    def total(values: Array) -> Array:
        return np.add.reduceat(values, starts) if starts.size else np.zeros(0)

    def spread(values: Array) -> Array:
        return np.repeat(values, probes)

    mean_week, mean_score = total(weeks) / probes, total(score) / probes
    from_week, from_score = weeks - spread(mean_week), score - spread(mean_score)
    sxx = total(from_week**2)
    has_line, has_error = probes >= 2, probes >= 3
    slope = np.divide(total(from_week * from_score), sxx, out=np.full(sxx.size, np.nan), where=has_line)
    squares = total((from_score - spread(slope) * from_week) ** 2)
    largest = np.maximum.reduceat(np.abs(score), starts) if starts.size else np.zeros(0)
    squares = np.where(squares <= probes * (1e-10 * np.maximum(largest, 1)) ** 2, 0.0, squares)
    freedom = probes - 2
    variance = np.divide(squares, freedom * sxx, out=np.full(sxx.size, np.nan), where=has_error)
    error = np.sqrt(variance)
    half = error * _t_quantile(freedom)
    return pl.DataFrame(
        {
            "series_no": number[starts],
            "probes": probes,
            "first_day": days[starts],
            "last_day": days[starts + probes - 1],
            "slope": slope,
            "intercept": mean_score - slope * mean_week,
            "slope_standard_error": error,
            "slope_low": slope - half,
            "slope_high": slope + half,
        },
        schema_overrides={"series_no": series.schema["series_no"], "probes": pl.Int64},
    ).fill_nan(None)


def _t_quantile(freedom: NDArray[np.int64]) -> Array:
    levels, place = np.unique(freedom, return_inverse=True)
    quantile: Array = np.full(levels.size, np.nan)
    quantile[levels >= 1] = special.stdtrit(levels[levels >= 1], (1 + CONFIDENCE) / 2)
    return quantile[place]


def p_slope_at_least(goal: pl.Series, fit: pl.DataFrame) -> pl.Series:
    """Probability that the true slope is at least ``goal``, from t(n - 2) around the OLS slope.

    Null below 3 days or without a goal. Where the points lie on a straight line it is 1 or 0: a slope
    equal to the goal reaches it.

    Args:
        goal: Goal slope per week, row by row.
        fit: Rows of ``ols``.
    """
    wanted = goal.cast(pl.Float64).fill_null(np.nan).to_numpy()
    slope = fit["slope"].fill_null(np.nan).to_numpy()
    error = fit["slope_standard_error"].fill_null(np.nan).to_numpy()
    freedom = np.maximum(fit["probes"].fill_null(0).to_numpy() - 2, 1)
    is_exact = error == 0
    distance = np.divide(wanted - slope, error, out=np.full(slope.size, np.nan), where=~is_exact)
    reaches = (slope >= wanted - TOLERANCE * np.maximum(np.abs(wanted), 1)).astype(np.float64)
    p = np.where(is_exact & ~np.isnan(wanted), reaches, special.stdtr(freedom, -distance))
    return pl.Series("p_slope_at_least_goal", p).fill_nan(None)


def slope_status() -> pl.Expr:
    """How far a slope can be trusted, by probe days and by the weeks between the first and the last (METHOD 2.1)."""
    probes, days = pl.col("probes"), pl.col("last_day") - pl.col("first_day")
    return (
        pl.when(probes < 3)
        .then(pl.lit("none"))
        .when(probes < 6)
        .then(pl.lit("descriptive"))
        .when((probes < 12) | (days < 8 * DAYS_PER_WEEK))
        .then(pl.lit("provisional"))
        .otherwise(pl.lit("decision"))
    )


def aim(baseline: pl.Expr, goal: pl.Expr, day: pl.Expr, goal_days: pl.Expr) -> pl.Expr:
    """The aim line from the baseline at the start to the goal after ``goal_days``; it goes on beyond the goal."""
    return baseline + (goal - baseline) * day / pl.when(goal_days > 0).then(goal_days)


def theil_sen(series: pl.DataFrame) -> pl.DataFrame:
    """Median of the slopes of all pairs of days, the line's start, and Sen's interval (Sen 1968; METHOD 2.1).

    The line starts at median score - slope x median time. The interval is SciPy's: a normal approximation to
    Kendall's count of rising pairs, corrected for equal scores, taken to the nearest slope on either side.

    Args:
        series: As for ``ols``.

    Returns:
        One row per series: ``series_no``, ``slope`` per week and ``intercept``, ``slope_low`` and ``slope_high``;
        null below 2 days.
    """
    rows = series.lazy().select("series_no", "score", week=pl.col("day") / DAYS_PER_WEEK)
    middle = rows.group_by("series_no").agg(pl.col("week", "score").median(), days=pl.len().cast(pl.Int64))
    pairs = rows.join(rows, on="series_no", suffix="_later").filter(pl.col("week") < pl.col("week_later"))
    rise = (pl.col("score_later") - pl.col("score")) / (pl.col("week_later") - pl.col("week"))
    slopes = pairs.select("series_no", slope=rise).group_by("series_no").agg(pl.col("slope").sort())
    first, last = _sen_ranks(pl.col("slope").list.len().cast(pl.Int64))
    return (
        middle.join(_kendall_variance(rows), on="series_no")
        .join(slopes, on="series_no", how="left")
        .with_columns(first=first, last=last)
        .select(
            "series_no",
            slope=pl.col("slope").list.median(),
            intercept=pl.col("score") - pl.col("slope").list.median() * pl.col("week"),
            slope_low=pl.col("slope").list.get(pl.col("first"), null_on_oob=True),
            slope_high=pl.col("slope").list.get(pl.col("last"), null_on_oob=True),
        )
        .sort("series_no")
        .collect()
    )


def _kendall_variance(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Eighteen times the variance of Kendall's count: whole numbers, so that no order of rows can change it."""

    def term(count: pl.Expr) -> pl.Expr:
        return count * (count - 1) * (2 * count + 5)

    equal = rows.group_by("series_no", "score").agg(equal=pl.len().cast(pl.Int64))
    return equal.group_by("series_no").agg(
        variance_18=term(pl.col("equal").sum()) - pl.when(pl.col("equal") > 1).then(term(pl.col("equal"))).sum()
    )


def _sen_ranks(pairs: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Places of the interval's ends among the sorted slopes; a half is rounded to the even number, as NumPy does."""
    reach = -float(special.ndtri((1 - CONFIDENCE) / 2)) * (pl.col("variance_18") / 18).sqrt()
    low = ((pairs - reach) / 2).round(mode="half_to_even").cast(pl.Int64) - 1
    high = ((pairs + reach) / 2).round(mode="half_to_even").cast(pl.Int64)
    return low.clip(lower_bound=0), pl.min_horizontal(high, pairs - 1)


def point_rule(series: pl.DataFrame) -> pl.DataFrame:
    """Compare the last points with the aim line (METHOD 2.2): reported, never decisive.

    All below: ``change_instruction``; all above: ``raise_goal``; else, with a point on the line or with
    fewer points: ``continue``.

    Args:
        series: As for ``ols``, with the ``aim`` of each day, and by series ``rule_points``, how many points in a
            row decide, and ``rule_minimum``, how many the series must have.

    Returns:
        ``series_no`` and ``point_rule``, one row per series.
    """
    gap = pl.col("score") - pl.col("aim")
    back = pl.len() - pl.col("day").rank("ordinal")
    counted = back < pl.col("rule_points")
    wanted = pl.col("rule_points")
    return (
        series.lazy()
        .group_by("series_no")
        .agg(
            pl.col("rule_points", "rule_minimum").first(),
            points=pl.len(),
            below=(counted & (gap < -TOLERANCE)).sum(),
            above=(counted & (gap > TOLERANCE)).sum(),
        )
        .with_columns(is_enough=pl.col("points") >= pl.col("rule_minimum"))
        .select(
            "series_no",
            point_rule=pl.when(pl.col("is_enough") & (pl.col("below") == wanted))
            .then(pl.lit("change_instruction"))
            .when(pl.col("is_enough") & (pl.col("above") == wanted))
            .then(pl.lit("raise_goal"))
            .otherwise(pl.lit("continue")),
        )
        .sort("series_no")
        .collect()
    )
