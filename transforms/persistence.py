"""Which findings stand: flags across windows, school years and measures, and who is asked to look or to act."""

import polars as pl

from transforms.classes import CLASS, WINDOW, season_rank

FLAGS = ("CLASSROOM", "CLASSROOM_OR_SYSTEM", "SYSTEM", "SYSTEM+CLASSROOM")
"""Levels that point beyond single students."""
CANNOT_SAY = ("LOW_COVERAGE", "TOO_SMALL", "SYSTEM_DATA")
SYSTEM_REASONS = ("grade_above", "grade_and_class_above")
"""Rules by which a school's grade is a system matter."""
YEARS_BACK = (1, 2)
YEARS_NEEDED = 2
"""Of the school year and the two before it (METHOD 3.7)."""
_YEAR_GRADE = ["district_id", "benchmark_window", "measure", "school_id", "grade"]
STANDING = {
    "is_entering_need": pl.Boolean,
    "is_persistent": pl.Boolean,
    "is_grade_persistent": pl.Boolean,
    "is_concordant": pl.Boolean,
    "attention": pl.String,
}
"""What is added to a decision."""


def persistence(decisions: pl.DataFrame, earlier: pl.DataFrame | None = None) -> pl.DataFrame:
    """Add ``STANDING`` to decisions: what other windows, years and measures say of the same class (METHOD 3.7).

    A class is flagged that ``is_flagged`` marks, where the data allow a decision. A window says nothing of a later
    one: a fall flag stays a single flag. Consecutive are two windows of the year between which the district has no
    third for the measure. Years are compared window by window, fall with fall. What another window, year or measure
    could not say leaves null, unless the answer is certain without it. Single flags ask to look; only what persists
    or is ``classwide_severe`` asks to act.

    Args:
        decisions: ``ClassDecision`` rows of every window of a school year.
        earlier: Those of the two school years before; absent: not known.
    """
    cannot_say = pl.col("level").is_in(CANNOT_SAY)
    rows = decisions.drop(STANDING, strict=False).with_columns(
        is_found=pl.when(~cannot_say).then(pl.col("is_flagged").fill_null(value=False)),
        is_beyond_students=pl.when(~cannot_say).then(pl.col("level").is_in(FLAGS)),
    )
    is_severe = (pl.col("severity") == "classwide_severe").fill_null(value=False)
    acts = pl.col("is_beyond_students") & (pl.col("is_persistent").fill_null(value=False) | is_severe)
    is_fall = pl.col("benchmark_window") == "fall"
    return (
        _with_window_before(rows)
        .join(
            _grades(rows, earlier),
            on=[*_YEAR_GRADE, "school_year"],
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        .with_columns(
            is_entering_need=pl.when(is_fall).then("is_beyond_students").otherwise(pl.lit(value=False)),
            is_persistent=pl.when(pl.col("is_found") & pl.col("has_before"))
            .then("was_found")
            .when(pl.col("is_found").is_not_null())
            .then(pl.lit(value=False)),
            is_concordant=_concordant(),
        )
        .with_columns(
            attention=pl.when(acts)
            .then(pl.lit("act"))
            .when("is_beyond_students")
            .then(pl.lit("look"))
            .otherwise(pl.lit("none"))
        )
        .select(*rows.columns, *STANDING)
        .drop("is_found", "is_beyond_students")
    )


def _with_window_before(rows: pl.DataFrame) -> pl.DataFrame:
    """`has_before`, and whether the window before found the class: null where it could not say."""
    of_measure = ["district_id", "school_year", "measure"]
    windows = (
        rows.select(*WINDOW, "measure")
        .unique()
        .sort(season_rank())
        .with_columns(before=pl.col("benchmark_window").shift().over(of_measure))
    )
    was = rows.select(*CLASS, "measure", was_found="is_found").rename({"benchmark_window": "before"})
    return (
        rows.join(windows, on=[*WINDOW, "measure"], how="left", maintain_order="left")
        .join(
            was, on=["district_id", "school_year", "before", "class_id", "measure"], how="left", maintain_order="left"
        )
        .with_columns(has_before=pl.col("before").is_not_null())
    )


def _concordant() -> pl.Expr:
    """Whether another measure flags the class as well; null where no other measure can say."""
    found = pl.col("is_found")
    told, flags = found.is_not_null().cast(pl.Int64), found.fill_null(value=False).cast(pl.Int64)
    return (
        pl.when(~found)
        .then(pl.lit(value=False))
        .when(found & (told.sum().over(CLASS) > told))
        .then(flags.sum().over(CLASS) > flags)
    )


def grade_years(decisions: pl.DataFrame) -> pl.DataFrame:
    """Whether each grade of a school was a system matter, by window and measure: what later years read of decisions."""
    return (
        decisions.filter(pl.col("grade").is_not_null(), ~pl.col("level").is_in(CANNOT_SAY))
        .group_by(*_YEAR_GRADE, "school_year")
        .agg(is_system=pl.col("reason").is_in(SYSTEM_REASONS).any())
    )


def _grades(rows: pl.DataFrame, earlier: pl.DataFrame | None) -> pl.DataFrame:
    """Whether the grade of a school is a system matter in two of three years, in the same window."""
    names = [*_YEAR_GRADE, "school_year", "level", "reason"]
    known = [rows.select(names)] if earlier is None else [rows.select(names), earlier.select(names)]
    years = grade_years(pl.concat(known)).with_columns(pl.col("school_year").cast(pl.Int32))
    grades = rows.select(*_YEAR_GRADE, pl.col("school_year").cast(pl.Int32)).unique()
    for back in (0, *YEARS_BACK):
        past = years.select(*_YEAR_GRADE, pl.col("school_year") + back, pl.col("is_system").alias(f"is_{back}"))
        grades = grades.join(past, on=[*_YEAR_GRADE, "school_year"], how="left", nulls_equal=True)
    said = [pl.col(f"is_{back}") for back in (0, *YEARS_BACK)]
    system = pl.sum_horizontal(each.fill_null(value=False).cast(pl.Int64) for each in said)
    unknown = pl.sum_horizontal(each.is_null().cast(pl.Int64) for each in said)
    return grades.select(
        *_YEAR_GRADE,
        pl.col("school_year").cast(pl.String),
        is_grade_persistent=pl.when(system >= YEARS_NEEDED)
        .then(pl.lit(value=True))
        .when(system + unknown < YEARS_NEEDED)
        .then(pl.lit(value=False)),
    )
