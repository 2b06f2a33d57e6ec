"""Need levels and tiers."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.contract import broken_rules, columns, conform
from schemas.policy import CutRule, DistrictPolicy
from schemas.projections import ClassMembership, NeedLevel, Projection, ScreeningResult, TierPlacement, WindowRule
from tests.reference import reference_need, reference_primary
from tests.tables import EXPORTED, facts, rows, table
from transforms.cuts import cut_scores
from transforms.membership import class_memberships
from transforms.placement import need_levels, tier_placements
from transforms.screening import screening_results
from transforms.windows import window_rules


def district(**settings) -> DistrictPolicy:
    return DistrictPolicy(time_zone="America/Denver", **settings)


POLICY = district()
EVERYWHERE = {"district_id": "d1", "school_year": "2026"}
WINDOWS = table(
    WindowRule,
    """
    benchmark_window | reference_on
    fall             | 2025-09-30
    winter           | 2026-01-20
""",
    **EVERYWHERE,
).lazy()
ROSTER = """
    event_type      | subject_key | class_id
    StudentEnrolled | somebody    | math
"""


def filled(contract: type[Projection], text: str, **defaults) -> pl.LazyFrame:
    written = rows(text)
    known = set(written[0]) if written else set()
    return table(contract, text, **{k: v for k, v in (EVERYWHERE | defaults).items() if k not in known}).lazy()


def screening(text: str) -> pl.LazyFrame:
    """Chosen, valid fall tests of `a` in grade 4, unless written otherwise."""
    found = filled(
        ScreeningResult,
        text,
        subject_key="a",
        measure="map_growth_math",
        benchmark_window="fall",
        occurred_on=date(2025, 9, 10),
        score=200.0,
        grade="4",
        is_valid=True,
        is_chosen=True,
        first_export_at=EXPORTED,
        layout="results",
    )
    number = pl.format("k{}", pl.int_range(pl.len()))
    return found.with_columns(natural_key=pl.coalesce("natural_key", number))


def memberships(text: str = "subject_key | grade | class_id") -> pl.LazyFrame:
    return filled(
        ClassMembership,
        text,
        benchmark_window="fall",
        reference_on=date(2025, 9, 30),
        school_id="s1",
        class_basis="title",
        is_alternate_assessment=False,
    )


def needs(text: str, policy: DistrictPolicy = POLICY, members: pl.LazyFrame | None = None, **families) -> pl.DataFrame:
    members = memberships() if members is None else members
    tests = screening(text)
    cuts = cut_scores(tests, members, WINDOWS, {"d1": policy})
    found = need_levels(tests, members, WINDOWS, cuts, facts(**families), {"d1": policy}).collect()
    return checked(found, NeedLevel).sort("benchmark_window", "subject_key", "measure")


def placed(text: str, members: str = "", policy: DistrictPolicy = POLICY, **families) -> pl.DataFrame:
    tests = screening(text)
    listed = memberships(members) if members else memberships()
    known = facts(**({"roster": ROSTER} if members else {}) | families)
    cuts = cut_scores(tests, listed, WINDOWS, {"d1": policy})
    levels = need_levels(tests, listed, WINDOWS, cuts, known, {"d1": policy}).collect()
    found = tier_placements(levels.lazy(), tests, listed, WINDOWS, known, {"d1": policy}).collect()
    return checked(found, TierPlacement).sort("benchmark_window", "subject_key")


def checked(found: pl.DataFrame, contract: type[Projection]) -> pl.DataFrame:
    conformed = conform(found.with_columns(input_id=pl.lit("i")).lazy(), contract).collect()
    assert broken_rules(conformed, contract).is_empty()
    assert found.schema == conformed.drop("input_id").schema
    return found


@pytest.mark.parametrize(
    ("percentile", "level", "is_in_need"),
    [
        (10, "tier_3", True),
        (11, "tier_2", True),
        (19, "tier_2", True),
        (20, "tier_2", False),
        (21, "watch", False),
        (40, "watch", False),
        (41, "none", False),
    ],
)
def test_need_is_below_the_cut_and_a_percentile_on_it_is_not(percentile, level, is_in_need):
    found = needs(f"percentile\n{percentile}").row(0, named=True)
    assert (found["need_level"], found["is_in_need"]) == (level, is_in_need)
    assert (found["rule"], found["rule_version"]) == ("map_growth_math by percentile", "1980-01-01 policy 1980-01-01")


@pytest.mark.parametrize(
    ("measure", "window", "placement", "level", "is_in_need", "rule"),
    [
        ("iready_math", "fall", "1 Grade Level Below", "watch", False, "iready_math by placement"),
        ("iready_math", "winter", "1 Grade Level Below", "tier_2", False, "iready_math by placement"),
        ("iready_math", "fall", "2 GRADE levels below ", "tier_3", True, "iready_math by placement"),
        ("iready_math", "fall", "Early On Grade Level", "none", False, "iready_math by placement"),
        ("iready_math", "fall", "Something New", None, None, "unknown_placement"),
        ("iready_math", "fall", "", None, None, "no_placement"),
        ("fastbridge_amath", "fall", "highRisk", "tier_3", True, "fastbridge_amath by placement"),
        ("fastbridge_amath", "fall", "someRisk", "tier_2", False, "fastbridge_amath by placement"),
    ],
)
def test_a_rule_by_placement_goes_by_the_label_without_regard_to_case(
    measure, window, placement, level, is_in_need, rule
):
    found = needs(f"measure | benchmark_window | placement\n{measure} | {window} | {placement}").row(0, named=True)
    assert (found["need_level"], found["is_in_need"], found["rule"]) == (level, is_in_need, rule)


def test_without_a_percentile_the_rule_cannot_say():
    found = needs("percentile | placement\n | Low").row(0, named=True)
    assert (found["status"], found["need_level"], found["is_in_need"]) == ("tested", None, None)
    assert found["rule"] == "no_percentile"


def test_a_measure_without_a_rule_of_its_own_takes_the_rule_for_any():
    found = needs("measure | percentile\nlocal_screener | 11").row(0, named=True)
    assert (found["need_level"], found["rule"]) == ("tier_2", "* by percentile")


def own(**settings) -> CutRule:
    return CutRule.model_validate({"measure": "map_growth_math", "by": "score", "source": "s", **settings})


def test_the_first_rule_that_fits_grade_window_and_reference_date_decides():
    cuts = (
        own(grades=("3",), tier_2_below=300, class_need_below=300),
        own(seasons=("winter",), tier_2_below=300, class_need_below=300),
        own(valid_from=date(2025, 10, 1), tier_2_below=300, class_need_below=300),
        own(valid_from=date(2025, 9, 30), tier_2_below=200, class_need_below=200),
        own(valid_from=date(2025, 9, 29), tier_2_below=300, class_need_below=300),
    )
    policy = district(cuts=cuts)
    on_cut = needs("score\n200", policy).row(0, named=True)
    assert (on_cut["need_level"], on_cut["is_in_need"]) == ("none", False)
    assert on_cut["rule_version"] == "2025-09-30 policy 1980-01-01"
    assert needs("score\n199.9", policy)["is_in_need"].to_list() == [True]


def test_the_grade_is_that_of_the_test_else_of_the_roster():
    members = memberships("subject_key | grade\na | 5\nb | 5")
    found = needs("subject_key | grade\na | 4\nb |", members=members)
    assert found["grade"].to_list() == ["4", "5"]
    cut = own(grades=("5",), tier_2_below=300, class_need_below=300)
    only_five = needs("subject_key | grade\na | 4\nb |", district(cuts=(cut,)), members)
    assert only_five["need_level"].to_list() == [None, "tier_2"]
    assert only_five["rule"].to_list() == ["no_percentile", "map_growth_math by score"]


def test_status_says_why_there_is_no_valid_test():
    found = needs(
        """
        subject_key | is_valid | is_chosen
        a           | true     | true
        b           | false    | false
        c           | false    | false
    """,
        not_tested="""
        event_type | subject_key | measure         | window_label | status
        NotTested  | a           | map_growth_math | fall         | absent
        NotTested  | c           | map_growth_math | fall         | refused
        NotTested  | d           | star_math       | fall         | exempt_alternate
        NotTested  | e           |                 | fall         | absent
    """,
    )
    assert found.select("subject_key", "measure", "status").rows() == [
        ("a", "map_growth_math", "tested"),
        ("b", "map_growth_math", "invalid"),
        ("c", "map_growth_math", "refused"),
        ("d", "star_math", "exempt_alternate"),
    ]
    assert found["need_level"].to_list()[1:] == [None] * 3


def test_only_the_chosen_test_counts_and_tests_outside_windows_never():
    found = needs("""
        percentile | is_chosen | benchmark_window
        5          | false     | fall
        50         | true      | fall
        5          | false     |
    """)
    assert found.select("benchmark_window", "percentile").rows() == [("fall", 50.0)]


@pytest.mark.parametrize(("percentile", "tier"), [(10, 3), (20, 2), (40, 1), (41, 1)])
def test_need_becomes_a_tier(percentile, tier):
    found = placed(f"percentile\n{percentile}", "subject_key | grade | class_id\na | 4 | math").row(0, named=True)
    assert (found["tier"], found["reason"], found["status"]) == (tier, "primary_measure", "tested")
    assert (found["school_id"], found["class_id"], found["measures"]) == ("s1", "math", 1)


def test_every_student_of_the_roster_is_placed_once_and_nobody_else():
    found = placed(
        "subject_key | percentile\na | 5\nstranger | 5",
        "subject_key | grade | is_alternate_assessment\na | 4 | false\nb | 4 | false\nc | 4 | true",
        not_tested="""
        event_type | subject_key | measure | window_label | status
        NotTested  | b           |         | fall         | absent
    """,
    )
    expected = [
        ("a", 3, "tested", "primary_measure", "map_growth_math"),
        ("b", None, "absent", "no_valid_test", None),
        ("c", None, "exempt_alternate", "no_valid_test", None),
    ]
    assert found.select("subject_key", "tier", "status", "reason", "measure").rows() == expected


def test_an_untested_student_has_no_tier():
    found = placed("subject_key | percentile\nb | 50", "subject_key | grade\na | 4").row(0, named=True)
    assert (found["tier"], found["status"], found["reason"], found["measures"]) == (
        None,
        "untested",
        "no_valid_test",
        0,
    )


def test_without_a_roster_every_student_with_a_test_is_placed():
    found = placed("subject_key | percentile | school_id\na | 5 | North\nb | 50 | North")
    assert found.select("subject_key", "tier", "school_id", "grade", "class_id").rows() == [
        ("a", 3, "North", "4", None),
        ("b", 1, "North", "4", None),
    ]


def test_a_rule_that_cannot_say_leaves_no_tier():
    found = placed("subject_key | percentile\na |", "subject_key | grade\na | 4")
    row = found.row(0, named=True)
    assert (row["tier"], row["reason"], row["rule"], row["status"]) == (
        None,
        "rule_cannot_say",
        "no_percentile",
        "tested",
    )


MIXED = """
    subject_key | measure         | percentile | grade
    a           | map_growth_math | 5          | 4
    a           | star_math       | 50         | 4
    b           | star_math       | 50         | 4
    c           | map_growth_math | 5          | 5
    c           | star_math       | 50         | 5
