"""OneRoster 1.1 CSV bulk folder: homerooms in K-5, math and English sections in 6-8."""

from datetime import date
from pathlib import Path

import polars as pl

from pipelines.simulate.files import day_text, in_order, names, write
from pipelines.simulate.people import People, grade_text

BASE = ("sourcedId", "status", "dateLastModified")
HEADERS = {
    "manifest": "propertyName,value",
    "orgs": "name,type,identifier,parentSourcedId",
    "academicSessions": "title,type,startDate,endDate,parentSourcedId,schoolYear",
    "courses": "schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,subjectCodes",
    "classes": "title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,termSourcedIds,subjects,"
    "subjectCodes,periods",
    "users": "enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,middleName,identifier,email,sms,"
    "phone,agentSourcedIds,grades,password",
    "enrollments": "classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate",
    "demographics": "birthDate,sex,americanIndianOrAlaskaNative,asian,blackOrAfricanAmerican,"
    "nativeHawaiianOrOtherPacificIslander,white,demographicRaceTwoOrMoreRaces,hispanicOrLatinoEthnicity,"
    "countryOfBirthCode,stateOfBirthAbbreviation,cityOfBirth,publicSchoolResidenceStatus",
}
ABSENT = ("categories", "classResources", "courseResources", "lineItems", "resources", "results")

SCED = {"regular": ("02036", "02037", "02038"), "remedial": ("02046", "02047", "02048"), "advanced": ("02051",) * 3}
"""Invented use of mathematics codes of the School Courses for the Exchange of Data, by section and grade 6 to 8."""


def write_roster(people: People, folder: Path) -> list[Path]:
    """The eight files of the folder, exported after the last day of school, so that all enrolments are in.

    Status and modification date are blank, as in bulk files.
    """
    exported = date(people.calendar.year, 6, 6)
    frames = {
        "orgs": _orgs(people),
        "academicSessions": _sessions(people),
        "courses": _courses(people),
        "classes": _classes(people),
        "users": _users(people),
        "enrollments": _enrollments(people),
        "demographics": _demographics(people),
    }
    paths = [
        write(folder / f"{name}.csv", header(name), in_order(header(name), rows), exported=exported)
        for name, rows in frames.items()
    ]
    manifest = {
        "manifest.version": "1.0",
        "oneroster.version": "1.1",
        **{f"file.{name}": "bulk" if name in frames else "absent" for name in sorted((*frames, *ABSENT))},
        "source.systemName": "Synthetic SIS",
        "source.systemCode": people.district_id,
    }
    rows = pl.DataFrame({"propertyName": list(manifest), "value": list(manifest.values())})
    return [*paths, write(folder / "manifest.csv", header("manifest"), rows, exported=exported)]


def header(name: str) -> tuple[str, ...]:
    """Columns of one OneRoster file, in order."""
    return (*(BASE if name != "manifest" else ()), *names(HEADERS[name]))


def _orgs(people: People) -> pl.DataFrame:
    schools = people.schools.select(
        sourcedId="school_id",
        name="name",
        type=pl.lit("school"),
        identifier="state_number",
        parentSourcedId=pl.lit("ORG0000"),
    )
    district = pl.DataFrame(
        {
            "sourcedId": ["ORG0000"],
            "name": [people.district_name],
            "type": ["district"],
            "identifier": [f"{people.number * 10:04d}"],
            "parentSourcedId": [None],
        },
        schema=schools.schema,
    )
    return pl.concat([district, schools])


def _sessions(people: People) -> pl.DataFrame:
    calendar = people.calendar
    year = calendar.year
    return pl.DataFrame(
        [
            (f"SY{year}", calendar.title, "schoolYear", calendar.first, calendar.last, None),
            (f"S1-{year}", "Semester 1", "semester", calendar.first, date(year, 1, 9), f"SY{year}"),
            (f"S2-{year}", "Semester 2", "semester", date(year, 1, 12), calendar.last, f"SY{year}"),
        ],
        schema=["sourcedId", "title", "type", "startDate", "endDate", "parentSourcedId"],
        orient="row",
    ).with_columns(schoolYear=pl.lit(str(year)))


