"""A second measure in a few schools: i-Ready Diagnostic and Star Math. Scales and norms are invented."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr

from pipelines.simulate.files import day_text, in_order, names, write
from pipelines.simulate.people import MEASUREMENT_SD, Ints, People, grade_text

IREADY_SCHOOLS, STAR_SCHOOL = (0, 1, 2), 3
COVERED = 0.95

IREADY_DOMAINS = ("Number and Operations", "Algebra and Algebraic Thinking", "Measurement and Data", "Geometry")
IREADY_HEADER = names(
    "Last Name,First Name,Student ID,Student Grade,Academic Year,School,Enrolled,District State ID,Account State ID,"
    "School State ID,Student State ID,User Name,Sex,Hispanic or Latino,Race,English Language Learner,"
    "Special Education,Economically Disadvantaged,Migrant,Class(es),Class Teacher(s),Report Group(s),Start Date,"
    "Completion Date,Norming Window,Baseline Diagnostic (Y/N),Most Recent Diagnostic YTD (Y/N),Duration (min),"
    "Rush Flag,Read Aloud,Overall Scale Score,Overall Placement,Overall Relative Placement,Percentile,Grouping,"
    "Quantile Measure,Quantile Range,"
    + ",".join(
        f"{domain} {what}" for domain in IREADY_DOMAINS for what in ("Scale Score", "Placement", "Relative Placement")
    )
    + ",Diagnostic Gain,Annual Typical Growth Measure,Annual Stretch Growth Measure,"
    "Percent Progress to Annual Typical Growth (%),Percent Progress to Annual Stretch Growth (%),"
    "Mid On Grade Level Scale Score,Proficiency if Student Shows No Additional Growth,"
    "Projection if Student Achieves Typical Growth,Projection if Student Achieves Stretch Growth"
)
NORMING_WINDOWS = (
    "Fall (Beginning of Year - November 15)",
    "Winter (November 16 - March 1)",
    "Spring (March 2 - End of Year)",
)
RELATIVE = (
    "Mid or Above Grade Level",
    "Early On Grade Level",
    "1 Grade Level Below",
    "2 Grade Levels Below",
    "3 or More Grade Levels Below",
)
MID_ON_GRADE = np.array([388 + 26 * grade - 0.8 * grade**2 for grade in range(13)]).round().astype(np.int64)
EARLY_ON_GRADE = MID_ON_GRADE - 12

STAR_HEADER = names(
    "RenaissanceClientID,SchoolYear,SchoolYearStartDate,SchoolYearEndDate,StudentRenaissanceID,StudentSourcedID,"
    "StudentIdentifier,StudentUserID,StudentStateID,StudentEmail,StudentFirstName,StudentMiddleName,StudentLastName,"
    "Gender,BirthDate,MultiRace,HispanicOrLatino,AmericanIndianOrAlaskaNative,Asian,BlackOrAfricanAmerican,"
    "NativeHawaiianOrOtherPacificIslander,White,CurrentGrade,EnrollmentStatus,DistrictRenaissanceID,DistrictSourcedID,"
    "DistrictIdentifier,DistrictStateID,DistrictName,SchoolRenaissanceID,SchoolSourcedID,SchoolIdentifier,"
    "SchoolStateID,SchoolName,CourseRenaissanceID,CourseSourcedID,CourseCode,CourseName,ClassRenaissanceID,"
    "ClassSourcedID,ClassCode,GroupID,GroupOrClassName,TeacherRenaissanceID,TeacherSourcedID,TeacherIdentifier,"
    "TeacherUserID,TeacherStateID,TeacherEmail,TeacherFirstName,TeacherMiddleName,TeacherLastName,AssessmentID,"
    "LaunchDate,CompletedDate,CompletedDateLocal,AssessmentNumber,AssessmentType,AssessmentStatus,DeactivationReason,"
    "GradePlacement,Grade,ExtraTime,Audio,ScaledScore,StandardErrorOfMeasurement,RaschScore,UnifiedScore,"
    "PartnershipForAssessmentOfReadinessForCollegeAndCareers,SmarterBalancedAssessmentConsortium,OpenGrowthScore,"
    "GradeEquivalent,PercentileRank,NormalCurveEquivalent,TotalTimeInSeconds,TotalCorrect,TotalPossible,"
    "StudentGrowthPercentileFallFall,StudentGrowthPercentileFallSpring,StudentGrowthPercentileFallWinter,"
    "StudentGrowthPercentileSpringFall,StudentGrowthPercentileSpringSpring,StudentGrowthPercentileWinterSpring,"
    "ScreeningPeriodWindowName,ScreeningWindowStartDate,ScreeningWindowEndDate,RenaissanceBenchmarkCategoryName,"
    "RenaissanceBenchmarkCategoryLevel,RenaissanceBenchmarkCategoryNumberOfLevels,"
    "RenaissanceBenchmarkCategoryMinPercentileRank,RenaissanceBenchmarkCategoryMaxPercentileRank,"
    "StateBenchmarkAssessmentName,StateBenchmarkCategoryName,StateBenchmarkProficient,StateBenchmarkCategoryLevel,"
    "StateBenchmarkNumberOfCategoryLevels,StateBenchmarkMinScaledScore,StateBenchmarkMaxScaledScore,"
    "DistrictBenchmarkCategoryName,DistrictBenchmarkProficient,DistrictBenchmarkCategoryLevel,"
    "DistrictBenchmarkNumberOfCategoryLevels,DistrictBenchmarkMinPercentileRank,DistrictBenchmarkMaxPercentileRank,"
    "SchoolBenchmarkCategoryName,SchoolBenchmarkProficient,SchoolBenchmarkCategoryLevel,"
    "SchoolBenchmarkNumberOfCategoryLevels,SchoolBenchmarkMinPercentileRank,SchoolBenchmarkMaxPercentileRank,"
    "CurrentSGP,Quantile,TakenAt,TakenAtByIPAddress,StudentDisplayID,TeacherDisplayID,SATBenchmarkCategory,"
    "ACTBenchmarkCategory"
)
STAR_CATEGORIES = ("Urgent Intervention", "Intervention", "On Watch", "At/Above Benchmark")
STAR_FLOORS = (1, 10, 25, 40)
STAR_WINDOWS = ("Fall", "Winter", "Spring")


def nth_elementary(people: People, place: int) -> int:
    """The place-th elementary school, counting round where there are fewer."""
    elementary = np.flatnonzero(~people.schools["middle"].to_numpy())
    return int(elementary[place % len(elementary)])


def rank_of(z: NDArray[np.float64]) -> Ints:
    """National percentile rank, 1 to 99."""
    return np.clip(np.rint(100 * ndtr(z)), 1, 99).astype(np.int64)


def sit(people: People, schools: list[int], window: int, rng: np.random.Generator, shift_days: int = 0) -> pl.DataFrame:
    """One sitting per student enrolled in these schools: student, school, class, day, z, rank (national percentile)."""
    first, last = people.calendar.windows[window]
    days = people.calendar.weekdays(first, last)
    students = people.students.height
    day = days[rng.integers(0, len(days), students)] + shift_days
    day -= np.maximum((day + 3) % 7 - 4, 0)
    place = people.class_on(day)
    school = people.classes["school"].to_numpy()[place]
    there = np.isin(school, schools) & people.enrolled_on(day) & (rng.random(students) < COVERED)
    z = people.ability[window] + rng.normal(0, MEASUREMENT_SD * 1.3, students)
    return pl.DataFrame(
        {
            "student": np.arange(students),
            "school": school,
            "class": place,
            "day": day,
            "z": z,
            "rank": rank_of(z),
            "window": np.full(students, window),
        }
    ).filter(pl.Series(there))


def with_people(people: People, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of tests with the traits of their students and the names of school and class."""
    return rows.with_columns(
        people.students.select(
            "grade",
            "local_id",
            "state_id",
            "first_name",
            "last_name",
            "sex",
            "race",
            "born",
            "english_learner",
            "special_education",
            "low_income",
        )[rows["student"]],
        school_name=people.schools["name"].gather(rows["school"]),
        state_number=people.schools["state_number"].gather(rows["school"]),
        school_id=people.schools["school_id"].gather(rows["school"]),
        class_title=people.classes["title"].gather(rows["class"]),
        class_id=people.classes["class_id"].gather(rows["class"]),
        teacher=people.classes["teacher"].gather(rows["class"]) + 1,
    )


