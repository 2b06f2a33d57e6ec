"""Facts of cycles written by hand, and slow, obvious versions of the rules to compare with."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

import polars as pl
from scipy import stats

from schemas.contract import columns
from schemas.events import FAMILIES
from schemas.policy import CycleRule, DistrictPolicy

OPENED = date(2025, 9, 1)
DISTRICT = "d1"
YEAR = "2026"
POLICIES = {DISTRICT: DistrictPolicy(time_zone="America/Denver")}


def day(number: int) -> date:
    """Day of the cycle: 0 is its first."""
    return OPENED + timedelta(days=number)


def facts(*rows: dict[str, Any]) -> dict[str, pl.LazyFrame]:
    """Facts as the log gives them: every column of the contract, families apart."""
    built = {}
    for family in ("cycle", "session"):
        schema = columns(FAMILIES[family])
        mine = [row for row in rows if row["family"] == family]
        data = {
            name: pl.Series(name, [row.get(name) for row in mine], dtype=dtype, strict=False)
            for name, dtype in schema.items()
        }
        built[family] = pl.DataFrame(data).lazy()
    return built


def _fact(family: str, event_type: str, on: date | None, values: dict[str, Any]) -> dict[str, Any]:
    made = {"district_id": DISTRICT, "school_year": YEAR, "export_at": datetime(2026, 6, 1, tzinfo=UTC), **values}
    made |= {"family": family, "event_type": event_type, "occurred_on": on}
    return made | {"natural_key": "|".join(f"{each}" for each in sorted(made.items(), key=str))}


def opened(cycle: str | None = "c1", on: int = 0, days: int | None = 42, **values: Any) -> dict[str, Any]:
    """A cycle opened on a day, planned for some days."""
    end = None if days is None else day(on + days)
    values = {"school_id": "s1", "group_id": "g1", "measure": "m", "session_minutes": 30.0} | values
    return _fact("cycle", "CycleOpened", day(on), {"cycle_id": cycle, "planned_end_on": end, **values})


def joined(who: str = "ana", on: int | None = 0, cycle: str | None = "c1", **values: Any) -> dict[str, Any]:
    """A student joins a cycle."""
    at = None if on is None else day(on)
    return _fact("cycle", "StudentJoined", at, {"cycle_id": cycle, "subject_key": who, **values})


def left(who: str = "ana", on: int = 0, cycle: str | None = "c1", **values: Any) -> dict[str, Any]:
    """A student leaves a cycle."""
    return _fact("cycle", "StudentLeft", day(on), {"cycle_id": cycle, "subject_key": who, **values})


def goal_met(who: str = "ana", on: int = 0, cycle: str | None = "c1", **values: Any) -> dict[str, Any]:
    """A goal is recorded as met."""
    return _fact("cycle", "GoalMet", day(on), {"cycle_id": cycle, "subject_key": who, **values})


def closed(on: int, cycle: str | None = "c1", **values: Any) -> dict[str, Any]:
    """A cycle is closed."""
    return _fact("cycle", "CycleClosed", day(on), {"cycle_id": cycle, "close_reason": "completed", **values})


def _session(event_type: str, on: int, at: str | None, values: dict[str, Any]) -> dict[str, Any]:
    starts = day(on).isoformat() + (f"T{at}" if at else "")
    values = {"cycle_id": "c1", "group_id": "g1", "starts_at": starts} | values
    return _fact("session", event_type, day(on), values)


def scheduled(on: int, at: str | None = "09:00:00", **values: Any) -> dict[str, Any]:
    """A session is scheduled."""
    return _session("SessionScheduled", on, at, values)


def held(on: int, at: str | None = "09:00:00", **values: Any) -> dict[str, Any]:
    """A session is held."""
    return _session("SessionHeld", on, at, {"held_minutes": 30.0} | values)


def cancelled(on: int, at: str | None = "09:00:00", **values: Any) -> dict[str, Any]:
    """A session is cancelled."""
    return _session("SessionCancelled", on, at, values)


def attended(
    on: int, who: str = "ana", attendance: str | None = "present", minutes: float | None = 30.0, **values: Any
) -> dict[str, Any]:
    """Attendance of a student at the session of nine o'clock."""
    values = {"subject_key": who, "attendance": attendance, "attended_minutes": minutes} | values
    return _session("AttendanceRecorded", on, values.pop("at", "09:00:00"), values)