def _course(column: str) -> pl.Expr:
    """Key of the course of a class: kind, section and grade."""
    return pl.format(
        "CRS-{}-{}{}",
        pl.when(pl.col("kind") == "homeroom")
        .then(pl.lit("HR"))
        .when(pl.col("kind") == "ela")
        .then(pl.lit("ELA"))
        .otherwise(pl.lit("MATH")),
        "grade",
        pl.col("section").replace_strict({"regular": "", "remedial": "-I", "advanced": "-A"}),
    ).alias(column)


def _codes() -> pl.Expr:
    math = pl.lit(None, dtype=pl.String)
    for section, codes in SCED.items():
        for grade, code in zip((6, 7, 8), codes, strict=True):
            math = (
                pl.when((pl.col("section") == section) & (pl.col("grade") == grade)).then(pl.lit(code)).otherwise(math)
            )
    return pl.when(pl.col("kind") == "math").then(math).when(pl.col("kind") == "ela").then(pl.lit("01034"))


def _subjects() -> pl.Expr:
    return (
        pl.when(pl.col("kind") == "math")
        .then(pl.lit("Mathematics"))
        .when(pl.col("kind") == "ela")
        .then(pl.lit("English Language Arts"))
    )


def _grade_code() -> pl.Expr:
    return pl.when(pl.col("grade") == 0).then(pl.lit("KG")).otherwise(pl.col("grade").cast(pl.String).str.zfill(2))


def _courses(people: People) -> pl.DataFrame:
    title = (
        pl.when(pl.col("kind") == "homeroom")
        .then(pl.format("Homeroom Grade {}", grade_text(pl.col("grade"))))
        .otherwise(pl.col("title").str.split(" - ").list.first())
    )
    return (
        people.classes.select(
            _course("sourcedId"),
            schoolYearSourcedId=pl.lit(f"SY{people.calendar.year}"),
            title=title,
            courseCode=_course("code").str.replace("CRS-", "").str.replace_all("-", ""),
            grades=_grade_code(),
            orgSourcedId=pl.lit("ORG0000"),
            subjects=_subjects(),
            subjectCodes=_codes(),
        )
        .unique("sourcedId", keep="first")
        .sort("sourcedId")
    )


def _classes(people: People) -> pl.DataFrame:
    year = people.calendar.year
    return people.classes.select(
        sourcedId="class_id",
        title="title",
        grades=_grade_code(),
        courseSourcedId=_course("course"),
        classCode=pl.format("{}.{}", _course("code").str.replace("CRS-", ""), "number"),
        classType=pl.when(pl.col("kind") == "homeroom").then(pl.lit("homeroom")).otherwise(pl.lit("scheduled")),
        location=pl.format("Room {}", pl.col("number") + pl.col("grade") * 10 + 100),
        schoolSourcedId=people.schools["school_id"].gather(people.classes["school"]),
        termSourcedIds=pl.lit(f"S1-{year},S2-{year}"),
        subjects=_subjects(),
        subjectCodes=_codes(),
        periods=pl.when(pl.col("kind") != "homeroom").then((pl.col("number") % 7 + 1).cast(pl.String)),
    )


def student_id(local_id: str | pl.Expr = "local_id") -> pl.Expr:
    """OneRoster sourcedId of a student."""
    return pl.format("S{}", local_id)


def _teacher_id(teacher: str) -> pl.Expr:
    return pl.format("T{}", pl.col(teacher).add(1).cast(pl.String).str.zfill(5))


def _posts(people: People) -> pl.DataFrame:
    """Teachers of classes: one row per teacher and class."""
    school = people.schools["school_id"].gather(people.classes["school"])
    classes = people.classes.with_columns(school_id=school)
    own = classes.select("class_id", "school_id", "teacher", primary=pl.lit("true"))
    second = classes.filter(pl.col("coteacher") >= 0)
    return pl.concat([own, second.select("class_id", "school_id", teacher="coteacher", primary=pl.lit("false"))])


