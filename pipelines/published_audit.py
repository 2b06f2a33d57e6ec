"""The audit of sets that are published already: releases of ours, or anybody's tables with a description of them."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.publication import publication
from transforms.audit import audit, audit_releases, intervals
from transforms.publication import Layout, Problem, Rule, Table, long, problem
from transforms.releases import Mode, as_read, as_told, audited, question
from transforms.state_aggregates import ALL
from warehouse.releases import ABOUT, INTERNAL, TABLE

EXACT = "known"
"""Rule of a withheld cell of which only one number is possible."""


class UnreadableSet(Exception):
    """Files cannot be read as what the description says; names files and columns, never a cell."""


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DescribedTable(_Described):
    """A crossing with its totals."""

    by: tuple[str, ...]
    place: str | None = None


class Description(_Described):
    """What the columns of somebody's table are."""

    counts: tuple[str, ...] = Field(min_length=1)
    """Columns of counts."""
    students: str | None = None
    """Column of n; several counts divide it, one has its complement."""
    apart: tuple[str, ...] = ()
    """Key columns that are never summed over."""
    places: tuple[str, ...] = ()
    """Key columns of places, widest first."""
    tables: tuple[DescribedTable, ...] = Field(min_length=1)
    totals: dict[str, str] = {}
    """How a key column marks a total."""
    withheld: tuple[str, ...] = ("",)
    """Symbols of a withheld cell."""
    min_n: int = 1
    min_category: int = 10
    lower: int = 0
    """Least value of a withheld count."""

    @property
    def layout(self) -> Layout:
        """The tables as the audit knows them."""
        tables = tuple(Table(str(at), each.by, each.place) for at, each in enumerate(self.tables))
        return Layout(tables, self.places, self.apart, self.students, self.counts)

    @property
    def rule(self) -> Rule:
        """The thresholds."""
        return Rule(min_n=self.min_n, min_category=self.min_category, lower=self.lower)


class Looked(NamedTuple):
    """What an audit of published files found."""

    findings: pl.DataFrame
    """Keys of the cell, and the `rule` that is broken."""
    cells: int
    """Withheld cells, every one audited."""


def audit_files(paths: Sequence[Path], described: Path | None) -> Looked:
    """Audit published files together, the earliest first.

    Args:
        paths: Folders of the register of releases; or tables as CSV (also gzip) or Parquet.
        described: What the columns of such tables are, as TOML; none for folders.

    Raises:
        UnreadableSet: a file is not what it is said to be.
    """
    if described is None:
        return _ours(paths)
    told = _description(described)
    releases = [_read(path, told) for path in paths]
    made = problem(releases, told.layout)
    report = audit_releases(releases, told.layout, told.rule) if len(paths) > 1 else audit(_seen(made), told.rule)
    findings = pl.concat([_exact(made, told), report.findings.sort("rule")]).drop("release")
    return Looked(findings.unique(maintain_order=True), report.cells)


def _seen(made: Problem) -> Problem:
    return made.published(~made.cells["shown"].to_numpy())


def _exact(made: Problem, told: Description) -> pl.DataFrame:
    """Withheld cells that can be worked out, of releases taken together."""
    seen = _seen(made)
    try:
        found = intervals(seen, told.rule).filter(pl.col("low") == pl.col("high"))
    except ValueError:
        found = pl.DataFrame(schema={"cell": pl.Int64})
    keys = [*told.layout.keys, "statistic", "release"]
    return seen.cells.select(keys)[found["cell"].to_list()].with_columns(rule=pl.lit(EXACT))


def _description(path: Path) -> Description:
    try:
        return Description.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadableSet(f"{path.name}: not readable as TOML: {error}.") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
        raise UnreadableSet(f"{path.name}: {'; '.join(faults)}.") from None


def _read(path: Path, told: Description) -> pl.DataFrame:
    """Rows of `publication.long` from one file: a cell is shown if it has a number."""
    try:
        rows = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableSet(f"{path.name} cannot be read ({type(error).__name__}).") from None
    keys, numbers = told.layout.keys, [*([told.students] if told.students else []), *told.counts]
    missing = sorted({*keys, *numbers} - set(rows.columns))
    if missing:
        raise UnreadableSet(f"{path.name} has no column {', '.join(missing)}.")
    text = rows.select(pl.col(*keys, *numbers).cast(pl.String))
    odd = text.select(
        (pl.col(name).cast(pl.Int64, strict=False).is_null() & ~pl.col(name).fill_null("").is_in(told.withheld)).sum()
        for name in numbers
    )
    faulty = [name for name in numbers if odd[name].item()]
    if faulty:
        raise UnreadableSet(
            f"{path.name}: {', '.join(faulty)} has cells that are neither whole numbers nor listed under withheld."
        )
    wide = text.with_columns(
        *(pl.when(pl.col(name) != mark).then(name).alias(name) for name, mark in told.totals.items()),
        pl.col(numbers).cast(pl.Int64, strict=False),
    )
    if wide.select(pl.struct(keys).is_duplicated().any()).item():
        raise UnreadableSet(f"{path.name} names some cells twice. List every key column, or leave rows out.")
    return long(wide, told.layout).with_columns(shown=pl.col("value").is_not_null())


def _ours(paths: Sequence[Path]) -> Looked:
    """Folders of releases: the public rows as they are, with what each meant to protect where the register has it."""
    for path in paths:
        if not (path / ABOUT).exists() or not (path / f"{TABLE}.parquet").exists():
            raise UnreadableSet(
                f"{path} is no folder of a release: it lacks {ABOUT} or {TABLE}.parquet. Of other files, --describe"
                " says what their columns are."
            )
    told = [json.loads((path / ABOUT).read_text("utf-8")) for path in paths]
    policy = told[-1]["policy"]
    rule = Rule(policy["min_n"], policy["min_category"], policy["protect_zero"])
    releases = [_release(path, about["mode"]) for path, about in zip(paths, told, strict=True)]
    found, cells = [], 0
    for statistic in publication().statistics:
        own = [each.filter(pl.col("statistic") == statistic.name) for each in releases]
        own = [each for each in own if each.height]
        if own:
            groups = sorted({kind for each in own for kind in each["group_kind"].unique()} - {ALL})
            report = audited(own, question(statistic, publication(), groups), rule)
            found.append(report.findings.drop("release"))
            cells += report.cells
    findings = pl.concat(found, how="diagonal") if found else pl.DataFrame(schema={"rule": pl.String})
    return Looked(findings, cells)


def _release(path: Path, mode: Mode) -> pl.DataFrame:
    rows = pl.read_parquet(path / f"{TABLE}.parquet")
    if (path / INTERNAL).exists():
        return as_told(pl.read_parquet(path / INTERNAL), rows, mode)
    return as_read(rows, mode, {each.name: each.students for each in publication().statistics})
