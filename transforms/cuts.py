"""Cut rules in force, the score at a percentile cut, and the probability that a true score is below it."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from scipy import special

from schemas.policy import ANY_MEASURE, CUT_NAMES, CutRule, DistrictPolicy
from schemas.projections import SCALES
from transforms.windows import WINDOW, frozen, policy_versions

STUDENT_WINDOW = [*WINDOW, "subject_key"]
CASE = [*WINDOW, "measure", "grade"]
"""What decides which rule is in force."""
NORMS = [*CASE, "norm_version"]
PAIRS_NEAR = 10.0
PAIRS_MINIMUM = 30
"""Tests within so many percentiles of a cut that its score needs (SEMANTICS 6.3)."""
KELLEY_TESTS = 30
"""Tests of a grade whose mean a score can be drawn to."""
_MILLIONTHS = 1_000_000
_COLUMN_OF = {"score": "score", "rasch": "rasch_score"}
"""Column of a test that is on the scale."""
_P_OF = {"tier_3_below": "p_tier_3", "tier_2_below": "p_tier_2", "class_need_below": "p_class_need"}
_RULES: dict[str, Any] = {
    "district_id": pl.String,
    "measure": pl.String,
    "rule_order": pl.Int32,
    "by": pl.String,
    "valid_from": pl.Date,
    "grades": pl.List(pl.String),
    "seasons": pl.List(pl.String),
    **dict.fromkeys(CUT_NAMES, pl.Float64),
    "need_cut": pl.String,
    "recommended_cut": pl.String,
    "base_rate": pl.Float64,
}


def rules_in_force(cases: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """The cut rule of each case: the first that fits measure (or any), grade, window and reference date, if it has one.

    Args:
        cases: Distinct `CASE` with ``reference_on``.
        policies: Policy of each district.

    Returns:
        One row per case that has a rule: `CASE`, ``reference_on`` and what the rule says.
    """
    rules = pl.LazyFrame(
        [
            (district, rule.measure, order, *_said(rule))
            for district, policy in sorted(policies.items())
            for order, rule in enumerate(policy.all_cuts)
        ],
        schema=_RULES,
        orient="row",
    )
    own = cases.join(rules, on=["district_id", "measure"]).with_columns(rule_measure="measure")
    any_measure = cases.join(
        rules.filter(pl.col("measure") == ANY_MEASURE).drop("measure"), on="district_id"
    ).with_columns(rule_measure=pl.lit(ANY_MEASURE))
    fits = (
        ((pl.col("grades").list.len() == 0) | pl.col("grades").list.contains(pl.col("grade")))
        & ((pl.col("seasons").list.len() == 0) | pl.col("seasons").list.contains(pl.col("benchmark_window")))
        & (pl.col("valid_from") <= pl.col("reference_on")).fill_null(True)
    )
    return (
        pl.concat([own, any_measure.select(own.collect_schema().names())])
        .filter(fits)
        .sort("rule_order")
        .unique(CASE, keep="first", maintain_order=True)
        .join(policy_versions(policies), on="district_id", how="left")
        .select(
            *CASE,
            "reference_on",
            "rule_order",
            "by",
            *CUT_NAMES,
            "need_cut",
            "recommended_cut",
            "base_rate",
            rule_name=pl.format("{} by {}", "rule_measure", "by"),
            rule_version=pl.format("{} policy {}", pl.col("valid_from").dt.to_string("iso"), "policy_version"),
        )
    )


def _said(rule: CutRule) -> tuple[object, ...]:
    cuts = (getattr(rule, name) for name in CUT_NAMES)
    names = (rule.class_need_name, rule.recommended_name, rule.class_base_rate)
    return (rule.by, rule.valid_from, list(rule.grades), list(rule.seasons), *cuts, *names)


def rule_labels(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Vendor labels of each rule in lower case: the level they mean and whether the class rule counts them."""
    labels = [
        (district, order, label, level, label in rule.needs)
        for district, policy in sorted(policies.items())
        for order, rule in enumerate(policy.all_cuts)
        for label, level in sorted(rule.levels.items())
    ]
    return pl.LazyFrame(
        labels,
        schema={
            "district_id": pl.String,
            "rule_order": pl.Int32,
            "label": pl.String,
            "label_level": pl.String,
            "is_label_need": pl.Boolean,
        },
        orient="row",
    )


