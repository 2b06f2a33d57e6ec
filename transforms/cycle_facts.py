"""Which cycle each fact belongs to: openings, members and their spells, sessions, attendance, probes, evidence.

No shares and no judgement: those are in ``cycles``.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from schemas.policy import DistrictPolicy
from transforms.cycle_places import (
    PLACE,
    PLANS,
    YEAR,
    broken_by,
    inside,
    of_type,
    openings,
    place,
    until_next,
    with_closes,
    years,
)
from transforms.growth import DAYS_PER_WEEK
from transforms.probes import probe_days, scored_probes

PRESENT, PARTIAL, ABSENT, UNKNOWN = range(4)
"""States of attendance; of two rows about one student and session the lower counts."""

_CYCLE_COLUMNS = (
    *("event_type", *PLACE, "subject_key", "occurred_on", "export_at", "natural_key", "tier", "concept"),
    *("intervention", "measure", "planned_sessions", "session_minutes", "planned_end_on", "parent_goal"),
    *("baseline", "goal_score", "leave_reason", "close_reason"),
)
_SESSION_COLUMNS = (
    *("event_type", *PLACE, "subject_key", "occurred_on", "export_at", "natural_key", "starts_at"),
    *("planned_minutes", "held_minutes"),
    *("fidelity_share", "attendance", "attended_minutes", "tutor_key", "measure", "form", "score", "goal_score"),
)
_MEETINGS = (*PLANS, "SessionHeld")


class CycleFacts(NamedTuple):
    """Facts beside the numbers of the cycle and the member they belong to."""

    year: pl.DataFrame
    """``district_id``, ``school_year``, ``known_through``: the last day on which something happened there."""
    cycle: pl.DataFrame
    """One row per opening: ``cycle_no``, what it was opened with, ``closed_on``, ``ends_on`` (closed, else
    planned end, else null), ``known_through`` and the district's knobs."""
    member: pl.DataFrame
    """One row per cycle and student: ``member_no``, ``cycle_no``, first joining, last leaving, baseline, goal."""
    spell: pl.DataFrame
    """One row per unbroken stay of a member: ``from_on``, ``to_on`` (null: not left), both days included."""
    meeting: pl.DataFrame
    """One row per cycle and session: scheduled, held, cancelled, and minutes."""
    attendance: pl.DataFrame
    """One row per member and session while a member: ``state``, ``minutes``, ``is_assumed``."""
    probe: pl.DataFrame
    """One row per member and probe day of the series: ``day`` from the start of the cycle, median ``score``."""
    scored: pl.DataFrame
    """Every probe with a score, in a cycle or not, with the family of its form."""
    evidence: pl.DataFrame
    """One row per member and week of the cycle with a note."""
    tutoring: pl.DataFrame
    """Tutoring minutes per student and cycle; a null ``cycle_id`` is `no_cycle` (SEMANTICS 6.7)."""
    finding: pl.DataFrame
    """``district_id``, ``school_year``, ``rule``: one row per fact that found no place."""


def read(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> CycleFacts:
    """Read the cycle and session facts once and bring each to the cycle and member it belongs to.

    Everything stays within its district and school year. A row that names a cycle belongs to it whatever
    its day; where several schools use the name, the row's school decides, then the one cycle whose dates
    contain the day. A row that names only a group belongs to the one cycle of that group whose dates
    contain the day. Where two cycles remain the row belongs to none and is a finding: a guess would put
    one child's support on another child's record.
    """
    cycle = facts["cycle"].select(_CYCLE_COLUMNS).rename({"occurred_on": "on"}).collect()
    session = session_rows(facts["session"])
    year = years(cycle, session)
    opened = openings(cycle, year, policies)
    closed = with_closes(cycle, opened)
    opening = closed.rows
    joined = place(of_type(cycle, "StudentJoined"), opening, "member_without_cycle")
    member, spell, strays = _members(cycle, joined.rows, opening)
    stay = _stays(opening, member, spell)
    log = session.filter(~pl.col("is_tutoring"))
    met = place(log.filter(pl.col("event_type").is_in(_MEETINGS)), opening, "session_without_cycle")
    marked = place(_marks(of_type(log, "AttendanceRecorded")), opening, "session_without_cycle")
    attendance, strangers = _attendance(marked.rows, stay)
    scored = scored_probes(of_type(log, "ProbeScored"), policies)
    probe, outside = probe_days(scored, stay)
    tutoring, untutored = _tutoring(session.filter("is_tutoring"), stay)
    meeting = _meetings(met.rows, marked.rows)
    return CycleFacts(
        year=year,
        cycle=opening,
        member=_with_series(member, probe),
        spell=spell,
        meeting=meeting,
        attendance=attendance.join(
            meeting.select("cycle_no", "starts", "is_held"), on=["cycle_no", "starts"], how="left"
        ),
        probe=probe,
        scored=scored,
        evidence=_evidence(of_type(session, "EvidenceNoted"), opening, stay),
        tutoring=tutoring,
        finding=pl.concat(
            [closed.broken, joined.broken, strays, met.broken, marked.broken, strangers, outside, untutored]
        ),
    )


def session_rows(facts: pl.LazyFrame) -> pl.DataFrame:
    """Session facts with their local start as a time; a day alone is its midnight.

    Rows without a group that name a tutor are tutoring: minutes, never dose (SEMANTICS 6.7).
    """
    text = pl.col("starts_at")
    starts = pl.coalesce(
        text.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="us"),
        text.str.slice(0, 10).str.to_datetime("%Y-%m-%d", strict=False, time_unit="us"),
        pl.col("occurred_on").cast(pl.Datetime("us")),
    )
    return (
        facts.select(_SESSION_COLUMNS)
        .with_columns(starts=starts, is_tutoring=pl.col("group_id").is_null() & pl.col("tutor_key").is_not_null())
        .with_columns(on=pl.col("starts").dt.date())
        .drop("starts_at", "occurred_on")
        .collect()
    )


