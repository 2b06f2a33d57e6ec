"""One file's facts on their way into the log: keys, repeats, what changes, and the two balances (SEMANTICS 2.2)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from schemas.contract import columns, empty
from schemas.events import ALL_YEARS, FAMILIES, SCHEMA_VERSION, Sighting
from transforms.rows import among
from transforms.versions import compare, event_id, identify

REFERENCE_TYPES = ("SchoolListed", "TermListed", "CourseListed", "ClassListed")
"""Roster records that belong to no single year: every year reads them (SEMANTICS 2.4)."""
ROW_OUTCOMES = ("parsed", "rejected", "out_of_scope", "parked", "erased", "duplicate_in_file")
LONGEST_ENROLMENT_YEARS = 5


class UnbalancedBatch(Exception):
    """Rows or facts of a file do not add up: a fault of the program, never of the file. Nothing was written."""


@dataclass(frozen=True)
class FileFacts:
    """What was read from one file, and of whom."""

    facts: Mapping[str, pl.DataFrame]
    """Per family: `source_line`, `slot`, `event_type`, `subject_key`, `school_year`, envelope facts, payload."""
    outcomes: pl.DataFrame
    """`source_line`, `outcome`: every data row once."""
    slots: int
    rejected_slots: pl.DataFrame
    """`source_line`, `slot` of slots that could not be read in rows that could."""


@dataclass(frozen=True)
class Stamp:
    """What every event of a batch carries."""

    batch_id: str
    attempt: int
    district_id: str
    export_at: datetime
    layout: str
    secret: bytes
    year: str
    """School year of facts that name none."""
    year_starts_month: int = 7
    unhashed: tuple[str, ...] = ()
    """Payload columns this layout does not hash."""


@dataclass(frozen=True)
class Changes:
    """What one file does to the log."""

    events: Mapping[str, pl.DataFrame]
    sightings: pl.DataFrame
    rows: Mapping[str, int]
    """Data rows by outcome."""
    facts: Mapping[str, int]
    """Fact slots of parsed rows: appended, corrected, unchanged, empty, rejected."""
    keys: pl.DataFrame
    """`source_line`, `slot`, `natural_key` of every fact."""
    conflicts: int
    """Facts that the file states twice with different content."""


def park(read: FileFacts, known: pl.Series) -> FileFacts:
    """Set aside rows about a student who is not among the ``known`` own keys: they wait for the roster."""
    strangers = [
        rows.filter(pl.col("subject_key").is_not_null() & ~pl.col("subject_key").is_in(known.implode())).select(
            "source_line"
        )
        for rows in read.facts.values()
    ]
    return _set_aside(read, pl.concat([pl.DataFrame(schema={"source_line": pl.Int64}), *strangers]).unique(), "parked")


def erase(read: FileFacts, lines: pl.DataFrame) -> FileFacts:
    """Set aside the rows of erased students: `source_line` of each."""
    return _set_aside(read, lines, "erased")


def only_lines(read: FileFacts, lines: pl.Series) -> FileFacts:
    """The file reduced to these lines."""
    return _only_parsed(replace(read, outcomes=read.outcomes.filter(pl.col("source_line").is_in(lines.implode()))))


def name_facts(read: FileFacts, stamp: Stamp) -> dict[str, pl.DataFrame]:
    """The facts of each family with their keys, hashes and everything an event carries."""
    return {
        family: identify(
            rows.with_columns(pl.col("school_year").fill_null(stamp.year)), family, stamp.secret, stamp.unhashed
        ).with_columns(
            district_id=pl.lit(stamp.district_id),
            export_at=pl.lit(stamp.export_at),
            batch_id=pl.lit(stamp.batch_id),
            attempt=pl.lit(stamp.attempt, pl.Int64),
            layout=pl.lit(stamp.layout),
            schema_version=pl.lit(SCHEMA_VERSION, pl.Int16),
            reason=pl.lit(None, pl.String),
        )
        for family, rows in read.facts.items()
        if rows.height
    }


def settle(
    read: FileFacts, facts: Mapping[str, pl.DataFrame], seen: Mapping[str, pl.DataFrame], stamp: Stamp
) -> Changes:
    """What the file changes, balanced.

    Args:
        read: What the file says.
        facts: The same facts from ``name_facts``.
        seen: Per family, what was seen of their natural keys before.
        stamp: What its events carry.

    Raises:
        UnbalancedBatch: rows or facts do not add up.
    """
    read, kept = _without_repeats(read, facts)
    compared = {family: compare(rows, seen[family]) for family, rows in kept.items()}
    changed = {
        family: _events(rows.filter(pl.col("change") != "unchanged"), family, stamp)
        for family, rows in compared.items()
    }
    counts = _count([rows["change"] for rows in compared.values()])
    parsed = read.outcomes.filter(pl.col("outcome") == "parsed").height
    stated = sum(rows.height for rows in read.facts.values())
    repeats = stated - sum(rows.height for rows in kept.values())
    rejected = read.rejected_slots.select("source_line", "slot").unique().height
    balance = {
        "appended": counts.get("appended", 0),
        "corrected": counts.get("corrected", 0),
        "unchanged": counts.get("unchanged", 0) + repeats,
        "empty": parsed * read.slots - stated - rejected,
        "rejected": rejected,
    }
    if min(balance.values()) < 0 or sum(balance.values()) != parsed * read.slots:
        raise UnbalancedBatch(f"{stamp.layout}: facts do not add up to {parsed} rows of {read.slots} slots: {balance}.")
    if read.outcomes["source_line"].n_unique() != read.outcomes.height:
        raise UnbalancedBatch(f"{stamp.layout}: a row has two outcomes.")
    everything = [rows.select("source_line", "slot", "natural_key") for rows in facts.values()]
    return Changes(
        events=changed,
        sightings=_sightings(compared),
        rows=_count([read.outcomes["outcome"]]),
        facts=balance,
        keys=pl.concat(
            [pl.DataFrame(schema={"source_line": pl.Int64, "slot": pl.Int32, "natural_key": pl.String}), *everything]
        ),
        conflicts=sum(rows.height - rows["natural_key"].n_unique() for rows in kept.values()),
    )


def merged_events(pairs: pl.DataFrame, seen: pl.DataFrame, stamp: Stamp) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`StudentMerged` events and sightings for pairs of keys that are one student and not linked yet.

    Args:
        pairs: `subject_key`, `roster_key`; the smaller is the winner.
        seen: Identity facts known already: `loser_key`, `winner_key`.
        stamp: What the events carry.
    """
    merges = (
        pairs.filter(pl.col("subject_key") != pl.col("roster_key"))
        .select(
            loser_key=pl.max_horizontal("subject_key", "roster_key"),
            winner_key=pl.min_horizontal("subject_key", "roster_key"),
        )
        .unique()
        .sort("loser_key", "winner_key")
        .join(seen, on=["loser_key", "winner_key"], how="anti")
    )
    blank = {name: pl.lit(None, dtype) for name, dtype in columns(FAMILIES["identity"]).items()}
    rows = merges.select(
        **{**blank, "loser_key": pl.col("loser_key"), "winner_key": pl.col("winner_key")},
        slot=pl.lit(0, pl.Int32),
    ).with_columns(event_type=pl.lit("StudentMerged"), school_year=pl.lit(ALL_YEARS), stated_by=pl.lit("roster"))
    read = FileFacts({"identity": rows}, pl.DataFrame(), 0, pl.DataFrame())
    named = name_facts(read, stamp).get("identity")
    if named is None:
        return rows.drop("slot").clear(), _sightings({})
    events = _events(named.with_columns(change=pl.lit("appended")), "identity", stamp)
    return events, _sightings({"identity": named})


