"""NWEA MAP Growth `AssessmentResults`, one file per term. The norm is invented: a smooth mean and a deviation of 15."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pipelines.simulate.files import ROWS_AT_ONCE, day_text, in_order, write
from pipelines.simulate.people import MEASUREMENT_SD, Floats, Ints, People, days_of

SCORE_SD = 15.0
SEASONS = ("Fall", "Winter", "Spring")
SPANS = (
    "FallToFall",
    "FallToWinter",
    "FallToSpring",
    "WinterToWinter",
    "WinterToSpring",
    "SpringToSpring",
)
GROWTH = (
    "ProjectedGrowth",
    "ObservedGrowth",
    "ObservedGrowthSE",
    "MetProjectedGrowth",
    "ConditionalGrowthIndex",
    "ConditionalGrowthPercentile",
    "GrowthQuintile",
)
SITTING = """
    TermName DistrictName District_StateID SchoolName School_StateID StudentID Student_StateID Subject Course
    GrowthMeasureYN NormsReferenceData WISelectedAYFall WISelectedAYWinter WISelectedAYSpring WIPreviousAYFall
    WIPreviousAYWinter WIPreviousAYSpring TestType TestName TestID TestStartDate TestStartTime TestDurationMinutes
    TestRITScore TestStandardError TestPercentile AchievementQuintile PercentCorrect RapidGuessingPercentage
