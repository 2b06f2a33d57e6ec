"""What people state by file or by command, as a batch of the log like any other: events first, ledger row last."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from schemas.contract import columns, empty
from schemas.events import ALL_YEARS, FAMILIES, Note, ParkedRow
from schemas.projections import IngestLedger, RejectedRow
from transforms.batches import ROW_OUTCOMES, Changes, FileFacts, Stamp, name_facts, settle
from warehouse.home import fingerprint
from warehouse.log import Log, loaded
from warehouse.vault import Vault


class NotPossible(Exception):
    """What was asked cannot be done; says why, and what to do. Nothing was written."""


@dataclass(frozen=True)
class Statement:
    """One thing that a person decided, in one or more facts of a family."""

    layout: str
    """`policy` or `statement`: under which it stands in the ledger."""
    file: str
    """The file or command it came by."""
    family: str
    rows: pl.DataFrame
    """`event_type` and whatever columns of the family it fills; one row per fact."""
    reason: str | None = None
    """Code of the reason."""
    note: str | None = None
    """What the person typed; kept with the notes alone."""


def record(
    log: Log,
    vault: Vault,
    secret: bytes,
    district_id: str,
    batch_id: str,
    statement: Statement,
    ledger: pl.DataFrame,
    now: Callable[[], datetime],
) -> dict[str, object]:
    """Append a statement and return its ledger row. The district's lease is held.

    Raises:
        UnbalancedBatch: its facts do not add up.
    """
    attempt = vault.begin_attempt(district_id, batch_id)
    stamp = Stamp(batch_id, attempt, district_id, now(), statement.layout, secret, ALL_YEARS)
    changes = _settled(statement, stamp, log, ledger)
    events = {
        family: rows.with_columns(reason=pl.lit(statement.reason, pl.String)) for family, rows in changes.events.items()
    }
    log.append(
        batch_id,
        attempt,
        events,
        changes.sightings,
        empty(RejectedRow),
        empty(ParkedRow),
        _notes(changes, statement.note, stamp),
    )
    row: dict[str, object] = dict.fromkeys(columns(IngestLedger))
    row |= {
        "batch_id": batch_id,
        "attempt": attempt,
        "district_id": district_id,
        "file": statement.file,
        "layout": statement.layout,
        "status": "loaded",
        "export_at": stamp.export_at,
        "school_years": ALL_YEARS,
        "data_rows": 1,
        "slots": statement.rows.height,
        "home_fingerprint": fingerprint(secret),
        **{outcome: changes.rows.get(outcome, 0) for outcome in ROW_OUTCOMES},
        **{f"facts_{name}": count for name, count in changes.facts.items()},
        "recorded_at": now(),
    }
    log.record(row)
    return row


def _settled(statement: Statement, stamp: Stamp, log: Log, ledger: pl.DataFrame) -> Changes:
    family = statement.family
    lacking = {name: dtype for name, dtype in columns(FAMILIES[family]).items() if name not in statement.rows.columns}
    rows = statement.rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in lacking.items()).with_columns(
        school_year=pl.lit(ALL_YEARS), source_line=pl.lit(1, pl.Int64), slot=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    outcomes = pl.DataFrame({"source_line": [1], "outcome": ["parsed"]})
    none = pl.DataFrame(schema={"source_line": pl.Int64, "slot": pl.Int32})
    read = FileFacts({family: rows}, outcomes, rows.height, none)
    facts = name_facts(read, stamp)
    seen = log.seen(stamp.district_id, family, facts[family]["natural_key"], loaded(ledger))
    return settle(read, facts, {family: seen}, stamp)


def _notes(changes: Changes, note: str | None, stamp: Stamp) -> pl.DataFrame:
    """Why, as a person typed it."""
    if note is None:
        return empty(Note)
    return changes.keys.select(
        district_id=pl.lit(stamp.district_id),
        batch_id=pl.lit(stamp.batch_id),
        attempt=pl.lit(stamp.attempt, pl.Int64),
        natural_key="natural_key",
        text=pl.lit(note),
    )
