"""What the published file is before a row is in it: its tables as the contracts say, and the views that answer."""

from importlib.resources import files

import duckdb
import polars as pl
from polars.datatypes import DataTypeClass

from schemas.answers import ANSWERS, HELPERS, SCALARS, Answer, Question, questions
from schemas.contract import Contract, columns, descriptions, summary, table_name
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, IngestLedger, RejectedRow
from warehouse.projections import PartitionState

LOG: tuple[type[Contract], ...] = (IngestLedger, RejectedRow)
STATE: tuple[type[Contract], ...] = (PartitionState,)
"""What the file was published from, so that a run that was cut off before it published is made good by the next."""
SCHEMAS: dict[str, tuple[type[Contract], ...]] = {
    "projections": PROJECTIONS,
    "log": LOG,
    "state": STATE,
    "marts": MARTS,
}
EDUCATION_RECORD = "This is an education record, not de-identified."

Shape = list[tuple[object, ...]]
"""Every column, table, view and macro of a file with its type or text and its comment, as DuckDB itself writes them."""

_NAMES: dict[object, str] = {
    pl.String: "VARCHAR",
    pl.Boolean: "BOOLEAN",
    pl.Date: "DATE",
    pl.Float64: "DOUBLE",
    pl.Int8: "TINYINT",
    pl.Int16: "SMALLINT",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.UInt32: "UINTEGER",
}
_CATALOGUE = (
    "select schema_name, table_name, column_name, data_type, comment from duckdb_columns() where not internal",
    "select schema_name, table_name, comment from duckdb_tables() where not internal and not temporary",
    "select schema_name, view_name, sql, comment from duckdb_views() where not internal",
    "select schema_name, function_name, parameters, macro_definition, comment from duckdb_functions()"
    " where not internal",
)


def make(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill an empty file with empty tables, views and macros, each with its comment."""
    for schema, contracts in SCHEMAS.items():
        connection.execute(f"create schema {schema}")
        for contract in contracts:
            name = f"{schema}.{table_name(contract)}"
            listed = ", ".join(f"{quoted(column)} {duckdb_type(dtype)}" for column, dtype in columns(contract).items())
            connection.execute(f"create table {name} ({listed})")
            _describe(connection, name, contract)
    connection.execute("create schema answers")
    for name, (parameters, meaning) in SCALARS.items():
        connection.execute(f"create macro answers.{name}({', '.join(parameters)}) as {answer_sql(name)}")
        connection.execute(f"comment on macro answers.{name} is {text(meaning)}")
    for answer in (*HELPERS, *ANSWERS):
        _make_answer(connection, answer)
    name = f"answers.{table_name(Question)}"
    listed = ", ".join(
        f"({number}::bigint, {', '.join(text(each) for each in words)})" for number, *words in questions().rows()
    )
    connection.execute(f"create view {name} as from (values {listed}) as t({', '.join(columns(Question))})")
    _describe(connection, name, Question, "view")


def of(connection: duckdb.DuckDBPyConnection) -> Shape:
    """The shape of a file; two files that one release made have the same."""
    return [row for query in _CATALOGUE for row in sorted(connection.execute(query).fetchall(), key=repr)]


def answer_sql(name: str) -> str:
    """The SELECT of a view or table macro, or the expression of a macro."""
    return files("warehouse").joinpath("answers", f"{name}.sql").read_text("utf-8")


def duckdb_type(dtype: DataTypeClass | pl.DataType) -> str:
    """The DuckDB type of a column of a contract."""
    if isinstance(dtype, pl.List):
        return f"{duckdb_type(dtype.inner)}[]"
    if isinstance(dtype, pl.Struct):
        return f"STRUCT({', '.join(f'{quoted(each.name)} {duckdb_type(each.dtype)}' for each in dtype.fields)})"
    if isinstance(dtype, pl.Datetime):
        return "TIMESTAMP WITH TIME ZONE" if dtype.time_zone else "TIMESTAMP"
    return _NAMES[dtype.base_type()]


def quoted(name: str) -> str:
    """An identifier as SQL reads it."""
    return '"' + name.replace('"', '""') + '"'


def text(words: str) -> str:
    """A literal as SQL reads it."""
    return "'" + words.replace("'", "''") + "'"


def _make_answer(connection: duckdb.DuckDBPyConnection, answer: Answer) -> None:
    query = answer_sql(table_name(answer.contract))
    if not answer.parameters:
        connection.execute(f"create view {answer.name} as {query}")
        _describe(connection, answer.name, answer.contract, "view")
        return
    connection.execute(f"create macro {answer.name}({', '.join(answer.parameters)}) as table {query}")
    told = " ".join(f"{name}: {meaning}" for name, meaning in answer.parameters.items())
    words = f"{summary(answer.contract)} {told} {EDUCATION_RECORD}"
    connection.execute(f"comment on macro table {answer.name} is {text(words)}")


def _describe(connection: duckdb.DuckDBPyConnection, name: str, contract: type[Contract], kind: str = "table") -> None:
    connection.execute(f"comment on {kind} {name} is {text(f'{summary(contract)} {EDUCATION_RECORD}')}")
    for column, description in descriptions(contract).items():
        connection.execute(f"comment on column {name}.{quoted(column)} is {text(description)}")
