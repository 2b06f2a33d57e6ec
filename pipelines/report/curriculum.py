"""What is known about the curriculum and the engagement of classes, in words: it stands beside a finding (METHOD 3.12).

A class of which nothing was reported is said to be not known, never to be aligned or not.
"""

from collections.abc import Iterable, Mapping

import polars as pl

from pipelines.report.reading import GRADE_ORDER, Reading, Record
from pipelines.report.words import NOT_KNOWN, counted, day, grade_name, number

ALIGNED: Mapping[bool | None, str] = {True: "aligned", False: "not aligned", None: "not reported"}
"""Whether a material is aligned to standards."""
_REPORT = {"class_id": pl.String, "material": pl.String, "is_aligned": pl.Boolean, "reported_on": pl.Date}
Reports = Mapping[tuple[object, ...], pl.DataFrame]
"""``ClassContext`` rows by class and window."""


def reports(reading: Reading) -> Reports:
    """The newest reports that each window knew of each class."""
    known = reading.table("projections.class_context").drop_nulls("newest_in")
    rows = known.with_columns(benchmark_window=pl.col("newest_in").str.split(";")).explode("benchmark_window")
    return reading.split(rows.sort("kind", "material", "reported_on"), "class_id", "benchmark_window")


def of_class(found: Reports, class_id: str, window: str) -> Record:
    """Materials of a class with their alignment and day, and what was observed of its engagement."""
    rows = found[class_id, window].to_dicts() if (class_id, window) in found else []
    return {
        "materials": [
            [_words(row["material"]), ALIGNED[row["is_aligned"]], day(row["reported_on"])]
            for row in rows
            if row["kind"] == "curriculum"
        ],
        "engagement": [
            f"{_words(row['engagement'])} ({day(row['reported_on'])})" for row in rows if row["kind"] == "engagement"
        ],
    }


def by_grade(found: Reports, classes: pl.DataFrame) -> list[list[str]]:
    """Grade, material, alignment, classes and day of the latest report; a row for the classes nothing is known of.

    Args:
        found: What ``reports`` gave.
        classes: Classes of one school and window: `grade`, `class_id`, `benchmark_window`.
    """
    return [
        [grade_name(grade), material, aligned, number(count), latest]
        for grade, material, aligned, count, latest in _counts(found, classes)
    ]


def told(found: Reports, classes: pl.DataFrame) -> list[str]:
    """The same as a phrase for each grade: `Grade 4: core program, aligned (2 classes); not known (1 class)`."""
    phrases: dict[str | None, list[str]] = {}
    for grade, material, aligned, count, _ in _counts(found, classes):
        what = NOT_KNOWN if material == NOT_KNOWN else f"{material}, {_plain(aligned)}"
        phrases.setdefault(grade, []).append(f"{what} ({counted(int(count), 'class', 'classes')})")
    return [f"{grade_name(grade)}: {'; '.join(said)}" for grade, said in phrases.items()]


def _plain(aligned: str) -> str:
    return "alignment not reported" if aligned == ALIGNED[None] else aligned


def _counts(found: Reports, classes: pl.DataFrame) -> Iterable[tuple[str | None, str, str, int, str]]:
    """Classes of each grade by material and alignment."""
    wanted = classes.select("grade", "class_id", "benchmark_window").unique()
    frames = [found[key] for key in wanted.select("class_id", "benchmark_window").rows() if key in found]
    none = pl.DataFrame(schema=_REPORT)
    said = pl.concat([none, *(each.filter(kind="curriculum").select(list(_REPORT)) for each in frames)])
    rows = (
        wanted.join(said.with_columns(is_known=pl.lit(value=True)), on="class_id", how="left")
        .group_by("grade", "is_known", "material", "is_aligned")
        .agg(classes=pl.col("class_id").n_unique(), latest=pl.col("reported_on").max())
        .sort(GRADE_ORDER, "grade", "is_known", "material", "is_aligned", nulls_last=True)
    )
    for grade, is_known, material, is_aligned, count, latest in rows.rows():
        what, aligned = (_words(material), ALIGNED[is_aligned]) if is_known else (NOT_KNOWN, NOT_KNOWN)
        yield grade, what, aligned, count, day(latest)


def _words(code: str | None) -> str:
    return NOT_KNOWN if code is None else code.replace("_", " ")
