"""Tables of the published warehouse as files of their own, for tools that read no DuckDB."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import duckdb
import polars as pl

from warehouse.publish import connect
from warehouse.spreadsheet import neutralised

Format = Literal["parquet", "arrow", "csv"]
OURS = ("answers", "marts", "projections", "log")
"""Schemas that are for readers."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TABLES = """
    select
        table_schema || '.' || table_name as name,
        bool_or(column_name = 'district_id') as has_district,
        coalesce(list(column_name order by ordinal_position) filter (data_type like '%[]'), []) as nested
    from information_schema.columns
    where list_contains(?, table_schema)
    group by all
    order by all
"""


class ExportFailed(Exception):
    """Nothing was exported, and no file was changed. Names tables and files, never a cell."""


def export(
    warehouse: Path,
    out: Path,
    *,
    form: Format = "parquet",
    tables: Sequence[str] = (),
    districts: Sequence[str] = (),
    force: bool = False,
) -> dict[Path, int]:
    """Write one file per table, `<schema>.<table>.<format>`, readable by its owner and group alone.

    Rows stream: no table is held in memory. Times are UTC. In CSV null is an empty cell, lists are JSON, and text
    that a spreadsheet would run as a formula begins with an apostrophe.

    Args:
        warehouse: The published file.
        out: Folder, made where it is missing.
        form: Kind of files; `arrow` is Arrow IPC.
        tables: Tables or views, with their schema where the name alone could be two; all that are for readers if empty.
        districts: Only rows of these; all if empty.
        force: Whether files that are already there are replaced.

    Returns:
        Rows of every file.

    Raises:
        ExportFailed: there is no warehouse, a table is not known, or a file is already there.
    """
    if not warehouse.exists():
        raise ExportFailed(f"There is no {warehouse.name} yet. `tierline run` publishes it.")
    try:
        with connect(warehouse) as connection:
            known = {name: (has, nested) for name, has, nested in connection.execute(_TABLES, [list(OURS)]).fetchall()}
            files = {name: out / f"{name}.{form}" for name in _chosen(tables, list(known))}
            present = [path.name for path in files.values() if path.exists()]
            if present and not force:
                raise ExportFailed(
                    f"{out} already has {', '.join(present)}. Export into another folder, or replace them with --force."
                )
            return _write(connection, {files[name]: (name, *known[name]) for name in files}, out, form, districts)
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise ExportFailed(
            f"Exporting failed ({type(error).__name__}); no file was changed. Check the disk and that {warehouse.name}"
            " is one that this version published."
        ) from None


def _chosen(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The tables named, by their full names, each once."""
    chosen = []
    for each in wanted:
        found = [name for name in known if each in (name, name.partition(".")[2])]
        if len(found) != 1:
            told = (
                f"could be {' or '.join(found)}" if found else "is no table of the warehouse; docs/tables.md lists them"
            )
            raise ExportFailed(f"{each} {told}.")
        chosen += found
    return sorted(set(chosen)) if wanted else list(known)


def _write(
    connection: duckdb.DuckDBPyConnection,
    files: dict[Path, tuple[str, bool, list[str]]],
    out: Path,
    form: Format,
    districts: Sequence[str],
) -> dict[Path, int]:
    """Write all files beside their places, then move them there."""
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    rows = {}
    try:
        for path, (name, has_district, nested) in files.items():
            listed = ", ".join(f"cast(to_json({each}) as varchar) as {each}" for each in nested)
            query = f"select * {f'replace ({listed})' if nested and form == 'csv' else ''} from {name}"  # noqa: S608
            if districts and has_district:
                query += f" where district_id in ({', '.join(_text(each) for each in districts)})"
            rows[path] = _copy(connection, query, folder / path.name, form)
        for path in files:
            (folder / path.name).chmod(0o640)
            (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def _copy(connection: duckdb.DuckDBPyConnection, query: str, path: Path, form: Format) -> int:
    """Rows of a query as one file; DuckDB streams them into Parquet and Polars from there into the others."""
    parquet = path.with_suffix(".parquet")
    found = connection.execute(f"copy ({query}) to {_text(str(parquet))} (format parquet, compression zstd)").fetchone()
    if form == "arrow":
        pl.scan_parquet(parquet, glob=False).sink_ipc(path, compression="zstd")
    elif form == "csv":
        neutralised(pl.scan_parquet(parquet, glob=False)).sink_csv(path, datetime_format=_TIME)
    if form != "parquet":
        parquet.unlink()
    return int(found[0]) if found else 0


def _text(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"
