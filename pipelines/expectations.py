"""Great Expectations: is this delivery plausible, and is what was published what the tables promise.

The suite looks at summaries, never at students: one row per school, measure and window, or per promise of a table. What
is asked for is the number of a row that fails, without its values; what comes back is `QualityResult` rows. Importing
this module takes seconds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
import polars as pl
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations import ExpectColumnPairValuesAToBeGreaterThanB

from pipelines.delivery import RULES, summaries
from pipelines.quality import RESULT_COLUMNS, RESULT_SCHEMA
from schemas.contract import table_name
from schemas.marts import MARTS, ClassroomFlag, TierSummary
from schemas.policy import DistrictPolicy
from schemas.projections import LEVELS, SEASONS, Projection
from warehouse.publish import connect

ROWS_ONLY: dict[str, Any] = {
    "result_format": "COMPLETE",
    "exclude_unexpected_values": True,
    "include_unexpected_rows": False,
    "partial_unexpected_count": 0,
}
"""Numbers of the rows that fail, and no value of theirs."""


def plausible(
    tables: Mapping[type[Projection], pl.DataFrame], ledger: pl.DataFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    """``QualityResult`` rows without ``input_id`` for what these tables and files look like.

    One row per rule, district, school year and whatever the rule is about. A failure warns; it blocks where the
    district's policy lists the rule under `quality.blocking`.
    """
    found = [
        frame.with_columns(stage=pl.lit(RULES[name].stage), asked=pl.lit(name))
        for name, frame in summaries(tables, ledger, policies).items()
        if frame.height
    ]
    if not found:
        return pl.DataFrame(schema=RESULT_SCHEMA)
    summary = pl.concat(found)
    asked = summary.select("district_id", "asked").rows()
    blocking = [name in policies[district].quality.blocking for district, name in asked]
    failed = pl.int_range(pl.len()).is_in(_outside(summary))
    return summary.select(
        *("district_id", "school_year", "stage", "about", "school_id", "rule", "observed"),
        tool=pl.lit("great_expectations"),
        is_blocking=pl.Series(blocking, dtype=pl.Boolean),
        is_passed=~failed,
        rows=pl.when(failed).then("rows").otherwise(0).cast(pl.Int64),
    ).select(RESULT_COLUMNS)


def _outside(summary: pl.DataFrame) -> list[int]:
    """Numbers of the rows whose observed number lies outside its bounds: all rules in one pass."""
    seen = pd.DataFrame({name: summary[name].to_numpy() for name in ("observed", "low", "high")})
    batch = (
        _context()
        .data_sources.add_pandas("delivery")
        .add_dataframe_asset("summaries")
        .add_batch_definition_whole_dataframe("all")
        .get_batch(batch_parameters={"dataframe": seen})
    )
    suite = gx.ExpectationSuite("delivery", expectations=list(WITHIN))
    results = batch.validate(suite, result_format=ROWS_ONLY).results
    return sorted({row for result in results for row in _failing_rows(result)})


WITHIN = (
    ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="observed", column_B="low", or_equal=True, ignore_row_if="either_value_is_missing"
    ),
    ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="high", column_B="observed", or_equal=True, ignore_row_if="either_value_is_missing"
    ),
)
"""What is expected of every summary: the observed number lies between its bounds. A delivery's come from the district's
policy; of rows that break a promise there is none."""


def published(warehouse: Path) -> pl.DataFrame:
    """``QualityResult`` rows without ``input_id`` for the published tables as people will read them.

    Each table is read once: its promises are counted there, and all counts are judged in one pass.
    """
    found = []
    with connect(warehouse) as connection:
        for table, promises in PROMISED.items():
            counts = connection.execute(f"select {', '.join(promises.values())} from {table}").fetchone()  # noqa: S608
            for rule, rows in zip(promises, counts or (), strict=True):
                found.append(_told(table.partition(".")[2], "great_expectations", rule, rows))
        for name, query in RECONCILED.items():
            (off,) = connection.execute(query).fetchone() or (0,)
            found.append(_told(name, "reconciliation", "adds up to the projections", off))
    results = pl.DataFrame(found, schema=RESULT_SCHEMA)
    none = pl.lit(0.0)
    failed = _outside(results.select(observed=pl.col("rows").cast(pl.Float64), low=none, high=none))
    return results.with_columns(is_passed=~pl.int_range(pl.len()).is_in(failed))


def _told(about: str, tool: str, rule: str, rows: int) -> dict[str, object]:
    return {
        "stage": "marts",
        "tool": tool,
        "about": about,
        "rule": rule,
        "is_blocking": tool == "reconciliation",
        "rows": rows,
    }


def _rows(condition: str) -> str:
    return f"count(*) filter (where {condition})"


def _known(*names: str) -> dict[str, str]:
    return {f"column_values_to_not_be_null {name}": _rows(f"{name} is null") for name in names}


def _shares(*names: str) -> dict[str, str]:
    return {f"column_values_to_be_between {name}": _rows(f"{name} not between 0 and 1") for name in names}


def _one_of(name: str, values: Sequence[object]) -> dict[str, str]:
    return {f"column_values_to_be_in_set {name}": _rows(f"{name} not in {tuple(values)}")}


def _in_order(*pairs: tuple[str, str]) -> dict[str, str]:
    """Where either is missing there is no order to break."""
    return {
        f"column_pair_values_a_to_be_greater_than_b {most} {least}": _rows(f"{most} < {least}") for most, least in pairs
    }


def _once(table: str, *key: str) -> dict[str, str]:
    """Rows that share their key with another."""
    listed = ", ".join(key)
    groups = f"from {table} select count(*) as rows group by {listed} having rows > 1"
    return {f"compound_columns_to_be_unique {' '.join(key)}": f"(select coalesce(sum(rows), 0) from ({groups}))"}  # noqa: S608 - our own names


PROMISED: dict[str, dict[str, str]] = {
    **{f"marts.{table_name(contract)}": _known("district_id", "school_year") for contract in MARTS},
    "projections.tier_placement": {
        **_one_of("tier", (1, 2, 3)),
        **_once("projections.tier_placement", "district_id", "school_year", "benchmark_window", "subject_key"),
    },
}
"""How many rows break each promise of a table, as SQL over the table, by the name of the expectation."""
PROMISED[f"marts.{table_name(ClassroomFlag)}"] |= {
    **_one_of("level", LEVELS),
    **_one_of("benchmark_window", SEASONS),
    **_known("reason"),
    **_shares("coverage", "need_share", "interval_low", "interval_high", "p_above"),
    **_in_order(("enrolled", "tested"), ("tested", "in_need"), ("interval_high", "interval_low")),
}
PROMISED[f"marts.{table_name(TierSummary)}"] |= {
    **_shares("tier_1_share", "tier_2_share", "tier_3_share"),
    **_in_order(("students", "placed"), ("placed", "tier_3")),
}
RECONCILED = {
    "classroom_flag": "select abs((select count(*) from marts.classroom_flag)"
    " - (select count(*) from projections.class_decision))",
    "tier_summary": "select abs((select coalesce(sum(students), 0) from marts.tier_summary)"
    " - (select count(*) from projections.tier_placement))",
    "tier_reconciliation": "select abs((select count(*) from marts.tier_reconciliation)"
    " - (select coalesce(sum(team_differs), 0) from marts.tier_summary))",
    "review_list": "select abs((select count(*) from marts.review_list) - (select count(*) from projections.referral))",
    "cycle_summary": "select abs((select coalesce(sum(cycles), 0) from marts.cycle_summary)"
    " - (select count(*) from projections.cycle))",
    "responder_summary": "select abs((select count(*) from marts.responder_summary)"
    " - (select count(*) from projections.responder_rate))",
    "school_signal": "select abs((select count(*) from marts.school_signal)"
    " - (select count(*) from projections.school_signal))",
    "data_quality": "select abs((select count(*) from marts.data_quality)"
    " - (select count(*) from projections.quality_result))",
}
"""By how many rows each mart is off the projection it is made from."""


def _context() -> Any:
    """A context in memory: no folder, no bars, no reports to anyone."""
    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
    )


def _failing_rows(result: Any) -> list[int]:
    _refuse_broken(result)
    return [int(row) for row in result.result.get("unexpected_index_list") or ()]


class BrokenExpectation(Exception):
    """An expectation could not be computed; names it, and no cell."""


def _refuse_broken(result: Any) -> None:
    raised = result.exception_info or {}
    nested = raised.values() if all(isinstance(each, dict) for each in raised.values()) else [raised]
    if any(each.get("raised_exception") for each in nested):
        raise BrokenExpectation(f"{result.expectation_config.type} could not be computed") from None
