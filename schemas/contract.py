"""What every contract shares: its columns as Polars types, its words, and counting broken rules."""

import re
from functools import cache
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

ABOUT_COLUMNS = ("column_in_schema", "column_in_dataframe")
"""Pandera checks whose failure case is a column name; every other failure case is a cell."""


class BrokenContract(Exception):
    """A table is not what its contract says. Carries names of columns and rules and counts, never a cell."""


class Contract(pa.DataFrameModel):
    """A table: the docstring starts with its meaning and its grain."""

    class Config:
        strict = True
        coerce = False


def table_name(contract: type[Contract]) -> str:
    """``TierPlacement`` is the table ``tier_placement``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", contract.__name__).lower()


def stage(contract: type[Contract]) -> str:
    """The stage a contract belongs to: the module that defines it."""
    return contract.__module__.rsplit(".", 1)[-1]


def summary(contract: type[Contract]) -> str:
    """The docstring as one line of text."""
    return " ".join((contract.__doc__ or "").split())


def columns(contract: type[Contract]) -> dict[str, pl.DataType]:
    """Column names and Polars types, in the order of the contract."""
    schema = contract.to_schema()
    return {name: column.dtype.type for name, column in schema.columns.items()}


def descriptions(contract: type[Contract]) -> dict[str, str]:
    """What each column means."""
    return {name: column.description or "" for name, column in contract.to_schema().columns.items()}


def nullable(contract: type[Contract]) -> frozenset[str]:
    """Columns that may be null."""
    return frozenset(name for name, column in contract.to_schema().columns.items() if column.nullable)


def empty(contract: type[Contract]) -> pl.DataFrame:
    """The table without rows."""
    return pl.DataFrame(schema=columns(contract))


def conform(frame: pl.LazyFrame, contract: type[Contract]) -> pl.LazyFrame:
    """Put the contract's columns in order, cast to its types; columns the frame lacks become null.

    Numbers are cast strictly only where every value fits by construction; a value that does not becomes
    null and is then counted by ``broken_rules``, because Polars prints the cells of a cast that fails.
    """
    present = frame.collect_schema().names()
    return frame.select(
        pl.col(name).cast(dtype, strict=False) if name in present else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in columns(contract).items()
    )


def broken_rules(rows: pl.DataFrame, contract: type[Contract]) -> pl.DataFrame:
    """Count the rows that break each rule: ``column``, ``rule``, ``rows``.

    Takes an eager frame on purpose: pandera checks only names and types of a LazyFrame.
    """
    schema = {"column": pl.String, "rule": pl.String, "rows": pl.UInt32}
    has_its_types = dict(rows.schema) == columns(contract)
    checked = _rules(contract) if has_its_types else contract.to_schema()  # type: ignore[arg-type]
    try:
        checked.validate(rows.select(list(checked.columns)) if has_its_types else rows, lazy=True)
    except SchemaErrors as errors:
        about_column = pl.col("check").is_in(ABOUT_COLUMNS)
        return (
            errors.failure_cases.select(
                column=pl.when(about_column).then("failure_case").otherwise("column").cast(pl.String),
                rule=pl.col("check").cast(pl.String),
            )
            .group_by("column", "rule")
            .len("rows")
            .cast(schema)
            .sort("column", "rule")
        )
    return pl.DataFrame(schema=schema)


@cache
def _rules(contract: type[Contract]) -> pa.DataFrameSchema:
    """The columns of which more is said than their type: pandera takes its time for each, whatever it holds."""
    schema = contract.to_schema()
    plain = [name for name, column in schema.columns.items() if column.nullable and not column.checks]
    return schema.remove_columns([name for name in plain if name not in (schema.unique or [])])


def require(rows: pl.DataFrame, contract: type[Contract]) -> pl.DataFrame:
    """The same rows, or ``BrokenContract`` naming the columns and rules that fail and how many rows."""
    broken = broken_rules(rows, contract)
    if broken.is_empty():
        return rows
    listed = "; ".join(
        f"{column}: {rule} ({count} rows)"
        for column, rule, count in zip(broken["column"], broken["rule"], broken["rows"], strict=True)
    )
    raise BrokenContract(f"{table_name(contract)} is not what its contract says. {listed}.") from None


def field(description: str, **rules: Any) -> Any:
    """A column of a contract: its meaning and its rules. Nullable unless it says otherwise."""
    rules.setdefault("nullable", True)
    return pa.Field(description=description, **rules)
