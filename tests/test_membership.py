"""Math class of each student on the reference date."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from schemas.contract import broken_rules, conform
from schemas.policy import ClassRule, DistrictPolicy
from schemas.projections import ClassMembership, ScreeningResult, WindowRule
from tests.examples import examples
from tests.reference import reference_membership
from tests.tables import facts, table
from transforms.membership import class_memberships

POLICY = DistrictPolicy(time_zone="America/Denver")
FALL = "2025-09-30"
CLASSES = """
    event_type  | class_id | course_id | school_id | class_type | grades | title_terms  | term_ids
    ClassListed | math     | k         | s1        | scheduled  | 4      |              |
    ClassListed | math2    | k         | s1        | scheduled  | 4      |              |
    ClassListed | title    | t         | s1        | scheduled  | 4      |              |
    ClassListed | art      | a         | s1        | scheduled  | 4      |              |
    ClassListed | home     |           | s1        | homeroom   | 4      |              |
    ClassListed | lab      | k         | s1        | scheduled  | 4      | intervention |
    ClassListed | honors   | h         | s1        | scheduled  | 7      |              |
    ClassListed | second   | k         | s1        | scheduled  | 4      |              | t2
"""
COURSES = """
    event_type   | course_id | course_title      | subject_codes | term_id | begin_on   | end_on
    CourseListed | k         | Numbers           | 02052         |         |            |
    CourseListed | t         | Pre-Algebra       |               |         |            |
    CourseListed | a         | Applied Labor Art | 05101         |         |            |
    CourseListed | h         | Honors Geometry   |               |         |            |
    TermListed   |           |                   |               | t2      | 2026-01-12 | 2026-06-05
