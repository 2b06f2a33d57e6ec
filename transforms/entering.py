"""Entering class against growth: need now beside the need expected from where students stood in fall (METHOD 3.7)."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns, empty
from schemas.policy import DistrictPolicy
from schemas.projections import ClassGrowth
from transforms.classes import CLASS, DISTRICT_GRADE, RECOMMENDED, WINDOW, counted_tests, with_rules
from transforms.discovery import EXACT, discovered
from transforms.poisson_binomial import at_least

ENTERING = "fall"
KEY = [*CLASS, "measure"]
_STUDENT = ["district_id", "school_year", "subject_key", "measure"]


def class_growth(
    memberships: pl.LazyFrame, needs: pl.LazyFrame, fall: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    """Compare the students in need of each class with as many as their fall levels led to in the rest of the district.

    A student counts who is counted in the class now, has a need level of the same measure in fall, wherever that was,
    and whose fall level has a rate. The chance of being in need now is independent from student to student, so the
    number in need is Poisson-binomial. Under ``matched_minimum`` students everything is null and ``reason`` says why:
    `few_with_fall` or `few_with_rate`.

    The tail probability is no posterior: 1 - P taken for one would bound nothing beside P <= .05. Both tails are
    therefore held to ``false_discovery`` by Benjamini-Hochberg, per district, measure and window, beside METHOD's
    limits on P.

    Args:
        memberships: ``ClassMembership`` rows of the windows that the policies rule.
        needs: ``NeedLevel`` rows of these windows.
        fall: ``NeedLevel`` rows of fall, by the policy of fall.
        policies: Policy of each district.

    Returns:
        ``ClassGrowth`` rows without ``input_id``: every class with a counted test of the measure in winter or spring.
    """
    later = needs.filter(pl.col("benchmark_window") != ENTERING)
    bands = fall.filter(pl.col("benchmark_window") == ENTERING, pl.col("need_level").is_not_null())
    students = (
        counted_tests(memberships, later)
        .select(*KEY, "school_id", "grade", "subject_key", "is_in_need")
        .join(bands.select(*_STUDENT, band="need_level"), on=_STUDENT, how="left")
        .collect(engine="streaming")
    )
    if students.is_empty():
        return empty(ClassGrowth).drop("input_id")
    rated = with_rates(with_rules(students, policies))
    classes = rated.group_by(KEY).agg(
        pl.col("school_id").min(),
        pl.col("matched_minimum", "growth_tail", "false_discovery").first(),
        tested=pl.len().cast(pl.Int64),
        with_fall=pl.col("band").is_not_null().sum().cast(pl.Int64),
        matched=pl.col("rate").is_not_null().sum().cast(pl.Int64),
        observed=pl.col("is_in_need").filter(pl.col("rate").is_not_null()).sum().cast(pl.Int64),
    )
    told = classes.filter(pl.col("matched") >= pl.col("matched_minimum"))
    asked = rated.filter(pl.col("rate").is_not_null()).join(told.select(*KEY, "observed"), on=KEY)
    reached = at_least(asked, KEY, "rate", "observed").select(*KEY, "expected", "p_at_least")
    passed = at_least(asked.with_columns(pl.col("observed") + 1), KEY, "rate", "observed")
    judged = (
        told.drop("with_fall", "tested", "school_id", "matched")
        .join(reached, on=KEY)
        .join(passed.select(*KEY, p_at_most=(1 - pl.col("p_at_least")).round(9)), on=KEY)
        .sort(KEY)
    )
    growth = classes.drop("observed", "matched_minimum", "growth_tail", "false_discovery").join(
        _excess(judged), on=KEY, how="left"
    )
    enough_fall = classes.select(*KEY, is_enough=pl.col("with_fall") >= pl.col("matched_minimum"))
    return (
        growth.join(enough_fall, on=KEY)
        .with_columns(
            ratio=pl.when(pl.col("expected") > 0).then((pl.col("observed") / pl.col("expected")).round(9)),
            reason=pl.when(pl.col("expected").is_not_null())
            .then(None)
            .when("is_enough")
            .then(pl.lit("few_with_rate"))
            .otherwise(pl.lit("few_with_fall")),
        )
        .sort(KEY)
        .select(pl.col(name).cast(dtype) for name, dtype in columns(ClassGrowth).items() if name != "input_id")
    )


def with_rates(students: pl.DataFrame) -> pl.DataFrame:
    """Add ``rate``: the share now in need of those who stood at the same fall level, in other classes.

    Others are the counted students of the district, grade, measure and window outside the class. Below
    ``band_minimum`` of them, tier 2 and tier 3 are taken together; still below, there is no rate. Where nobody or
    everybody of the others was in need, half a student is: no sample makes a certainty.

    Args:
        students: Counted tests with `band`, null without a fall level, and their district's rules.
    """
    is_known = pl.col("band").is_not_null() & pl.col("grade").is_not_null()
    matched = (
        students.filter(is_known)
        .with_columns(pooled=pl.when(pl.col("band").is_in(RECOMMENDED)).then(pl.lit(RECOMMENDED[0])).otherwise("band"))
        .with_columns(
            each for name in ("band", "pooled") for each in _others([*DISTRICT_GRADE, name], f"{name}_others")
        )
    )
    enough = pl.col("band_others") >= pl.col("band_minimum")
    n = (
        pl.when(enough)
        .then("band_others")
        .when(pl.col("pooled_others") >= pl.col("band_minimum"))
        .then("pooled_others")
    )
    y = pl.when(enough).then("band_others_in_need").otherwise("pooled_others_in_need")
    rate = pl.when((y == 0) | (y == n)).then((y + 0.5) / (n + 1)).otherwise(y / n)
    rates = matched.select(*KEY, "subject_key", rate=pl.when(n.is_not_null()).then(rate))
    return students.join(rates, on=[*KEY, "subject_key"], how="left")


def _others(band: list[str], name: str) -> list[pl.Expr]:
    """Students of the band outside the student's own class, and how many of them are in need."""
    own = [*band, "class_id"]
    students, in_need = pl.len().cast(pl.Int64), pl.col("is_in_need").sum().cast(pl.Int64)
    return [
        (students.over(band) - students.over(own)).alias(name),
        (in_need.over(band) - in_need.over(own)).alias(f"{name}_in_need"),
    ]


def _excess(judged: pl.DataFrame) -> pl.DataFrame:
    """Which classes have more in need, or fewer, than their fall levels led to elsewhere."""
    family = [*WINDOW, "measure"]
    tail = pl.col("growth_tail")
    is_more = (pl.col("p_at_least") <= tail + EXACT) & pl.col("more")
    is_fewer = (pl.col("p_at_least") >= 1 - tail - EXACT) & pl.col("fewer")
    return (
        judged.with_columns(
            more=discovered(judged, "p_at_least", family, "false_discovery"),
            fewer=discovered(judged, "p_at_most", family, "false_discovery"),
        )
        .with_columns(
            growth_excess=pl.when(is_more)
            .then(pl.lit("more"))
            .when(is_fewer)
            .then(pl.lit("fewer"))
            .otherwise(pl.lit("as_expected"))
        )
        .select(*KEY, "observed", "expected", "p_at_least", "growth_excess")
    )
