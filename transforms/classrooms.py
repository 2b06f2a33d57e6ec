"""Class decisions: student, classroom or system, or not enough data to say (METHOD 3)."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns, empty
from schemas.policy import DistrictPolicy
from schemas.projections import ClassDecision, QualityResult
from transforms.class_priors import NETWORK, with_posteriors
from transforms.classes import (
    CLASS,
    DISTRICT_GRADE,
    SCHOOL_GRADE,
    WINDOW,
    class_sensitivity,
    count_classes,
    exceeds,
    in_scope,
    reaches,
    season_rank,
    share,
    with_need_cuts,
    with_rules,
)
from transforms.discovery import believed, discovered
from transforms.intervals import jeffreys, p_above
from transforms.persistence import STANDING

LENDING = ("district_id", "school_id", "section_type", "in_need", "tested", "tau", "is_evaluable")
"""What a fit over all districts of a home needs to know of a class, beside ``NETWORK``."""
ADDED_LATER = ("input_id", "topic_breadth", "topics", *STANDING)
"""Columns of a decision that come from strands and from other windows."""
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
    network: pl.DataFrame | None = None,
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
        network: ``network_priors`` of all districts of the home, for grades too small to fit; absent: none is lent.

    Returns:
        ``ClassDecision`` rows without ``ADDED_LATER``.

    Raises:
        UnknownDistrict: a district with classes has no policy.
    """
    rows = _judgeable(memberships, needs, quality, policies)
    wanted = {name: dtype for name, dtype in columns(ClassDecision).items() if name not in ADDED_LATER}
    if rows.is_empty():
        return pl.DataFrame(schema=wanted)
    decided = decide(judge(rows, network)).join(
        class_sensitivity(memberships, needs, rows), on=[*CLASS, "measure"], how="left"
    )
    return decided.sort("district_id", "school_year", season_rank(), "measure", "school_id", "class_id").select(
        pl.col(name).cast(dtype) for name, dtype in wanted.items()
    )