"""
HEADER = "event_type | subject_key | class_id | begin_on | end_on | school_id | occurred_on | is_deleted | role"


def roster(enrolments: str, listed: str = CLASSES) -> pl.DataFrame:
    """Roster facts: the classes above and enrolments, given as lines below ``HEADER``."""
    texts = (listed, COURSES, HEADER + "\n" + enrolments)
    return pl.concat(
        facts(roster=text)["roster"]
        .with_columns(natural_key=pl.format("{}{}", pl.lit(letter), "natural_key"))
        .collect()
        for letter, text in zip("cke", texts, strict=True)
    )


def windows(*days: str) -> pl.LazyFrame:
    """Reference dates of fall, winter and spring."""
    seasons = ("fall", "winter", "spring")
    return table(
        WindowRule,
        "benchmark_window | reference_on\n"
        + "\n".join(f"{season} | {day}" for season, day in zip(seasons, days, strict=False)),
        district_id="d1",
        school_year="2026",
    ).lazy()


def members(
    enrolments: str,
    day: str = FALL,
    policy: DistrictPolicy = POLICY,
    listed: str = CLASSES,
    description: str = "",
    not_tested: str = "",
    tests: pl.LazyFrame | None = None,
) -> pl.DataFrame:
    given_facts = facts(roster=roster(enrolments, listed), description=description, not_tested=not_tested)
    found = class_memberships(given_facts, windows(day), {"d1": policy}, tests).collect().sort("subject_key")
    checked = conform(found.with_columns(input_id=pl.lit("i")).lazy(), ClassMembership).collect()
    assert broken_rules(checked, ClassMembership).is_empty()
    return found


def class_of(enrolments: str, day: str = FALL, **others) -> tuple:
    found = members(enrolments, day, **others)
    return found.select("class_id", "class_basis").row(0) if found.height else ()


def test_each_rule_finds_its_class():
    found = members("""
        StudentEnrolled | a | math | 2025-08-20 | | s1 | | |
        StudentEnrolled | b | title | 2025-08-20 | | s1 | | |
        StudentEnrolled | c | home | 2025-08-20 | | s1 | | |
        StudentEnrolled | d | art | 2025-08-20 | | s1 | | |
    """)
    expected = table(
        ClassMembership,
        """
        subject_key | class_id | class_basis     | section_type | is_section_type_known | grade
        a           | math     | subject_code    | regular      | false                 | 4
        b           | title    | title           | regular      | false                 | 4
        c           | home     | homeroom        | regular      | false                 | 4
        d           |          | no_math_section |              |                       | 4
    """,
        district_id="d1",
        school_year="2026",
        benchmark_window="fall",
        reference_on=date(2025, 9, 30),
        school_id="s1",
        membership_rule="reference_date",
        is_mobile=False,
        in_two_classes=False,
        is_alternate_assessment=False,
    )
    assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    ("begin", "end", "is_member"),
    [
        ("2025-09-30", "", True),
        ("2025-10-01", "", False),
        ("2025-08-20", "2025-09-30", True),
        ("2025-08-20", "2025-09-29", False),
        ("", "", True),
        ("", "2025-09-29", False),
    ],
)
def test_enrolled_from_the_first_to_the_last_day(begin, end, is_member):
    assert bool(class_of(f"StudentEnrolled | a | math | {begin} | {end} | s1 | | |")) == is_member


@pytest.mark.parametrize(("ended", "is_member"), [("2025-09-29", False), ("2025-09-30", True)])
def test_an_enrolment_ended_before_the_reference_date_does_not_count(ended, is_member):
    written = f"""
        StudentEnrolled | a | math | 2025-08-20 | | s1 | | |
        EnrollmentEnded | a | math | 2025-08-20 | {ended} | s1 | | |
    """
    assert bool(class_of(written)) == is_member
    undated = f"""
        StudentEnrolled | a | math | | | s1 | | |
        EnrollmentEnded | a | math | | | s1 | {ended} | |
    """
    assert bool(class_of(undated)) == is_member


def test_an_end_belongs_to_the_enrolment_that_began_with_it():
    assert class_of("""
        StudentEnrolled | a | math | 2025-09-15 | | s1 | | |
        EnrollmentEnded | a | math | 2025-08-20 | 2025-09-01 | s1 | | |
    """) == ("math", "subject_code")


def test_without_a_first_day_an_enrolment_begins_with_the_term():
    line = "StudentEnrolled | a | second | | | s1 | | |"
    assert class_of(line, "2026-01-11") == ()
    assert class_of(line, "2026-01-12") == ("second", "subject_code")


def test_without_a_last_day_an_enrolment_ends_with_the_last_term():
    line = "StudentEnrolled | a | second | | | s1 | | |"
    assert class_of(line, "2026-06-05") == ("second", "subject_code")
    assert class_of(line, "2026-06-06") == ()


def test_deleted_records_and_teachers_do_not_count():
    assert class_of("StudentEnrolled | a | math | 2025-08-20 | | s1 | | true |") == ()
    assert class_of("StudentEnrolled | a | math | 2025-08-20 | | s1 | | | teacher") == ()
    assert class_of("StudentEnrolled | a | math | 2025-08-20 | | s1 | | false | student") == ("math", "subject_code")


def test_a_class_by_code_comes_before_one_by_title_but_both_are_listed():
    found = members("""
        StudentEnrolled | a | title | 2025-08-20 | | s1 | | |
        StudentEnrolled | a | math | 2025-09-01 | | s1 | | |
    """)
    assert found.select("class_id", "class_basis", "in_two_classes").row(0) == ("math", "subject_code", True)


def test_of_two_math_classes_the_longest_enrolled_wins():
    found = members("""
        StudentEnrolled | a | math | 2025-09-02 | | s1 | | |
        StudentEnrolled | a | math2 | 2025-09-01 | | s1 | | |
    """)
    assert found.select("class_id", "in_two_classes").row(0) == ("math2", True)


def test_equally_long_enrolments_go_by_class_id():
    found = members("""
        StudentEnrolled | a | math2 | 2025-09-01 | | s1 | | |
        StudentEnrolled | a | math | 2025-09-01 | | s1 | | |
    """)
    assert found.select("class_id", "in_two_classes").row(0) == ("math", True)


def test_two_enrolments_in_one_class_are_one_class():
    found = members("""
        StudentEnrolled | a | math | 2025-08-20 | | s1 | | |
        StudentEnrolled | a | math | 2025-09-01 | | s1 | | |
    """)
    assert found.select("class_id", "in_two_classes").rows() == [("math", False)]


def test_a_remedial_section_takes_nobody_out_of_the_regular_class_or_homeroom():
    beside = """
        StudentEnrolled | a | lab | 2025-08-20 | | s1 | | |
        StudentEnrolled | a | title | 2025-09-01 | | s1 | | |
        StudentEnrolled | b | lab | 2025-08-20 | | s1 | | |
        StudentEnrolled | b | home | 2025-08-20 | | s1 | | |
        StudentEnrolled | c | lab | 2025-08-20 | | s1 | | |
    """
    assert members(beside).select("class_id", "class_basis", "section_type", "in_two_classes").rows() == [
        ("title", "title", "regular", False),
        ("home", "homeroom", "regular", False),
        ("lab", "subject_code", "remedial", False),
    ]


def test_words_of_a_section_are_whole_words():
    found = members("""
        StudentEnrolled | a | honors | 2025-08-20 | | s1 | | |
        StudentEnrolled | b | art | 2025-08-20 | | s1 | | |
    """, policy=POLICY.model_copy(update={"math_codes": ("05",)}))  # fmt: skip
    assert found.select("class_id", "section_type", "is_section_type_known").rows() == [
        ("honors", "advanced", True),
        ("art", "regular", False),
    ]


def test_a_homeroom_counts_only_in_the_early_grades():
    line = "StudentEnrolled | a | home | 2025-08-20 | | s1 | | |"
    grade = "event_type | subject_key | group_kind | group_value\nStudentDescribed | a | grade | {}"
    assert class_of(line, description=grade.format("5")) == ("home", "homeroom")
    assert class_of(line, description=grade.format("6")) == (None, "no_math_section")
    assert class_of(line, policy=POLICY.model_copy(update={"homeroom_grades": ("K",)})) == (None, "no_math_section")


def test_the_grade_is_the_description_that_held_on_the_day_and_began_last():
    found = members(
        "StudentEnrolled | a | math | 2025-08-20 | | s1 | | |",
        description="""
        event_type       | subject_key | group_kind | group_value | valid_from | valid_to
        StudentDescribed | a           | grade      | 3           |            |
        StudentDescribed | a           | grade      | 5           | 2025-09-01 | 2025-09-30
        StudentDescribed | a           | grade      | 6           | 2025-10-01 |
        StudentDescribed | a           | grade      | 7           | 2025-09-02 | 2025-09-29
    """,
    )
    assert found["grade"].to_list() == ["5"]


def test_a_class_of_several_grades_tells_no_grade():
    found = members("StudentEnrolled | a | mix | 2025-08-20 | | s1 | | |", listed="""
        event_type  | class_id | class_type | grades | subject_codes
        ClassListed | mix      | homeroom   | 4;5    |
    """)  # fmt: skip
    assert found.select("class_id", "grade").row(0) == ("mix", None)


MOBILE_BASE = "StudentEnrolled | z | math | 2025-08-18 | | s1 | | |\n"


@pytest.mark.parametrize(
    ("begin", "is_mobile"),
    [
        ("2025-08-18", False),  # with the class
        ("2025-09-01", False),  # 10 school days after the class
        ("2025-09-02", False),  # 11 after the class, but 20 before the reference date
        ("2025-09-03", True),  # 19 before it
        ("", False),  # not known
    ],
)
def test_mobile_is_more_than_10_days_after_the_class_and_fewer_than_20_before_the_day(begin, is_mobile):
    found = members(MOBILE_BASE + f"StudentEnrolled | a | math | {begin} | | s1 | | |")
    assert found["is_mobile"].to_list() == [is_mobile, False]


def test_days_without_school_are_not_counted():
    labor_day = POLICY.model_copy(update={"no_school_days": (date(2025, 9, 15),)})
    found = members(MOBILE_BASE + "StudentEnrolled | a | math | 2025-09-02 | | s1 | | |", policy=labor_day)
    assert found["is_mobile"].to_list() == [True, False]


def test_who_came_to_the_school_early_is_not_mobile_in_a_new_class():
    found = members(
        MOBILE_BASE
        + """
        StudentEnrolled | a | math | 2025-09-10 | | s1 | | |
        StudentEnrolled | a | art | 2025-08-20 | 2025-09-09 | s1 | | |
    """
    )
    assert found["is_mobile"].to_list() == [False, False]


def test_mobile_days_are_policy():
    rule = ClassRule(mobile_after_days=30)
    found = members(
        MOBILE_BASE + "StudentEnrolled | a | math | 2025-09-20 | | s1 | | |",
        policy=POLICY.model_copy(update={"classes": rule}),
    )
    assert found["is_mobile"].to_list() == [False, False]


# Another day, or the most days


def rule(membership: str, **knobs) -> DistrictPolicy:
    return POLICY.model_copy(update={"classes": ClassRule(membership=membership, **knobs)})


def taken(**days: str) -> pl.LazyFrame:
    """Chosen tests of fall, one of each student named."""
    lines = "\n".join(f"{who} | {day} | {who}" for who, day in days.items())
    return table(
        ScreeningResult,
        f"subject_key | occurred_on | natural_key\n{lines}",
        district_id="d1",
        school_year="2026",
        benchmark_window="fall",
        is_chosen=True,
    ).lazy()


MOVED = """
    StudentEnrolled | a | math | 2025-08-20 | 2025-09-24 | s1 | | |
    StudentEnrolled | a | math2 | 2025-09-25 | | s1 | | |
    StudentEnrolled | b | math2 | 2025-08-20 | | s1 | | |
