"""Great Expectations: is this delivery plausible, and is what was published what the tables promise.

Suites look at summaries (one row per school, measure and window), never at students. What is asked for is the number of
a row that fails, without its values; what comes back is `QualityResult` rows. Importing this module takes seconds.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import great_expectations as gx
import pandas as pd
import polars as pl
import sqlalchemy
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.datasource.fluent import SQLDatasource
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations import (
    ExpectColumnPairValuesAToBeGreaterThanB,
    ExpectColumnValuesToBeBetween,
    ExpectColumnValuesToBeInSet,
    ExpectColumnValuesToNotBeNull,
    ExpectCompoundColumnsToBeUnique,
)

from pipelines.delivery import RULES, summaries
from pipelines.quality import RESULT_COLUMNS, RESULT_SCHEMA
from schemas.contract import table_name
from schemas.marts import MARTS, ClassroomFlag, TierSummary
from schemas.policy import DistrictPolicy
from schemas.projections import LEVELS, SEASONS, Projection

ROWS_ONLY: dict[str, Any] = {
    "result_format": "COMPLETE",
    "exclude_unexpected_values": True,
    "include_unexpected_rows": False,
    "partial_unexpected_count": 0,
}
"""Numbers of the rows that fail, and no value of theirs."""
COUNTS_ONLY: dict[str, Any] = {"result_format": "BASIC", "partial_unexpected_count": 0}


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
    return sorted({row for result in _results(batch, suite, ROWS_ONLY) for row in _failing_rows(result)})


WITHIN = (
    ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="observed", column_B="low", or_equal=True, ignore_row_if="either_value_is_missing"
    ),
    ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="high", column_B="observed", or_equal=True, ignore_row_if="either_value_is_missing"
    ),
)
"""What is expected of every summary: the observed number lies between bounds that the district's policy gives."""


def published(warehouse: Path) -> pl.DataFrame:
    """``QualityResult`` rows without ``input_id`` for the published tables as people will read them."""
    source = _DuckDB(
        name="warehouse",
        connection_string=f"duckdb:///{warehouse}",
        create_temp_table=False,
        kwargs={"connect_args": {"read_only": True, "config": {"autoinstall_known_extensions": "false"}}},
    )
    source._data_context = _context()
    found: list[dict[str, object]] = []
    engine: _KeptOpen = source.get_execution_engine()
    try:
        for table, expectations in PUBLISHED.items():
            schema, name = table.split(".")
            batch = (
                source.add_table_asset(table.replace(".", "_"), table_name=name, schema_name=schema)
                .add_batch_definition_whole_table("all")
                .get_batch()
            )
            suite = gx.ExpectationSuite(name, expectations=list(expectations))
            for result in _results(batch, suite, COUNTS_ONLY):
                found.append(_told(name, "great_expectations", _rule_of(result), _unexpected(result)))
        with engine.get_connection() as connection:
            for name, query in RECONCILED.items():
                (off,) = connection.execute(sqlalchemy.text(query)).one()
                found.append(_told(name, "reconciliation", "adds up to the projections", int(off or 0)))
    finally:
        engine.close_kept()
        source.get_engine().dispose()
    return pl.DataFrame(found, schema=RESULT_SCHEMA)


def _told(about: str, tool: str, rule: str, rows: int) -> dict[str, object]:
    return {
        "district_id": None,
        "school_year": None,
        "stage": "marts",
        "tool": tool,
        "about": about,
        "school_id": None,
        "rule": rule,
        "is_blocking": tool == "reconciliation",
        "is_passed": rows == 0,
        "rows": rows,
        "observed": None,
    }


def _shares(*names: str) -> list[Any]:
    return [ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=1) for name in names]


def _in_order(*pairs: tuple[str, str]) -> list[Any]:
    return [
        ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=most, column_B=least, or_equal=True, ignore_row_if="either_value_is_missing"
        )
        for most, least in pairs
    ]


PUBLISHED: dict[str, list[Any]] = {
    **{
        f"marts.{table_name(contract)}": [
            *(ExpectColumnValuesToNotBeNull(column=name) for name in ("district_id", "school_year")),
        ]
        for contract in MARTS
    },
    "projections.tier_placement": [
        ExpectColumnValuesToBeInSet(column="tier", value_set=[1, 2, 3]),
        ExpectCompoundColumnsToBeUnique(column_list=["district_id", "school_year", "benchmark_window", "subject_key"]),
    ],
}
PUBLISHED[f"marts.{table_name(ClassroomFlag)}"] += [
    ExpectColumnValuesToBeInSet(column="level", value_set=list(LEVELS)),
    ExpectColumnValuesToBeInSet(column="benchmark_window", value_set=list(SEASONS)),
    ExpectColumnValuesToNotBeNull(column="reason"),
    *_shares("coverage", "need_share", "interval_low", "interval_high", "p_above"),
    *_in_order(("enrolled", "tested"), ("tested", "in_need"), ("interval_high", "interval_low")),
]
PUBLISHED[f"marts.{table_name(TierSummary)}"] += [
    *_shares("tier_1_share", "tier_2_share", "tier_3_share"),
    *_in_order(("students", "placed"), ("placed", "tier_3")),
]
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


class _KeptOpen(SqlAlchemyExecutionEngine):
    """Keeps its connection, as Great Expectations does for SQLite: it reads results of DuckDB after closing it."""

    _connection: Any

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        if self._connection is None:
            self._connection = self.engine.connect()
        yield self._connection

    def close_kept(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.engine.dispose()


class _DuckDB(SQLDatasource):
    type: Literal["duckdb"] = "duckdb"

    @property
    def execution_engine_type(self) -> Any:
        return _KeptOpen


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


def _results(batch: Any, suite: gx.ExpectationSuite, result_format: dict[str, Any]) -> list[Any]:
    return list(batch.validate(suite, result_format=result_format).results)


def _failing_rows(result: Any) -> list[int]:
    _refuse_broken(result)
    return [int(row) for row in result.result.get("unexpected_index_list") or ()]


def _unexpected(result: Any) -> int:
    _refuse_broken(result)
    return 0 if result.success else int(result.result.get("unexpected_count") or 1)


def _rule_of(result: Any) -> str:
    """The expectation and the columns it is about; its bounds are part of the rule, not of the data."""
    config = result.expectation_config
    about = [config.kwargs[each] for each in ("column", "column_A", "column_B") if each in config.kwargs]
    return " ".join([config.type.removeprefix("expect_"), *about, *config.kwargs.get("column_list", ())])


class BrokenExpectation(Exception):
    """An expectation could not be computed; names it, and no cell."""


def _refuse_broken(result: Any) -> None:
    raised = result.exception_info or {}
    nested = raised.values() if all(isinstance(each, dict) for each in raised.values()) else [raised]
    if any(each.get("raised_exception") for each in nested):
        raise BrokenExpectation(f"{_rule_of(result)} could not be computed") from None