def _set_aside(read: FileFacts, lines: pl.DataFrame, outcome: str) -> FileFacts:
    marked = read.outcomes.join(lines.with_columns(_aside=True), on="source_line", how="left", maintain_order="left")
    outcomes = marked.select(
        "source_line",
        outcome=pl.when(pl.col("_aside") & (pl.col("outcome") == "parsed")).then(pl.lit(outcome)).otherwise("outcome"),
    )
    return _only_parsed(replace(read, outcomes=outcomes))


def _only_parsed(read: FileFacts) -> FileFacts:
    parsed = read.outcomes.filter(pl.col("outcome") == "parsed").select("source_line")
    return replace(
        read,
        facts={family: among(rows, parsed, ["source_line"]) for family, rows in read.facts.items()},
        rejected_slots=among(read.rejected_slots, parsed, ["source_line"]),
    )


def _without_repeats(read: FileFacts, facts: Mapping[str, pl.DataFrame]) -> tuple[FileFacts, dict[str, pl.DataFrame]]:
    """Rows all of whose facts stand on an earlier line repeat it; a repeat in a row with other facts is unchanged."""
    marks = [rows.select("source_line", "is_repeat") for rows in facts.values()]
    lines = (
        pl.concat([pl.DataFrame(schema={"source_line": pl.Int64, "is_repeat": pl.Boolean}), *marks])
        .group_by("source_line")
        .agg(pl.col("is_repeat").all())
        .filter("is_repeat")
        .select("source_line")
    )
    if lines.height:
        read = _set_aside(read, lines, "duplicate_in_file")
    return read, {family: rows.filter(~pl.col("is_repeat")) for family, rows in facts.items()}


