"""Cycles and their outcomes."""

import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Contract, broken_rules, columns
from schemas.policy import CycleRule, DistrictPolicy
from schemas.projections import Cycle, CycleOutcome, Progress
from tests.examples import examples
from tests.reference_cycles import (
    POLICIES,
    attended,
    cancelled,
    closed,
    day,
    evidence,
    facts,
    goal_met,
    held,
    joined,
    left,
    opened,
    probe,
    reference_outcomes,
    scheduled,
    tutored,
)
from transforms.cycles import (
    FINDINGS,
    CycleTables,
    cycle_findings,
    cycle_outcomes,
    cycle_tables,
    cycles,
    peer_slopes,
    progress,
)

VECTORS = json.loads((Path(__file__).parent / "data/vectors/07_cycle_outcome.json").read_text())["cases"]


def tables(*rows: dict[str, Any], grades: pl.DataFrame | None = None) -> CycleTables:
    return cycle_tables(facts(*rows), POLICIES, grades)


def in_grade(*rows: dict[str, Any], grade: str = "4") -> pl.DataFrame:
    """Everyone these rows name, in one grade."""
    who = {(row["district_id"], row["school_year"], row["subject_key"]) for row in rows if row.get("subject_key")}
    named = sorted((*key, grade) for key in who)
    return pl.DataFrame(named, schema=["district_id", "school_year", "subject_key", "grade"], orient="row")


def peers(*slopes: float, start: int = 0, end: int | None = 28) -> list[dict[str, Any]]:
    """One closed cycle of one student for each slope, with probes on a line."""
    rows = []
    for number, slope in enumerate(slopes, start):
        name, who = f"p{number}", f"peer{number}"
        rows += [opened(name, days=28, group_id=name), joined(who, cycle=name)]
        rows += [] if end is None else [closed(end, name)]
        rows += [probe(7 * week, 5 + slope * week, who) for week in range(4)]
    return rows


def outcome(*rows: dict[str, Any], who: str = "ana") -> dict[str, Any]:
    return tables(*rows).cycle_outcome.row(by_predicate=pl.col("subject_key") == who, named=True)


def vector_rows(case: dict[str, Any]) -> list[dict[str, Any]]:
    told = case["input"]
    rows = [
        opened(days=round(told["weeks_to_goal"] * 7), session_minutes=told["minutes_per_session"]),
        joined(baseline=told["baseline"], goal_score=told["goal"]),
        closed(round(told["weeks_to_goal"] * 7)),
    ]
    for number, each in enumerate(told["sessions"]):
        on = 2 * number
        rows += [scheduled(on), held(on) if each["held"] else cancelled(on)]
        if each["held"]:
            rows += [
                attended(on, attendance="present" if each["attended"] else "absent", minutes=each["minutes_attended"])
            ]
    return [*rows, *(probe(round(week * 7), score) for week, score in told["probes"])]


@pytest.mark.parametrize("case", VECTORS, ids=[case["input"]["name"] for case in VECTORS])
def test_outcomes_are_those_of_the_vector(case):
    rows = [*vector_rows(case), *peers(*[case["input"]["peer_slope"]] * 10)]
    told = tables(*rows, grades=in_grade(*rows)).cycle_outcome
    got = told.row(by_predicate=pl.col("subject_key") == "ana", named=True)
    assert got["peer_slope"] == pytest.approx(case["input"]["peer_slope"], abs=1e-8)
    names = {
        "sessions_planned": "planned_sessions",
        "sessions_held": "held_sessions",
        "sessions_attended": "attended_sessions",
        "delivery_pct": "delivery_share",
        "attendance_pct": "attendance_share",
        "minutes_planned": "planned_minutes",
        "minutes_attended": "attended_minutes",
        "dose_pct": "dose_share",
        "goal_slope": "goal_slope",
        "slope": "slope",
        "p_slope_ge_goal": "p_slope_at_least_goal",
        "level_end": "level_end",
        "aim_at_level_end": "aim_at_level_end",
    }
    for theirs, ours in names.items():
        assert got[ours] == pytest.approx(case["expected"][theirs], abs=1e-8), ours
    assert (got["response"], got["reason"]) == (case["expected"]["response"], case["expected"]["reason"])


def cycle(*rows: dict[str, Any]) -> dict[str, Any]:
    return cycles(facts(*rows), POLICIES).row(0, named=True)


def findings(*rows: dict[str, Any]) -> dict[str, int]:
    found = cycle_findings(facts(*rows), POLICIES).filter(pl.col("rows") > 0)
    return dict(zip(found["rule"], found["rows"], strict=True))


def delivered(count: int = 10, minutes: float | None = 30.0, who: str = "ana", first: int = 0) -> list[dict[str, Any]]:
    """Sessions scheduled, held and attended on every third day."""
    days = range(first, first + 3 * count, 3)
    return [row for on in days for row in (scheduled(on), held(on), attended(on, who, minutes=minutes))]


def probes(*scores: float, start: int = 0, step: int = 7) -> list[dict[str, Any]]:
    return [probe(start + step * number, score) for number, score in enumerate(scores)]


GOAL = {"baseline": 10.0, "goal_score": 22.0}
"""Over 42 days: 2 points a week."""
POOR = (10, 10, 11, 10, 11)


# Cycles


@pytest.mark.parametrize(("days", "expected"), [(20, True), (21, False), (42, False), (43, True), (None, None)])
def test_a_cycle_is_planned_for_three_to_six_weeks(days, expected):
    got = cycle(opened(days=days))
    assert (got["planned_days"], got["is_length_out_of_range"]) == (days, expected)


@pytest.mark.parametrize(("last", "state"), [(42, "open"), (43, "overdue")])
def test_a_cycle_without_a_close_is_overdue_on_day_43(last, state):
    assert cycle(opened(), held(last))["state"] == state


def test_a_session_planned_for_later_makes_no_cycle_overdue():
    assert cycle(opened(), held(3), scheduled(60), cancelled(63))["state"] == "open"


