"""Math class of each enrolled student on a window's reference date, and who is too new to count there."""

import re
from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import SEASONS, ClassMembership
from transforms.windows import DISTRICT_YEAR, WINDOW, school_days_before

CLASS = [*DISTRICT_YEAR, "class_id"]
STUDENT = [*DISTRICT_YEAR, "subject_key"]
STUDENT_WINDOW = [*WINDOW, "subject_key"]
KINDS = ("regular", "homeroom", "remedial", "any")
"""Kinds of enrolment, in the order in which they decide a student's class."""
BASIS_BITS, DAY_BITS = 56, 32
"""An enrolment's place among others as one number: basis (0 code, 1 title), first day, class in order of class id."""


def class_memberships(
    facts: Mapping[str, pl.LazyFrame],
    windows: pl.LazyFrame,
    policies: Mapping[str, DistrictPolicy],
    screening: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """Put each student enrolled on the reference date in one math class (SEMANTICS 7.1).

    Enrolled means begun by the reference date and not ended before it. An enrolment without a first day begins with
    its class's first term, else it always held; without a last day it ends with the class's last term, else never;
    an ``EnrollmentEnded`` ends it sooner. A class is a math class by subject or course code, else by a math word in
    its subjects, course title or the words known of its own title. A student takes the first kind there is: math
    class by code, by title, homeroom in the early grades, remedial section. A remedial section comes last because it
    is taught beside a class: it never takes a student out of the class, or in K-5 the homeroom, where others are
    counted. Of several classes of one kind the longest enrolled wins, ties by class id. ``in_two_classes`` counts
    regular math classes by code and title together, and else those of the kind that decided.

    The knob `membership` looks at the enrolments of another day, or of the most days, instead; whoever has none there
    keeps the class of the reference date.

    Args:
        facts: Current facts by family; reads ``roster``, ``description`` and ``not_tested``.
        windows: ``WindowRule`` rows; a window without reference date has no members.
        policies: Policy of each district.
        screening: ``ScreeningResult`` rows, for districts that go by the day of the test; absent: no day is known.

    Returns:
        ``ClassMembership`` rows without ``input_id``.
    """
    roster = facts["roster"].filter(~pl.col("is_deleted").fill_null(False))
    dates = windows.filter(pl.col("reference_on").is_not_null()).select(*WINDOW, "reference_on").cache()
    enrolments = _enrolments(roster, dates, policies).cache()
    students = enrolments.select(*STUDENT, "student_no", *SEASONS).unique("student_no").cache()
    grades = _grades(facts["description"], students)
    looked_on = _looked_on(students, policies, screening)
    chosen = (
        pl.concat([_by_rule(enrolments, season, looked_on, policies) for season in SEASONS])
        .join(grades, on=["student_no", "benchmark_window"], how="left")
        .join(students.drop(SEASONS), on="student_no")
    )
    return (
        _chosen(chosen, enrolments, policies)
        .pipe(_mobile, enrolments, dates, policies)
        .join(_alternate(facts, dates), on=STUDENT_WINDOW, how="left")
        .with_columns(pl.col("is_alternate_assessment").fill_null(False))
        .select(name for name in columns(ClassMembership) if name != "input_id")
    )


def _words(words: tuple[str, ...], *, whole: bool) -> str | None:
    """Pattern for words of a title: at the start of a word, or whole words only (`ap` is not in Applied)."""
    if not words:
        return None
    return f"(?i)(?:^|[^a-z])(?:{'|'.join(map(re.escape, words))}){'(?:$|[^a-z])' if whole else ''}"


def _patterns(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """How each district tells math classes and their sections: one row per district."""
    names = ("district_id", "code_pattern", "math_pattern", "remedial_pattern", "advanced_pattern", "early_pattern")
    return pl.LazyFrame(
        [
            (
                district,
                f"(?i)(?:^|;)\\s*(?:{'|'.join(map(re.escape, policy.math_codes))})" if policy.math_codes else None,
                _words(policy.math_words, whole=False),
                _words(policy.remedial_words, whole=True),
                _words(policy.advanced_words, whole=True),
                f"(?:^|;)\\s*(?:{'|'.join(map(re.escape, policy.homeroom_grades))})\\s*(?:;|$)"
                if policy.homeroom_grades
                else None,
            )
            for district, policy in sorted(policies.items())
        ],
        schema=dict.fromkeys(names, pl.String),
        orient="row",
    )


def _classes(roster: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """What is known of each class: its math basis (0 code, 1 title), section, terms, grades."""
    courses = roster.filter(pl.col("event_type") == "CourseListed").select(
        *DISTRICT_YEAR,
        "course_id",
        listed_title="course_title",
        course_subjects="subjects",
        course_codes=_joined("subject_codes", "course_code"),
        course_grades="grades",
    )
    listed = roster.filter(pl.col("event_type") == "ClassListed")
    terms = (
        listed.select(*CLASS, term_id=pl.col("term_ids").str.split(";"))
        .explode("term_id")
        .with_columns(pl.col("term_id").str.strip_chars())
        .join(
            roster.filter(pl.col("event_type") == "TermListed").select(*DISTRICT_YEAR, "term_id", "begin_on", "end_on"),
            on=[*DISTRICT_YEAR, "term_id"],
        )
        .group_by(CLASS)
        .agg(term_begins_on=pl.col("begin_on").min(), term_ends_on=pl.col("end_on").max())
    )
    codes = _joined("subject_codes", "course_code", "course_codes")
    title = _joined("subjects", "course_subjects", "listed_title", "course_title", "title_terms")
    section = _joined("listed_title", "course_title", "title_terms")
    grades = pl.coalesce("grades", "course_grades")
    is_remedial = section.str.contains(pl.col("remedial_pattern")).fill_null(False)
    is_advanced = section.str.contains(pl.col("advanced_pattern")).fill_null(False)
    return (
        listed.join(courses, on=[*DISTRICT_YEAR, "course_id"], how="left")
        .join(_patterns(policies), on="district_id", how="left")
        .join(terms, on=CLASS, how="left")
        .select(
            *CLASS,
            "term_begins_on",
            "term_ends_on",
            class_school_id="school_id",
            math_basis=pl.when(codes.str.contains(pl.col("code_pattern")).fill_null(False))
            .then(0)
            .when(title.str.contains(pl.col("math_pattern")).fill_null(False))
            .then(1),
            is_homeroom=(pl.col("class_type") == "homeroom").fill_null(False),
            is_early_class=grades.str.contains(pl.col("early_pattern")),
            class_grade=pl.when(~grades.str.contains(";")).then(grades),
            section_type=pl.when(is_remedial)
            .then(pl.lit("remedial"))
            .when(is_advanced)
            .then(pl.lit("advanced"))
            .otherwise(pl.lit("regular")),
            is_section_type_known=is_remedial | is_advanced,
        )
    )


def _joined(*names: str) -> pl.Expr:
    """Lists of several columns as one list."""
    return pl.concat_str(*names, separator=";", ignore_nulls=True)


def _enrolments(roster: pl.LazyFrame, dates: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Enrolments with their class, the days they hold (null is without limit) and the reference date of each window.

    Students and classes are numbered, classes in order of their ids, so that what follows compares numbers; the
    numbers themselves mean nothing outside this run.
    """
    key = [*STUDENT, "class_id", "begin_on"]
    place = [*CLASS, "only_school_id"]
    ended = (
        roster.filter(pl.col("event_type") == "EnrollmentEnded")
        .select(*key, ended_on=pl.coalesce("end_on", "occurred_on"))
        .group_by(key)
        .agg(pl.col("ended_on").min())
    )
    enrolled = (
        roster.filter(
            pl.col("event_type") == "StudentEnrolled",
            pl.col("subject_key").is_not_null(),
            pl.col("role").fill_null("student") == "student",
        )
        .select(*key, "end_on", "school_id", only_school_id=pl.when(pl.col("class_id").is_null()).then("school_id"))
        .cache()
    )
    references = dates.group_by(DISTRICT_YEAR).agg(
        pl.col("reference_on").filter(pl.col("benchmark_window") == season).first().alias(season) for season in SEASONS
    )
    classes = (
        enrolled.group_by(place)
        .agg(pl.col("school_id").min())
        .sort("class_id", *DISTRICT_YEAR, "only_school_id")
        .with_row_index("class_no")
        .join(_classes(roster, policies), on=CLASS, how="left")
        .join(references, on=DISTRICT_YEAR, how="left")
        .with_columns(
            pl.coalesce("class_school_id", "school_id").alias("school_id"), pl.col("is_homeroom").fill_null(False)
        )
    )
    students = enrolled.select(STUDENT).unique().with_row_index("student_no")
    return (
        enrolled.drop("school_id")
        .join(ended, on=key, how="left", nulls_equal=True)
        .join(students, on=STUDENT)
        .join(classes, on=place, nulls_equal=True)
        .with_columns(
            begins_on=pl.coalesce("begin_on", "term_begins_on"),
            ends_on=pl.min_horizontal(pl.coalesce("end_on", "term_ends_on"), "ended_on"),
        )
        .drop("only_school_id", "class_school_id", "end_on", "ended_on", "term_ends_on")
    )


def _looked_on(
    students: pl.LazyFrame, policies: Mapping[str, DistrictPolicy], screening: pl.LazyFrame | None
) -> pl.LazyFrame | None:
    """Days that decide the class instead of the reference date: `student_no`, `benchmark_window`, `looked_on`.

    None where no district goes by the day of the test or of the census.
    """
    rules = {district: policy.classes.membership for district, policy in policies.items()}
    found = []
    tested = [district for district, rule in rules.items() if rule == "test_date"]
    if tested and screening is not None:
        found.append(
            screening.filter(pl.col("district_id").is_in(tested), "is_chosen", pl.col("occurred_on").is_not_null())
            .group_by(STUDENT_WINDOW)
            .agg(looked_on=pl.col("occurred_on").min())
            .join(students.select(*STUDENT, "student_no"), on=STUDENT)
            .select("student_no", "benchmark_window", "looked_on")
        )
    for district, policy in policies.items():
        if rules[district] == "census":
            month, day = map(int, policy.classes.census_on.split("-"))
            starts = policy.year_starts_month
            year = pl.col("school_year").cast(pl.Int32, strict=False) - (starts > 1 and month >= starts)
            counted = students.filter(pl.col("district_id") == district)
            found += [
                counted.select("student_no", benchmark_window=pl.lit(season), looked_on=pl.date(year, month, day))
                for season in SEASONS
            ]
    return pl.concat(found).cache() if found else None


def _by_rule(
    enrolments: pl.LazyFrame, season: str, looked_on: pl.LazyFrame | None, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """Of each student enrolled on the reference date: the best enrolment of each kind by the district's rule.

    ``membership_rule`` says what decided; ``is_uncounted`` where the district goes by the census and the student had
    no class then.
    """
    present = _on_the_day(enrolments, season, pl.col(season)).with_columns(membership_rule=pl.lit("reference_date"))
    elsewhere = []
    if looked_on is not None:
        days = looked_on.filter(pl.col("benchmark_window") == season).drop("benchmark_window")
        elsewhere.append(_on_the_day(enrolments.join(days, on="student_no"), season, pl.col("looked_on")))
    by_days = [district for district, policy in policies.items() if policy.classes.membership == "majority"]
    if by_days:
        elsewhere.append(_most_days(enrolments.filter(pl.col("district_id").is_in(by_days)), season, policies))
    if not elsewhere:
        return present.with_columns(is_uncounted=False)
    rules = pl.LazyFrame(
        [(district, policy.classes.membership) for district, policy in sorted(policies.items())],
        schema={"district_id": pl.String, "wanted": pl.String},
        orient="row",
    )
    wanted = enrolments.select("student_no", "district_id").unique().join(rules, on="district_id").drop("district_id")
    present = present.join(wanted, on="student_no").cache()
    found = pl.concat(elsewhere).select("student_no", *KINDS).cache()
    kept = present.join(found, on="student_no", how="anti").with_columns(is_uncounted=pl.col("wanted") == "census")
    moved = (
        present.drop(KINDS)
        .join(found, on="student_no")
        .with_columns(membership_rule="wanted", is_uncounted=False)
        .select(kept.collect_schema().names())
    )
    return pl.concat([kept, moved]).drop("wanted")


def _on_the_day(enrolments: pl.LazyFrame, season: str, day: pl.Expr) -> pl.LazyFrame:
    """Of each student enrolled on a day: the best enrolment of each kind, the longest enrolled first."""
    began = (pl.col("begins_on").to_physical().cast(pl.Int64) + 2**22).fill_null(0)
    present = enrolments.filter(
        day.is_not_null(), (pl.col("begins_on") <= day).fill_null(True), (pl.col("ends_on") >= day).fill_null(True)
    )
    return _best(present, began, season)


def _most_days(enrolments: pl.LazyFrame, season: str, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Of each student: the enrolment of each kind with the most days from the first of the year to the reference date.

    Spells in one class add up; without a first or last day a spell goes on as long as that.
    """
    starts = pl.LazyFrame(
        [(district, policy.year_starts_month) for district, policy in sorted(policies.items())],
        schema={"district_id": pl.String, "month": pl.Int32},
        orient="row",
    )
    first = pl.date(pl.col("school_year").cast(pl.Int32, strict=False) - (pl.col("month") > 1), pl.col("month"), 1)
    begins, ends = pl.max_horizontal("begins_on", first), pl.min_horizontal("ends_on", season)
    days = (ends - begins).dt.total_days() + 1
    spells = (
        enrolments.filter(pl.col(season).is_not_null())
        .join(starts, on="district_id")
        .with_columns(days=days)
        .filter(pl.col("days") > 0)
        .group_by("student_no", "class_no")
        .agg(pl.col("days").sum(), pl.col("math_basis", "section_type", "is_homeroom").first())
    )
    return _best(spells, 2**22 - pl.col("days"), season)


def _best(enrolments: pl.LazyFrame, place: pl.Expr, season: str) -> pl.LazyFrame:
    """Of each student the enrolment of each kind that comes first by ``place``, ties by class id.

    The kinds are regular math class, homeroom, remedial section and any; ``{kind}_two`` tells whether there are two
    classes of the kind.
    """
    basis = pl.col("math_basis").cast(pl.Int64)
    order = place * 2**DAY_BITS + pl.col("class_no").cast(pl.Int64)
    is_remedial = pl.col("section_type") == "remedial"
    orders = {
        "regular": pl.when(basis.is_not_null() & ~is_remedial).then(basis * 2**BASIS_BITS + order),
        "homeroom": pl.when("is_homeroom").then(order),
        "remedial": pl.when(basis.is_not_null() & is_remedial).then(basis * 2**BASIS_BITS + order),
        "any": order,
    }
    number = pl.col("class_no")
    return (
        enrolments.select("student_no", "class_no", **orders)
        .with_columns(pl.when(pl.col(kind).is_not_null()).then(number).alias(f"{kind}_no") for kind in orders)
        .group_by("student_no")
        .agg(
            *(pl.col(kind).min() for kind in orders),
            *((pl.col(f"{kind}_no").min() < pl.col(f"{kind}_no").max()).alias(f"{kind}_two") for kind in orders),
        )
        .with_columns(benchmark_window=pl.lit(season))
    )


def _chosen(students: pl.LazyFrame, enrolments: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """The class of each student and how it was found."""
    classes = enrolments.unique("class_no").cache()
    mask = 2**DAY_BITS - 1
    early = pl.LazyFrame(
        [
            (district, grade, True)
            for district, policy in sorted(policies.items())
            for grade in dict.fromkeys(policy.homeroom_grades)
        ],
        schema={"district_id": pl.String, "student_grade": pl.String, "is_early_grade": pl.Boolean},
        orient="row",
    )
    homerooms = classes.select(pl.col("class_no").alias("homeroom_no"), "is_early_class")
    is_early = pl.when(pl.col("student_grade").is_null()).then("is_early_class").otherwise("is_early_grade")
    kind = (
        pl.when(pl.col("regular").is_not_null())
        .then(pl.lit("regular"))
        .when(pl.col("homeroom").is_not_null() & is_early.fill_null(False))
        .then(pl.lit("homeroom"))
        .when(pl.col("remedial").is_not_null())
        .then(pl.lit("remedial"))
        .otherwise(pl.lit("any"))
    )
    has_class = pl.col("kind") != "any"

    def of_kind(suffix: str) -> pl.Expr:
        return pl.coalesce(pl.when(pl.col("kind") == name).then(f"{name}{suffix}") for name in KINDS)

    return (
        students.with_columns(homeroom_no=(pl.col("homeroom") & mask).cast(pl.UInt32))
        .join(homerooms, on="homeroom_no", how="left")
        .join(early, on=["district_id", "student_grade"], how="left")
        .with_columns(kind=kind)
        .with_columns(order=of_kind(""), in_two_classes=(of_kind("_two") & has_class).fill_null(False))
        .with_columns(class_no=(pl.col("order") & mask).cast(pl.UInt32))
        .join(
            classes.select("class_no", "class_id", "school_id", "class_grade", "section_type", "is_section_type_known"),
            on="class_no",
        )
        .with_columns(
            grade=pl.coalesce("student_grade", "class_grade"),
            class_id=pl.when(has_class).then("class_id"),
            class_basis=pl.when(pl.col("kind") == "homeroom")
            .then(pl.lit("homeroom"))
            .when(~has_class)
            .then(pl.lit("no_math_section"))
            .when(pl.col("order") < 2**BASIS_BITS)
            .then(pl.lit("subject_code"))
            .otherwise(pl.lit("title")),
            section_type=pl.when(has_class).then("section_type"),
            is_section_type_known=pl.when(has_class).then("is_section_type_known"),
        )
    )


def _grades(descriptions: pl.LazyFrame, students: pl.LazyFrame) -> pl.LazyFrame:
    """Grade described for the reference date: of the values valid then, the one that began last."""
    described = (
        descriptions.filter(pl.col("group_kind") == "grade", pl.col("group_value").is_not_null())
        .select(*STUDENT, "group_value", "valid_from", "valid_to", "export_at")
        .join(students, on=STUDENT)
        .sort(["valid_from", "export_at", "group_value"], descending=[True, True, False], nulls_last=True)
        .cache()
    )
    return pl.concat(
        [
            described.filter(_holds_on(pl.col(season)))
            .unique("student_no", keep="first", maintain_order=True)
            .select("student_no", student_grade="group_value", benchmark_window=pl.lit(season))
            for season in SEASONS
        ]
    )


def _holds_on(day: pl.Expr) -> pl.Expr:
    """Whether a description is valid on a day; a date not given does not limit it."""
    return (
        day.is_not_null() & (pl.col("valid_from") <= day).fill_null(True) & (pl.col("valid_to") >= day).fill_null(True)
    )


def _mobile(
    members: pl.LazyFrame, enrolments: pl.LazyFrame, dates: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """Add ``reference_on`` and ``is_mobile`` (SEMANTICS 7.2).

    The class began with its first term, else with its earliest enrolment; the student began in the school with the
    earliest enrolment there this school year, unless one of them has no first day. A date not known is not mobile.
    Who had no class on the day of the census counts as mobile: listed, and in no count of a class.
    """
    begun = enrolments.group_by("class_no", "district_id").agg(
        class_began_on=pl.coalesce(pl.col("term_begins_on").first(), pl.col("begin_on").min())
    )
    arrived = enrolments.group_by("student_no", "school_id", "district_id").agg(
        student_began_on=pl.when(pl.col("begins_on").null_count() == 0).then(pl.col("begins_on").min())
    )
    limits = pl.LazyFrame(
        [
            (district, policy.classes.mobile_after_days, policy.classes.mobile_before_days)
            for district, policy in sorted(policies.items())
        ],
        schema={"district_id": pl.String, "after_days": pl.Int64, "before_days": pl.Int64},
        orient="row",
    )
    day = pl.col("student_began_on_school_day")
    is_late = day - pl.col("class_began_on_school_day") > pl.col("after_days")
    is_new = pl.col("reference_on_school_day") - day < pl.col("before_days")
    return (
        members.join(school_days_before(begun, "class_began_on", policies).drop("district_id"), on="class_no")
        .join(
            school_days_before(arrived, "student_began_on", policies).drop("district_id"),
            on=["student_no", "school_id"],
            how="left",
        )
        .join(school_days_before(dates, "reference_on", policies).join(limits, on="district_id"), on=WINDOW)
        .with_columns(
            is_mobile=(pl.col("class_id").is_not_null() & (pl.col("is_uncounted") | is_late & is_new)).fill_null(False)
        )
    )


def _alternate(facts: Mapping[str, pl.LazyFrame], dates: pl.LazyFrame) -> pl.LazyFrame:
    """Students who take an alternate assessment: exempt in any window of the year, or described so on the date."""
    exempt = (
        facts["not_tested"]
        .filter(pl.col("status") == "exempt_alternate", pl.col("subject_key").is_not_null())
        .select(STUDENT)
        .join(dates, on=DISTRICT_YEAR)
    )
    described = (
        facts["description"]
        .filter(pl.col("group_kind") == "alternate_assessment", pl.col("group_value").str.to_lowercase() == "true")
        .select(*STUDENT, "valid_from", "valid_to")
        .join(dates, on=DISTRICT_YEAR)
        .filter(_holds_on(pl.col("reference_on")))
    )
    return (
        pl.concat([exempt.select(STUDENT_WINDOW), described.select(STUDENT_WINDOW)])
        .unique()
        .with_columns(is_alternate_assessment=True)
    )
