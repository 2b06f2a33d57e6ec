"""What an intervention is associated with: gains less regression to the mean, and comparisons where they are fair."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy import special

from schemas.contract import conform
from schemas.policy import DistrictPolicy, ResponseRule
from schemas.projections import SEASONS, InterventionEffect
from transforms.intervals import Floats
from transforms.matching import nearest_pairs

YEAR = ("district_id", "school_year")
SPAN = ("before_window", "after_window")
FIELD = (*YEAR, "measure", "grade", *SPAN)
"""Students who can be compared with one another."""
EFFECT = (*YEAR, "intervention", "tier", "measure", *SPAN)
CYCLE = (*YEAR, "school_id", "cycle_id")
TOLERANCE = 1e-9
_Z = float(special.ndtri(0.975))


def intervention_effects(
    tests: pl.DataFrame,
    needs: pl.DataFrame,
    cycles: pl.DataFrame,
    outcomes: pl.DataFrame,
    policies: Mapping[str, DistrictPolicy],
) -> pl.DataFrame:
    """What each intervention is associated with on the screening measures (METHOD 2.5): never more than that.

    A student is served between two windows when tested before joining a cycle and after leaving it or its close;
    of several tests the nearest on either side count. Who never came, and who was in a cycle that was abandoned,
    is served: what is asked is what offering the intervention is associated with. Who was in no cycle of any
    intervention between the two tests can be compared with.

    Args:
        tests: ``ScreeningResult`` rows.
        needs: ``NeedLevel`` rows.
        cycles: ``Cycle`` rows.
        outcomes: ``CycleOutcome`` rows.
        policies: Policy of each district; a district without one is judged by the defaults.

    Returns:
        ``InterventionEffect`` rows without ``input_id``.
    """
    asked = needs.lazy().join(outcomes.lazy().select(YEAR).unique(), on=YEAR, how="semi")
    tested = _tested_twice(tests.lazy(), asked).collect()
    rules = _rules(tested, policies)
    tested = tested.join(_fields(tested, rules), on=FIELD, how="left", nulls_equal=True)
    stays = _stays(cycles, outcomes)
    served = _served(tested, stays)
    free = tested.join(_touched(tested, stays), on="gap", how="anti")
    made = (
        _gains(served, policies)
        .join(rules, on="district_id", how="left")
        .join(_at_the_cut(tested, served, rules), on=EFFECT, how="left", nulls_equal=True)
        .join(_matched(served, free, rules), on=EFFECT, how="left", nulls_equal=True)
        .with_columns(pl.col("pairs").fill_null(0), gain_label=pl.lit("descriptive"))
        .with_columns(cut_refusal=_cut_refusal(), match_refusal=_match_refusal())
        .with_columns(method=_method())
        .with_columns(_chosen("effect"), _chosen("effect_standard_error"))
        .with_columns(
            effect_low=pl.col("effect") - _Z * pl.col("effect_standard_error"),
            effect_high=pl.col("effect") + _Z * pl.col("effect_standard_error"),
        )
        .with_columns(statement=_statement())
    )
    return conform(made.lazy(), InterventionEffect).drop("input_id").sort(EFFECT, nulls_last=True).collect()


def regression_to_the_mean(share: ArrayLike, correlation: ArrayLike, deviation: ArrayLike) -> Floats:
    """Gain without any effect of a group chosen below a cut: (1 - r) SD phi(z) / Phi(z) (METHOD 2.5).

    Args:
        share: Share of all students below the cut, above 0 and below 1; elsewhere the gain is not a number.
        correlation: Of the scores of all students before and after.
        deviation: Standard deviation of all students before.
    """
    p = np.asarray(share, np.float64)
    p = np.where((p > 0) & (p < 1), p, np.nan)
    density = np.exp(-(special.ndtri(p) ** 2) / 2) / np.sqrt(2 * np.pi)
    gain: Floats = (1 - np.asarray(correlation, np.float64)) * np.asarray(deviation, np.float64) * density / p
    return gain


def hedges_g(pairs: pl.DataFrame, by: Sequence[str], within: Sequence[str] = ()) -> pl.DataFrame:
    """Difference of two equally large groups in standard deviations, corrected for small samples (Hedges 1981).

    The deviation is pooled within the strata and arms, so that grades of different level do not widen it. The
    adjusted difference is that of two parallel lines over the scores before; its error is left as wide as the plain
    one's.

    Args:
        pairs: ``before``, ``after``, ``before_pool``, ``after_pool``; one row per pair.
        by: Columns of a comparison.
        within: Columns of a stratum of it.

    Returns:
        Per comparison ``pairs``, ``baseline_g``, ``g`` and ``adjusted_g`` with their errors; null without spread.
    """
    names = ("before", "after", "before_pool", "after_pool")

    def products(one: str, other: str) -> pl.Expr:
        return ((pl.col(one) - pl.col(one).mean()) * (pl.col(other) - pl.col(other).mean())).sum()

    strata = (
        pairs.sort(*by, *within, *names, nulls_last=True)
        .group_by(*by, *within, maintain_order=True)
        .agg(
            pairs=pl.len().cast(pl.Int64),
            moved=(pl.col("after") - pl.col("after_pool")).sum(),
            began=(pl.col("before") - pl.col("before_pool")).sum(),
            squares_after=products("after", "after") + products("after_pool", "after_pool"),
            squares_before=products("before", "before") + products("before_pool", "before_pool"),
            crossed=products("before", "after") + products("before_pool", "after_pool"),
        )
    )
    total = strata.group_by(by, maintain_order=True).agg(
        pl.col("pairs", "moved", "began", "squares_after", "squares_before", "crossed").sum(),
        freedom=2 * pl.col("pairs").sum() - 2 * pl.len().cast(pl.Int64),
    )
    freedom, n = pl.col("freedom"), pl.col("pairs")
    corrected = 1 - 3 / (4 * freedom - 1)

    def in_deviations(difference: pl.Expr, squares: str) -> pl.Expr:
        spread = pl.when((freedom > 0) & (pl.col(squares) > TOLERANCE)).then((pl.col(squares) / freedom).sqrt())
        return (corrected * difference / n / spread).round(9)

    slope = pl.col("crossed") / pl.when(pl.col("squares_before") > TOLERANCE).then("squares_before")

    def error(g: str) -> pl.Expr:
        return (2 / n + pl.col(g) ** 2 / (4 * n)).sqrt()

    return total.select(
        *by,
        "pairs",
        baseline_g=in_deviations(pl.col("began"), "squares_before"),
        g=in_deviations(pl.col("moved"), "squares_after"),
        adjusted_g=in_deviations(pl.col("moved") - slope * pl.col("began"), "squares_after"),
    ).with_columns(g_standard_error=error("g"), adjusted_g_standard_error=error("adjusted_g"))


def _tested_twice(tests: pl.LazyFrame, needs: pl.LazyFrame) -> pl.LazyFrame:
    """Students with a counted test of one measure in two windows of a school year; the grade is that before.

    Each such gap between two tests has a number, `gap`.
    """
    season = pl.col("benchmark_window").replace_strict(
        {name: place for place, name in enumerate(SEASONS)}, return_dtype=pl.Int8
    )
    given = tests.select("district_id", "natural_key", "occurred_on", "school_id")
    scored = (
        needs.filter((pl.col("status") == "tested") & pl.col("score").is_finite())
        .join(given, on=["district_id", "natural_key"])
        .filter(pl.col("occurred_on").is_not_null())
        .select(
            *(*YEAR, "subject_key", "measure", "grade", "school_id", "need_level"),
            season=season,
            before_window="benchmark_window",
            before="score",
            before_on="occurred_on",
        )
        .cache()
    )
    later = scored.select(
        *(*YEAR, "subject_key", "measure"),
        after_season="season",
        after_window="before_window",
        after="before",
        after_on="before_on",
    )
    return (
        scored.join(later, on=[*YEAR, "subject_key", "measure"])
        .filter(pl.col("season") < pl.col("after_season"))
        .with_row_index("gap")
    )


def _rules(tested: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Numbers of the response rule, one row per district."""
    rules = {
        district: policies[district].responses if district in policies else ResponseRule()
        for district in tested["district_id"].unique().sort()
    }
    whole = ("norm_pairs", "pairs_minimum")
    shares = ("caliper", "baseline_alike", "baseline_refused", "follows_cut", "cut_bandwidth")
    return pl.DataFrame(
        [{"district_id": district} | rule.model_dump(include={*whole, *shares}) for district, rule in rules.items()],
        schema={"district_id": pl.String, **dict.fromkeys(whole, pl.Int64), **dict.fromkeys(shares, pl.Float64)},
    )


