"""Which cycle each fact belongs to: openings, members and their spells, sessions, attendance, probes, evidence.

No shares and no judgement: those are in ``cycles``.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from schemas.policy import CycleRule, DistrictPolicy
from transforms.growth import DAYS_PER_WEEK

YEAR = ("district_id", "school_year")
PLACE = (*YEAR, "school_id", "cycle_id", "group_id")
"""What a row says about where it belongs, besides its day."""
PRESENT, PARTIAL, ABSENT, UNKNOWN = range(4)
"""States of attendance; of two rows about one student and session the lower counts."""

_CYCLE_COLUMNS = (
    *("event_type", *PLACE, "subject_key", "occurred_on", "export_at", "natural_key", "tier", "concept"),
    *("intervention", "measure", "planned_sessions", "session_minutes", "planned_end_on", "parent_goal"),
    *("baseline", "goal_score", "leave_reason", "close_reason"),
)
_SESSION_COLUMNS = (
    *("event_type", *PLACE, "subject_key", "occurred_on", "starts_at", "planned_minutes", "held_minutes"),
    *("fidelity_share", "attendance", "attended_minutes", "tutor_key", "measure", "score", "goal_score"),
)
_PLANS = ("SessionScheduled", "SessionCancelled")
_MEETINGS = (*_PLANS, "SessionHeld")
_WHOLE = ("shortest_days", "longest_days", "probes_minimum", "level_probes", "goal_probes")


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
    """One row per member and session while a member: ``state``, ``minutes``."""
    probe: pl.DataFrame
    """One row per member and probe day: ``day`` from the start of the cycle, median ``score``."""
    evidence: pl.DataFrame
    """One row per member and week of the cycle with a note."""
    tutoring: pl.DataFrame
    """Tutoring minutes per student and cycle; a null ``cycle_id`` is `no_cycle` (SEMANTICS 6.7)."""
    finding: pl.DataFrame
    """``district_id``, ``school_year``, ``rule``: one row per fact that found no place."""


class _Placed(NamedTuple):
    rows: pl.DataFrame
    broken: pl.DataFrame


def read(facts: Mapping[str, pl.LazyFrame], policies: Mapping[str, DistrictPolicy]) -> CycleFacts:
    """Read the cycle and session facts once and bring each to the cycle and member it belongs to.

    Everything stays within its district and school year. A row that names a cycle belongs to it whatever
    its day; where several schools use the name, the row's school decides, then the one cycle whose dates
    contain the day. A row that names only a group belongs to the one cycle of that group whose dates
    contain the day. Where two cycles remain the row belongs to none and is a finding: a guess would put
    one child's support on another child's record.
    """
    cycle = facts["cycle"].select(_CYCLE_COLUMNS).rename({"occurred_on": "on"}).collect()
    session = _session_rows(facts["session"])
    year = _years(cycle, session)
    opened = _openings(cycle, year, policies)
    closed = _closed(cycle, opened)
    opening = closed.rows
    joined = _place(_of(cycle, "StudentJoined"), opening, "member_without_cycle")
    member, spell, strays = _members(cycle, joined.rows, opening)
    stay = _stays(opening, member, spell)
    log = session.filter(~pl.col("is_tutoring"))
    met = _place(log.filter(pl.col("event_type").is_in(_MEETINGS)), opening, "session_without_cycle")
    marked = _place(_marks(_of(log, "AttendanceRecorded")), opening, "session_without_cycle")
    attendance, strangers = _attendance(marked.rows, stay)
    probe, outside = _probes(_of(log, "ProbeScored"), stay)
    tutoring, untutored = _tutoring(session.filter("is_tutoring"), stay)
    meeting = _meetings(met.rows, marked.rows)
    return CycleFacts(
        year=year,
        cycle=opening,
        member=_with_probe_goals(member, probe),
        spell=spell,
        meeting=meeting,
        attendance=attendance.join(
            meeting.select("cycle_no", "starts", "is_held"), on=["cycle_no", "starts"], how="left"
        ),
        probe=probe,
        evidence=_evidence(_of(session, "EvidenceNoted"), opening, stay),
        tutoring=tutoring,
        finding=pl.concat(
            [closed.broken, joined.broken, strays, met.broken, marked.broken, strangers, outside, untutored]
        ),
    )


def knobs(districts: Iterable[str], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """The cycle rule of each district as a table, with the reason codes that name a threshold."""
    rules = {district: policies[district].cycles if district in policies else CycleRule() for district in districts}
    rows = [
        {
            "district_id": district,
            **rule.model_dump(),
            "dose_reason": f"dose_below_{rule.dose_minimum:.2f}",
            "fidelity_reason": f"fidelity_below_{rule.fidelity_minimum:.2f}",
            "probes_reason": f"fewer_than_{rule.probes_minimum}_probes",
            "early_reason": f"before_day_{rule.shortest_days}",
        }
        for district, rule in rules.items()
    ]
    types = {name: pl.Int64 if name in _WHOLE else pl.Float64 for name in CycleRule.model_fields}
    reasons = dict.fromkeys(("dose_reason", "fidelity_reason", "probes_reason", "early_reason"), pl.String)
    return pl.DataFrame(rows, schema={"district_id": pl.String, **types, **reasons})


def _of(rows: pl.DataFrame, event_type: str) -> pl.DataFrame:
    return rows.filter(pl.col("event_type") == event_type)


def _broken(rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    return rows.select(*YEAR, rule=pl.lit(rule))


def _inside(first: str, last: str) -> pl.Expr:
    """Whether the day lies between two days, both included; a null last day is no end."""
    on = pl.col("on")
    return ((on >= pl.col(first)) & (pl.col(last).is_null() | (on <= pl.col(last)))).fill_null(value=False)


def _session_rows(facts: pl.LazyFrame) -> pl.DataFrame:
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


def _years(cycle: pl.DataFrame, session: pl.DataFrame) -> pl.DataFrame:
    """The last day known of each district and school year, which stands for today.

    Sessions scheduled or cancelled are plans, which may lie ahead, and do not move it.
    """
    day = pl.when(~pl.col("event_type").is_in(_PLANS)).then("on")
    return (
        pl.concat([cycle.select(*YEAR, "event_type", "on"), session.select(*YEAR, "event_type", "on")])
        .group_by(YEAR)
        .agg(known_through=day.max())
        .sort(YEAR)
    )


def _openings(cycle: pl.DataFrame, year: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Cycles opened, one row each; a cycle without id is named by its group and day (SEMANTICS 1.1)."""
    opened = (
        _of(cycle, "CycleOpened")
        .with_columns(cycle_id=pl.coalesce("cycle_id", pl.concat_str("group_id", pl.lit("@"), "on")))
        .filter(pl.col("cycle_id").is_not_null())
        .sort(*YEAR, "school_id", "cycle_id", "on", "natural_key")
        .unique([*YEAR, "school_id", "cycle_id"], keep="first", maintain_order=True)
        .with_row_index("cycle_no")
    )
    rules = knobs(opened["district_id"].unique().sort(), policies)
    return (
        opened.select(
            *("cycle_no", *PLACE, "tier", "concept", "intervention", "measure", "planned_sessions"),
            *("session_minutes", "planned_end_on", "parent_goal", pl.col("on").alias("opened_on")),
        )
        .join(year, on=YEAR, how="left", maintain_order="left")
        .join(rules, on="district_id", how="left", maintain_order="left")
        .with_columns(ends_on=pl.col("planned_end_on"))
    )


