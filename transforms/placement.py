"""Chosen tests to need levels: what a score says."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import NeedLevel
from transforms.cuts import CASE, rule_labels, rules_in_force, with_grade, with_probabilities
from transforms.windows import WINDOW, named_season

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
    missing = not_tested(facts, policies).filter(pl.col("measure").is_not_null())
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


def not_tested(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """``NotTested`` records by window; of several, the first status in alphabetical order."""
    return (
        named_season(facts["not_tested"], "window_label", policies)
        .rename({"season": "benchmark_window"})
        .filter(pl.col("benchmark_window").is_not_null(), pl.col("subject_key").is_not_null())
        .select(*STUDENT_MEASURE, "status")
        .sort("status")
        .unique(STUDENT_MEASURE, keep="first", maintain_order=True)
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
