"""Projections on Delta Lake: whole partitions replaced and read, and what each was computed from."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl

from schemas.contract import Contract, field, table_name
from schemas.events import UTC
from schemas.projections import PROJECTIONS, Projection
from warehouse.delta import Table

PARTITION = ("district_id", "school_year")
UNDER_WAY = "under way"
"""Stands as `input_id` of partitions while they are written: a run that breaks off leaves them to be written anew."""


class PartitionState(Contract):
    """What each projection partition was computed from. One row per projection, district and school year."""

    district_id: pl.String = field("District.", nullable=False)
    school_year: pl.String = field("School year.", nullable=False)
    projection: pl.String = field("Table.", nullable=False)
    input_id: pl.String = field("Hash of facts, policy, code and whatever else it was computed from.", nullable=False)


class DistrictState(Contract):
    """What tells cheaply that nothing can have changed. One row per district."""

    district_id: pl.String = field("District.", nullable=False)
    ledger_at: UTC = field("Latest ledger row that was read.")
    code_version: pl.String = field("Version of the rules.")


class Projections:
    """Tables of one home's projections."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.tables: dict[type[Projection], Table] = {
            contract: Table(root, contract, PARTITION, storage_options=storage_options) for contract in PROJECTIONS
        }
        self.partitions = Table(root, PartitionState, ("district_id",), storage_options=storage_options)
        self.districts = Table(root, DistrictState, ("district_id",), storage_options=storage_options)

    def read(
        self, contract: type[Projection], districts: Sequence[str] | None = None, years: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """Rows of a projection, of the districts and school years named."""
        named = {}
        if districts is not None:
            named["district_id"] = districts
        if years is not None:
            named["school_year"] = years
        return self.tables[contract].scan(**named)

    def replace(self, contract: type[Projection], rows: pl.DataFrame, partitions: Sequence[tuple[str, str]]) -> None:
        """Make ``rows`` the whole content of these districts and school years."""
        self.tables[contract].replace(rows, partitions)

    def copied(self, folder: Path) -> "Projections":
        """The same tables in another folder, to be brought to another time there; none where these are on a store.

        Data files are never written twice, so they are linked where the disk allows it.
        """
        if "://" not in self.root and Path(self.root).exists():
            shutil.copytree(self.root, folder, copy_function=_linked)
        return Projections(str(folder))

    def files(self, **partition: Sequence[str]) -> dict[str, list[str]]:
        """Parquet files behind every projection, by table name; of the named partition values only."""
        return {table_name(contract): table.file_uris(**partition) for contract, table in self.tables.items()}


def _linked(source: str, target: str) -> None:
    """What a table's own log says may be written anew; its data files are not."""
    if "/_delta_log/" not in source:
        with suppress(OSError):  # another disk, or one without links
            os.link(source, target)
            return
    shutil.copy2(source, target)
