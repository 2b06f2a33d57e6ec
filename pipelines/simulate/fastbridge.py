"""FastBridge: aMath and CBMmath CAP, wide with one block per season, and probes of progress monitoring."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.simulate.files import day_text, in_order, names, write
from pipelines.simulate.groups import plan_cycles, probes_of
from pipelines.simulate.people import People
from pipelines.simulate.screeners import nth_elementary, sit, with_people

AMATH_SCHOOLS, CAP_SCHOOL = (4, 5), 4
SEASONS = ("Fall", "Winter", "Spring", "Screening Period 4", "Screening Period 5")
PERSON = names(
    "Assessment,Assessment Language,State,District,School,Local ID,State ID,FAST ID,First Name,Last Name,Gender,DOB,"
    "Race,Special Ed. Status,Grade,"
)
GROWTH = (
    "Growth Score from {} to {}",
    "School Growth Percentile from {} to {}",
    "District Growth Percentile from {} to {}",
    "National Growth Percentile from {} to {}",
    "Growth Percentile by Start Score from {} to {}",
)
PROGRESS_HEADER = names(
    "Assessment,State,District,School,Student Id,Student State Id,Fast ID,First Name,Last Name,Gender,BirthDate,Race,"
    "SpecialEdStatus,Grade,AssessmentDate,ScoreMetric,Score,Start Goal,End Goal,Goal Start Date,Goal End Date,"
    "Assessment Level"
)
PROGRESS_NAMES = {
    "Local ID": "Student Id",
    "State ID": "Student State Id",
    "FAST ID": "Fast ID",
    "DOB": "BirthDate",
    "Special Ed. Status": "SpecialEdStatus",
}
GRADE_WORDS = ("Kindergarten", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")
FIRST_FAST_ID = 2_340_000


def wide_header(score: str, measure: str, *, quantiles: bool) -> list[str]:
    """Sixteen columns of the student, the last without a name, then a block per season."""
    header = list(PERSON)
    for place, season in enumerate(SEASONS):
        header += [f"{season} {score}"]
        header += [f"{season} {measure} Percentile at {where}" for where in ("School", "LEA", "Nation")]
        header += [f"{season} {measure} Risk Level", f"{season} {measure} Final Date"]
        header += [name.format(start, season) for start in SEASONS[:place] for name in GROWTH]
    return header + ([f"{season} Quantile" for season in SEASONS] if quantiles else [])


AMATH_HEADER = wide_header("aMath Test Theta", "aMath", quantiles=True)
CAP_HEADER = wide_header("CBMmath CAP IC per ten minute", "CBMmath CAP", quantiles=False)


def write_fastbridge(people: People, folder: Path, seed: int) -> list[Path]:
    """aMath of two schools, CAP of one, probes of the school that keeps them in FastBridge."""
    amath = sorted({nth_elementary(people, place) for place in AMATH_SCHOOLS})
    cap = [nth_elementary(people, CAP_SCHOOL)]
    ends = date(people.calendar.year, 6, 6)
    return [
        write(folder / "aMath.csv", AMATH_HEADER, _wide(people, amath, seed, "aMath", AMATH_HEADER), exported=ends),
        write(
            folder / "CBMmath_CAP.csv",
            CAP_HEADER,
            _wide(people, cap, seed, "CBMmath CAP", CAP_HEADER),
            exported=ends,
            line_end="\r\n",
        ),
        write(folder / "progress_monitoring.csv", PROGRESS_HEADER, _progress(people, seed), exported=ends),
    ]


def _person(people: People, rows: pl.DataFrame, assessment: str) -> dict[str, Any]:
    return {
        "Assessment": pl.lit(assessment),
        "Assessment Language": pl.lit("Assessment Language"),
        "State": pl.lit("CO"),
        "District": pl.lit(people.district_name),
        "School": "school_name",
        "Local ID": "local_id",
        "State ID": "state_id",
        "FAST ID": pl.col("student") + FIRST_FAST_ID,
        "First Name": "first_name",
        "Last Name": "last_name",
        "Gender": pl.col("sex").str.to_titlecase(),
        "DOB": pl.col("born").dt.strftime("%Y-%m-%d"),
        "Race": "race",
        "Special Ed. Status": pl.when("special_education").then(pl.lit("Special Ed")).otherwise(pl.lit("General Ed")),
        "Grade": pl.Series(GRADE_WORDS).gather(rows["grade"]),
    }


def _wide(people: People, schools: list[int], seed: int, assessment: str, header: list[str]) -> pl.DataFrame:
    """One row per student tested in any season; local percentiles are ranks among those in the file."""
    amath = assessment == "aMath"
    rng = np.random.default_rng([seed, people.number, 12 if amath else 13])
    tests = [sit(people, schools, window, rng) for window in range(3)]
    rows = pl.concat(tests).sort("window").unique("student", keep="last").sort("school", "student")
    rows = with_people(people, rows)
    date_form = "%m/%d/%Y" if amath else "%-m/%-d/%Y"
    scale: Callable[[pl.Expr, int], pl.Expr] = (
        (lambda z, window: (208 + pl.col("grade") * 3.5 + window * 2 + z * 9).round(5))
        if amath
        else (lambda z, window: (14 + pl.col("grade") * 1.5 + window * 4 + z * 8).clip(0.0).round(1))
    )
    score_name = header[len(PERSON)].removeprefix("Fall ")
    columns = _person(people, rows, assessment)
    for window, test in enumerate(tests):
        season = SEASONS[window]
        rows = rows.join(
            test.select("student", pl.col("z", "rank", "day").name.suffix(f"_{window}")), on="student", how="left"
        )
        z, rank = pl.col(f"z_{window}"), pl.col(f"rank_{window}")
        rows = rows.with_columns(scale(z, window).alias(f"score_{window}"))
        columns |= {
            f"{season} {score_name}": f"score_{window}",
            f"{season} {assessment} Percentile at School": _local(z, "school", "grade"),
            f"{season} {assessment} Percentile at LEA": _local(z, "grade"),
            f"{season} {assessment} Percentile at Nation": rank.cast(pl.Float64),
            f"{season} {assessment} Risk Level": pl.when(rank < 15)
            .then(pl.lit("highRisk"))
            .when(rank < 40)
            .then(pl.lit("someRisk"))
            .when(rank.is_not_null())
            .then(pl.lit("lowRisk")),
            f"{season} {assessment} Final Date": day_text(f"day_{window}", date_form),
        }
        for start in range(window):
            weeks = (pl.col(f"day_{window}") - pl.col(f"day_{start}")) / 7
            grown = (pl.col(f"score_{window}") - pl.col(f"score_{start}")) / weeks
            columns[f"Growth Score from {SEASONS[start]} to {season}"] = grown.round(5)
        if amath:
            columns[f"{season} Quantile"] = _quantile(
                (pl.col("grade") * 110 + window * 40 + z * 130).round().cast(pl.Int64)
            )
    return in_order(header, rows.select(**columns))


def _local(z: pl.Expr, *group: str) -> pl.Expr:
    """Percentile among those tested in the group; with fewer than five the vendor writes N/A*."""
    share = (100 * (z.rank() - 0.5) / z.count()).over(group).round(5).cast(pl.String)
    return pl.when(z.is_not_null() & (z.count().over(group) < 5)).then(pl.lit("N/A*")).otherwise(share)


def _quantile(value: pl.Expr) -> pl.Expr:
    return pl.when(value < 0).then(pl.format("EM{}Q", -value)).when(value.is_not_null()).then(pl.format("{}Q", value))


def _progress(people: People, seed: int) -> pl.DataFrame:
    """One row per probe of the cycles whose school keeps probes here; Start Goal is 0, as it often is."""
    plan = plan_cycles(people, seed)
    probes = probes_of(people, plan, seed).filter(pl.col("in_fastbridge"))
    rows = with_people(people, probes.with_columns(pl.col("class_1").alias("class")))
    start, end = day_text("opened", "%-m/%-d/%Y"), day_text("planned_end", "%-m/%-d/%Y")
    person = _person(people, rows, "")
    columns: dict[str, Any] = {
        **{PROGRESS_NAMES.get(name, name): value for name, value in person.items() if name != "Assessment Language"},
        "Assessment": pl.format("AUTO L{} GOM", pl.col("measure").str.slice(-1)),
        "AssessmentDate": day_text("probed", "%-m/%-d/%Y"),
        "ScoreMetric": pl.lit("IC per ten minute"),
        "Score": "score",
        "Start Goal": pl.lit(0),
        "End Goal": pl.col("goal").cast(pl.Int64),
        "Goal Start Date": start,
        "Goal End Date": end,
    }
    return in_order(PROGRESS_HEADER, rows.select(**columns))
