"""Contracts seen from Dagster: which assets there are, what they are made from, their words and their columns."""

from datetime import timedelta

import dagster as dg

from pipelines.partitions import DISTRICTS
from pipelines.refresh import RULES_VERSION
from schemas.contract import Contract, columns, descriptions, nullable, summary, table_name
from schemas.events import FAMILIES, SCHEMA_VERSION
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, IngestLedger, RejectedRow
from warehouse.shape import duckdb_type

STAGES = ("exports", "events", "projections", "marts")
EXPORTS: tuple[type[Contract], ...] = (IngestLedger, RejectedRow)
OWNER = "team:data"
LOOKED_AT = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
"""A district is looked at every night: one night missed warns, two fail."""
WAREHOUSE = dg.AssetKey(["marts", "warehouse"])

MADE_FROM: dict[str, tuple[str, ...]] = {
    "exports/rejected_row": ("exports/ingest_ledger",),
    **{f"events/{family}": ("exports/ingest_ledger",) for family in FAMILIES},
    "projections/policy_setting": ("events/rules",),
    "projections/window_rule": ("events/rules", "projections/screening_result"),
    "projections/screening_result": ("events/rules", "events/screening", "events/identity", "events/log"),
    "projections/class_membership": (
        "events/roster",
        "events/description",
        "events/not_tested",
        "events/identity",
        "events/log",
        "projections/window_rule",
    ),
    "projections/cut_score": (
        "projections/screening_result",
        "projections/class_membership",
        "projections/window_rule",
    ),
    "projections/need_level": (
        "events/not_tested",
        "projections/cut_score",
        "projections/screening_result",
        "projections/class_membership",
        "projections/window_rule",
    ),
    "projections/tier_placement": (
        "events/plan",
        "projections/need_level",
        "projections/screening_result",
        "projections/class_membership",
        "projections/window_rule",
        "projections/cycle",
        "projections/cycle_outcome",
    ),
    "projections/referral": ("events/plan", "events/identity", "events/log"),
    "projections/school": ("events/roster", "events/log"),
    "projections/class_context": ("events/context", "events/log", "projections/class_membership"),
    "projections/tier_stability": ("projections/need_level",),
    "projections/screening_accuracy": ("projections/need_level", "projections/screening_result"),
    "projections/cycle": (
        "events/rules",
        "events/cycle",
        "events/session",
        "events/identity",
        "events/log",
        "projections/class_membership",
        "projections/need_level",
    ),
    "projections/cycle_outcome": (
        "events/rules",
        "events/cycle",
        "events/session",
        "events/identity",
        "events/log",
        "projections/class_membership",
        "projections/need_level",
    ),
    "projections/progress": ("events/rules", "events/cycle", "events/session", "events/identity", "events/log"),
    "projections/probe_day": ("events/rules", "events/cycle", "events/session", "events/identity", "events/log"),
    "projections/regrouping_proposal": (
        "events/rules",
        "projections/tier_placement",
        "projections/cycle",
        "projections/cycle_outcome",
    ),
    "projections/responder_rate": ("projections/cycle", "projections/cycle_outcome"),
    "projections/intervention_effect": (
        "projections/screening_result",
        "projections/need_level",
        "projections/cycle",
        "projections/cycle_outcome",
    ),
    "projections/quality_result": (
        "exports/ingest_ledger",
        "events/plan",
        "events/context",
        "projections/policy_setting",
        "projections/screening_result",
        "projections/class_membership",
        "projections/need_level",
        "projections/tier_placement",
        "projections/cycle",
        "projections/cycle_outcome",
        "projections/progress",
        "projections/probe_day",
        "projections/regrouping_proposal",
        "projections/responder_rate",
        "projections/intervention_effect",
        "projections/referral",
        "projections/school",
        "projections/class_context",
        "projections/tier_stability",
        "projections/screening_accuracy",
    ),
    "projections/class_decision": (
        "projections/class_membership",
        "projections/class_topic",
        "projections/need_level",
        "projections/quality_result",
    ),
    "projections/class_growth": ("projections/class_membership", "projections/need_level"),
    "projections/class_topic": (
        "projections/class_membership",
        "projections/need_level",
        "projections/quality_result",
        "projections/screening_result",
    ),
    "projections/school_signal": (
        "events/plan",
        "events/context",
        "projections/class_membership",
        "projections/tier_placement",
        "projections/cycle",
        "projections/cycle_outcome",
        "projections/class_decision",
        "projections/quality_result",
    ),
    "marts/classroom_flag": ("projections/class_decision", "projections/class_growth"),
    "marts/tier_summary": ("projections/tier_placement",),
    "marts/tier_reconciliation": ("projections/tier_placement",),
    "marts/review_list": ("projections/referral", "projections/tier_placement"),
    "marts/cycle_summary": ("projections/cycle", "projections/cycle_outcome"),
    "marts/responder_summary": ("projections/responder_rate",),
    "marts/school_signal": ("projections/school_signal",),
    "marts/data_quality": ("projections/quality_result", "exports/ingest_ledger"),
    "marts/student_need": (
        "projections/window_rule",
        "projections/class_membership",
        "projections/cycle",
        "projections/cycle_outcome",
        "projections/tier_placement",
        "projections/school_signal",
    ),
    "marts/tier_movement": ("projections/tier_placement",),
    "marts/class_movement": ("projections/class_membership",),
    "marts/measure_summary": ("projections/screening_result",),
    "marts/warehouse": (
        "exports/rejected_row",
        "projections/policy_setting",
        "projections/progress",
        "projections/school",
        "projections/class_context",
        "projections/probe_day",
        "projections/regrouping_proposal",
        "projections/intervention_effect",
        "projections/tier_stability",
        "projections/screening_accuracy",
        "marts/classroom_flag",
        "marts/tier_summary",
        "marts/tier_reconciliation",
        "marts/review_list",
        "marts/cycle_summary",
        "marts/responder_summary",
        "marts/school_signal",
        "marts/data_quality",
        "marts/student_need",
        "marts/tier_movement",
        "marts/class_movement",
        "marts/measure_summary",
    ),
}
"""What each table is made from. The warehouse names the tables that nothing else stands between."""

