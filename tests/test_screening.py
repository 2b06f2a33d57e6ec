"""Screening results: exports of one test joined, validity, and which test counts."""

import json
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.contract import broken_rules, columns, conform
from schemas.events import FAMILIES
from schemas.policy import DistrictPolicy
from schemas.projections import ScreeningResult
from tests.examples import examples
from tests.reference import reference_choice, reference_joined
from tests.tables import EXPORTED, facts
from transforms.screening import screening_results, shown_keys

POLICY = DistrictPolicy(time_zone="America/Denver")
RICHNESS = {"results": 2, "combo": 1, "third": 0}
VECTORS = json.loads((Path(__file__).parent / "data/vectors/01_test_selection.json").read_text("utf-8"))


def results(screening: str | pl.DataFrame, policy: DistrictPolicy = POLICY) -> pl.DataFrame:
    found = screening_results(facts(screening=screening), {"d1": policy}, RICHNESS).collect()
    checked = conform(found.with_columns(input_id=pl.lit("i")).lazy(), ScreeningResult).collect()
    assert broken_rules(checked, ScreeningResult).is_empty()
    return found.sort("natural_key")


def choosing(rule: str, measure: str = "probe") -> DistrictPolicy:
    return POLICY.model_copy(update={"select": {measure: rule}})


BOTH = """
    layout  | test_family | subject_key | measure         | test_name | occurred_on | started_at | score | percentile | grade | export_at            | natural_key
    results | map         | a           | map_growth_math | Math 2-5  | 2025-09-10  | 09:00:00   | 186   | 12         |       | {results}T00:00:00Z  | k2
    combo   | map         | a           | map_growth_math | Math 2-5  | 2025-09-10  |            | 187   |            | 4     | {combo}T00:00:00Z    | k1
"""  # noqa: E501


@pytest.mark.parametrize(
    ("first", "second", "score", "layout"),
    [
        ("2025-09-20", "2025-09-21", 187.0, "combo"),
        ("2025-09-21", "2025-09-20", 186.0, "results"),
        ("2025-09-20", "2025-09-20", 186.0, "results"),
    ],
)
def test_two_exports_of_one_test_are_one_row_of_the_latest_values(first, second, score, layout):
    found = results(BOTH.format(results=first, combo=second))
    assert found.height == 1
    row = found.row(0, named=True)
    assert (row["score"], row["layout"], row["exports"], row["natural_key"]) == (score, layout, 2, "k1")
    assert (row["percentile"], row["grade"], row["started_at"]) == (12.0, "4", "09:00:00")
    assert row["first_export_at"] == datetime.fromisoformat(f"{min(first, second)}T00:00:00Z")


def same_day(*versions: tuple) -> pl.DataFrame:
    """Versions of one student's day as (layout, score, start, name)."""
    schema = columns(FAMILIES["screening"])
    rows = [
        {
            "event_type": "ScreenerScored",
            "district_id": "d1",
            "school_year": "2026",
            "subject_key": "a",
            "measure": "map_growth_math",
            "test_family": "map",
            "occurred_on": date(2025, 9, 10),
            "layout": layout,
            "score": float(score),
            "started_at": start,
            "test_name": name,
            "natural_key": f"k{number}",
            "export_at": EXPORTED,
        }
        for number, (layout, score, start, name) in enumerate(versions)
    ]
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def shown(screening: str | pl.DataFrame) -> dict[str, str]:
    return dict(shown_keys(facts(screening=screening)["screening"], RICHNESS).collect().rows())


def test_each_fact_leads_to_the_row_that_shows_it():
    assert shown(BOTH.format(results="2025-09-20", combo="2025-09-21")) == {"k1": "k1", "k2": "k1"}
    several = [("results", 192), ("results", 186), ("combo", 192), ("third", 186)]
    rows = same_day(*((layout, score, None, None) for layout, score in several))
    keys = shown(rows)
    assert set(keys.values()) == set(results(rows)["natural_key"])
    of = dict(zip(rows["natural_key"], rows["score"], strict=True))
    assert all(of[key] == of[test] for key, test in keys.items())


