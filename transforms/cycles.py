"""Sessions and probes to cycles, their outcome for each student, and progress with its error."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import polars as pl

from schemas.contract import columns, conform, empty
from schemas.events import FAMILIES
from schemas.policy import DistrictPolicy
from schemas.projections import CONCLUSIONS, ClassMembership, Cycle, CycleOutcome, ProbeDay, Progress, Projection
from transforms.classmates import class_gaps
from transforms.cycle_facts import ABSENT, PARTIAL, UNKNOWN, CycleFacts, read
from transforms.cycle_places import YEAR, inside
from transforms.growth import (
    DAYS_PER_WEEK,
    TOLERANCE,
    aim,
    ols,
    p_slope_at_least,
    point_rule,
    slope_status,
    theil_sen,
)

FINDINGS = (
    "member_without_cycle",
    "close_without_cycle",
    "not_a_member",
    "session_without_cycle",
    "several_open_cycles",
    "probe_outside_cycle",
    "probe_of_other_forms",
    "no_cycle",
    "goal_mismatch",
)
"""What the facts of a cycle can get wrong; `no_cycle` is tutoring that lies in no cycle (SEMANTICS 6.7)."""


FACTS = ("cycle", "session")
CLASS_GAP = 1.0
"""Standard deviations below the class beyond which level and slope are discrepant (METHOD 2.4)."""


class CycleTables(NamedTuple):
    """What the facts say about cycles, computed together so that nothing is read twice."""

    cycle: pl.DataFrame
    """``Cycle`` rows without ``input_id``."""
    cycle_outcome: pl.DataFrame
    """``CycleOutcome`` rows without ``input_id``."""
    progress: pl.DataFrame
    """``Progress`` rows without ``input_id``."""
    probe_day: pl.DataFrame
    """``ProbeDay`` rows without ``input_id``."""
    tutoring: pl.DataFrame
    """Sessions and minutes of tutoring per student and cycle, outside every dose; null ``cycle_id``: `no_cycle`."""
    finding: pl.DataFrame
    """``district_id``, ``school_year``, ``rule``, ``rows``: every rule of ``FINDINGS``, also where no row breaks it."""
    year: pl.DataFrame
    """``district_id``, ``school_year``, ``known_through``: the day up to which the log tells of these cycles."""


def cycle_tables(
    facts: Mapping[str, pl.LazyFrame],
    policies: Mapping[str, DistrictPolicy],
    grades: pl.DataFrame | None = None,
    classes: pl.DataFrame | None = None,
) -> CycleTables:
    """Compute every table about cycles.

    Args:
        facts: Current facts of the families `cycle` and `session`, any districts and school years.
        policies: Policy of each district; a district without one is judged by the defaults.
        grades: ``district_id``, ``school_year``, ``subject_key``, ``grade``, one row per student; a student
            without a grade has no peers, and the peer condition drops out (SEMANTICS 6.6).
        classes: ``ClassMembership`` rows, for districts with the knob `dual_discrepancy`; absent: no class is known.
    """
    if all(facts[family].limit(1).collect().is_empty() for family in FACTS):
        return _of_no_facts()
    return _of(read(facts, policies), grades, classes)


@cache
def _of_no_facts() -> CycleTables:
    """Many districts keep no cycles, and a table without rows takes as long to compute as a small one."""
    return _of(read({family: empty(FAMILIES[family]).lazy() for family in FACTS}, {}), None, None)


def _of(known: CycleFacts, grades: pl.DataFrame | None, classes: pl.DataFrame | None) -> CycleTables:
    meetings = _meetings(known)
    growth = _growth(known, _members(known))
    outcome = _outcomes(
        known,
        meetings,
        growth,
        _no_grades() if grades is None else grades,
        pl.DataFrame(schema=columns(ClassMembership)) if classes is None else classes,
    )
    keys = [*YEAR, "school_id", "cycle_id", "subject_key"]
    return CycleTables(
        cycle=_conform(_cycles(known, meetings, outcome), Cycle, [*YEAR, "school_id", "cycle_id"]),
        cycle_outcome=_conform(outcome, CycleOutcome, keys),
        progress=_conform(growth.filter(pl.col("measure").is_not_null()), Progress, keys),
        probe_day=_conform(_probe_days(known, growth), ProbeDay, [*keys, "probed_on"]),
        tutoring=known.tutoring,
        finding=_findings(known, outcome),
        year=known.year,
    )


def _no_grades() -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys((*YEAR, "subject_key", "grade"), pl.String))


def cycles(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """``Cycle`` rows without ``input_id``."""
    return cycle_tables(facts, policies).cycle


def cycle_outcomes(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """``CycleOutcome`` rows without ``input_id``."""
    return cycle_tables(facts, policies).cycle_outcome


def progress(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """``Progress`` rows without ``input_id``."""
    return cycle_tables(facts, policies).progress


def cycle_findings(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Rows that break each rule of ``FINDINGS``, per district and school year."""
    return cycle_tables(facts, policies).finding


