"""Sessions and probes to cycles, their outcome for each student, and progress with its error."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from schemas.contract import conform
from schemas.policy import DistrictPolicy
from schemas.projections import Cycle, CycleOutcome, Progress, Projection
from transforms.cycle_facts import ABSENT, PARTIAL, UNKNOWN, CycleFacts, read
from transforms.cycle_places import YEAR
from transforms.growth import DAYS_PER_WEEK, TOLERANCE, aim, ols, p_slope_at_least, slope_status

FINDINGS = (
    "member_without_cycle",
    "close_without_cycle",
    "not_a_member",
    "same_cycle_twice",
    "session_without_cycle",
    "several_open_cycles",
    "probe_outside_cycle",
    "no_cycle",
    "goal_mismatch",
)
"""What the facts of a cycle can get wrong; `no_cycle` is tutoring that lies in no cycle (SEMANTICS 6.7)."""


class CycleTables(NamedTuple):
    """What the facts say about cycles, computed together so that nothing is read twice."""

    cycle: pl.DataFrame
    """``Cycle`` rows without ``input_id``."""
    cycle_outcome: pl.DataFrame
    """``CycleOutcome`` rows without ``input_id``."""
    progress: pl.DataFrame
    """``Progress`` rows without ``input_id``."""
    tutoring: pl.DataFrame
    """Sessions and minutes of tutoring per student and cycle, outside every dose; null ``cycle_id``: `no_cycle`."""
    finding: pl.DataFrame
    """``district_id``, ``school_year``, ``rule``, ``rows``: every rule of ``FINDINGS``, also where no row breaks it."""
    year: pl.DataFrame
    """``district_id``, ``school_year``, ``known_through``: the day up to which the log tells of these cycles."""


def cycle_tables(
    facts: Mapping[str, pl.LazyFrame],
    policies: Mapping[str, DistrictPolicy],
    peers: pl.DataFrame | None = None,
) -> CycleTables:
    """Compute every table about cycles.

    Args:
        facts: Current facts of the families `cycle` and `session`, any districts and school years.
        policies: Policy of each district; a district without one is judged by the defaults.
        peers: ``district_id``, ``school_year``, ``cycle_id``, ``subject_key``, ``peer_slope`` where a norm
            exists; elsewhere the peer condition drops out (SEMANTICS 6.6).
    """
    known = read(facts, policies)
    meetings = _meetings(known)
    member = _members(known)
    growth = _growth(known, member)
    outcome = _outcomes(known, meetings, growth, peers)
    keys = [*YEAR, "cycle_id", "subject_key"]
    return CycleTables(
        cycle=_conform(_cycles(known, meetings), Cycle, [*YEAR, "school_id", "cycle_id"]),
        cycle_outcome=_conform(outcome, CycleOutcome, keys),
        progress=_conform(growth.filter(pl.col("measure").is_not_null()), Progress, keys),
        tutoring=known.tutoring,
        finding=_findings(known, outcome),
        year=known.year,
    )


def cycles(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """``Cycle`` rows without ``input_id``."""
    return cycle_tables(facts, policies).cycle


def cycle_outcomes(
    facts: Mapping[str, pl.LazyFrame],
    policies: Mapping[str, DistrictPolicy],
    peers: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """``CycleOutcome`` rows without ``input_id``."""
    return cycle_tables(facts, policies, peers).cycle_outcome


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


def _cycles(known: CycleFacts, meetings: pl.DataFrame) -> pl.DataFrame:
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
    members = known.member.group_by("cycle_no").agg(members=pl.len())
    return (
        known.cycle.join(meetings, on="cycle_no", how="left")
        .join(members, on="cycle_no", how="left")
        .with_columns(
            state=state,
            planned_days=planned_days,
            is_length_out_of_range=~planned_days.is_between(pl.col("shortest_days"), pl.col("longest_days")),
            members=pl.col("members").fill_null(0),
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

    Baseline: recorded, else the median of the first three probe days where all lie in week 1, else the first.
    """
    first = (
        known.probe.filter(pl.int_range(pl.len()).over("member_no") < 3)
        .group_by("member_no")
        .agg(
            first=pl.col("score").sort_by("day").first(),
            middle=pl.col("score").median(),
            days=pl.len(),
            last_day=pl.col("day").max(),
        )
        .select(
            "member_no",
            measured=pl.when((pl.col("days") == 3) & (pl.col("last_day") < DAYS_PER_WEEK))
            .then("middle")
            .otherwise("first"),
        )
    )
    goal_days = (pl.col("planned_end_on") - pl.col("opened_on")).dt.total_days()
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
    fit = ols(known.probe.select(series_no="member_no", day="day", score="score"))
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
        .with_columns(
            slope_status=slope_status(),
            first_on=pl.col("opened_on") + pl.duration(days="first_day"),
            last_on=pl.col("opened_on") + pl.duration(days="last_day"),
            aim_at_level_end=aim(pl.col("baseline"), pl.col("goal_score"), pl.col("level_day"), pl.col("goal_days")),
        )
    )


