"""Chosen tests to need levels and tiers: what a score says and which tier follows."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import NeedLevel, TierPlacement
from transforms.cuts import CASE, rule_labels, rules_in_force, with_grade, with_probabilities
from transforms.windows import DISTRICT_YEAR, WINDOW, frozen, named_season

STUDENT_WINDOW = [*WINDOW, "subject_key"]
STUDENT_MEASURE = [*STUDENT_WINDOW, "measure"]


def judge(tests: pl.LazyFrame, windows: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``need_level``, ``is_in_need``, ``rule``, ``rule_version`` and the rule's own columns to chosen tests.

    The first rule that fits measure (or any), grade, window and the reference date (if there is one) decides. Need is
    below the cut, never on it. Where the rule cannot say, level and need are null and ``rule`` says why: `no_rule`,
    `no_percentile`, `no_placement` or `unknown_placement`.
    """
    cases = tests.select(CASE).unique().join(windows.select(*WINDOW, "reference_on"), on=WINDOW, how="left")
    chosen, labels = rules_in_force(cases, policies), rule_labels(policies)
    value = pl.when(pl.col("by") == "percentile").then("percentile").when(pl.col("by") == "score").then("score")
    by_number = (
        pl.when(value < pl.col("tier_3_below"))
        .then(pl.lit("tier_3"))
        .when(value < pl.col("tier_2_below"))
        .then(pl.lit("tier_2"))
        .when(value < pl.col("watch_below"))
        .then(pl.lit("watch"))
        .when(value.is_not_null())
        .then(pl.lit("none"))
    )
    is_label = pl.col("by") == "placement"
    cannot_say = (
        pl.when(pl.col("by").is_null())
        .then(pl.lit("no_rule"))
        .when(is_label & pl.col("label").is_null())
        .then(pl.lit("no_placement"))
        .when(is_label & pl.col("label_level").is_null())
        .then(pl.lit("unknown_placement"))
        .when(~is_label & value.is_null())
        .then(pl.format("no_{}", "by"))
    )
    return (
        tests.join(chosen, on=CASE, how="left", nulls_equal=True)
        .with_columns(label=pl.col("placement").str.strip_chars().str.to_lowercase())
        .join(labels, on=["district_id", "rule_order", "label"], how="left")
        .with_columns(
            need_level=pl.when(is_label).then("label_level").otherwise(by_number),
            is_in_need=pl.when(is_label).then("is_label_need").otherwise(value < pl.col("class_need_below")),
            rule=pl.coalesce(cannot_say, "rule_name"),
        )
    )


def need_levels(
    screening: pl.LazyFrame,
    memberships: pl.LazyFrame,
    windows: pl.LazyFrame,
    cuts: pl.LazyFrame,
    facts: Mapping[str, pl.LazyFrame],
    policies: Mapping[str, DistrictPolicy],
) -> pl.LazyFrame:
    """What each measure says of each student that has a test, or a record of no test, of it in the window.

    Without a valid test the status is that of the ``NotTested`` record, else `invalid`.

    Args:
        screening: ``ScreeningResult`` rows.
        memberships: ``ClassMembership`` rows; give the grade where the test has none.
        windows: ``WindowRule`` rows.
        cuts: ``CutScore`` rows.
        facts: Current facts by family; reads ``not_tested``.
        policies: Policy of each district.

    Returns:
        ``NeedLevel`` rows without ``input_id``.
    """
    in_window = screening.filter(pl.col("benchmark_window").is_not_null())
    grades = memberships.select(*STUDENT_WINDOW, member_grade="grade")
    tested = with_grade(in_window.filter("is_chosen"), memberships)
    missing = _not_tested(facts, policies).filter(pl.col("measure").is_not_null())
    invalid = in_window.filter(~pl.col("is_valid")).select(*STUDENT_MEASURE, status=pl.lit("invalid"))
    untested = (
        pl.concat([missing.select(*STUDENT_MEASURE, "status"), invalid])
        .unique(STUDENT_MEASURE, keep="first", maintain_order=True)
        .join(tested.select(STUDENT_MEASURE), on=STUDENT_MEASURE, how="anti")
        .join(grades, on=STUDENT_WINDOW, how="left")
        .rename({"member_grade": "grade"})
    )
    judged = with_probabilities(judge(tested, windows, policies), cuts, policies).with_columns(status=pl.lit("tested"))
    return pl.concat([judged.select(_contract(NeedLevel)), _filled(untested, NeedLevel)])