def with_grade(tests: pl.LazyFrame, memberships: pl.LazyFrame) -> pl.LazyFrame:
    """``grade`` of the test as exported, else of the student on the window's reference date."""
    return (
        tests.join(memberships.select(*STUDENT_WINDOW, member_grade="grade"), on=STUDENT_WINDOW, how="left")
        .with_columns(grade=pl.coalesce("grade", "member_grade"))
        .drop("member_grade")
    )


def cut_scores(
    screening: pl.LazyFrame,
    memberships: pl.LazyFrame,
    windows: pl.LazyFrame,
    policies: Mapping[str, DistrictPolicy],
) -> pl.LazyFrame:
    """The score at each percentile cut that a rule uses, in the unit of the measure's standard error (SEMANTICS 6.3).

    A pinned cut wins: one that names the norms before one that does not, then the latest. Else the cut is the midpoint
    of the highest score below and the lowest at or above, from the valid tests that settle the window (SEMANTICS
    6.1b). Where scores cross, the isotonic (least squares, non-decreasing) fit of percentile on score says which are
    below: its level set at the cut is the upper set of scores with the largest sum of percentile less cut, and of
    several such sets the largest, since on the cut is not below. No test counts for more than 10 percentiles, so that
    one wrong percentile cannot carry the fit. A lower percentile never has a higher score. Fewer than 30 tests within
    10 percentiles, or none on one side: unknown.

    Args:
        screening: ``ScreeningResult`` rows.
        memberships: ``ClassMembership`` rows; give the grade where the test has none.
        windows: ``WindowRule`` rows.
        policies: Policy of each district.

    Returns:
        ``CutScore`` rows without ``input_id``.
    """
    valid = screening.filter("is_valid", pl.col("benchmark_window").is_not_null())
    graded = with_grade(valid, memberships).select(
        *NORMS, "percentile", "is_valid", "first_export_at", "standard_error_unit", *_COLUMN_OF.values()
    )
    groups = graded.select(NORMS).unique().join(windows.select(*WINDOW, "reference_on"), on=WINDOW, how="left").cache()
    rules = rules_in_force(groups.select(*CASE, "reference_on").unique(), policies)
    wanted = (
        rules.filter(pl.col("by") == "percentile")
        .select(*CASE, percentile_cut=pl.concat_list(CUT_NAMES))
        .explode("percentile_cut")
        .drop_nulls("percentile_cut")
        .unique()
        .join(groups, on=CASE, nulls_equal=True)
        .cache()
    )
    key = [*NORMS, "percentile_cut"]
    derived = _derived(frozen(graded.filter(pl.col("percentile").is_not_null()), NORMS, policies), wanted)
    pinned = _pinned(wanted, policies)
    enough = (pl.col("pairs") >= PAIRS_MINIMUM) & pl.col("score_below").is_not_null()
    midpoint = pl.when(enough).then((pl.col("score_below") + pl.col("score_at_or_above")) / 2)
    is_pinned = pl.col("pinned_score").is_not_null()
    return (
        wanted.join(derived, on=key, how="left", nulls_equal=True)
        .join(pinned, on=key, how="left", nulls_equal=True)
        .select(
            *key,
            scale=pl.coalesce("pinned_scale", "scale"),
            cut_score=pl.coalesce("pinned_score", midpoint),
            source=pl.when(is_pinned)
            .then(pl.lit("pinned"))
            .when(midpoint.is_not_null())
            .then(pl.lit("derived"))
            .otherwise(pl.lit("unknown")),
            pairs=pl.col("pairs").fill_null(0),
            score_below="score_below",
            score_at_or_above="score_at_or_above",
            pinned_source="pinned_source",
        )
    )


