"""Math class of each enrolled student on a window's reference date, and who is too new to count there."""

import re
from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import ClassMembership
from transforms.windows import DISTRICT_YEAR, WINDOW, school_days_before

CLASS = [*DISTRICT_YEAR, "class_id"]
STUDENT = [*DISTRICT_YEAR, "subject_key"]
STUDENT_WINDOW = [*WINDOW, "subject_key"]
BASES = ("subject_code", "title", "homeroom", "subject_code", "title", "no_math_section")
"""What found the class, in order of choice; the second ``subject_code`` and ``title`` are remedial sections."""
HOMEROOM, REMEDIAL, NO_SECTION = 2, 3, 5


def class_memberships(
    facts: Mapping[str, pl.LazyFrame], windows: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """Put each student enrolled on the reference date in one math class (SEMANTICS 7.1).

    Enrolled means begun by the reference date and not ended before it. An enrolment without a first day begins with
    its class's first term, else it always held; without a last day it ends with the class's last term, else never;
    an ``EnrollmentEnded`` ends it sooner. A class is a math class by subject or course code, else by a math word in
    its subjects, course title or the words known of its own title. A student takes the first kind there is: math
    class by code, by title, homeroom in the early grades, remedial section. A remedial section comes last because it
    is taught beside a class: it never takes a student out of the class, or in K-5 the homeroom, where others are
    counted. Of several classes of one kind the longest enrolled wins, ties by class id. ``in_two_classes`` counts
    regular math classes by code and title together, and else the kind that decided.

    Args:
        facts: Current facts by family; reads ``roster``, ``description`` and ``not_tested``.
        windows: ``WindowRule`` rows; a window without reference date has no members.
        policies: Policy of each district.

    Returns:
        ``ClassMembership`` rows without ``input_id``.
    """
    roster = facts["roster"].filter(~pl.col("is_deleted").fill_null(False))
    classes = _classes(roster, policies)
    enrolments = _enrolments(roster, classes)
    dates = windows.filter(pl.col("reference_on").is_not_null()).select(*WINDOW, "reference_on")
    on_day = (
        enrolments.join(dates, on=DISTRICT_YEAR)
        .filter(
            (pl.col("begins_on") <= pl.col("reference_on")).fill_null(True),
            (pl.col("ends_on") >= pl.col("reference_on")).fill_null(True),
        )
        .join(_grades(facts["description"], dates), on=STUDENT_WINDOW, how="left")
        .join(
            _homeroom_grades(policies),
            left_on=["district_id", "student_grade"],
            right_on=["district_id", "grade"],
            how="left",
        )
    )
    is_early_grade = pl.when(pl.col("student_grade").is_null()).then("is_early_class").otherwise("is_early_grade")
    is_homeroom = pl.col("is_homeroom") & is_early_grade.fill_null(False)
    choice = (
        pl.when(pl.col("math_basis").is_not_null())
        .then(pl.col("math_basis") + pl.when(pl.col("section_type") == "remedial").then(REMEDIAL).otherwise(0))
        .otherwise(NO_SECTION)
    )
    ranked = on_day.with_columns(
        choice=pl.when(is_homeroom & (choice >= REMEDIAL)).then(HOMEROOM).otherwise(choice).cast(pl.Int8)
    )
    kind = pl.when(pl.col("choice") < HOMEROOM).then(0).otherwise("choice")
    best = (
        ranked.with_columns(kind=kind)
        .filter(pl.col("kind") == pl.col("kind").min().over(STUDENT_WINDOW))
        .sort("choice", "begins_on", "class_id", "school_id", nulls_last=[False, False, True, True])
        .group_by(STUDENT_WINDOW, maintain_order=True)
        .agg(
            pl.col("class_id").n_unique().alias("classes"),
            pl.exclude(*STUDENT_WINDOW, "classes").first(),
        )
    )
    has_class = pl.col("choice") < NO_SECTION
    members = best.with_columns(
        class_id=pl.when(has_class).then("class_id"),
        class_basis=pl.col("choice").replace_strict(dict(enumerate(BASES)), return_dtype=pl.String),
        section_type=pl.when(has_class).then("section_type"),
        is_section_type_known=pl.when(has_class).then("is_section_type_known"),
        in_two_classes=has_class & (pl.col("classes") > 1),
        grade=pl.coalesce("student_grade", "class_grade"),
    )
    return (
        _mobile(members, enrolments, policies)
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


def _homeroom_grades(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [
            (district, grade, True)
            for district, policy in sorted(policies.items())
            for grade in dict.fromkeys(policy.homeroom_grades)
        ],
        schema={"district_id": pl.String, "grade": pl.String, "is_early_grade": pl.Boolean},
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


def _enrolments(roster: pl.LazyFrame, classes: pl.LazyFrame) -> pl.LazyFrame:
    """Enrolments with their class and the days they hold; null is without limit."""
    key = [*STUDENT, "class_id", "begin_on"]
    ended = (
        roster.filter(pl.col("event_type") == "EnrollmentEnded")
        .select(*key, ended_on=pl.coalesce("end_on", "occurred_on"))
        .group_by(key)
        .agg(pl.col("ended_on").min())
    )
    return (
        roster.filter(
            pl.col("event_type") == "StudentEnrolled",
            pl.col("subject_key").is_not_null(),
            pl.col("role").fill_null("student") == "student",
        )
        .select(*key, "end_on", "school_id")
        .join(ended, on=key, how="left", nulls_equal=True)
        .join(classes, on=CLASS, how="left")
        .with_columns(
            begins_on=pl.coalesce("begin_on", "term_begins_on"),
            ends_on=pl.min_horizontal(pl.coalesce("end_on", "term_ends_on"), "ended_on"),
            school_id=pl.coalesce("class_school_id", "school_id"),
            is_homeroom=pl.col("is_homeroom").fill_null(False),
        )
        .drop("class_school_id", "end_on", "ended_on", "term_ends_on")
    )


def _grades(descriptions: pl.LazyFrame, dates: pl.LazyFrame) -> pl.LazyFrame:
    """Grade described for the reference date: the value valid then that began last."""
    return (
        _described(descriptions, dates, "grade")
        .sort(["valid_from", "export_at", "group_value"], descending=[True, True, False], nulls_last=True)
        .group_by(STUDENT_WINDOW, maintain_order=True)
        .agg(student_grade=pl.col("group_value").first())
    )


def _described(descriptions: pl.LazyFrame, dates: pl.LazyFrame, kind: str) -> pl.LazyFrame:
    """Descriptions of one kind valid on the reference date."""
    return (
        descriptions.filter(pl.col("group_kind") == kind, pl.col("group_value").is_not_null())
        .select(*STUDENT, "group_value", "valid_from", "valid_to", "export_at")
        .join(dates, on=DISTRICT_YEAR)
        .filter(
            (pl.col("valid_from") <= pl.col("reference_on")).fill_null(True),
            (pl.col("valid_to") >= pl.col("reference_on")).fill_null(True),
        )
    )


def _mobile(members: pl.LazyFrame, enrolments: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``is_mobile`` (SEMANTICS 7.2).

    The class began with its first term, else with its earliest enrolment; the student began in the school with the
    earliest enrolment there this school year, unless one of them has no first day. A date not known is not mobile.
    """
    begun = enrolments.group_by(CLASS).agg(
        class_began_on=pl.coalesce(pl.col("term_begins_on").first(), pl.col("begin_on").min())
    )
    arrived = enrolments.group_by(*STUDENT, "school_id").agg(
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
    dated = (
        members.join(begun, on=CLASS, how="left")
        .join(arrived, on=[*STUDENT, "school_id"], how="left")
        .join(limits, on="district_id", how="left")
    )
    for name in ("class_began_on", "student_began_on", "reference_on"):
        dated = school_days_before(dated, name, policies)
    day = pl.col("student_began_on_school_day")
    is_late = day - pl.col("class_began_on_school_day") > pl.col("after_days")
    is_new = pl.col("reference_on_school_day") - day < pl.col("before_days")
    return dated.with_columns(is_mobile=(is_late & is_new).fill_null(False))


def _alternate(facts: Mapping[str, pl.LazyFrame], dates: pl.LazyFrame) -> pl.LazyFrame:
    """Students who take an alternate assessment: exempt in any window of the year, or described so on the date."""
    exempt = (
        facts["not_tested"]
        .filter(pl.col("status") == "exempt_alternate", pl.col("subject_key").is_not_null())
        .select(STUDENT)
        .unique()
        .join(dates.select(WINDOW), on=DISTRICT_YEAR)
    )
    described = _described(facts["description"], dates, "alternate_assessment").filter(
        pl.col("group_value").str.to_lowercase() == "true"
    )
    return (
        pl.concat([exempt.select(STUDENT_WINDOW), described.select(STUDENT_WINDOW)])
        .unique()
        .with_columns(is_alternate_assessment=True)
    )
