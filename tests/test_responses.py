"""Responder rates and the grades of students."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import broken_rules, columns
from schemas.policy import DistrictPolicy, ResponseRule
from schemas.projections import RESPONSES, ClassMembership, Cycle, CycleOutcome, NeedLevel, ResponderRate
from tests.examples import examples
from tests.made_classes import frame
from transforms.intervals import jeffreys
from transforms.responses import RATE, _shrunk, grades_of, responder_rates

VECTOR_10 = json.loads((Path(__file__).parent / "data" / "vectors" / "10_beta_binomial.json").read_text("utf-8"))
YEAR = {"district_id": "d1", "school_year": "2026", "school_id": "s1"}
POLICIES = {"d1": DistrictPolicy(time_zone="America/Denver")}


def cycle(cycle_id, state="closed", intervention="bridges", concept="count", tier=2, **given):
    row = {"cycle_id": cycle_id, "state": state, "intervention": intervention, "concept": concept, "tier": tier}
    return YEAR | row | given


def outcomes(cycle_id, *responses, **given):
    rows = [{"cycle_id": cycle_id, "subject_key": f"{cycle_id}-{n}", "response": r} for n, r in enumerate(responses)]
    return [YEAR | row | given for row in rows]


def rates(cycles, members, policies=POLICIES):
    return responder_rates(frame(cycles, Cycle), frame(members, CycleOutcome), policies)


def bridges(cycles, members, **given):
    rule = {"d1": DistrictPolicy(time_zone="America/Denver", responses=ResponseRule(**given))}
    return rates(cycles, members, rule).row(by_predicate=pl.col("kind") == "intervention", named=True)


def test_the_rate_stands_on_outcomes_with_a_conclusion_and_shows_the_others():
    got = bridges([cycle("c1")], outcomes("c1", *RESPONSES, "adequate"))
    assert (got["outcomes"], got["ended"], got["concluded"], got["adequate"], got["poor"]) == (7, 7, 4, 2, 1)
    assert (got["dose_unknown"], got["insufficient_dose"], got["insufficient_data"]) == (1, 1, 1)
    assert (got["responder_share"], got["ended_share"]) == (0.5, pytest.approx(2 / 7))
    assert [got["interval_low"], got["interval_high"]] == pytest.approx(
        [float(end) for end in jeffreys(2, 4)], abs=1e-9
    )


def test_an_abandoned_cycle_stays_in_every_denominator():
    kept, left = [cycle("c1")], [cycle("c1"), cycle("c2", "abandoned")]
    mine = outcomes("c1", "adequate", "adequate")
    lost = outcomes("c2", "poor", "insufficient_dose", "adequate")
    before, after = bridges(kept, mine), bridges(left, mine + lost)
    assert (before["responder_share"], before["ended_share"]) == (1, 1)
    assert (after["cycles"], after["abandoned_cycles"], after["abandoned_outcomes"]) == (2, 1, 3)
    assert (after["outcomes"], after["ended"], after["concluded"], after["students"]) == (5, 5, 4, 5)
    assert (after["responder_share"], after["ended_share"]) == (0.75, 0.6)
    assert bridges([cycle("c2", "abandoned")], [])["cycles"] == 1


@pytest.mark.parametrize("state", ["open", "overdue"])
def test_a_cycle_that_is_not_over_says_nothing_yet_also_of_a_goal_that_was_met(state):
    got = bridges([cycle("c1"), cycle("c2", state)], outcomes("c1", "poor") + outcomes("c2", "adequate", "poor"))
    assert (got["outcomes"], got["ended"], got["concluded"], got[f"{state}_outcomes"]) == (3, 1, 1, 2)
    assert got["responder_share"] == 0


def test_a_student_in_two_cycles_counts_in_both_and_is_one_student():
    members = [each | {"subject_key": "ana"} for name in ("c1", "c2") for each in outcomes(name, "adequate")]
    got = bridges([cycle("c1"), cycle("c2")], members)
    assert (got["outcomes"], got["students"]) == (2, 1)


def test_cycles_of_one_name_in_two_schools_are_two():
    cycles = [cycle("c1"), cycle("c1", school_id="s2", intervention="other"), cycle("c9", school_id=None)]
    members = (
        outcomes("c1", "adequate") + outcomes("c1", "poor", school_id="s2") + outcomes("c9", "poor", school_id=None)
    )
    got = rates(cycles, members).filter(kind="intervention")
    assert got.select("name", "cycles", "adequate", "poor").rows() == [("bridges", 2, 1, 1), ("other", 1, 0, 1)]


@pytest.mark.parametrize(
    ("concluded", "reason", "is_comparable"),
    [(9, "fewer_than_10_concluded", False), (10, None, False), (19, None, False), (20, None, True)],
)
def test_a_rate_is_shown_from_ten_and_compared_from_twenty(concluded, reason, is_comparable):
    got = bridges([cycle("c1")], outcomes("c1", *["poor"] * concluded, "dose_unknown", "insufficient_data"))
    assert (got["withheld_reason"], got["is_comparable"]) == (reason, is_comparable)


def test_a_district_sets_its_own_minimums():
    got = bridges([cycle("c1")], outcomes("c1", "poor", "poor"), display_minimum=3, compare_minimum=2)
    assert (got["withheld_reason"], got["is_comparable"]) == ("fewer_than_3_concluded", True)


def test_concepts_stand_in_the_order_of_the_progression():
    cycles = [cycle(name, concept=name, intervention=None) for name in ("add", "count", "zeta")]
    cycles += [cycle("none", concept=None, intervention=None)]
    rule = ResponseRule(progression=("count", "add"))
    got = rates(cycles, [], {"d1": DistrictPolicy(time_zone="America/Denver", responses=rule)})
    placed = got.filter(kind="concept").select("name", "progression_place").rows()
    assert placed == [("add", 2), ("count", 1), ("zeta", None), (None, None)]
    unnamed = got.filter(kind="intervention")
    assert unnamed.select("name", "cycles", "progression_place").rows() == [(None, 4, None)]


def test_tiers_of_support_are_kept_apart():
    cycles = [cycle("c1", tier=2), cycle("c2", tier=3), cycle("c3", tier=None)]
    assert rates(cycles, []).filter(kind="concept")["tier"].to_list() == [2, 3, None]


def test_no_cycles_are_no_rates():
    assert rates([], []).is_empty()


@examples(30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["d1", "d2"]),
            st.sampled_from(["open", "overdue", "closed", "abandoned"]),
            st.sampled_from(["bridges", "other", None]),
            st.lists(st.sampled_from(RESPONSES), max_size=5),
        ),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_rates_are_those_of_a_count_by_hand_in_any_order(many, random):
    cycles, members = [], []
    for number, (district, state, name, responses) in enumerate(many):
        cycles.append(cycle(f"c{number}", state, name) | {"district_id": district})
        members += [row | {"district_id": district} for row in outcomes(f"c{number}", *responses)]
    got = rates(cycles, members)
    random.shuffle(cycles)
    random.shuffle(members)
    assert got.equals(rates(cycles, members))
    rows = got.with_columns(input_id=pl.lit("i")).select(columns(ResponderRate).keys())
    assert broken_rules(rows, ResponderRate).is_empty()
    for row in got.filter(kind="intervention").to_dicts():
        mine = [each for each in many if (each[0], each[2]) == (row["district_id"], row["name"])]
        over = [response for each in mine if each[1] in ("closed", "abandoned") for response in each[3]]
        concluded = [response for response in over if response in ("adequate", "questionable", "poor")]
        assert (row["cycles"], row["ended"], row["concluded"]) == (len(mine), len(over), len(concluded))
        assert row["outcomes"] == sum(len(each[3]) for each in mine)
        assert row["adequate"] == concluded.count("adequate")


def test_the_grade_of_a_student_is_the_rosters_and_else_the_tests():
    key = {"district_id": "d1", "school_year": "2026"}

    def row(who, window, grade):
        return key | {"subject_key": who, "benchmark_window": window, "grade": grade}

    members = [row("ana", "winter", "4"), row("ana", "fall", None), row("ben", "spring", None)]
    needs = [row("ana", "fall", "5"), row("ben", "spring", "3"), row("ben", "winter", "2"), row("cid", "fall", None)]
    got = grades_of(frame(members, ClassMembership).collect(), frame(needs, NeedLevel).collect())
    assert got.select("subject_key", "grade").rows() == [("ana", "4"), ("ben", "2")]


# Rates drawn to one another


def shrunk(counts):
    """`_shrunk` of interventions with these adequate and concluded outcomes, by name."""
    rows = pl.DataFrame(
        [("d1", "2026", "intervention", f"i{place:02}", 2, y, n) for place, (y, n) in enumerate(counts)],
        schema=dict(zip((*RATE, "adequate", "concluded"), (*[pl.String] * 4, pl.Int8, *[pl.Int64] * 2), strict=True)),
        orient="row",
    )
    return _shrunk(rows.sample(fraction=1, shuffle=True, seed=3)).sort("name")


def test_few_rates_are_drawn_to_their_own_pool_and_a_single_one_to_nothing():
    told = shrunk([(2, 10), (40, 60), (0, 0)])
    assert told["name"].to_list() == ["i00", "i01"]
    assert told["shrunk_by"].to_list() == ["pooled"] * 2
    pool = 42 / 70
    assert told["shrunk_share"].to_list() == pytest.approx([(10 * pool + 2) / 20, (10 * pool + 40) / 70], abs=1e-9)
    assert shrunk([(2, 10)]).is_empty()


def test_many_rates_stand_on_the_prior_fitted_to_them():
    y, n = (VECTOR_10["y"], VECTOR_10["n"])
    told = shrunk(list(zip(y, n, strict=True)))
    assert set(told["shrunk_by"]) == {"one_level"}
    wanted = [each["shrunk_mean"] for each in VECTOR_10["classes"]]
    assert told["shrunk_share"].to_list() == pytest.approx(wanted, abs=1e-5)
