"""The assets: every table, made by one step, for any number of districts at once.

One step, because a district that fails must not be materialized while the others are, and Dagster skips whatever
comes after an output that is missing.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from pipelines.alerts import AlertNotSent, UnusableAlerts, alert, failing, settings
from pipelines.checks import CHECKS, LEDGER, balances, by_check, check_results, waiting
from pipelines.contracts import MADE_FROM, SPECS, STAGES, WAREHOUSE
from pipelines.partitions import DISTRICTS, STATE, districts_of
from pipelines.work import Outcome, Work, told
from schemas.policy import UnreadablePolicy
from schemas.projections import QualityResult
from warehouse.delta import Table
from warehouse.home import Home
from warehouse.log import Log
from warehouse.projections import Projections
from warehouse.publish import rows_by_district

RETRIES = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL)
Parts = Mapping[str, tuple[int, str]]
"""Rows and version of a table's content, by district."""


@dg.multi_asset(
    name="bring_up_to_date",
    specs=SPECS,
    check_specs=CHECKS,
    can_subset=True,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
    partitions_def=DISTRICTS,
)
def bring_up_to_date(context: dg.AssetExecutionContext, work: dg.ResourceParam[Work]) -> Iterator[dg.AssetCheckResult]:
    """Load what landed, compute what is stale, publish it."""
    selected = {"/".join(key.path) for key in context.selected_asset_keys}
    districts = districts_of(context.partition_keys, context.run.tags) if selected else []
    outcome = work.run(districts, {name.split("/")[0] for name in selected}, context.log.info)
    checks = {("/".join(each.asset_key.path), each.name) for each in context.selected_asset_check_keys}
    with told("telling Dagster"):
        for materialization in materializations(work.home, outcome, selected):
            context.log_event(materialization)
        if not selected:
            outcome.suspect = work.look_at_warehouse()
        current = current_results(work.home, outcome)
        results = list(check_results(current, checks, work.home.reports))
    yield from results
    for district, rules in outcome.held.items():
        context.log.warning(f"{district}: held by {', '.join(rules)}")
    if selected:
        context.instance.add_run_tags(context.run_id, {STATE: state(outcome)})
        if not (outcome.failed and outcome.transient and context.retry_number < RETRIES.max_retries):
            tell(work.home, list(current.values()), outcome, context.log.warning)
    if outcome.failed:
        why = "\n".join(f"{district}: {message}" for district, message in sorted(outcome.failed.items()))
        raise dg.Failure(
            f"{len(outcome.failed)} of {len(districts)} districts were not brought up to date.\n{why}",
            allow_retries=outcome.transient,
        )


def tell(home: Home, results: Sequence[pl.DataFrame], outcome: Outcome, warn: Callable[[str], None]) -> None:
    """Alert whoever the settings name. That they cannot be reached is no fault of the run."""
    try:
        alert(home, failing(results, outcome), outcome.districts, settings(), datetime.now(UTC))
    except (AlertNotSent, UnusableAlerts) as error:
        warn(str(error))


def state(outcome: Outcome) -> str:
    """done; partial where something waits for a person; failed where no district was brought up to date."""
    if not outcome.up_to_date:
        return "failed"
    return "partial" if outcome.exit_code else "done"


def materializations(home: Home, outcome: Outcome, selected: Collection[str]) -> Iterator[dg.AssetMaterialization]:
    """One per table and district that was brought up to date: the district's rows, and the versions behind them."""
    tables = {name: table.parts_by("district_id") for name, table in stored(home).items()}
    marts = published_rows(home) if any(name.startswith("marts/") for name in selected) else {}
    for spec in sorted(SPECS, key=lambda each: STAGES.index(each.key.path[0])):
        name = "/".join(spec.key.path)
        for district in outcome.up_to_date if name in selected else ():
            metadata: dict[str, dg.MetadataValue] = {}
            if name in tables:
                metadata["dagster/partition_row_count"] = dg.MetadataValue.int(tables[name].get(district, (0, ""))[0])
            elif name in marts:
                metadata["dagster/partition_row_count"] = dg.MetadataValue.int(marts[name].get(district, 0))
            if name == LEDGER:
                metadata |= files_of(outcome, district)
            if spec.key == WAREHOUSE:
                metadata["dagster/uri"] = dg.MetadataValue.path(str(home.warehouse))
                if home.warehouse_of(district).exists():
                    metadata["own_file"] = dg.MetadataValue.path(str(home.warehouse_of(district)))
            yield dg.AssetMaterialization(
                spec.key, partition=district, metadata=metadata, tags=versions(spec, district, tables)
            )