def _conform(rows: pl.DataFrame, contract: type[Projection], keys: list[str]) -> pl.DataFrame:
    return conform(rows.lazy(), contract).drop("input_id").sort(keys).collect()


def _total(minutes: str, counted: pl.Expr) -> pl.Expr:
    """Sum over the counted rows; null where one of them has none. Rounded, because the order of rows is not fixed."""
    lacks = (counted & pl.col(minutes).is_null()).any()
    return pl.when(~lacks).then(pl.when(counted).then(minutes).sum().round(6))


def _meetings(known: CycleFacts) -> pl.DataFrame:
    """Sessions counted by cycle. A count is null where the log never tells of such a session."""
    is_scheduled, is_held = pl.col("is_scheduled"), pl.col("is_held")
    minutes = pl.coalesce("planned_minutes", "session_minutes")
    is_told = (is_held | pl.col("is_cancelled")).any()
    return (
        known.meeting.join(known.cycle.select("cycle_no", "session_minutes"), on="cycle_no")
        .with_columns(planned_minutes=minutes)
        .group_by("cycle_no")
        .agg(
            scheduled=is_scheduled.sum().cast(pl.Int64).replace(0, None),
            scheduled_minutes=_total("planned_minutes", is_scheduled),
            held_sessions=pl.when(is_told).then(is_held.sum()),
            cancelled_sessions=pl.when(is_told).then(pl.col("is_cancelled").sum()),
            held_minutes=pl.when(is_told).then(_total("held_minutes", is_held)),
            fidelity_share=pl.col("fidelity_share").mean().round(9),
        )
    )


def _cycles(known: CycleFacts, meetings: pl.DataFrame, outcome: pl.DataFrame) -> pl.DataFrame:
    """One row per opening. Overdue: not closed on the day after the longest cycle (METHOD 2.3)."""
    days = (pl.col("known_through") - pl.col("opened_on")).dt.total_days()
    planned_days = (pl.col("planned_end_on") - pl.col("opened_on")).dt.total_days()
    state = (
        pl.when(pl.col("closed_on").is_not_null() & (pl.col("close_reason") == "abandoned"))
        .then(pl.lit("abandoned"))
        .when(pl.col("closed_on").is_not_null())
        .then(pl.lit("closed"))
        .when(days > pl.col("longest_days"))
        .then(pl.lit("overdue"))
        .otherwise(pl.lit("open"))
    )
    planned = pl.coalesce("planned_sessions", "scheduled")
    planned_minutes = (
        pl.when(pl.col("planned_sessions").is_null())
        .then("scheduled_minutes")
        .otherwise(pl.coalesce(pl.col("planned_sessions") * pl.col("session_minutes"), "scheduled_minutes"))
    )
    responded = outcome.select(
        "cycle_no", "members", *CONCLUSIONS, "concluded", "excluded", "is_group_plan_first"
    ).unique("cycle_no")
    return (
        known.cycle.join(meetings, on="cycle_no", how="left")
        .join(responded, on="cycle_no", how="left")
        .with_columns(
            pl.col("members", *CONCLUSIONS, "concluded", "excluded").fill_null(0),
            state=state,
            planned_days=planned_days,
            is_length_out_of_range=~planned_days.is_between(pl.col("shortest_days"), pl.col("longest_days")),
            planned_sessions=planned,
            scheduled_sessions="scheduled",
            planned_minutes=planned_minutes,
            delivery_share=_share(pl.col("held_sessions"), planned),
        )
    )


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return part / pl.when(whole > 0).then(whole)