TABLES: dict[str, type[Contract]] = {
    **{f"exports/{table_name(each)}": each for each in EXPORTS},
    **{f"events/{family}": each for family, each in FAMILIES.items()},
    **{f"projections/{table_name(each)}": each for each in PROJECTIONS},
    **{f"marts/{table_name(each)}": each for each in MARTS},
}
"""Every table, by `stage/table`, which is its asset key."""
KINDS: dict[str, set[str]] = {
    "exports": {"deltalake", "polars"},
    "events": {"deltalake", "polars"},
    "projections": {"deltalake", "polars", "pandera"},
    "marts": {"duckdb", "sql"},
}
_VERSIONS = {"exports": f"schema {SCHEMA_VERSION}", "events": f"schema {SCHEMA_VERSION}"}


def column_schema(contract: type[Contract]) -> dg.TableSchema:
    """The contract's columns with their meanings, and their types as the warehouse has them."""
    meanings, may_be_null = descriptions(contract), nullable(contract)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=name,
                type=duckdb_type(dtype),
                description=meanings[name],
                constraints=dg.TableColumnConstraints(nullable=name in may_be_null),
            )
            for name, dtype in columns(contract).items()
        ]
    )


def _spec(name: str, description: str, metadata: dict[str, object]) -> dg.AssetSpec:
    stage = name.split("/")[0]
    return dg.AssetSpec(
        name.split("/"),
        description=description,
        group_name=stage,
        deps=[each.split("/") for each in MADE_FROM.get(name, ())],
        kinds=KINDS[stage],
        owners=[OWNER],
        metadata=metadata,
        code_version=_VERSIONS.get(stage, f"rules {RULES_VERSION}"),
        freshness_policy=LOOKED_AT,
        partitions_def=DISTRICTS,
        skippable=True,
    )


SPECS: tuple[dg.AssetSpec, ...] = (
    *(_spec(name, summary(each), {"dagster/column_schema": column_schema(each)}) for name, each in TABLES.items()),
    _spec(
        "/".join(WAREHOUSE.path),
        "The DuckDB file people query: every projection, the ledger and the marts, replaced whole by a rename.",
        {},
    ),
)
"""Every asset. None is materialized for a district that was not brought up to date, hence skippable."""