def test_the_last_day_known_is_that_of_the_district_and_school_year():
    rows = [opened(), opened("c2", on=90), opened("c3", district_id="d2"), opened("c4", school_year="2025")]
    got = cycle_tables(facts(*rows), POLICIES)
    assert dict(zip(got.cycle["cycle_id"], got.cycle["state"], strict=True)) == {
        "c1": "overdue",
        "c2": "open",
        "c3": "open",
        "c4": "open",
    }
    assert got.year["known_through"].to_list() == [day(0), day(90), day(0)]


@pytest.mark.parametrize(
    ("reason", "state"), [("completed", "closed"), ("other", "closed"), (None, "closed"), ("abandoned", "abandoned")]
)
def test_a_close_says_how_a_cycle_ended(reason, state):
    got = cycle(opened(), closed(50, close_reason=reason))
    assert (got["state"], got["closed_on"], got["close_reason"]) == (state, day(50), reason)


def test_of_two_closes_the_one_exported_last_counts():
    late = datetime(2026, 6, 2, tzinfo=UTC)
    assert cycle(opened(), closed(30), closed(20, export_at=late))["closed_on"] == day(20)
    assert cycle(opened(), closed(30), closed(20))["closed_on"] == day(30)


def test_sessions_are_counted_by_what_became_of_them():
    got = cycle(opened(planned_sessions=4), scheduled(0), scheduled(2), scheduled(4), held(0), held(2), cancelled(4))
    assert (got["planned_sessions"], got["scheduled_sessions"]) == (4, 3)
    assert (got["held_sessions"], got["cancelled_sessions"]) == (2, 1)
    assert (got["planned_minutes"], got["held_minutes"], got["delivery_share"]) == (120, 60, 0.5)


def test_without_a_plan_at_opening_the_scheduled_sessions_are_the_plan():
    got = cycle(opened(), scheduled(0, planned_minutes=20.0), scheduled(2), held(0))
    assert (got["planned_sessions"], got["planned_minutes"], got["delivery_share"]) == (2, 50, 0.5)


def test_a_cycle_nobody_logged_sessions_for_has_unknown_counts():
    got = cycle(opened())
    assert {
        got[name] for name in ("planned_sessions", "scheduled_sessions", "held_sessions", "cancelled_sessions")
    } == {None}
    assert {got[name] for name in ("planned_minutes", "held_minutes", "delivery_share", "fidelity_share")} == {None}
    assert got["members"] == 0


def test_a_held_session_without_minutes_leaves_the_minutes_unknown():
    assert cycle(opened(), held(0), held(2, held_minutes=None))["held_minutes"] is None


def test_fidelity_is_the_mean_of_the_sessions_where_it_was_seen():
    got = cycle(opened(), held(0, fidelity_share=0.7), held(2), held(4, fidelity_share=0.9))
    assert got["fidelity_share"] == 0.8


def test_a_session_somebody_attended_was_held():
    got = cycle(
        opened(),
        joined(),
        attended(0),
        attended(2, attendance="absent"),
        attended(4, attendance="unknown", minutes=None),
    )
    assert (got["held_sessions"], got["held_minutes"]) == (2, None)


def test_a_cancelled_session_where_all_are_marked_absent_was_not_held():
    got = cycle(opened(), joined(), cancelled(0), attended(0, attendance="absent", minutes=0.0))
    assert (got["held_sessions"], got["cancelled_sessions"]) == (0, 1)


@pytest.mark.parametrize(("hours", "held_sessions"), [(-1, 1), (0, 1), (1, 0)])
def test_held_or_cancelled_is_what_the_later_export_says(hours, held_sessions):
    at = datetime(2026, 6, 1, 12 + hours, tzinfo=UTC)
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    got = cycle(opened(), held(0, export_at=noon), cancelled(0, export_at=at))
    assert (got["held_sessions"], got["cancelled_sessions"]) == (held_sessions, 1 - held_sessions)


def test_two_sessions_of_one_day_are_two():
    assert cycle(opened(), held(0), held(0, "13:00:00"))["held_sessions"] == 2


def test_a_session_whose_time_is_not_known_counts_on_its_day():
    assert cycle(opened(), scheduled(0, None), held(0, None))["held_sessions"] == 1


def test_a_cycle_without_an_id_is_named_by_its_group_and_day():
    got = tables(
        opened(None), held(0, cycle_id=None), joined(cycle=None, group_id="g1"), closed(45, None, group_id="g1")
    )
    row = got.cycle.row(0, named=True)
    assert (row["cycle_id"], row["held_sessions"], row["members"], row["state"]) == ("g1@2025-09-01", 1, 1, "closed")


def test_members_are_counted_once():
    assert cycle(opened(), joined(), joined(on=9), left(on=5), joined("ben"))["members"] == 2


# Which cycle a row belongs to


def test_a_session_that_names_only_a_group_belongs_to_the_cycle_of_its_day():
    rows = [
        opened(days=20),
        opened("c2", on=21),
        held(20, cycle_id=None),
        held(21, cycle_id=None),
        held(24, cycle_id=None),
    ]
    assert cycles(facts(*rows), POLICIES)["held_sessions"].to_list() == [1, 2]


def test_a_session_of_a_group_outside_its_cycles_is_a_finding():
    rows = [opened(days=20), held(21, cycle_id=None), held(3, cycle_id=None, group_id="g9"), held(3, cycle_id="c9")]
    assert cycle(*rows)["held_sessions"] is None
    assert findings(*rows) == {"session_without_cycle": 3}


def test_a_session_that_fits_two_cycles_of_its_group_belongs_to_none():
    rows = [opened(), opened("c2", on=10), held(12, cycle_id=None), held(13)]
    assert cycles(facts(*rows), POLICIES)["held_sessions"].to_list() == [1, None]
    assert findings(*rows) == {"several_open_cycles": 1}


def test_a_group_may_be_named_by_its_cycle():
    assert cycle(opened(group_id=None), held(0, cycle_id=None, group_id="c1"))["held_sessions"] == 1


def test_a_session_that_names_its_cycle_belongs_to_it_whatever_the_day():
    assert cycle(opened(days=20), held(25))["held_sessions"] == 1