def scores(*versions: tuple) -> list[tuple]:
    return sorted(results(same_day(*versions)).select("score", "exports").rows())


def test_several_on_one_day_are_paired_in_order_of_score():
    assert scores(
        ("results", 192, None, None),
        ("results", 186, None, None),
        ("combo", 185, None, None),
        ("combo", 190, None, None),
    ) == [(186.0, 2), (192.0, 2)]


def test_an_export_that_lacks_a_test_does_not_shift_the_others():
    assert scores(("results", 186, None, None), ("results", 192, None, None), ("combo", 192, None, None)) == [
        (186.0, 1),
        (192.0, 2),
    ]


def test_start_times_tell_tests_apart_where_every_export_has_them():
    assert scores(("results", 186, "09:00:00", None), ("combo", 186, "13:00:00", None)) == [(186.0, 1), (186.0, 1)]
    assert scores(("results", 186, "09:00:00", None), ("combo", 186, None, None)) == [(186.0, 2)]


def test_names_tell_tests_apart_where_every_export_has_them():
    assert scores(("results", 186, None, "Math 2-5"), ("combo", 186, None, "Math 6+")) == [(186.0, 1), (186.0, 1)]
    assert scores(("results", 186, None, "Math 2-5"), ("combo", 186, None, None)) == [(186.0, 2)]


def test_three_layouts_show_one_test():
    assert scores(("results", 186, None, None), ("combo", 187, None, None), ("third", 188, None, None)) == [(186.0, 3)]


def test_tests_of_one_layout_are_never_joined():
    assert scores(("results", 186, None, None), ("results", 186, None, None)) == [(186.0, 1), (186.0, 1)]


def test_tests_without_a_date_or_of_other_families_or_days_are_not_joined():
    day = same_day(("results", 186, None, None), ("combo", 186, None, None))
    assert results(day.with_columns(occurred_on=pl.lit(None, pl.Date))).height == 2
    assert results(day.with_columns(test_family="layout")).height == 2
    assert results(day.with_columns(test_family=pl.lit(None, pl.String))).height == 2
    other = pl.when(pl.col("layout") == "combo").then(pl.lit(date(2025, 9, 11))).otherwise("occurred_on")
    assert results(day.with_columns(occurred_on=other)).height == 2


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("is_withdrawn", "true", "withdrawn"),
        ("is_withdrawn", "false", None),
        ("is_invalid", "true", "marked_invalid"),
        ("is_invalid", "false", None),
        ("rapid_guessing_percent", "29.9", None),
        ("rapid_guessing_percent", "30", "rapid_guessing"),
        ("rush_flag", "red", None),
        ("standard_error", "", None),
    ],
)
def test_what_makes_a_test_not_valid(column, value, reason):
    found = results(f"""
        subject_key | measure | occurred_on | score | {column}
        a           | probe   | 2025-09-10  | 186   | {value}
    """).row(0, named=True)
    assert found["invalid_reason"] == reason
    assert found["is_valid"] == (reason is None)
    assert found["is_chosen"] == (reason is None)
    assert found["chosen_reason"] == ("only_valid_test" if reason is None else "not_valid")


@pytest.mark.parametrize(
    ("flag", "reason"), [("Red Rush Flag", "rushed"), ("red rush flag ", "rushed"), ("Yellow", None)]
)
def test_a_district_says_which_rushing_flags_make_a_test_not_valid(flag, reason):
    policy = POLICY.model_copy(update={"invalid_rush_flags": ("Red rush flag",)})
    screening = f"""
        subject_key | measure | occurred_on | score | rush_flag
        a           | probe   | 2025-09-10  | 186   | {flag}
        b           | probe   | 2025-09-10  | 186   |
    """
    found = results(screening, policy).sort("subject_key")
    assert found["invalid_reason"].to_list() == [reason, None]
    assert found["is_valid"].to_list() == [reason is None, True]


