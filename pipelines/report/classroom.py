"""A class: what is found and how sure, what came with the students, topics, and the chain back to the files."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import polars as pl

from pipelines.report import curriculum
from pipelines.report.page import Page, class_path, school_path
from pipelines.report.rates import Scale, coverage, need, rate
from pipelines.report.reading import WINDOW_ORDER, Reading, Record
from pipelines.report.school import TRAIL
from pipelines.report.words import (
    GUIDANCE,
    counted,
    day,
    decimal,
    number,
    percent,
    probability,
    yes_no,
)

MOST_FILES = 12
"""Files listed of a layout, the latest first; the others are counted."""


def pages(reading: Reading) -> Iterator[Page]:
    """One page per class."""
    of_class = reading.split(reading.current, "class_id")
    students = reading.split(_students(reading), "class_id", "benchmark_window")
    topics = reading.split(
        reading.table("projections.class_topic").sort("strand"), "class_id", "benchmark_window", "measure"
    )
    files, reported = _files(reading), curriculum.reports(reading)
    for (class_id,), rows in of_class.items():
        first = rows.filter("is_primary").to_dicts()
        latest = first[-1]
        at = (class_id, latest["benchmark_window"])
        members = _rows(students, at)
        school = reading.school(latest["school_id"])
        title = reading.names.classes.get(str(class_id)) if reading.names else None
        context = {
            "class_id": class_id,
            "school": school,
            "class_title": title,
            "latest": latest,
            "need": need(latest),
            "coverage": coverage(latest),
            "guidance": GUIDANCE[latest["level"]],
            "windows": first,
            "whiskers": [_whisker(row) for row in first],
            "scale": Scale.of(*(row["interval_high"] for row in first if row["tested"])),
            "others": [_other(row) for row in rows.filter(~pl.col("is_primary")).to_dicts()],
            "growth": _growth(latest),
            "topics": _topics(_rows(topics, (*at, latest["measure"]))),
            "curriculum": curriculum.of_class(reported, str(class_id), latest["benchmark_window"]),
            "statistics": _statistics(latest),
            "students": _listed(members, reading),
            "keys": reading.keys(row["subject_key"] for row in members),
            "counted": sum(row["is_counted"] for row in members),
            "tests": _tests(members, files),
        }
        name = latest["class_label"] or "Class without a label"
        trail = [*TRAIL, (school, school_path(latest["school_id"]))]
        yield Page(class_path(str(class_id)), f"{name}, {school}", "classroom.html", context, "schools", trail)


def _rows(groups: Mapping[tuple[object, ...], pl.DataFrame], key: tuple[object, ...]) -> list[Record]:
    return groups[key].to_dicts() if key in groups else []


def _whisker(row: Record) -> Record:
    return {
        "window": row["benchmark_window"],
        "measure": row["measure"],
        "need": need(row),
        "level": row["level"],
        "coverage": coverage(row),
        "p_above": row["p_above"],
        "is_persistent": row["is_persistent"],
        "band": row["guidance_band"],
    }


def _other(row: Record) -> Record:
    return _whisker(row) | {"is_concordant": row["is_concordant"]}


def _growth(row: Record) -> Record | None:
    """What came with the students, in words; null in fall, where everything did."""
    if row["benchmark_window"] == "fall":
        return None
    if row["observed"] is None or row["expected"] is None:
        matched = "" if row["matched"] is None else f" Of {number(row['tested'])} tested, {row['matched']} can be."
        return {
            "said": "Not known: too few students can be compared with students of the same fall level elsewhere."
            + matched,
            "excess": None,
            "row": None,
        }
    clear = {
        "more": "More are in need than chance explains.",
        "fewer": "Fewer are in need than chance explains.",
        "as_expected": "That is no clear difference.",
    }
    return {
        "said": f"Of {counted(row['matched'], 'student')} whose fall level is known and shared elsewhere,"
        f" {decimal(row['expected'])} were to be expected in need and {number(row['observed'])} are."
        f" {clear.get(row['growth_excess'], '')}".strip(),
        "excess": row["growth_excess"],
        "row": [
            number(row["matched"]),
            decimal(row["expected"]),
            number(row["observed"]),
            decimal(row["ratio"], 2),
            probability(row["p_at_least"]),
        ],
    }


def _topics(rows: Sequence[Record]) -> Record | None:
    """Strands of the test by name; null where the export has none."""
    if not rows:
        return None
    return {
        "scale": Scale.of(*(row["interval_high"] for row in rows)),
        "rows": [
            {
                "strand": row["strand"],
                "need": rate(row, "in_need", "tested", "need_share", "interval_low", "interval_high"),
                "p_above": row["p_above"],
                "is_topic": row["is_topic"],
            }
            for row in rows
        ],
    }


def _statistics(row: Record) -> list[tuple[str, str]]:
    """Everything the decision rests on, for who wants it."""
    return [
        ("Rule that decided", str(row["reason_code"]).replace("_", " ")),
        ("Class-need cut", str(row["need_cut"] or "not known")),
        ("Cut for Tier 2 or 3", str(row["recommended_cut"] or "not known")),
        ("Recommended Tier 2 or 3", number(row["recommended"])),
        ("Threshold of the rate", percent(row["tau"])),
        ("Prior shared with", str(row["prior_from"] or "not known").replace("_", " ")),
        ("Mean of the prior", percent(row["prior_mean"])),
        ("Strength of the prior, in students", decimal(row["prior_strength"])),
        ("Weight of the class's own share", percent(row["reliability"])),
        ("Estimated rate", percent(row["posterior_mean"])),
        ("Probability above the threshold", probability(row["p_above"])),
        ("The same if everyone enrolled were tested", probability(row["p_above_if_all_tested"])),
        ("The same from the tests' own errors alone", probability(row["p_above_with_error"])),
        ("Probability that the grade is above it", probability(row["p_grade_above"])),
        ("Probability of standing above its grade", probability(row["p_above_peers"])),
        ("Probability of more than 10 points above its grade", probability(row["p_excess"])),
        ("Share if no untested student were in need", percent(row["bound_low"])),
        ("Share if every untested student were in need", percent(row["bound_high"])),
        ("Severity", str(row["severity"] or "not known").replace("_", " ")),
        ("Median student below the cut", yes_no(row["class_median_below"])),
        ("Found in the window before as well", yes_no(row["is_persistent"])),
        ("Grade found in two of three years", yes_no(row["is_grade_persistent"])),
        ("Another measure says so as well", yes_no(row["is_concordant"])),
    ]


# The evidence: students, tests, files


def _students(reading: Reading) -> pl.DataFrame:
    """Members of every class and window, with the test that was chosen by the measure that decides for the class."""
    deciding = reading.current.filter("is_primary").select("benchmark_window", "class_id", "measure")
    tested = reading.table("projections.need_level").select(
        "benchmark_window", "subject_key", "measure", "status", "score", "percentile", "placement", "need_level",
        "is_in_need", "natural_key",
    )  # fmt: skip
    tests = reading.table("projections.screening_result").select("natural_key", "occurred_on", "layout")
    tiers = reading.table("projections.tier_placement").select(
        "benchmark_window", "subject_key", "tier", "assigned_tier", "is_stale"
    )
    student = ["benchmark_window", "subject_key"]
    return (
        reading.table("projections.class_membership")
        .drop_nulls("class_id")
        .join(deciding, on=["benchmark_window", "class_id"])
        .join(tested, on=[*student, "measure"], how="left")
        .join(tests, on="natural_key", how="left")
        .join(tiers, on=student, how="left")
        .with_columns(
            is_counted=~pl.col("is_mobile").fill_null(value=False)
            & ~pl.col("is_alternate_assessment").fill_null(value=False)
        )
        .sort(WINDOW_ORDER, "class_id", "subject_key")
    )


def _listed(members: Sequence[Record], reading: Reading) -> list[Record]:
    """Students by key, or by name where names are shown; never by score."""
    rows = [
        {
            "who": reading.student(row["subject_key"]),
            "status": _status(row),
            "score": row["score"],
            "percentile": row["percentile"],
            "placement": row["placement"],
            "is_in_need": row["is_in_need"],
            "tier": row["tier"],
            "is_stale": row["is_stale"],
            "assigned_tier": row["assigned_tier"],
            "on": row["occurred_on"],
            "is_counted": row["is_counted"],
        }
        for row in members
    ]
    return sorted(rows, key=lambda row: row["who"])


def _status(row: Record) -> str:
    if row["is_alternate_assessment"]:
        return "alternate assessment, not counted"
    if row["is_mobile"]:
        return "came lately, not counted"
    return str(row["status"] or "not tested").replace("_", " ")


def _tests(members: Sequence[Record], files: Mapping[str, Record]) -> list[Record]:
    """The chosen tests by layout, and the files of that layout."""
    found: dict[str, list[Record]] = {}
    for row in members:
        if row["layout"] is not None:
            found.setdefault(row["layout"], []).append(row)
    return [
        {
            "layout": layout,
            "tests": len(rows),
            "counted": sum(row["is_counted"] for row in rows),
            "days": _days([row["occurred_on"] for row in rows if row["occurred_on"]]),
            "files": files.get(layout),
        }
        for layout, rows in sorted(found.items())
    ]


def _days(days: Sequence[date]) -> str:
    """The first day and the last."""
    if not days:
        return day(None)
    first, last = day(min(days)), day(max(days))
    return first if first == last else f"{first} to {last}"


def _files(reading: Reading) -> dict[str, Record]:
    """Loaded files of the school year by layout, the latest export first."""
    ledger = reading.table("log.ingest_ledger").filter(
        pl.col("status") == "loaded",
        pl.col("school_years").str.split(";").list.contains(reading.school_year),
    )
    rows = ledger.unique("batch_id", keep="first", maintain_order=True).sort(
        "export_at", "file", descending=[True, False], nulls_last=True
    )
    return {
        str(layout): {
            "total": each.height,
            "shown": [
                (row["file"], day(row["export_at"].date()) if row["export_at"] else day(None), number(row["data_rows"]))
                for row in each.head(MOST_FILES).to_dicts()
            ],
        }
        for (layout,), each in reading.split(rows, "layout").items()
    }
