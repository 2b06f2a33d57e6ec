"""A member's level and slope beside those of the class: the knob `dual_discrepancy` (METHOD 2.4)."""

import polars as pl

from transforms.cycle_places import YEAR, inside
from transforms.growth import TOLERANCE, ols, theil_sen

_UNIT = ["cycle_no", "class_id", "benchmark_window", "family"]
"""Members of a cycle who share their classmates and their series."""


def class_gaps(members: pl.DataFrame, scored: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """How far each member's level and slope are from those of classmates, in the classmates' standard deviations.

    The class is that of the last reference date by the opening of the cycle, else of the first after it. Classmates
    count who were probed in the cycle's measure and family of forms on enough days of the cycle, in a cycle or not;
    the member is none of them. Below ``classmates_minimum`` of them, or where they do not differ, a gap is null.

    Args:
        members: One row per member: ``member_no``, ``cycle_no``, district, year, ``subject_key``, ``measure``,
            ``family``, ``opened_on``, ``ends_on``, ``level_end``, ``slope``, ``is_theil_sen`` and the district's knobs.
        scored: Rows of ``probes.scored_probes``.
        classes: ``ClassMembership`` rows.

    Returns:
        ``member_no``, ``classmates``, ``class_level_gap`` and ``class_slope_gap``.
    """
    placed = _placed(members.filter("dual_discrepancy"), classes)
    theirs = _series(placed, scored, classes)
    own = placed.select("member_no", *_UNIT, "subject_key", "level_end", "slope", "classmates_minimum")
    others = own.join(theirs, on=_UNIT, suffix="_other", nulls_equal=True).filter(
        pl.col("subject_key") != pl.col("subject_key_other")
    )

    def gap(name: str) -> pl.Expr:
        values = pl.col(f"{name}_other").sort()  # sums of floats go by order
        spread = values.std()
        is_told = (pl.col("classmates_minimum").first() <= pl.len()) & (spread > TOLERANCE)
        return pl.when(is_told).then(((pl.col(name).first() - values.mean()) / spread).round(9))

    return others.group_by("member_no").agg(
        classmates=pl.len().cast(pl.Int64), class_level_gap=gap("level_end"), class_slope_gap=gap("slope")
    )


def _placed(members: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """Members with their class and the window whose reference date says so."""
    held = classes.filter(pl.col("class_id").is_not_null()).select(
        *YEAR, "subject_key", "class_id", "benchmark_window", "reference_on"
    )
    away = (pl.col("reference_on") - pl.col("opened_on")).dt.total_days()
    return (
        members.join(held, on=[*YEAR, "subject_key"])
        .with_columns(is_later=away > 0, away=away.abs())
        .sort("member_no", "is_later", "away")
        .unique("member_no", keep="first", maintain_order=True)
    )


def _series(placed: pl.DataFrame, scored: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """Level and slope of every student of these classes over the days of the cycle."""
    knobs = ["probes_minimum", "level_probes", "is_theil_sen"]
    units = placed.select(*_UNIT, *YEAR, "measure", "opened_on", "ends_on", *knobs).unique(_UNIT)
    students = units.join(
        classes.select(*YEAR, "benchmark_window", "class_id", "subject_key"), on=[*YEAR, "benchmark_window", "class_id"]
    ).with_row_index("series_no")
    days = (
        students.join(
            scored.select(*YEAR, "subject_key", "measure", "family", "on", "score"),
            on=[*YEAR, "subject_key", "measure", "family"],
            nulls_equal=True,
        )
        .filter(inside("opened_on", "ends_on"))
        .group_by("series_no", "on")
        .agg(pl.col("score").median(), pl.col("opened_on", *knobs).first())
        .filter(pl.len().over("series_no") >= pl.col("probes_minimum"))
        .with_columns(day=(pl.col("on") - pl.col("opened_on")).dt.total_days())
        .sort("series_no", "day")
    )
    back = pl.len().over("series_no") - pl.int_range(pl.len()).over("series_no")
    level = (
        days.filter(back <= pl.col("level_probes"))
        .group_by("series_no")
        .agg(pl.col("score").median().alias("level_end"), pl.len(), pl.col("level_probes").first())
        .filter(pl.col("len") == pl.col("level_probes"))
    )
    series = days.select("series_no", "day", "score")
    sen = theil_sen(series).select("series_no", sen="slope")
    return (
        students.join(level.select("series_no", "level_end"), on="series_no")
        .join(ols(series).select("series_no", line="slope"), on="series_no")
        .join(sen, on="series_no")
        .select(*_UNIT, "subject_key", "level_end", slope=pl.when("is_theil_sen").then("sen").otherwise("line"))
        .drop_nulls(["level_end", "slope"])
    )
