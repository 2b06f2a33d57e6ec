"""Class decisions: student, classroom or system, or not enough data to say (METHOD 3)."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import ClassDecision
from transforms.classes import (
    DISTRICT_GRADE,
    SCHOOL_GRADE,
    WINDOW,
    count_classes,
    exceeds,
    in_scope,
    reaches,
    season_rank,
    share,
    with_need_cuts,
    with_rules,
)
from transforms.intervals import jeffreys, p_above, p_greater

POOLED_CLASSES = 2
"""Classes that make a grade more than one class."""
GUIDANCE_BANDS = ((10, "<10"), (20, "10-20"))
"""Colorado's own percents, not knobs: below 10; 10 to 20, both ends in; above 20."""

LEVEL_OF = {
    "blocking_check_failed": "SYSTEM_DATA",
    "grade_coverage_low": "SYSTEM_DATA",
    "many_classes_coverage_low": "SYSTEM_DATA",
    "nobody_enrolled": "TOO_SMALL",
    "class_coverage_low": "LOW_COVERAGE",
    "few_tested": "TOO_SMALL",
    "grade_and_class_above": "SYSTEM+CLASSROOM",
    "grade_above": "SYSTEM",
    "only_class_of_grade": "CLASSROOM_OR_SYSTEM",
    "class_above": "CLASSROOM",
    "nobody_in_need": "NONE",
    "probably_above": "WATCH",
    "not_above": "STUDENT",
}
"""Every rule that can decide, and the level it gives."""
NOT_REGULAR = "section_not_regular"
"""Reason of a remedial or advanced section: it is judged alone, so its level is NONE, WATCH or STUDENT."""


def class_decisions(
    memberships: pl.LazyFrame,
    needs: pl.LazyFrame,
    quality: pl.LazyFrame,
    policies: Mapping[str, DistrictPolicy],
) -> pl.DataFrame:
    """Decide every math class, for each measure and window in scope.

    Counted are the members of a class who are neither mobile nor take an alternate assessment; tested are those
    of them whose need the cut rule can tell, wherever they sat the test. A measure whose rule tells nobody's
    need makes no rows. Data are judged over all classes of a school's grade, need only over regular sections:
    a remedial or advanced section is judged alone. A share that is exactly a threshold reaches it; "above" is
    strictly above. Whatever has no students behind it is null.

    Args:
        memberships: ``ClassMembership`` rows.
        needs: ``NeedLevel`` rows.
        quality: ``QualityResult`` rows; the failed blocking ones of a school make its classes SYSTEM_DATA.
        policies: Policy of each district.

    Returns:
        ``ClassDecision`` rows without ``input_id``.

    Raises:
        UnknownDistrict: a district with classes has no policy.
    """
    counted = with_rules(count_classes(memberships, needs).collect(engine="streaming"), policies)
    counted = with_need_cuts(counted, policies)
    rows = pool(in_scope(counted), quality)
    decided = decide(judge(rows))
    wanted = {name: dtype for name, dtype in columns(ClassDecision).items() if name != "input_id"}
    return decided.sort("district_id", "school_year", season_rank(), "measure", "school_id", "class_id").select(
        pl.col(name).cast(dtype) for name, dtype in wanted.items()
    )


def pool(rows: pl.DataFrame, quality: pl.LazyFrame) -> pl.DataFrame:
    """Mark what the data allow and pool the evaluable regular classes of each school's grade and of the district's."""
    enrolled, tested = pl.col("enrolled"), pl.col("tested")
    covered = (enrolled > 0) & reaches(tested, enrolled, "coverage_minimum")
    enough = tested >= pl.col("class_minimum")
    marked = rows.with_columns(
        is_regular=pl.col("section_type") == "regular",
        is_low=(enrolled > 0) & ~covered,
        is_small=((enrolled == 0) | covered) & ~enough,
        is_pooled=covered & enough & (pl.col("section_type") == "regular"),
    )
    grades = marked.group_by(SCHOOL_GRADE).agg(
        low_classes=pl.col("is_low").sum().cast(pl.Int64),
        large_classes=(~pl.col("is_small")).sum().cast(pl.Int64),
        regular_classes=(pl.col("is_regular") & (pl.col("enrolled") > 0)).sum().cast(pl.Int64),
        pooled_classes=pl.col("is_pooled").sum().cast(pl.Int64),
        grade_tested=pl.col("tested").filter(pl.col("is_pooled")).sum(),
        grade_in_need=pl.col("in_need").filter(pl.col("is_pooled")).sum(),
    )
    grades = grades.with_columns(
        district_tested=pl.col("grade_tested").sum().over(DISTRICT_GRADE),
        district_in_need=pl.col("grade_in_need").sum().over(DISTRICT_GRADE),
    )
    return (
        marked.join(grades, on=SCHOOL_GRADE, nulls_equal=True)
        .join(blocked_schools(quality).collect(), on=["district_id", "school_year", "school_id"], how="left")
        .with_columns(pl.col("is_blocked").fill_null(value=False))
    )


def blocked_schools(quality: pl.LazyFrame) -> pl.LazyFrame:
    """Schools with a failed blocking rule."""
    return (
        quality.filter("is_blocking", ~pl.col("is_passed"), pl.col("school_id").is_not_null())
        .select("district_id", "school_year", "school_id")
        .unique()
        .with_columns(is_blocked=pl.lit(value=True))
    )