"""
HEADER = (
    *SITTING.split(),
    *(f"{span}{what}" for span in SPANS for what in GROWTH),
    *(f"{scale}{what}" for scale in ("Lexile", "Quantile") for what in ("Score", "Min", "Max")),
    *(f"Goal{n}{what}" for n in range(1, 9) for what in ("Name", "RitScore", "StdErr", "Range", "Adjective")),
    *(f"Typical{span}Growth" for span in SPANS),
    *(f"ProjectedProficiency{what}{n}" for n in range(1, 11) for what in ("Study", "Level")),
)
QUINTILES = ("Low", "LoAvg", "Avg", "HiAvg", "High")
LOWER_GOALS = (
    "Operations and Algebraic Thinking",
    "Number and Operations",
    "Measurement and Data",
    "Geometry",
)
UPPER_GOALS = (
    "Expressions, Equations, and Functions",
    "The Real and Complex Number Systems",
    "Statistics, Data, and Probability",
    "Geometry",
)

TESTED, COVERED_BADLY = 0.965, 0.55
RETESTED, MADE_UP, SCREENED, SCIENCE = 0.04, 0.10, 0.3, 0.5
FIRST_ID = 711_000_000


def mean_score(grade: Ints | int, window: int) -> Floats:
    """Mean of the invented norm: rises fast in the first years, then slowly."""
    return np.asarray(141.5 + 92 * (1 - np.exp(-(np.asarray(grade) + 0.32 * window) / 4.6)))


def percentile(score: Floats, mean: Floats) -> Ints:
    """National percentile rank, 1 to 99."""
    return np.clip(np.rint(100 * ndtr((score - mean) / SCORE_SD)), 1, 99).astype(np.int64)


@dataclass(frozen=True)
class Sittings:
    """Tests of all students in one window: the one that counts for growth."""

    tested: NDArray[np.bool_]
    day: Ints
    score: Ints
    error: Ints
    """Standard error, in tenths."""


def write_map_growth(people: People, folder: Path, seed: int) -> list[Path]:
    """Three files, each the whole truth of its term."""
    sittings = [_sit(people, window, seed) for window in range(3)]
    paths = []
    for window, (_, last) in enumerate(people.calendar.windows):
        name = f"AssessmentResults_{SEASONS[window]}_{people.calendar.title}.csv"
        rows = _rows(people, sittings, window, seed)
        paths.append(
            write(folder / name, HEADER, _lines(people, rows), exported=last + timedelta(days=10), quote="always")
        )
    return paths


def _sit(people: People, window: int, seed: int) -> Sittings:
    rng = np.random.default_rng([seed, people.number, 2, window])
    students = people.students.height
    first, last = people.calendar.windows[window]
    school_days = people.calendar.weekdays(first, last)
    class_day = rng.integers(0, len(school_days) - 8, people.classes.height)
    late = np.where(rng.random(students) < MADE_UP, rng.integers(1, 7, students), 0)
    day = school_days[class_day[people.class_on(np.full(students, days_of(first)))] + late]
    school = people.classes["school"].to_numpy()[people.class_on(day)]
    badly = people.covers_badly[school] & (window == 1)
    tested = (rng.random(students) < np.where(badly, COVERED_BADLY, TESTED)) & people.enrolled_on(day)
    observed = people.ability[window] + rng.normal(0, MEASUREMENT_SD, students)
    score = np.rint(mean_score(people.column("grade"), window) + SCORE_SD * observed).astype(np.int64)
    return Sittings(tested, day, np.clip(score, 100, 320), rng.integers(28, 36, students))


def _rows(people: People, sittings: list[Sittings], window: int, seed: int) -> pl.DataFrame:
    """One row per test of the term, numbers only: growth tests, retests, screening tests of K-2, science."""
    rng = np.random.default_rng([seed, people.number, 3, window])
    now = sittings[window]
    grade = people.column("grade")
    who = np.flatnonzero(now.tested)
    growth = {
        "student": who,
        "day": now.day[who],
        "score": now.score[who],
        "error": now.error[who],
        "rapid": np.where(rng.random(len(who)) < 0.05, rng.integers(1, 20, len(who)), 0),
        "kind": np.zeros(len(who), np.int64),
        "counts": np.ones(len(who), np.int64),
    }
    again = who[rng.random(len(who)) < RETESTED]
    worse = rng.random(len(again)) < 0.7
    tests = [
        growth,
        {
            **growth,
            "student": again,
            "day": now.day[again] + np.where(worse, -4, 7),
            "score": now.score[again]
            + np.where(worse, -rng.integers(4, 12, len(again)), rng.integers(-4, 5, len(again))),
            "error": now.error[again] + rng.integers(2, 9, len(again)),
            "rapid": np.where(worse, rng.integers(15, 30, len(again)), 0),
            "kind": np.zeros(len(again), np.int64),
            "counts": np.zeros(len(again), np.int64),
        },
    ]
    for kind, chosen in (
        (1, who[(grade[who] <= 2) & (rng.random(len(who)) < SCREENED)] if window == 0 else who[:0]),
        (2, who[np.isin(grade[who], (5, 8)) & (rng.random(len(who)) < SCIENCE)] if window != 1 else who[:0]),
    ):
        tests.append(
            {
                "student": chosen,
                "day": now.day[chosen] + kind,
                "score": now.score[chosen] + np.rint(rng.normal(0, 8, len(chosen))).astype(np.int64),
                "error": now.error[chosen] + 1,
                "rapid": np.zeros(len(chosen), np.int64),
                "kind": np.full(len(chosen), kind),
                "counts": np.full(len(chosen), int(kind == 2)),
            }
        )
    column = {name: np.concatenate([test[name] for test in tests]) for name in growth}
    column["day"] -= np.maximum((column["day"] + 3) % 7 - 4, 0)
    column["at"] = 8 * 3600 + 900 + rng.integers(0, 5 * 3600, len(column["student"]))
    column["minutes"] = rng.integers(22, 68, len(column["student"]))
    column["correct"] = rng.integers(44, 58, len(column["student"]))
    where = people.class_on(column["day"], column["student"])
    column["school"] = people.classes["school"].to_numpy()[where]
    column["window"] = np.full(len(where), window)
    rank = percentile(column["score"].astype(np.float64), mean_score(grade[column["student"]], window))
    column["rank"] = rank
    for goal in range(1, 5):
        column[f"goal{goal}"] = column["score"] + np.rint(rng.normal(0, 5, len(where))).astype(np.int64)
    for start in range(window):
        then = sittings[start]
        column[f"from{start}"] = np.where(
            then.tested[column["student"]] & (column["counts"] == 1) & (column["kind"] == 0),
            then.score[column["student"]],
            0,
        )
    column["id"] = rng.permutation(len(where)) + FIRST_ID + people.number * 30_000_000 + window * 10_000_000
    return pl.DataFrame(column).sort("school", "student", "kind", "day", "counts")


def _lines(people: People, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for start in range(0, rows.height, ROWS_AT_ONCE):
        yield _text(people, rows.slice(start, ROWS_AT_ONCE))


def _text(people: People, rows: pl.DataFrame) -> pl.DataFrame:
    """Tests in the vendor's columns and spellings."""
    grade = people.column("grade")[rows["student"].to_numpy()]
    window = int(rows["window"][0])
    mean = mean_score(grade, window)
    schools = people.schools
    year = people.calendar.title
    growth, screening, science = (pl.col("kind") == kind for kind in range(3))
    rows = rows.with_columns(
        people.students.select("local_id", "state_id", "grade")[rows["student"]],
    )
    quintile_of = pl.Series(QUINTILES)
    test_name = (
        pl.when(screening)
        .then(pl.lit("Screening: Math K-2"))
        .when(science)
        .then(pl.lit("Growth: Science 3-8"))
        .when(pl.col("grade") <= 1)
        .then(pl.lit("Growth: Math K-2 CCSS 2010"))
        .when(pl.col("grade") <= 4)
        .then(pl.lit("Growth: Math 2-5 CCSS 2010"))
        .otherwise(pl.lit("Growth: Math 6+ CCSS 2010"))
    )
    columns: dict[str, Any] = {
        "TermName": pl.lit(f"{SEASONS[window]} {year}"),
        "DistrictName": pl.lit(people.district_name),
        "District_StateID": pl.lit(f"{people.number * 10:04d}"),
        "SchoolName": schools["name"].gather(rows["school"]),
        "School_StateID": schools["state_number"].gather(rows["school"]),
        "StudentID": "local_id",
        "Student_StateID": "state_id",
        "Subject": pl.when(science).then(pl.lit("Science")).otherwise(pl.lit("Mathematics")),
        "Course": pl.when(science).then(pl.lit("Science K-12")).otherwise(pl.lit("Math K-12")),
        "GrowthMeasureYN": pl.when(pl.col("counts") == 1).then(pl.lit("TRUE")).otherwise(pl.lit("FALSE")),
        "NormsReferenceData": pl.when(~screening).then(pl.lit("2020")),
        f"WISelectedAY{SEASONS[window]}": pl.when(~screening).then(pl.lit((4, 20, 32)[window])),
        "TestType": pl.when(screening).then(pl.lit("Survey")).otherwise(pl.lit("Survey With Goals")),
        "TestName": test_name,
        "TestID": pl.when(~screening).then("id"),
        "TestStartDate": day_text("day", "%m/%d/%Y"),
        "TestStartTime": pl.col("at").cast(pl.Int64).mul(1_000_000_000).cast(pl.Time).dt.strftime("%H:%M:%S"),
        "TestDurationMinutes": "minutes",
        "TestRITScore": "score",
        "TestStandardError": _tenths(pl.col("error"), "0"),
        "TestPercentile": pl.when(~screening).then("rank"),
        "AchievementQuintile": pl.when(~screening).then(
            quintile_of.gather(np.minimum((rows["rank"].to_numpy() - 1) // 20, 4))
        ),
        "PercentCorrect": "correct",
        "RapidGuessingPercentage": pl.format("{}.0000", "rapid"),
    }
    for goal in range(1, 5):
        score = pl.col(f"goal{goal}")
        rank = percentile(rows[f"goal{goal}"].to_numpy().astype(np.float64), mean)
        names = (
            pl.when(pl.col("grade") <= 4).then(pl.lit(LOWER_GOALS[goal - 1])).otherwise(pl.lit(UPPER_GOALS[goal - 1]))
        )
        columns |= {
            f"Goal{goal}Name": pl.when(growth).then(names),
            f"Goal{goal}RitScore": pl.when(growth).then(score),
            f"Goal{goal}StdErr": pl.when(growth).then(_tenths(pl.col("error") * 2 - 1)),
            f"Goal{goal}Range": pl.when(growth).then(pl.format("{}-{}", score - 6, score + 6)),
            f"Goal{goal}Adjective": pl.when(growth).then(quintile_of.gather(np.minimum((rank - 1) // 20, 4))),
        }
    for start in range(window):
        columns |= _growth(rows, grade, start, window)
    for end in range(window + 1, 3):
        typical = np.rint(mean_score(grade, end) - mean).astype(np.int64)
        columns[f"Typical{SEASONS[window]}To{SEASONS[end]}Growth"] = pl.when(growth).then(pl.Series(typical))
    columns["ProjectedProficiencyStudy1"] = pl.when(growth & (pl.col("grade") >= 3)).then(pl.lit("State Test"))
    columns["ProjectedProficiencyLevel1"] = pl.when(growth & (pl.col("grade") >= 3)).then(
        pl.format("Level {}", pl.col("rank").clip(1, 99) // 25 + 1)
    )
    return in_order(HEADER, rows.select(**columns))


def _growth(rows: pl.DataFrame, grade: Ints, start: int, end: int) -> dict[str, pl.Expr]:
    """Observed against projected growth between two windows of the year, in the export of the later one."""
    before = rows[f"from{start}"].to_numpy()
    projected = np.rint(mean_score(grade, end) - mean_score(grade, start)).astype(np.int64)
    observed = rows["score"].to_numpy() - before
    index = np.rint((observed - projected) / 6 * 100).astype(np.int64)
    rank = np.clip(np.rint(100 * ndtr(index / 100)), 1, 99).astype(np.int64)
    near = np.abs(observed - projected) <= 3
    met = np.where(observed >= projected, 0, 1) * 2 + near
    sign = np.where(index < 0, "-", "")
    size = pl.Series(np.abs(index))
    span = f"{SEASONS[start]}To{SEASONS[end]}"
    values: dict[str, Any] = {
        "ProjectedGrowth": pl.Series(projected),
        "ObservedGrowth": pl.Series(observed),
        "ObservedGrowthSE": pl.lit("4.5"),
        "MetProjectedGrowth": pl.Series(("Yes", "Yes*", "No", "No*")).gather(met),
        "ConditionalGrowthIndex": pl.format(
            "{}{}.{}", pl.Series(sign), size // 100, (size % 100).cast(pl.String).str.zfill(2)
        ),
        "ConditionalGrowthPercentile": pl.Series(rank),
        "GrowthQuintile": pl.Series(QUINTILES).gather(np.minimum((rank - 1) // 20, 4)),
    }
    known = pl.col(f"from{start}") > 0
    return {f"{span}{name}": pl.when(known).then(value) for name, value in values.items()}


def _tenths(value: pl.Expr, tail: str = "") -> pl.Expr:
    return pl.format(f"{{}}.{{}}{tail}", value // 10, value % 10)


def corrected_school_file(district_dir: Path, out_file: Path, seed: int = 1, share: float = 0.02) -> pl.DataFrame:
    """A later export of one school's spring term in which about ``share`` of the math growth scores changed.

    The school is drawn by the seed; percentile and quintile follow the score, nothing else differs. The file's
    time is 14 days after that of the term's file.

    Returns:
        One row per changed test: SchoolName, StudentID, TestID, score and percentile before and after.
    """
    source = next((district_dir / "map_growth").glob("AssessmentResults_Spring_*.csv"))
    rows = pl.read_csv(source, infer_schema=False).with_row_index("row")
    schools = rows["SchoolName"].unique().sort()
    rng = np.random.default_rng([seed, 5])
    rows = rows.filter(pl.col("SchoolName") == schools[int(rng.integers(len(schools)))])
    may = rows.select((pl.col("Subject") == "Mathematics") & (pl.col("GrowthMeasureYN") == "TRUE")).to_series()
    among = np.flatnonzero(may.to_numpy())
    chosen = np.sort(rng.choice(among, max(1, round(share * len(among))), replace=False))
    change = rng.integers(1, 7, len(chosen)) * rng.choice((-1, 1), len(chosen))
    old = rows[chosen].select(
        "SchoolName", "StudentID", "TestID", before="TestRITScore", percentile_before="TestPercentile"
    )
    rank = old["percentile_before"].cast(pl.Float64).to_numpy()
    new_rank = np.clip(np.rint(100 * ndtr(ndtri(rank / 100) + change / SCORE_SD)), 1, 99).astype(np.int64)
    changed = old.with_columns(
        after=(old["before"].cast(pl.Int64) + pl.Series(change)).cast(pl.String),
        percentile_after=pl.Series(new_rank).cast(pl.String),
    )
    updates = changed.select(
        row=rows["row"].gather(chosen),
        TestRITScore="after",
        TestPercentile="percentile_after",
        AchievementQuintile=pl.Series(QUINTILES).gather(np.minimum((new_rank - 1) // 20, 4)),
    )
    corrected = rows.update(updates, on="row").drop("row")
    exported = datetime.fromtimestamp(source.stat().st_mtime, UTC).date() + timedelta(days=14)
    write(out_file, HEADER, corrected, exported=exported, quote="always")
    return changed
