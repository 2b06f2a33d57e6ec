"""A log in memory: what is appended is made to fit its contract as a Delta table would, and read back."""

from collections.abc import Sequence

import polars as pl

from schemas.contract import columns, conform
from warehouse.home import Home
from warehouse.log import Log


class MemoryTable:
    """The rows of one table, in the order in which they came."""

    def __init__(self, contract: type) -> None:
        self.contract = contract
        self.parts: list[pl.DataFrame] = [pl.DataFrame(schema=columns(contract))]

    def append(self, rows: pl.DataFrame, _transaction: str | None = None) -> None:
        if rows.height:
            self.parts.append(conform(rows.lazy(), self.contract).collect())

    def scan(self, **partition: Sequence[str]) -> pl.LazyFrame:
        rows = pl.concat(self.parts).lazy()
        return rows.filter(pl.col(name).is_in(list(values)) for name, values in partition.items())


class MemoryLog(Log):
    """Forgets everything at the end."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        for name, table in list(vars(self).items()):
            if name == "families":
                self.families = {family: MemoryTable(each.contract) for family, each in table.items()}  # type: ignore[misc]
            else:
                setattr(self, name, MemoryTable(table.contract))