"""
MEMBERS = "subject_key | grade\na | 4\nb | 4\nc | 5"


def test_the_measure_with_most_valid_tests_in_the_grade_is_primary_and_ties_go_by_name():
    found = placed(MIXED, MEMBERS)
    assert found.select("measure", "tier", "measures").rows() == [
        ("star_math", 1, 2),
        ("star_math", 1, 1),
        ("map_growth_math", 3, 2),
    ]


def test_policy_names_the_primary_measure_of_a_grade():
    found = placed(MIXED, MEMBERS, district(primary_measures={"4": "map_growth_math"}))
    assert found.select("measure", "tier", "status", "reason").rows() == [
        ("map_growth_math", 3, "tested", "primary_measure"),
        (None, None, "untested", "no_valid_primary_test"),
        ("map_growth_math", 3, "tested", "primary_measure"),
    ]


def test_late_exports_do_not_change_the_primary_measure():
    tests = """
        subject_key | measure         | percentile | first_export_at
        a           | map_growth_math | 5          | 2025-12-13T00:00:00Z
        a           | star_math       | 50         | 2025-12-14T00:00:00Z
        b           | star_math       | 50         | 2025-12-14T00:00:00Z
    """
    assert placed(tests, "subject_key | grade\na | 4")["measure"].to_list() == ["map_growth_math"]


def test_the_assigned_tier_is_the_latest_up_to_the_reference_date():
    found = placed(
        "percentile\n50",
        "subject_key | grade\na | 4\nb | 4",
        plan="""
        event_type   | subject_key | tier | occurred_on
        TierAssigned | a           | 3    | 2025-09-01
        TierAssigned | a           | 2    | 2025-09-30
        TierAssigned | a           | 1    | 2025-10-01
        PlanWritten  | a           | 1    | 2025-09-30
        TierAssigned | b           | 1    | 2025-10-01
    """,
    )
    assert found.select("tier", "assigned_tier").rows() == [(1, 2), (None, None)]


CASE = st.fixed_dictionaries(
    {
        "measure": st.sampled_from(["map_growth_math", "star_math", "iready_math", "local"]),
        "subject_key": st.sampled_from("abcdef"),
        "benchmark_window": st.sampled_from(["fall", "winter"]),
        "percentile": st.none()
        | st.sampled_from([1.0, 9.0, 10.0, 11.0, 19.0, 20.0, 21.0, 24.0, 25.0, 40.0, 41.0, 99.0]),
        "placement": st.sampled_from([None, "1 grade level below", "2 Grade Levels Below", "?"]),
        "score": st.integers(198, 202).map(float),
        "is_valid": st.booleans(),
    }
)
CUTS = st.lists(
    st.builds(
        own,
        measure=st.sampled_from(["map_growth_math", "local", "*"]),
        by=st.sampled_from(["score", "percentile"]),
        grades=st.sampled_from([(), ("4",), ("5",)]),
        seasons=st.sampled_from([(), ("fall",)]),
        valid_from=st.sampled_from([date(2025, 9, 30), date(2025, 10, 1)]),
        tier_2_below=st.just(20),
        tier_3_below=st.none() | st.just(10),
        class_need_below=st.just(15),
    ),
    max_size=3,
)


@given(
    st.lists(
        CASE, min_size=1, max_size=25, unique_by=lambda t: (t["subject_key"], t["benchmark_window"], t["measure"])
    ),
    CUTS,
    st.sets(st.sampled_from("abcdefg"), min_size=1),
    st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_levels_and_tiers_agree_with_the_slow_version_in_any_order(cases, cuts, enrolled, seed):
    policy = district(cuts=tuple(cuts))
    grades = {subject: "4" if subject < "d" else "5" for subject in "abcdefg"}
    base = screening("subject_key\n" + "\n".join(case["subject_key"] for case in cases)).collect()
    written = pl.DataFrame(cases, schema_overrides={"percentile": pl.Float64, "placement": pl.String})
    tests = base.with_columns(
        written.with_columns(is_chosen="is_valid", grade=pl.col("subject_key").replace_strict(grades)).get_columns()
    )
    dates = {"fall": date(2025, 9, 30), "winter": date(2026, 1, 20)}
    members = pl.concat(
        memberships("subject_key | grade\n" + "\n".join(f"{s} | {grades[s]}" for s in sorted(enrolled))).with_columns(
            benchmark_window=pl.lit(season), reference_on=pl.lit(day)
        )
        for season, day in dates.items()
    )
    known, policies = facts(roster=ROSTER), {"d1": policy}

    def run(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        cuts = cut_scores(frame.lazy(), members, WINDOWS, policies)
        levels = need_levels(frame.lazy(), members, WINDOWS, cuts, known, policies).collect()
        tiers = tier_placements(levels.lazy(), frame.lazy(), members, WINDOWS, known, policies).collect()
        return (
            levels.sort("benchmark_window", "subject_key", "measure"),
            tiers.sort("benchmark_window", "subject_key"),
        )

    levels, tiers = run(tests)
    again = run(tests.sample(fraction=1.0, shuffle=True, seed=seed))
    assert_frame_equal(levels, again[0])
    assert_frame_equal(tiers, again[1])

    slow = {}
    for test in tests.to_dicts():
        season = test["benchmark_window"]
        level = reference_need(test, season, dates[season], policy) if test["is_valid"] else (None, None)
        slow[season, test["subject_key"], test["measure"]] = (*level, "tested" if test["is_valid"] else "invalid")
    assert slow == {
        (r["benchmark_window"], r["subject_key"], r["measure"]): (r["need_level"], r["is_in_need"], r["status"])
        for r in levels.iter_rows(named=True)
    }

    assert tiers.select("benchmark_window", "subject_key").rows() == [(w, s) for w in dates for s in sorted(enrolled)]
    for row in tiers.iter_rows(named=True):
        season, subject = row["benchmark_window"], row["subject_key"]
        peers = [
            test
            for test in tests.to_dicts()
            if test["is_valid"] and (test["benchmark_window"], test["grade"]) == (season, grades[subject])
        ]
        level, _, status = slow.get((season, subject, reference_primary(peers)), (None, None, None))
        tier = {"none": 1, "watch": 1, "tier_2": 2, "tier_3": 3}.get(level or "") if status == "tested" else None
        assert row["tier"] == tier
        assert (row["status"] == "tested") == (status == "tested")


TWO_DISTRICTS = """
    district_id | subject_key | measure         | occurred_on | score | percentile | season_slot | standard_error
    d1          | a           | map_growth_math | 2025-09-10  | 186   | 5          |             | 3.1
    d1          | a           | map_growth_math | 2025-09-12  | 190   | 20         |             | 3.1
    d1          | b           | map_growth_math | 2025-09-11  | 190   | 45         |             | 3.1
    d2          | a           | map_growth_math | 2025-09-20  | 186   | 15         |             | 3.1
    d2          | a           | map_growth_math | 2026-02-12  | 190   | 20         | Feb-Mar     | 3.1