def test_one_cycle_id_in_two_schools_is_two_cycles_and_the_school_of_the_row_decides():
    rows = [
        opened(),
        opened(school_id="s2"),
        held(0, school_id="s2"),
        joined(school_id="s1"),
        closed(30, school_id="s2"),
    ]
    got = cycles(facts(*rows), POLICIES)
    assert got.select("school_id", "members", "held_sessions", "state").rows() == [
        ("s1", 1, None, "open"),
        ("s2", 0, 1, "closed"),
    ]


def test_one_cycle_id_in_two_schools_is_told_apart_by_day_where_the_row_names_no_school():
    rows = [opened(days=20), opened(on=30, school_id="s2"), joined(on=2), joined("ben", on=32)]
    assert tables(*rows).cycle_outcome.select("subject_key", "school_id").rows() == [("ana", "s1"), ("ben", "s2")]


def test_a_member_who_could_be_in_either_of_two_schools_is_in_neither():
    rows = [opened(), opened(school_id="s2"), joined(), joined("ben", school_id="s2")]
    assert tables(*rows).cycle_outcome["subject_key"].to_list() == ["ben"]
    assert findings(*rows) == {"several_open_cycles": 1}


def test_a_student_in_cycles_of_one_name_in_two_schools_has_two_outcomes():
    rows = [opened(), opened(school_id="s2"), joined(on=1, school_id="s1"), joined(on=9, school_id="s2")]
    rows += [left(on=12, school_id="s2", leave_reason="moved"), goal_met(on=20, school_id="s1"), probe(15, 3)]
    got = tables(*rows)
    shown = got.cycle_outcome.select("school_id", "joined_on", "left_on", "is_goal_met_recorded", "probes").rows()
    assert shown == [("s1", day(1), None, True, 1), ("s2", day(9), day(12), False, 0)]
    assert got.progress.select("school_id", "probes").rows() == [("s1", 1), ("s2", 0)]
    assert got.cycle["members"].to_list() == [1, 1]
    assert findings(*rows) == {}


def test_what_is_said_of_a_member_of_two_cycles_of_one_name_and_fits_both_belongs_to_neither():
    rows = [opened(), opened(school_id="s2"), joined(school_id="s1"), joined(school_id="s2"), left(on=9)]
    assert tables(*rows).cycle_outcome["left_on"].to_list() == [None, None]
    assert findings(*rows) == {"several_open_cycles": 1}
    rows = [opened(days=20), opened(on=30, school_id="s2"), joined(school_id="s1"), joined(on=30, school_id="s2")]
    assert tables(*rows, left(on=12)).cycle_outcome["left_on"].to_list() == [day(12), None]


def test_what_is_said_of_cycles_and_students_not_known_is_a_finding():
    rows = [
        opened(),
        joined("ben", cycle="c9"),
        closed(9, "c9"),
        left("ben"),
        goal_met("cid"),
        attended(0, "dan"),
        held(0),
    ]
    assert findings(*rows) == {"member_without_cycle": 1, "close_without_cycle": 1, "not_a_member": 3}
    assert tables(*rows).cycle_outcome.is_empty()


def test_findings_name_every_rule_of_every_district_and_year():
    rows = [opened(), joined("ben", cycle="c9"), opened(district_id="d2")]
    found = cycle_findings(facts(*rows), POLICIES)
    assert found.group_by("district_id", "school_year").len()["len"].to_list() == [len(FINDINGS)] * 2
    assert found.filter(pl.col("rows") > 0).rows() == [("d1", "2026", "member_without_cycle", 1)]


def test_districts_and_school_years_are_kept_apart():
    rows = [opened(), held(0, district_id="d2"), held(2, school_year="2025"), joined(district_id="d2")]
    assert cycle(*rows)["held_sessions"] is None
    assert cycle(*rows)["members"] == 0


# Dose


def test_a_student_who_joins_late_is_planned_for_what_is_left():
    got = outcome(opened(), joined(on=3), closed(42), *delivered(3), attended(0))
    assert (got["planned_sessions"], got["held_sessions"], got["attended_sessions"]) == (2, 2, 2)
    assert (got["planned_minutes"], got["dose_share"]) == (60, 1)


def test_a_student_who_leaves_is_planned_for_the_days_to_the_last():
    got = outcome(opened(), joined(), left(on=3, leave_reason="moved"), closed(42), *delivered(3))
    assert (got["planned_sessions"], got["attended_sessions"], got["dose_share"]) == (2, 2, 1)
    assert (got["left_on"], got["leave_reason"]) == (day(3), "moved")


def test_a_student_who_comes_back_is_not_planned_for_the_time_away():
    rows = [joined(), left(on=3, leave_reason="other"), joined(on=9)]
    got = outcome(opened(), *rows, closed(42), *delivered(5))
    assert (got["planned_sessions"], got["joined_on"], got["left_on"], got["leave_reason"]) == (4, day(0), None, None)


def test_joining_or_leaving_twice_says_nothing_new():
    got = outcome(opened(), joined(), joined(on=6), left(on=9), left(on=12), closed(42), *delivered(6))
    assert (got["joined_on"], got["left_on"], got["planned_sessions"]) == (day(0), day(9), 4)


def test_a_student_who_joins_on_an_unknown_day_was_there_from_the_first():
    assert outcome(opened(), joined(on=None), closed(42), *delivered(2))["planned_sessions"] == 2


def test_without_a_schedule_the_plan_of_the_opening_counts_for_the_whole_cycle():
    got = outcome(opened(planned_sessions=12), joined(), closed(42), held(0), attended(0))
    assert (got["planned_sessions"], got["planned_minutes"], got["dose_share"]) == (12, 360, pytest.approx(1 / 12))


@pytest.mark.parametrize("rows", [[joined(on=1)], [joined(), left(on=41)]], ids=["joined late", "left early"])
def test_without_a_schedule_the_plan_of_a_part_is_not_known(rows):
    got = outcome(opened(planned_sessions=12), *rows, closed(42), held(2), attended(2))
    assert (got["planned_sessions"], got["planned_minutes"], got["dose_share"]) == (None, None, None)
    assert (got["response"], got["reason"]) == ("dose_unknown", "plan_unknown")


def test_without_a_schedule_whoever_leaves_on_the_last_day_was_there_throughout():
    got = outcome(opened(planned_sessions=12), joined(), left(on=42), closed(42), held(2), attended(2))
    assert got["planned_sessions"] == 12