def _members(known: CycleFacts) -> pl.DataFrame:
    """Members with their baseline and goal slope.

    Baseline: recorded, else the median of the first three probe days where all lie in week 1, else the first. The
    days to the goal are counted from the start of the series.
    """
    first = (
        known.probe.filter(pl.int_range(pl.len()).over("member_no") < 3)
        .group_by("member_no")
        .agg(
            first=pl.col("score").sort_by("day").first(),
            middle=pl.col("score").median(),
            days=pl.len(),
            week_day=(pl.col("day") - pl.col("series_day")).max(),
        )
        .select(
            "member_no",
            measured=pl.when((pl.col("days") == 3) & (pl.col("week_day") < DAYS_PER_WEEK))
            .then("middle")
            .otherwise("first"),
        )
    )
    goal_days = (pl.col("planned_end_on") - pl.col("opened_on")).dt.total_days() - pl.col("series_day")
    return (
        known.member.join(known.cycle.drop("group_id"), on="cycle_no", how="left")
        .join(first, on="member_no", how="left")
        .with_columns(baseline=pl.coalesce("baseline", "measured"), goal_days=pl.when(goal_days > 0).then(goal_days))
        .with_columns(
            goal_slope=(pl.col("goal_score") - pl.col("baseline")) * DAYS_PER_WEEK / pl.col("goal_days"),
        )
        .drop("measured")
        .sort("member_no")
    )


def _growth(known: CycleFacts, member: pl.DataFrame) -> pl.DataFrame:
    """Members with the slope of their probes, its error, and their last level beside the aim line."""
    series = known.probe.select(series_no="member_no", day="day", score="score")
    sen = theil_sen(series).rename(lambda name: name if name == "series_no" else f"theil_sen_{name}")
    fit = ols(series).join(
        sen.rename({"theil_sen_slope_low": "theil_sen_low", "theil_sen_slope_high": "theil_sen_high"}), on="series_no"
    )
    back = pl.int_range(pl.len(), 0, -1).over("member_no")
    last = known.probe.select("member_no", "day", "score", back=back).join(
        member.select("member_no", "goal_score", "level_probes", "goal_probes"), on="member_no"
    )
    level = (
        last.filter(pl.col("back") <= pl.col("level_probes"))
        .group_by("member_no")
        .agg(pl.col("score").median(), pl.col("day").median(), is_full=pl.len() == pl.col("level_probes").first())
        .filter("is_full")
        .select("member_no", level_end="score", level_day="day")
    )
    reached = pl.col("score") >= pl.col("goal_score") - TOLERANCE
    goal = (
        last.filter((pl.col("back") <= pl.col("goal_probes")) & pl.col("goal_score").is_not_null())
        .group_by("member_no")
        .agg(is_goal_met_measured=reached.all(), is_full=pl.len() == pl.col("goal_probes").first())
        .filter("is_full")
        .drop("is_full")
    )
    rows = member.join(fit, left_on="member_no", right_on="series_no", how="left", maintain_order="left")
    return (
        rows.with_columns(p_slope_at_least(rows["goal_slope"], rows), pl.col("probes").fill_null(0))
        .join(level, on="member_no", how="left")
        .join(goal, on="member_no", how="left")
        .join(_points(series, member), on="member_no", how="left")
        .with_columns(
            is_outlier_sensitive=(pl.col("slope") - pl.col("theil_sen_slope")).abs()
            > pl.col("slope_standard_error") + TOLERANCE,
            slope_status=slope_status(),
            first_on=pl.col("opened_on") + pl.duration(days="first_day"),
            last_on=pl.col("opened_on") + pl.duration(days="last_day"),
            aim_at_level_end=_aim_on(pl.col("level_day")),
            form_family="family",
        )
    )


