"""What each window says of each student: measures combined, cycles, decisions and referrals (METHOD 1.4)."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import CONCLUSIONS, Referral
from transforms.classes import season_rank
from transforms.placement import STUDENT_WINDOW, not_tested
from transforms.tiers import STUDENT_YEAR, TOLERANCE
from transforms.windows import DISTRICT_YEAR, WINDOW, frozen

_KNOBS = ("enter", "exit", "streak", "allow_skip", "carry_windows", "combine", "sure_above", "sure_below")


def placement_inputs(
    needs: pl.LazyFrame,
    screening: pl.LazyFrame,
    memberships: pl.LazyFrame,
    windows: pl.LazyFrame,
    cycles: pl.LazyFrame,
    outcomes: pl.LazyFrame,
    facts: Mapping[str, pl.LazyFrame],
    policies: Mapping[str, DistrictPolicy],
) -> pl.LazyFrame:
    """Everything a window says of each student, before any earlier tier: what ``tier_states`` goes by.

    Where a roster exists for the district and school year, only students enrolled on the reference date have a row;
    elsewhere every student with a need level. The primary measure is the policy's for the grade, else the one with
    most valid tests (``measure_order``); without a valid test of it the first of `fallback_measures` that has one
    stands in, else the student is untested.

    Args:
        needs: ``NeedLevel`` rows.
        screening: ``ScreeningResult`` rows.
        memberships: ``ClassMembership`` rows.
        windows: ``WindowRule`` rows of whole school years: a team's decision stands until the next reference date.
        cycles: ``Cycle`` rows.
        outcomes: ``CycleOutcome`` rows.
        facts: Current facts by family; reads ``roster``, ``not_tested`` and ``plan``.
        policies: Policy of each district.

    Returns:
        One row per student, school year and window: the columns of ``TierPlacement`` that no state enters, the knobs
        of the machine, ``start_tier`` and ``start_on`` of the team's latest decision before the reference date, and
        ``unknown_reason``, null where ``p_tier_2`` is known.
    """
    order = measure_order(screening, memberships, policies)
    first = order.filter(pl.col("measure_rank") == 0).select(*WINDOW, "grade", default_measure="measure")
    # Numbered once and kept: joins by a number are many times as fast as by the four texts of STUDENT_WINDOW.
    students = (
        _students(needs, screening, memberships, windows, facts)
        .join(_rules(policies), on="district_id")
        .join(_configured(policies), on=["district_id", "grade"], how="left")
        .join(first, on=[*WINDOW, "grade"], how="left", nulls_equal=True)
        .with_columns(primary_measure=pl.coalesce("own_measure", "default_measure"))
        .with_row_index("student")
        .cache()
    )
    theirs = (
        students.select("student", *STUDENT_WINDOW, "grade", "primary_measure", "outcome_measure", "has_secondaries")
        .join(needs.drop("grade"), on=STUDENT_WINDOW)
        .cache()
    )
    tested = theirs.filter(pl.col("status") == "tested", pl.col("measure").ne_missing(pl.col("outcome_measure")))
    decisive = _decisive(tested, policies)
    plan = facts["plan"].join(
        students.select("student", *STUDENT_YEAR, "reference_on", "next_reference_on"), on=STUDENT_YEAR
    )
    return (
        students.join(decisive, on="student", how="left")
        .join(_secondary(tested, decisive, order, policies), on="student", how="left")
        .join(_every_measure(tested), on="student", how="left")
        .join(_every_status(theirs), on="student", how="left")
        .join(_general_status(facts, policies), on=STUDENT_WINDOW, how="left")
        .join(_last_responses(cycles, outcomes, students), on="student", how="left")
        .join(_assigned(plan, "reference_on", "start"), on="student", how="left")
        .join(_assigned(plan, "next_reference_on", "assigned"), on="student", how="left")
        .join(_referred(plan), on="student", how="left")
        .drop("student")
        .with_columns(pl.col("measures").fill_null(0), status=_status())
        .with_columns(_combined())
        .with_columns(*_evidence(), unknown_reason=_unknown_reason())
    )


def measure_order(
    screening: pl.LazyFrame, memberships: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """Measures of a district, window and grade by ``measure_rank``: 0 has most valid tests, frozen; ties by name.

    The outcome test of the policy is none of them.
    """
    by = [*WINDOW, "grade"]
    counts = (
        screening.filter("is_valid")
        .join(memberships.select(*STUDENT_WINDOW, member_grade="grade"), on=STUDENT_WINDOW, how="left")
        .with_columns(grade=pl.coalesce("member_grade", "grade"))
        .group_by(*by, "measure", "is_valid", "first_export_at")
        .len()
    )
    return (
        frozen(counts, by, policies)
        .group_by(*by, "measure")
        .agg(pl.col("len").sum())
        .join(_rules(policies).select("district_id", "outcome_measure"), on="district_id")
        .filter(pl.col("measure").ne_missing(pl.col("outcome_measure")))
        .sort(["len", "measure"], descending=[True, False])
        .select(*by, "measure", measure_rank=pl.int_range(pl.len()).over(by))
    )


def _rules(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """One row per district: its tier rule and what else of its policy concerns tiers."""
    rows = [
        {"district_id": district, **{name: getattr(policy.tiers, name) for name in _KNOBS}}
        | {
            "has_secondaries": bool(policy.tiers.secondary_measures),
            "outcome_measure": policy.accuracy.outcome_measure,
            "is_evidence_listed": policy.profile == "colorado",
        }
        for district, policy in sorted(policies.items())
    ]
    return pl.LazyFrame(
        rows,
        schema={
            "district_id": pl.String,
            "enter": pl.Float64,
            "exit": pl.Float64,
            "streak": pl.Int64,
            "allow_skip": pl.Boolean,
            "carry_windows": pl.Int64,
            "combine": pl.String,
            "sure_above": pl.Float64,
            "sure_below": pl.Float64,
            "has_secondaries": pl.Boolean,
            "outcome_measure": pl.String,
            "is_evidence_listed": pl.Boolean,
        },
    )


def _configured(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [
            (district, grade, measure)
            for district, policy in sorted(policies.items())
            for grade, measure in policy.primary_measures.items()
        ],
        schema={"district_id": pl.String, "grade": pl.String, "own_measure": pl.String},
        orient="row",
    )


def _listed(policies: Mapping[str, DistrictPolicy], knob: str) -> pl.LazyFrame:
    """Measures a policy lists under ``knob``, with their ``place``, from 1."""
    return pl.LazyFrame(
        [
            (district, measure, place)
            for district, policy in sorted(policies.items())
            for place, measure in enumerate(dict.fromkeys(getattr(policy.tiers, knob)), start=1)
        ],
        schema={"district_id": pl.String, "measure": pl.String, "place": pl.Int32},
        orient="row",
    )


def _students(
    needs: pl.LazyFrame,
    screening: pl.LazyFrame,
    memberships: pl.LazyFrame,
    windows: pl.LazyFrame,
    facts: Mapping[str, pl.LazyFrame],
) -> pl.LazyFrame:
    """Who has a row in each window, where they are, and the reference date of this window and the next."""
    rostered = facts["roster"].filter(pl.col("event_type") == "StudentEnrolled").select(DISTRICT_YEAR).unique()
    judged, tests = (each.join(rostered, on=DISTRICT_YEAR, how="anti") for each in (needs, screening))
    dated = (
        windows.select(*WINDOW, "reference_on")
        .sort(*DISTRICT_YEAR, season_rank())
        .with_columns(next_reference_on=pl.col("reference_on").backward_fill().shift(-1).over(DISTRICT_YEAR))
    )
    by_test = (
        judged.group_by(STUDENT_WINDOW)
        .agg(grade=pl.col("grade").drop_nulls().min())
        .join(_school_of_test(tests), on=STUDENT_WINDOW, how="left")
        .with_columns(class_id=pl.lit(None, pl.String), is_alternate_assessment=False)
    )
    names = [*STUDENT_WINDOW, "grade", "school_id", "class_id", "is_alternate_assessment"]
    return pl.concat([memberships.select(names), by_test.select(names)]).join(dated, on=WINDOW, how="left")


def _school_of_test(screening: pl.LazyFrame) -> pl.LazyFrame:
    """School of each student's latest test in the window, as the export names it; ties by name."""
    return (
        screening.filter(pl.col("benchmark_window").is_not_null(), pl.col("school_id").is_not_null())
        .sort(["occurred_on", "school_id"], descending=[True, False], nulls_last=True)
        .unique(STUDENT_WINDOW, keep="first", maintain_order=True)
        .select(*STUDENT_WINDOW, "school_id")
    )