def _dose(known: CycleFacts, meetings: pl.DataFrame, growth: pl.DataFrame) -> pl.DataFrame:
    """Members with sessions planned, held and attended while they were members, and their minutes.

    The plan of a cycle that is still running counts as far as it is due: by ``known_through`` where
    sessions are scheduled; where none is, the plan of the opening counts once the cycle is over, and only
    for members who were there from the first day to the last.
    """
    is_closed = pl.col("closed_on").is_not_null()
    due = known.cycle.select("cycle_no", "session_minutes", due_through=pl.when(~is_closed).then("known_through"))
    is_due = pl.col("is_scheduled") & (pl.col("due_through").is_null() | (pl.col("on") <= pl.col("due_through")))
    spells = (
        known.spell.join(known.meeting, on="cycle_no")
        .filter((pl.col("on") >= pl.col("from_on")) & (pl.col("to_on").is_null() | (pl.col("on") <= pl.col("to_on"))))
        .join(due, on="cycle_no")
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
        )
        .with_columns(
            delivery_share=_share(pl.col("held_sessions"), pl.col("planned_sessions")),
            attendance_share=_share(pl.col("attended_sessions"), pl.col("held_sessions")),
            dose_share=_share(pl.col("attended_minutes"), pl.col("planned_minutes")),
        )
    )


def _outcomes(
    known: CycleFacts, meetings: pl.DataFrame, growth: pl.DataFrame, peers: pl.DataFrame | None
) -> pl.DataFrame:
    """One row per cycle and student, with its response class."""
    keys = [*YEAR, "cycle_id", "subject_key"]
    weeks = known.evidence.group_by("member_no").agg(weeks_with_evidence=pl.len())
    rows = _dose(known, meetings, growth).join(weeks, on="member_no", how="left")
    if peers is None:
        rows = rows.with_columns(peer_slope=pl.lit(None, pl.Float64))
    else:
        rows = rows.join(peers.select(*keys, "peer_slope"), on=keys, how="left")
    return rows.with_columns(pl.col("weeks_with_evidence").fill_null(0)).with_columns(_verdict().struct.unnest())


def _verdict() -> pl.Expr:
    """Response class and its reason; the first that holds decides (METHOD 2.4).

    Rows without an aim line (no goal, no baseline or no planned end) say nothing about the child: they are
    `insufficient_data`, not `questionable`. Nobody is `poor` before the shortest cycle has passed, counted to
    the close, the student's leaving or the last day known, whichever is first.
    """
    dose, fidelity = pl.col("dose_share"), pl.col("fidelity_share")
    days = (pl.min_horizontal("known_through", "closed_on", "left_on") - pl.col("opened_on")).dt.total_days()
    is_slow = (pl.col("p_slope_at_least_goal") < pl.col("poor_below")) & (
        pl.col("peer_slope").is_null() | (pl.col("slope") < pl.col("peer_slope"))
    )
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
        pl.when(pl.col("peer_slope").is_null())
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