@pytest.mark.parametrize(("last", "planned"), [(41, None), (42, 12)])
def test_without_a_schedule_the_plan_counts_once_the_cycle_is_over(last, planned):
    got = outcome(opened(planned_sessions=12), joined(), held(last), attended(last))
    assert got["planned_sessions"] == planned


def test_the_sessions_of_a_running_cycle_count_as_far_as_they_are_due():
    rows = [opened(), joined(), *delivered(2), scheduled(6), scheduled(9)]
    assert outcome(*rows)["dose_share"] == 1
    assert outcome(*rows, evidence(6))["dose_share"] == pytest.approx(2 / 3)
    assert outcome(*rows, closed(4))["dose_share"] == 0.5


def test_minutes_come_from_the_session_and_else_from_the_opening():
    got = outcome(
        opened(), joined(), closed(42), scheduled(0, planned_minutes=45.0), scheduled(2), held(0), attended(0)
    )
    assert got["planned_minutes"] == 75
    got = outcome(opened(session_minutes=None), joined(), closed(42), scheduled(0, planned_minutes=45.0), scheduled(2))
    assert (got["planned_sessions"], got["planned_minutes"]) == (2, None)


def test_attendance_nobody_recorded_is_unknown():
    got = outcome(opened(), joined(), joined("ben"), closed(42), scheduled(0), held(0), attended(0, "ben"))
    assert (got["attended_sessions"], got["attended_minutes"], got["attendance_share"]) == (None, None, None)
    assert (got["held_sessions"], got["reason"]) == (1, "attendance_unknown")


def test_where_no_session_was_held_nobody_attended():
    got = outcome(opened(), joined(), closed(42), scheduled(0), cancelled(0))
    assert (got["held_sessions"], got["attended_sessions"], got["attended_minutes"], got["dose_share"]) == (0, 0, 0, 0)
    assert (got["attendance_share"], got["response"]) == (None, "insufficient_dose")


def test_an_attended_session_without_minutes_leaves_the_dose_unknown():
    got = outcome(opened(), joined(), closed(42), *delivered(2), *delivered(1, None, first=6))
    assert (got["attended_sessions"], got["attended_minutes"], got["reason"]) == (3, None, "minutes_unknown")


@pytest.mark.parametrize(
    ("attendance", "minutes"), [("present", 55), ("partial", None), ("absent", 30), ("unknown", None)]
)
def test_policy_may_assume_minutes_for_presence_only(attendance, minutes):
    policy = {"d1": DistrictPolicy(time_zone="America/Denver", cycles=CycleRule(assumed_minutes=25))}
    rows = [opened(), joined(), closed(42), *delivered(1), scheduled(5), held(5), attended(5, "ana", attendance, None)]
    assert cycle_outcomes(facts(*rows), policy)["attended_minutes"].to_list() == [minutes]


def test_an_absence_has_no_minutes():
    got = outcome(
        opened(), joined(), closed(42), *delivered(1), scheduled(5), held(5), attended(5, "ana", "absent", 30.0)
    )
    assert (got["attended_sessions"], got["attended_minutes"], got["attendance_share"]) == (1, 30, 0.5)


def test_a_session_without_a_row_for_the_student_was_not_attended_where_others_have_one():
    got = outcome(opened(), joined(), closed(42), *delivered(1), scheduled(5), held(5))
    assert (got["attended_sessions"], got["dose_share"]) == (1, 0.5)


@pytest.mark.parametrize("code", ["unknown", None, "tardy?"])
def test_unknown_attendance_is_not_absence(code):
    rows = [opened(), joined(), closed(42), *delivered(1), scheduled(5), held(5)]
    assert outcome(*rows, attended(5, "ana", code, None))["attended_sessions"] is None
    assert outcome(*rows, attended(5, "ana", code, 0.0))["attended_sessions"] is None
    assert outcome(*rows, attended(5, "ana", code, 20.0))["attended_minutes"] == 50


def test_unknown_attendance_at_a_cancelled_session_is_no_matter():
    got = outcome(
        opened(), joined(), closed(42), *delivered(1), scheduled(5), cancelled(5), attended(5, "ana", "unknown", None)
    )
    assert (got["attended_sessions"], got["attended_minutes"]) == (1, 30)


def test_two_rows_about_one_student_and_session_count_once():
    """Two keys of one student become one when the log is read."""
    again = attended(0, "ana", "absent", 0.0, natural_key="other")
    got = outcome(opened(), joined(), joined(natural_key="other"), closed(42), *delivered(2), again)
    assert (got["attended_sessions"], got["attended_minutes"]) == (2, 60)


@pytest.mark.parametrize(("attended_count", "response"), [(8, "insufficient_data"), (7, "insufficient_dose")])
def test_four_fifths_of_the_plan_is_enough(attended_count, response):
    rows = [
        row
        for row in delivered(10)
        if row["event_type"] != "AttendanceRecorded" or row["occurred_on"] < day(3 * attended_count)
    ]
    assert outcome(opened(), joined(), closed(42), *rows)["response"] == response


@pytest.mark.parametrize(
    ("shares", "reason"),
    [((0.7, 0.9), "fewer_than_4_probes"), ((0.7, 0.89), "fidelity_below_0.80"), ((None, None), "fewer_than_4_probes")],
)
def test_fidelity_counts_where_it_is_known(shares, reason):
    sessions = [(scheduled(on), held(on, fidelity_share=share), attended(on)) for on, share in enumerate(shares)]
    got = outcome(opened(), joined(), closed(42), *[row for rows in sessions for row in rows])
    assert got["reason"] == reason


# Tutoring


def test_tutoring_is_minutes_and_never_dose():
    rows = [opened(), joined(), *tutored(5), *tutored(9, 30.0), closed(42)]
    got = tables(*rows)
    one = got.cycle_outcome.row(0, named=True)
    assert {one[name] for name in ("planned_sessions", "held_sessions", "attended_sessions", "dose_share")} == {None}
    assert one["response"] == "dose_unknown"
    assert got.tutoring.rows() == [("d1", "2026", "ana", "c1", 2, 75.0)]
    assert got.cycle["held_sessions"].to_list() == [None]