def _derived(tests: pl.LazyFrame, wanted: pl.LazyFrame) -> pl.LazyFrame:
    """Scores on both sides of each cut and the tests near it: the isotonic fit of ``cut_scores``, by sums alone."""
    is_rasch = ((pl.col("standard_error_unit") == "rasch") & pl.col("rasch_score").is_not_null()).any().over(NORMS)
    points = (
        tests.with_columns(scale=pl.when(is_rasch).then(pl.lit("rasch")).otherwise(pl.lit("score")))
        .with_columns(value=pl.when(pl.col("scale") == "rasch").then("rasch_score").otherwise("score"))
        .filter(pl.col("value").is_finite())
        .group_by(*NORMS, "scale", "value", "percentile")
        .agg(tests=pl.len().cast(pl.Int64))
    )
    # Whole millionths of a percentile: sums are exact in any order.
    off = ((pl.col("percentile") - pl.col("percentile_cut")) * _MILLIONTHS).round().cast(pl.Int64)
    reach = int(PAIRS_NEAR * _MILLIONTHS)
    cut = [*NORMS, "percentile_cut", "scale"]
    by_score = (
        points.join(wanted.drop("reference_on"), on=NORMS, nulls_equal=True)
        .with_columns(off=off)
        .group_by(*cut, "value")
        .agg(
            above=(pl.col("off").clip(-reach, reach) * pl.col("tests")).sum(),
            pairs=pl.col("tests").filter(pl.col("off").abs() <= reach).sum(),
        )
    )
    edge = pl.when(pl.col("above") == pl.col("above").max().over(cut), pl.col("above") >= 0).then("value")
    return (
        by_score.with_columns(pl.col("above").cum_sum(reverse=True).over(cut, order_by="value"))
        .with_columns(score_at_or_above=edge.min().over(cut))
        .group_by(cut)
        .agg(
            pl.col("pairs").sum(),
            pl.col("score_at_or_above").first(),
            score_below=pl.col("value").filter(pl.col("value") < pl.col("score_at_or_above")).max(),
        )
    )


