"""Screening tests: exports of one test joined into one row, its window, whether it is valid and whether it counts."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import RAPID_GUESSING_PERCENT, DistrictPolicy
from schemas.projections import ScreeningResult
from transforms.windows import DISTRICT_YEAR, WINDOW, place_in_windows

SAME_DAY = [*DISTRICT_YEAR, "test_family", "subject_key", "measure", "occurred_on"]
STUDENT_MEASURE = [*WINDOW, "subject_key", "measure"]


def one_row_per_test(screening: pl.LazyFrame, richness: Mapping[str, int]) -> pl.LazyFrame:
    """Join the exports of one test by several layouts of its family (SEMANTICS 1.4).

    Tests of one student, measure and day are the same where name and start time agree; a part that some export of
    that day lacks is not compared. Several on one day are paired as ``_paired`` says. Each column comes from the
    version with the latest export that has it, ties to the richer layout. A test without a date joins no other.
    """
    versions = _versions(screening).cache()
    names = [name for name in versions.collect_schema().names() if name not in ("row", "is_shared", "layout_code")]
    shared = versions.filter("is_shared").drop("is_shared").cache()
    ranked = shared.join(_same_test(shared, richness), on="row").drop("row", "layout_code").cache()
    single = pl.concat(
        [versions.filter(~pl.col("is_shared")).select(names), ranked.filter(pl.col("versions") == 1).select(names)]
    )
    return pl.concat([single, _two(ranked.filter(pl.col("versions") == 2), names), _many(ranked, names)])


def shown_keys(screening: pl.LazyFrame, richness: Mapping[str, int]) -> pl.LazyFrame:
    """The key under which each current fact is shown: `natural_key`, `shown_key`. Needs all tests of its student."""
    versions = _versions(screening).cache()
    shared = versions.filter("is_shared").drop("is_shared")
    return (
        versions.select("row", "natural_key")
        .join(_same_test(shared, richness), on="row", how="left")
        .select("natural_key", shown_key=pl.col("natural_key").min().over(pl.coalesce("test", "row")))
    )


def _versions(screening: pl.LazyFrame) -> pl.LazyFrame:
    """Numbered facts about a student and measure; ``is_shared`` where several layouts have tests of that day."""
    unit = pl.when(pl.col("standard_error").is_not_null()).then(pl.col("standard_error_unit").fill_null("score"))
    code = pl.col("layout_code")
    is_shared = pl.col("occurred_on").is_not_null() & (code.min().over(SAME_DAY) != code.max().over(SAME_DAY))
    return (
        screening.filter(pl.col("subject_key").is_not_null(), pl.col("measure").is_not_null())
        .with_columns(
            pl.coalesce("test_family", "layout").alias("test_family"),
            standard_error_unit=unit,
            layout_code=pl.col("layout").cast(pl.Categorical).to_physical(),
            first_export_at="export_at",
            exports=pl.lit(1, pl.Int64),
        )
        .with_row_index("row")
        .with_columns(is_shared=is_shared)
    )


def _same_test(shared: pl.LazyFrame, richness: Mapping[str, int]) -> pl.LazyFrame:
    """Number the test of each row: ``row``, ``test``, ``rank`` (0 is the version shown first) and ``versions``."""
    day = shared.select(
        "row",
        "layout",
        "layout_code",
        "natural_key",
        "export_at",
        "score",
        "test_name",
        "started_at",
        day=pl.col("row").min().over(SAME_DAY),
        richness=pl.col("layout").replace_strict(dict(richness), default=0, return_dtype=pl.Int32),
    ).with_columns(
        pl.when(pl.col(part).null_count().over("day") == 0).then(part).alias(part)
        for part in ("test_name", "started_at")
    )
    one = ["day", "test_name", "started_at"]
    counted = day.with_columns(block=pl.col("row").min().over(one)).with_columns(
        tests=pl.len().over("block", "layout_code")
    )
    is_crowded = pl.col("tests").max().over("block") > 1
    marked = counted.with_columns(is_crowded=is_crowded).cache()
    plain = marked.filter(~pl.col("is_crowded")).with_columns(slot=pl.lit(0, pl.Int64))
    together = pl.concat([plain, _paired(marked.filter("is_crowded"))])
    return (
        together.sort(
            ["block", "slot", "export_at", "richness", "layout", "natural_key"],
            descending=[False, False, True, True, False, False],
        )
        .with_columns(
            test=pl.col("row").first().over("block", "slot"),
            rank=pl.int_range(pl.len()).over("block", "slot"),
            versions=pl.len().over("block", "slot"),
        )
        .select("row", "test", "rank", "versions")
    )


def _paired(crowded: pl.LazyFrame) -> pl.LazyFrame:
    """Add ``slot``: which of several tests that nothing but the score tells apart a row is.

    The layout with most of these tests (ties: the richer, then by name) numbers them in order of score. A layout with
    as many follows in order of score. A layout with fewer takes tests of equal score first, then what is left, in
    order of score: an export that lacks a test does not shift the others.
    """
    per_layout = ["block", "layout_code"]
    ordered = (
        crowded.sort("score", "natural_key")
        .with_columns(
            slot=pl.int_range(pl.len()).over(per_layout),
            turn=pl.int_range(pl.len()).over([*per_layout, "score"]),
            most=pl.col("tests").max().over("block"),
        )
        .cache()
    )
    full = ordered.filter(pl.col("tests") == pl.col("most"))
    fewer = ordered.filter(pl.col("tests") < pl.col("most")).drop("slot").cache()
    anchor = (
        full.sort(["richness", "layout"], descending=[True, False])
        .filter(pl.col("layout_code") == pl.col("layout_code").first().over("block"))
        .select("block", "slot", "score", "turn")
        .cache()
    )
    equal = fewer.join(anchor, on=["block", "score", "turn"], nulls_equal=True).cache()
    left = (
        fewer.join(equal.select("row"), on="row", how="anti")
        .sort("score", "natural_key")
        .with_columns(turn=pl.int_range(pl.len()).over(per_layout))
    )
    free = (
        fewer.select(per_layout)
        .unique()
        .join(anchor.select("block", "slot"), on="block")
        .join(equal.select(*per_layout, "slot"), on=[*per_layout, "slot"], how="anti")
        .sort("slot")
        .with_columns(turn=pl.int_range(pl.len()).over(per_layout))
    )
    names = [*crowded.collect_schema().names(), "slot"]
    return pl.concat([part.select(names) for part in (full, equal, left.join(free, on=[*per_layout, "turn"]))])


_SMALLEST = {"natural_key": pl.min_horizontal, "first_export_at": pl.min_horizontal, "exports": pl.sum_horizontal}
"""Columns that are not taken from the first version that has them."""


def _two(ranked: pl.LazyFrame, names: list[str]) -> pl.LazyFrame:
    """Tests that two layouts show; a join, because almost all shared tests are of this kind."""
    first, second = (ranked.filter(pl.col("rank") == place).select("test", *names) for place in (0, 1))
    return first.join(second, on="test", suffix="_second").select(
        _SMALLEST.get(name, pl.coalesce)(name, f"{name}_second").alias(name) for name in names
    )


def _many(ranked: pl.LazyFrame, names: list[str]) -> pl.LazyFrame:
    """Tests that three or more layouts show."""
    special = {
        "natural_key": pl.col("natural_key").min(),
        "first_export_at": pl.col("first_export_at").min(),
        "exports": pl.len().cast(pl.Int64),
    }
    return (
        ranked.filter(pl.col("versions") > 2)
        .sort("test", "rank")
        .group_by("test", maintain_order=True)
        .agg(special.get(name, pl.col(name).first(ignore_nulls=True)).alias(name) for name in names)
        .select(names)
    )


def screening_results(
    facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy], richness: Mapping[str, int]
) -> pl.LazyFrame:
    """Every test: what it says, its window, whether it is valid and whether it stands for the student.

    A test is not valid if it was withdrawn, is marked invalid, has no score, too many rapid guesses, or a rushing flag
    that the district's policy names (`invalid_rush_flags`).

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
        .when(_rushed(policies))
        .then(pl.lit("rushed"))
    )
    tests = place_in_windows(one_row_per_test(facts["screening"], richness), policies).with_columns(
        invalid_reason=reason
    )
    judged = tests.with_columns(is_valid=pl.col("invalid_reason").is_null())
    return choose(judged, policies).select(name for name in columns(ScreeningResult) if name != "input_id")