def _decisive(tested: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """What the primary measure says of each student, or the first fallback."""
    place = pl.when(pl.col("measure") == pl.col("primary_measure")).then(0).otherwise("place")
    return (
        tested.join(_listed(policies, "fallback_measures"), on=["district_id", "measure"], how="left")
        .with_columns(place=place)
        .filter(pl.col("place") == pl.col("place").min().over("student"))
        .select(
            *("student", "measure", "need_level", "rule", "rule_version"), primary_2="p_tier_2", primary_3="p_tier_3"
        )
    )


def _secondary(
    tested: pl.LazyFrame, decisive: pl.LazyFrame, order: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """What the measure that corroborates says: the first of the policy's list, else the one most tested."""
    return (
        tested.filter(pl.col("p_tier_2").is_not_null())
        .join(decisive.select("student", "measure"), on=["student", "measure"], how="anti")
        .join(_listed(policies, "secondary_measures"), on=["district_id", "measure"], how="left")
        .filter(pl.col("place").is_not_null() | ~pl.col("has_secondaries"))
        .join(order, on=[*WINDOW, "grade", "measure"], how="left", nulls_equal=True)
        .sort("place", "measure_rank", "measure", nulls_last=True)
        .unique("student", keep="first", maintain_order=True)
        .select(
            "student",
            other_measure="measure",
            other_2="p_tier_2",
            is_other_tier_3=pl.col("need_level") == "tier_3",
        )
    )


def _every_measure(tested: pl.LazyFrame) -> pl.LazyFrame:
    return tested.group_by("student").agg(
        any_2=pl.col("p_tier_2").max(),
        any_3=pl.col("p_tier_3").max(),
        all_2=pl.col("p_tier_2").min(),
        all_3=pl.col("p_tier_3").min(),
    )


def _every_status(theirs: pl.LazyFrame) -> pl.LazyFrame:
    """How many measures were tested, and what is said of those that were not."""
    return theirs.group_by("student").agg(
        measures=(pl.col("status") == "tested").sum().cast(pl.Int64),
        other_status=pl.col("status").filter(pl.col("status") != "tested").min(),
    )


def _general_status(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """What is said of students without a test of any measure."""
    about_all = not_tested(facts, policies).filter(pl.col("measure").is_null())
    return about_all.select(*STUDENT_WINDOW, general_status="status")


def _status() -> pl.Expr:
    return (
        pl.when(pl.col("measure").is_not_null())
        .then(pl.lit("tested"))
        .otherwise(
            pl.coalesce(
                pl.when(pl.col("measures").fill_null(0) == 0).then("other_status"),
                "general_status",
                pl.when("is_alternate_assessment").then(pl.lit("exempt_alternate")),
                pl.lit("untested"),
            )
        )
    )


def _unknown_reason() -> pl.Expr:
    return (
        pl.when(pl.col("p_tier_2").is_not_null())
        .then(None)
        .when(pl.col("measure").is_not_null())
        .then(pl.lit("rule_cannot_say"))
        .when(pl.col("measures") > 0)
        .then(pl.lit("no_valid_primary_test"))
        .otherwise(pl.lit("no_valid_test"))
    )


def _combined() -> list[pl.Expr]:
    """``p_tier_2``, ``p_tier_3`` and what goes with them, by the policy's way to combine measures.

    With corroboration (SEMANTICS 6.5) a primary measure that is not sure leaves tier 2 to the secondary one, and
    tier 3 asks a second sign: the secondary measure observed below its tier 3 cut, or a poor tier 2 cycle. The other
    ways take the probabilities at their word: of the primary measure alone, the largest, or the smallest.
    """
    how, first = pl.col("combine"), pl.col("primary_2")
    corroborates = how == "primary_with_corroboration"
    is_sure = (first >= pl.col("sure_above") - TOLERANCE) | (first <= pl.col("sure_below") + TOLERANCE)
    is_open = corroborates & ~is_sure
    known = first.is_not_null()
    p_2 = (
        pl.when(how == "any")
        .then("any_2")
        .when(how == "all")
        .then("all_2")
        .when(is_open)
        .then(pl.coalesce("other_2", "primary_2"))
        .otherwise("primary_2")
    )
    p_3 = pl.when(how == "any").then("any_3").when(how == "all").then("all_3").otherwise("primary_3")
    poor_cycle = (pl.col("response") == "poor") & (pl.col("response_tier") == 2)
    second_sign = pl.col("is_other_tier_3").fill_null(value=False) | poor_cycle.fill_null(value=False)
    return [
        pl.when(known).then(p_2).alias("p_tier_2"),
        pl.when(known).then(p_3).alias("p_tier_3"),
        pl.when(known & corroborates).then("other_measure").alias("secondary_measure"),
        pl.when(known & is_open & pl.col("other_2").is_null())
        .then(pl.lit("low"))
        .when(known)
        .then(pl.lit("high"))
        .alias("confidence"),
        pl.when(known).then(second_sign | ~corroborates).alias("is_tier_3_corroborated"),
    ]


def _last_responses(cycles: pl.LazyFrame, outcomes: pl.LazyFrame, students: pl.LazyFrame) -> pl.LazyFrame:
    """Response to the last cycle closed by the reference date, in the same school year.

    Of several closed on one day a response with a conclusion comes first, the more worrying before the less; then
    the smallest cycle id.
    """
    key = [*DISTRICT_YEAR, "school_id", "cycle_id"]
    closed = cycles.filter(pl.col("closed_on").is_not_null()).select(*key, "closed_on", response_tier="tier")
    rank = pl.col("response").replace_strict(
        CONCLUSIONS, range(1, len(CONCLUSIONS) + 1), default=0, return_dtype=pl.Int8
    )
    return (
        outcomes.select(*key, "subject_key", "response")
        .join(closed, on=key, nulls_equal=True)
        .join(students.select("student", *STUDENT_YEAR, "reference_on"), on=STUDENT_YEAR)
        .filter(pl.col("closed_on") <= pl.col("reference_on"))
        .sort(["closed_on", rank, "cycle_id", "school_id"], descending=[True, True, False, False])
        .unique("student", keep="first", maintain_order=True)
        .select("student", "response", "response_tier")
    )


def _assigned(plan: pl.LazyFrame, until: str, name: str) -> pl.LazyFrame:
    """``{name}_tier`` and ``{name}_on``: the latest tier a team decided before the day in ``until``, same school year.

    Without that day the reference date knows of none, and the last window of all.
    """
    is_before = pl.col("occurred_on") < pl.col(until)
    if until != "reference_on":
        is_before = is_before.fill_null(value=True)
    return (
        plan.filter(
            pl.col("event_type") == "TierAssigned", pl.col("tier").is_not_null(), pl.col("occurred_on").is_not_null()
        )
        .filter(is_before)
        .sort(["occurred_on", "export_at", "natural_key"], descending=True)
        .unique("student", keep="first", maintain_order=True)
        .select("student", pl.col("tier").alias(f"{name}_tier"), pl.col("occurred_on").alias(f"{name}_on"))
    )


def _referred(plan: pl.LazyFrame) -> pl.LazyFrame:
    """Students someone referred by the reference date."""
    return (
        plan.filter(pl.col("event_type") == "StudentReferred", pl.col("occurred_on") <= pl.col("reference_on"))
        .select("student")
        .unique()
        .with_columns(is_referred=pl.lit(value=True))
    )


def referrals(facts: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """``Referral`` rows without ``input_id``: the review list (METHOD 3.12), which no score enters."""
    made = (
        facts["plan"]
        .filter(pl.col("event_type") == "StudentReferred", pl.col("subject_key").is_not_null())
        .with_columns(referred_on="occurred_on")
    )
    return made.select(name for name in columns(Referral) if name != "input_id")


def _evidence() -> list[pl.Expr]:
    """Kinds of evidence by the reference date (SEMANTICS 6.8), where the profile lists them."""
    by_kind = {
        "screener": pl.col("measures") > 0,
        "referral": pl.col("is_referred").fill_null(value=False),
        "cycle": pl.col("response").is_in(CONCLUSIONS).fill_null(value=False),
    }
    kinds = pl.concat_str(
        [pl.when(there).then(pl.lit(kind)) for kind, there in by_kind.items()], separator=";", ignore_nulls=True
    )
    sources = pl.col("measures") + by_kind["referral"].cast(pl.Int64) + by_kind["cycle"].cast(pl.Int64)
    return [
        pl.when("is_evidence_listed").then(kinds).alias("evidence_kinds"),
        pl.when("is_evidence_listed").then(sources).alias("evidence_sources"),
    ]
