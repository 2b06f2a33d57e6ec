"""Proposals for new groups: who may be in one, with whom, and that nobody in need is lost."""

from collections import Counter
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.contract import broken_rules, columns, conform
from schemas.policy import CycleRule, DistrictPolicy, ResponseRule
from schemas.projections import UNGROUPED, Cycle, CycleOutcome, RegroupingProposal, TierPlacement
from tests.tables import table
from transforms.regrouping import CELL, regrouping_proposals

D1 = {"district_id": "d1", "school_year": "2026"}
AT = {**D1, "school_id": "s1"}
PROGRESSION = ("count", "add", "multiply")
FALL, WINTER = date(2025, 9, 15), date(2026, 1, 15)


def policies(size=4, progression=PROGRESSION, districts=("d1",)):
    policy = DistrictPolicy(
        time_zone="America/Denver",
        cycles=CycleRule(group_size=size),
        responses=ResponseRule(progression=progression),
    )
    return dict.fromkeys(districts, policy)


def placements(text):
    return table(TierPlacement, text, **AT, benchmark_window="fall", reference_on=FALL, grade="4", tier=2)


def proposals(placed, cycles="", members="", rules=None):
    return regrouping_proposals(
        placements(placed), table(Cycle, cycles, **AT), table(CycleOutcome, members, **AT), rules or policies()
    )


CLOSED = """
    cycle_id | concept | opened_on  | closed_on
    c1       | add     | 2025-09-20 | 2025-10-20
"""


def of(got, *names):
    return got.select("subject_key", *names).rows()


def test_students_of_one_concept_and_step_are_one_group():
    got = proposals(
        """
        subject_key
        ana
        ben
        """,
        CLOSED,
        """
        cycle_id | subject_key | next_step
        c1       | ana         | continue
        c1       | ben         | change_intervention
        """,
    )
    assert of(got, "concept", "progression_place", "step", "group_number", "group_students", "is_leftover") == [
        ("ana", "add", 2, "again", 1, 2, False),
        ("ben", "add", 2, "again", 1, 2, False),
    ]
    assert got["last_ended_on"].unique().to_list() == [date(2025, 10, 20)]


def test_a_goal_that_was_met_leads_to_the_next_concept_and_a_group_of_its_own():
    got = proposals(
        """
        subject_key
        ana
        ben
        """,
        """
        cycle_id | concept  | opened_on  | closed_on
        c1       | count    | 2025-09-20 | 2025-10-20
        c2       | add      | 2025-09-20 | 2025-10-20
        """,
        """
        cycle_id | subject_key | next_step
        c1       | ana         | exit_or_regroup
        c2       | ben         | continue
        """,
    )
    assert of(got, "concept", "step", "is_leftover") == [("ana", "add", "next", True), ("ben", "add", "again", True)]


@pytest.mark.parametrize(
    ("concept", "next_step", "progression", "reason"),
    [
        ("multiply", "exit_or_regroup", PROGRESSION, "next_concept_unknown"),
        ("other", "exit_or_regroup", PROGRESSION, "next_concept_unknown"),
        ("add", "exit_or_regroup", (), "next_concept_unknown"),
        ("other", "continue", (), None),
        ("", "continue", PROGRESSION, "concept_not_named"),
        ("", "exit_or_regroup", PROGRESSION, "concept_not_named"),
    ],
)
def test_a_concept_that_cannot_be_told_is_said_and_not_guessed(concept, next_step, progression, reason):
    cycles = CLOSED.replace("| add ", f"| {concept} ")
    members = f"""
        cycle_id | subject_key | next_step
        c1       | ana         | {next_step}
    """
    got = proposals("subject_key\nana", cycles, members, policies(progression=progression)).row(0, named=True)
    assert got["reason"] == reason
    assert (got["group_number"] is None) == (reason is not None)
    assert (got["concept"] is None) == (reason is not None)


def test_a_student_without_a_cycle_stays_visible():
    got = proposals("subject_key\nana", CLOSED, "cycle_id | subject_key | next_step\nc1 | ben | continue")
    assert of(got, "reason", "concept", "group_number") == [("ana", "no_ended_cycle", None, None)]


def test_where_no_cycles_are_supplied_nothing_is_said_of_them():
    assert of(proposals("subject_key\nana"), "reason") == [("ana", "cycles_not_supplied")]


@pytest.mark.parametrize(
    ("tier", "assigned", "is_there"),
    [("1", "", False), ("2", "", True), ("3", "", True), ("", "", False), ("3", "1", False), ("1", "2", True)],
)
def test_the_tier_that_stands_decides_who_is_in_need(tier, assigned, is_there):
    got = proposals(f"subject_key | tier | assigned_tier\nana | {tier} | {assigned}", CLOSED)
    assert got.height == is_there