def _users(people: People) -> pl.DataFrame:
    now = people.schools["school_id"].gather(people.classes["school"].gather(people.class_on(people.column("ended"))))
    grade = _grade_code()
    students = people.students.select(
        sourcedId=student_id(),
        enabledUser=pl.lit("true"),
        orgSourcedIds=now,
        role=pl.lit("student"),
        username=pl.format("student{}", "local_id"),
        userIds=pl.concat_str(pl.lit("{StateID:"), "state_id", pl.lit("}")),
        givenName="first_name",
        familyName="last_name",
        identifier="local_id",
        grades=grade,
    )
    teachers = (
        _posts(people)
        .unique("teacher", keep="first")
        .sort("teacher")
        .select(
            sourcedId=_teacher_id("teacher"),
            enabledUser=pl.lit("true"),
            orgSourcedIds="school_id",
            role=pl.lit("teacher"),
            username=pl.format("teacher{}", pl.col("teacher") + 1),
            userIds=pl.lit(None, dtype=pl.String),
            givenName=pl.format("Given {}", pl.col("teacher") + 1),
            familyName=pl.format("Teacher {}", pl.col("teacher") + 1),
            identifier=pl.format("E{}", pl.col("teacher").add(1).cast(pl.String).str.zfill(5)),
            grades=pl.lit(None, dtype=pl.String),
        )
    )
    return pl.concat([students, teachers])


def _enrollments(people: People) -> pl.DataFrame:
    """Students by class; who changed class has one that ended the day before and one that began."""
    students = people.students.with_columns(user=student_id())
    moved = pl.col("class_2") >= 0
    stays_in_english = pl.col("ela_2") < 0
    parts = [
        students.select("user", place="class_1", begin="began", end=pl.min_horizontal("ended", pl.col("moved") - 1)),
        students.filter(moved).select("user", place="class_2", begin="moved", end="ended"),
        students.filter(pl.col("ela_1") >= 0).select(
            "user",
            place="ela_1",
            begin="began",
            end=pl.when(stays_in_english).then("ended").otherwise(pl.min_horizontal("ended", pl.col("moved") - 1)),
        ),
        students.filter(~stays_in_english).select("user", place="ela_2", begin="moved", end="ended"),
    ]
    seats = pl.concat(parts).sort("place", "user")
    school = people.classes["school"].gather(seats["place"])
    pupils = seats.select(
        classSourcedId=people.classes["class_id"].gather(seats["place"]),
        schoolSourcedId=people.schools["school_id"].gather(school),
        userSourcedId="user",
        role=pl.lit("student"),
        primary=pl.lit("false"),
        beginDate=day_text("begin", "%Y-%m-%d"),
        endDate=day_text("end", "%Y-%m-%d"),
    )
    first, last = people.calendar.first.isoformat(), people.calendar.last.isoformat()
    staff = _posts(people).select(
        classSourcedId="class_id",
        schoolSourcedId="school_id",
        userSourcedId=_teacher_id("teacher"),
        role=pl.lit("teacher"),
        primary="primary",
        beginDate=pl.lit(first),
        endDate=pl.lit(last),
    )
    return pl.concat([pupils, staff]).select(
        pl.format("E{}", pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(8)).alias("sourcedId"), pl.all()
    )


def _demographics(people: People) -> pl.DataFrame:
    race = pl.col("race")

    def is_race(name: str) -> pl.Expr:
        return pl.when(race == name).then(pl.lit("true")).otherwise(pl.lit("false"))

    return people.students.select(
        sourcedId=student_id(),
        birthDate=pl.col("born").dt.strftime("%Y-%m-%d"),
        sex="sex",
        americanIndianOrAlaskaNative=pl.lit("false"),
        asian=is_race("Asian"),
        blackOrAfricanAmerican=is_race("Black or African American"),
        nativeHawaiianOrOtherPacificIslander=pl.lit("false"),
        white=is_race("White"),
        demographicRaceTwoOrMoreRaces=is_race("Two or More Races"),
        hispanicOrLatinoEthnicity=is_race("Hispanic or Latino"),
    )