def evaluable_classes(
    memberships: pl.LazyFrame, needs: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    """The regular classes with enough results, as ``network_priors`` reads them, before anything is decided."""
    rows = _judgeable(memberships, needs, empty(QualityResult).lazy(), policies).filter("is_pooled")
    return rows.select(*NETWORK, *LENDING)


def _judgeable(
    memberships: pl.LazyFrame, needs: pl.LazyFrame, quality: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    counted = with_rules(count_classes(memberships, needs).collect(engine="streaming"), policies)
    return pool(in_scope(with_need_cuts(counted, policies)), quality)


def pool(rows: pl.DataFrame, quality: pl.LazyFrame) -> pl.DataFrame:
    """Mark what the data allow and pool the evaluable regular classes of each school's grade and of the district's."""
    enrolled, tested = pl.col("enrolled"), pl.col("tested")
    covered = (enrolled > 0) & reaches(tested, enrolled, "coverage_minimum")
    enough = tested >= pl.col("class_minimum")
    marked = rows.with_columns(
        is_regular=pl.col("section_type") == "regular",
        is_low=(enrolled > 0) & ~covered,
        is_small=((enrolled == 0) | covered) & ~enough,
        is_evaluable=covered & enough,
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


def judge(rows: pl.DataFrame, network: pl.DataFrame | None = None) -> pl.DataFrame:
    """Add the probabilities of each class under its prior, its interval, and the flagged set.

    Flagged are, per district, measure and window, the classes that the rule of false discovery believes, that reach
    ``flag_probability`` and whose own share is above tau: a prior convicts no low class.
    """
    low, high = jeffreys(rows["in_need"], rows["tested"])
    judged = with_posteriors(
        rows.with_columns(
            interval_low=pl.Series(low.round(9), nan_to_null=True),
            interval_high=pl.Series(high.round(9), nan_to_null=True),
        ),
        network,
    )
    family = [*WINDOW, "measure", "is_pooled"]
    own = exceeds(pl.col("in_need"), pl.col("tested"), "tau") & pl.col("is_pooled")
    return judged.with_columns(
        believed=believed(judged, "p_above", family, "false_discovery"),
        discovered=discovered(judged, "p_tail", family, "false_discovery"),
    ).with_columns(
        is_flagged=(
            pl.when(pl.col("fdr_rule") == "bh").then("discovered").otherwise("believed")
            & own
            & (pl.col("p_above") >= pl.col("flag_probability"))
        ).fill_null(value=False)
    )


def decide(rows: pl.DataFrame) -> pl.DataFrame:
    """The level of each class and the rule that gave it (METHOD 3.6), with the shares shown beside it."""
    y, n, enrolled = pl.col("in_need"), pl.col("tested"), pl.col("enrolled")
    missing = enrolled - n
    probable = pl.col("p_above") >= pl.col("watch_probability")
    high = pl.col("is_pooled") & probable & exceeds(y, n, "tau")
    has_grade = pl.col("grade_enrolled") > 0
    system_grade = (
        (pl.col("pooled_classes") >= POOLED_CLASSES)
        & (pl.col("p_grade_above") >= pl.col("system_probability"))
        & exceeds(pl.col("high_classes"), pl.col("pooled_classes"), "high_share")
    ).fill_null(value=False)
    system = pl.col("is_system_grade") & pl.col("is_regular")
    outlier = (
        pl.col("is_flagged")
        & (pl.col("p_above_peers") >= pl.col("outlier_probability"))
        & (pl.col("p_excess") >= pl.col("excess_probability")).fill_null(value=True)
    )
    thin = has_grade & ~reaches(pl.col("grade_results"), pl.col("grade_enrolled"), "school_coverage_minimum")
    data_rule = (
        pl.when("is_blocked")
        .then(pl.lit("blocking_check_failed"))
        .when(thin)
        .then(pl.lit("grade_coverage_low"))
        .when(exceeds(pl.col("low_classes"), pl.col("large_classes"), "low_coverage_share"))
        .then(pl.lit("many_classes_coverage_low"))
    )
    rule = (
        pl.when(data_rule.is_not_null())
        .then(data_rule)
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
    median = pl.when(pl.col("cut_by") == "percentile").then("median_percentile").when(pl.col("cut_by") == "score")
    median_below = pl.when("is_pooled").then(median.then("median_score") < pl.col("class_need_below"))
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
        .with_columns(is_system_grade=system_grade & data_rule.is_null())
        .pipe(across_the_district)
        .pipe(small_classes)
        .with_columns(
            rule=rule,
            coverage=share("tested", "enrolled"),
            need_share=share("in_need", "tested"),
            grade_coverage=share("grade_results", "grade_enrolled"),
            bound_low=share("in_need", "enrolled"),
            bound_high=share("at_worst", "enrolled"),
            guidance_band=band,
            bound_verdict=verdict,
            is_participation_low=(enrolled > 0) & ~reaches(n, enrolled, "participation_expected"),
            class_median_below=median_below,
            severity=severity(median_below),
        )
        .with_columns(level=pl.col("rule").replace_strict(LEVEL_OF, return_dtype=pl.String))
        .with_columns(
            reason=pl.when(~pl.col("is_regular") & pl.col("level").is_in(["NONE", "WATCH", "STUDENT"]))
            .then(pl.lit(NOT_REGULAR))
            .otherwise("rule")
        )
    )


def across_the_district(rows: pl.DataFrame) -> pl.DataFrame:
    """Say where more than half of a district's schools have the grade as a system matter, and so has the district.

    Counted are schools with at least two evaluable classes of the grade, in one measure and window (METHOD 3.6).
    """
    told = pl.col("pooled_classes") >= POOLED_CLASSES
    districts = (
        rows.unique(SCHOOL_GRADE)
        .group_by(DISTRICT_GRADE)
        .agg(
            schools=told.sum().cast(pl.Int64),
            system_schools=(told & pl.col("is_system_grade")).sum().cast(pl.Int64),
            **{name: pl.col(name).first() for name in ("district_in_need", "district_tested", "tau")},
            system_probability=pl.col("system_probability").first(),
        )
    )
    chance = p_above(*(districts[name] for name in ("district_in_need", "district_tested", "tau"))).round(9)
    districts = districts.with_columns(p_district_above=pl.Series(chance, nan_to_null=True)).select(
        *DISTRICT_GRADE,
        "p_district_above",
        is_district_wide=(
            (pl.col("p_district_above") >= pl.col("system_probability"))
            & (2 * pl.col("system_schools") > pl.col("schools"))
        ).fill_null(value=False),
    )
    return rows.join(districts, on=DISTRICT_GRADE, nulls_equal=True)


def small_classes(rows: pl.DataFrame) -> pl.DataFrame:
    """What the school says of a class too small for a rule: its grade's pool, else its school's (SEMANTICS 7.4).

    Pooled are the regular classes with enough coverage, small ones included; under ten tested there is no answer.
    """
    told = pl.col("is_regular") & (pl.col("enrolled") > 0) & ~pl.col("is_low")
    counts = {name: pl.col(name).filter(told).sum() for name in ("in_need", "tested")}
    school = [*WINDOW, "measure", "school_id"]
    rows = rows.with_columns(
        *(sums.over(SCHOOL_GRADE).alias(f"grade_pool_{name}") for name, sums in counts.items()),
        *(sums.over(school).alias(f"school_pool_{name}") for name, sums in counts.items()),
    )
    least = pl.col("class_minimum")
    pools = rows.select(
        "tau",
        *(
            pl.when(pl.col("grade_pool_tested") >= least)
            .then(f"grade_pool_{name}")
            .when(pl.col("school_pool_tested") >= least)
            .then(f"school_pool_{name}")
            .otherwise(0)
            .alias(name)
            for name in counts
        ),
    )
    chance = p_above(*(pools[name] for name in ("in_need", "tested", "tau"))).round(9)
    level = (
        pl.when(~pl.col("is_small") | ~told | pl.col("pool_chance").is_null())
        .then(None)
        .when(pl.col("pool_in_need") == 0)
        .then(pl.lit("NONE"))
        .when(pl.col("pool_chance") >= pl.col("watch_probability"))
        .then(pl.lit("WATCH"))
        .otherwise(pl.lit("STUDENT"))
    )
    return rows.with_columns(
        pool_chance=pl.Series(chance, nan_to_null=True), pool_in_need=pools["in_need"]
    ).with_columns(pooled_level=level)


def severity(median_below: pl.Expr) -> pl.Expr:
    """How much of an evaluable regular class is in need, by its raw share and median (METHOD 3.1); else null."""
    y, n = pl.col("in_need"), pl.col("tested")
    return (
        pl.when(~pl.col("is_pooled"))
        .then(None)
        .when(exceeds(y, n, "severe") | median_below.fill_null(value=False))
        .then(pl.lit("classwide_severe"))
        .when(exceeds(y, n, "tau"))
        .then(pl.lit("suspect"))
        .when(reaches(y, n, "tau_low"))
        .then(pl.lit("watch"))
        .otherwise(pl.lit("none"))
    )