def _until_next(opening: pl.DataFrame) -> pl.DataFrame:
    """Openings that last until their group opens again: a cycle is often closed, or left, after its planned end."""
    group = [*YEAR, "school_id", pl.coalesce("group_id", "cycle_id")]
    following = pl.col("opened_on").shift(-1).over(group, order_by=["opened_on", "cycle_no"])
    return opening.with_columns(ends_on=following.dt.offset_by("-1d"))


def _closed(cycle: pl.DataFrame, opening: pl.DataFrame) -> _Placed:
    """Openings with their close: of two closes the one exported last, then the later day."""
    closes = _place(_of(cycle, "CycleClosed"), _until_next(opening), "close_without_cycle")
    last = (
        closes.rows.sort("export_at", "on", "natural_key")
        .unique("cycle_no", keep="last", maintain_order=True)
        .select("cycle_no", "close_reason", closed_on="on")
    )
    rows = opening.join(last, on="cycle_no", how="left", maintain_order="left")
    return _Placed(rows.with_columns(ends_on=pl.coalesce("closed_on", "planned_end_on")), closes.broken)


def _place(rows: pl.DataFrame, opening: pl.DataFrame, rule: str) -> _Placed:
    """Rows with the ``cycle_no`` they belong to; the others break ``rule`` or fit several cycles."""
    keys = rows.select(*PLACE, "on").unique().with_row_index("key_no")
    cycles = opening.select(
        *YEAR,
        "cycle_no",
        "cycle_id",
        "opened_on",
        "ends_on",
        at_school="school_id",
        group=pl.coalesce("group_id", "cycle_id"),
    )
    named = keys.join(cycles, on=[*YEAR, "cycle_id"])
    grouped = keys.filter(pl.col("cycle_id").is_null()).join(
        cycles, left_on=[*YEAR, "group_id"], right_on=[*YEAR, "group"]
    )
    is_here = (pl.col("school_id") == pl.col("at_school")).fill_null(value=False)
    is_inside = _inside("opened_on", "ends_on")
    found = (
        pl.concat(
            [
                named.select("key_no", "cycle_no", is_here=is_here, is_inside=is_inside),
                grouped.filter(is_inside).select("key_no", "cycle_no", is_here=is_here, is_inside=pl.lit(value=True)),
            ]
        )
        .filter(pl.col("is_here") == pl.col("is_here").max().over("key_no"))
        .filter(pl.col("is_inside") == pl.col("is_inside").max().over("key_no"))
        .group_by("key_no")
        .agg(pl.col("cycle_no").first(), cycles=pl.len())
    )
    placed = rows.join(
        keys.join(found, on="key_no", how="left").drop("key_no"), on=[*PLACE, "on"], how="left", nulls_equal=True
    )
    return _Placed(
        placed.filter(pl.col("cycles") == 1).drop("cycles"),
        pl.concat(
            [
                _broken(placed.filter(pl.col("cycles").is_null()), rule),
                _broken(placed.filter(pl.col("cycles") > 1), "several_open_cycles"),
            ]
        ),
    )