def test_tutoring_outside_every_cycle_or_in_two_is_no_cycle():
    rows = [opened(days=20), joined(), *tutored(21), *tutored(3, None, who="ben")]
    assert tables(*rows).tutoring.rows() == [("d1", "2026", "ana", None, 1, 45.0), ("d1", "2026", "ben", None, 1, None)]
    assert findings(*rows) == {"no_cycle": 2}
    rows = [opened(), opened("c2", group_id="g2", measure="other"), joined(), joined(cycle="c2"), *tutored(3)]
    assert tables(*rows).tutoring["cycle_id"].to_list() == [None]
    assert findings(*rows) == {"several_open_cycles": 1}


# Probes, goals, baselines


def test_probes_count_from_the_first_day_of_the_cycle_to_its_last():
    rows = [opened(days=28), joined(), probe(-1, 1), probe(0, 2), probe(28, 3), probe(29, 4)]
    got = progress(facts(*rows), POLICIES).row(0, named=True)
    assert (got["probes"], got["first_on"], got["last_on"]) == (2, day(0), day(28))
    assert findings(*rows) == {"probe_outside_cycle": 2}


def test_a_close_ends_a_cycle_before_or_after_its_planned_end():
    assert outcome(opened(days=28), joined(), closed(14), probe(14, 1), probe(15, 1))["probes"] == 1
    assert outcome(opened(days=28), joined(), closed(40), probe(40, 1), probe(41, 1))["probes"] == 1
    assert outcome(opened(days=None), joined(), probe(90, 1))["probes"] == 1


def test_probes_before_joining_and_after_leaving_are_not_the_cycles():
    assert outcome(opened(), joined(on=7), left(on=14), *probes(1, 2, 3, 4))["probes"] == 2


def test_probes_of_another_measure_or_student_are_not_the_cycles():
    assert outcome(opened(), joined(), probe(0, 1, measure="x"), probe(0, 1, who="ben"), probe(3, 1))["probes"] == 1


def test_a_probe_counts_in_every_cycle_of_its_measure():
    rows = [opened(), opened("c2", group_id="g2"), joined(), joined(cycle="c2"), probe(3, 5)]
    assert tables(*rows).progress["probes"].to_list() == [1, 1]


def test_probes_of_one_day_count_by_their_median():
    got = outcome(opened(), joined(), probe(0, 14), probe(0, 18), probe(0, 15), probe(7, 17))
    assert (got["probes"], got["baseline"], got["slope"]) == (2, 15, 2)


@pytest.mark.parametrize(
    ("days", "baseline"), [((0, 3, 6), 12), ((0, 3, 7), 11), ((0, 3), 11), ((9, 10, 11), 11), ((), None)]
)
def test_the_baseline_is_the_median_of_three_in_week_1_and_else_the_first(days, baseline):
    rows = [probe(on, score) for on, score in zip(days, (11, 15, 12), strict=False)]
    assert outcome(opened(), joined(), *rows)["baseline"] == baseline
    assert outcome(opened(), joined(baseline=7.0), *rows)["baseline"] == 7


def test_the_goal_of_a_student_is_recorded_or_stands_beside_the_latest_probe():
    rows = [probe(0, 8, goal_score=15.0), probe(7, 9, goal_score=16.0), probe(9, 9)]
    assert outcome(opened(), joined(), *rows)["goal_score"] == 16
    assert outcome(opened(), joined(goal_score=20.0), *rows)["goal_score"] == 20


def test_the_goal_slope_runs_from_the_baseline_to_the_planned_end():
    got = outcome(opened(), joined(on=7, **GOAL))
    assert got["goal_slope"] == 2
    assert outcome(opened(days=None), joined(**GOAL))["goal_slope"] is None
    assert outcome(opened(days=0), joined(**GOAL))["goal_slope"] is None


@pytest.mark.parametrize(
    ("scores", "measured"), [((22,), None), ((9, 22), False), ((22, 9), False), ((9, 22, 22), True), ((30, 25), True)]
)
def test_a_goal_is_measured_by_the_last_two_probe_days(scores, measured):
    got = outcome(opened(), joined(**GOAL), *probes(*scores))
    assert (got["is_goal_met_measured"], got["is_goal_met_recorded"]) == (measured, False)
    assert (got["response"] == "adequate") == bool(measured)


def test_without_a_goal_none_is_measured():
    assert outcome(opened(), joined(), *probes(1, 2, 3))["is_goal_met_measured"] is None


def test_a_goal_recorded_counts_whatever_the_probes_and_the_dose_say():
    got = outcome(opened(), joined(**GOAL), *probes(*POOR), goal_met(on=30))
    assert (got["is_goal_met_recorded"], got["is_goal_met_measured"]) == (True, False)
    assert (got["response"], got["reason"]) == ("adequate", "goal_met")


def test_goals_recorded_and_measured_that_disagree_are_a_finding():
    assert findings(opened(), joined(**GOAL), *probes(*POOR), goal_met(on=30)) == {"goal_mismatch": 1}
    assert findings(opened(), joined(**GOAL), *probes(22, 22)) == {"goal_mismatch": 1}
    assert findings(opened(), joined(**GOAL), *probes(22, 22), goal_met(on=7)) == {}
    assert findings(opened(), joined(**GOAL), goal_met(on=7)) == {}


def test_weeks_with_evidence_are_counted_not_notes():
    rows = [evidence(0), evidence(6), evidence(7), evidence(9, "ben"), evidence(41, None, cycle_id="c1"), evidence(43)]
    assert outcome(opened(), joined(), *rows)["weeks_with_evidence"] == 3
    assert outcome(opened(), joined())["weeks_with_evidence"] == 0


# Response


def answer(*rows: dict[str, Any], scores: tuple[float, ...] = POOR, end: int = 42) -> tuple[str, str]:
    got = outcome(opened(), joined(**GOAL), closed(end), *delivered(5), *probes(*scores), *rows)
    return got["response"], got["reason"]


def test_a_slope_below_the_goal_is_poor_where_no_peers_are_known():
    assert answer() == ("poor", "slope_below_goal_no_peer_norm")


