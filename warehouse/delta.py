"""Delta Lake tables made from contracts: created before the first write, appended, partitions replaced, read."""

import copy
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Field,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import ArrayType, PrimitiveType, StructType

from schemas.contract import Contract, columns, conform, nullable, summary, table_name
from warehouse.faults import reason
from warehouse.swap import restore, sync, take_place

STATISTICS = ("occurred_on", "export_at", "recorded_at", "benchmark_window", "measure")
"""Only these columns get statistics: ids and text must not stand in the transaction log (SEMANTICS 5.4)."""
ATTEMPTS = 5
ONE_FILE = 1 << 40
"""Bytes that no file reaches."""
ROW_GROUP = 122_880
"""Rows of a Parquet row group, DuckDB's own: it reads a file with as many cores as the file has groups."""
_PRIMITIVES = {
    pl.String: "string",
    pl.Int8: "byte",
    pl.Int16: "short",
    pl.Int32: "integer",
    pl.Int64: "long",
    pl.Float64: "double",
    pl.Boolean: "boolean",
    pl.Date: "date",
    pl.Datetime: "timestamp",
}


class StoreError(Exception):
    """A table could not be read or written; names the table and what failed, never its rows."""


class Table:
    """One Delta table of a contract."""

    def __init__(
        self,
        root: str,
        contract: type[Contract],
        partition_by: Sequence[str],
        name: str | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name or table_name(contract)
        self.uri = f"{root.rstrip('/')}/{self.name}"
        self.contract = contract
        self.partition_by = list(partition_by)
        self.storage_options = dict(storage_options or {})
        self._opened: tuple[DeltaTable, int] | None = None
        """The table as it was last looked at, and which folder it was."""

    def delta(self) -> DeltaTable:
        """The table as it stands now: created from its contract, or given the columns that the contract has gained."""
        found = self._found()
        if found is not None:
            return self._grown(found)
        kept = self._with_statistics
        try:
            if "://" not in self.uri:
                Path(self.uri).mkdir(parents=True, exist_ok=True)
            return DeltaTable.create(
                self.uri,
                schema=self._schema,
                mode="ignore",
                partition_by=self.partition_by,
                name=self.name,
                description=summary(self.contract),
                configuration={"delta.dataSkippingStatsColumns": ",".join(kept)}
                if kept
                else {"delta.dataSkippingNumIndexedCols": "0"},
                storage_options=self.storage_options,
            )
        except (DeltaError, OSError) as error:
            raise StoreError(f"table {self.name}: cannot be created: {reason(error)}") from None

    def _found(self) -> DeltaTable | None:
        """The table as it stands now: who only looks makes nothing.

        Opened once, and then brought up to date: that takes a fifth of the time. A rebuilt table is opened anew.
        """
        try:
            folder = self._folder()
            if self._opened is None or self._opened[1] != folder:
                self._opened = DeltaTable(self.uri, storage_options=self.storage_options), folder
            else:
                self._opened[0].update_incremental()
        except (FileNotFoundError, TableNotFoundError):
            self._opened = None
            return None
        except (DeltaError, OSError) as error:
            self._opened = None
            raise StoreError(f"table {self.name}: cannot be read: {reason(error)}") from None
        self._require_kin(self._opened[0])
        return self._opened[0]

    def _folder(self) -> int:
        """Which folder has the table's own log; all the same in an object store, where no table is made anew."""
        return 0 if "://" in self.uri else Path(self.uri, "_delta_log").stat().st_ino

    def _require_kin(self, table: DeltaTable) -> None:
        """A contract may gain columns that may be null, and lose columns; what rows hold keeps its type."""
        stored = {each.name: each.type for each in table.schema().fields}
        retyped = [each.name for each in self._schema.fields if stored.get(each.name, each.type) != each.type]
        lacking = [name for name in columns(self.contract) if name not in stored]
        required = [name for name in lacking if name not in nullable(self.contract)]
        if retyped or required:
            faults = [f"{name} has another type" for name in retyped] + [
                f"{name} is new and may not be null" for name in required
            ]
            raise StoreError(
                f"table {self.name}: another release wrote it, and it cannot become what the contract now says:"
                f" {'; '.join(faults)}. Projections are computed anew once their folder is deleted; a log is used"
                " with a release that knows its tables."
            )

    def _grown(self, table: DeltaTable) -> DeltaTable:
        """The table with every column of the contract (SEMANTICS 3.1)."""
        for _ in range(ATTEMPTS):
            stored = {each.name for each in table.schema().fields}
            gained = [each for each in self._schema.fields if each.name not in stored]
            if not gained:
                return table
            try:
                table.alter.add_columns(gained)
            except CommitFailedError:
                table.update_incremental()
            except (DeltaError, OSError) as error:
                raise StoreError(f"table {self.name}: cannot be given columns: {reason(error)}") from None
        raise StoreError(f"table {self.name}: another writer kept changing it; run again")

    @property
    def _with_statistics(self) -> list[str]:
        return [name for name in columns(self.contract) if name in STATISTICS and name not in self.partition_by]

    @cached_property
    def _properties(self) -> WriterProperties:
        """Keys and hashes are hexadecimal, which packs to half; who looks for the bounds of one gains nothing."""
        return WriterProperties(
            compression="ZSTD",
            compression_level=1,
            max_row_group_size=ROW_GROUP,
            default_column_properties=ColumnProperties(statistics_enabled="NONE"),
            column_properties=dict.fromkeys(self._with_statistics, ColumnProperties(statistics_enabled="CHUNK")),
        )

    @cached_property
    def _schema(self) -> Schema:
        return Schema([Field(name, _delta_type(dtype)) for name, dtype in columns(self.contract).items()])

    def append(self, rows: pl.DataFrame, transaction: str | None = None) -> None:
        """Add rows in one commit. A transaction id that the table knows already adds nothing."""
        if rows.is_empty():
            return
        table = self.delta()
        if transaction is not None and table.transaction_version(transaction) is not None:
            return
        properties = CommitProperties(app_transactions=[Transaction(transaction, 1)]) if transaction else None
        self._write(table, rows, mode="append", commit_properties=properties)

    def replace(self, rows: pl.DataFrame, partitions: Iterable[tuple[str, ...]]) -> None:
        """Make ``rows`` the whole content of the named partitions; other partitions stay as they are."""
        wanted = sorted(set(partitions))
        if not wanted or (rows.is_empty() and not self._has_any(wanted)):
            return
        self._write(self.delta(), rows, mode="overwrite", predicate=self._holding(wanted))

    def _has_any(self, partitions: Iterable[tuple[str, ...]]) -> bool:
        """Whether a file of these partitions stands; their values are plain, so paths say it."""
        width = len(self.partition_by)
        folders = {tuple(uri.split("/")[-1 - width : -1]) for uri in self.file_uris()}
        named = (tuple(f"{n}={v}" for n, v in zip(self.partition_by, each, strict=True)) for each in partitions)
        return any(each in folders for each in named)

    def pack(self, order: Sequence[str], partition: tuple[str, ...]) -> bool:
        """Rewrite a partition as one file of the same rows in this order, in which equal texts lie side by side.

        False where another writer was quicker: then nothing has happened. Files that are in no version since a week
        are deleted; readers that opened the table before may still read the others.
        """
        table = self.delta()
        files = table.file_uris([(name, "=", value) for name, value in zip(self.partition_by, partition, strict=True)])
        rows = _scan(files, _stored(table), self.storage_options).sort(order).collect()
        try:
            # against the version that was read: rows that came since are a conflict, and never lost
            write_deltalake(
                table,
                rows,
                mode="overwrite",
                predicate=self._holding([partition]),
                target_file_size=ONE_FILE,
                writer_properties=self._properties,
            )
            table.vacuum(dry_run=False)
        except CommitFailedError:
            return False
        except (DeltaError, OSError) as error:
            raise StoreError(f"table {self.name}: cannot be packed: {reason(error)}") from None
        return True

    def rebuild(self, rows_of: Callable[[pl.DataFrame], pl.DataFrame], more: pl.DataFrame | None = None) -> None:
        """Make the table anew from its rows in a folder of its own, which then takes its place.

        Nothing of the old table is left: neither the files of its earlier versions nor its transaction log. Files of
        a partition become one, with their rows in the order they had. Nobody else may write it meanwhile; whoever
        looks sees the table of before or the new one. A rebuild that broke off is begun again.

        Args:
            rows_of: What stays of some of the rows.
            more: Rows that are added.

        Raises:
            StoreError: the table is not in a folder, or cannot be read or written.
        """
        if "://" in self.uri:
            raise StoreError(f"table {self.name} stands in an object store; only one in a folder can be made anew.")
        made = self.clear()
        fresh = copy.copy(self)
        fresh.uri, fresh._opened = str(made), None
        if self._found() is None and more is None:
            return
        fresh.delta()
        for files in self._files_by_partition():
            fresh.append(rows_of(_scan(files, columns(self.contract), self.storage_options).collect()))
        if more is not None:
            fresh.append(more)
        _sync_below(made)
        take_place(made, Path(self.uri))
        if made.exists():  # the old table; there is none where this one is the first
            shutil.rmtree(made)

    def clear(self) -> Path:
        """Remove what a rebuild left that broke off; returns where the next one builds."""
        target = Path(self.uri)
        made = target.with_name(f".{target.name}.rebuilding")
        restore(target)
        shutil.rmtree(made, ignore_errors=True)
        return made

    def _files_by_partition(self) -> Iterator[list[str]]:
        """Files that stand, those of one partition together."""
        parts: dict[str, list[str]] = {}
        for uri in sorted(self.file_uris()):
            parts.setdefault(uri.rpartition("/")[0], []).append(uri)
        yield from parts.values()

    def _holding(self, partitions: Iterable[tuple[str, ...]]) -> str:
        """The predicate that holds in these partitions."""
        return " OR ".join(
            "(" + " AND ".join(f"{name} = '{value}'" for name, value in zip(self.partition_by, each, strict=True)) + ")"
            for each in partitions
        )

    def _write(self, table: DeltaTable, rows: pl.DataFrame, **options: object) -> None:
        lost = {name: dtype for name, dtype in _stored(table).items() if name not in columns(self.contract)}
        cast = (
            conform(rows.lazy(), self.contract)
            .with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in lost.items())
            .collect()
        )
        last = ""
        for _ in range(ATTEMPTS):
            try:
                write_deltalake(table, cast, writer_properties=self._properties, **options)  # type: ignore[call-overload]
                return
            except CommitFailedError as error:
                last = type(error).__name__
                table = self.delta()
            except (DeltaError, OSError) as error:
                raise StoreError(f"table {self.name}: cannot be written: {reason(error)}") from None
        raise StoreError(f"table {self.name}: another writer kept changing it ({last}); run again")

    def scan(self, **partition: Sequence[str]) -> pl.LazyFrame:
        """The rows, of the named partition values only."""
        return _scan(self.file_uris(**partition), columns(self.contract), self.storage_options)

    def file_uris(self, **partition: Sequence[str]) -> list[str]:
        """Parquet files behind the current version; none where the table does not exist."""
        found = self._found()
        filters = [(name, "in", list(values)) for name, values in partition.items()] if partition else None
        return [] if found is None else found.file_uris(filters)

    def rows_by_file(self, **partition: str) -> list[int]:
        """Rows of each file of the named partition values, from the transaction log alone."""
        return self._added(partition)["num_records"].to_list()

    def rows_by_file_of(self, name: str, **partition: str) -> dict[str, list[int]]:
        """The same for each value of one more partition column, in the order of the values."""
        column = f"partition.{name}"
        return dict(self._added(partition).group_by(column).agg("num_records").sort(column).rows())

    def _added(self, partition: Mapping[str, str]) -> pl.DataFrame:
        """What the transaction log says of the files that stand: `num_records` and every `partition.` column."""
        found = self._found()
        added = None if found is None else pl.DataFrame(found.get_add_actions(flatten=True))
        if added is None or added.is_empty():
            named = [f"partition.{name}" for name in self.partition_by]
            return pl.DataFrame(schema={"num_records": pl.Int64, **dict.fromkeys(named, pl.String)})
        return added.filter(pl.col(f"partition.{name}") == value for name, value in partition.items())

    def parts_by(self, name: str) -> dict[str, tuple[int, str]]:
        """Rows and content version for each value of a partition column, from the transaction log alone."""
        added = pl.DataFrame(self.delta().get_add_actions(flatten=True))
        parts = added.group_by(pl.col(f"partition.{name}").alias("value")).agg(
            rows=pl.col("num_records").sum(), files=pl.col("path").sort().str.join("\n")
        )
        return {
            value: (rows, hashlib.sha256(files.encode()).hexdigest()[:32])
            for value, rows, files in parts.select("value", "rows", "files").rows()
        }