def _members(
    cycle: pl.DataFrame, placed: pl.DataFrame, opening: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Members, their spells, and the facts about students who never joined.

    A student who joined cycles of the same name in two schools is shown in the one joined last, because
    the name and the student are the key of an outcome.
    """
    who = [*YEAR, "cycle_id", "subject_key"]
    joined = (
        placed.filter(pl.col("subject_key").is_not_null())
        .drop("cycle_id")
        .join(opening.select("cycle_no", "cycle_id", "opened_on"), on="cycle_no")
        .with_columns(pl.coalesce("on", "opened_on"))
        .sort("on", "export_at", "natural_key", nulls_last=True)
        .with_columns(last=pl.col("cycle_no").sort_by("on", "cycle_no").last().over(who))
    )
    twice = joined.filter(pl.col("cycle_no") != pl.col("last"))
    joined = joined.filter(pl.col("cycle_no") == pl.col("last"))
    choice = joined.select(*who, "cycle_no").unique()

    later = cycle.filter(pl.col("event_type").is_in(["StudentLeft", "GoalMet"]))
    unnamed = _place(later.filter(pl.col("cycle_id").is_null()), _until_next(opening), "not_a_member")
    renamed = unnamed.rows.drop("cycle_id").join(opening.select("cycle_no", "cycle_id"), on="cycle_no")
    later = pl.concat([later.filter(pl.col("cycle_id").is_not_null()), renamed.select(later.columns)])
    later = later.join(choice, on=who, how="left")
    left = _of(later, "StudentLeft").filter(pl.col("cycle_no").is_not_null() & pl.col("on").is_not_null())
    met = _of(later, "GoalMet").select("cycle_no", "subject_key", is_goal_met_recorded=pl.lit(value=True)).unique()

    key = ["cycle_no", "subject_key"]
    turns = (
        pl.concat(
            [
                joined.select(*key, "on", is_leaving=pl.lit(value=False), leave_reason=pl.lit(None, pl.String)),
                left.select(*key, "on", "leave_reason", is_leaving=pl.lit(value=True)),
            ],
            how="diagonal",
        )
        .sort(*key, "on", "is_leaving", "leave_reason")
        .filter(pl.col("is_leaving") != pl.col("is_leaving").shift(1, fill_value=True).over(key))
        .with_columns(pl.col("leave_reason").shift(-1).over(key), to_on=pl.col("on").shift(-1).over(key))
        .filter(~pl.col("is_leaving"))
    )
    said = joined.group_by(key).agg(pl.col("baseline").drop_nulls().first(), pl.col("goal_score").drop_nulls().last())
    member = (
        turns.group_by(key, maintain_order=True)
        .agg(
            pl.col("on").first().alias("joined_on"),
            left_on=pl.col("to_on").last(),
            leave_reason=pl.col("leave_reason").last(),
        )
        .join(said, on=key, how="left", maintain_order="left")
        .join(met, on=key, how="left", maintain_order="left")
        .with_columns(pl.col("is_goal_met_recorded").fill_null(value=False))
        .with_row_index("member_no")
    )
    spell = turns.join(member.select("member_no", *key), on=key).select("member_no", "cycle_no", "to_on", from_on="on")
    strays = [_broken(later.filter(pl.col("cycle_no").is_null()), "not_a_member"), unnamed.broken]
    return member, spell, pl.concat([*strays, _broken(twice, "same_cycle_twice")])


def _stays(opening: pl.DataFrame, member: pl.DataFrame, spell: pl.DataFrame) -> pl.DataFrame:
    """Spells with their student and cycle: what a fact about a student on a day is compared with."""
    cycles = opening.select("cycle_no", *YEAR, "cycle_id", "measure", "opened_on", "ends_on", "assumed_minutes")
    return spell.join(member.select("member_no", "subject_key"), on="member_no").join(cycles, on="cycle_no")


def _meetings(met: pl.DataFrame, marked: pl.DataFrame) -> pl.DataFrame:
    """Sessions of each cycle. One where attendance was taken was held unless cancelled; one attended was held."""
    is_scheduled = pl.col("event_type") == "SessionScheduled"
    is_held = pl.col("event_type") == "SessionHeld"
    told = met.select(
        *("cycle_no", "starts", "on"),
        is_scheduled=is_scheduled,
        was_held=is_held,
        was_cancelled=pl.col("event_type") == "SessionCancelled",
        planned_minutes=pl.when(is_scheduled).then("planned_minutes"),
        held_minutes=pl.when(is_held).then("held_minutes"),
        fidelity_share=pl.when(is_held).then("fidelity_share"),
    )
    taken = marked.group_by("cycle_no", "starts").agg(pl.col("on").first(), pl.col("state").min())
    taken = taken.with_columns(state=pl.col("state").cast(pl.Int8))
    is_attended, is_taken = pl.col("state") <= PARTIAL, pl.col("state") <= ABSENT
    was_held, was_cancelled = pl.col("was_held"), pl.col("was_cancelled")
    held = was_held | is_attended | (is_taken & ~was_cancelled)
    return (
        pl.concat([told, taken], how="diagonal")
        .group_by("cycle_no", "starts")
        .agg(
            pl.col("on").first(),
            pl.col("state").min().fill_null(UNKNOWN),
            pl.col("is_scheduled", "was_held", "was_cancelled").any(),
            pl.col("planned_minutes", "held_minutes", "fidelity_share").max(),
        )
        .with_columns(is_held=held)
        .with_columns(is_cancelled=was_cancelled & ~pl.col("is_held"))
        .drop("state", "was_held", "was_cancelled")
        .sort("cycle_no", "starts")
    )


def _marks(rows: pl.DataFrame) -> pl.DataFrame:
    """Attendance as a state; minutes tell it where the code does not. An absence has no minutes of its own."""
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
        .when(minutes == 0)
        .then(ABSENT)
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
        .with_columns(minutes=minutes)
        .group_by("member_no", "cycle_no", "starts")
        .agg(pl.col("on").first(), pl.col("state").min(), pl.col("minutes").max())
        .join(stay.select("member_no", "from_on", "to_on"), on="member_no")
        .filter(_inside("from_on", "to_on"))
        .select("member_no", "cycle_no", "starts", "state", "minutes")
    )
    return rows, _broken(known.filter(pl.col("member_no").is_null()), "not_a_member")


def _probes(rows: pl.DataFrame, stay: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Probe days of each member in the cycle's measure, and the probes that fit no cycle.

    A probe counts for every cycle of its student and measure whose dates contain its day, while the
    student is a member; probes of one day count by their median.
    """
    scored = rows.filter(pl.col("score").is_finite()).with_row_index("fact_no")
    hits = (
        scored.select("fact_no", *YEAR, "subject_key", "measure", "on", "score", "goal_score")
        .join(stay, on=[*YEAR, "subject_key", "measure"])
        .filter(_inside("opened_on", "ends_on") & _inside("from_on", "to_on"))
    )
    days = (
        hits.group_by("member_no", "on")
        .agg(pl.col("score").median(), pl.col("goal_score").max(), pl.col("opened_on").first())
        .select("member_no", "on", "score", "goal_score", day=(pl.col("on") - pl.col("opened_on")).dt.total_days())
        .sort("member_no", "on")
    )
    return days, _broken(scored.join(hits, on="fact_no", how="anti"), "probe_outside_cycle")


def _with_probe_goals(member: pl.DataFrame, probe: pl.DataFrame) -> pl.DataFrame:
    """Members with the goal recorded for them, else the one exported beside their latest probe."""
    exported = (
        probe.filter(pl.col("goal_score").is_not_null())
        .unique("member_no", keep="last", maintain_order=True)
        .select("member_no", exported="goal_score")
    )
    return (
        member.join(exported, on="member_no", how="left", maintain_order="left")
        .with_columns(goal_score=pl.coalesce("goal_score", "exported"))
        .drop("exported")
    )


def _evidence(rows: pl.DataFrame, opening: pl.DataFrame, stay: pl.DataFrame) -> pl.DataFrame:
    """Weeks with a note: of a cycle or group for the student named, else for every member; without either, of the
    student in every cycle whose dates contain the day."""
    names_cycle = pl.col("cycle_id").is_not_null() | pl.col("group_id").is_not_null()
    placed = _place(rows.filter(names_cycle), opening, "").rows.select("cycle_no", "on", about="subject_key")
    spells = stay.select("cycle_no", "member_no", "subject_key", "opened_on", "from_on", "to_on")
    of_cycle = placed.join(spells, on="cycle_no").filter(
        pl.col("about").is_null() | (pl.col("about") == pl.col("subject_key"))
    )
    of_student = (
        rows.filter(~names_cycle)
        .select(*YEAR, "subject_key", "on")
        .join(stay, on=[*YEAR, "subject_key"])
        .filter(_inside("opened_on", "ends_on"))
    )
    columns = ["member_no", "on", "opened_on", "from_on", "to_on"]
    return (
        pl.concat([of_cycle.select(columns), of_student.select(columns)])
        .filter(_inside("from_on", "to_on"))
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
        .filter(_inside("opened_on", "ends_on") & _inside("from_on", "to_on"))
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
        _broken(known.filter(pl.col("cycles").is_null()), "no_cycle"),
        _broken(known.filter(several), "several_open_cycles"),
    ]
    return table, pl.concat(broken)
