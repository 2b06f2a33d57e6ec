from datetime import date

import polars as pl

from schemas.contract import broken_rules, columns, conform, empty
from schemas.policy import DistrictPolicy
from schemas.projections import ClassContext, ClassMembership
from tests.tables import facts, table
from transforms.contexts import class_contexts

POLICIES = {"d1": DistrictPolicy(time_zone="America/Denver")}
MEMBERS = table(
    ClassMembership,
    """
    benchmark_window | reference_on | subject_key | class_id
    fall             | 2025-09-15   | ana         | c1
    winter           | 2026-01-15   | ana         | c1
    spring           | 2026-04-15   | ana         | c1
    """,
    district_id="d1",
    school_year="2026",
)


def contexts(text: str, members: pl.DataFrame = MEMBERS) -> pl.DataFrame:
    return class_contexts(facts(context=text), members, POLICIES)


def said(text: str) -> list[tuple[object, ...]]:
    return contexts(text).select("natural_key", "newest_in").sort("natural_key").rows()


def test_a_report_is_the_newest_until_a_later_one_on_the_same_material():
    assert said("""
        event_type         | natural_key | class_id | occurred_on | material | is_aligned
        CurriculumReported | k1          | c1       | 2025-09-10  | core     | false
        CurriculumReported | k2          | c1       | 2026-01-14  | core     | true
        CurriculumReported | k3          | c1       | 2026-01-15  | core     |
        CurriculumReported | k4          | c1       | 2025-09-20  | practice | true
        CurriculumReported | k5          | c2       | 2026-02-01  | core     | true
    """) == [
        ("k1", None),
        ("k2", "fall"),
        ("k3", "winter;spring"),
        ("k4", "fall;winter;spring"),
        ("k5", "winter;spring"),
    ]


def test_reports_of_one_day_stand_beside_each_other_and_engagement_beside_the_curriculum():
    assert said("""
        event_type         | natural_key | class_id | occurred_on | material | is_aligned | engagement
        CurriculumReported | k1          | c1       | 2026-04-20  | core     | false      |
        CurriculumReported | k2          | c1       | 2026-04-20  | core     | true       |
        EngagementObserved | k3          | c1       | 2026-04-16  |          |            | low
        EngagementObserved | k4          | c1       | 2026-04-17  |          |            | high
    """) == [("k1", "spring"), ("k2", "spring"), ("k3", None), ("k4", "spring")]


def test_what_is_no_report_about_a_class_is_left_out_and_what_is_unknown_stays_null():
    found = contexts("""
        event_type         | natural_key | class_id | occurred_on | contact_kind | material | subject_key
        FamilyContacted    | k1          |          | 2025-09-10  | phone        |          | ana
        CurriculumReported | k2          | c1       | 2025-09-10  |              | core     |
    """)
    assert found.columns == [name for name in columns(ClassContext) if name != "input_id"]
    assert found.select("kind", "material", "is_aligned", "reported_on").rows() == [
        ("curriculum", "core", None, date(2025, 9, 10))
    ]


def test_without_windows_every_report_stands_and_is_the_newest_in_none():
    text = """
        event_type         | natural_key | class_id | occurred_on | material
        CurriculumReported | k1          | c1       | 2025-09-10  | core
    """
    assert contexts(text, MEMBERS.clear())["newest_in"].to_list() == [None]


def test_no_reports_are_an_empty_table():
    found = conform(contexts("").lazy(), ClassContext).collect()
    assert found.is_empty() and broken_rules(found, ClassContext).is_empty()
    assert found.schema == empty(ClassContext).schema
