"""Need levels."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.contract import broken_rules, columns, conform
from schemas.policy import CutRule, DistrictPolicy
from schemas.projections import ClassMembership, NeedLevel, Projection, ScreeningResult, WindowRule
from tests.examples import examples
from tests.reference import reference_need
from tests.tables import EXPORTED, facts, rows, table
from transforms.cuts import cut_scores
from transforms.cycles import cycle_tables
from transforms.membership import class_memberships
from transforms.placement import need_levels
from transforms.screening import screening_results
from transforms.tier_inputs import placement_inputs
from transforms.tiers import tier_states
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
@examples(25)
def test_levels_agree_with_the_slow_version_in_any_order(cases, cuts, enrolled, seed):
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

    def run(frame: pl.DataFrame) -> pl.DataFrame:
        cuts = cut_scores(frame.lazy(), members, WINDOWS, {"d1": policy})
        levels = need_levels(frame.lazy(), members, WINDOWS, cuts, facts(), {"d1": policy}).collect()
        return levels.sort("benchmark_window", "subject_key", "measure")

    levels = run(tests)
    assert_frame_equal(levels, run(tests.sample(fraction=1.0, shuffle=True, seed=seed)))

    slow = {}
    for test in tests.to_dicts():
        season = test["benchmark_window"]
        level = reference_need(test, season, dates[season], policy) if test["is_valid"] else (None, None)
        slow[season, test["subject_key"], test["measure"]] = (*level, "tested" if test["is_valid"] else "invalid")
    assert slow == {
        (r["benchmark_window"], r["subject_key"], r["measure"]): (r["need_level"], r["is_in_need"], r["status"])
        for r in levels.iter_rows(named=True)
    }


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
        cycles = cycle_tables(given_facts, policies)
        inputs = placement_inputs(
            levels, tests, members, dates, cycles.cycle.lazy(), cycles.cycle_outcome.lazy(), given_facts, policies
        )
        tiers = tier_states(inputs.collect())
        return [each.lazy().collect() for each in (tests, dates, members, levels, tiers)]

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
