"""Cycles and their outcomes."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from reference_cycles import (
    POLICIES,
    attended,
    cancelled,
    closed,
    facts,
    held,
    joined,
    opened,
    probe,
    scheduled,
)

from transforms.cycles import CycleTables, cycle_tables

VECTORS = json.loads((Path(__file__).parent / "data/vectors/07_cycle_outcome.json").read_text())["cases"]


def tables(*rows: dict[str, Any], peers: pl.DataFrame | None = None) -> CycleTables:
    return cycle_tables(facts(*rows), POLICIES, peers)


def outcome(*rows: dict[str, Any], who: str = "ana") -> dict[str, Any]:
    return tables(*rows).cycle_outcome.row(by_predicate=pl.col("subject_key") == who, named=True)


def vector_rows(case: dict[str, Any]) -> list[dict[str, Any]]:
    told = case["input"]
    rows = [
        opened(days=round(told["weeks_to_goal"] * 7), session_minutes=told["minutes_per_session"]),
        joined(baseline=told["baseline"], goal_score=told["goal"]),
        closed(round(told["weeks_to_goal"] * 7)),
    ]
    for number, each in enumerate(told["sessions"]):
        on = 2 * number
        rows += [scheduled(on), held(on) if each["held"] else cancelled(on)]
        if each["held"]:
            rows += [
                attended(on, attendance="present" if each["attended"] else "absent", minutes=each["minutes_attended"])
            ]
    return [*rows, *(probe(round(week * 7), score) for week, score in told["probes"])]


@pytest.mark.parametrize("case", VECTORS, ids=[case["input"]["name"] for case in VECTORS])
def test_outcomes_are_those_of_the_vector(case):
    peers = pl.DataFrame(
        {
            "district_id": ["d1"],
            "school_year": ["2026"],
            "cycle_id": ["c1"],
            "subject_key": ["ana"],
            "peer_slope": [case["input"]["peer_slope"]],
        }
    )
    got = tables(*vector_rows(case), peers=peers).cycle_outcome.row(0, named=True)
    names = {
        "sessions_planned": "planned_sessions",
        "sessions_held": "held_sessions",
        "sessions_attended": "attended_sessions",
        "delivery_pct": "delivery_share",
        "attendance_pct": "attendance_share",
        "minutes_planned": "planned_minutes",
        "minutes_attended": "attended_minutes",
        "dose_pct": "dose_share",
        "goal_slope": "goal_slope",
        "slope": "slope",
        "p_slope_ge_goal": "p_slope_at_least_goal",
        "level_end": "level_end",
        "aim_at_level_end": "aim_at_level_end",
    }
    for theirs, ours in names.items():
        assert got[ours] == pytest.approx(case["expected"][theirs], abs=1e-8), ours
    assert (got["response"], got["reason"]) == (case["expected"]["response"], case["expected"]["reason"])