def write_iready(people: People, folder: Path, seed: int) -> list[Path]:
    """Year-to-date file of three schools: UTF-8 with BOM, CRLF, dates without leading zeros."""
    rng = np.random.default_rng([seed, people.number, 10])
    schools = sorted({nth_elementary(people, place) for place in IREADY_SCHOOLS})
    tests = [sit(people, schools, window, rng) for window in range(3)]
    rushed = tests[0].sample(fraction=0.02, seed=seed).with_columns(pl.col("day") - 7, pl.col("z") - 1.0)
    rushed = rushed.with_columns(rank=rank_of(rushed["z"].to_numpy()), rush=pl.lit("Red Rush Flag"))
    rows = pl.concat([*(test.with_columns(rush=pl.lit(None, dtype=pl.String)) for test in tests), rushed])
    rows = with_people(people, rows.sort("school", "student", "day"))
    grade = rows["grade"].to_numpy()
    window = rows["window"].to_numpy()
    score = np.rint(MID_ON_GRADE[grade] - 16 + 7 * window + 27 * rows["z"].to_numpy()).astype(np.int64).clip(100, 800)
    rows = rows.with_columns(score=pl.Series(score))
    first = pl.col("score").first().over("student")
    gain = pl.col("score") - first
    quantile = ((pl.col("score") - 358) * 6) // 5 * 5
    day = day_text("day", "%-m/%-d/%Y")
    columns: dict[str, Any] = {
        "Last Name": "last_name",
        "First Name": "first_name",
        "Student ID": "local_id",
        "Student Grade": grade_text(pl.col("grade")),
        "Academic Year": pl.lit(people.calendar.title),
        "School": "school_name",
        "Enrolled": pl.lit("Enrolled"),
        "Student State ID": "state_id",
        "User Name": pl.format("user{}", "local_id"),
        "Sex": "sex",
        "Hispanic or Latino": _y_n(pl.col("race") == "Hispanic or Latino"),
        "Race": "race",
        "English Language Learner": _y_n(pl.col("english_learner")),
        "Special Education": _y_n(pl.col("special_education")),
        "Economically Disadvantaged": _y_n(pl.col("low_income")),
        "Class(es)": "class_title",
        "Class Teacher(s)": pl.format("Teacher {}", "teacher"),
        "Start Date": day,
        "Completion Date": day,
        "Norming Window": pl.Series(NORMING_WINDOWS).gather(window),
        "Baseline Diagnostic (Y/N)": _y_n(pl.int_range(pl.len()).over("student") == 0),
        "Most Recent Diagnostic YTD (Y/N)": _y_n(
            pl.int_range(pl.len()).over("student") == pl.len().over("student") - 1
        ),
        "Duration (min)": pl.Series(rng.integers(28, 75, rows.height)),
        "Rush Flag": "rush",
        "Read Aloud": pl.lit("Off"),
        "Overall Scale Score": "score",
        "Percentile": "rank",
        "Grouping": pl.lit(1) + (pl.col("rank") // 34),
        "Quantile Measure": _quantile(quantile),
        "Quantile Range": pl.format("{}-{}", _quantile(quantile - 50), _quantile(quantile + 50)),
        "Diagnostic Gain": gain,
        "Annual Typical Growth Measure": pl.lit(27) - pl.col("grade") * 2,
        "Annual Stretch Growth Measure": pl.lit(43) - pl.col("grade") * 3,
        "Percent Progress to Annual Typical Growth (%)": (gain * 100) // (27 - pl.col("grade") * 2),
        "Percent Progress to Annual Stretch Growth (%)": (gain * 100) // (43 - pl.col("grade") * 3),
        "Mid On Grade Level Scale Score": pl.Series(MID_ON_GRADE[grade]),
        "Proficiency if Student Shows No Additional Growth": pl.format("Level {}", pl.col("rank") // 25 + 1),
        **_placed("Overall", grade, score),
    }
    for domain in IREADY_DOMAINS:
        part = score + np.rint(rng.normal(0, 12, len(score))).astype(np.int64)
        columns |= {f"{domain} Scale Score": pl.Series(part), **_placed(domain, grade, part)}
    return [
        write(
            folder / "diagnostic_results_math_CONFIDENTIAL.csv",
            IREADY_HEADER,
            in_order(IREADY_HEADER, rows.select(**columns)),
            exported=date(people.calendar.year, 6, 6),
            line_end="\r\n",
            bom=True,
        )
    ]


def _placed(domain: str, grade: Ints, score: Ints) -> dict[str, pl.Series]:
    """Placement and relative placement of a scale score."""
    reached = np.searchsorted(EARLY_ON_GRADE, score, side="right") - 1
    part = np.where(score < MID_ON_GRADE[grade], 0, np.where(score < MID_ON_GRADE[grade] + 9, 1, 2))
    texts = pl.DataFrame({"reached": reached, "grade": grade, "part": part})
    on_grade = pl.format("{} {}", pl.Series(("Early", "Mid", "Late")).gather(part), grade_text(pl.col("grade")))
    placement = (
        pl.when(pl.col("reached") < 0)
        .then(pl.lit("Emerging K"))
        .when(pl.col("reached") == pl.col("grade"))
        .then(on_grade)
        .otherwise(pl.format("Grade {}", grade_text(pl.col("reached"))))
    )
    below = np.clip(grade - reached, 0, 3)
    relative = np.where(below > 0, below + 1, np.where(score < MID_ON_GRADE[grade], 1, 0))
    return {
        f"{domain} Placement": texts.select(placement).to_series(),
        f"{domain} Relative Placement": pl.Series(RELATIVE).gather(relative),
    }


def _y_n(true: pl.Expr) -> pl.Expr:
    return pl.when(true).then(pl.lit("Y")).otherwise(pl.lit("N"))


def _quantile(value: pl.Expr) -> pl.Expr:
    """Quantile measure as text; below zero it is "emerging"."""
    return pl.when(value < 0).then(pl.format("EM{}Q", -value)).otherwise(pl.format("{}Q", value))


def write_star(people: People, folder: Path, seed: int) -> list[Path]:
    """Star Math of one school: some tests outside every window, a few deactivated, some late in the day."""
    rng = np.random.default_rng([seed, people.number, 11])
    schools = [nth_elementary(people, STAR_SCHOOL)]
    windows = [sit(people, schools, window, rng) for window in range(3)]
    outside = sit(people, schools, 1, rng, shift_days=35).sample(fraction=0.1, seed=seed)
    rows = pl.concat(
        [*(test.with_columns(inside=pl.lit(True)) for test in windows), outside.with_columns(inside=pl.lit(False))]
    )
    rows = with_people(people, rows).filter(pl.col("grade") > 0).sort("day", "student")
    count = rows.height
    seconds = 8 * 3600 + rng.integers(0, 6 * 3600, count)
    seconds = np.where(rng.random(count) < 0.03, 18 * 3600 + rng.integers(0, 3600, count), seconds)
    rows = rows.with_columns(
        local=(pl.col("day").cast(pl.Int64) * 86_400 + pl.Series(seconds)).mul(1_000).cast(pl.Datetime("ms")),
        level=pl.Series(np.searchsorted(STAR_FLOORS, rows["rank"].to_numpy(), side="right") - 1),
        gone=pl.Series(rng.random(count) < 0.01),
        rasch=pl.col("z") * 1.15 + (pl.col("grade") - 4) * 0.7 + pl.col("window") * 0.2,
    )
    first, last = (
        pl.Series([window[side] for window in people.calendar.windows]).gather(rows["window"]) for side in (0, 1)
    )
    stamp = "%Y-%m-%dT%H:%M:%S%.3fZ"
    midnight = "%Y-%m-%dT00:00:00Z"
    utc = pl.col("local").dt.replace_time_zone("America/Denver").dt.convert_time_zone("UTC")
    year = people.calendar
    inside = pl.col("inside")
    level = rows["level"]
    floor = pl.Series(STAR_FLOORS).gather(level)
    ceiling = pl.Series((9, 24, 39, 99)).gather(level)
    columns: dict[str, Any] = {
        "RenaissanceClientID": pl.lit(str(1000 + people.number)),
        "SchoolYear": pl.lit(year.title),
        "SchoolYearStartDate": pl.lit(f"{year.first}T00:00:00Z"),
        "SchoolYearEndDate": pl.lit(f"{year.last}T00:00:00Z"),
        "StudentRenaissanceID": _uuid(1, pl.col("student") + 1),
        "StudentSourcedID": pl.format("S{}", "local_id"),
        "StudentIdentifier": "local_id",
        "StudentUserID": pl.format("student{}", "local_id"),
        "StudentStateID": "state_id",
        "StudentFirstName": "first_name",
        "StudentLastName": "last_name",
        "Gender": pl.col("sex").replace_strict({"female": "F", "male": "M"}),
        "BirthDate": pl.col("born").dt.strftime(midnight),
        "CurrentGrade": "grade",
        "EnrollmentStatus": pl.lit("Enrolled"),
        "DistrictSourcedID": pl.lit("ORG0000"),
        "DistrictIdentifier": pl.lit(f"{people.number * 10:04d}"),
        "DistrictName": pl.lit(people.district_name),
        "SchoolSourcedID": pl.format("vchSISSchoolID={}", "state_number"),
        "SchoolIdentifier": "state_number",
        "SchoolStateID": "state_number",
        "SchoolName": "school_name",
        "ClassSourcedID": "class_id",
        "GroupOrClassName": "class_title",
        "TeacherFirstName": pl.format("Given {}", "teacher"),
        "TeacherLastName": pl.format("Teacher {}", "teacher"),
        "AssessmentID": _uuid(2, pl.int_range(1, pl.len() + 1)),
        "LaunchDate": utc.dt.offset_by("-22m").dt.strftime(stamp),
        "CompletedDate": utc.dt.strftime(stamp),
        "CompletedDateLocal": pl.col("local").dt.strftime(stamp),
        "AssessmentNumber": pl.int_range(1, pl.len() + 1).over("student"),
        "AssessmentType": pl.lit("Enterprise"),
        "AssessmentStatus": pl.when("gone").then(pl.lit("Deactivated")).otherwise(pl.lit("Active")),
        "DeactivationReason": pl.when("gone").then(pl.lit("Student did not finish")),
        "GradePlacement": pl.format("{}.{}", "grade", pl.col("window") * 4),
        "Grade": "grade",
        "ExtraTime": pl.lit("No"),
        "Audio": pl.lit("No"),
        "ScaledScore": (pl.col("rasch") * 75 + 560).round().cast(pl.Int64).clip(0, 1400),
        "StandardErrorOfMeasurement": pl.Series(rng.uniform(0.3, 0.45, count)).round(6),
        "RaschScore": pl.col("rasch").round(4),
        "UnifiedScore": (pl.col("rasch") * 52 + 970).round().cast(pl.Int64).clip(0, 1400),
        "PercentileRank": "rank",
        "NormalCurveEquivalent": (50 + 21.06 * pl.col("z")).clip(1, 99).round(1),
        "TotalTimeInSeconds": pl.Series(rng.integers(500, 2000, count)),
        "TotalCorrect": pl.Series(rng.integers(12, 30, count)),
        "TotalPossible": pl.lit(34),
        "ScreeningPeriodWindowName": pl.when(inside).then(pl.Series(STAR_WINDOWS).gather(rows["window"])),
        "ScreeningWindowStartDate": pl.when(inside).then(first.dt.strftime(midnight)),
        "ScreeningWindowEndDate": pl.when(inside).then(last.dt.strftime(midnight)),
        "TakenAt": pl.lit("school"),
    }
    for system in ("Renaissance", "District"):
        name = f"{system}BenchmarkCategory"
        levels = f"{name}NumberOfLevels" if system == "Renaissance" else "DistrictBenchmarkNumberOfCategoryLevels"
        edge = name if system == "Renaissance" else "DistrictBenchmark"
        columns |= {
            f"{name}Name": pl.Series(STAR_CATEGORIES).gather(level),
            f"{name}Level": 4 - pl.col("level"),
            levels: pl.lit(4),
            f"{edge}MinPercentileRank": floor,
            f"{edge}MaxPercentileRank": ceiling,
        }
    return [
        write(
            folder / "SM_v2.csv",
            STAR_HEADER,
            in_order(STAR_HEADER, rows.select(**columns)),
            exported=people.calendar.windows[2][1] + timedelta(days=10),
        )
    ]


def _uuid(space: int, number: pl.Expr) -> pl.Expr:
    return pl.format(f"{space:08d}-0000-4000-8000-{{}}", number.cast(pl.String).str.zfill(12))
