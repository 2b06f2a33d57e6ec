"""System signals of schools."""

from datetime import date

import polars as pl
import pytest

from schemas.contract import conform, require
from schemas.events import ContextEvent, PlanEvent
from schemas.policy import DistrictPolicy
from schemas.projections import ClassDecision, ClassMembership, Cycle, CycleOutcome, SchoolSignal, TierPlacement
from tests.made_classes import POLICY, REFERENCE_ON, frame, quality
from transforms.signals import school_signals

KEY = {"district_id": "d1", "school_year": "2026", "benchmark_window": "winter"}
YEAR = {"district_id": "d1", "school_year": "2026", "school_id": "s1"}


def members(*names, window="winter", **given):
    base = KEY | {"benchmark_window": window, "school_id": "s1", "class_id": "a", "class_basis": "title"}
    return [base | {"subject_key": name, "reference_on": REFERENCE_ON[window]} | given for name in names]


def placed(name, tier, need_level="tier_2", window="winter", **given):
    status = "tested" if tier else "absent"
    row = {"subject_key": name, "school_id": "s1", "tier": tier, "need_level": need_level, "status": status}
    return KEY | {"benchmark_window": window, "measure": "map_growth_math" if tier else None} | row | given


def cycle(cycle_id, opened_on, closed_on=None, **given):
    return YEAR | {"cycle_id": cycle_id, "opened_on": opened_on, "closed_on": closed_on, "state": "open"} | given


def outcome(cycle_id, name, joined_on, **given):
    return YEAR | {"cycle_id": cycle_id, "subject_key": name, "joined_on": joined_on} | given


def fact(kind, name, occurred_on, **given):
    return YEAR | {"event_type": kind, "subject_key": name, "occurred_on": occurred_on} | given


def signals(
    roster, placements=(), cycles=(), outcomes=(), plan=(), context=(), decisions=(), checks=None, policy=POLICY
):
    return school_signals(
        frame(list(roster), ClassMembership),
        frame(list(placements), TierPlacement),
        frame(list(cycles), Cycle),
        frame(list(outcomes), CycleOutcome),
        {"plan": frame(list(plan), PlanEvent), "context": frame(list(context), ContextEvent)},
        frame(list(decisions), ClassDecision),
        quality() if checks is None else checks,
        {"d1": policy},
    )


def only(rows, school="s1", window="winter"):
    return rows.row(by_predicate=(pl.col("school_id") == school) & (pl.col("benchmark_window") == window), named=True)


def test_the_frame_is_what_its_contract_says():
    found = signals(members("ana", "ben"), [placed("ana", 2), placed("ben", None, None)])
    rows = conform(found.lazy().with_columns(input_id=pl.lit("i")), SchoolSignal).collect()
    assert require(rows, SchoolSignal).height == 1


def test_coverage_counts_enrolled_students_with_a_valid_test():
    found = only(
        signals(members("ana", "ben", "cal"), [placed("ana", 1, "none"), placed("ben", 2), placed("cal", None)])
    )
    assert (found["enrolled"], found["tested"], found["recommended"]) == (3, 2, 1)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["is_system_data"] is True


def test_coverage_of_exactly_80_percent_is_enough():
    names = [f"s{i}" for i in range(10)]
    enough = [placed(name, 1, "none") for name in names[:8]]
    assert only(signals(members(*names), enough))["is_system_data"] is False
    assert only(signals(members(*names), enough[:7]))["is_system_data"] is True


def test_students_of_an_alternate_assessment_and_students_elsewhere_are_not_counted():
    roster = [*members("ana"), *members("ben", is_alternate_assessment=True)]
    found = only(signals(roster, [placed("ana", 1, "none"), placed("ben", None), placed("gone", 1, "none")]))
    assert (found["enrolled"], found["tested"], found["coverage"]) == (1, 1, 1.0)


