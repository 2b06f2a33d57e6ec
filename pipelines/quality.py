"""Quality as rows: what Pandera and the rules found in each projection, by district and school year."""

from collections.abc import Mapping, Sequence

import polars as pl

from schemas.contract import broken_rules, columns, table_name
from schemas.projections import Projection, QualityResult

RESULT_SCHEMA = {name: dtype for name, dtype in columns(QualityResult).items() if name != "input_id"}
RESULT_COLUMNS = list(RESULT_SCHEMA)


def contract_results(rows: pl.DataFrame, contract: type[Projection], partitions: pl.DataFrame) -> pl.DataFrame:
    """One row per partition and broken rule, or one that says that the contract holds.

    Only where the whole table breaks a rule is it looked at partition by partition.
    """
    if rows.is_empty() or broken_rules(rows, contract).is_empty():
        return _results(partitions, contract, pl.lit("contract"), pl.lit(value=True), pl.lit(0, pl.Int64))
    found = [
        broken_rules(
            rows.filter((pl.col("district_id") == district) & (pl.col("school_year") == year)), contract
        ).with_columns(district_id=pl.lit(district), school_year=pl.lit(year))
        for district, year in partitions.select("district_id", "school_year").rows()
    ]
    broken = pl.concat(found)
    good = partitions.join(broken, on=["district_id", "school_year"], how="anti")
    rule = pl.concat_str([pl.lit("contract: "), "column", pl.lit(" "), "rule"])
    return pl.concat(
        [
            _results(good, contract, pl.lit("contract"), pl.lit(value=True), pl.lit(0, pl.Int64)),
            _results(broken, contract, rule, pl.lit(value=False), pl.col("rows").cast(pl.Int64)),
        ]
    )


def _results(
    partitions: pl.DataFrame, contract: type[Projection], rule: pl.Expr, passed: pl.Expr, rows: pl.Expr
) -> pl.DataFrame:
    return partitions.select(
        "district_id",
        "school_year",
        stage=pl.lit("projections"),
        tool=pl.lit("pandera"),
        about=pl.lit(table_name(contract)),
        school_id=pl.lit(None, pl.String),
        rule=rule,
        is_blocking=pl.lit(value=True),
        is_passed=passed,
        rows=rows,
        observed=pl.lit(None, pl.Float64),
    ).select(RESULT_COLUMNS)


def blocked(results: pl.DataFrame) -> pl.DataFrame:
    """District-years held by a failed blocking rule that is not about one school: partition and first rule."""
    return (
        results.filter("is_blocking", ~pl.col("is_passed"), pl.col("school_id").is_null())
        .group_by("district_id", "school_year")
        .agg(rule=pl.concat_str(["about", "rule"], separator=": ").sort().first())
        .sort("district_id", "school_year")
    )


def policy_results(partitions: pl.DataFrame, unread: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Settings on record that this release reads otherwise, by district: they warn, because what was decided stands."""
    settings = [(district, setting) for district, each in unread.items() for setting in each]
    named = pl.DataFrame(settings, schema={"district_id": pl.String, "setting": pl.String}, orient="row")
    return (
        partitions.join(named, on="district_id")
        .select(
            "district_id",
            "school_year",
            stage=pl.lit("projections"),
            tool=pl.lit("rule"),
            about=pl.lit("policy"),
            school_id=pl.lit(None, pl.String),
            rule=pl.lit("setting_on_record: ") + pl.col("setting"),
            is_blocking=pl.lit(value=False),
            is_passed=pl.lit(value=False),
            rows=pl.lit(1, pl.Int64),
            observed=pl.lit(None, pl.Float64),
        )
        .select(RESULT_COLUMNS)
    )


def finding_results(findings: pl.DataFrame) -> pl.DataFrame:
    """What the cycle rules found: it warns, because the rows are kept and shown."""
    return findings.select(
        "district_id",
        "school_year",
        stage=pl.lit("projections"),
        tool=pl.lit("rule"),
        about=pl.lit("cycle"),
        school_id=pl.lit(None, pl.String),
        rule=pl.col("rule"),
        is_blocking=pl.lit(value=False),
        is_passed=pl.col("rows") == 0,
        rows=pl.col("rows").cast(pl.Int64),
        observed=pl.lit(None, pl.Float64),
    ).select(RESULT_COLUMNS)