@pytest.mark.parametrize(
    ("end", "expected"),
    [(20, ("questionable", "before_day_21")), (21, ("poor", "slope_below_goal_no_peer_norm"))],
)
def test_nobody_is_poor_before_day_21(end, expected):
    rows = probes(*POOR, step=4)
    got = outcome(opened(), joined(**GOAL), closed(end), *delivered(5), *rows)
    assert (got["response"], got["reason"]) == expected
    got = outcome(opened(), joined(**GOAL), left(on=end), closed(42), *delivered(5), *rows)
    assert (got["response"], got["reason"]) == expected
    got = outcome(opened(), joined(**GOAL), *delivered(5), *rows, evidence(end))
    assert (got["response"], got["reason"]) == expected


def test_three_probe_days_are_too_few_and_four_are_not():
    assert answer(scores=(10, 10, 10)) == ("insufficient_data", "fewer_than_4_probes")
    assert answer(scores=(10, 10, 10, 10))[0] == "poor"


def test_a_level_on_the_aim_line_is_adequate():
    """The aim of day 21 is 16."""
    assert answer(scores=(10, 10, 16, 16, 16)) == ("adequate", "level_on_aim_line")
    assert answer(scores=(10, 10, 15.9, 15.9, 15.9))[0] != "adequate"


def test_a_slope_that_may_still_reach_the_goal_is_questionable():
    assert answer(scores=(8, 13, 9, 15, 14)) == ("questionable", "below_aim_but_uncertain")


def test_without_an_aim_line_nothing_is_concluded_about_the_child():
    got = outcome(opened(), joined(), closed(42), *delivered(5), *probes(*POOR))
    assert (got["response"], got["reason"]) == ("insufficient_data", "no_aim_line")


def test_a_plan_of_no_minutes_yet_is_unknown_dose():
    got = outcome(opened(), joined(), scheduled(9), held(1))
    assert (got["planned_sessions"], got["reason"]) == (0, "nothing_planned")


def test_a_district_sets_its_own_numbers():
    rule = CycleRule(probes_minimum=6, dose_minimum=0.5, longest_days=50, shortest_days=28)
    policy = {"d1": DistrictPolicy(time_zone="America/Denver", cycles=rule)}
    told = [opened(days=24), joined(**GOAL), *delivered(5), *probes(*POOR, step=6), held(45)]
    rows = [row | {"district_id": district} for district in ("d1", "d2") for row in told]
    got = cycle_tables(facts(*rows), policy)
    assert got.cycle_outcome["reason"].to_list() == ["fewer_than_6_probes", "slope_below_goal_no_peer_norm"]
    assert got.cycle.select("state", "is_length_out_of_range").rows() == [("open", True), ("overdue", False)]


# Every table


def breaks(rows: pl.DataFrame, contract: type[Contract]) -> list[dict[str, Any]]:
    """Rules of the contract that fail once the caller has added the id of the input."""
    return broken_rules(rows.with_columns(input_id=pl.lit("i")).select(columns(contract).keys()), contract).to_dicts()


def test_no_facts_are_no_rows():
    got = tables()
    assert all(table.is_empty() for table in got)
    assert [table.schema for table in got] == [table.schema for table in tables(*peers(1))]
    assert not breaks(got.cycle_outcome, CycleOutcome)