def _aim_on(day: pl.Expr) -> pl.Expr:
    return aim(pl.col("baseline"), pl.col("goal_score"), day - pl.col("series_day"), pl.col("goal_days"))


def _probe_days(known: CycleFacts, growth: pl.DataFrame) -> pl.DataFrame:
    """Probe days of members beside their aim line."""
    about = [*YEAR, "school_id", "cycle_id", "subject_key", "measure", "baseline", "goal_score", "goal_days"]
    series = growth.select("member_no", *about, "series_day")
    return (
        known.probe.select("member_no", "day", "score", probed_on="on")
        .join(series, on="member_no")
        .with_columns(aim_score=_aim_on(pl.col("day")))
    )


def _points(series: pl.DataFrame, member: pl.DataFrame) -> pl.DataFrame:
    """The point rule of every member with an aim line."""
    drawn = (
        series.join(member, left_on="series_no", right_on="member_no")
        .with_columns(aim=_aim_on(pl.col("day")))
        .filter(pl.col("aim").is_not_null())
    )
    return point_rule(drawn).rename({"series_no": "member_no"})


def _dose(known: CycleFacts, meetings: pl.DataFrame, growth: pl.DataFrame) -> pl.DataFrame:
    """Members with sessions planned, held and attended while they were members, and their minutes.

    The plan of a cycle that is still running counts as far as it is due: by ``known_through`` where
    sessions are scheduled; where none is, the plan of the opening counts once the cycle is over, and only
    for members who were there from the first day to the last. Whoever stayed until the cycle was closed is
    planned for what was scheduled after that day too: a cycle that is abandoned keeps its plan.
    """
    is_closed = pl.col("closed_on").is_not_null()
    due = known.cycle.select(
        "cycle_no", "session_minutes", "closed_on", due_through=pl.when(~is_closed).then("known_through")
    )
    is_last = pl.col("from_on") == pl.col("from_on").max().over("member_no")
    stayed = is_last & (pl.col("to_on") >= pl.col("closed_on")).fill_null(value=False)
    is_due = pl.col("is_scheduled") & (pl.col("due_through").is_null() | (pl.col("on") <= pl.col("due_through")))
    spells = (
        known.spell.join(known.meeting, on="cycle_no")
        .join(due, on="cycle_no")
        .filter(stayed & (pl.col("on") >= pl.col("from_on")) | inside("from_on", "to_on"))
        .with_columns(is_due=is_due, planned_minutes=pl.coalesce("planned_minutes", "session_minutes"))
        .group_by("member_no")
        .agg(
            due=pl.col("is_due").sum().cast(pl.Int64),
            due_minutes=_total("planned_minutes", pl.col("is_due")),
            held=pl.col("is_held").sum().cast(pl.Int64),
            fidelity_share=pl.col("fidelity_share").mean().round(9),
        )
    )
    attended = pl.col("state") <= PARTIAL
    presence = known.attendance.group_by("member_no").agg(
        attended=attended.sum().cast(pl.Int64),
        minutes=_total("minutes", attended),
        is_taken=(pl.col("state") <= ABSENT).any(),
        is_unclear=((pl.col("state") == UNKNOWN) & pl.col("is_held")).any(),
        assumed_sessions=pl.col("is_assumed").sum().cast(pl.Int64),
    )
    is_over = is_closed | (pl.col("known_through") >= pl.col("planned_end_on")).fill_null(value=False)
    is_throughout = (pl.col("joined_on") <= pl.col("opened_on")) & (
        pl.col("left_on").is_null() | (pl.col("left_on") >= pl.col("ends_on"))
    )
    is_scheduled = pl.col("scheduled").is_not_null()
    whole_plan = is_over & is_throughout
    none_held = pl.col("held_sessions") == 0
    is_known = pl.col("is_taken") & ~pl.col("is_unclear")
    return (
        growth.join(meetings.select("cycle_no", "scheduled", told="held_sessions"), on="cycle_no", how="left")
        .join(spells, on="member_no", how="left")
        .join(presence, on="member_no", how="left")
        .with_columns(
            planned_minutes=pl.when(is_scheduled)
            .then(pl.when(pl.col("due").is_null()).then(0.0).otherwise("due_minutes"))
            .when(whole_plan)
            .then(pl.col("planned_sessions") * pl.col("session_minutes")),
            planned_sessions=pl.when(is_scheduled)
            .then(pl.col("due").fill_null(0))
            .when(whole_plan)
            .then("planned_sessions"),
            held_sessions=pl.when(pl.col("told").is_not_null()).then(pl.col("held").fill_null(0)),
        )
        .with_columns(
            attended_sessions=pl.when(none_held).then(0).when(is_known).then("attended"),
            attended_minutes=pl.when(none_held).then(0.0).when(is_known).then("minutes"),
            assumed_sessions=pl.col("assumed_sessions").fill_null(0),
        )
        .with_columns(
            delivery_share=_share(pl.col("held_sessions"), pl.col("planned_sessions")),
            attendance_share=_share(pl.col("attended_sessions"), pl.col("held_sessions")),
            dose_share=_share(pl.col("attended_minutes"), pl.col("planned_minutes")),
        )
    )