def _members(
    cycle: pl.DataFrame, placed: pl.DataFrame, opening: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Members, their spells, and the facts about students who never joined.

    A student may be a member of cycles of the same name in two schools: what is said later by name alone
    belongs to the one whose school or dates fit, and to none where both do.
    """
    who = [*YEAR, "cycle_id", "subject_key"]
    key = ["cycle_no", "subject_key"]
    asked = (
        placed.filter(pl.col("subject_key").is_not_null())
        .drop("cycle_id")
        .join(opening.select("cycle_no", "cycle_id", "opened_on"), on="cycle_no")
        .with_columns(pl.coalesce("on", "opened_on"))
        .sort("on", "export_at", "natural_key", "cycle_no", nulls_last=True)
    )
    chosen = asked.select(*who, "cycle_no").unique().sort(key).with_row_index("member_no")
    joined = asked.join(chosen.select(*key, "member_no"), on=key, maintain_order="left")

    later = cycle.filter(pl.col("event_type").is_in(["StudentLeft", "GoalMet"]))
    only = chosen.filter(pl.len().over(who) == 1).select(*who, "cycle_no")
    plain = later.join(only, on=who)
    found = place(later.join(only, on=who, how="anti"), until_next(opening), "not_a_member")
    told = pl.concat([plain, found.rows.select(plain.columns)])
    known = told.join(chosen.select(*key, "member_no"), on=key)
    met = of_type(known, "GoalMet").select("member_no", is_goal_met_recorded=pl.lit(value=True)).unique()

    spell = _spells(joined, of_type(known, "StudentLeft"))
    bounds = spell.group_by("member_no").agg(
        joined_on=pl.col("from_on").first(), left_on=pl.col("to_on").last(), leave_reason=pl.col("leave_reason").last()
    )
    said = joined.group_by("member_no", maintain_order=True).agg(
        pl.col("baseline").drop_nulls().first(), pl.col("goal_score").drop_nulls().last()
    )
    member = chosen.select("member_no", "cycle_no", "subject_key")
    for more in (bounds, said, met):
        member = member.join(more, on="member_no", how="left", maintain_order="left")
    strangers = broken_by(told.join(chosen, on=key, how="anti"), "not_a_member")
    return (
        member.with_columns(pl.col("is_goal_met_recorded").fill_null(value=False)),
        spell.drop("leave_reason"),
        pl.concat([strangers, found.broken]),
    )


def _spells(joined: pl.DataFrame, left: pl.DataFrame) -> pl.DataFrame:
    """Unbroken stays in order of time. Joining twice without leaving, or leaving twice, says nothing new."""
    key = ["member_no", "cycle_no"]
    is_other = pl.col("member_no") != pl.col("member_no").shift(1, fill_value=None)
    is_turn = pl.col("is_leaving") != pl.col("is_leaving").shift(1, fill_value=True)
    ends = pl.col("member_no") == pl.col("member_no").shift(-1)
    return (
        pl.concat(
            [
                joined.select(*key, "on", leave_reason=pl.lit(None, pl.String), is_leaving=pl.lit(value=False)),
                left.filter(pl.col("on").is_not_null()).select(
                    *key, "on", "leave_reason", is_leaving=pl.lit(value=True)
                ),
            ]
        )
        .sort("member_no", "on", "is_leaving", "leave_reason")
        .filter(pl.when(is_other.fill_null(value=True)).then(~pl.col("is_leaving")).otherwise(is_turn))
        .select(
            *key,
            "is_leaving",
            from_on="on",
            to_on=pl.when(ends).then(pl.col("on").shift(-1)),
            leave_reason=pl.when(ends).then(pl.col("leave_reason").shift(-1)),
        )
        .filter(~pl.col("is_leaving"))
        .drop("is_leaving")
    )


def _stays(opening: pl.DataFrame, member: pl.DataFrame, spell: pl.DataFrame) -> pl.DataFrame:
    """Spells with their student and cycle: what a fact about a student on a day is compared with."""
    cycles = opening.select("cycle_no", *YEAR, "cycle_id", "measure", "opened_on", "ends_on", "assumed_minutes")
    return spell.join(member.select("member_no", "subject_key"), on="member_no").join(cycles, on="cycle_no")


def _meetings(met: pl.DataFrame, marked: pl.DataFrame) -> pl.DataFrame:
    """Sessions of each cycle.

    Said to be held and to be cancelled: the later export decides, held where both came together. A session
    that somebody attended was held; one where attendance was taken was held unless cancelled.
    """
    is_scheduled = pl.col("event_type") == "SessionScheduled"
    is_held = pl.col("event_type") == "SessionHeld"
    told = met.select(
        *("cycle_no", "starts", "on"),
        is_scheduled=is_scheduled,
        held_at=pl.when(is_held).then("export_at"),
        cancelled_at=pl.when(pl.col("event_type") == "SessionCancelled").then("export_at"),
        planned_minutes=pl.when(is_scheduled).then("planned_minutes"),
        held_minutes=pl.when(is_held).then("held_minutes"),
        fidelity_share=pl.when(is_held).then("fidelity_share"),
    )
    taken = marked.group_by("cycle_no", "starts").agg(pl.col("on").first(), pl.col("state").min())
    held_at, cancelled_at, state = pl.col("held_at"), pl.col("cancelled_at"), pl.col("state")
    is_cancelled = cancelled_at.is_not_null() & (held_at.is_null() | (held_at < cancelled_at))
    is_taken = held_at.is_not_null() | (state <= ABSENT).fill_null(value=False)
    return (
        pl.concat([told, taken], how="diagonal")
        .group_by("cycle_no", "starts")
        .agg(
            pl.col("on").first(),
            pl.col("is_scheduled").any(),
            pl.col("state").min(),
            pl.col("held_at", "cancelled_at", "planned_minutes", "held_minutes", "fidelity_share").max(),
        )
        .with_columns(is_held=(state <= PARTIAL).fill_null(value=False) | (is_taken & ~is_cancelled))
        .with_columns(is_cancelled=is_cancelled & ~pl.col("is_held"))
        .with_columns(pl.when("is_held").then(pl.col("held_minutes", "fidelity_share")))
        .drop("state", "held_at", "cancelled_at")
        .sort("cycle_no", "starts")
    )


def _marks(rows: pl.DataFrame) -> pl.DataFrame:
    """Attendance as a state. Minutes tell of presence where the code does not; no minutes tell of nothing."""
    minutes = pl.col("attended_minutes")
    state = (
        pl.when(pl.col("attendance") == "present")
        .then(PRESENT)
        .when(pl.col("attendance") == "partial")
        .then(PARTIAL)
        .when(pl.col("attendance") == "absent")
        .then(ABSENT)
        .when(minutes > 0)
        .then(PRESENT)
        .otherwise(UNKNOWN)
    )
    return rows.select(*PLACE, "on", "starts", "subject_key", state=state.cast(pl.Int8), minutes=minutes)


def _attendance(marked: pl.DataFrame, stay: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Attendance while a member, one row per session, and the rows of students who never joined."""
    who = stay.select("cycle_no", "subject_key", "member_no", "assumed_minutes").unique("member_no")
    known = marked.join(who, on=["cycle_no", "subject_key"], how="left")
    minutes = (
        pl.when(pl.col("state") == PRESENT)
        .then(pl.coalesce("minutes", "assumed_minutes"))
        .when(pl.col("state") == PARTIAL)
        .then("minutes")
    )
    rows = (
        known.filter(pl.col("member_no").is_not_null())
        .with_columns(minutes=minutes, told="minutes")
        .group_by("member_no", "cycle_no", "starts")
        .agg(pl.col("on").first(), pl.col("state").min(), pl.col("minutes", "told").max())
        .with_columns(is_assumed=pl.col("minutes").is_not_null() & pl.col("told").is_null())
        .join(stay.select("member_no", "from_on", "to_on"), on="member_no")
        .filter(inside("from_on", "to_on"))
        .select("member_no", "cycle_no", "starts", "state", "minutes", "is_assumed")
    )
    return rows, broken_by(known.filter(pl.col("member_no").is_null()), "not_a_member")


def _with_series(member: pl.DataFrame, probe: pl.DataFrame) -> pl.DataFrame:
    """Members with their series and the goal recorded for them, else the one exported beside their latest probe.

    Where the series began after another one, the recorded baseline is that of other forms and does not count.
    """
    exported = (
        probe.filter(pl.col("goal_score").is_not_null())
        .unique("member_no", keep="last", maintain_order=True)
        .select("member_no", exported="goal_score")
    )
    series = probe.group_by("member_no").agg(pl.col("family", "series_day").first())
    return (
        member.join(exported, on="member_no", how="left", maintain_order="left")
        .join(series, on="member_no", how="left", maintain_order="left")
        .with_columns(pl.col("series_day").fill_null(0), goal_score=pl.coalesce("goal_score", "exported"))
        .with_columns(baseline=pl.when(pl.col("series_day") == 0).then("baseline"))
        .drop("exported")
    )


def _evidence(rows: pl.DataFrame, opening: pl.DataFrame, stay: pl.DataFrame) -> pl.DataFrame:
    """Weeks with a note: of a cycle or group for the student named, else for every member; without either, of the
    student in every cycle whose dates contain the day."""
    names_cycle = pl.col("cycle_id").is_not_null() | pl.col("group_id").is_not_null()
    placed = place(rows.filter(names_cycle), opening, "").rows.select("cycle_no", "on", about="subject_key")
    spells = stay.select("cycle_no", "member_no", "subject_key", "opened_on", "from_on", "to_on")
    of_cycle = placed.join(spells, on="cycle_no").filter(
        pl.col("about").is_null() | (pl.col("about") == pl.col("subject_key"))
    )
    of_student = (
        rows.filter(~names_cycle)
        .select(*YEAR, "subject_key", "on")
        .join(stay, on=[*YEAR, "subject_key"])
        .filter(inside("opened_on", "ends_on"))
    )
    columns = ["member_no", "on", "opened_on", "from_on", "to_on"]
    return (
        pl.concat([of_cycle.select(columns), of_student.select(columns)])
        .filter(inside("from_on", "to_on"))
        .select("member_no", week=(pl.col("on") - pl.col("opened_on")).dt.total_days() // DAYS_PER_WEEK)
        .unique()
    )


def _tutoring(rows: pl.DataFrame, stay: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Minutes of tutoring per student and cycle, and the sessions that lie in no one cycle."""
    student = [*YEAR, "subject_key"]
    sessions = (
        rows.filter(pl.col("event_type").is_in(["SessionHeld", "AttendanceRecorded"]))
        .filter(pl.col("subject_key").is_not_null())
        .group_by(*student, "starts", "tutor_key")
        .agg(pl.col("on").first(), pl.col("attended_minutes", "held_minutes").max())
        .select(*student, "on", minutes=pl.coalesce("attended_minutes", "held_minutes"))
        .with_row_index("session_no")
    )
    hits = (
        sessions.join(stay.drop("measure"), on=student)
        .filter(inside("opened_on", "ends_on") & inside("from_on", "to_on"))
        .group_by("session_no")
        .agg(pl.col("cycle_id").first(), cycles=pl.len())
    )
    several = pl.col("cycles") > 1
    known = sessions.join(hits, on="session_no", how="left").with_columns(
        cycle_id=pl.when(pl.col("cycles") == 1).then("cycle_id")
    )
    minutes = pl.when(pl.col("minutes").is_not_null().all()).then(pl.col("minutes").sum().round(6))
    table = (
        known.group_by(*student, "cycle_id")
        .agg(sessions=pl.len().cast(pl.Int64), minutes=minutes)
        .sort(*student, "cycle_id")
    )
    broken = [
        broken_by(known.filter(pl.col("cycles").is_null()), "no_cycle"),
        broken_by(known.filter(several), "several_open_cycles"),
    ]
    return table, pl.concat(broken)