def test_without_a_roster_enrolment_and_seasons_are_unknown():
    found = only(signals([], [placed("ana", 2)], [cycle("c1", date(2026, 2, 1))]))
    assert (found["enrolled"], found["coverage"], found["tested"], found["recommended"]) == (None, None, 1, 1)
    assert (found["cycles"], found["served"], found["is_system_data"]) == (None, None, None)


def test_nothing_supplied_is_null_and_a_silent_school_among_others_is_zero():
    roster = [*members("ana"), *members("ben", school_id="s2")]
    placements = [placed("ana", 2), placed("ben", 2, school_id="s2")]
    names = (
        "cycles",
        "served",
        "unserved_need_share",
        "families_contacted",
        "family_contact_share",
        "referrals",
        "referral_agreement",
        "delivery_share",
        "overdue_cycle_share",
        "conclusive_cycle_share",
        "failed_checks",
    )
    nothing = only(signals(roster, placements))
    assert [nothing[name] for name in names] == [None] * len(names)
    in_season = date(2026, 2, 1)
    some = only(
        signals(
            roster,
            placements,
            [cycle("c1", in_season)],
            [outcome("c1", "ana", in_season)],
            [fact("StudentReferred", "ana", in_season, referred_by="teacher")],
            [fact("FamilyContacted", "ana", in_season)],
            checks=quality({"school_id": "s1", "is_blocking": False}),
        ),
        "s2",
    )
    assert [some[name] for name in ("cycles", "served", "families_contacted", "referrals", "failed_checks")] == [0] * 5
    assert some["unserved_need_share"] == 1.0
    assert (some["overdue_cycle_share"], some["referral_agreement"], some["delivery_share"]) == (None, None, None)


def test_unserved_need_looks_at_cycles_open_in_the_season_of_the_window():
    roster = [*members("ana", "ben", "cal", "dee"), *members("ana", window="fall"), *members("ana", window="spring")]
    placements = [placed(name, 2) for name in ("ana", "ben", "cal", "dee")]
    open_and_over = [
        cycle("running", date(2026, 1, 5)),
        cycle("over", date(2025, 11, 1), date(2026, 1, 19)),
        cycle("last_day", date(2025, 11, 1), date(2026, 1, 20)),
        cycle("later", date(2026, 5, 4)),
    ]
    member_of = [
        outcome(each, name, date(2025, 11, 1))
        for each, name in (("running", "ana"), ("over", "ben"), ("last_day", "cal"), ("later", "dee"))
    ]
    found = only(signals(roster, placements, open_and_over, member_of))
    assert (found["recommended"], found["served"], found["unserved_need_share"]) == (4, 2, 0.5)
    assert found["cycles"] == 2


def test_a_student_who_left_before_the_season_is_not_served():
    left = outcome("c1", "ana", date(2025, 11, 1), left_on=date(2025, 12, 1))
    roster = [*members("ana", window="fall"), *members("ana")]
    found = signals(roster, [placed("ana", 3)], [cycle("c1", date(2025, 11, 1))], [left])
    assert only(found)["served"] == 0


def test_the_first_season_reaches_back_to_the_start_of_the_year_and_the_last_to_its_end():
    august, june = date(2025, 8, 20), date(2026, 6, 30)
    roster = [*members("ana", window="fall"), *members("ana", window="spring")]
    context = [fact("FamilyContacted", "ana", august), fact("FamilyContacted", "ana", june)]
    placements = [placed("ana", 2, window="fall"), placed("ana", 2, window="spring")]
    found = signals(roster, placements, context=context)
    assert [only(found, window=window)["families_contacted"] for window in ("fall", "spring")] == [1, 1]
    only_june = signals(roster, placements, context=context[1:])
    assert [only(only_june, window=window)["families_contacted"] for window in ("fall", "spring")] == [0, 1]
    calendar = DistrictPolicy(time_zone="America/Denver", year_starts_month=1)
    december = [fact("FamilyContacted", "ana", date(2026, 12, 31))]
    assert (
        only(signals(roster, placements, context=december, policy=calendar), window="spring")["families_contacted"] == 1
    )