def _outcomes(
    known: CycleFacts, meetings: pl.DataFrame, growth: pl.DataFrame, grades: pl.DataFrame, classes: pl.DataFrame
) -> pl.DataFrame:
    """One row per member, with response class, what the group responded, and the next step."""
    weeks = known.evidence.group_by("member_no").agg(weeks_with_evidence=pl.len())
    rows = (
        _dose(known, meetings, growth)
        .join(weeks, on="member_no", how="left")
        .join(grades.select(*YEAR, "subject_key", "grade"), on=[*YEAR, "subject_key"], how="left")
        .with_columns(
            pl.col("weeks_with_evidence").fill_null(0),
            is_theil_sen=(pl.col("slope_by") == "theil_sen")
            | pl.col("theil_sen_measures").list.contains(pl.col("measure")).fill_null(value=False),
        )
        .with_columns(slope=pl.when("is_theil_sen").then("theil_sen_slope").otherwise("slope"))
    )
    return (
        rows.join(peer_slopes(rows), on="member_no", how="left")
        .join(class_gaps(rows, known.scored, classes), on="member_no", how="left")
        .with_columns(_verdict().struct.unnest())
        .with_columns(_group_responses())
        .with_columns(next_step=_next_step())
    )


def peer_slopes(rows: pl.DataFrame) -> pl.DataFrame:
    """Median slope of each student's grade in the measure, over the other closed cycles of the district and year.

    The student's own cycle is left out as a whole. Members with fewer probe days than a response needs lend no
    slope. Too few other cycles: no row (SEMANTICS 6.6).

    The median without one cycle is read off the sorted slopes of the grade: of those that stay, the r-th is the
    one at place r plus the number of left-out slopes that have at most r staying ones before them.

    Args:
        rows: ``member_no``, ``cycle_no``, district, year, ``measure``, ``grade``, ``slope``, ``probes``,
            ``probes_minimum``, ``closed_on``, ``peer_cycles``; one row per member.

    Returns:
        ``member_no`` and ``peer_slope``.
    """
    grade = [*YEAR, "measure", "grade"]
    lends = (
        pl.col("closed_on").is_not_null()
        & pl.col("slope").is_not_null()
        & (pl.col("probes") >= pl.col("probes_minimum"))
    )
    asked = rows.filter(pl.col("grade").is_not_null() & pl.col("measure").is_not_null())
    lent = (
        asked.filter(lends)
        .sort(*grade, "slope", "cycle_no", "member_no")
        .with_columns(place=pl.int_range(pl.len()).over(grade), slopes=pl.len().cast(pl.Int64).over(grade))
    )
    known = lent.group_by(grade).agg(
        cycles=pl.col("cycle_no").n_unique().cast(pl.Int64), slopes=pl.col("slopes").first()
    )
    own = lent.select(*grade, "cycle_no", staying=pl.col("place") - pl.int_range(pl.len()).over(*grade, "cycle_no"))
    others = pl.col("cycles") - (pl.col("left_out") > 0).cast(pl.Int64)
    stay = pl.col("slopes") - pl.col("left_out")
    groups = (
        asked.select(*grade, "cycle_no", "peer_cycles")
        .unique()
        .join(known, on=grade)
        .join(
            own.group_by(*grade, "cycle_no").agg(left_out=pl.len().cast(pl.Int64)), on=[*grade, "cycle_no"], how="left"
        )
        .with_columns(pl.col("left_out").fill_null(0))
        .filter((others >= pl.col("peer_cycles")) & (stay > 0))
        .select(*grade, "cycle_no", rank=pl.concat_list((stay - 1) // 2, stay // 2))
        .explode("rank")
        .with_row_index("half")
    )
    skipped = (pl.col("staying") <= pl.col("rank")).sum()
    medians = (
        groups.join(own, on=[*grade, "cycle_no"], how="left")
        .group_by("half", *grade, "cycle_no", "rank")
        .agg(skipped=skipped.cast(pl.Int64))
        .with_columns(place=pl.col("rank") + pl.col("skipped"))
        .join(lent.select(*grade, "place", "slope"), on=[*grade, "place"])
        .group_by(*grade, "cycle_no")
        .agg(peer_slope=pl.col("slope").mean())
    )
    return asked.join(medians, on=[*grade, "cycle_no"]).select("member_no", "peer_slope")


def _group_responses() -> tuple[pl.Expr, ...]:
    """Responses of the member's group, and whether the group's plan is to be changed first (METHOD 2.4)."""

    def count(*responses: str) -> pl.Expr:
        return pl.col("response").is_in(responses).sum().over("cycle_no").cast(pl.Int64)

    concluded, poor = count(*CONCLUSIONS), count("poor")
    members = pl.len().over("cycle_no").cast(pl.Int64)
    is_poor = poor >= concluded * pl.col("group_poor_share") - TOLERANCE
    return (
        *(count(response).alias(response) for response in CONCLUSIONS),
        concluded.alias("concluded"),
        (members - concluded).alias("excluded"),
        members.alias("members"),
        pl.when(concluded >= pl.col("group_minimum")).then(is_poor).alias("is_group_plan_first"),
    )


def _next_step() -> pl.Expr:
    """What the response asks for; a poor response in a group of poor responses asks for another plan of the group."""
    step = {
        "adequate": "continue",
        "questionable": "intensify_one_element",
        "poor": "change_intervention",
        "insufficient_dose": "fix_delivery",
        "dose_unknown": "record_delivery",
        "insufficient_data": "collect_data",
    }
    return (
        pl.when(pl.col("reason") == "goal_met")
        .then(pl.lit("exit_or_regroup"))
        .when(pl.col("reason") == "no_aim_line")
        .then(pl.lit("set_goal"))
        .when((pl.col("response") == "poor") & pl.col("is_group_plan_first").fill_null(value=False))
        .then(pl.lit("change_group_plan"))
        .otherwise(pl.col("response").replace_strict(step, return_dtype=pl.String))
    )


def _verdict() -> pl.Expr:
    """Response class and its reason; the first that holds decides (METHOD 2.4).

    Rows without an aim line (no goal, no baseline or no planned end) say nothing about the child: they are
    `insufficient_data`, not `questionable`. With `dual_discrepancy` level and slope, both more than a standard
    deviation below the class, are what is poor; where the class is not known nobody is. Nobody is `poor` before the
    shortest cycle has passed, counted to the close, the student's leaving or the last day known, whichever is first.
    """
    dose, fidelity = pl.col("dose_share"), pl.col("fidelity_share")
    days = (pl.min_horizontal("known_through", "closed_on", "left_on") - pl.col("opened_on")).dt.total_days()
    is_dual = pl.col("dual_discrepancy")
    below_goal = (pl.col("p_slope_at_least_goal") < pl.col("poor_below")) & (
        pl.col("peer_slope").is_null() | (pl.col("slope") < pl.col("peer_slope"))
    )
    class_gap = pl.max_horizontal("class_level_gap", "class_slope_gap")
    is_class_known = pl.col("class_level_gap").is_not_null() & pl.col("class_slope_gap").is_not_null()
    is_slow = pl.when(is_dual).then(is_class_known & (class_gap < -CLASS_GAP - TOLERANCE)).otherwise(below_goal)
    reason_unknown = (
        pl.when(pl.col("planned_minutes").is_null())
        .then(pl.lit("plan_unknown"))
        .when(pl.col("planned_minutes") <= 0)
        .then(pl.lit("nothing_planned"))
        .when(pl.col("attended_sessions").is_null())
        .then(pl.lit("attendance_unknown"))
        .otherwise(pl.lit("minutes_unknown"))
    )
    reason_poor = (
        pl.when(is_dual)
        .then(pl.lit("level_and_slope_below_class"))
        .when(pl.col("peer_slope").is_null())
        .then(pl.lit("slope_below_goal_no_peer_norm"))
        .otherwise(pl.lit("slope_below_goal_and_peers"))
    )

    def verdict(response: str, reason: pl.Expr) -> pl.Expr:
        return pl.struct(response=pl.lit(response), reason=reason)

    return (
        pl.when(pl.col("is_goal_met_recorded") | pl.col("is_goal_met_measured").fill_null(value=False))
        .then(verdict("adequate", pl.lit("goal_met")))
        .when(dose.is_null())
        .then(verdict("dose_unknown", reason_unknown))
        .when(dose < pl.col("dose_minimum") - TOLERANCE)
        .then(verdict("insufficient_dose", pl.col("dose_reason")))
        .when(fidelity < pl.col("fidelity_minimum") - TOLERANCE)
        .then(verdict("insufficient_dose", pl.col("fidelity_reason")))
        .when(pl.col("probes") < pl.col("probes_minimum"))
        .then(verdict("insufficient_data", pl.col("probes_reason")))
        .when(pl.col("goal_slope").is_null())
        .then(verdict("insufficient_data", pl.lit("no_aim_line")))
        .when(pl.col("level_end") >= pl.col("aim_at_level_end") - TOLERANCE)
        .then(verdict("adequate", pl.lit("level_on_aim_line")))
        .when(is_slow & (days < pl.col("shortest_days")))
        .then(verdict("questionable", pl.col("early_reason")))
        .when(is_slow)
        .then(verdict("poor", reason_poor))
        .when(is_dual & ~is_class_known)
        .then(verdict("questionable", pl.lit("class_growth_unknown")))
        .otherwise(verdict("questionable", pl.lit("below_aim_but_uncertain")))
    )


def _findings(known: CycleFacts, outcome: pl.DataFrame) -> pl.DataFrame:
    """Rows that break each rule, also where none does."""
    mismatch = outcome.filter(pl.col("is_goal_met_measured") != pl.col("is_goal_met_recorded"))
    counted = (
        pl.concat([known.finding, mismatch.select(*YEAR, rule=pl.lit("goal_mismatch"))])
        .group_by(*YEAR, "rule")
        .agg(rows=pl.len().cast(pl.Int64))
    )
    return (
        known.year.select(YEAR)
        .join(pl.DataFrame({"rule": FINDINGS}), how="cross")
        .join(counted, on=[*YEAR, "rule"], how="left")
        .with_columns(pl.col("rows").fill_null(0))
        .sort(*YEAR, "rule")
    )
