"""Every spelling of a cell, and the rule each bad one breaks."""

from datetime import date
from typing import Any

import polars as pl

from schemas.exports import Column
from transforms.cells import RULES, Reading, read, school_year, season

READING = Reading(latest=date(2027, 11, 5), time_zone="America/Denver", vocabulary=("honors", "math"))


def cell(text: str | None, reading: Reading = READING, **column: Any) -> tuple[object, str]:
    """Value and rule of one cell."""
    made = read(pl.col("text"), Column(**column), reading)
    frame = pl.DataFrame({"text": [text, None]}, schema={"text": pl.String})
    value, code = frame.select(made.value.alias("value"), made.broken.alias("code")).row(0)
    return value, RULES[code]


def check_values(kind: str, spellings: dict[str, Any], **column: Any) -> None:
    read_as = {text: cell(text, type=kind, **column) for text in spellings}
    assert read_as == {text: (value, "") for text, value in spellings.items()}


def check_broken(kind: str, rules: dict[str, str], **column: Any) -> None:
    assert {text: cell(text, type=kind, **column) for text in rules} == {
        text: (None, rule) for text, rule in rules.items()
    }


def test_numbers_are_read_with_thousands_and_never_as_nan_or_infinity():
    check_values(
        "number", {"12": 12.0, "12.0": 12.0, "-3.5": -3.5, "1,234": 1234.0, "1,234,567.5": 1234567.5, ".5": 0.5}
    )
    check_broken(
        "number", dict.fromkeys(("nan", "NaN", "inf", "-Infinity", "1e999", "12a", "1,23", "1 2", "--"), "not_a_number")
    )


def test_a_bound_belongs_to_the_range():
    check_values("number", {"1": 1.0, "99": 99.0}, min=1, max=99)
    check_broken("number", {"0.9": "out_of_range", "99.1": "out_of_range", "x": "not_a_number"}, min=1, max=99)


def test_integers_may_be_written_with_a_decimal_point():
    check_values("integer", {"12": 12, "12.0": 12, "1,234": 1234, "-1": -1})
    check_broken("integer", {"12.5": "not_an_integer", "x": "not_an_integer"})


def test_days_are_iso_or_american_with_or_without_a_time():
    day = date(2026, 9, 6)
    spellings = ("2026-09-06", "9/6/2026", "09/06/2026", "2026-09-06T08:00:00Z", "9/6/2026 8:00:00 AM")
    check_values("date", dict.fromkeys(spellings, day))
    bad = ("2026-13-01", "13/1/2026", "2/29/2026", "9/6/26", "yesterday", "46000", "2026-09-06x")
    check_broken("date", dict.fromkeys(bad, "not_a_date"))


def test_five_digits_are_a_day_only_in_a_workbook():
    assert cell("46000", Reading(latest=READING.latest, serials=True), type="date") == (date(2025, 12, 9), "")


def test_a_layouts_own_date_format_goes_first():
    check_values("date", {"03/02/2026": date(2026, 2, 3), "20260203": date(2026, 2, 3)}, formats=("%d/%m/%Y", "%Y%m%d"))


def test_implausible_days_are_out_of_range():
    check_values("date", {"1980-01-01": date(1980, 1, 1), "2027-11-05": date(2027, 11, 5)})
    check_broken("date", {"1979-12-31": "out_of_range", "2027-11-06": "out_of_range", "0026-09-06": "not_a_date"})
    check_values("date", {"2027-11-07": date(2027, 11, 7)}, max=402)
    check_values("date", {"1950-01-01": date(1950, 1, 1)}, vault=True)


def test_an_instant_becomes_the_schools_local_day():
    evening = date(2026, 9, 6)
    spellings = ("2026-09-07T05:59:59Z", "2026-09-07T05:59:59.123Z", "2026-09-07 05:59:59", "2026-09-07T07:59:59+02:00")
    check_values("instant", dict.fromkeys(spellings, evening))
    check_values("instant", {"2026-09-07T06:00:00Z": date(2026, 9, 7), "2026-09-07": date(2026, 9, 7)})
    check_broken("instant", {"25:00": "not_a_date", "2026-09-07T99:00:00Z": "not_a_date", "noon": "not_a_date"})


