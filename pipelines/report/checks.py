"""Checks of the data, for a data steward: what was expected, what was seen, and what a failure does.

Made from quality results, which hold names of rules and counts. Nothing that Great Expectations found in a cell is in
them, so nothing of it can be here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl

from pipelines.delivery import RULES
from pipelines.looked import remembered
from pipelines.report.page import Page
from pipelines.report.reading import Reading, Record, value_of
from pipelines.report.words import decimal, number, percent

Words = Callable[[float | None], str]
OBSERVED: Mapping[str, Words] = {
    "volume_per_school": lambda share: f"{percent(share)} of the window before",
    "tested_share": percent,
    "score_range": lambda share: f"{percent(share)} outside",
    "percentile_drift": lambda points: f"{decimal(points)} percentile points",
    "match_rate": percent,
}
"""An observed number in the words of its rule."""
TOOLS: tuple[tuple[str, str, str], ...] = (
    (
        "pandera",
        "Tables are what their contracts say",
        "Every table has a contract: its columns, types, ranges and keys. Where one is broken, the last good version"
        " of that school year stays.",
    ),
    ("rule", "Records of cycles fit together", "What does not fit is kept, shown and counted; nothing is guessed."),
)
PUBLISHED_WORDS: Mapping[str, str] = {
    "column_values_to_not_be_null": "{0} is never blank",
    "column_values_to_be_between": "{0} is a share, from 0 to 1",
    "column_values_to_be_in_set": "{0} is one of its known values",
    "column_pair_values_a_to_be_greater_than_b": "{0} is never below {1}",
    "compound_columns_to_be_unique": "no two rows have the same {0}",
    "adds": "as many rows or students as in the table it is made from",
}
"""An expectation of the published tables in words, by the first word of its rule."""
FINDINGS: Mapping[str, str] = {
    "member_without_cycle": "Students who joined a cycle that nobody opened",
    "close_without_cycle": "Cycles closed that nobody opened",
    "not_a_member": "Attendance, goals or leavings of students who never joined",
    "session_without_cycle": "Sessions that lie in no cycle",
    "several_open_cycles": "Records that fit more than one cycle",
    "probe_outside_cycle": "Probes that lie in no cycle of their student and measure",
    "probe_of_other_forms": "Probes of other forms than the series they would belong to",
    "no_cycle": "Tutoring sessions that lie in no cycle",
    "goal_mismatch": "Goals recorded as met that the probes do not show, or the other way round",
}


def pages(reading: Reading) -> Iterator[Page]:
    """One page."""
    results = reading.table("marts.data_quality")
    published = remembered(reading.home.warehouse)
    context = {
        "failed": results.filter(~pl.col("is_passed")).height,
        "blocking": results.filter(~pl.col("is_passed"), "is_blocking").height,
        "results": results.height,
        "delivery": _delivery(reading, results),
        "tools": [
            {"title": title, "about": about, "rows": _plain(results.filter(tool=tool))} for tool, title, about in TOOLS
        ],
        "published": None if published is None else _split(published, published_words),
    }
    yield Page("checks.html", "Checks of the data", "checks.html", context, "checks")


def rule_of(rule: str) -> tuple[str, str | None]:
    """A rule and its window: `tested_share: fall`."""
    name, _, window = rule.partition(": ")
    return name, window or None


def expected_of(reading: Reading) -> dict[str, str]:
    """What each rule about a delivery expects, with the district's own bounds."""
    bound: dict[str, Any] = {
        name: value_of(reading, f"quality.{name}")
        for name in ("volume_drop_maximum", "tested_share_minimum", "score_drift_maximum", "match_rate_expected")
    }
    drop = bound["volume_drop_maximum"]
    return {
        "volume_per_school": f"at least {percent(None if drop is None else 1 - drop)} of the window before",
        "tested_share": f"at least {percent(bound['tested_share_minimum'])} of the students",
        "score_range": "no score outside the vendor’s scale",
        "percentile_drift": f"within {decimal(bound['score_drift_maximum'], 0)} points of the window before",
        "match_rate": f"at least {percent(bound['match_rate_expected'])} of a file’s students in the roster",
    }


def _delivery(reading: Reading, results: pl.DataFrame) -> list[Record]:
    """Each rule about a delivery with how often it was looked at, and what fails."""
    expected = expected_of(reading)
    found = results.filter(tool="great_expectations").with_columns(name=pl.col("rule").str.split(": ").list.first())
    parts = found.partition_by("name", as_dict=True)
    return [
        {
            "name": name,
            "asks": rule.asks,
            "expects": expected[name],
            "looked_at": 0 if rows is None else rows.height,
            "failed": 0 if rows is None else rows.filter(~pl.col("is_passed")).height,
            "blocks": False if rows is None else bool(rows["is_blocking"].any()),
            "failing": [] if rows is None else [_failing(reading, name, row) for row in _failed(rows)],
        }
        for name, rule in RULES.items()
        for rows in (parts.get((name,)),)
    ]


def _failed(rows: pl.DataFrame) -> list[Record]:
    return rows.filter(~pl.col("is_passed")).sort("about", "rule", "school_id", nulls_last=True).to_dicts()


def _failing(reading: Reading, name: str, row: Record) -> list[str]:
    return [
        row["about"],
        reading.school(row["school_id"]) if row["school_id"] else "the district",
        rule_of(row["rule"])[1] or "the year",
        OBSERVED[name](row["observed"]),
        number(row["rows"]),
    ]


def _plain(rows: pl.DataFrame) -> dict[str, list[list[str]]]:
    """Results that have no bounds: a rule of a table holds or not."""
    return _split(rows, lambda rule: FINDINGS.get(rule, "as its contract says" if rule == "contract" else rule))


def _split(rows: pl.DataFrame, words: Callable[[str], str]) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {"broken": [], "held": []}
    for row in rows.sort("about", "rule").iter_rows(named=True):
        result = "holds" if row["is_passed"] else "does not hold"
        line = [row["about"], words(row["rule"]), result, number(row["rows"]), _does(row)]
        found["held" if row["is_passed"] else "broken"].append(line)
    return found


def published_words(rule: str) -> str:
    """An expectation of a published table in words."""
    kind, *names = rule.split(" ")
    return PUBLISHED_WORDS[kind].format(*([", ".join(names)] if kind.startswith("compound") else names))


def _does(row: Record) -> str:
    return "holds the data back" if row["is_blocking"] else "warns"
