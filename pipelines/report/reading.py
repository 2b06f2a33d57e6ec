"""What pages are made from: the published warehouse, one query per table and district, rows grouped per page."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from pipelines.report.names import Names
from pipelines.report.words import school_name
from schemas.contract import columns, table_name
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, IngestLedger, RejectedRow
from warehouse.home import Home
from warehouse.publish import ask

WINDOWS = ("fall", "winter", "spring")
SHORTEST_KEY = 8
WINDOW_ORDER = pl.col("benchmark_window").replace_strict(list(WINDOWS), [0, 1, 2], default=3, return_dtype=pl.Int8)
GRADE_ORDER = pl.col("grade").replace({"PK": "-1", "K": "0", "KG": "0"}).cast(pl.Int16, strict=False)
"""Grades as numbers: kindergarten before grade 1; a grade that is no number comes last."""
FLAGS = "marts.classroom_flag"
_WINDOW = ("school_year", "benchmark_window")
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
    _tables: dict[str, pl.DataFrame] = field(default_factory=dict, repr=False)
    _groups: dict[tuple[str, tuple[str, ...]], Mapping[tuple[object, ...], pl.DataFrame]] = field(
        default_factory=dict, repr=False
    )

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

    @cached_property
    def flags(self) -> pl.DataFrame:
        """``ClassroomFlag`` of all years, in order of window, school, grade and class; `is_primary` marks one row per
        class and window: the measure that decides most tiers in its grade, else the one with most tested.
        """
        placed = self.history("projections.tier_placement").drop_nulls("measure")
        deciding = (
            placed.group_by(*_WINDOW, "grade", "measure")
            .len("placed")
            .sort("placed", "measure", descending=[True, False])
            .unique([*_WINDOW, "grade"], keep="first", maintain_order=True)
            .select(*_WINDOW, "grade", deciding="measure")
        )
        keys = [*_WINDOW, "class_id"]
        first = (pl.col("measure") == pl.col("deciding")).fill_null(value=False)
        return (
            self.history(FLAGS)
            .join(deciding, on=[*_WINDOW, "grade"], how="left", nulls_equal=True)
            .sort(
                "school_year", WINDOW_ORDER, "school_id", GRADE_ORDER, "grade", "class_label", "class_id", ~first,
                -pl.col("tested"), "measure",
                nulls_last=True,
            )
            .with_columns(is_primary=pl.col("measure").cum_count().over(keys) == 1)
            .drop("deciding")
        )  # fmt: skip

    @cached_property
    def current(self) -> pl.DataFrame:
        """The flags of this school year."""
        return self.flags.filter(pl.col("school_year") == self.school_year)

    @cached_property
    def windows(self) -> list[str]:
        """Windows of this school year with a class decision, in order."""
        return self.current["benchmark_window"].unique(maintain_order=True).to_list()

    @cached_property
    def schools(self) -> list[str]:
        """Schools of this school year, by name."""
        signals = self.table("marts.school_signal")["school_id"]
        return self.by_name({*self.current["school_id"].unique(), *signals.unique()})

    @cached_property
    def _school_names(self) -> Mapping[str, str]:
        """Names by id; of schools with one name each has its id beside it."""
        named = self.table("projections.school").drop_nulls("school_name").select("school_id", "school_name")
        names = {key: name.strip() for key, name in named.rows() if name.strip()}
        shared = Counter(name.casefold() for name in names.values())
        return {key: f"{name} ({key})" if shared[name.casefold()] > 1 else name for key, name in names.items()}

    def school(self, school_id: str | None) -> str:
        """A school as pages name it: `Cedar Elementary`, else `School ORG0004`."""
        return self._school_names.get(school_id or "") or school_name(school_id)

    def by_name(self, school_ids: Iterable[str]) -> list[str]:
        """Ids of schools in the order of their names."""
        return sorted(school_ids, key=lambda each: (self.school(each).casefold(), each))

    @cached_property
    def _key_length(self) -> int:
        """The fewest characters, eight or more, that tell all students of the school year apart."""
        tables = ("projections.class_membership", "projections.tier_placement", "projections.cycle_outcome")
        keys = pl.concat([self.table(name)["subject_key"] for name in tables]).unique()
        longest = keys.str.len_chars().max()
        lengths = range(SHORTEST_KEY, longest if isinstance(longest, int) else SHORTEST_KEY)
        return next((n for n in lengths if keys.str.head(n).n_unique() == len(keys)), len(lengths) + SHORTEST_KEY)

    @cached_property
    def _student_names(self) -> Mapping[str, str]:
        """Names by key; of students with one name each has the beginning of the key beside it."""
        names = self.names.students if self.names else {}
        shared = Counter(names.values())
        return {key: f"{name} ({key[: self._key_length]})" if shared[name] > 1 else name for key, name in names.items()}

    def student(self, subject_key: str) -> str:
        """A student as pages show one: the name where names are shown, else the beginning of the key."""
        return self._student_names.get(subject_key) or subject_key[: self._key_length]

    def keys(self, subject_keys: Iterable[str]) -> list[tuple[str, str]]:
        """Every student once, as shown and with the whole key, in the order of a page that lists them."""
        return sorted((self.student(key), key) for key in set(subject_keys))

    def split(self, rows: pl.DataFrame, *keys: str) -> dict[tuple[object, ...], pl.DataFrame]:
        """Rows of a table that was worked on, by key, each in the order of the table."""
        return rows.partition_by(*keys, as_dict=True, maintain_order=True)


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
