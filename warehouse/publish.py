"""The DuckDB file people query: built beside the old one and renamed into place, so that nobody meets a lock."""

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import unquote

import duckdb
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from filelock import FileLock, Timeout

from schemas.contract import Contract, columns, table_name
from schemas.events import ALL_YEARS
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, IngestLedger
from warehouse import shape
from warehouse.faults import disk_fault
from warehouse.projections import UNDER_WAY, PartitionState
from warehouse.shape import LOG, SCHEMAS, STATE, text
from warehouse.swap import sync

Source = DeltaTable | Sequence[str]
"""Where a table is read from: a Delta table, or the URIs of its Parquet files, percent-encoded as Delta gives them."""
Partition = tuple[str, str]
"""District and school year."""
PARTITIONED = ("district_id", "school_year")

LOCK_SECONDS = 600.0

_PARTITION = re.compile(r"(?:^|/)(district_id|school_year)=([A-Za-z0-9_-]+)(?=/)")


class PublishFailed(Exception):
    """The warehouse could not be published; the one before is unchanged. Carries names and counts, never a cell."""


class UnreadableWarehouse(Exception):
    """The published warehouse cannot be read. Names the file, never a cell."""


def connect(path: Path, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """Open the warehouse, with every time in UTC and no extension fetched from anywhere.

    A process that holds the file open keeps seeing what it opened when a newer one is published, also through
    a second connection; it sees the new one once it has closed them all.
    """
    connection = duckdb.connect(str(path), read_only=read_only, config={"autoinstall_known_extensions": "false"})
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set enable_progress_bar = false")  # it draws one where a query takes two seconds
    return connection


def ask(path: Path, query: str, values: Sequence[object] = ()) -> pl.DataFrame | None:
    """Rows of the published warehouse; None before the first is published.

    Raises:
        UnreadableWarehouse: the file is not one that this version publishes.
    """
    if not path.exists():
        return None
    try:
        with connect(path) as connection:
            return pl.DataFrame(connection.sql(query, params=list(values)))
    except duckdb.Error as error:
        raise UnreadableWarehouse(
            f"{path.name} cannot be read ({type(error).__name__}). Move it away; `tierline run` publishes it anew."
        ) from None


def publish(
    target: Path,
    sources: Mapping[str, Source],
    changed: Collection[Partition] | None = None,
    *,
    lock_of: Path | None = None,
    timeout: float = LOCK_SECONDS,
    note: str | None = None,
) -> dict[str, int]:
    """Publish the warehouse: the projections and the log as they stand, and the marts made from them.

    Args:
        target: The file readers open. The new one is built in the same folder.
        sources: Table name to source, of every table that exists; a table without a source is empty.
        changed: Partitions to replace; the others keep what the file has. None replaces all, and so does a file
            that another release made.
        lock_of: Published file whose lock is taken; the target's own if absent.
        timeout: Seconds to wait for another publish under the same lock.
        note: What every table's comment says at its end.

    Returns:
        Rows of every table, by `schema.table`.

    Raises:
        PublishFailed: nothing was published and the file of before is unchanged.
    """
    unknown = sorted(set(sources) - {table_name(each) for each in (*PROJECTIONS, *LOG, *STATE)})
    if unknown:
        raise PublishFailed(f"No contract describes {', '.join(unknown)}. Name tables of the projections or the log.")
    with _told(f"{target.name} could not be written"), _locked(lock_of or target, timeout), _beside(target) as made:
        if changed is not None and _is_current(target):
            shutil.copyfile(target, made)
        else:
            made.write_bytes(_empty().content)
            changed = None
        with connect(made, read_only=False) as connection:
            connection.execute("begin")
            rows = _fill(connection, sources, changed)
            if note is not None:
                _note(connection, note)
            connection.execute("commit")
            connection.execute("checkpoint")
    return rows


class _Empty(NamedTuple):
    content: bytes
    shape: shape.Shape


@cache
def _empty() -> _Empty:
    """A file without a row: the same for every home, and a thousand statements to make."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / "empty.duckdb"
        with connect(made, read_only=False) as connection:
            connection.execute("begin")
            shape.make(connection)
            connection.execute("commit")
            connection.execute("checkpoint")
        with connect(made) as connection:  # DuckDB words what it has read from a file a little otherwise
            return _Empty(made.read_bytes(), shape.of(connection))


def _is_current(target: Path) -> bool:
    """Whether the file is there and this release made it: then what did not change stays as it is."""
    if not target.exists():
        return False
    with connect(target) as connection:
        return shape.of(connection) == _empty().shape


def _fill(
    connection: duckdb.DuckDBPyConnection, sources: Mapping[str, Source], changed: Collection[Partition] | None
) -> dict[str, int]:
    with _told("the list of changed partitions could not be kept"):
        connection.execute("create temp table changed (district_id varchar, school_year varchar)")
        if changed:
            connection.executemany("insert into changed values (?, ?)", sorted(set(changed)))
    for schema, contracts in SCHEMAS.items():
        for contract in contracts:
            name = f"{schema}.{table_name(contract)}"
            with _told(f"table {name} could not be made"):
                if schema == "marts":
                    connection.execute(f"truncate {name}")
                    _insert(connection, name, mart_sql(contract))
                else:
                    _refresh(connection, name, contract, sources.get(table_name(contract), ()), changed)
    with _told("the tables could not be counted"):
        return {name: _count(connection, name) for name in _tables()}


def _note(connection: duckdb.DuckDBPyConnection, note: str) -> None:
    named = "select schema_name, table_name, comment from duckdb_tables() where not temporary order by all"
    for schema, name, comment in connection.execute(named).fetchall():
        connection.execute(f"comment on table {schema}.{name} is {text(f'{comment} {note}')}")


def unpublished(target: Path, partitions: pl.DataFrame, ledger: pl.DataFrame) -> set[Partition] | None:
    """District-years of which the file shows something else than the stores hold; None where all of it has to be made.

    So it is where there is no file yet, and where another release made it.
    What a run that broke off left half-written is shown as it was before.

    Args:
        target: The file readers open.
        partitions: ``PartitionState`` as it stands.
        ledger: ``IngestLedger`` as it stands; a district with other rows is named with the year `all`.
    """
    keys, reading = list(columns(PartitionState)), {"batch_id": pl.String, "attempt": pl.Int64}
    try:
        if not _is_current(target):
            return None
        with connect(target) as connection:
            state = connection.table(f"state.{table_name(PartitionState)}").select(*keys).fetchall()
            read = connection.table(f"log.{table_name(IngestLedger)}").select(*reading).fetchall()
    except duckdb.Error:
        return None
    shown = pl.DataFrame(state, schema=dict.fromkeys(keys, pl.String), orient="row")
    other = pl.concat(
        [
            partitions.select(keys).join(shown.select(keys), on=keys, how="anti", nulls_equal=True),
            shown.select(keys).join(partitions.select(keys), on=keys, how="anti", nulls_equal=True),
        ]
    )
    half = partitions.filter(pl.col("input_id") == UNDER_WAY)
    other = other.join(half, on=list(PARTITIONED), how="anti")
    known = pl.DataFrame(read, schema=reading, orient="row")
    news = ledger.join(known, on=list(reading), how="anti")["district_id"].unique()
    return {*other.select(PARTITIONED).unique().rows(), *((district, ALL_YEARS) for district in news)}


def rows_by_district(target: Path) -> dict[str, dict[str, int]]:
    """Rows of each mart by district, by `schema.table`."""
    counted: dict[str, dict[str, int]] = {}
    with _told(f"{target.name} could not be read"), connect(target) as connection:
        for contract in MARTS:
            name = f"marts.{table_name(contract)}"
            found = connection.execute(f"select district_id, count(*) from {name} group by 1").fetchall()  # noqa: S608
            counted[name] = dict(found)
    return counted


def mart_sql(contract: type[Contract]) -> str:
    """The SELECT of a mart."""
    return files("warehouse").joinpath("marts", f"{table_name(contract)}.sql").read_text("utf-8")


def _tables() -> list[str]:
    return [f"{schema}.{table_name(contract)}" for schema, contracts in SCHEMAS.items() for contract in contracts]


def _count(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    row = connection.execute(f"select count(*) from {name}").fetchone()  # noqa: S608 - a name of our own
    return int(row[0]) if row else 0


def _refresh(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    contract: type[Contract],
    source: Source,
    changed: Collection[Partition] | None,
) -> None:
    """Replace a table's changed partitions, or all of it."""
    uris = list(source.file_uris() if isinstance(source, DeltaTable) else source)
    table = table_name(contract)
    keys = [key for key in PARTITIONED if key in columns(contract)]
    matching = " and ".join(f"changed.{key} = {table}.{key}" for key in keys)
    where = ""
    if changed is not None:
        where = f" where exists (from changed where {matching})"
        connection.execute(f"delete from {name}{where}")  # noqa: S608 - names of our own
        uris = [uri for uri in uris if _may_hold(uri, keys, changed)]
    if uris:
        read = "read_parquet(?, hive_partitioning = true, union_by_name = true, hive_types_autocast = false)"
        # files of another release may have columns that the contract no longer has
        known = f"columns(lambda each: each in ({', '.join(map(text, columns(contract)))}))"
        _insert(connection, name, f"select {known} from {read} as {table}{where}", uris)  # noqa: S608


def _may_hold(uri: str, keys: Sequence[str], changed: Collection[Partition]) -> bool:
    """Whether a file can hold rows of a changed partition, by the partition values in its path."""
    found = dict(_PARTITION.findall(uri))
    return any(
        all(found.get(key, value) == value for key, value in zip(PARTITIONED, pair, strict=True) if key in keys)
        for pair in changed
    )


def _path(uri: str) -> str:
    """A URI as DuckDB reads it: not percent-encoded, and no character of it a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", unquote(uri))


def _insert(connection: duckdb.DuckDBPyConnection, name: str, query: str, uris: Sequence[str] | None = None) -> None:
    """Fill a table from a query by column names; columns the query lacks stay null, others are an error."""
    connection.execute(f"insert into {name} by name {query}", [[_path(uri) for uri in uris]] if uris else None)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say what failed in words of our own: errors of DuckDB and Delta print the cells of a failed cast."""
    try:
        yield
    except (duckdb.Error, DeltaError, OSError) as error:
        advice = disk_fault(error) or "check the disk, and with `tierline verify` the tables; then publish again"
        raise PublishFailed(
            f"Publishing failed: {what} ({type(error).__name__}): {advice}. The warehouse of before is unchanged."
        ) from None


@contextmanager
def _locked(target: Path, timeout: float) -> Iterator[None]:
    lock = target.with_name(f".{target.name}.lock")
    try:
        with FileLock(lock, timeout=timeout, mode=0o640):
            yield
    except Timeout:
        raise PublishFailed(
            f"Another publish of {target.name} has held {lock.name} for {timeout:g} seconds."
            " Wait for it, then publish again."
        ) from None


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A path beside the target that takes its place at the end, or leaves nothing behind.

    The lock is held, so a folder that is already there was left by a process that was killed.
    """
    folder = target.with_name(f".{target.name}.building")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    made = folder / target.name
    try:
        yield made
        made.chmod(0o640)
        sync(made)
        made.replace(target)
        sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
