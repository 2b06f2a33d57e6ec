"""Facts of cycles written by hand, and slow, obvious versions of the rules to compare with."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from schemas.contract import columns
from schemas.events import FAMILIES
from schemas.policy import DistrictPolicy

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
