"""Benchmark windows: which test belongs where, and the reference date."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.policy import DistrictPolicy, Window
from schemas.projections import ScreeningResult, WindowRule
from tests.examples import examples
from tests.reference import reference_reference_on, reference_school_days, reference_window
from tests.tables import table
from transforms.windows import place_in_windows, school_days_before, window_rules

PLAIN = DistrictPolicy(time_zone="America/Denver")
RANGES = DistrictPolicy(
    time_zone="America/Denver",
    windows=(
        Window(school_year="2026", season="fall", begins_on=date(2025, 9, 1), ends_on=date(2025, 9, 30)),
        Window(school_year="2026", season="winter", begins_on=date(2026, 1, 5), ends_on=date(2026, 1, 30)),
    ),
)


def placed(
    day: str | None,
    policy: DistrictPolicy = PLAIN,
    label: str | None = None,
    slot: str | None = None,
    year: str = "2026",
) -> tuple:
    test = pl.LazyFrame(
        {
            "district_id": ["d1"],
            "school_year": [year],
            "occurred_on": [date.fromisoformat(day) if day else None],
            "window_label": [label],
            "season_slot": [slot],
        },
        schema_overrides={"occurred_on": pl.Date, "window_label": pl.String, "season_slot": pl.String},
    )
    return place_in_windows(test, {"d1": policy}).select("benchmark_window", "window_source").collect().row(0)


@pytest.mark.parametrize(
    ("day", "window"),
    [
        ("2025-08-01", "fall"),
        ("2025-11-15", "fall"),
        ("2025-11-16", "winter"),
        ("2026-03-01", "winter"),
        ("2026-03-02", "spring"),
        ("2026-06-30", "spring"),
    ],
)
def test_without_range_or_label_the_default_dates_decide(day, window):
    assert placed(day) == (window, "date")


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2025-08-31", (None, "outside")),
        ("2025-09-01", ("fall", "range")),
        ("2025-09-30", ("fall", "range")),
        ("2025-10-01", (None, "outside")),
        ("2026-01-30", ("winter", "range")),
        (None, (None, "outside")),
    ],
)
def test_a_configured_range_decides_with_both_ends_included(day, expected):
    assert placed(day, RANGES) == expected


def test_a_range_decides_even_against_the_label():
    assert placed("2025-09-10", RANGES, label="spring") == ("fall", "range")
    assert placed("2025-10-10", RANGES, label="fall") == (None, "outside")


def test_ranges_of_one_school_year_do_not_touch_another():
    assert placed("2024-10-10", RANGES, year="2025") == ("fall", "date")


def test_a_window_that_only_sets_the_reference_date_configures_no_range():
    policy = PLAIN.model_copy(
        update={"windows": (Window(school_year="2026", season="fall", reference_on=date(2025, 10, 1)),)}
    )
    assert placed("2025-12-01", policy, label="fall") == ("fall", "label")


def test_a_label_decides_against_the_date():
    assert placed("2025-12-01", label="fall") == ("fall", "label")
    assert placed("2025-12-01", label=" Fall ") == ("fall", "label")


def test_a_label_outside_is_outside():
    assert placed("2025-09-10", label="outside") == (None, "outside")


def test_a_season_column_decides_where_there_is_no_label():
    assert placed("2025-12-01", slot="Fall") == ("fall", "label")
    assert placed(None, slot="winter") == ("winter", "label")


def test_a_district_names_its_seasons():
    policy = PLAIN.model_copy(update={"season_names": {"Feb-Mar": "winter", "Fall MS": "fall"}})
    assert placed("2026-03-05", policy, slot="feb-mar ") == ("winter", "label")
    assert placed("2025-12-05", policy, label="Fall MS") == ("fall", "label")
    assert placed("2025-12-05", policy, label="spring") == ("spring", "label")


def test_a_districts_own_name_for_a_season_comes_before_the_label_of_the_layout():
    policy = PLAIN.model_copy(update={"season_names": {"Screening Period 4": "winter"}})
    assert placed("2026-04-05", policy, label="outside", slot="Screening Period 4") == ("winter", "label")
    assert placed("2026-04-05", policy, label="outside", slot="Screening Period 5") == (None, "outside")
    assert placed("2026-04-05", policy, label="fall", slot="Screening Period 4") == ("winter", "label")


def test_a_season_nobody_knows_leaves_the_default_dates():
    assert placed("2026-03-05", slot="Screening Period 4") == ("spring", "date")
    assert placed(None, slot="Screening Period 4") == (None, "outside")


def screening(text: str, **constants) -> pl.LazyFrame:
    defaults = {
        "district_id": "d1",
        "school_year": "2026",
        "measure": "map_growth_math",
        "subject_key": "a",
        "is_valid": True,
        "is_chosen": True,
        "benchmark_window": "fall",
        "first_export_at": datetime(2025, 10, 1, tzinfo=UTC),
    }
    written = text.splitlines()[1].split("|")
    known = {name.strip() for name in written}
    filled = {k: v for k, v in (defaults | constants).items() if k not in known}
    return table(ScreeningResult, text, **filled).lazy()


def test_the_reference_date_is_the_lower_median_day_of_valid_tests_of_all_measures():
    rules = window_rules(
        screening("""
        occurred_on | measure         | is_valid
        2025-09-08  | map_growth_math | true
        2025-09-09  | star_math       | true
        2025-09-16  | map_growth_math | true
        2025-09-17  | star_math       | true
        2025-09-30  | star_math       | false
    """),
        {"d1": PLAIN},
    )
    expected = table(
        WindowRule,
        """
        benchmark_window | reference_on | reference_source | policy_version
        fall             | 2025-09-09   | median_test_day  | 1980-01-01
    """,
        district_id="d1",
        school_year="2026",
    )
    assert_frame_equal(rules.collect(), expected)


def test_a_configured_reference_date_decides_and_stands_without_a_test():
    policy = PLAIN.model_copy(
        update={"windows": (Window(school_year="2026", season="fall", reference_on=date(2025, 10, 1)),)}
    )
    none = screening("""
        occurred_on
    """).head(0)
    row = window_rules(none, {"d1": policy}).collect().row(0, named=True)
    assert (row["benchmark_window"], row["reference_on"], row["reference_source"]) == (
        "fall",
        date(2025, 10, 1),
        "configured",
    )


def test_a_window_without_a_valid_test_has_no_reference_date():
    rules = window_rules(
        screening("""
        occurred_on | is_valid
        2025-09-08  | false
    """),
        {"d1": PLAIN},
    ).collect()
    assert rules["reference_on"].to_list() == [None]
    assert rules["reference_source"].to_list() == [None]


def test_tests_exported_more_than_28_days_after_the_window_do_not_move_its_reference_date():
    in_time = """
        occurred_on | first_export_at
        2025-09-08  | 2025-12-13T23:59:59Z
        2025-09-20  | 2025-12-14T00:00:00Z
        2025-09-21  | 2026-02-01T00:00:00Z
    """
    assert window_rules(screening(in_time), {"d1": PLAIN}).collect()["reference_on"].to_list() == [date(2025, 9, 8)]


def test_a_configured_end_sets_the_day_from_which_a_window_is_frozen():
    tests = """
        occurred_on | first_export_at
        2025-09-08  | 2025-10-28T00:00:00Z
        2025-09-20  | 2025-10-29T00:00:00Z
        2025-09-21  | 2025-10-29T00:00:00Z
    """
    assert window_rules(screening(tests), {"d1": RANGES}).collect()["reference_on"].drop_nulls().to_list() == [
        date(2025, 9, 8)
    ]


def test_where_every_export_is_late_all_count():
    tests = """
        occurred_on | first_export_at
        2025-09-08  | 2026-02-01T00:00:00Z
        2025-09-20  | 2026-03-01T00:00:00Z
        2025-09-21  | 2026-04-01T00:00:00Z
    """
    assert window_rules(screening(tests), {"d1": PLAIN}).collect()["reference_on"].to_list() == [date(2025, 9, 20)]


def test_a_spring_window_ends_with_the_school_year():
    tests = """
        occurred_on | first_export_at
        2026-05-08  | 2026-07-28T00:00:00Z
        2026-05-20  | 2026-07-29T00:00:00Z
        2026-05-21  | 2026-07-29T00:00:00Z
    """
    rules = window_rules(screening(tests, benchmark_window="spring"), {"d1": PLAIN}).collect()
    assert rules["reference_on"].to_list() == [date(2026, 5, 8)]


DAYS = st.dates(date(2025, 7, 1), date(2026, 6, 30))


@given(st.lists(st.tuples(DAYS, st.booleans(), DAYS), min_size=1, max_size=12), st.sampled_from([PLAIN, RANGES]))
@examples(30)
def test_reference_dates_agree_with_the_slow_version(tests, policy):
    rows = [
        {
            "district_id": "d1",
            "school_year": "2026",
            "benchmark_window": "fall",
            "occurred_on": day,
            "is_valid": valid,
            "first_export_at": datetime(export.year, export.month, export.day, tzinfo=UTC),
        }
        for day, valid, export in tests
    ]
    rules = window_rules(pl.LazyFrame(rows), {"d1": policy}).collect()
    found = rules.filter(pl.col("benchmark_window") == "fall")["reference_on"].to_list()
    assert found == [reference_reference_on(rows, "fall", policy, "2026")]
    again = window_rules(pl.LazyFrame(rows[::-1]), {"d1": policy}).collect()
    assert_frame_equal(rules, again)


LABELS = st.sampled_from([None, "fall", "Winter", "outside", "Feb-Mar", "Period 4"])


@given(st.lists(st.tuples(st.none() | DAYS, LABELS, LABELS), min_size=1, max_size=12), st.booleans())
@examples(30)
def test_windows_of_tests_agree_with_the_slow_version(tests, ranged):
    policy = (RANGES if ranged else PLAIN).model_copy(update={"season_names": {"Feb-Mar": "winter"}})
    rows = [
        {"district_id": "d1", "school_year": "2026", "occurred_on": day, "window_label": label, "season_slot": slot}
        for day, label, slot in tests
    ]
    schema = {"occurred_on": pl.Date, "window_label": pl.String, "season_slot": pl.String}
    found = place_in_windows(pl.LazyFrame(rows, schema_overrides=schema), {"d1": policy}).collect()
    for row in found.iter_rows(named=True):
        assert (row["benchmark_window"], row["window_source"]) == reference_window(row, policy)


@given(st.lists(st.tuples(DAYS, DAYS), min_size=1, max_size=20), st.lists(DAYS, max_size=30))
@examples(40)
def test_school_days_are_weekdays_less_the_days_without_school(pairs, free):
    policy = PLAIN.model_copy(update={"no_school_days": tuple(free)})
    frame = pl.LazyFrame({"district_id": "d1", "start": [p[0] for p in pairs], "stop": [p[1] for p in pairs]})
    for name in ("start", "stop"):
        frame = school_days_before(frame, name, {"d1": policy})
    counted = frame.with_columns(days=pl.col("stop_school_day") - pl.col("start_school_day")).collect()
    for start, stop, days in counted.select("start", "stop", "days").iter_rows():
        assert days == reference_school_days(start, stop, policy)
        if start <= stop:
            assert days == np.busday_count(start, stop, holidays=free)