def _fields(tested: pl.DataFrame, rules: pl.DataFrame) -> pl.DataFrame:
    """Each `field` by number: spread, correlation and shares below the cuts, none below the pairs the policy asks for.

    A cut lies between the highest score below it and the lowest that is not; where these cross it has no place on
    the scale of the measure.
    """
    is_judged = pl.col("need_level").is_not_null()
    made: dict[str, pl.Expr] = {}
    for tier, levels in ((2, ["tier_2", "tier_3"]), (3, ["tier_3"])):
        is_below = pl.col("need_level").is_in(levels)
        highest = pl.col("before").filter(is_below).max()
        lowest = pl.col("before").filter(is_judged & ~is_below).min()
        made[f"share_{tier}"] = is_below.filter(is_judged).mean()
        made[f"cut_{tier}"] = pl.when(highest < lowest).then((highest + lowest) / 2)
    names = ["correlation", "deviation", "deviation_after", "mean_after", *made]
    return (
        tested.select(*FIELD, "subject_key", "before", "after", "need_level")
        .sort("subject_key")  # sums of floats go by order
        .group_by(FIELD, maintain_order=True)
        .agg(
            students=pl.len().cast(pl.Int64),
            correlation=pl.corr("before", "after").round(9),
            deviation=pl.col("before").std().round(9),
            deviation_after=pl.col("after").std().round(9),
            mean_after=pl.col("after").mean().round(9),
            **made,
        )
        .join(rules.select("district_id", "norm_pairs"), on="district_id")
        .with_columns(
            pl.when(pl.col("students") >= pl.col("norm_pairs")).then(pl.col(name)).alias(name) for name in names
        )
        .with_columns(pl.col("correlation").fill_nan(None))
        .select(*FIELD, *names)
        .with_row_index("field")
    )