"""
"""On 30 September a is in math2, for six days."""


@pytest.mark.parametrize(
    ("policy", "class_id", "said"),
    [
        (POLICY, "math2", "reference_date"),
        (rule("test_date"), "math", "test_date"),
        (rule("majority"), "math", "majority"),
        (rule("census", census_on="09-01"), "math", "census"),
        (rule("census"), "math2", "census"),
    ],
)
def test_the_policy_says_which_day_decides_the_class_of_who_moved(policy, class_id, said):
    found = members(MOVED, policy=policy, tests=taken(a="2025-09-10", b="2025-09-10"))
    assert found.select("subject_key", "class_id").rows() == [("a", class_id), ("b", "math2")]
    assert found["membership_rule"].to_list() == [said, said]
    assert found["reference_on"].unique().to_list() == [date(2025, 9, 30)]
    assert not found["in_two_classes"].any()


def test_without_a_test_or_a_class_on_its_day_the_reference_date_decides():
    by_test = rule("test_date")
    for tests in (taken(b="2025-09-10"), taken(a="2025-08-01"), None):
        assert members(MOVED, policy=by_test, tests=tests).row(0, named=True)["class_id"] == "math2"
    found = members(MOVED, policy=by_test, tests=taken(b="2025-09-10"))
    assert found["membership_rule"].to_list() == ["reference_date", "test_date"]


def test_of_tests_of_several_measures_the_first_day_decides_and_only_chosen_ones_of_the_window():
    other = taken(a="2025-09-26").with_columns(natural_key=pl.lit("later"))
    both = pl.concat([taken(a="2025-09-10"), other])
    assert members(MOVED, policy=rule("test_date"), tests=both).row(0, named=True)["class_id"] == "math"
    for is_not in ({"is_chosen": False}, {"benchmark_window": "winter"}):
        tests = pl.concat([other, taken(a="2025-09-10").with_columns(**{k: pl.lit(v) for k, v in is_not.items()})])
        assert members(MOVED, policy=rule("test_date"), tests=tests).row(0, named=True)["class_id"] == "math2"


def test_who_was_nowhere_on_the_census_is_listed_and_not_counted():
    late = MOVED + "StudentEnrolled | c | math | 2025-09-02 | | s1 | | |"
    found = members(late, policy=rule("census", census_on="09-01"))
    told = found.select("subject_key", "class_id", "membership_rule", "is_mobile").rows()
    assert told[2] == ("c", "math", "reference_date", True)
    assert [row[3] for row in told[:2]] == [False, False]


def test_who_left_before_the_reference_date_is_no_member_by_any_rule():
    gone = "StudentEnrolled | a | math | 2025-08-20 | 2025-09-29 | s1 | | |"
    for membership in ("test_date", "majority", "census"):
        assert members(gone, policy=rule(membership, **({"census_on": "09-01"} if membership == "census" else {})),
                       tests=taken(a="2025-09-10")).is_empty()  # fmt: skip


def test_days_of_one_class_add_up_and_begin_with_the_school_year():
    rows = """
        StudentEnrolled | a | math | 2025-08-01 | 2025-08-14 | s1 | | |
        StudentEnrolled | a | math2 | 2025-08-15 | 2025-09-06 | s1 | | |
        StudentEnrolled | a | math | 2025-09-07 | 2025-09-22 | s1 | | |
        StudentEnrolled | a | math2 | 2025-09-23 | 2025-09-30 | s1 | | |
        StudentEnrolled | b | math | 2024-01-01 | 2025-07-20 | s1 | | |
        StudentEnrolled | b | math2 | 2025-07-21 | | s1 | | |
    """
    assert members(rows, policy=rule("majority"))["class_id"].to_list() == ["math2", "math2"]
    longer = rows.replace("2025-09-22", "2025-09-24").replace("2025-09-23", "2025-09-25")
    assert members(longer, policy=rule("majority"))["class_id"].to_list() == ["math", "math2"]


def test_a_census_is_a_day_of_every_year():
    for day in ("13-01", "02-29", "10-1", "October"):
        with pytest.raises(ValueError, match=f"{day} is no day of every year"):
            ClassRule(census_on=day)


def test_an_alternate_assessment_is_an_exemption_of_the_year_or_a_description_of_the_day():
    found = members(
        "\n".join(f"StudentEnrolled | {s} | math | 2025-08-20 | | s1 | | |" for s in "abcd"),
        not_tested="""
        event_type | subject_key | measure   | window_label | status
        NotTested  | a           | star_math | spring       | exempt_alternate
        NotTested  | d           | star_math | fall         | absent
    """,
        description="""
        event_type       | subject_key | group_kind           | group_value | valid_from
        StudentDescribed | b           | alternate_assessment | true        |
        StudentDescribed | c           | alternate_assessment | true        | 2025-10-01
        StudentDescribed | d           | alternate_assessment | false       |
    """,
    )
    assert found["is_alternate_assessment"].to_list() == [True, True, False, False]


def test_a_window_without_a_reference_date_has_no_members():
    given_facts = facts(roster=roster("StudentEnrolled | a | math | 2025-08-20 | | s1 | | |"))
    undated = windows(FALL).with_columns(reference_on=pl.lit(None, pl.Date))
    assert class_memberships(given_facts, undated, {"d1": POLICY}).collect().is_empty()


DAY = st.dates(date(2025, 8, 1), date(2026, 1, 31))
MAYBE = st.none() | DAY
CLASS_IDS = st.sampled_from(["math", "math2", "title", "art", "home", "lab", "honors", "second", "unlisted"])


@st.composite
def small_rosters(draw) -> tuple[str, str, list[date]]:
    lines, grades = [], []
    for _ in range(draw(st.integers(1, 14))):
        subject, class_id, begin = draw(st.sampled_from("abcd")), draw(CLASS_IDS), draw(MAYBE)
        end = draw(st.none() | st.just(None) | DAY)
        lines.append(f"StudentEnrolled | {subject} | {class_id} | {begin or ''} | {end or ''} | s1 | | |")
        if draw(st.integers(0, 5)) == 0:
            lines.append(f"EnrollmentEnded | {subject} | {class_id} | {begin or ''} | {draw(DAY)} | s1 | | |")
        if draw(st.integers(0, 9)) == 0:
            lines.append(f"StudentEnrolled | {subject} | {class_id} | {begin or ''} | | s1 | | true |")
    for subject in "abcd":
        if draw(st.booleans()):
            grades.append(f"StudentDescribed | {subject} | grade | {draw(st.sampled_from(['K', '5', '6']))}")
    first = draw(DAY)
    days = [first, *(first + timedelta(days=draw(st.integers(1, 60)) * n) for n in (1, 2))]
    return "\n".join(lines), "event_type | subject_key | group_kind | group_value\n" + "\n".join(grades), days


MEMBERSHIP = st.sampled_from(["reference_date", "test_date", "majority", "census"])


@given(small_rosters(), st.lists(DAY, max_size=8), MEMBERSHIP, DAY, st.randoms(use_true_random=False))
@examples(60)
def test_memberships_agree_with_the_slow_version_in_any_order(drawn, free, membership, test_on, random):
    enrolments, described, days = drawn
    policy = rule(membership).model_copy(update={"no_school_days": tuple(free)})
    tests = taken(a=test_on.isoformat(), c=test_on.isoformat())
    rows = roster(enrolments)
    given_facts = facts(roster=rows, description=described)
    dates = windows(*(day.isoformat() for day in days))
    found = class_memberships(given_facts, dates, {"d1": policy}, tests).collect()
    found = found.sort("benchmark_window", "subject_key")
    assert not found.select("benchmark_window", "subject_key").is_duplicated().any()
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=random.randint(0, 99))
    again = class_memberships(given_facts | {"roster": shuffled.lazy()}, dates, {"d1": policy}, tests)
    assert_frame_equal(found, again.collect().sort("benchmark_window", "subject_key"))
    grades = dict(given_facts["description"].select("subject_key", "group_value").collect().iter_rows())
    by_key = {(r["benchmark_window"], r["subject_key"]): r for r in found.iter_rows(named=True)}
    for season, day in zip(("fall", "winter", "spring"), days, strict=True):
        for subject in "abcd":
            looked_on = {
                "census": date(2025, 10, 1),
                "test_date": test_on if season == "fall" and subject in "ac" else None,
            }.get(membership)
            slow = reference_membership(subject, day, rows.to_dicts(), grades.get(subject), policy, looked_on)
            fast = by_key.get((season, subject))
            assert slow == (fast and {name: fast[name] for name in slow or ()})