def probe(on: int, score: float, who: str = "ana", **values: Any) -> dict[str, Any]:
    """A probe is scored."""
    return _fact("session", "ProbeScored", day(on), {"subject_key": who, "measure": "m", "score": score} | values)


def evidence(on: int, who: str | None = "ana", **values: Any) -> dict[str, Any]:
    """Evidence is noted."""
    return _fact("session", "EvidenceNoted", day(on), {"subject_key": who} | values)


def tutored(on: int, minutes: float | None = 45.0, who: str = "ana", **values: Any) -> list[dict[str, Any]]:
    """A row of a tutoring log: a session held for one student, and that student's attendance."""
    mine = {"cycle_id": None, "group_id": None, "tutor_key": "t1", "subject_key": who} | values
    return [
        _session("SessionHeld", on, "15:00:00", mine | {"held_minutes": minutes}),
        _session("AttendanceRecorded", on, "15:00:00", mine | {"attendance": "present", "attended_minutes": minutes}),
    ]


def reference_outcomes(rows: Iterable[dict[str, Any]], rule: CycleRule) -> dict[tuple[str, str], dict[str, Any]]:
    """Outcome of each cycle and student of one district, school year and school, one fact at a time."""
    rows = list(rows)
    cycles = {row["cycle_id"]: row for row in rows if row["event_type"] == "CycleOpened"}
    known = max(row["occurred_on"] for row in rows if row["event_type"] not in ("SessionScheduled", "SessionCancelled"))
    pairs = sorted({(row["cycle_id"], row["subject_key"]) for row in rows if row["event_type"] == "StudentJoined"})
    return {
        (cycle, who): _reference_outcome(rows, cycles, cycle, who, known, rule)
        for cycle, who in pairs
        if cycle in cycles
    }


def _end(rows: list[dict[str, Any]], cycle: dict[str, Any]) -> tuple[date | None, date | None]:
    closes = [
        r["occurred_on"] for r in rows if (r["event_type"], r.get("cycle_id")) == ("CycleClosed", cycle["cycle_id"])
    ]
    close = max(closes, default=None)
    return close, close or cycle["planned_end_on"]


def _contains(rows: list[dict[str, Any]], cycle: dict[str, Any], on: date) -> bool:
    end = _end(rows, cycle)[1]
    return cycle["occurred_on"] <= on and (end is None or on <= end)


def _belongs(rows: list[dict[str, Any]], cycles: dict[str, Any], row: dict[str, Any], cycle: str) -> bool:
    if row.get("cycle_id") is not None:
        return row["cycle_id"] == cycle
    fit = [
        name
        for name, each in cycles.items()
        if each["group_id"] == row["group_id"] and _contains(rows, each, row["occurred_on"])
    ]
    return fit == [cycle]


def _stays(rows: list[dict[str, Any]], cycle: str, who: str) -> list[tuple[date, date | None]]:
    turns = sorted(
        (row["occurred_on"], row["event_type"] == "StudentLeft")
        for row in rows
        if row["event_type"] in ("StudentJoined", "StudentLeft")
        and (row["cycle_id"], row["subject_key"]) == (cycle, who)
    )
    stays: list[tuple[date, date | None]] = []
    for on, is_leaving in turns:
        is_in = bool(stays) and stays[-1][1] is None
        if is_in and is_leaving:
            stays[-1] = (stays[-1][0], on)
        elif not is_in and not is_leaving:
            stays.append((on, None))
    return stays