def _stays(cycles: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Members of cycles, from joining to leaving or the close; a null end is not over."""
    named = cycles.select(*CYCLE, "intervention", "tier", "opened_on", "closed_on")
    return outcomes.join(named, on=CYCLE, nulls_equal=True).select(
        *(*YEAR, "subject_key", "school_id", "cycle_id", "intervention", "tier"),
        from_on=pl.coalesce("joined_on", "opened_on"),
        to_on=pl.coalesce("left_on", "closed_on"),
    )


def _served(tested: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Students served between two windows, once per intervention and tier, with the nearest tests around."""
    member = [*CYCLE, "subject_key", "measure"]
    near = (pl.col("season") == pl.col("season").max().over(member)) & (
        pl.col("after_season") == pl.col("after_season").min().over(member)
    )
    return (
        tested.rename({"school_id": "tested_at"})
        .join(stays, on=[*YEAR, "subject_key"])
        .filter((pl.col("before_on") <= pl.col("from_on")) & (pl.col("after_on") >= pl.col("to_on")))
        .filter(near)
        .unique([*EFFECT, "subject_key"], keep="any")
        .select(*EFFECT, "grade", "gap", "field", "subject_key", "tested_at", *_CARRIED)
        .sort(*EFFECT, "grade", "before", "after", "subject_key", nulls_last=True)
    )


_CARRIED = ("before", "after", "correlation", "deviation", "share_2", "share_3")


def _touched(tested: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Gaps between two tests in which the student was in any cycle."""
    is_over = pl.col("to_on") < pl.col("before_on")
    return (
        tested.select("gap", *YEAR, "subject_key", "before_on", "after_on")
        .join(stays.select(*YEAR, "subject_key", "from_on", "to_on"), on=[*YEAR, "subject_key"])
        .filter((pl.col("from_on") <= pl.col("after_on")) & ~is_over.fill_null(value=False))
        .select("gap")
    )


def _gains(served: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Mean gain of each served group, less what regression to the mean and normal growth bring without any effect."""
    share = pl.when(pl.col("tier") == 3).then("share_3").otherwise("share_2")
    rows = served.with_columns(share=share).join(
        _norms(policies), on=["district_id", "measure", "grade", *SPAN], how="left"
    )
    drift = regression_to_the_mean(*(rows[name].to_numpy() for name in ("share", "correlation", "deviation")))
    gain = pl.col("after") - pl.col("before")
    known = pl.Series("drift", np.round(drift, 9)).fill_nan(None)
    return (
        rows.with_columns(known, gain=gain)
        .group_by(EFFECT, maintain_order=True)
        .agg(
            students=pl.len().cast(pl.Int64),
            mean_before=pl.col("before").mean(),
            mean_after=pl.col("after").mean(),
            gain=pl.col("gain").mean(),
            regression_students=pl.col("drift").count().cast(pl.Int64),
            expected_regression=pl.col("drift").mean(),
            gain_less_regression=(pl.col("gain") - pl.col("drift")).mean(),
            norm_students=(pl.col("drift") + pl.col("norm")).count().cast(pl.Int64),
            norm_growth=pl.col("norm").mean(),
            gain_less_regression_and_norm=(pl.col("gain") - pl.col("drift") - pl.col("norm")).mean(),
        )
        .with_columns(pl.selectors.float().round(9))
    )


def _norms(policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    rows = [
        (district, norm.measure, grade, norm.before, norm.after, norm.points)
        for district, policy in sorted(policies.items())
        for norm in policy.responses.growth_norms
        for grade in norm.grades
    ]
    names = ("district_id", "measure", "grade", *SPAN)
    schema = {**dict.fromkeys(names, pl.String), "norm": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").unique(names, keep="first", maintain_order=True)


def _matched(served: pl.DataFrame, free: pl.DataFrame, rules: pl.DataFrame) -> pl.DataFrame:
    """Matched comparison of each effect: pairs, their difference before, plain or adjusted difference after."""
    own = [*EFFECT, "grade"]
    cells = served.select(*own, "field").unique().sort(own, nulls_last=True).with_row_index("cell")
    treated = (
        served.filter(pl.col("deviation") > 0)
        .join(cells, on=own, nulls_equal=True)
        .join(rules.select("district_id", "caliper"), on="district_id")
        .select("cell", key="subject_key", score="before", reach=pl.col("caliper") * pl.col("deviation"))
    )
    known = cells.filter(pl.col("grade").is_not_null()).select("cell", "field")
    pool = free.select("field", key="subject_key", score="before").join(known, on="field").drop("field")
    after = free.select("field", key_pool="subject_key", before_pool="before", after_pool="after")
    pairs = (
        nearest_pairs(treated, pool)
        .join(cells, on="cell")
        .join(
            served.rename({"subject_key": "key"}).select(*own, "key", "before", "after"),
            on=[*own, "key"],
            nulls_equal=True,
        )
        .join(after, on=["field", "key_pool"])
    )
    return hedges_g(pairs, EFFECT, ("grade",))


def _at_the_cut(tested: pl.DataFrame, served: pl.DataFrame, rules: pl.DataFrame) -> pl.DataFrame:
    """Jump of the scores after, at the cut of the scores before, where students were served as the cut says.

    Everyone judged in the school-grades that used the intervention counts. The share that follows the cut is the
    smaller of the served below it and the unserved above it: where few are below, the others alone would make it
    look followed. Scores after are in standard deviations of their grade; below less above; a local line each side.
    """
    effects = served.select(EFFECT).unique().with_row_index("effect")
    mine = served.join(effects, on=EFFECT, nulls_equal=True)
    is_tier_3 = pl.col("tier") == 3
    is_below = (
        pl.when(is_tier_3)
        .then(pl.col("need_level") == "tier_3")
        .otherwise(pl.col("need_level").is_in(["tier_2", "tier_3"]))
    )
    rows = (
        tested.lazy()
        .filter(pl.col("need_level").is_not_null())
        .rename({"school_id": "tested_at"})
        .join(
            mine.lazy().select("effect", "tier", "field", "tested_at").unique(),
            on=["field", "tested_at"],
            nulls_equal=True,
        )
        .join(mine.lazy().select("effect", "gap", is_served=pl.lit(value=True)), on=["effect", "gap"], how="left")
        .join(rules.lazy().select("district_id", "cut_bandwidth"), on="district_id")
        .select(
            *("effect", "subject_key", "cut_bandwidth"),
            pl.col("is_served").fill_null(value=False),
            is_below=is_below,
            x=(pl.col("before") - pl.when(is_tier_3).then("cut_3").otherwise("cut_2")) / pl.col("deviation"),
            y=(pl.col("after") - pl.col("mean_after")) / pl.col("deviation_after"),
        )
        .collect()
    )
    follows = rows.group_by("effect").agg(
        follows_cut_share=pl.min_horizontal(
            pl.col("is_served").filter("is_below").mean(), (~pl.col("is_served")).filter(~pl.col("is_below")).mean()
        )
    )
    is_close = (pl.col("x").abs() <= pl.col("cut_bandwidth")) & pl.col("y").is_finite()
    close = rows.filter(is_close).sort("effect", "x", "y", "subject_key")
    sides = _line_at_zero(close, ["effect", "is_below"])
    below, above = (sides.filter(pl.col("is_below") == side).drop("is_below") for side in (True, False))
    jump = below.join(above, on="effect", suffix="_above").select(
        "effect",
        cut_students=pl.col("n") + pl.col("n_above"),
        cut_side_students=pl.min_horizontal("n", "n_above"),
        cut_effect=pl.col("height") - pl.col("height_above"),
        cut_effect_standard_error=(pl.col("variance") + pl.col("variance_above")).sqrt(),
    )
    return effects.join(follows.join(jump, on="effect", how="left"), on="effect").drop("effect")


def _line_at_zero(rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Height of each group's straight line at x = 0 and its variance; null below 3 rows or where every x is one."""
    dx, dy = pl.col("x") - pl.col("x").mean(), pl.col("y") - pl.col("y").mean()
    sxx = pl.when(pl.col("sxx") > TOLERANCE).then("sxx")
    slope, n = pl.col("sxy") / sxx, pl.col("n")
    squares = (pl.col("syy") - pl.col("sxy") ** 2 / sxx).clip(lower_bound=0) / pl.when(n > 2).then(n - 2)
    return (
        rows.group_by(by, maintain_order=True)
        .agg(
            pl.col("x", "y").mean(),
            n=pl.len().cast(pl.Int64),
            sxx=(dx * dx).sum(),
            sxy=(dx * dy).sum(),
            syy=(dy * dy).sum(),
        )
        .select(
            *by,
            "n",
            height=(pl.col("y") - slope * pl.col("x")).round(9),
            variance=squares * (1 / n + pl.col("x") ** 2 / sxx),
        )
    )


def _cut_refusal() -> pl.Expr:
    return (
        pl.when(pl.col("follows_cut_share").is_null())
        .then(pl.lit("cut_unknown"))
        .when(pl.col("follows_cut_share") < pl.col("follows_cut") - TOLERANCE)
        .then(pl.lit("cut_not_followed"))
        .when(pl.col("cut_side_students").fill_null(0) < pl.col("pairs_minimum"))
        .then(pl.lit("too_few_at_the_cut"))
        .when(pl.col("cut_effect_standard_error").is_null())
        .then(pl.lit("no_spread"))
    )


def _match_refusal() -> pl.Expr:
    return (
        pl.when(pl.col("pairs") < pl.col("pairs_minimum"))
        .then(pl.lit("too_few_pairs"))
        .when(pl.col("baseline_g").is_null() | pl.col("g").is_null())
        .then(pl.lit("no_spread"))
        .when(pl.col("baseline_g").abs() > pl.col("baseline_refused") + TOLERANCE)
        .then(pl.lit("baseline_differs"))
    )


def _method() -> pl.Expr:
    is_alike = pl.col("baseline_g").abs() <= pl.col("baseline_alike") + TOLERANCE
    return (
        pl.when(pl.col("cut_refusal").is_null())
        .then(pl.lit("regression_discontinuity"))
        .when(pl.col("match_refusal").is_not_null())
        .then(pl.lit("none"))
        .when(is_alike)
        .then(pl.lit("matched"))
        .otherwise(pl.lit("matched_and_adjusted"))
    )


def _chosen(name: str) -> pl.Expr:
    suffix = name.removeprefix("effect")
    return (
        pl.when(pl.col("method") == "regression_discontinuity")
        .then(f"cut_effect{suffix}")
        .when(pl.col("method") == "matched")
        .then(f"g{suffix}")
        .when(pl.col("method") == "matched_and_adjusted")
        .then(f"adjusted_g{suffix}")
        .round(9)
        .alias(name)
    )


def _statement() -> pl.Expr:
    """The effect in words: associated with, never more."""
    low, high = pl.col("effect_low").round(2), pl.col("effect_high").round(2)
    numbers = (pl.col("effect").round(2), low, high, pl.col("measure"))
    told = pl.format("Associated with {} standard deviations (95 % interval {} to {}) on {}", *numbers)
    return (
        pl.when(pl.col("method") == "regression_discontinuity")
        .then(pl.format("{}: students just below the cut beside students just above it.", told))
        .when(pl.col("method") != "none")
        .then(pl.format("{}: {} pairs of students alike before.", told, "pairs"))
        .otherwise(pl.lit("No fair comparison; the gain is descriptive."))
    )
