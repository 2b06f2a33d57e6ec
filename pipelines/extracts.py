"""A file that a district declares a full extract: what it covers, what it lacks, whether that waits for a person."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from pipelines.facts import standing_tests
from schemas.contract import columns, empty
from schemas.events import ExtractGap, ExtractScope
from schemas.exports import layouts
from transforms.batches import Stamp
from transforms.withdrawals import MOST_PERCENT, MOST_TESTS, Vanished, scope_of, vanished
from warehouse.log import Log

ID_SHOWN = 12
"""Characters of a batch id by which a person confirms a file."""


@dataclass(frozen=True)
class FullExtract:
    """What the log keeps of a full extract, and what its ledger row says."""

    rows: tuple[pl.DataFrame, pl.DataFrame] | None = None
    """``ExtractScope`` and ``ExtractGap`` rows; none where the file is not taken for one."""
    counts: Mapping[str, object] = field(default_factory=dict)
    """`tests_vanished`, `tests_withdrawn`."""
    message: str | None = None
    waits_for: str | None = None
    """Why a person must look at it first, and what to do; nothing is kept of it before."""


def full_extract(
    read: pl.DataFrame,
    parked: pl.DataFrame,
    unread: pl.DataFrame,
    stamp: Stamp,
    log: Log,
    known: pl.DataFrame,
    *,
    is_confirmed: bool,
) -> FullExtract:
    """Compare a declared full extract with the tests that stand.

    A row that names no student may hold any test: a file that has one is not taken for a full extract.

    Args:
        read: Tests of the file, as ``name_facts`` names them.
        parked: The same of its rows that wait for the roster.
        unread: `subject_key` of each row that was not read; null where it names no student.
        stamp: What its events carry.
        log: The home's log.
        known: Readings that were loaded before.
        is_confirmed: Whether a person confirmed what it lacks.
    """
    nameless = unread["subject_key"].null_count()
    if nameless:
        return FullExtract(
            message=f"Not taken for a full extract: {nameless} rows that could not be read name no student,"
            " and a test that is missing may stand in one of them."
        )
    within = {stamp.layout: layouts()[stamp.layout].extract_within}
    stated = pl.concat([read, parked]).with_columns(scope=scope_of(within), is_confirmed=is_confirmed)
    scopes = stated.select(list(columns(ExtractScope))).unique()
    gaps = _gaps(parked, unread, stamp)
    years = stated["school_year"].unique().to_list()
    standing = standing_tests(log, stamp.district_id, known, pl.col("layout") == stamp.layout, years)
    before = log.extracts([stamp.district_id], known)
    found = vanished(standing, (before[0], scopes), (before[1], gaps), stated["natural_key"])
    if found.is_too_many and not is_confirmed:
        return FullExtract(waits_for=_too_many(found, stamp))
    counts = {"tests_vanished": found.tests, "tests_withdrawn": found.withdrawn}
    return FullExtract((scopes, gaps), counts, _told(found, is_confirmed=is_confirmed))


def _gaps(parked: pl.DataFrame, unread: pl.DataFrame, stamp: Stamp) -> pl.DataFrame:
    none = pl.lit(None, pl.String)
    rows = [
        parked.select("natural_key", subject_key=none),
        unread.select("subject_key").select(natural_key=none, subject_key="subject_key"),
    ]
    return (
        pl.concat(rows)
        .unique()
        .with_columns(
            district_id=pl.lit(stamp.district_id),
            layout=pl.lit(stamp.layout),
            export_at=pl.lit(stamp.export_at),
            batch_id=pl.lit(stamp.batch_id),
            attempt=pl.lit(stamp.attempt, pl.Int64),
        )
        .select(list(empty(ExtractGap).columns))
    )


def _too_many(found: Vanished, stamp: Stamp) -> str:
    schools = f", among them all tests of {found.schools} schools" if found.schools else ""
    return (
        f"{found.tests} of {found.in_scope} tests that stand are not in this full extract{schools}. A school without"
        f" tests, or more than {MOST_PERCENT} % and {MOST_TESTS} tests of a term, are not withdrawn unasked. If they"
        f' were removed on purpose, add confirmed_extracts = ["{stamp.batch_id[:ID_SHOWN]}"] to'
        f" policy/{stamp.district_id}.toml: the file then loads and they are withdrawn. If the file is only a part,"
        f" export all of it, or take {stamp.layout} out of full_extracts."
    )


def _told(found: Vanished, *, is_confirmed: bool) -> str | None:
    if not found.tests and not found.withdrawn:
        return None
    why = "as confirmed" if is_confirmed else "as two full extracts in a row lack them"
    waits = "" if is_confirmed else "; the others are once the next full extract lacks them too"
    return (
        f"{found.tests} of {found.in_scope} tests that stood are not in this full extract."
        f" {found.withdrawn} are withdrawn, {why}{waits}."
    )
