"""Screening tests: exports of one test joined into one row, its window, whether it is valid and whether it counts."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import RAPID_GUESSING_PERCENT, DistrictPolicy
from schemas.projections import ScreeningResult
from transforms.windows import DISTRICT_YEAR, WINDOW, place_in_windows

SAME_DAY = [*DISTRICT_YEAR, "test_family", "subject_key", "measure", "occurred_on"]
STUDENT_MEASURE = [*WINDOW, "subject_key", "measure"]
LATEST_FIRST = {"export_at": True, "richness": True, "layout": False, "natural_key": False}
"""Order of the versions of one test: their columns are taken from the first that has them."""


def one_row_per_test(screening: pl.LazyFrame, richness: Mapping[str, int]) -> pl.LazyFrame:
    """Join the exports of one test by several layouts of its family (SEMANTICS 1.4).

    Tests of one student, measure and day are the same where name and start time agree; a part that some export of
    that day lacks is not compared. Several on one day are paired in order of score. Each column comes from the
    version with the latest export that has it, ties to the richer layout. A test without a date joins no other.
    """
    unit = pl.when(pl.col("standard_error").is_not_null()).then(pl.col("standard_error_unit").fill_null("score"))
    versions = screening.filter(pl.col("subject_key").is_not_null(), pl.col("measure").is_not_null()).with_columns(
        pl.coalesce("test_family", "layout").alias("test_family"),
        standard_error_unit=unit,
        richness=pl.col("layout").replace_strict(dict(richness), default=0, return_dtype=pl.Int32),
        layout_code=pl.col("layout").cast(pl.Categorical).to_physical(),
        first_export_at="export_at",
        exports=pl.lit(1, pl.Int64),
    )
    code = pl.col("layout_code")
    is_shared = pl.col("occurred_on").is_not_null() & (code.min().over(SAME_DAY) != code.max().over(SAME_DAY))
    marked = versions.with_columns(is_shared=is_shared)
    shared = (
        marked.filter("is_shared")
        .with_columns(
            pl.when(pl.col(part).null_count().over(SAME_DAY) == 0).then(part).alias(f"same_{part}")
            for part in ("test_name", "started_at")
        )
        .sort("score", "started_at", "natural_key")
        .with_columns(
            ordinal=pl.int_range(pl.len()).over([*SAME_DAY, "same_test_name", "same_started_at", "layout_code"])
        )
    )
    test = [*SAME_DAY, "same_test_name", "same_started_at", "ordinal"]
    taken = [name for name in versions.collect_schema().names() if name not in (*SAME_DAY, "layout_code", "richness")]
    special = {
        "natural_key": pl.col("natural_key").min(),
        "first_export_at": pl.col("first_export_at").min(),
        "exports": code.n_unique().cast(pl.Int64),
    }
    joined = (
        shared.sort(list(LATEST_FIRST), descending=list(LATEST_FIRST.values()), nulls_last=True)
        .group_by(test, maintain_order=True)
        .agg(special.get(name, pl.col(name).drop_nulls().first()).alias(name) for name in taken)
    )
    names = [*SAME_DAY, *taken]
    return pl.concat([marked.filter(~pl.col("is_shared")).select(names), joined.select(names)])


def screening_results(
    facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy], richness: Mapping[str, int]
) -> pl.LazyFrame:
    """Every test: what it says, its window, whether it is valid and whether it stands for the student.

    A test is not valid if it was withdrawn, is marked invalid, has no score or too many rapid guesses; a rushing flag
    alone leaves it valid.

    Args:
        facts: Current facts by family; reads ``screening``.
        policies: Policy of each district.
        richness: Of two layouts with equal export time, the one with the higher number is shown.

    Returns:
        ``ScreeningResult`` rows without ``input_id``.
    """
    reason = (
        pl.when(pl.col("is_withdrawn").fill_null(False))
        .then(pl.lit("withdrawn"))
        .when(pl.col("is_invalid").fill_null(False))
        .then(pl.lit("marked_invalid"))
        .when(pl.col("score").is_null() | pl.col("score").is_nan())
        .then(pl.lit("no_score"))
        .when(pl.col("rapid_guessing_percent") >= RAPID_GUESSING_PERCENT)
        .then(pl.lit("rapid_guessing"))
    )
    tests = place_in_windows(one_row_per_test(facts["screening"], richness), policies).with_columns(
        invalid_reason=reason
    )
    judged = tests.with_columns(is_valid=pl.col("invalid_reason").is_null())
    return choose(judged, policies).select(name for name in columns(ScreeningResult) if name != "input_id")


def choose(tests: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``is_chosen`` and ``chosen_reason``: one valid test per student, measure and window (METHOD 1.2).

    `growth_measure`: exactly one test that the vendor counts for growth decides, else `lowest_sem` does. `lowest_sem`:
    lowest standard error, rounded half up to one decimal (none is last), then latest day, higher score, smallest
    key. `latest` and `first`: by day, then higher score, smallest key. `median3`: of three or more tests on one
    day, the latest such day, the lower median by score then key; without such a day, `latest`.
    """
    candidates = tests.filter("is_valid", pl.col("benchmark_window").is_not_null()).select(
        *STUDENT_MEASURE, "natural_key", "occurred_on", "score", "standard_error", "is_growth_measure"
    )
    counted = candidates.with_columns(rivals=pl.len().over(STUDENT_MEASURE))
    several = _with_rule(counted.filter(pl.col("rivals") > 1), policies)
    growth = pl.col("is_growth_measure").fill_null(False)
    rule = pl.col("rule")
    on_day = [*STUDENT_MEASURE, "occurred_on"]
    ranked = (
        several.with_columns(growth_tests=growth.sum().over(STUDENT_MEASURE))
        .with_columns(
            rule=pl.when((rule == "growth_measure") & (pl.col("growth_tests") != 1))
            .then(pl.lit("lowest_sem"))
            .otherwise(rule)
        )
        .sort("score", "natural_key")
        .with_columns(place_in_day=pl.int_range(pl.len()).over(on_day), day_tests=pl.len().over(on_day))
        .with_columns(
            not_growth=(rule == "growth_measure") & ~growth,
            not_median=(rule == "median3")
            & ~((pl.col("day_tests") >= 3) & (pl.col("place_in_day") == (pl.col("day_tests") - 1) // 2)),
            error=pl.when(rule == "lowest_sem").then((pl.col("standard_error") * 10 + 0.5 + 1e-9).floor()),
            age=pl.col("occurred_on").to_physical() * pl.when(rule == "first").then(1).otherwise(-1),
        )
        .sort(
            ["not_growth", "not_median", "error", "age", "score", "natural_key"],
            descending=[False, False, False, False, True, False],
            nulls_last=True,
        )
        .group_by(STUDENT_MEASURE, maintain_order=True)
        .agg(pl.col("natural_key").first(), pl.col("rule").first())
    )
    only = counted.filter(pl.col("rivals") == 1).select(
        *STUDENT_MEASURE, winner="natural_key", rule=pl.lit(None, pl.String)
    )
    decided = pl.concat([only, ranked.rename({"natural_key": "winner"}).select(*STUDENT_MEASURE, "winner", "rule")])
    is_chosen = (pl.col("is_valid") & (pl.col("natural_key") == pl.col("winner"))).fill_null(False)
    return tests.join(decided, on=STUDENT_MEASURE, how="left").with_columns(
        is_chosen=is_chosen,
        chosen_reason=pl.when(~pl.col("is_valid"))
        .then(pl.lit("not_valid"))
        .when(pl.col("benchmark_window").is_null())
        .then(pl.lit("outside_windows"))
        .when(rule.is_null())
        .then(pl.lit("only_valid_test"))
        .when(is_chosen)
        .then(rule)
        .otherwise(pl.format("not_{}", rule)),
    )


def _with_rule(tests: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``rule``: the district's rule for the measure."""

    def rules(measures: pl.DataFrame) -> pl.DataFrame:
        return measures.with_columns(
            rule=pl.Series([policies[d].select_rule(m) for d, m in measures.iter_rows()], dtype=pl.String)
        )

    key = ["district_id", "measure"]
    schema = pl.Schema({"district_id": pl.String, "measure": pl.String, "rule": pl.String})
    return tests.join(tests.select(key).unique().map_batches(rules, schema=schema), on=key, how="left")