def _sync_below(folder: Path) -> None:
    """Have everything below a folder on the disk."""
    for here, _, files in os.walk(folder):
        for path in (*(Path(here, name) for name in files), Path(here)):
            sync(path)


def _stored(table: DeltaTable) -> dict[str, pl.DataType]:
    """Columns of the table itself, which may be more than its contract still has."""
    return dict(pl.Schema(table.schema().to_arrow()))


def _scan(uris: list[str], schema: Mapping[str, pl.DataType], storage_options: dict[str, str]) -> pl.LazyFrame:
    if not uris:
        return pl.LazyFrame(schema=schema)
    frame = pl.scan_parquet(
        [uri if "://" in uri else unquote(uri) for uri in uris],  # Delta gives paths percent-encoded
        glob=False,
        hive_partitioning=True,
        try_parse_hive_dates=False,
        missing_columns="insert",
        extra_columns="ignore",
        schema=schema,
        hive_schema={name: pl.String() for name in schema if f"/{name}=" in uris[0]},
        storage_options=storage_options or None,
    )
    return frame.select(list(schema))


def _delta_type(dtype: pl.DataType) -> PrimitiveType | ArrayType | StructType:
    if isinstance(dtype, pl.List):
        return ArrayType(_delta_type(dtype.inner), contains_null=True)  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return StructType([Field(field.name, _delta_type(field.dtype)) for field in dtype.fields])  # type: ignore[arg-type]
    return PrimitiveType(_PRIMITIVES[dtype.base_type()])
