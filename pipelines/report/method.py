"""The rules in force, in words: every setting of the district's policy with its value, its days and its source."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from pipelines.report.page import Page
from pipelines.report.reading import WINDOW_ORDER, Reading, Record
from pipelines.report.words import NOT_KNOWN, day, listed, measure_name, yes_no
from schemas.policy import (
    AccuracyRule,
    ClassRule,
    CycleRule,
    DistrictPolicy,
    QualityRule,
    ResponseRule,
    TierRule,
)
from schemas.policy_page import Model, explained

SECTIONS: tuple[tuple[str, str, Model], ...] = (
    ("classes", "When a class is looked at", ClassRule),
    ("tiers", "How a test becomes a tier", TierRule),
    ("cycles", "When a cycle is judged", CycleRule),
    ("responses", "What is said of interventions", ResponseRule),
    ("accuracy", "How screening is compared with a later test", AccuracyRule),
    ("quality", "What is plausible in a delivery", QualityRule),
)
"""Tables of a policy, in the order of the page: what decides about classes and students first."""
ELSEWHERE = frozenset({"cuts", "windows"})
"""Settings that have a table of their own."""
REFERENCES: Mapping[str, str] = {
    "configured": "set by the district",
    "median_test_day": "median day of the tests",
}


def pages(reading: Reading) -> Iterator[Page]:
    """One page; none where the warehouse has no policy of the year."""
    settings = reading.table("projections.policy_setting").sort("from_on", "place", nulls_last=False)
    if settings.is_empty():
        return
    values = _values(settings)
    context = {
        "policies": _policies(settings),
        "rule": {name: _latest(values, f"classes.{name}") for name in _IN_WORDS},
        "tiers": {name: _latest(values, f"tiers.{name}") for name in ("enter", "exit", "streak")},
        "own": [row for row in _all(values) if not row["is_default"]],
        "windows": _windows(reading),
        "cuts": _cuts(reading, values),
        "sections": [_section(values, *each) for each in SECTIONS],
        "other": [row for row in _rows(values, "", DistrictPolicy) if row["setting"] not in ELSEWHERE],
        "other_about": explained(DistrictPolicy).about,
    }
    yield Page("method.html", "Method", "method.html", context, "method")


_IN_WORDS = (
    *("tau_low", "tau", "severe", "class_minimum", "coverage_minimum", "flag_probability", "false_discovery"),
    *("system_probability", "high_share"),
)
Values = Mapping[str, list[Record]]
"""Rows of each setting, one for each policy of the year, in order."""


def _values(settings: pl.DataFrame) -> Values:
    found: dict[str, list[Record]] = {}
    for row in settings.iter_rows(named=True):
        found.setdefault(row["setting"], []).append(row | {"value": json.loads(row["value"])})
    return found


def _latest(values: Values, setting: str) -> Any:
    return values[setting][-1]["value"] if setting in values else None


def _policies(settings: pl.DataFrame) -> list[list[str]]:
    """Policies of the year: since when, until when, and whose decision."""
    spans = settings.select("from_on", "until_on", "source").unique(maintain_order=True)
    return [
        [
            "since the year began" if begins is None else f"since {day(begins)}",
            "still in force" if ends is None else f"before {day(ends)}",
            source or NOT_KNOWN,
        ]
        for begins, ends, source in spans.rows()
    ]


def _section(values: Values, key: str, title: str, model: Model) -> Record:
    return {"key": key, "title": title, "about": explained(model).about, "rows": _rows(values, f"{key}.", model)}


def _all(values: Values) -> list[Record]:
    rows = [row for key, _, model in SECTIONS for row in _rows(values, f"{key}.", model)]
    return rows + _rows(values, "", DistrictPolicy)


def _rows(values: Values, below: str, model: Model) -> list[Record]:
    """Settings of one table that the warehouse has, with what they were before where they changed in the year."""
    return [
        {
            "setting": f"{below}{name}",
            "meaning": meaning,
            "value": value_words(known[-1]["value"]),
            "before": [
                (day(row["until_on"]), value_words(row["value"]))
                for row in known[:-1]
                if row["value"] != known[-1]["value"]
            ],
            "is_default": known[-1]["is_default"],
            "source": source,
        }
        for name, (meaning, source) in explained(model).settings.items()
        for known in (values.get(f"{below}{name}"),)
        if known
    ]


def value_words(value: Any) -> str:
    """A value as a person reads it: no brackets, no null."""
    if isinstance(value, bool):
        return yes_no(value)
    if value is None or value in ([], {}):
        return "not set"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "; ".join(value_words(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {value_words(each)}" for name, each in value.items())
    return str(value)


def _windows(reading: Reading) -> list[list[str]]:
    rows = reading.table("projections.window_rule").sort(WINDOW_ORDER)
    return [
        [
            row["benchmark_window"],
            f"{day(row['begins_on'])} to {day(row['ends_on'])}" if row["begins_on"] else "by the export’s own label",
            day(row["reference_on"]),
            REFERENCES.get(row["reference_source"] or "", NOT_KNOWN),
        ]
        for row in rows.iter_rows(named=True)
    ]


def _cuts(reading: Reading, values: Values) -> list[list[str]]:
    """Cut rules of the measures that the district tests with, in the order in which they are tried."""
    tested = set(reading.table("projections.screening_result")["measure"].unique())
    rules = _latest(values, "cuts") or []
    own = {rule["measure"] for rule in rules}
    wanted = tested & own or set()
    if tested - own:
        wanted = {*wanted, "*"}
    return [_cut(rule) for rule in rules if rule["measure"] in wanted]


def _cut(rule: Record) -> list[str]:
    def level(name: str) -> str:
        if rule["by"] == "placement":
            return "; ".join(rule.get(name) or ()) or "none"
        return f"below {rule[f'{name}_below']:g}" if rule.get(f"{name}_below") is not None else "none"

    applies = [f"grades {listed(rule['grades'])}" if rule.get("grades") else "", *rule.get("seasons", ())]
    return [
        "Every other measure" if rule["measure"] == "*" else measure_name(rule["measure"]),
        {"percentile": "national percentile", "placement": "the vendor’s label", "score": "score"}[rule["by"]],
        level("tier_3"),
        level("tier_2"),
        level("watch"),
        level("class_need"),
        ", ".join(filter(None, applies)) or "all",
        rule["source"],
    ]