def _rushed(policies: Mapping[str, DistrictPolicy]) -> pl.Expr:
    """Whether the test has a rushing flag that its district does not accept."""
    named = [
        (district, flag.strip().lower())
        for district, policy in sorted(policies.items())
        for flag in policy.invalid_rush_flags
    ]
    said = pl.struct("district_id", rush_flag=pl.col("rush_flag").str.strip_chars().str.to_lowercase())
    refused = pl.Series(
        [{"district_id": district, "rush_flag": flag} for district, flag in named],
        dtype=pl.Struct({"district_id": pl.String, "rush_flag": pl.String}),
    )
    return said.is_in(refused.implode()) if named else pl.lit(value=False)


def choose(tests: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``is_chosen`` and ``chosen_reason``: one valid test per student, measure and window (METHOD 1.2).

    `growth_measure`: exactly one test that the vendor counts for growth decides, else `lowest_sem` does. `lowest_sem`:
    lowest standard error, rounded half up to one decimal (none is last), then latest day, higher score, smallest
    key. `latest` and `first`: by day, then higher score, smallest key. `median3`: of three or more tests on one
    day, the latest such day, the lower median by score then key; without such a day, `latest`.
    """
    numbered = tests.with_row_index("test").cache()
    candidates = numbered.filter("is_valid", pl.col("benchmark_window").is_not_null()).select(
        "test", *STUDENT_MEASURE, "natural_key", "occurred_on", "score", "standard_error", "is_growth_measure"
    )
    counted = candidates.with_columns(rivals=pl.len().over(STUDENT_MEASURE)).cache()
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
        .with_columns(is_chosen=pl.int_range(pl.len()).over(STUDENT_MEASURE) == 0)
        .select("test", "is_chosen", "rule")
    )
    only = counted.filter(pl.col("rivals") == 1).select("test", is_chosen=pl.lit(True), rule=pl.lit("only_valid_test"))
    is_chosen = pl.col("is_chosen").fill_null(False)
    return (
        numbered.join(pl.concat([only, ranked]), on="test", how="left")
        .with_columns(
            is_chosen=is_chosen,
            chosen_reason=pl.when(~pl.col("is_valid"))
            .then(pl.lit("not_valid"))
            .when(pl.col("benchmark_window").is_null())
            .then(pl.lit("outside_windows"))
            .when(is_chosen)
            .then("rule")
            .otherwise(pl.format("not_{}", "rule")),
        )
        .drop("test", "rule")
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