def judge(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the probabilities of each class and the flagged set: the one place that knows the prior.

    The prior is Jeffreys' for each class by itself. Flagged are, per district, measure and window, the classes
    whose mean probability of being wrongly flagged stays within ``false_discovery``, that reach
    ``flag_probability`` and whose own share is above tau; equal probabilities stand or fall together.
    """
    y, n, tau = (rows[name].to_numpy() for name in ("in_need", "tested", "tau"))
    grade_y, grade_n = (rows[name].to_numpy() for name in ("grade_in_need", "grade_tested"))
    all_y, all_n = (rows[name].to_numpy() for name in ("district_in_need", "district_tested"))
    pooled = rows["is_pooled"].to_numpy()
    alone = grade_n - n * pooled == 0
    rest_y, rest_n = np.where(alone, all_y, grade_y) - y, np.where(alone, all_n, grade_n) - n
    compared = pooled & (rest_n > 0)
    peers = np.full(len(rows), np.nan)
    mine, rest = (y[compared], n[compared]), (rest_y[compared], rest_n[compared])
    peers[compared] = p_greater(mine[0] + 0.5, mine[1] - mine[0] + 0.5, rest[0] + 0.5, rest[1] - rest[0] + 0.5)
    low, high = jeffreys(y, n)
    found = {
        "interval_low": low,
        "interval_high": high,
        "p_above": p_above(y, n, tau),
        "p_grade_above": p_above(grade_y, grade_n, tau),
        "p_above_peers": peers,
    }
    # Nine decimals: what a vector unit does to the last bit depends on where in an array a row stands.
    judged = rows.with_columns(pl.Series(name, values.round(9), nan_to_null=True) for name, values in found.items())
    family = [*WINDOW, "measure", "is_pooled"]
    wrong = (1 - pl.col("p_above")).cum_sum().over(family, order_by="p_above", descending=True)
    rank = pl.col("p_above").rank("ordinal", descending=True).over(family)
    return (
        judged.with_columns(wrong=wrong / rank)
        .with_columns(wrong=pl.col("wrong").max().over([*family, "p_above"]))
        .with_columns(
            is_flagged=(
                pl.col("is_pooled")
                & (pl.col("wrong") <= pl.col("false_discovery"))
                & (pl.col("p_above") >= pl.col("flag_probability"))
                & exceeds(pl.col("in_need"), pl.col("tested"), "tau")
            ).fill_null(value=False)
        )
        .drop("wrong")
    )


def decide(rows: pl.DataFrame) -> pl.DataFrame:
    """The level of each class and the rule that gave it (METHOD 3.6), with the shares shown beside it."""
    y, n, enrolled = pl.col("in_need"), pl.col("tested"), pl.col("enrolled")
    missing = enrolled - n
    probable = pl.col("p_above") >= pl.col("watch_probability")
    high = pl.col("is_pooled") & probable & exceeds(y, n, "tau")
    has_grade = pl.col("grade_enrolled") > 0
    system = (
        (pl.col("pooled_classes") >= POOLED_CLASSES)
        & (pl.col("p_grade_above") >= pl.col("system_probability"))
        & exceeds(pl.col("high_classes"), pl.col("pooled_classes"), "high_share")
        & pl.col("is_regular")
    )
    outlier = pl.col("is_flagged") & (pl.col("p_above_peers") >= pl.col("outlier_probability"))
    thin = has_grade & ~reaches(pl.col("grade_results"), pl.col("grade_enrolled"), "school_coverage_minimum")
    rule = (
        pl.when("is_blocked")
        .then(pl.lit("blocking_check_failed"))
        .when(thin)
        .then(pl.lit("grade_coverage_low"))
        .when(exceeds(pl.col("low_classes"), pl.col("large_classes"), "low_coverage_share"))
        .then(pl.lit("many_classes_coverage_low"))
        .when(enrolled == 0)
        .then(pl.lit("nobody_enrolled"))
        .when("is_low")
        .then(pl.lit("class_coverage_low"))
        .when("is_small")
        .then(pl.lit("few_tested"))
        .when(system & outlier)
        .then(pl.lit("grade_and_class_above"))
        .when(system)
        .then(pl.lit("grade_above"))
        .when(pl.col("is_flagged") & (pl.col("regular_classes") == 1))
        .then(pl.lit("only_class_of_grade"))
        .when("is_flagged")
        .then(pl.lit("class_above"))
        .when(y == 0)
        .then(pl.lit("nobody_in_need"))
        .when(probable)
        .then(pl.lit("probably_above"))
        .otherwise(pl.lit("not_above"))
    )
    (low_percent, low_name), (high_percent, high_name) = GUIDANCE_BANDS
    band = (
        pl.when(n == 0)
        .then(None)
        .when(y * 100 < n * low_percent)
        .then(pl.lit(low_name))
        .when(y * 100 <= n * high_percent)
        .then(pl.lit(high_name))
        .otherwise(pl.lit(">20"))
    )
    verdict = (
        pl.when(enrolled == 0)
        .then(None)
        .when(exceeds(y, enrolled, "tau"))
        .then(pl.lit("above"))
        .when(~exceeds(y + missing, enrolled, "tau"))
        .then(pl.lit("not_above"))
        .otherwise(pl.lit("ambiguous"))
    )
    return (
        rows.with_columns(high_classes=high.sum().over(SCHOOL_GRADE).cast(pl.Int64), at_worst=y + missing)
        .with_columns(
            rule=rule,
            coverage=share("tested", "enrolled"),
            need_share=share("in_need", "tested"),
            grade_coverage=share("grade_results", "grade_enrolled"),
            bound_low=share("in_need", "enrolled"),
            bound_high=share("at_worst", "enrolled"),
            guidance_band=band,
            bound_verdict=verdict,
        )
        .with_columns(level=pl.col("rule").replace_strict(LEVEL_OF, return_dtype=pl.String))
        .with_columns(
            reason=pl.when(~pl.col("is_regular") & pl.col("level").is_in(["NONE", "WATCH", "STUDENT"]))
            .then(pl.lit(NOT_REGULAR))
            .otherwise("rule")
        )
    )
