"""DATAS tutoring files of one school: sessions without groups or plans, and the students tutored."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.simulate.files import in_order, names, write
from pipelines.simulate.people import NEED_BELOW, People, days_of, grade_text
from pipelines.simulate.screeners import nth_elementary, with_people

TUTORING_SCHOOL = 2
SESSIONS_HEADER = names("student_id,session_topic,session_date,session_duration,session_ratio,tutor_id")
STUDENTS_HEADER = names(
    "student_id,district_id,district_name,school_id,school_name,current_grade_level,gender,ethnicity,ell,iep,"
    "gifted_flag,homeless_flag,disability,economic_disadvantage,ela_outcome_measure_1,ela_outcome_measure_2,"
    "ela_outcome_measure_3,math_outcome_measure_1,math_outcome_measure_2,math_outcome_measure_3,"
    "performance_level_previous,performance_level_most_recent,performance_level_earliest"
)


def write_tutoring(people: People, folder: Path, seed: int) -> list[Path]:
    """Twice a week from November to April for half of the school's students in need; one session in five is reading."""
    rng = np.random.default_rng([seed, people.number, 14])
    begins, ends = days_of(date(people.calendar.year - 1, 11, 3)), days_of(date(people.calendar.year, 4, 17))
    students = people.students.height
    day = np.full(students, begins)
    here = people.classes["school"].to_numpy()[people.class_on(day)] == nth_elementary(people, TUTORING_SCHOOL)
    who = np.flatnonzero(
        here & people.enrolled_on(day) & (people.ability[0] < NEED_BELOW) & (rng.random(students) < 0.5)
    )
    weeks = np.arange(begins, ends, 7)
    slots = (weeks[:, None] + np.array([1, 3])).ravel()
    rows = pl.DataFrame({"student": np.repeat(who, len(slots)), "day": np.tile(slots, len(who))})
    stays = people.column("ended")[rows["student"].to_numpy()] >= rows["day"].to_numpy()
    rows = rows.filter(pl.Series((rng.random(rows.height) < 0.8) & stays))
    at = (rows["day"].to_numpy() * 86_400 + 14 * 3600 + 2400 + rng.integers(0, 4, rows.height) * 600) * 1_000_000
    sessions = rows.select(
        student_id=people.students["local_id"].gather(rows["student"]),
        session_topic=pl.Series(("math", "ela")).gather((rng.random(rows.height) < 0.2).astype(np.int64)),
        session_date=pl.Series(at).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S"),
        session_duration=pl.Series(rng.integers(25, 46, rows.height)),
        session_ratio=pl.format("1:{}", pl.col("student") % 3 + 2),
        tutor_id=pl.format("TU{}", (pl.col("student") % 7 + 1).cast(pl.String).str.zfill(3)),
    )
    tutored = pl.DataFrame(
        {"student": who, "school": people.classes["school"].to_numpy()[people.column("class_1")[who]]}
    )
    named = with_people(people, tutored.with_columns(pl.Series("class", people.column("class_1")[who])))
    pupils = named.select(
        student_id="local_id",
        district_id=pl.lit(f"{people.number * 10:04d}"),
        district_name=pl.lit(people.district_name),
        school_id="state_number",
        school_name="school_name",
        current_grade_level=grade_text(pl.col("grade")),
        gender=pl.col("sex").str.to_titlecase(),
        ethnicity="race",
        ell=_flag("english_learner"),
        iep=_flag("special_education"),
        gifted_flag=pl.lit("FALSE"),
        disability=_flag("special_education"),
        economic_disadvantage=_flag("low_income"),
    )
    exported = date(people.calendar.year, 4, 24)
    return [
        write(folder / "sessions.csv", SESSIONS_HEADER, sessions, exported=exported),
        write(folder / "students.csv", STUDENTS_HEADER, in_order(STUDENTS_HEADER, pupils), exported=exported),
    ]


def _flag(column: str) -> pl.Expr:
    return pl.when(column).then(pl.lit("TRUE")).otherwise(pl.lit("FALSE"))