@pytest.mark.parametrize(
    ("closed", "left", "is_free"),
    [
        ("", "", False),
        ("2026-01-14", "", True),
        ("2026-01-15", "", False),
        ("", "2026-01-14", True),
        ("", "2026-01-15", False),
        ("2026-03-01", "2026-01-10", True),
    ],
)
def test_the_cycle_must_be_over_on_the_day_before_the_next_reference_date(closed, left, is_free):
    placed = f"""
        subject_key | benchmark_window | reference_on | tier
        ana         | fall             | {FALL}       | 2
        ben         | winter           | {WINTER}     | 2
    """
    cycles = f"""
        cycle_id | concept | opened_on  | closed_on
        c1       | add     | 2025-09-20 | {closed}
    """
    members = f"""
        cycle_id | subject_key | left_on | next_step
        c1       | ana         | {left}  | continue
    """
    got = proposals(placed, cycles, members).filter(subject_key="ana")
    assert got.height == is_free
    if is_free:
        assert (got["reason"].item(), got["until_on"].item()) == (None, WINTER - timedelta(days=1))


def test_a_cycle_that_begins_after_the_window_says_nothing_of_it():
    placed = f"""
        subject_key | benchmark_window | reference_on | tier
        ana         | fall             | {FALL}       | 2
        ana         | winter           | {WINTER}     | 2
    """
    cycles = "cycle_id | concept | opened_on | closed_on\nc1 | add | 2026-01-20 | 2026-02-20"
    got = proposals(placed, cycles, "cycle_id | subject_key | next_step\nc1 | ana | continue")
    assert got.select("benchmark_window", "reason", "concept").rows() == [
        ("fall", "no_ended_cycle", None),
        ("winter", None, "add"),
    ]


def test_the_cycle_that_ended_last_decides_and_of_several_on_a_day_the_later_opened():
    cycles = """
        cycle_id | concept  | opened_on  | closed_on
        c1       | multiply | 2025-09-20 | 2025-12-01
        c2       | count    | 2025-10-20 | 2025-12-01
        c3       | add      | 2025-11-01 | 2025-11-20
    """
    members = "cycle_id | subject_key | next_step\n" + "\n".join(f"c{n} | ana | continue" for n in (1, 2, 3))
    assert of(proposals("subject_key\nana", cycles, members), "last_cycle_id", "concept") == [("ana", "c2", "count")]


def test_a_school_or_grade_that_is_not_known_makes_no_group():
    members = "cycle_id | subject_key | next_step\nc1 | ana | continue"
    got = proposals("subject_key | grade\nana |", CLOSED, members)
    assert of(got, "reason", "concept", "group_number") == [("ana", "school_or_grade_unknown", "add", None)]


@pytest.mark.parametrize(
    ("students", "size", "sizes"),
    [(1, 4, [1]), (4, 4, [4]), (5, 4, [3, 2]), (9, 4, [3, 3, 3]), (3, 1, [1, 1, 1]), (7, 3, [3, 2, 2])],
)
def test_groups_are_as_few_and_as_even_as_the_size_allows_in_order_of_keys(students, size, sizes):
    names = [f"k{n}" for n in range(students)]
    members = "cycle_id | subject_key | next_step\n" + "\n".join(f"c1 | {name} | continue" for name in names)
    got = proposals("subject_key\n" + "\n".join(reversed(names)), CLOSED, members, policies(size))
    counts = Counter(got["group_number"])
    assert sorted(counts.values(), reverse=True) == sizes
    assert got.sort("subject_key")["group_number"].is_sorted()
    assert got["is_leftover"].to_list() == [size == 1 for size in got["group_students"]]


# Any district


@st.composite
def districts(draw):
    """Placements, cycles and outcomes of two districts of any shape."""
    keys = [f"k{n}" for n in range(draw(st.integers(1, 12)))]
    day = st.integers(0, 250).map(lambda n: FALL + timedelta(days=n))
    placed, cycle, member = [], [], []
    for district in ("d1", "d2"):
        year = {"district_id": district, "school_year": "2026"}
        for number in range(draw(st.integers(0, 4))):
            opened = draw(day)
            closed = draw(st.none() | st.integers(1, 60).map(lambda n, opened=opened: opened + timedelta(days=n)))
            concept = draw(st.sampled_from([*PROGRESSION, "other", None]))
            named = {"school_id": draw(st.sampled_from(["s1", None])), "cycle_id": f"c{number}"}
            cycle.append(year | named | {"opened_on": opened, "closed_on": closed, "concept": concept})
            for key in draw(st.lists(st.sampled_from(keys), unique=True)):
                left = draw(st.none() | st.integers(0, 40).map(lambda n, opened=opened: opened + timedelta(days=n)))
                step = draw(st.sampled_from(["exit_or_regroup", "continue", "set_goal", None]))
                member.append(
                    year | named | {"subject_key": key, "joined_on": opened, "left_on": left, "next_step": step}
                )
        for season, on in (("fall", FALL), ("winter", WINTER)):
            for key in keys:
                placed.append(
                    year
                    | {
                        "benchmark_window": season,
                        "reference_on": on,
                        "subject_key": key,
                        "school_id": draw(st.sampled_from(["s1", "s2"])),
                        "grade": draw(st.sampled_from(["3", "4", None])),
                        "tier": draw(st.sampled_from([1, 2, 3, None])),
                        "assigned_tier": draw(st.sampled_from([None, None, 1, 2])),
                    }
                )
    return tuple(shaped(rows, kind) for rows, kind in ((placed, TierPlacement), (cycle, Cycle), (member, CycleOutcome)))