"""
TWO_ROSTERS = """
    event_type      | district_id | subject_key | class_id | begin_on   | subject_codes
    StudentEnrolled | d1          | a           | c        | 2025-08-20 |
    StudentEnrolled | d1          | b           | c        | 2025-09-12 |
    ClassListed     | d1          |             | c        |            | 02052
    StudentEnrolled | d2          | a           | c        | 2025-09-20 |
    ClassListed     | d2          |             | c        |            | 110
"""


def test_many_districts_in_one_pass_give_what_each_gives_alone():
    policies = {"d1": POLICY, "d2": district(season_names={"Feb-Mar": "winter"}, math_codes=("11",))}
    known = facts(screening=TWO_DISTRICTS, roster=TWO_ROSTERS)

    def chain(given_facts: dict[str, pl.LazyFrame]) -> list[pl.DataFrame]:
        tests = screening_results(given_facts, policies, {}).collect().lazy()
        dates = window_rules(tests, policies).collect().lazy()
        members = class_memberships(given_facts, dates, policies).collect().lazy()
        cuts = cut_scores(tests, members, dates, policies).collect().lazy()
        levels = need_levels(tests, members, dates, cuts, given_facts, policies).collect().lazy()
        tiers = tier_placements(levels, tests, members, dates, given_facts, policies)
        return [each.collect() for each in (tests, dates, members, levels, tiers)]

    together = chain(known)
    alone = [
        chain({name: rows.filter(pl.col("district_id") == name_of) for name, rows in known.items()})
        for name_of in policies
    ]
    for whole, first, second in zip(together, *alone, strict=True):
        order = [name for name in whole.columns if whole.schema[name] != columns(ScreeningResult)["strands"]]
        assert_frame_equal(whole.sort(order), pl.concat([first, second]).sort(order))
    assert together[2].sort("district_id", "benchmark_window", "subject_key").select(
        "district_id", "benchmark_window", "subject_key", "class_id", "class_basis"
    ).rows() == [
        ("d1", "fall", "a", "c", "subject_code"),
        ("d2", "fall", "a", "c", "subject_code"),
        ("d2", "winter", "a", "c", "subject_code"),
    ]