def _events(rows: pl.DataFrame, family: str, stamp: Stamp) -> pl.DataFrame:
    """Rows of the family's Delta table, one per school year the fact touches."""
    typed = rows.with_columns(event_type=_versioned(family))
    if family == "roster":
        typed = typed.with_columns(school_year=_roster_years(stamp)).explode(
            "school_year", empty_as_null=True, keep_nulls=True
        )
    return typed.with_columns(event_id=event_id(stamp.secret)).select(list(columns(FAMILIES[family])))


def _versioned(family: str) -> pl.Expr:
    """A later version of a score is a correction, a withdrawn one a withdrawal."""
    if family != "screening":
        return pl.col("event_type")
    return (
        pl.when(pl.col("is_withdrawn").fill_null(False))
        .then(pl.lit("ScreenerWithdrawn"))
        .when(pl.col("change") == "corrected")
        .then(pl.lit("ScreenerCorrected"))
        .otherwise("event_type")
    )


def _roster_years(stamp: Stamp) -> pl.Expr:
    """School years of a fact, as a list: reference records stand in `all`, enrolments in each year they touch."""
    first = pl.col("school_year").cast(pl.Int32, strict=False)
    last = pl.max_horizontal(
        pl.when(pl.col("end_on").is_not_null())
        .then(pl.col("end_on").dt.year() + (pl.col("end_on").dt.month() >= stamp.year_starts_month).cast(pl.Int32))
        .otherwise(pl.lit(stamp.year).cast(pl.Int32, strict=False)),
        first,
    )
    touched = pl.int_ranges(first, pl.min_horizontal(last, first + LONGEST_ENROLMENT_YEARS - 1) + 1)
    return (
        pl.when(pl.col("event_type").is_in(REFERENCE_TYPES) | first.is_null())
        .then(pl.concat_list(pl.lit(ALL_YEARS)))
        .otherwise(touched.cast(pl.List(pl.String)))
    )


def _sightings(facts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    names = list(columns(Sighting))
    rows = [each.with_columns(family=pl.lit(family)).select(names) for family, each in facts.items()]
    return pl.concat([empty(Sighting), *rows]).unique(maintain_order=True)


def _count(values: list[pl.Series]) -> dict[str, int]:
    if not values:
        return {}
    counted = pl.concat([value.rename("value") for value in values]).value_counts()
    return dict(zip(counted["value"].to_list(), counted["count"].to_list(), strict=True))
