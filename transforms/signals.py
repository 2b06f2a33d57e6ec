"""System signals of a school: what stands beside a class decision and explains it (METHOD 3.11)."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import CONCLUSIONS, SchoolSignal
from transforms.classes import RECOMMENDED, WINDOW, reaches, season_rank, share, with_rules
from transforms.classrooms import blocked_schools

YEAR = ("district_id", "school_year")
SCHOOL = (*WINDOW, "school_id")
STUDENT = (*WINDOW, "subject_key")
CYCLE = (*YEAR, "school_id", "cycle_id")


def school_signals(
    memberships: pl.LazyFrame,
    placements: pl.LazyFrame,
    cycles: pl.LazyFrame,
    outcomes: pl.LazyFrame,
    facts: Mapping[str, pl.LazyFrame],
    decisions: pl.LazyFrame,
    quality: pl.LazyFrame,
    policies: Mapping[str, DistrictPolicy],
) -> pl.DataFrame:
    """Signals of every school and window that has students.

    A signal counts what happened in the season of its window: from the reference date to the day before the
    next window's, in a year's first window from the first day of the year, in its last to the last day. Without
    a roster there is no reference date, so what needs a season is null. A district that supplied nothing of a
    kind in a year has null there; one that did has zeros in its silent schools. A cycle counts in every season it
    touches, with all its sessions. Students with an alternate assessment are not screened and not counted.

    Args:
        memberships: ``ClassMembership`` rows.
        placements: ``TierPlacement`` rows.
        cycles: ``Cycle`` rows.
        outcomes: ``CycleOutcome`` rows.
        facts: Current facts of the families `plan` (referrals) and `context` (family contacts).
        decisions: ``ClassDecision`` rows.
        quality: ``QualityResult`` rows.
        policies: Policy of each district.

    Returns:
        ``SchoolSignal`` rows without ``input_id``.

    Raises:
        UnknownDistrict: a district has no policy.
    """
    students = _students(memberships, placements).collect().lazy()
    seasons = window_seasons(memberships, policies)
    kept = with_rules(_screening(students).collect(), policies).lazy()
    signals = (
        kept.join(_cycle_signals(cycles, outcomes, seasons), on=SCHOOL, how="left")
        .join(_served(students, cycles, outcomes, seasons), on=SCHOOL, how="left")
        .join(_contacts(students, facts["context"], seasons), on=SCHOOL, how="left")
        .join(_referrals(students, facts["plan"], seasons), on=SCHOOL, how="left")
        .join(_failures(quality), on=[*YEAR, "school_id"], how="left")
        .join(blocked_schools(quality), on=[*YEAR, "school_id"], how="left")
        .join(_thin_schools(decisions, students), on=SCHOOL, how="left")
        .join(seasons.select(*WINDOW, has_season=pl.lit(value=True)), on=WINDOW, how="left")
    )
    for given, names in (
        (cycles, ("cycles", "served")),
        (_contacted(facts["context"]), ("families_contacted",)),
        (_referred(facts["plan"]), ("referrals",)),
    ):
        supplied = given.select(YEAR).unique().with_columns(is_supplied=pl.lit(value=True))
        known = pl.col("is_supplied") & pl.col("has_season")
        signals = (
            signals.join(supplied, on=YEAR, how="left")
            .with_columns(pl.when(known).then(pl.col(name).fill_null(0)).alias(name) for name in names)
            .drop("is_supplied")
        )
    checked = quality.select(YEAR).unique().with_columns(is_checked=pl.lit(value=True))
    covered = pl.when(pl.col("enrolled") > 0).then(
        reaches(pl.col("tested"), pl.col("enrolled"), "school_coverage_minimum")
    )
    made = signals.join(checked, on=YEAR, how="left").with_columns(
        coverage=share("tested", "enrolled"),
        unserved_need_share=1 - share("served", "recommended"),
        delivery_share=share("held_sessions", "planned_sessions"),
        overdue_cycle_share=share("overdue_cycles", "cycles"),
        conclusive_cycle_share=share("conclusions", "outcomes"),
        family_contact_share=share("families_contacted", "recommended"),
        referral_agreement=share("referrals_below", "referrals_tested"),
        failed_checks=pl.when("is_checked").then(pl.col("failed_checks").fill_null(0)),
        is_system_data=~covered
        | pl.col("is_blocked").fill_null(value=False)
        | pl.col("is_thin").fill_null(value=False),
    )
    wanted = {name: dtype for name, dtype in columns(SchoolSignal).items() if name != "input_id"}
    return (
        made.sort(*YEAR, season_rank(), "school_id")
        .select(pl.col(name).cast(dtype) for name, dtype in wanted.items())
        .collect()
    )


def _students(memberships: pl.LazyFrame, placements: pl.LazyFrame) -> pl.LazyFrame:
    """One row per student and window: school on the reference date, else as the screener names it."""
    enrolled = memberships.select(
        *STUDENT,
        "school_id",
        "class_basis",
        "in_two_classes",
        is_alternate=pl.col("is_alternate_assessment").fill_null(value=False),
        is_enrolled=pl.lit(value=True),
    )
    placed = placements.select(*STUDENT, "school_id", "status", "need_level", "tier", "measure")
    return (
        enrolled.join(placed, on=STUDENT, how="full", coalesce=True, suffix="_placed")
        .with_columns(
            school_id=pl.coalesce("school_id", "school_id_placed"),
            is_enrolled=pl.col("is_enrolled").fill_null(value=False),
            is_tested=(pl.col("status") == "tested").fill_null(value=False),
            is_recommended=(pl.col("tier") > 1).fill_null(value=False),
        )
        .filter(pl.col("school_id").is_not_null(), ~pl.col("is_alternate").fill_null(value=False))
        .drop("school_id_placed", "is_alternate")
    )


def _screening(students: pl.LazyFrame) -> pl.LazyFrame:
    """Counts of students; where the district has no roster in a window, nobody's enrolment is known."""
    rostered = pl.col("rostered") > 0
    return (
        students.group_by(SCHOOL)
        .agg(
            enrolled=pl.col("is_enrolled").sum().cast(pl.Int64),
            tested_enrolled=(pl.col("is_tested") & pl.col("is_enrolled")).sum().cast(pl.Int64),
            tested=pl.col("is_tested").sum().cast(pl.Int64),
            no_math_section=(pl.col("class_basis") == "no_math_section").sum().cast(pl.Int64),
            in_two_classes=pl.col("in_two_classes").sum().cast(pl.Int64),
            recommended=pl.col("is_recommended").sum().cast(pl.Int64),
        )
        .with_columns(rostered=pl.col("enrolled").sum().over(WINDOW))
        .with_columns(
            *(pl.when(rostered).then(name).alias(name) for name in ("enrolled", "no_math_section", "in_two_classes")),
            tested=pl.when(rostered).then("tested_enrolled").otherwise("tested"),
        )
        .drop("tested_enrolled", "rostered")
    )


