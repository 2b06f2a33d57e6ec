"""What pages are made from: the published warehouse, one query per table and district, rows grouped per page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipelines.report.names import Names
from schemas.contract import columns, table_name
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, IngestLedger, RejectedRow
from warehouse.home import Home
from warehouse.publish import ask

WINDOWS = ("fall", "winter", "spring")
WINDOW_ORDER = pl.col("benchmark_window").replace_strict(list(WINDOWS), [0, 1, 2], default=3, return_dtype=pl.Int8)
GRADE_ORDER = pl.col("grade").replace({"PK": "-1", "K": "0", "KG": "0"}).cast(pl.Int16, strict=False)
"""Grades as numbers: kindergarten before grade 1; a grade that is no number comes last."""
TABLES = {
    f"{schema}.{table_name(contract)}": contract
    for schema, contracts in (
        ("marts", MARTS),
        ("projections", PROJECTIONS),
        ("log", (IngestLedger, RejectedRow)),
    )
    for contract in contracts
}
Record = dict[str, Any]


class NothingToReport(Exception):
    """The warehouse has nothing of this district or school year; says which."""


@dataclass
class Reading:
    """One district as the warehouse shows it, for one school year and those before.

    A table is read once, whole, when a page first asks for it.
    """

    home: Home
    district: str
    school_year: str
    names: Names | None = None
    """Who is who; None unless the report is made with names."""
    _tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    _groups: dict[tuple[str, tuple[str, ...]], Mapping[tuple[object, ...], pl.DataFrame]] = field(default_factory=dict)

    def history(self, name: str) -> pl.DataFrame:
        """A table such as `marts.classroom_flag`: the district's rows of this school year and those before."""
        if name not in self._tables:
            kinds = columns(TABLES[name])
            years = " and school_year <= $2" if "school_year" in kinds else ""
            values = [self.district, self.school_year][: 2 if years else 1]
            rows = ask(self.home.warehouse, f"select * from {name} where district_id = $1{years}", values)  # noqa: S608 - a name of our own
            if rows is None:
                raise NothingToReport("Nothing is published yet. `tierline run` publishes what landed.")
            self._tables[name] = rows
        return self._tables[name]

    def table(self, name: str) -> pl.DataFrame:
        """The same, of this school year alone; tables without a school year are whole."""
        rows = self.history(name)
        return rows.filter(pl.col("school_year") == self.school_year) if "school_year" in rows.columns else rows

    def by(self, name: str, *keys: str) -> Mapping[tuple[object, ...], pl.DataFrame]:
        """The rows of this school year by key, made once, so that no page searches the table."""
        if (name, keys) not in self._groups:
            self._groups[name, keys] = self.table(name).partition_by(*keys, as_dict=True)
        return self._groups[name, keys]

    def of(self, name: str, **keys: object) -> pl.DataFrame:
        """The rows of one page: ``of("marts.school_signal", school_id=...)``."""
        found = self.by(name, *keys).get(tuple(keys.values()))
        return self.table(name).clear() if found is None else found


def years_of(home: Home, district: str) -> list[str]:
    """School years of which the warehouse has a placement or a class decision of the district, the first first.

    Raises:
        NothingToReport: nothing is published.
    """
    rows = ask(
        home.warehouse,
        "select distinct school_year from projections.tier_placement where district_id = $1"
        " union select distinct school_year from projections.class_decision where district_id = $1",
        [district],
    )
    if rows is None:
        raise NothingToReport("Nothing is published yet. `tierline run` publishes what landed.")
    return sorted(rows["school_year"])


def value_of(reading: Reading, setting: str) -> Any:
    """A setting of the policy in force at the end of the school year; None where none is known."""
    rows = reading.of("projections.policy_setting", setting=setting).filter(pl.col("until_on").is_null())
    return None if rows.is_empty() else json.loads(rows["value"].item())
