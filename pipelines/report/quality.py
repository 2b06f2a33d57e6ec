"""Data quality: what came in and what was refused, who was tested, what changed in the exports, what is held.

Names of files, columns and rules, and counts; never a cell.
"""

from collections.abc import Iterator

import polars as pl

from pipelines.report.checks import OBSERVED, expected_of, rule_of
from pipelines.report.page import Page
from pipelines.report.reading import GRADE_ORDER, WINDOWS, Reading, Record
from pipelines.report.words import NOT_KNOWN, Rate, counted, grade_name, number
from pipelines.status import rows_by_outcome
from transforms.batches import ROW_OUTCOMES
from warehouse.log import exports

DRIFT_RULES = ("percentile_drift", "volume_per_school", "score_range")
_PLACE = ["school_id", "grade", "benchmark_window"]


def pages(reading: Reading) -> Iterator[Page]:
    """One page."""
    ledger = exports(reading.table("log.ingest_ledger"))
    latest = ledger.sort("recorded_at", "attempt").unique("batch_id", keep="last", maintain_order=True).sort("file")
    held = latest.filter(status="held")
    context = {
        "files": latest.filter(status="loaded").height,
        "held": [(row["file"], row["held_rule"], row["message"]) for row in held.iter_rows(named=True)],
        "latest": ledger["recorded_at"].max(),
        "layouts": _layouts(ledger),
        "refused": _refused(reading, latest),
        "coverage": _coverage(reading),
        "windows": [
            window for window in WINDOWS if window in set(reading.table("projections.window_rule")["benchmark_window"])
        ],
        "columns": _columns(latest),
        "drift": _drift(reading),
        "blocked": _blocked(reading),
    }
    yield Page("quality.html", "Data quality", "quality.html", context, "quality")


def _layouts(ledger: pl.DataFrame) -> list[list[str]]:
    """Files and rows of each layout; the outcomes of a line add up to its rows."""
    layout = ledger.select("batch_id", "layout").unique("batch_id")
    rows = (
        rows_by_outcome(ledger)
        .join(layout, on="batch_id")
        .group_by("layout")
        .agg(pl.len(), pl.col("data_rows", *ROW_OUTCOMES).sum())
        .sort("layout")
    )
    return [[row[0], *map(number, row[1:])] for row in rows.rows()]


def _refused(reading: Reading, latest: pl.DataFrame) -> list[list[str]]:
    """Rows and cells that could not be read, counted by file, column and rule."""
    rows = (
        reading.table("log.rejected_row")
        .join(latest.select("batch_id", "attempt", "file"), on=["batch_id", "attempt"])
        .group_by("file", "column", "rule")
        .agg(rows=pl.col("source_line").n_unique())
        .sort("file", "column", "rule", nulls_last=True)
    )
    return [[file, column or "the whole line", rule, number(count)] for file, column, rule, count in rows.rows()]


def _coverage(reading: Reading) -> list[Record]:
    """Tested of enrolled by school and grade, one rate per window; students with an alternate assessment left out."""
    key = ["benchmark_window", "subject_key"]
    tested = reading.table("projections.tier_placement").select(*key, is_tested=pl.col("status") == "tested")
    rows = (
        reading.table("projections.class_membership")
        .filter(~pl.col("is_alternate_assessment").fill_null(value=False), pl.col("school_id").is_not_null())
        .join(tested, on=key, how="left")
        .group_by(_PLACE)
        .agg(enrolled=pl.len(), tested=pl.col("is_tested").sum())
        .with_columns(share=pl.col("tested") / pl.col("enrolled"))
        .sort("school_id", GRADE_ORDER, nulls_last=True)
    )
    in_order = {school: place for place, school in enumerate(reading.by_name(rows["school_id"].unique()))}
    found: dict[tuple[str, str | None], dict[str, Rate]] = {}
    for school, grade, window, enrolled, count, share in rows.rows():
        found.setdefault((school, grade), {})[window] = Rate(count, enrolled, share)
    return [
        {
            "school": reading.school(school),
            "grade": grade_name(grade),
            "rates": {window: str(rate) for window, rate in rates.items()},
        }
        for (school, grade), rates in sorted(found.items(), key=lambda each: in_order[each[0][0]])
    ]


def _columns(latest: pl.DataFrame) -> list[list[str]]:
    """Files whose header is not that of their layout."""
    changed = latest.filter(pl.any_horizontal(pl.col("renamed_columns", "new_columns").fill_null("") != ""))
    return [
        [row["file"], row["layout"] or NOT_KNOWN, row["renamed_columns"] or "none", row["new_columns"] or "none"]
        for row in changed.iter_rows(named=True)
    ]


def _drift(reading: Reading) -> list[list[str]]:
    """Summaries that are not as before, or not on the vendor's scale."""
    rows = reading.table("marts.data_quality").filter(
        ~pl.col("is_passed"), pl.col("rule").str.split(":").list.first().is_in(DRIFT_RULES)
    )
    expected = expected_of(reading)
    return [
        [
            f"{row['about']}{', ' + reading.school(row['school_id']) if row['school_id'] else ''}",
            rule_of(row["rule"])[1] or "the year",
            OBSERVED[rule_of(row["rule"])[0]](row["observed"]),
            expected[rule_of(row["rule"])[0]],
            number(row["rows"]),
        ]
        for row in rows.iter_rows(named=True)
    ]


def _blocked(reading: Reading) -> list[list[str]]:
    """School years whose tables stay as they were, because a rule that blocks fails."""
    rows = (
        reading.history("marts.data_quality")
        .filter("is_blocking", ~pl.col("is_passed"), pl.col("school_id").is_null())
        .sort("school_year", "about", "rule")
    )
    return [
        [row["school_year"], row["about"], row["rule"], counted(row["rows"], "row")]
        for row in rows.iter_rows(named=True)
    ]
