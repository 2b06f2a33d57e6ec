"""Chosen tests to need levels: what a score says."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import ANY_MEASURE, DistrictPolicy
from schemas.projections import NeedLevel
from transforms.windows import WINDOW, named_season, policy_versions

STUDENT_WINDOW = [*WINDOW, "subject_key"]
STUDENT_MEASURE = [*STUDENT_WINDOW, "measure"]


def _rule_frame(policies: Mapping[str, DistrictPolicy]) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Cut rules, one row per district and rule in order of precedence; and their vendor labels."""
    rules: list[tuple[object, ...]] = []
    labels: list[tuple[object, ...]] = []
    for district, policy in sorted(policies.items()):
        for order, rule in enumerate(policy.all_cuts):
            rules.append(
                (
                    district,
                    rule.measure,
                    order,
                    rule.by,
                    rule.valid_from,
                    list(rule.grades),
                    list(rule.seasons),
                    rule.tier_3_below,
                    rule.tier_2_below,
                    rule.watch_below,
                    rule.class_need_below,
                )
            )
            need = {label.strip().lower() for label in rule.class_need}
            levels: dict[str, str] = {}
            for level in ("tier_3", "tier_2", "watch", "none"):
                for label in getattr(rule, level):
                    levels.setdefault(label.strip().lower(), level)
            labels.extend(
                (district, order, label, levels.get(label), label in need) for label in sorted({*levels, *need})
            )
    return (
        pl.LazyFrame(
            rules,
            schema={
                "district_id": pl.String,
                "measure": pl.String,
                "rule_order": pl.Int32,
                "by": pl.String,
                "valid_from": pl.Date,
                "grades": pl.List(pl.String),
                "seasons": pl.List(pl.String),
                "tier_3_below": pl.Float64,
                "tier_2_below": pl.Float64,
                "watch_below": pl.Float64,
                "class_need_below": pl.Float64,
            },
            orient="row",
        ),
        pl.LazyFrame(
            labels,
            schema={
                "district_id": pl.String,
                "rule_order": pl.Int32,
                "label": pl.String,
                "label_level": pl.String,
                "is_label_need": pl.Boolean,
            },
            orient="row",
        ),
    )


def judge(tests: pl.LazyFrame, windows: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``need_level``, ``is_in_need``, ``rule`` and ``rule_version`` to chosen tests.

    The first rule that fits measure (or any), grade, window and the reference date (if there is one) decides. Need is
    below the cut, never on it. Where the rule cannot say, level and need are null and ``rule`` says why: `no_rule`,
    `no_percentile`, `no_placement` or `unknown_placement`.
    """
    rules, labels = _rule_frame(policies)
    case = [*WINDOW, "measure", "grade"]
    cases = tests.select(case).unique().join(windows.select(*WINDOW, "reference_on"), on=WINDOW, how="left")
    own = cases.join(rules, on=["district_id", "measure"])
    any_measure = cases.join(rules.filter(pl.col("measure") == ANY_MEASURE).drop("measure"), on="district_id")
    fits = (
        ((pl.col("grades").list.len() == 0) | pl.col("grades").list.contains(pl.col("grade")))
        & ((pl.col("seasons").list.len() == 0) | pl.col("seasons").list.contains(pl.col("benchmark_window")))
        & (pl.col("valid_from") <= pl.col("reference_on")).fill_null(True)
    )
    chosen = (
        pl.concat(
            [own.with_columns(rule_measure="measure"), any_measure.with_columns(rule_measure=pl.lit(ANY_MEASURE))]
        )
        .filter(fits)
        .sort("rule_order")
        .unique(case, keep="first", maintain_order=True)
        .join(policy_versions(policies), on="district_id", how="left")
        .select(
            *case,
            "rule_order",
            "by",
            "tier_3_below",
            "tier_2_below",
            "watch_below",
            "class_need_below",
            rule_name=pl.format("{} by {}", "rule_measure", "by"),
            rule_version=pl.format("{} policy {}", pl.col("valid_from").dt.to_string("iso"), "policy_version"),
        )
    )
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
        tests.join(chosen, on=case, how="left", nulls_equal=True)
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
    facts: Mapping[str, pl.LazyFrame],
    policies: Mapping[str, DistrictPolicy],
) -> pl.LazyFrame:
    """What each measure says of each student that has a test, or a record of no test, of it in the window.

    Without a valid test the status is that of the ``NotTested`` record, else `invalid`.

    Args:
        screening: ``ScreeningResult`` rows.
        memberships: ``ClassMembership`` rows; give the grade where the test has none.
        windows: ``WindowRule`` rows.
        facts: Current facts by family; reads ``not_tested``.
        policies: Policy of each district.

    Returns:
        ``NeedLevel`` rows without ``input_id``.
    """
    in_window = screening.filter(pl.col("benchmark_window").is_not_null())
    grades = memberships.select(*STUDENT_WINDOW, member_grade="grade")
    tested = (
        in_window.filter("is_chosen")
        .join(grades, on=STUDENT_WINDOW, how="left")
        .with_columns(grade=pl.coalesce("grade", "member_grade"))
    )
    missing = not_tested(facts, policies).filter(pl.col("measure").is_not_null())
    invalid = in_window.filter(~pl.col("is_valid")).select(*STUDENT_MEASURE, status=pl.lit("invalid"))
    untested = (
        pl.concat([missing.select(*STUDENT_MEASURE, "status"), invalid])
        .unique(STUDENT_MEASURE, keep="first", maintain_order=True)
        .join(tested.select(STUDENT_MEASURE), on=STUDENT_MEASURE, how="anti")
        .join(grades, on=STUDENT_WINDOW, how="left")
        .rename({"member_grade": "grade"})
    )
    judged = judge(tested, windows, policies).with_columns(
        status=pl.lit("tested"),
        p_tier_2=pl.col("need_level").is_in(["tier_2", "tier_3"]).cast(pl.Float64),
        p_tier_3=(pl.col("need_level") == "tier_3").cast(pl.Float64),
    )
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