def test_times_are_read_in_both_clocks():
    check_values("local_time", {"08:54:50": "08:54:50", "8:54:50": "08:54:50", "9:00:00 AM": "09:00:00"})
    check_values("local_time", {"12:30 PM": "12:30:00", "9:05": "09:05:00", "08:54:50.000": "08:54:50"})
    check_broken("local_time", dict.fromkeys(("24:00:00", "8h", "13:00 PM", "850"), "not_a_time"))


def test_a_local_datetime_keeps_a_day_without_a_time_as_a_day():
    whole = "2026-09-06T13:05:00"
    check_values("local_datetime", {"2026-09-06T13:05:00": whole, "2026-09-06 13:05": whole, "9/6/2026 1:05 PM": whole})
    check_values(
        "local_datetime", {"2026-09-06T19:05:00Z": whole, "2026-09-06": "2026-09-06", "9/6/2026": "2026-09-06"}
    )
    check_broken(
        "local_datetime", {"2026-09-06 25:00": "not_a_time", "x": "not_a_time", "1979-01-01T08:00": "out_of_range"}
    )


GRADES = {
    "PK": "PK -1 -1.0 Pre-K prekindergarten P PR TK Preschool",
    "K": "K KG KN 0 0.0 00 Kindergarten Primary kinder",
    "1": "1 01 1.0 One first 1st",
    "3": "3 03 3.0 Three THIRD 3rd",
    "12": "12 12.0 Twelve twelfth 12th",
}


def test_grades_are_read_in_every_spelling():
    spelled = {spelling: grade for grade, row in GRADES.items() for spelling in row.split()}
    check_values(
        "grade", spelled | {"Grade 4": "4", "4th Grade": "4", "Transitional Kindergarten": "PK", "Grade K": "K"}
    )


def test_a_student_without_a_grade_is_known_and_other_words_are_not():
    check_values("grade", {"UG": None, "Ungraded": None, "13": None})
    check_broken("grade", dict.fromkeys(("14", "3.5", "A", "grade", "-2", "3-4"), "not_a_grade"))


def test_percentiles_are_read_in_every_spelling():
    check_values(
        "percentile",
        {"14": 14.0, "10.0": 10.0, "51.42857": 51.42857, ">99": 99.0, "<1": 1.0, "> 99": 99.0, "14%": 14.0},
    )
    check_values("percentile", {"N/A*": None, "n/a": None, "Discontinue": None, "--": None, "0": 0.0, "100": 100.0})
    check_broken(
        "percentile",
        {"101": "out_of_range", "-1": "out_of_range", "abc": "not_a_percentile", "nan": "not_a_percentile"},
    )
    check_broken("percentile", {"0": "out_of_range", "100": "out_of_range"}, min=1, max=99)


def test_booleans_are_read_in_every_spelling():
    check_values("boolean", dict.fromkeys(("TRUE", "true", "T", "Y", "yes", "1"), True))
    check_values("boolean", dict.fromkeys(("FALSE", "False", "F", "N", "No", "0"), False))
    check_broken("boolean", dict.fromkeys(("2", "maybe", "Yes*"), "not_a_boolean"))


def test_school_years_are_their_ending_year():
    spellings = ("2025-2026", "2025-26", "Fall 2025-2026", "2026", "SY 2025-26", "2025/2026", "2025–2026", "Fall 2025")
    check_values("school_year", dict.fromkeys(spellings, "2026"))
    check_values("school_year", {"Spring 2026": "2026", "Winter 2025-2026": "2026", "1999-00": "2000"})
    bad = ("2025-2027", "2026-2025", "25-26", "Fall", "9/16/2025", "1889-1890", "2099", "2025-2026 x")
    check_broken("school_year", dict.fromkeys(bad, "not_a_school_year"))


