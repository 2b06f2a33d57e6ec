"""Quality results seen from Dagster: one check per tool and table, over all districts, never blocking (SEMANTICS 4.5).

Results are rows first; here they are only counted. A school is not named, and no cell is shown.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import dagster as dg
import polars as pl

from pipelines.contracts import TABLES
from schemas.contract import table_name
from schemas.projections import PROJECTIONS, IngestLedger, QualityResult

CHECK_OF = {
    "pandera": "contract",
    "great_expectations": "plausible",
    "reconciliation": "reconciliation",
    "rule": "findings",
}
"""Tool to check."""
ABOUT = {
    "contract": "The table is what its contract says (Pandera). Where it is not, the last good version stays.",
    "plausible": "What was delivered is plausible (Great Expectations). Warns, unless the policy lists the rule"
    " under quality.blocking.",
    "reconciliation": "The stages add up.",
    "findings": "What the rules found on their way; the rows are kept and shown.",
    "held": "No file waits for a person.",
    "policy": "Every district has a policy that can be used.",
}
LEDGER = "exports/ingest_ledger"
FALLBACK = {"exports": LEDGER, "events": LEDGER, "projections": "projections/screening_result"}
"""Table whose check shows a result that is about a layout or a measure."""
DECLARED: tuple[tuple[str, str], ...] = (
    (LEDGER, "policy"),
    (LEDGER, "held"),
    (LEDGER, "reconciliation"),
    (LEDGER, "plausible"),
    *((f"projections/{table_name(each)}", "contract") for each in PROJECTIONS if each is not QualityResult),
    ("projections/screening_result", "plausible"),
    ("projections/class_membership", "plausible"),
    ("projections/cycle", "findings"),
    *((name, "plausible") for name in TABLES if name.startswith("marts/")),
    *((name, "reconciliation") for name in TABLES if name.startswith("marts/")),
)
"""(asset, check) of every check."""
CHECKS = tuple(dg.AssetCheckSpec(check, asset=name.split("/"), description=ABOUT[check]) for name, check in DECLARED)
MOST_LISTED = 100


def balances(ledger: pl.DataFrame) -> pl.DataFrame:
    """Both balances of every file that loaded, recounted from the ledger (SEMANTICS 2.2), as quality results."""
    rows = pl.sum_horizontal("parsed", "rejected", "out_of_scope", "parked", "erased", "duplicate_in_file")
    facts = pl.sum_horizontal("facts_appended", "facts_corrected", "facts_unchanged", "facts_empty", "facts_rejected")
    loaded = ledger.filter(pl.col("status") == "loaded").with_columns(
        off_rows=(rows - pl.col("data_rows")).abs(), off_facts=(facts - pl.col("parsed") * pl.col("slots")).abs()
    )
    return pl.concat(
        [
            loaded.group_by("district_id", about="layout").agg(
                rule=pl.lit(rule),
                is_passed=(pl.col(column) == 0).all(),
                rows=pl.col(column).sum().cast(pl.Int64),
                stage=pl.lit("exports"),
                tool=pl.lit("reconciliation"),
                is_blocking=pl.lit(value=True),
                school_year=pl.lit(None, pl.String),
                school_id=pl.lit(None, pl.String),
            )
            for rule, column in (("every row has one outcome", "off_rows"), ("every fact slot is counted", "off_facts"))
        ]
    )


def waiting(ledger: pl.DataFrame) -> pl.DataFrame:
    """Files whose latest reading was held, by the rule that holds them, as quality results."""
    latest = ledger.sort("recorded_at").group_by("batch_id", maintain_order=True).last()
    return (
        latest.group_by("district_id", rule=pl.col("held_rule").fill_null("held_rule"), held=pl.col("status") == "held")
        .agg(rows=pl.len().cast(pl.Int64), about=pl.lit(table_name(IngestLedger)))
        .with_columns(
            rows=pl.when("held").then("rows").otherwise(0),
            is_passed=~pl.col("held"),
            is_blocking=pl.lit(value=True),
            school_year=pl.lit(None, pl.String),
            school_id=pl.lit(None, pl.String),
        )
    )


def asset_of(check: str) -> pl.Expr:
    """The asset that shows a result of this check: the table it is about, else its stage's."""
    named = pl.concat_str(["stage", "about"], separator="/")
    return (
        pl.when(named.is_in([name for name, each in DECLARED if each == check]))
        .then(named)
        .otherwise(pl.col("stage").replace_strict(FALLBACK, default=LEDGER))
    )


def by_check(quality: pl.DataFrame) -> dict[tuple[str, str], pl.DataFrame]:
    """Quality results by the check that shows them."""
    found: dict[tuple[str, str], pl.DataFrame] = {}
    for tool, check in CHECK_OF.items():
        rows = quality.filter(pl.col("tool") == tool).with_columns(asset=asset_of(check))
        for (asset,), part in rows.group_by("asset"):
            found[str(asset), check] = part
    return found


def check_results(
    found: dict[tuple[str, str], pl.DataFrame], selected: Collection[tuple[str, str]], reports: Path
) -> Iterator[dg.AssetCheckResult]:
    """One result per check that had something to look at; it names the page, below ``reports``, that explains it."""
    for (asset, check), rows in sorted(found.items(), key=lambda each: each[0]):
        if (asset, check) in selected and rows.height:
            yield check_result(asset, check, rows, reports)


def check_result(asset: str, check: str, rows: pl.DataFrame, reports: Path) -> dg.AssetCheckResult:
    """Counts of what failed, by district, year and rule. A failure that holds nothing is a warning."""
    failed = rows.filter(~pl.col("is_passed"))
    listed = (
        failed.group_by("district_id", "school_year", "about", "rule", "is_blocking")
        .agg(
            rows=pl.col("rows").sum(),
            schools=pl.col("school_id").n_unique() - pl.col("school_id").null_count().clip(0, 1),
        )
        .sort("is_blocking", "rows", "district_id", "school_year", "rule", descending=[True, True, False, False, False])
    )
    districts = failed["district_id"].n_unique()
    return dg.AssetCheckResult(
        asset_key=asset.split("/"),
        check_name=check,
        passed=failed.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR if failed["is_blocking"].any() else dg.AssetCheckSeverity.WARN,
        description=(
            f"{rows.height} results, all good."
            if failed.is_empty()
            else f"{failed.height} of {rows.height} results fail, in {districts} district{'s' * (districts != 1)}."
        ),
        metadata={
            "results": rows.height,
            "failed": failed.height,
            "page": dg.MetadataValue.path(str(_page(rows, reports))),
            **({"what_failed": _listed(listed)} if listed.height else {}),
        },
    )


def _page(rows: pl.DataFrame, reports: Path) -> Path:
    """The checks page of the one district that was looked at, else the folder of all reports."""
    districts = rows["district_id"].drop_nulls().unique()
    return reports / districts.item() / "checks.html" if districts.len() == 1 else reports


def _listed(rows: pl.DataFrame) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({name: "" if value is None else value for name, value in row.items()})
            for row in rows.head(MOST_LISTED).to_dicts()
        ],
        schema=dg.TableSchema(
            columns=[
                dg.TableColumn(name, "int" if rows[name].dtype.is_integer() else "string") for name in rows.columns
            ]
        ),
    )