def test_a_test_without_a_score_is_not_valid():
    found = results("""
        subject_key | measure | occurred_on | score
        a           | probe   | 2025-09-10  |
    """)
    assert found["invalid_reason"].to_list() == ["no_score"]


def test_a_test_outside_every_window_is_kept_and_never_chosen():
    found = results("""
        subject_key | measure | occurred_on | score | window_label
        a           | probe   | 2025-09-10  | 186   | outside
    """).row(0, named=True)
    assert (found["is_valid"], found["is_chosen"], found["chosen_reason"]) == (True, False, "outside_windows")


@pytest.mark.parametrize("rule", VECTORS["rules"])
@pytest.mark.parametrize("case", range(len(VECTORS["cases"])))
def test_selection_agrees_with_the_vectors(rule, case):
    written = VECTORS["cases"][case]
    lines = [
        f"a | probe | {e['id']} | {e['date']} | {e['score']} | {e['sem']} | {str(not e['valid']).lower()}"
        for e in written["events"]
    ]
    header = "subject_key | measure | natural_key | occurred_on | score | standard_error | is_invalid"
    found = results("\n".join([header, *lines]), choosing(rule)).filter("is_chosen")
    assert found["natural_key"].to_list() == ([written[rule]] if written[rule] else [])


GROWTH = """
    subject_key | measure         | natural_key | occurred_on | score | standard_error | is_growth_measure | is_invalid
    a           | map_growth_math | k1          | 2025-09-10  | 186   | 3.1            | {}                |
    a           | map_growth_math | k2          | 2025-09-11  | 190   | 3.4            | {}                |
    a           | map_growth_math | k3          | 2025-09-12  | 190   | 2.9            | {}                | true
"""


@pytest.mark.parametrize(
    ("flags", "chosen", "reason"),
    [
        (("false", "true", ""), "k2", "growth_measure"),
        (("false", "true", "true"), "k2", "growth_measure"),  # the other one is not valid
        (("true", "true", ""), "k1", "lowest_sem"),
        (("false", "false", "true"), "k1", "lowest_sem"),
        (("", "", ""), "k1", "lowest_sem"),
    ],
)
def test_exactly_one_valid_growth_measure_decides_else_the_lowest_error(flags, chosen, reason):
    found = results(GROWTH.format(*flags))
    assert found.filter("is_chosen").select("natural_key", "chosen_reason").rows() == [(chosen, reason)]
    others = found.filter(~pl.col("is_chosen"))["chosen_reason"].to_list()
    assert others == [f"not_{reason}", "not_valid"]


def test_a_test_without_an_error_loses_to_one_with():
    found = results(
        """
        subject_key | measure | natural_key | occurred_on | score | standard_error
        a           | probe   | k1          | 2025-09-10  | 186   | 9.9
        a           | probe   | k2          | 2025-09-11  | 190   |
    """,
        choosing("lowest_sem"),
    )
    assert found["is_chosen"].to_list() == [True, False]


def test_an_error_is_rounded_half_up():
    found = results(
        """
        subject_key | measure | natural_key | occurred_on | score | standard_error
        a           | probe   | k1          | 2025-09-10  | 186   | 3.25
        a           | probe   | k2          | 2025-09-11  | 180   | 3.34
    """,
        choosing("lowest_sem"),
    )
    assert found["is_chosen"].to_list() == [False, True]


def test_the_median_of_three_given_together_counts():
    given_together = """
        subject_key | measure | natural_key | occurred_on | score
        a           | probe   | k1          | 2025-09-09  | 99
        a           | probe   | k2          | 2025-09-10  | 12
        a           | probe   | k3          | 2025-09-10  | 30
        a           | probe   | k4          | 2025-09-10  | 18
    """
    found = results(given_together, choosing("median3")).filter("is_chosen")
    assert found.select("natural_key", "chosen_reason").rows() == [("k4", "median3")]