def test_delivery_is_held_of_planned_over_cycles_that_say_what_was_planned():
    cycles = [
        cycle("c1", date(2026, 2, 1), planned_sessions=10, held_sessions=6, state="overdue"),
        cycle("c2", date(2026, 2, 1), planned_sessions=10, held_sessions=9),
        cycle("c3", date(2026, 2, 1), planned_sessions=None, held_sessions=5),
        cycle("c4", date(2026, 2, 1), planned_sessions=0, held_sessions=5),
    ]
    found = only(signals(members("ana"), cycles=cycles))
    assert (found["planned_sessions"], found["held_sessions"], found["delivery_share"]) == (20, 15, 0.75)
    assert (found["cycles"], found["overdue_cycle_share"]) == (4, 0.25)


def test_conclusions_are_counted_among_outcomes_with_a_response():
    responses = ("adequate", "questionable", "poor", "dose_unknown", "insufficient_dose", "insufficient_data", None)
    found = only(
        signals(
            members("ana"),
            cycles=[cycle("c1", date(2026, 2, 1))],
            outcomes=[outcome("c1", f"s{i}", date(2026, 2, 1), response=each) for i, each in enumerate(responses)],
        )
    )
    assert found["conclusive_cycle_share"] == 0.5


def test_family_contact_is_a_share_of_recommended_students():
    contacts = [fact("FamilyContacted", name, date(2026, 2, 1)) for name in ("ana", "ana", "cal")]
    other = [fact("EngagementObserved", "ben", date(2026, 2, 1))]
    placements = [placed("ana", 2), placed("ben", 3), placed("cal", 1, "none")]
    found = only(signals(members("ana", "ben", "cal"), placements, context=[*contacts, *other]))
    assert (found["families_contacted"], found["family_contact_share"]) == (1, 0.5)


def test_referral_agreement_asks_only_of_students_the_screener_tested():
    def referral(name, by="teacher"):
        return fact("StudentReferred", name, date(2026, 2, 1), referred_by=by)

    placements = [
        placed("ana", 1, "tier_2"),
        placed("ben", 1, "watch"),
        placed("cal", None, None),
        placed("dee", 1, None),
    ]
    plan = [referral("ana"), referral("ben"), referral("cal"), referral("dee"), referral("ana", "family")]
    found = only(signals(members("ana", "ben", "cal", "dee"), placements, plan=plan))
    assert found["referrals"] == 4
    assert found["referral_agreement"] == pytest.approx(1 / 3)


def test_a_blocking_failure_or_a_class_without_data_makes_the_school_a_data_matter():
    full = (members("ana"), [placed("ana", 1, "none")])
    failed = quality({"school_id": "s1"}, {"school_id": "s1", "is_blocking": False, "rule": "x"}, {"school_id": None})
    found = only(signals(*full, checks=failed))
    assert (found["failed_checks"], found["is_system_data"]) == (2, True)
    decision = KEY | {"school_id": "s1", "class_id": "a", "measure": "map_growth_math", "level": "SYSTEM_DATA"}
    assert only(signals(*full, decisions=[decision]))["is_system_data"] is True
    assert only(signals(*full, decisions=[decision | {"measure": "star_math"}]))["is_system_data"] is False


def test_students_without_a_math_class_or_in_two_are_counted():
    roster = [*members("ana", class_basis="no_math_section", class_id=None), *members("ben", in_two_classes=True)]
    found = only(signals(roster))
    assert (found["no_math_section"], found["in_two_classes"]) == (1, 1)


def test_years_and_districts_do_not_mix():
    other = [row | {"school_year": "2025", "reference_on": date(2025, 1, 20)} for row in members("ana")]
    found = signals([*members("ana"), *other], [placed("ana", 2)], [cycle("c1", date(2026, 2, 1))])
    assert found["school_year"].to_list() == ["2025", "2026"]
    assert found["cycles"].to_list() == [None, 1]
    assert found["tested"].to_list() == [0, 1]