def _not_tested(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """``NotTested`` records by window; of several, the first status in alphabetical order."""
    return (
        named_season(facts["not_tested"], "window_label", policies)
        .rename({"season": "benchmark_window"})
        .filter(pl.col("benchmark_window").is_not_null(), pl.col("subject_key").is_not_null())
        .select(*STUDENT_MEASURE, "status")
        .sort("status")
        .unique(STUDENT_MEASURE, keep="first", maintain_order=True)
    )


def primary_measures(
    screening: pl.LazyFrame, memberships: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """Default measure that decides tiers: most valid tests in district, window and grade, frozen; ties by name."""
    by = [*WINDOW, "grade"]
    graded = screening.join(
        memberships.select(*STUDENT_WINDOW, member_grade="grade"), on=STUDENT_WINDOW, how="left"
    ).with_columns(grade=pl.coalesce("member_grade", "grade"))
    return (
        frozen(graded, by, policies)
        .group_by(*by, "measure")
        .len()
        .sort(["len", "measure"], descending=[True, False])
        .unique(by, keep="first", maintain_order=True)
        .select(*by, default_measure="measure")
    )


def tier_placements(
    needs: pl.LazyFrame,
    screening: pl.LazyFrame,
    memberships: pl.LazyFrame,
    windows: pl.LazyFrame,
    facts: Mapping[str, pl.LazyFrame],
    policies: Mapping[str, DistrictPolicy],
) -> pl.LazyFrame:
    """The recommended tier of each student by the primary measure of the grade.

    Where a roster exists for the district and school year, only students enrolled on the reference date are placed;
    elsewhere every student with a need level. No valid test of the primary measure is never a tier: ``tier`` is
    null. ``reason``: `primary_measure`, `rule_cannot_say`, `no_valid_primary_test` where another measure was
    tested, `no_valid_test`.

    Args:
        needs: ``NeedLevel`` rows.
        screening: ``ScreeningResult`` rows.
        memberships: ``ClassMembership`` rows.
        windows: ``WindowRule`` rows.
        facts: Current facts by family; reads ``roster``, ``not_tested`` and ``plan``.
        policies: Policy of each district.

    Returns:
        ``TierPlacement`` rows without ``input_id``.
    """
    rostered = facts["roster"].filter(pl.col("event_type") == "StudentEnrolled").select(DISTRICT_YEAR).unique()
    by_test = (
        needs.join(rostered, on=DISTRICT_YEAR, how="anti")
        .group_by(STUDENT_WINDOW)
        .agg(grade=pl.col("grade").drop_nulls().min())
        .join(_school_of_test(screening), on=STUDENT_WINDOW, how="left")
        .join(windows.select(*WINDOW, "reference_on"), on=WINDOW, how="left")
        .with_columns(class_id=pl.lit(None, pl.String), is_alternate_assessment=False)
    )
    names = [*STUDENT_WINDOW, "grade", "school_id", "class_id", "reference_on", "is_alternate_assessment"]
    students = pl.concat([memberships.select(names), by_test.select(names)])
    configured = pl.LazyFrame(
        [
            (d, grade, measure)
            for d, policy in sorted(policies.items())
            for grade, measure in policy.primary_measures.items()
        ],
        schema={"district_id": pl.String, "grade": pl.String, "own_measure": pl.String},
        orient="row",
    )
    counts = needs.group_by(STUDENT_WINDOW).agg(
        measures=(pl.col("status") == "tested").sum().cast(pl.Int64),
        other_status=pl.col("status").filter(pl.col("status") != "tested").min(),
    )
    anything = (
        _not_tested(facts, policies)
        .filter(pl.col("measure").is_null())
        .select(*STUDENT_WINDOW, general_status="status")
    )
    decisive = needs.select(*STUDENT_MEASURE, "status", "need_level", "rule", "rule_version")
    is_tested = pl.col("status") == "tested"
    alternate = pl.when("is_alternate_assessment").then(pl.lit("exempt_alternate"))
    tier = pl.col("need_level").replace_strict({"none": 1, "watch": 1, "tier_2": 2, "tier_3": 3}, return_dtype=pl.Int8)
    status = pl.coalesce(
        "status",
        pl.when(pl.col("measures") == 0).then("other_status"),
        "general_status",
        alternate,
        pl.lit("untested"),
    )
    return (
        students.join(configured, on=["district_id", "grade"], how="left")
        .join(primary_measures(screening, memberships, policies), on=[*WINDOW, "grade"], how="left", nulls_equal=True)
        .with_columns(measure=pl.coalesce("own_measure", "default_measure"))
        .join(decisive, on=STUDENT_MEASURE, how="left")
        .join(counts, on=STUDENT_WINDOW, how="left")
        .join(anything, on=STUDENT_WINDOW, how="left")
        .join(_assigned(facts, students), on=STUDENT_WINDOW, how="left")
        .with_columns(status=status, measures=pl.col("measures").fill_null(0), tier=tier)
        .with_columns(
            measure=pl.when(is_tested).then("measure"),
            reason=pl.when(is_tested & pl.col("tier").is_not_null())
            .then(pl.lit("primary_measure"))
            .when(is_tested)
            .then(pl.lit("rule_cannot_say"))
            .when(pl.col("measures") > 0)
            .then(pl.lit("no_valid_primary_test"))
            .otherwise(pl.lit("no_valid_test")),
        )
        .select(_contract(TierPlacement))
    )


def _school_of_test(screening: pl.LazyFrame) -> pl.LazyFrame:
    """School of each student's latest test in the window, as the export names it; ties by name."""
    return (
        screening.filter(pl.col("benchmark_window").is_not_null(), pl.col("school_id").is_not_null())
        .sort(["occurred_on", "school_id"], descending=[True, False], nulls_last=True)
        .unique(STUDENT_WINDOW, keep="first", maintain_order=True)
        .select(*STUDENT_WINDOW, "school_id")
    )


def _assigned(facts: Mapping[str, pl.LazyFrame], students: pl.LazyFrame) -> pl.LazyFrame:
    """Latest tier a team decided on or before the reference date, in the same school year."""
    return (
        facts["plan"]
        .filter(pl.col("event_type") == "TierAssigned", pl.col("tier").is_not_null())
        .select(*DISTRICT_YEAR, "subject_key", "occurred_on", "export_at", "natural_key", assigned_tier="tier")
        .join(students.select(*STUDENT_WINDOW, "reference_on"), on=[*DISTRICT_YEAR, "subject_key"])
        .filter(pl.col("occurred_on") <= pl.col("reference_on"))
        .sort(["occurred_on", "export_at", "natural_key"], descending=True)
        .unique(STUDENT_WINDOW, keep="first", maintain_order=True)
        .select(*STUDENT_WINDOW, "assigned_tier")
    )


def _contract(contract: type) -> list[str]:
    return [name for name in columns(contract) if name != "input_id"]


def _filled(frame: pl.LazyFrame, contract: type) -> pl.LazyFrame:
    """The contract's columns; those the frame lacks are null."""
    present = frame.collect_schema().names()
    return frame.select(
        pl.col(name) if name in present else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in columns(contract).items()
        if name != "input_id"
    )