def test_without_three_on_one_day_the_latest_counts():
    two = """
        subject_key | measure | natural_key | occurred_on | score
        a           | probe   | k1          | 2025-09-09  | 99
        a           | probe   | k2          | 2025-09-10  | 12
        a           | probe   | k3          | 2025-09-10  | 30
    """
    assert results(two, choosing("median3")).filter("is_chosen")["natural_key"].to_list() == ["k3"]


def test_no_layouts_of_known_richness_is_fine():
    found = screening_results(facts(screening=same_day(("results", 186, None, None))), {"d1": POLICY}, {}).collect()
    assert found.height == 1


VERSION = st.tuples(
    st.sampled_from(["results", "combo", "third"]),
    st.integers(180, 183),
    st.sampled_from([None, "09:00:00", "13:00:00"]),
    st.sampled_from([None, "Math 2-5"]),
)


def of_students(days: list[pl.DataFrame]) -> pl.DataFrame:
    """One student's day each, with keys of their own; many at once, because a run costs more than a student."""
    return pl.concat(
        day.with_columns(
            subject_key=pl.lit(f"s{n:02}"), natural_key=pl.format("s{}{}", pl.lit(f"{n:02}"), "natural_key")
        )
        for n, day in enumerate(days)
    )


@given(
    st.lists(st.lists(st.tuples(VERSION, st.integers(0, 2)), min_size=1, max_size=8), max_size=40), st.integers(0, 9)
)
@examples(12)
def test_joined_tests_agree_with_the_slow_version_in_any_order(drawn, seed):
    days = [
        same_day(*(version for version, _ in day)).with_columns(
            export_at=pl.Series([EXPORTED.replace(day=1 + late) for _, late in day], dtype=pl.Datetime("us", "UTC"))
        )
        for day in drawn
    ]
    versions = of_students([same_day(("results", 1, None, None)), *days])
    found = results(versions)
    expected = sorted(
        (
            min(v["natural_key"] for v in test),
            len(test),
            test[0]["score"],
            test[0]["layout"],
            next((v["started_at"] for v in test if v["started_at"]), None),
            min(v["export_at"] for v in test),
        )
        for day in versions.partition_by("subject_key")
        for test in reference_joined(day.to_dicts(), RICHNESS)
    )
    shown = ["natural_key", "exports", "score", "layout", "started_at", "first_export_at"]
    assert found.select(shown).rows() == expected
    assert_frame_equal(found, results(versions.sample(fraction=1.0, shuffle=True, seed=seed)))


TEST = st.fixed_dictionaries(
    {
        "occurred_on": st.dates(date(2025, 9, 1), date(2025, 9, 3)),
        "score": st.integers(180, 183).map(float),
        "standard_error": st.sampled_from([None, 3.04, 3.05, 3.14, 3.15, 3.2]),
        "is_growth_measure": st.sampled_from([None, False, True]),
    }
)


@pytest.mark.parametrize("rule", ["growth_measure", "lowest_sem", "latest", "first", "median3"])
@given(st.lists(st.lists(TEST, min_size=1, max_size=8), min_size=1, max_size=40), st.integers(0, 9))
@examples(8)
def test_the_chosen_test_agrees_with_the_slow_version_in_any_order(rule, drawn, seed):
    schema = {"standard_error": pl.Float64, "is_growth_measure": pl.Boolean}
    tests = of_students(
        [
            same_day(*(("results", 1, None, None) for _ in day)).with_columns(
                pl.DataFrame(day, schema_overrides=schema).get_columns()
            )
            for day in drawn
        ]
    )
    policy = choosing(rule, "map_growth_math")
    found = results(tests, policy)
    expected = [reference_choice(day.to_dicts(), rule) for day in tests.partition_by("subject_key")]
    assert found.filter("is_chosen").select("natural_key", "chosen_reason").sort("natural_key").rows() == sorted(
        expected
    )
    assert_frame_equal(found, results(tests.sample(fraction=1.0, shuffle=True, seed=seed), policy))
