"""Where a home stands: files, rows, facts, what waits or is stale, flags; and which layouts there are."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.loading import read_aliases
from pipelines.reading import Aliases, KnownFile, know
from pipelines.refresh import out_of_date
from pipelines.rules import policy_news
from schemas.exports import layouts
from schemas.policy import UnreadablePolicy
from transforms.batches import ROW_OUTCOMES
from warehouse.home import Home
from warehouse.landing import discover
from warehouse.log import Log, exports
from warehouse.projections import Projections
from warehouse.publish import ask, unpublished

FACT_CHANGES = ("appended", "corrected", "unchanged", "empty", "rejected")
_FLAGS = """
select district_id, school_year, benchmark_window, measure, level, count(*) as classes
from marts.classroom_flag
group by all
order by all
"""
_FAILED = """
select district_id, school_year, about, rule, is_blocking, count(school_id) as schools, sum(rows)::bigint as rows
from projections.quality_result
where not is_passed
group by all
order by all
"""


def status_of(home: Home, districts: Sequence[str]) -> list[dict[str, Any]]:
    """Where each district stands, from the landing folder, the ledger and the published warehouse."""
    log = Log(home)
    ledger = log.ledger_rows(districts)
    aliases = read_aliases(home)
    flags, failed = _published(home.warehouse, _FLAGS), _published(home.warehouse, _FAILED)
    projections = Projections(home.projections)
    behind = unpublished(home.warehouse, projections.partitions.scan().collect(), ledger)
    shown_late = None if behind is None else {district for district, _ in behind}
    return [
        _district(home, each, ledger.filter(pl.col("district_id") == each), projections, aliases, shown_late)
        | {"flags": flags.get(each, []), "failed_rules": failed.get(each, [])}
        for each in districts
    ]


def _district(
    home: Home,
    district_id: str,
    ledger: pl.DataFrame,
    projections: Projections,
    aliases: Aliases,
    shown_late: set[str] | None,
) -> dict[str, Any]:
    folder = home.landing / district_id
    is_seen = _is_seen(folder)
    landed, refused = discover(folder, district_id)
    files = exports(ledger)
    latest = {row["batch_id"]: row for row in files.sort("recorded_at").iter_rows(named=True)}
    known = [know(each, aliases) for each in landed]
    there = [latest[each.batch_id] for each in known if each.batch_id in latest] if is_seen else latest.values()
    held = [row for row in there if row["status"] == "held"]
    waiting = [each for each in known if each.batch_id not in latest]
    rows = rows_by_outcome(files)
    return {
        "district_id": district_id,
        "files_loaded": sum(row["status"] == "loaded" for row in latest.values()),
        "files_held": len(held),
        "files_refused": len(refused) if is_seen else None,
        "files_waiting": len(waiting) if is_seen else None,
        "data_rows": rows["data_rows"].sum(),
        "rows": {outcome: rows[outcome].sum() for outcome in ROW_OUTCOMES},
        "facts": {change: rows[f"facts_{change}"].sum() for change in FACT_CHANGES},
        "parked": rows["parked"].sum(),
        "tests_withdrawn": ledger["tests_withdrawn"].sum(),
        "last_recorded_at": ledger["recorded_at"].max(),
        "stale": _stale(home, district_id, ledger, projections, waiting, aliases, shown_late),
        "held_files": [
            *({"file": row["file"], "rule": row["held_rule"], "message": row["message"]} for row in held),
            *({"file": each.name, "rule": each.rule, "message": each.message} for each in refused),
        ],
    }


def _is_seen(folder: Path) -> bool:
    """Whether who asks may look into the landing folder: names stand in its files, and analysts need none."""
    try:
        with os.scandir(folder):
            return True
    except PermissionError:
        return False
    except FileNotFoundError:
        return True


def rows_by_outcome(ledger: pl.DataFrame) -> pl.DataFrame:
    """What became of the rows of each loaded batch, over its attempts (SEMANTICS 2.2).

    The first loaded attempt counts the file's rows; each later one reads again the rows that were parked, so only
    the last one's parked rows still wait.
    """
    counts = [name for name in ROW_OUTCOMES if name != "parked"] + [f"facts_{change}" for change in FACT_CHANGES]
    return (
        ledger.filter(pl.col("status") == "loaded")
        .sort("attempt")
        .group_by("district_id", "batch_id", maintain_order=True)
        .agg(pl.col("data_rows").first(), pl.col("parked").last(), pl.col(counts).sum())
    )


def _stale(
    home: Home,
    district_id: str,
    ledger: pl.DataFrame,
    projections: Projections,
    waiting: Sequence[KnownFile],
    aliases: Aliases,
    shown_late: set[str] | None,
) -> list[str]:
    """Why what is shown may not be what the files say; nothing where it is."""
    found = [f"{len(waiting)} files in the landing folder are not loaded yet"] if waiting else []
    try:
        policy, agency = home.policy(district_id), home.agency()
    except UnreadablePolicy as error:
        return [*found, str(error)]
    if policy_news(Log(home), district_id, policy, aliases, agency, ledger):
        found.append("the policy or alias files say what is not on record yet")
    if out_of_date(projections, ledger, [district_id]).height:
        found.append("the projections are older than the ledger, the policy or the rules")
    if shown_late is None:
        found.append("no warehouse is published")
    elif district_id in shown_late:
        found.append("the warehouse is older than the ledger or the projections")
    return found


def _published(warehouse: Path, query: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of the published warehouse by district; none before the first is published."""
    rows = ask(warehouse, query)
    if rows is None:
        return {}
    parts = rows.partition_by("district_id", as_dict=True, include_key=False)
    return {str(district): part.to_dicts() for (district,), part in parts.items()}


def known_layouts() -> list[dict[str, str]]:
    """Every layout: `layout`, `title` and the `events` its rows become."""
    return [
        {
            "layout": layout.id,
            "title": layout.title,
            "events": ", ".join(dict.fromkeys(fact.event for fact in (*layout.facts, *layout.blocks))),
        }
        for layout in layouts().values()
    ]