def _reference_outcome(
    rows: list[dict[str, Any]], cycles: dict[str, Any], name: str, who: str, known: date, rule: CycleRule
) -> dict[str, Any]:
    cycle = cycles[name]
    start, planned_end = cycle["occurred_on"], cycle["planned_end_on"]
    close, end = _end(rows, cycle)
    stays = _stays(rows, name, who)
    first_on, left_on = stays[0][0], stays[-1][1]

    def is_member(on: date) -> bool:
        return any(begin <= on and (to is None or on <= to) for begin, to in stays)

    def is_planned_for(on: date) -> bool:
        stayed = close is not None and stays[-1][1] is not None and stays[-1][1] >= close
        return is_member(on) or (stayed and on >= stays[-1][0])

    mine = [r for r in rows if r["family"] == "session" and r["event_type"] not in ("ProbeScored", "EvidenceNoted")]
    mine = [row for row in mine if row.get("tutor_key") is None and _belongs(rows, cycles, row, name)]
    kinds: dict[str, dict[str, Any]] = {}
    for row in mine:
        session = kinds.setdefault(row["starts_at"], {"on": row["occurred_on"], "marks": {}})
        if row["event_type"] == "AttendanceRecorded":
            minutes = row["attended_minutes"]
            if row["attendance"] == "present" and minutes is None:
                minutes = rule.assumed_minutes
            told = (row["attendance"], minutes if row["attendance"] in ("present", "partial") else None)
            before = session["marks"].get(row["subject_key"], ("unknown", None))
            # Of two rows about one student and session the clearer state counts, and the more minutes.
            spent = [each for each in (told[1], before[1]) if each is not None]
            clearer = min(told[0], before[0], key=("present", "partial", "absent", "unknown").index)
            session["marks"][row["subject_key"]] = (clearer, max(spent, default=None))
        else:
            session[row["event_type"]] = row
    for session in kinds.values():
        marks = {mark for mark, _ in session["marks"].values()}
        session["held"] = (
            "SessionHeld" in session
            or bool(marks & {"present", "partial"})
            or ("absent" in marks and "SessionCancelled" not in session)
        )
    out: dict[str, Any] = {}
    is_scheduled = any("SessionScheduled" in session for session in kinds.values())
    is_told = any(session["held"] or "SessionCancelled" in session for session in kinds.values())
    here = [session for session in kinds.values() if is_planned_for(session["on"])]
    if is_scheduled:
        due = [s for s in here if "SessionScheduled" in s and (close or s["on"] <= known)]
        minutes = [s["SessionScheduled"].get("planned_minutes") or cycle["session_minutes"] for s in due]
        out["planned_sessions"] = len(due)
        out["planned_minutes"] = None if None in minutes else sum(minutes)
    else:
        is_over = close is not None or (planned_end is not None and known >= planned_end)
        is_whole = first_on <= start and (left_on is None or (end is not None and left_on >= end))
        plan = cycle.get("planned_sessions") if is_over and is_whole else None
        out["planned_sessions"] = plan
        out["planned_minutes"] = plan * cycle["session_minutes"] if plan and cycle["session_minutes"] else None
    held_here = [session for session in here if session["held"]]
    out["held_sessions"] = len(held_here) if is_told else None
    marks = [
        (*session["marks"][who], session["held"])
        for session in kinds.values()
        if who in session["marks"] and is_member(session["on"])
    ]
    came = [(mark, minutes) for mark, minutes, _ in marks if mark in ("present", "partial")]
    is_unclear = any(mark == "unknown" and is_held for mark, _, is_held in marks)
    is_taken = any(mark != "unknown" for mark, _, _ in marks)
    out["attended_sessions"] = out["attended_minutes"] = None
    if out["held_sessions"] == 0:
        out["attended_sessions"] = out["attended_minutes"] = 0
    elif is_taken and not is_unclear:
        out["attended_sessions"] = len(came)
        spent = [m for _, m in came]
        out["attended_minutes"] = None if None in spent else sum(spent)
    fidelity = [s["SessionHeld"].get("fidelity_share") for s in held_here if "SessionHeld" in s]
    fidelity = [each for each in fidelity if each is not None]
    out["fidelity_share"] = sum(fidelity) / len(fidelity) if fidelity else None
    is_open = out["attended_minutes"] is not None and bool(out["planned_minutes"])
    out["dose_share"] = out["attended_minutes"] / out["planned_minutes"] if is_open else None

    days: dict[int, list[float]] = {}
    for row in rows:
        is_mine = row["event_type"] == "ProbeScored" and row["subject_key"] == who
        on = row["occurred_on"]
        if is_mine and row["measure"] == cycle["measure"] and _contains(rows, cycle, on) and is_member(on):
            days.setdefault((on - start).days, []).append(row["score"])
    points = [(number, median(days[number])) for number in sorted(days)]
    out["probes"] = len(points)
    said = [r for r in rows if r["event_type"] == "StudentJoined" and (r["cycle_id"], r["subject_key"]) == (name, who)]
    said.sort(key=lambda r: r["occurred_on"])
    baselines = [r["baseline"] for r in said if r.get("baseline") is not None]
    goals = [r["goal_score"] for r in said if r.get("goal_score") is not None]
    goal = goals[-1] if goals else None
    first = points[:3]
    if baselines:
        baseline = baselines[0]
    elif len(first) == 3 and first[2][0] < 7:
        baseline = median(score for _, score in first)
    else:
        baseline = first[0][1] if first else None
    out["baseline"], out["goal_score"] = baseline, goal
    length = None if planned_end is None else (planned_end - start).days
    has_line = goal is not None and baseline is not None and length is not None and length > 0
    out["goal_slope"] = (goal - baseline) / (length / 7) if has_line else None
    return out | _reference_verdict(
        rows, rule, points, out, cycle, who, length, min(filter(None, (known, close, left_on)))
    )


