"""What may leave: the declared statistics and the tables they are published in (`publication.toml`)."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

APART = ("school_year", "benchmark_window", "measure")
"""Columns that are never summed over."""
PLACES = ("district_id", "school_id")
"""Places below the state, widest first."""
GROUP = "student_group"


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedTable(_Declared):
    """A crossing, published at every place down to `place` and with all its totals."""

    name: str
    place: Literal["district_id", "school_id"]
    by: tuple[Literal["grade", "student_group"], ...]

    @model_validator(mode="after")
    def _never_school_by_grade_and_group(self) -> "PublishedTable":
        if self.place == "school_id" and len(self.by) > 1:
            raise ValueError("school x grade x group is never published (SEMANTICS 8.5)")
        return self


class Statistic(_Declared):
    """Counts of one whole, such as the tiers of all who are placed."""

    name: str
    meaning: str
    students: str
    """Name of the whole: n."""
    counts: tuple[str, ...]
    tables: tuple[str, ...]


class Publication(_Declared):
    """All that is published together."""

    groups: dict[str, tuple[str, ...]]
    tables: tuple[PublishedTable, ...]
    statistics: tuple[Statistic, ...]

    @model_validator(mode="after")
    def _tables_exist(self) -> "Publication":
        known = {table.name for table in self.tables}
        unknown = sorted({name for each in self.statistics for name in each.tables} - known)
        if unknown:
            raise ValueError(f"no table {', '.join(unknown)}")
        return self

    def tables_of(self, statistic: Statistic) -> list[PublishedTable]:
        """The tables a statistic is published in."""
        return [table for table in self.tables if table.name in statistic.tables]


@cache
def publication() -> Publication:
    """The publication that this version makes."""
    return Publication.model_validate(tomllib.loads(files("schemas").joinpath("publication.toml").read_text("utf-8")))