@st.composite
def well_delivered(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A cycle whose records are whole, so that the probes decide."""
    known = draw(st.sampled_from([GOAL, GOAL, {"goal_score": 14.0}, {}]))
    length = draw(st.sampled_from([14, 28, 42]))
    place = {"cycle_id": "c4", "group_id": "g4"}
    rows = [opened("c4", 0, length, group_id="g4", measure="w"), joined("cid", 0, "c4", **known)]
    rows += [closed(draw(st.integers(18, 42)), "c4")] * draw(st.integers(0, 1))
    for on in range(0, 12, 3):
        rows += [scheduled(on, **place), held(on, **place), attended(on, "cid", **place)]
    steps = draw(st.lists(st.sampled_from([-2, -1, 0, 0, 1, 2, 3.5]), min_size=3, max_size=8))
    gap = draw(st.sampled_from([3, 5, 7]))
    return rows + [probe(gap * n, 10 + sum(steps[:n]), "cid", measure="w") for n in range(len(steps))]


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A small log of one school: two groups, up to three cycles, two students, and what is said of them."""
    number = st.integers(0, 45)
    maybe = st.sampled_from([None, None, 12])
    rows = []
    for name, group in (("c1", "g1"), ("c2", "g1"), ("c3", "g2"))[: draw(st.integers(1, 3))]:
        start = draw(st.integers(0, 30))
        length = draw(st.sampled_from([None, 14, 21, 28, 42]))
        rows.append(opened(name, start, length, group_id=group, planned_sessions=draw(maybe)))
        if draw(st.booleans()):
            rows.append(closed(start + draw(number), name))
        for who in ("ana", "ben")[: draw(st.integers(0, 2))]:
            known = draw(st.sampled_from([{}, GOAL, {"goal_score": 14.0}]))
            rows.append(joined(who, start + draw(st.sampled_from([0, 0, 0, 5])), name, **known))
            rows += [left(who, start + on, name) for on in draw(st.lists(st.integers(0, 40), max_size=1))]
            rows += [joined(who, start + on, name) for on in draw(st.lists(st.integers(6, 40), max_size=1))]
            rows += [goal_met(who, start + 20, name)] * draw(st.sampled_from([0, 0, 0, 1]))
        for on in draw(st.lists(st.integers(0, 45), max_size=6, unique=True)):
            place = {"cycle_id": draw(st.sampled_from([name, name, None])), "group_id": group}
            at = start + on
            rows += [scheduled(at, **place)] * draw(st.sampled_from([0, 1, 1]))
            became = draw(st.sampled_from(["held", "held", "held", "cancelled", None]))
            share = draw(st.sampled_from([None, None, 0.75, 0.85]))
            rows += [held(at, fidelity_share=share, **place)] if became == "held" else []
            rows += [cancelled(at, **place)] if became == "cancelled" else []
            for who in draw(st.lists(st.sampled_from(["ana", "ben"]), max_size=2, unique=True)):
                code = draw(st.sampled_from(["present", "present", "present", "partial", "absent", "unknown"]))
                minutes = {"absent": 0.0, "unknown": None}.get(code, draw(st.sampled_from([30.0, 30.0, 27.5, None])))
                rows.append(attended(at, who, code, minutes, **place))
    if draw(st.booleans()):
        rows += draw(well_delivered())
    for who in ("ana", "ben"):
        scores = st.tuples(st.integers(0, 70), st.sampled_from([8, 9, 10.5, 12, 15, 22, 23]))
        rows += [probe(on, score, who) for on, score in draw(st.lists(scores, max_size=9))]
    return rows


@examples(40)
@given(st.lists(logs(), min_size=1, max_size=5), st.sampled_from([{}, {"assumed_minutes": 30, "probes_minimum": 3}]))
def test_outcomes_are_those_of_the_slow_reference(many, numbers):
    """Each log is a district of its own; what they share is the run."""
    rule = CycleRule(**numbers)
    districts = {f"d{number}": log for number, log in enumerate(many)}
    policies = {district: DistrictPolicy(time_zone="America/Denver", cycles=rule) for district in districts}
    rows = [row | {"district_id": district} for district, log in districts.items() for row in log]
    key = ("district_id", "cycle_id", "subject_key")
    got = {tuple(row[name] for name in key): row for row in cycle_outcomes(facts(*rows), policies).to_dicts()}
    expected = {
        (district, *pair): row
        for district, log in districts.items()
        for pair, row in reference_outcomes(log, rule).items()
    }
    assert got.keys() == expected.keys()
    for pair, row in expected.items():
        shown = {name: got[pair][name] for name in row}
        assert shown == {n: pytest.approx(v, abs=1e-8) if isinstance(v, float) else v for n, v in row.items()}, pair


@examples(20)
@given(logs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters_and_every_contract_holds(rows, random):
    before = tables(*rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    for one, other in zip(before, tables(*shuffled), strict=True):
        assert one.equals(other)
    for contract, table in ((Cycle, before.cycle), (CycleOutcome, before.cycle_outcome), (Progress, before.progress)):
        assert not breaks(table, contract)
    pairs = {(r["cycle_id"], r["subject_key"]) for r in rows if r["event_type"] == "StudentJoined"}
    assert set(before.cycle_outcome.select("cycle_id", "subject_key").rows()) == pairs
    assert before.cycle_outcome.height == len(pairs) == before.progress.height


# Peers, groups, next steps


def peer_slope(*rows: dict[str, Any], who: str = "ana") -> float | None:
    told = tables(*rows, grades=in_grade(*rows)).cycle_outcome
    value: float | None = told.row(by_predicate=pl.col("subject_key") == who, named=True)["peer_slope"]
    return value


def test_a_grade_has_a_median_slope_from_ten_other_closed_cycles():
    mine = [opened(), joined(), *probes(5, 50, 95, 140)]
    assert peer_slope(*mine, *peers(*range(9))) is None
    assert peer_slope(*mine, *peers(*range(10))) == pytest.approx(4.5)
    assert peer_slope(*mine, closed(42), *peers(*range(9))) is None
    assert peer_slope(*mine, closed(42), *peers(*range(10))) == pytest.approx(4.5)
    assert peer_slope(*mine, closed(42), *peers(*range(11))) == pytest.approx(5)
    assert peer_slope(*mine, *peers(*range(9)), *peers(9, start=9, end=None)) is None


def test_peers_are_of_the_same_measure_grade_district_and_year():
    mine, others = [opened(), joined(), *probes(5, 6, 7, 8)], peers(*range(10))
    rows = [*mine, *others]
    fifth = in_grade(*mine, grade="5").vstack(in_grade(*others))
    assert tables(*rows, grades=fifth).cycle_outcome["peer_slope"].to_list()[0] is None
    assert tables(*rows).cycle_outcome["peer_slope"].null_count() == 11
    assert peer_slope(*mine, *[row | {"measure": "x"} for row in others]) is None
    assert peer_slope(*mine, *[row | {"district_id": "d2"} for row in others]) is None


def test_too_few_probe_days_lend_no_slope():
    short = [row for row in peers(*range(10)) if row["event_type"] != "ProbeScored" or row["occurred_on"] < day(21)]
    assert peer_slope(opened(), joined(), *short) is None


def test_a_slope_above_the_peers_is_not_poor():
    rows = [opened(), joined(**GOAL), closed(42), *delivered(5), *probes(*POOR)]
    slow, quick = [*rows, *peers(*[0.1] * 10)], [*rows, *peers(*[0.5] * 10)]
    got = [
        tables(*each, grades=in_grade(*each)).cycle_outcome.row(by_predicate=pl.col("subject_key") == "ana", named=True)
        for each in (slow, quick)
    ]
    assert [(row["response"], row["reason"]) for row in got] == [
        ("questionable", "below_aim_but_uncertain"),
        ("poor", "slope_below_goal_and_peers"),
    ]


@examples(25)
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=9),
    st.integers(1, 4),
)
def test_the_median_without_ones_own_cycle_is_that_of_the_slow_reference(groups, wanted):
    rows, grades = [], ("4", "5")
    for number, slopes in enumerate(groups):
        for member, slope in enumerate(slopes):
            row = {"member_no": 10 * number + member, "cycle_no": number, "district_id": "d1", "school_year": "2026"}
            row |= {"measure": "m", "grade": grades[(number + member) % 5 // 4], "slope": slope / 7, "probes": 4}
            rows.append(row | {"probes_minimum": 4, "closed_on": day(1) if number % 4 else None, "peer_cycles": wanted})
    got = dict(peer_slopes(pl.DataFrame(rows, schema_overrides={"closed_on": pl.Date})).rows())
    for row in rows:
        others = [
            each
            for each in rows
            if each["closed_on"] and each["grade"] == row["grade"] and each["cycle_no"] != row["cycle_no"]
        ]
        enough = len({each["cycle_no"] for each in others}) >= wanted
        expected = median(each["slope"] for each in others) if enough else None
        assert got.get(row["member_no"]) == (None if expected is None else pytest.approx(expected)), row


STEPS = {
    "exit_or_regroup": (22, 22, 22, 22),
    "continue": (10, 12, 14, 16),
    "intensify_one_element": (8, 13, 9, 15, 14),
    "change_intervention": POOR,
    "collect_data": (10, 10),
}


@pytest.mark.parametrize(("step", "scores"), STEPS.items(), ids=STEPS)
def test_each_response_asks_for_its_next_step(step, scores):
    got = outcome(opened(), joined(**GOAL), closed(42), *delivered(5), *probes(*scores))
    assert got["next_step"] == step


def test_a_response_about_delivery_or_records_asks_for_these():
    assert outcome(opened(), joined())["next_step"] == "record_delivery"
    assert outcome(opened(), joined(), closed(42), scheduled(0), cancelled(0))["next_step"] == "fix_delivery"
    assert outcome(opened(), joined(), closed(42), *delivered(5), *probes(*POOR))["next_step"] == "set_goal"


def members(*responses: tuple[float, ...]) -> list[dict[str, Any]]:
    """Members of one cycle with full dose, one for each series of scores."""
    rows = [opened(), closed(42), *(scheduled(on) for on in (0, 3)), *(held(on) for on in (0, 3))]
    for number, scores in enumerate(responses):
        who = f"m{number}"
        rows += [joined(who, **GOAL), attended(0, who), attended(3, who)]
        rows += [probe(7 * week, score, who) for week, score in enumerate(scores)]
    return rows


FINE, FEW = (10, 12, 14, 16), (10, 10)


@pytest.mark.parametrize(
    ("responses", "counts", "is_first"),
    [
        ([POOR, FINE], (1, 0, 1, 2, 0), True),
        ([POOR, FINE, FINE], (2, 0, 1, 3, 0), False),
        ([POOR, FINE, FEW, FEW], (1, 0, 1, 2, 2), True),
        ([POOR], (0, 0, 1, 1, 0), None),
        ([POOR, FEW], (0, 0, 1, 1, 1), None),
        ([FINE, FINE], (2, 0, 0, 2, 0), False),
    ],
)
def test_a_group_half_of_which_responds_poorly_changes_its_plan_first(responses, counts, is_first):
    got = tables(*members(*responses))
    row = got.cycle.row(0, named=True)
    names = ("adequate", "questionable", "poor", "concluded", "excluded")
    assert tuple(row[name] for name in names) == counts
    assert row["is_group_plan_first"] is is_first
    steps = dict(zip(got.cycle_outcome["response"], got.cycle_outcome["next_step"], strict=True))
    assert steps.get("poor", "none") in ({"change_group_plan"} if is_first else {"change_intervention", "none"})


# Slopes


def test_both_slopes_are_shown_and_policy_says_which_one_counts():
    rows = [opened(), joined(**GOAL), closed(42), *delivered(5), *probes(10, 11, 13, 13, 30, 16, 17)]
    policy = {"d1": DistrictPolicy(time_zone="America/Denver", cycles=CycleRule(slope_by="theil_sen"))}
    for policies, slope in ((POLICIES, 12 / 7), (policy, 1.2)):
        got = cycle_tables(facts(*rows), policies)
        assert got.cycle_outcome["slope"].item() == pytest.approx(slope)
        shown = got.progress.row(0, named=True)
        assert (shown["slope"], shown["theil_sen_slope"]) == (pytest.approx(12 / 7), pytest.approx(1.2))
        sen = [shown[f"theil_sen_{name}"] for name in ("intercept", "low", "high")]
        assert sen == pytest.approx([9.4, 1, 5])


@pytest.mark.parametrize(
    ("scores", "expected"), [((10, 11, 12), False), ((10, 10, 10, 10, 10, 10, 60), True), ((1, 2), None)]
)
def test_slopes_more_than_one_error_apart_depend_on_an_outlier(scores, expected):
    assert tables(opened(), joined(), *probes(*scores)).progress["is_outlier_sensitive"].item() is expected


def test_the_point_rule_is_shown_where_there_is_an_aim_line():
    assert tables(opened(), joined(**GOAL), *probes(*POOR)).progress["point_rule"].item() == "change_instruction"
    assert tables(opened(), joined(**GOAL), *probes(10, 20, 20, 30)).progress["point_rule"].item() == "continue"
    assert tables(opened(), joined(), *probes(*POOR)).progress["point_rule"].item() is None


# Abandoned cycles


@pytest.mark.parametrize("leaving", [[], [left(on=9)]], ids=["stayed", "left at the close"])
def test_an_abandoned_cycle_keeps_its_plan_in_the_dose(leaving):
    rows = [opened(), joined(**GOAL), *delivered(3), *(scheduled(on) for on in (12, 15, 18)), *leaving]
    got = tables(*rows, closed(9, close_reason="abandoned"))
    one = got.cycle_outcome.row(0, named=True)
    assert (one["planned_sessions"], one["attended_sessions"], one["dose_share"]) == (6, 3, 0.5)
    assert (one["response"], got.cycle["delivery_share"].item()) == ("insufficient_dose", 0.5)


def test_assumed_minutes_are_counted():
    policy = {"d1": DistrictPolicy(time_zone="America/Denver", cycles=CycleRule(assumed_minutes=25))}
    rows = [opened(), joined(), closed(42), *delivered(1), scheduled(5), held(5), attended(5, minutes=None)]
    assert cycle_outcomes(facts(*rows), policy)["assumed_sessions"].item() == 1
    assert cycle_outcomes(facts(*rows), POLICIES)["assumed_sessions"].item() == 0


# Probe days


def test_a_probe_day_stands_beside_the_aim_line():
    rows = [opened(days=42), joined(baseline=10.0, goal_score=22.0), probe(0, 10), probe(21, 14), probe(21, 16)]
    got = tables(*rows).probe_day
    assert got.select("cycle_id", "subject_key", "probed_on", "score", "aim_score").rows() == [
        ("c1", "ana", day(0), 10, 10),
        ("c1", "ana", day(21), 15, 16),
    ]


def test_a_probe_day_without_a_goal_has_no_aim():
    assert tables(opened(), joined(), probe(7, 12)).probe_day.select("score", "aim_score").rows() == [(12, None)]