def versions(spec: dg.AssetSpec, district: str, tables: Mapping[str, Parts]) -> dict[str, str]:
    """What Dagster compares to say that a table is behind its code or its inputs."""
    inputs: dict[str, str] = {}
    for name in MADE_FROM.get("/".join(spec.key.path), ()):
        inputs[f"dagster/input_data_version/{name}"] = content(name, district, tables)
        inputs[f"dagster/input_event_pointer/{name}"] = "NULL"
    return {
        "dagster/code_version": str(spec.code_version),
        "dagster/data_version": content("/".join(spec.key.path), district, tables),
        **inputs,
    }


def content(name: str, district: str, tables: Mapping[str, Parts]) -> str:
    """Version of a district's rows: that of the stored files, and of a mart those of what it is made from."""
    if name in tables:
        return tables[name].get(district, (0, "empty"))[1]
    inputs = "\n".join(content(each, district, tables) for each in MADE_FROM[name])
    return hashlib.sha256(inputs.encode()).hexdigest()[:32]


def published_rows(home: Home) -> dict[str, dict[str, int]]:
    """Rows of the marts by asset and district."""
    if not home.warehouse.exists():
        return {}
    return {name.replace(".", "/"): rows for name, rows in rows_by_district(home.warehouse).items()}


def files_of(outcome: Outcome, district: str) -> dict[str, dg.MetadataValue]:
    """What became of a district's files in this run, in counts."""
    load = outcome.loads.get(district)
    if load is None:
        return {}
    counts = {f"files_{status}": load.files(status) for status in ("loaded", "held")}
    counts |= {"files_refused": len(load.refused), "files_seen_before": load.unchanged_files}
    for name in ("data_rows", "parsed", "rejected", "out_of_scope", "parked", "facts_appended", "facts_corrected"):
        counts[name] = sum(int(str(row[name] or 0)) for row in load.rows)
    return {name: dg.MetadataValue.int(count) for name, count in counts.items()}


def stored(home: Home) -> dict[str, Table]:
    """Delta tables by asset."""
    log, projections = Log(home), Projections(home.projections)
    return {
        "exports/ingest_ledger": log.ledger,
        "exports/rejected_row": log.rejected,
        **{f"events/{family}": table for family, table in log.families.items()},
        **{f"projections/{table.name}": table for table in projections.tables.values()},
    }


def current_results(home: Home, outcome: Outcome) -> dict[tuple[str, str], pl.DataFrame]:
    """What every check has to say now, of all districts: a run for one district must not hide what fails in another."""
    ledger = Log(home).ledger_rows()
    quality = Projections(home.projections).read(QualityResult).drop("input_id").collect()
    rows = [quality, balances(ledger)]
    if outcome.suspect is not None:
        rows.append(outcome.suspect)
    return {
        **by_check(pl.concat(rows, how="diagonal")),
        (LEDGER, "held"): waiting(ledger),
        (LEDGER, "policy"): usable_policies(home),
    }


def usable_policies(home: Home) -> pl.DataFrame:
    """One quality result per district: whether its policy can be used."""

    def usable(district: str) -> bool:
        try:
            home.policy(district)
        except UnreadablePolicy:
            return False
        return True

    districts = home.districts()
    passed = [usable(each) for each in districts]
    return pl.DataFrame(
        {"district_id": districts, "is_passed": passed}, schema_overrides={"is_passed": pl.Boolean}
    ).select(
        "district_id",
        "is_passed",
        rows=(~pl.col("is_passed")).cast(pl.Int64),
        about=pl.lit("policy"),
        rule=pl.lit("policy/<district>.toml can be used"),
        is_blocking=pl.lit(value=True),
        school_year=pl.lit(None, pl.String),
        school_id=pl.lit(None, pl.String),
    )