def shaped(rows, contract):
    schema = columns(contract)
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema, strict=False)


RULES = policies(size=3, districts=("d1", "d2"))
BEFORE = {"fall": WINTER - timedelta(days=1), "winter": date.max}


def obvious(placed, cycles, members):
    """Every student in need with the state of their cycles, one by one: key to (concept, step, reason)."""
    told = {}
    for row in placed.to_dicts():
        tier = row["assigned_tier"] or row["tier"]
        if tier not in (2, 3):
            continue
        year = (row["district_id"], row["school_year"])
        own = [each for each in cycles.to_dicts() if (each["district_id"], each["school_year"]) == year]
        until, ended, is_open = BEFORE[row["benchmark_window"]], [], False
        for each in own:
            for stay in members.to_dicts():
                same = all(stay[name] == each[name] for name in ("district_id", "school_id", "cycle_id"))
                if not same or stay["subject_key"] != row["subject_key"] or each["opened_on"] > until:
                    continue
                over = min((day for day in (each["closed_on"], stay["left_on"]) if day), default=None)
                if over is None or over > until:
                    is_open = True
                else:
                    order = (-over.toordinal(), -each["opened_on"].toordinal(), each["cycle_id"])
                    ended.append((order, each["concept"], stay["next_step"]))
        if is_open:
            continue
        key = (*year, row["benchmark_window"], row["subject_key"])
        if not own:
            told[key] = (None, None, "cycles_not_supplied")
        elif not ended:
            told[key] = (None, None, "no_ended_cycle")
        else:
            _, concept, next_step = min(ended)
            told[key] = following(concept, next_step, row)
    return told


def following(concept, next_step, row):
    if concept is None:
        return None, None, "concept_not_named"
    step = "next" if next_step == "exit_or_regroup" else "again"
    if step == "next":
        place = PROGRESSION.index(concept) + 1 if concept in PROGRESSION else len(PROGRESSION)
        concept = PROGRESSION[place] if place < len(PROGRESSION) else None
    if concept is None:
        return None, step, "next_concept_unknown"
    return concept, step, None if row["grade"] else "school_or_grade_unknown"


@settings(max_examples=60, deadline=None)
@given(districts())
def test_everyone_in_need_and_in_no_open_cycle_has_one_row_and_a_group_that_is_not_too_large(tables):
    got = regrouping_proposals(*tables, RULES)
    told = obvious(*tables)
    keys = got.select("district_id", "school_year", "benchmark_window", "subject_key").rows()
    assert len(keys) == len(set(keys))
    assert dict(zip(keys, got.select("concept", "step", "reason").rows(), strict=True)) == told
    assert set(got["reason"].drop_nulls()) <= set(UNGROUPED)
    groups = got.filter(pl.col("reason").is_null())
    assert groups["group_number"].null_count() == 0
    sizes = groups.group_by(*CELL, "group_number").agg(n=pl.len(), said=pl.col("group_students").unique())
    assert (sizes["n"] <= 3).all()
    assert sizes.filter(pl.col("said").list.first() != pl.col("n")).is_empty()
    assert broken_rules(
        conform(got.with_columns(input_id=pl.lit("i")).lazy(), RegroupingProposal).collect(), RegroupingProposal
    ).is_empty()


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(districts(), st.randoms(use_true_random=False))
def test_neither_order_nor_other_districts_change_a_proposal(tables, random):
    got = regrouping_proposals(*tables, RULES)
    mixed = [rows.sample(fraction=1, shuffle=True, seed=random.randrange(2**30)) for rows in tables]
    assert regrouping_proposals(*mixed, RULES).equals(got)
    alone = [rows.filter(district_id="d1") for rows in tables]
    assert regrouping_proposals(*alone, RULES).equals(got.filter(district_id="d1"))


@settings(max_examples=20, deadline=None)
@given(districts(), st.integers(1, 300))
def test_no_score_decides_who_is_with_whom(tables, shift):
    placed, cycles, members = tables
    moved = members.with_columns(level_end=pl.int_range(pl.len()).cast(pl.Float64) * shift, response=pl.lit("poor"))
    assert regrouping_proposals(placed, cycles, moved, RULES).equals(regrouping_proposals(*tables, RULES))