def window_seasons(memberships: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """First and last day of each window's season; together they cover the school year."""
    starts = pl.LazyFrame(
        {"district_id": list(policies), "month": [policy.year_starts_month for policy in policies.values()]},
        schema={"district_id": pl.String, "month": pl.Int32},
    )
    year = pl.col("school_year").cast(pl.Int32, strict=False)
    begins_on = pl.date(pl.when(pl.col("month") == 1).then(year).otherwise(year - 1), pl.col("month"), 1)
    before, after = pl.col("reference_on").shift(1).over(YEAR), pl.col("reference_on").shift(-1).over(YEAR)
    return (
        memberships.group_by(WINDOW)
        .agg(pl.col("reference_on").min())
        .join(starts, on="district_id")
        .sort(*YEAR, season_rank())
        .with_columns(begins_on=begins_on)
        .with_columns(
            season_begins=pl.when(before.is_null()).then("begins_on").otherwise("reference_on"),
            season_ends=pl.coalesce(after, pl.col("begins_on").dt.offset_by("1y")).dt.offset_by("-1d"),
        )
        .select(*WINDOW, "season_begins", "season_ends")
    )


def _touching(cycles: pl.LazyFrame, seasons: pl.LazyFrame) -> pl.LazyFrame:
    """Cycles once for each season they were open in."""
    return cycles.join(seasons, on=YEAR).filter(
        pl.col("opened_on") <= pl.col("season_ends"),
        pl.col("closed_on").is_null() | (pl.col("closed_on") >= pl.col("season_begins")),
    )


def _cycle_signals(cycles: pl.LazyFrame, outcomes: pl.LazyFrame, seasons: pl.LazyFrame) -> pl.LazyFrame:
    open_cycles = _touching(cycles, seasons)
    planned = pl.col("planned_sessions") > 0
    cycle = open_cycles.group_by(SCHOOL).agg(
        cycles=pl.len().cast(pl.Int64),
        overdue_cycles=(pl.col("state") == "overdue").sum().cast(pl.Int64),
        planned_sessions=pl.when(planned.any()).then(pl.col("planned_sessions").filter(planned).sum()),
        held_sessions=pl.when(planned.any()).then(pl.col("held_sessions").filter(planned).sum()),
    )
    concluded = (
        outcomes.filter(pl.col("response").is_not_null())
        .select(*CYCLE, "response")
        .join(open_cycles.select(*CYCLE, "benchmark_window"), on=CYCLE, nulls_equal=True)
        .group_by(SCHOOL)
        .agg(
            outcomes=pl.len().cast(pl.Int64),
            conclusions=pl.col("response").is_in(CONCLUSIONS).sum().cast(pl.Int64),
        )
    )
    return cycle.join(concluded, on=SCHOOL, how="left")


def _served(
    students: pl.LazyFrame, cycles: pl.LazyFrame, outcomes: pl.LazyFrame, seasons: pl.LazyFrame
) -> pl.LazyFrame:
    """Recommended students who were members of an open cycle, at whatever school it was held."""
    members = (
        outcomes.select(*CYCLE, "subject_key", "joined_on", "left_on")
        .join(_touching(cycles, seasons), on=CYCLE, nulls_equal=True)
        .filter(
            pl.col("joined_on").is_null() | (pl.col("joined_on") <= pl.col("season_ends")),
            pl.col("left_on").is_null() | (pl.col("left_on") >= pl.col("season_begins")),
        )
    )
    return (
        students.filter("is_recommended")
        .join(members.select(STUDENT).unique(), on=STUDENT, how="semi")
        .group_by(SCHOOL)
        .agg(served=pl.len().cast(pl.Int64))
    )


def _contacted(context: pl.LazyFrame) -> pl.LazyFrame:
    return context.filter(pl.col("event_type") == "FamilyContacted")


def _referred(plan: pl.LazyFrame) -> pl.LazyFrame:
    return plan.filter(pl.col("event_type") == "StudentReferred", pl.col("referred_by") == "teacher")


def _in_season(facts: pl.LazyFrame, seasons: pl.LazyFrame) -> pl.LazyFrame:
    return (
        facts.select(*YEAR, "subject_key", "occurred_on")
        .join(seasons, on=YEAR)
        .filter(pl.col("occurred_on").is_between("season_begins", "season_ends"))
    )


def _contacts(students: pl.LazyFrame, context: pl.LazyFrame, seasons: pl.LazyFrame) -> pl.LazyFrame:
    contacted = _in_season(_contacted(context), seasons).select(STUDENT).unique()
    return (
        students.filter("is_recommended")
        .join(contacted, on=STUDENT, how="semi")
        .group_by(SCHOOL)
        .agg(families_contacted=pl.len().cast(pl.Int64))
    )


def _referrals(students: pl.LazyFrame, plan: pl.LazyFrame, seasons: pl.LazyFrame) -> pl.LazyFrame:
    """Teacher referrals of the school's students; agreement is asked of those the screener tested."""
    below = pl.col("is_tested") & pl.col("need_level").is_in(RECOMMENDED).fill_null(value=False)
    return (
        _in_season(_referred(plan), seasons)
        .join(students, on=STUDENT)
        .group_by(SCHOOL)
        .agg(
            referrals=pl.len().cast(pl.Int64),
            referrals_tested=pl.col("is_tested").sum().cast(pl.Int64),
            referrals_below=below.sum().cast(pl.Int64),
        )
    )


def _failures(quality: pl.LazyFrame) -> pl.LazyFrame:
    return (
        quality.filter(~pl.col("is_passed"), pl.col("school_id").is_not_null())
        .group_by(*YEAR, "school_id")
        .agg(failed_checks=pl.len().cast(pl.Int64))
    )


def _thin_schools(decisions: pl.LazyFrame, students: pl.LazyFrame) -> pl.LazyFrame:
    """Schools with a class that is SYSTEM_DATA in a measure that placed the school's students."""
    primary = students.filter(pl.col("measure").is_not_null()).select(*SCHOOL, "measure").unique()
    return (
        decisions.filter(pl.col("level") == "SYSTEM_DATA")
        .join(primary, on=[*SCHOOL, "measure"], how="semi")
        .select(SCHOOL)
        .unique()
        .with_columns(is_thin=pl.lit(value=True))
    )