def test_codes_are_compared_without_case_and_patterns_follow_values():
    known = {"values": {"BOY": "fall", "None given": "null"}, "patterns": (("^winter", "winter"), ("inter", "late"))}
    check_values("code", {"boy": "fall", "WINTER 2": "winter", "midwinter": "late", "none given": None}, **known)
    check_broken("code", {"EOY": "unknown_code"}, **known)
    check_values("code", {"EOY": "outside", "BOY": "fall"}, **known, otherwise="outside")
    check_values("code", {"EOY": None}, **known, otherwise="null")


def test_a_blank_cell_is_null_unless_the_layout_says_what_it_means():
    assert cell(None, type="number", min=1) == (None, "")
    assert cell(None, type="code", values={"a": "b"}, blank="outside") == ("outside", "")
    assert cell(None, type="boolean", blank="false") == (False, "")
    assert cell(None, type="grade") == (None, "")


def test_spellings_of_a_missing_value_are_null_without_regard_to_case():
    reading = Reading(latest=READING.latest, missing=("*", "Not Assessed"))
    for text in ("*", "not assessed", "NOT ASSESSED", "n.d."):
        assert cell(text, reading, type="number", missing=("N.D.",)) == (None, ""), text
    assert cell("**", reading, type="number") == (None, "not_a_number")


def test_zero_is_no_id_of_a_student():
    assert cell("0", type="id") == (None, "")
    assert cell("007", type="id") == ("007", "")


def test_a_pattern_takes_a_part_of_the_cell():
    check_values("number", {"275Q": 275.0}, pattern=r"^(\d+)Q$")
    check_broken("number", {"EM275Q": "not_a_number"}, pattern=r"^(\d+)Q$")
    check_broken("text", {"two words": "not_understood"}, pattern=r"^(\S+)$")
    check_values("text", {"two words": None, "one": "one"}, pattern=r"^(\S+)$", otherwise="null")


def test_the_words_of_a_layout_translate_cells_of_any_type():
    check_values(
        "boolean",
        {"tobedeleted": True, "Active": False, "no": False},
        values={"tobedeleted": "true", "active": "false"},
    )
    check_broken("boolean", {"gone": "not_a_boolean"}, values={"active": "false"})


def test_lists_are_kept_sorted_without_repetition():
    check_values("text", {"b, a,b,,": "a;b", "a": "a", ",": None}, split=",")
    check_values("grade", {"KG,01, 02": "1;2;K"}, split=",")
    assert cell("KG,x", type="grade", split=",")[1] == "not_a_grade"


def test_only_words_of_the_vocabulary_are_kept_of_a_title():
    check_values("terms", {"Honors Math 4 (Teacher 5)": "honors;math", "Mathematics": None, "MATH": "math"})
    assert cell("Honors Math", Reading(latest=READING.latest), type="terms") == (None, "")


def test_of_free_text_only_the_length_is_a_fact():
    check_values("note", {"Café": 4})


def test_a_school_year_begins_on_its_first_day():
    days = pl.Series([date(2026, 6, 30), date(2026, 7, 1), date(2026, 12, 31), date(2027, 1, 1)])
    assert pl.select(school_year(pl.lit(days), (7, 1))).to_series().to_list() == ["2026", "2027", "2027", "2027"]
    assert pl.select(school_year(pl.lit(days), (8, 15))).to_series().to_list() == ["2026", "2026", "2027", "2027"]
    assert pl.select(school_year(pl.lit(days), (1, 1))).to_series().to_list() == ["2026", "2026", "2026", "2027"]


def test_fall_ends_on_15_november_and_winter_on_1_march():
    expected = {
        (2026, 7, 1): "fall",
        (2026, 11, 15): "fall",
        (2026, 11, 16): "winter",
        (2027, 3, 1): "winter",
        (2027, 3, 2): "spring",
        (2027, 6, 30): "spring",
    }
    days = pl.Series([date(*day) for day in expected])
    assert pl.select(season(pl.lit(days))).to_series().to_list() == list(expected.values())
