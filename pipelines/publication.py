"""Publishing a state's aggregates: true counts, what is said of them, the audit, and only then files."""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.facts import current_facts
from pipelines.refresh import RULES_VERSION, refresh
from schemas.policy import DistrictPolicy, StatePolicy, StateProfile, read_state_policy
from schemas.projections import SEASONS, Projection, TierPlacement
from schemas.publication import APART, PLACES, Statistic, publication
from schemas.reports import PublishedCell, StateAggregate, StateAggregateCounts
from transforms.audit import AuditReport
from transforms.policies import window_ends
from transforms.publication import Rule
from transforms.releases import Mode, as_told, audited, public_rows, question, released
from transforms.state_aggregates import ALL, READS, UNKNOWN, state_counts
from warehouse.home import Home
from warehouse.log import Log
from warehouse.projections import Projections
from warehouse.releases import Release, registered, write_release

MOST_NAMED = 20
CONTRACTS: dict[Mode, type[PublishedCell]] = {"bands": StateAggregate, "counts": StateAggregateCounts}
Tell = Callable[[str], None]
Found = dict[type[Projection], pl.DataFrame]


class PublicationRefused(Exception):
    """The audit, or the policy of releases, forbids it; no file was written. Names tables and cells, never a value."""


class NothingToPublish(Exception):
    """There is no window to publish, or it is published already."""


@dataclass(frozen=True)
class Asked:
    """What to publish."""

    mode: Mode = "bands"
    profile: StateProfile = "default"
    as_of: datetime | None = None
    school_year: str | None = None
    window: str | None = None
    is_correction: bool = False
    """Release a window again that is released already."""


@dataclass(frozen=True)
class Published:
    """What was published."""

    folder: Path
    about: dict[str, Any]


def publish_state(home: Home, asked: Asked, out: Path | None = None, tell: Tell = lambda _: None) -> Published:
    """Publish one window of all districts of the home; fails closed.

    Args:
        home: The home; its `reports/state/` is the register of what is public.
        asked: What to publish.
        out: Folder for the public files, in a folder named as the release; in the register alone if absent.
        tell: Told what is under way.

    Raises:
        PublicationRefused: the audit did not pass, or a correction touches too few students.
        NothingToPublish: no window is over, or this one is released.
    """
    policy = read_state_policy(home.policies / "state.toml", asked.profile)
    rule = Rule(min_n=policy.min_n, min_category=policy.min_category, protect_zero=policy.protect_zero)
    tell("Reading")
    with tempfile.TemporaryDirectory(prefix="tierline-") as folder:
        tables, descriptions, moment = _known(home, asked.as_of, Path(folder))
    window = _window(home, asked, tables[TierPlacement], moment)
    public = registered(home)
    earlier = [_of_window(each, *window) for each in public]
    beside = [each for each in public if (each.about["school_year"], each.about["benchmark_window"]) == window]
    same = [each for each in beside if each.about["mode"] == asked.mode]
    name = f"{'-'.join(window)}-{asked.mode}"
    if same and not asked.is_correction:
        raise NothingToPublish(
            f"{name} is released and frozen; its files are in {home.reports / 'state' / same[-1].about['release_id']}."
            " What changed since waits for the next window; --correct releases it again if enough changed."
        )
    release_id = f"{name}-{len(same) + 1}" if same else name
    counts = _counts(tables, descriptions, rule, *window)
    made, reports, rows = [], {}, []
    for statistic in (each for each in publication().statistics if counts[each.name].height):
        tell(f"{statistic.name}: {asked.mode}")
        cells, told, report = _release(counts[statistic.name], statistic, rule, asked.mode, release_id, earlier)
        made.append(cells)
        rows.append(told)
        reports[statistic.name] = report
    _require_passed(reports, {each.about["mode"] for each in beside} - {asked.mode})
    cells = pl.concat(made)
    if same:
        _require_worth(cells, _of_window(same[-1], *window), rule)
    about = _about(asked, policy, release_id, window, moment, reports, pl.concat(rows), earlier)
    return Published(write_release(home, out, pl.concat(rows), CONTRACTS[asked.mode], cells, about), about)


def _known(home: Home, as_of: datetime | None, folder: Path) -> tuple[Found, pl.DataFrame, datetime]:
    """Projections and descriptions as known at a time, and that time: without one, the last reading of a file."""
    log, districts = Log(home), home.districts()
    ledger = log.ledger_rows(districts, as_of)
    if ledger.is_empty():
        raise NothingToPublish("No district had loaded a file by then. `tierline run` loads what landed.")
    stored = Projections(home.projections)
    if as_of is not None and log.ledger_rows(districts).height > ledger.height:
        stored = Projections(str(folder))
        refresh(log, stored, {each: home.policy(each) for each in districts}, as_of=as_of)
    tables: Found = {contract: stored.read(contract, districts).collect() for contract in READS}
    descriptions = current_facts(log, districts, ledger, ("description",))["description"]
    return tables, descriptions, as_of or ledger["recorded_at"].to_list()[-1]