def _reference_verdict(
    rows: list[dict[str, Any]],
    rule: CycleRule,
    points: list[tuple[int, float]],
    out: dict[str, Any],
    cycle: dict[str, Any],
    who: str,
    length: int | None,
    until: date,
) -> dict[str, Any]:
    goal, baseline, goal_slope = out["goal_score"], out["baseline"], out["goal_slope"]
    slope = p = None
    if len(points) >= 2:
        weeks, scores = [number / 7 for number, _ in points], [score for _, score in points]
        slope, start = (float(each) for each in stats.linregress(weeks, scores)[:2])
        if len(points) >= 3 and goal_slope is not None:
            # Not SciPy's own error, which is not a number where every score is the same.
            squares = sum((score - start - slope * week) ** 2 for week, score in zip(weeks, scores, strict=True))
            middle = sum(weeks) / len(weeks)
            error = (squares / (len(points) - 2) / sum((week - middle) ** 2 for week in weeks)) ** 0.5
            reaches = float(slope >= goal_slope - 1e-9)
            p = reaches if error < 1e-9 else float(stats.t.sf((goal_slope - slope) / error, len(points) - 2))
    last = points[-2:]
    measured = None if goal is None or len(last) < 2 else all(score >= goal for _, score in last)
    recorded = any(
        (r["event_type"], r.get("cycle_id"), r.get("subject_key")) == ("GoalMet", cycle["cycle_id"], who) for r in rows
    )
    shown = {"slope": slope, "p_slope_at_least_goal": p}
    shown |= {"is_goal_met_recorded": recorded, "is_goal_met_measured": measured}
    dose, fidelity = out["dose_share"], out["fidelity_share"]

    def verdict(response: str, reason: str) -> dict[str, Any]:
        return shown | {"response": response, "reason": reason}

    if recorded or measured:
        return verdict("adequate", "goal_met")
    if dose is None:
        if out["planned_minutes"] is None:
            return verdict("dose_unknown", "plan_unknown")
        if out["planned_minutes"] == 0:
            return verdict("dose_unknown", "nothing_planned")
        missing = "attendance" if out["attended_sessions"] is None else "minutes"
        return verdict("dose_unknown", f"{missing}_unknown")
    if dose < rule.dose_minimum - 1e-9:
        return verdict("insufficient_dose", f"dose_below_{rule.dose_minimum:.2f}")
    if fidelity is not None and fidelity < rule.fidelity_minimum - 1e-9:
        return verdict("insufficient_dose", f"fidelity_below_{rule.fidelity_minimum:.2f}")
    if len(points) < rule.probes_minimum:
        return verdict("insufficient_data", f"fewer_than_{rule.probes_minimum}_probes")
    if goal_slope is None or length is None:
        return verdict("insufficient_data", "no_aim_line")
    level = median(score for _, score in points[-3:])
    if level >= baseline + (goal - baseline) * median(number for number, _ in points[-3:]) / length - 1e-9:
        return verdict("adequate", "level_on_aim_line")
    if p is not None and p < rule.poor_below:
        if (until - cycle["occurred_on"]).days < rule.shortest_days:
            return verdict("questionable", f"before_day_{rule.shortest_days}")
        return verdict("poor", "slope_below_goal_no_peer_norm")
    return verdict("questionable", "below_aim_but_uncertain")
