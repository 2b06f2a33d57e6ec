"""Which findings stand."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.projections import ClassDecision
from tests.examples import examples
from tests.tables import table
from transforms.persistence import STANDING, persistence

FLAGGED = {"CLASSROOM", "CLASSROOM_OR_SYSTEM", "SYSTEM+CLASSROOM"}
REASONS = {"SYSTEM": "grade_above", "SYSTEM+CLASSROOM": "grade_and_class_above"}


def decisions(text, **constants):
    """Decisions as text: what is not written is one class, measure, school, grade and year; flags follow levels."""
    defaults = {"district_id": "d1", "school_year": "2026", "school_id": "s1", "grade": "4", "measure": "m",
                "class_id": "a", "benchmark_window": "winter"}  # fmt: skip
    written = {name.strip() for name in text.strip().splitlines()[0].split("|")}
    rows = table(ClassDecision, text, **{k: v for k, v in {**defaults, **constants}.items() if k not in written})
    return rows.drop(STANDING).with_columns(
        pl.coalesce("is_flagged", pl.col("level").is_in(FLAGGED)).alias("is_flagged"),
        reason=pl.col("level").replace_strict(REASONS, default="not_above"),
    )


def said(text, column, earlier=None, **constants):
    return persistence(decisions(text, **constants), earlier)[column].to_list()


# Windows


def test_two_consecutive_windows_persist_and_only_from_the_second_on():
    windows = """
        benchmark_window | level
        fall             | CLASSROOM
        winter           | CLASSROOM
        spring           | CLASSROOM
    """
    assert said(windows, "is_persistent") == [False, True, True]


def test_a_fall_flag_alone_never_persists():
    windows = """
        benchmark_window | level
        fall             | CLASSROOM
        winter           | STUDENT
        spring           | CLASSROOM
    """
    assert said(windows, "is_persistent") == [False, False, False]


def test_a_window_that_cannot_say_leaves_the_next_unknown():
    windows = """
        benchmark_window | level
        fall             | CLASSROOM
        winter           | LOW_COVERAGE
        spring           | CLASSROOM
    """
    assert said(windows, "is_persistent") == [False, None, None]


def test_a_class_that_is_new_in_winter_is_unknown_there():
    windows = """
        class_id | benchmark_window | level
        a        | fall             | CLASSROOM
        b        | winter           | CLASSROOM
        c        | winter           | STUDENT
    """
    assert said(windows, "is_persistent") == [False, None, False]


def test_where_a_district_never_tests_in_winter_spring_follows_fall():
    windows = """
        benchmark_window | level
        fall             | CLASSROOM
        spring           | CLASSROOM
    """
    assert said(windows, "is_persistent") == [False, True]


def test_a_winter_of_another_measure_or_year_is_no_window_between():
    windows = """
        benchmark_window | measure | school_year | level
        fall             | m       | 2026        | CLASSROOM
        winter           | n       | 2026        | STUDENT
        winter           | m       | 2025        | STUDENT
        spring           | m       | 2026        | CLASSROOM
    """
    assert said(windows, "is_persistent") == [False, False, False, True]


def test_a_class_in_a_system_grade_that_is_not_flagged_itself_does_not_persist():
    windows = """
        benchmark_window | level  | is_flagged
        fall             | SYSTEM | true
        winter           | SYSTEM | false
        spring           | SYSTEM | true
    """
    assert said(windows, "is_persistent") == [False, False, False]


# Measures


def test_a_second_measure_that_flags_the_class_concurs():
    measures = """
        class_id | measure | level
        a        | m       | CLASSROOM
        a        | n       | CLASSROOM
        b        | m       | CLASSROOM
        b        | n       | STUDENT
        c        | m       | CLASSROOM
        c        | n       | LOW_COVERAGE
        d        | m       | CLASSROOM
    """
    assert said(measures, "is_concordant") == [True, True, False, False, None, None, None]


# Years


def year(year, *levels, window="winter"):
    lines = "\n".join(f"{name} | {level}" for name, level in zip("abc", levels, strict=False))
    return decisions(f"class_id | level\n{lines}", school_year=year, benchmark_window=window)


def across(now, *earlier):
    rows = pl.concat(earlier) if earlier else None
    return persistence(now, rows)["is_grade_persistent"].to_list()


def test_a_grade_that_is_a_system_matter_in_two_of_three_years_persists():
    system, fine = ("SYSTEM", "SYSTEM+CLASSROOM"), ("STUDENT", "STUDENT")
    assert across(year("2026", *system), year("2025", *fine), year("2024", *system)) == [True, True]
    assert across(year("2026", *fine), year("2025", *system), year("2024", *system)) == [True, True]
    assert across(year("2026", *system), year("2025", *fine), year("2024", *fine)) == [False, False]


def test_a_remedial_section_beside_a_system_grade_does_not_take_it_back():
    mixed = ("SYSTEM", "STUDENT")
    assert across(year("2026", *mixed), year("2025", *mixed)) == [True, True]


def test_years_that_are_not_known_leave_it_open_unless_it_is_certain():
    system, fine, unknown = ("SYSTEM", "SYSTEM"), ("STUDENT", "STUDENT"), ("SYSTEM_DATA", "SYSTEM_DATA")
    assert across(year("2026", *system)) == [None, None]
    assert across(year("2026", *system), year("2025", *system)) == [True, True]
    assert across(year("2026", *system), year("2025", *fine), year("2024", *unknown)) == [None, None]
    assert across(year("2026", *fine), year("2025", *fine)) == [False, False]


def test_years_are_compared_window_by_window_and_the_fourth_is_forgotten():
    system = ("SYSTEM", "SYSTEM")
    others = (year("2025", *system, window="spring"), year("2023", *system))
    assert across(year("2026", *system), *others) == [None, None]


def test_other_grades_schools_and_districts_are_not_this_one():
    system = ("SYSTEM", "SYSTEM")
    for name in ("grade", "school_id", "district_id", "measure"):
        other = year("2025", *system).with_columns(pl.lit("other").alias(name))
        assert across(year("2026", *system), other) == [None, None], name


# Attention


def test_only_what_persists_or_is_severe_asks_to_act():
    rows = decisions("""
        class_id | benchmark_window | level        | severity
        a        | fall             | CLASSROOM    | suspect
        a        | winter           | CLASSROOM    | suspect
        b        | winter           | CLASSROOM    | suspect
        c        | winter           | CLASSROOM    | classwide_severe
        d        | winter           | SYSTEM       | watch
        e        | winter           | WATCH        | classwide_severe
        f        | winter           | STUDENT      |
        g        | winter           | LOW_COVERAGE |
        h        | winter           | SYSTEM_DATA  | classwide_severe
        i        | fall             | CLASSROOM    | classwide_severe
    """)
    assert persistence(rows)["attention"].to_list() == [
        "look", "act", "look", "act", "look", "none", "none", "none", "none", "act"
    ]  # fmt: skip


def test_what_is_found_in_fall_describes_who_arrived():
    rows = """
        class_id | benchmark_window | level
        a        | fall             | CLASSROOM
        b        | fall             | SYSTEM
        c        | fall             | STUDENT
        d        | fall             | TOO_SMALL
        a        | winter           | CLASSROOM
    """
    assert said(rows, "is_entering_need") == [True, True, False, None, False]


# Properties

READ = examples(60)
CLASSES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["fall", "winter", "spring"]),
        st.sampled_from(["m", "n"]),
        st.sampled_from(["CLASSROOM", "SYSTEM", "SYSTEM+CLASSROOM", "STUDENT", "WATCH", "LOW_COVERAGE", "SYSTEM_DATA"]),
    ),
    min_size=1,
    max_size=16,
    unique_by=lambda row: row[:3],
)


def as_table(rows):
    lines = "\n".join(" | ".join(row) for row in rows)
    return decisions(f"class_id | benchmark_window | measure | level\n{lines}")


def by_hand(rows):
    """Of each class, window and measure: persistent and concordant."""
    levels = {row[:3]: row[3] for row in rows}
    order = ["fall", "winter", "spring"]

    def found(key):
        level = levels.get(key)
        return None if level in (None, "LOW_COVERAGE", "SYSTEM_DATA") else level in FLAGGED

    said = {}
    for cls, window, measure in levels:
        windows = [w for w in order if any(k[1:] == (w, measure) for k in levels)]
        before = windows[: windows.index(window)][-1:]
        now = found((cls, window, measure))
        other = found((cls, window, "n" if measure == "m" else "m"))
        persistent = None if now is None else bool(now and before) and found((cls, before[0], measure))
        said[cls, window, measure] = (persistent, other if now else now)
    return said


@READ
@given(rows=CLASSES)
def test_a_slow_reference_agrees(rows):
    found = persistence(as_table(rows))
    keys = found.select("class_id", "benchmark_window", "measure").rows()
    assert dict(zip(keys, found.select("is_persistent", "is_concordant").rows(), strict=True)) == by_hand(rows)


@READ
@given(rows=CLASSES, shuffle=st.randoms(use_true_random=False))
def test_order_of_rows_and_asking_twice_change_nothing(rows, shuffle):
    key = ["class_id", "benchmark_window", "measure"]
    first = persistence(as_table(rows))
    assert_frame_equal(first.select(key), as_table(rows).select(key))
    mixed = list(rows)
    shuffle.shuffle(mixed)
    assert_frame_equal(persistence(as_table(mixed)).sort(key), first.sort(key))
    assert_frame_equal(persistence(first), first)