def _window(home: Home, asked: Asked, placements: pl.DataFrame, moment: datetime) -> tuple[str, str]:
    """The window asked for, else the latest that is over in every district."""
    policies = [home.policy(each) for each in home.districts()]
    found = placements.select("school_year", "benchmark_window").unique().rows()
    there = sorted(found, key=lambda each: (each[0], SEASONS.index(each[1])))
    wanted = [
        (year, window) for year, window in there if asked.school_year in (None, year) and asked.window in (None, window)
    ]
    over = [each for each in wanted if _ends(policies, *each) < moment.astimezone(UTC).date()]
    if not over:
        why = f"is not over until {_ends(policies, *wanted[-1])}" if wanted else "has no placement"
        raise NothingToPublish(f"There is no window to publish: what is asked for {why}.")
    return over[-1]


def _ends(policies: Sequence[DistrictPolicy], year: str, window: str) -> date:
    return max(window_ends(policy, year)[window] for policy in policies)


def _of_window(release: Release, year: str, window: str) -> pl.DataFrame:
    return release.cells.filter(pl.col("school_year") == year, pl.col("benchmark_window") == window)


def _counts(
    tables: Found, descriptions: pl.DataFrame, rule: Rule, year: str, window: str
) -> Mapping[str, pl.DataFrame]:
    counts = state_counts(tables, descriptions, publication(), rule.min_n)
    is_meant = (pl.col("school_year") == year) & (pl.col("benchmark_window") == window)
    return {name: rows.filter(is_meant) for name, rows in counts.items()}


def _release(
    counts: pl.DataFrame, statistic: Statistic, rule: Rule, mode: Mode, release_id: str, earlier: Sequence[pl.DataFrame]
) -> tuple[pl.DataFrame, pl.DataFrame, AuditReport]:
    """Cells and public rows of one statistic, and what the audit of the public rows found."""
    before = [each.filter(pl.col("statistic") == statistic.name) for each in earlier]
    before = [each for each in before if each.height]
    named = {kind for each in before for kind in each["group_kind"].unique()}
    groups = [name for name in publication().groups if name in counts.columns or name in named - {ALL}]
    counts = counts.with_columns(pl.lit(UNKNOWN).alias(name) for name in groups if name not in counts.columns)
    asked = question(statistic, publication(), groups)
    cells = released(counts, asked, rule, mode, release_id, before)
    rows = public_rows(cells, mode)
    return cells, rows, audited([*before, as_told(cells, rows, mode)], asked, rule)


def _require_passed(reports: Mapping[str, AuditReport], others: Collection[str]) -> None:
    lines = [
        f"{name}: {', '.join(f'{key} {value}' for key, value in found.items() if value is not None)}"
        for name, report in reports.items()
        for found in report.findings.drop("release").unique(maintain_order=True).to_dicts()
    ]
    if lines:
        more = f"\nand {len(lines) - MOST_NAMED} more" if len(lines) > MOST_NAMED else ""
        told = "\n".join(lines[:MOST_NAMED])
        beside = (
            f" This window is public in {', '.join(sorted(others))} already, and both together tell more than either"
            " may: as a rule a window is published in one mode."
            if others
            else ""
        )
        raise PublicationRefused(
            f"The audit did not pass, so no file was written.{beside} What it could prove:\n{told}{more}"
        )


def _require_worth(cells: pl.DataFrame, before: pl.DataFrame, rule: Rule) -> None:
    """A correction must touch enough students: one who moves changes two cells (METHOD 4.5)."""
    keys = ["statistic", "category", *APART, *PLACES, "grade", "group_kind", "student_group"]
    both = cells.select(*keys, "kind", now="value").join(
        before.select(*keys, then="value"), on=keys, how="full", coalesce=True
    )
    finest = (pl.col("school_id") != ALL) & (pl.col("grade") != ALL)
    changed = (pl.col("now").fill_null(0) - pl.col("then").fill_null(0)).abs()
    moved = both.filter(finest).group_by("statistic", "category").agg(changed.sum())
    touched = -(-max(moved.to_series(2).to_list(), default=0) // 2)
    if touched < rule.min_n:
        raise PublicationRefused(
            f"What changed may touch fewer than {rule.min_n} students, and the difference to what is public would show"
            " them. The correction waits for the next window; no file was written."
        )


def _about(
    asked: Asked,
    policy: StatePolicy,
    release_id: str,
    window: tuple[str, str],
    moment: datetime,
    reports: Mapping[str, AuditReport],
    rows: pl.DataFrame,
    earlier: Sequence[pl.DataFrame],
) -> dict[str, Any]:
    """What `release.json` says; nothing that tells small cells from those withheld beside them."""
    symbol = "share_band" if asked.mode == "bands" else "count"
    return {
        "release_id": release_id,
        "number": len(earlier) + 1,
        "mode": asked.mode,
        "school_year": window[0],
        "benchmark_window": window[1],
        "as_of": moment.astimezone(UTC).isoformat(),
        "code_version": f"tierline {version('tierline')}, rules {RULES_VERSION}",
        "policy": policy.model_dump(),
        "withheld_symbol": "blank (CSV), null (Parquet)",
        "rows": rows.height,
        "withheld": rows[symbol].null_count(),
        "audit": {
            name: {
                "is_passed": report.is_passed,
                "cells": report.cells,
                "by_witness": report.by_witness,
                "by_solver": report.by_solver,
            }
            for name, report in reports.items()
        },
        "earlier_releases": len(earlier),
    }