def _pinned(wanted: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """The pin of each cut that has one."""
    pins = pl.LazyFrame(
        [
            (
                district,
                pin.measure,
                pin.grade,
                pin.season,
                pin.norm_version,
                pin.percentile_below,
                pin.valid_from,
                pin.scale,
                pin.score,
                pin.source,
            )
            for district, policy in sorted(policies.items())
            for pin in policy.pinned_cuts
        ],
        schema={
            "district_id": pl.String,
            "measure": pl.String,
            "grade": pl.String,
            "benchmark_window": pl.String,
            "pinned_norms": pl.String,
            "percentile_cut": pl.Float64,
            "valid_from": pl.Date,
            "pinned_scale": pl.String,
            "pinned_score": pl.Float64,
            "pinned_source": pl.String,
        },
        orient="row",
    )
    key = [*NORMS, "percentile_cut"]
    return (
        wanted.join(pins, on=["district_id", "measure", "grade", "benchmark_window", "percentile_cut"])
        .filter(
            pl.col("pinned_norms").is_null() | (pl.col("pinned_norms") == pl.col("norm_version")),
            (pl.col("valid_from") <= pl.col("reference_on")).fill_null(True),
        )
        .sort(pl.col("pinned_norms").is_null(), "valid_from", descending=[False, True])
        .unique(key, keep="first", maintain_order=True)
        .select(*key, "pinned_scale", "pinned_score", "pinned_source")
    )


def p_below(cut: pl.Expr, score: pl.Expr, error: pl.Expr) -> pl.Expr:
    """Probability that a true score, normal around ``score`` with this error, is below the cut (METHOD 1.3)."""
    distance = (cut - score) / error
    return distance.map_batches(
        lambda z: pl.Series(special.ndtr(z.to_numpy()), nan_to_null=True),
        return_dtype=pl.Float64,
        is_elementwise=True,
    )


def drawn_to_mean(score: pl.Expr, error: pl.Expr, mean: pl.Expr, deviation: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Kelley's estimate of the true score and its error; null where the error is not below the deviation."""
    reliability = 1 - (error / deviation) ** 2
    is_reliable = pl.when(reliability > 0)
    return is_reliable.then(mean + reliability * (score - mean)), is_reliable.then(error * reliability.sqrt())


def with_probabilities(
    judged: pl.LazyFrame, cuts: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """Add the probabilities of being below the cuts, what they rest on, and why one is only 0 or 1.

    The error is that of the test, else the measure's by policy, in the scale of the cut. The knob `kelley` draws scores
    to the mean of the district's chosen tests of grade, window and measure, where there are 30 and their deviation is
    above the error. By a vendor's label, with the knob `none`, without an error (`sem_missing`) and at a cut without a
    score (`cut_unknown`) a probability is 0 or 1 by what was observed. It is null where the rule cannot say. Who is
    below the tier 3 cut is below the tier 2 cut: `p_tier_3` is at most `p_tier_2`.

    Args:
        judged: Chosen tests with need level and rule.
        cuts: ``CutScore`` rows.
        policies: Policy of each district.
    """
    rows = judged.cache()
    own = pl.when(pl.col("standard_error").is_finite() & (pl.col("standard_error") > 0)).then("standard_error")
    known = (
        rows.join(_cuts_of_cases(rows, cuts, policies), on=NORMS, how="left", nulls_equal=True)
        .join(_grades(rows, policies), on=CASE, how="left", nulls_equal=True)
        .with_columns(
            pl.when(pl.col("standard_error_unit") == scale).then(own).alias(f"own_{scale}") for scale in SCALES
        )
        .with_columns(each for name in _P_OF for each in _at_cut(name))
    )
    says, is_label = pl.col("need_level").is_not_null(), pl.col("by") == "placement"
    is_computed = says & ~is_label & (pl.col("probability") != "none")
    observed = {
        "tier_3_below": pl.col("need_level") == "tier_3",
        "tier_2_below": pl.col("need_level").is_in(["tier_2", "tier_3"]),
        "class_need_below": pl.col("is_in_need"),
    }
    chances = {
        to: pl.when(says).then(
            pl.coalesce(pl.when(is_computed).then(f"p_{name}"), observed[name].cast(pl.Float64)).round(9)
        )
        for name, to in _P_OF.items()
    }
    has_error = pl.any_horizontal(
        pl.col(f"{of}_{scale}").is_not_null() for of in ("own", "default") for scale in SCALES
    )
    lacks_score = pl.any_horizontal(pl.col(name).is_not_null() & pl.col(f"score_{name}").is_null() for name in _P_OF)
    lacks_chance = pl.any_horizontal(pl.col(name).is_not_null() & pl.col(f"p_{name}").is_null() for name in _P_OF)
    basis = pl.coalesce(*(f"basis_{name}" for name in ("tier_2_below", "class_need_below", "tier_3_below")))
    return known.with_columns(
        **chances,
        probability_basis=pl.when(is_computed)
        .then(basis.fill_null("none"))
        .when(says & is_label)
        .then(pl.lit("label"))
        .when(says)
        .then(pl.lit("none")),
        probability_flag=pl.when(is_computed).then(
            pl.when(has_error & lacks_score).then(pl.lit("cut_unknown")).when(lacks_chance).then(pl.lit("sem_missing"))
        ),
    ).with_columns(p_tier_3=pl.min_horizontal("p_tier_3", "p_tier_2"))


def _at_cut(name: str) -> list[pl.Expr]:
    """`p_{name}` and `basis_{name}`, both null where score or error of the cut is not known."""

    def on_scale(prefix: str, columns: Mapping[str, str] | None = None) -> pl.Expr:
        named = columns or {scale: f"{prefix}_{scale}" for scale in SCALES}
        return pl.coalesce(pl.when(pl.col(f"scale_{name}") == scale).then(named[scale]) for scale in SCALES)

    score, own = on_scale("", _COLUMN_OF), on_scale("own")
    error = pl.coalesce(own, on_scale("default"))
    drawn, drawn_error = drawn_to_mean(score, error, on_scale("mean"), on_scale("deviation"))
    cut = pl.col(f"score_{name}")
    p = p_below(cut, pl.coalesce(drawn, score), pl.coalesce(drawn_error, error))
    basis = (
        pl.when(cut.is_null() | score.is_null() | error.is_null())
        .then(None)
        .when(drawn.is_not_null())
        .then(pl.lit("kelley"))
        .when(own.is_not_null())
        .then(pl.lit("sem"))
        .otherwise(pl.lit("sem_default"))
    )
    return [p.alias(f"p_{name}"), basis.alias(f"basis_{name}")]


def _cuts_of_cases(judged: pl.LazyFrame, cuts: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Score and scale of each cut of the rule, the measure's own errors and the knob, by case and norms."""
    models = pl.LazyFrame(
        [(district, policy.tiers.probability) for district, policy in sorted(policies.items())],
        schema={"district_id": pl.String, "probability": pl.String},
        orient="row",
    )
    cases = judged.select(*NORMS, "reference_on", "by", *_P_OF).unique()
    found = cases.join(models, on="district_id", how="left")
    for name in _P_OF:
        at = cuts.select(*NORMS, pl.col("percentile_cut").alias(name), score_at="cut_score", scale_at="scale")
        is_score = pl.col("by") == "score"
        found = (
            found.join(at, on=[*NORMS, name], how="left", nulls_equal=True)
            .with_columns(
                pl.when(is_score).then(name).when(pl.col("by") == "percentile").then("score_at").alias(f"score_{name}"),
                pl.when(is_score).then(pl.lit("score")).otherwise("scale_at").alias(f"scale_{name}"),
            )
            .drop("score_at", "scale_at")
        )
    return found.join(_default_errors(cases, policies), on=NORMS, how="left", nulls_equal=True).drop(
        "reference_on", "by", *_P_OF
    )


def _default_errors(cases: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """`default_score` and `default_rasch`: the first error of the policy that is for the measure and valid."""
    errors = pl.LazyFrame(
        [
            (district, each.measure, order, each.scale, each.standard_error, each.valid_from)
            for district, policy in sorted(policies.items())
            for order, each in enumerate(policy.all_standard_errors)
        ],
        schema={
            "district_id": pl.String,
            "measure": pl.String,
            "order": pl.Int32,
            "error_scale": pl.String,
            "error": pl.Float64,
            "valid_from": pl.Date,
        },
        orient="row",
    )
    return (
        cases.join(errors, on=["district_id", "measure"])
        .filter((pl.col("valid_from") <= pl.col("reference_on")).fill_null(True))
        .sort("order")
        .group_by(NORMS, maintain_order=True)
        .agg(
            pl.col("error").filter(pl.col("error_scale") == scale).first().alias(f"default_{scale}") for scale in SCALES
        )
    )


def _grades(judged: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Mean and deviation of the chosen tests of each case, for districts with the knob `kelley`."""
    drawing = [district for district, policy in policies.items() if policy.tiers.probability == "kelley"]
    found = []
    for scale, column in _COLUMN_OF.items():
        values = pl.col(column).filter(pl.col(column).is_finite()).sort()  # sums of floats go by order
        is_many = values.len() >= KELLEY_TESTS
        found += [
            pl.when(is_many).then(values.mean().round(9)).alias(f"mean_{scale}"),
            pl.when(is_many).then(values.std().round(9)).alias(f"deviation_{scale}"),
        ]
    return judged.filter(pl.col("district_id").is_in(drawing)).group_by(CASE).agg(found)
