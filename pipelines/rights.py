"""What a family may ask of a record, and to whom the record went (34 CFR 99.10, 99.20, 99.21, 99.32).

Each is an event of a student, stated by command. What people type stands in the notes store alone; here are kinds,
dates, numbers of cases and codes.
"""

import secrets
from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl

from pipelines.corrections import at_desk, district_of
from pipelines.facts import known_people
from pipelines.loading import Sources
from pipelines.statements import NotPossible
from schemas.events import DISCLOSURE_BASES
from warehouse.home import Home
from warehouse.log import READING, Log, loaded

ASKED = {"inspection": "InspectionRequested", "amendment": "AmendmentRequested"}
ANSWERED = {"inspection": "InspectionAnswered", "amendment": "AmendmentDecided"}
DECISIONS = {"inspection": ("answered",), "amendment": ("granted", "refused")}
CASE_BYTES = 4
_COMMANDS = {
    "InspectionRequested": "inspection",
    "InspectionAnswered": "inspection",
    "AmendmentRequested": "amend",
    "AmendmentDecided": "amend",
    "StatementAttached": "attach-statement",
    "DisclosureLogged": "log-disclosure",
}


def ask(
    home: Home, kind: str, key: str, on: date, note: str | None = None, sources: Sources | None = None
) -> dict[str, Any]:
    """Record that a family asked to see a record or to have it amended; until it is answered nothing is erased.

    Args:
        home: The home.
        kind: inspection or amendment.
        key: A subject key of the student.
        on: Day it was asked.
        note: What was asked, as typed.
        sources: What equality tests inject.

    Raises:
        NotPossible: the key is unknown.
    """
    return _state(home, ASKED[kind], key, {"occurred_on": on}, note, sources)


def answer(
    home: Home,
    kind: str,
    key: str,
    case: str,
    decision: str,
    on: date,
    note: str | None = None,
    sources: Sources | None = None,
) -> dict[str, Any]:
    """Record how a request was answered. A granted amendment is made by a correction of its own.

    Raises:
        NotPossible: the key is unknown, no such request of the student is open, or the decision is not of the list.
    """
    if decision not in DECISIONS[kind]:
        raise NotPossible(f"{decision} is not a decision of the list: {', '.join(DECISIONS[kind])}.")
    said = {"row_id": case, "decision": decision, "occurred_on": on}
    return _state(home, ANSWERED[kind], key, said, note, sources, answers=ASKED[kind])


def attach_statement(home: Home, key: str, text: str, on: date, sources: Sources | None = None) -> dict[str, Any]:
    """Keep a family's statement with the record: from now on whoever explains the record sees that there is one.

    Raises:
        NotPossible: the key is unknown, or the text is empty.
    """
    if not text.strip():
        raise NotPossible("The statement is empty. Give its text.")
    return _state(home, "StatementAttached", key, {"occurred_on": on}, text, sources)


def log_disclosure(
    home: Home, key: str, basis: str, recipient: str, on: date, sources: Sources | None = None
) -> dict[str, Any]:
    """Record that a student's record went to somebody, and why it could.

    Args:
        home: The home.
        key: A subject key of the student.
        basis: A code of ``DISCLOSURE_BASES``.
        recipient: Who got what and for which interest, as typed; kept with the notes.
        on: Day of the disclosure.
        sources: What equality tests inject.

    Raises:
        NotPossible: the key is unknown, the recipient is empty, or the basis is not of the list.
    """
    if basis not in DISCLOSURE_BASES:
        raise NotPossible(f"{basis} is not a basis of the list: {', '.join(DISCLOSURE_BASES)}.")
    if not recipient.strip():
        raise NotPossible("Say who got the record and for which interest.")
    return _state(home, "DisclosureLogged", key, {"occurred_on": on, "basis": basis}, recipient, sources)


def rights_of(home: Home, key: str, event_type: str | None = None, *, with_text: bool = False) -> pl.DataFrame:
    """What is on record of a student's requests, statements and disclosures, oldest first.

    Args:
        home: The home.
        key: A subject key of the student.
        event_type: Only these.
        with_text: Also what was typed, as `text`: for the person who keeps the records.

    Raises:
        NotPossible: the key is unknown.
    """
    district_id = district_of(home, key)
    log = Log(home)
    ledger = log.ledger_rows([district_id])
    rows = _on_record(log, ledger, district_id, keys_of(log, ledger, district_id, key))
    if event_type is not None:
        rows = rows.filter(pl.col("event_type") == event_type)
    names = ["district_id", "event_type", "occurred_on", "row_id", "decision", "basis"]
    if with_text:
        notes = log.notes.scan(district_id=[district_id]).select(*READING, "natural_key", "text").collect()
        rows = rows.join(notes, on=[*READING, "natural_key"], how="left")
        names.append("text")
    when = ledger.select(*READING, "recorded_at")
    return rows.join(when, on=READING).sort("occurred_on", "recorded_at", "row_id").select(*names, "recorded_at")


def with_statement(home: Home, district_id: str) -> set[str]:
    """Students whose record has a statement, by every key they have."""
    log = Log(home)
    readings = loaded(log.ledger_rows([district_id]))
    attached = (
        log.events("rights", [district_id], readings).filter(pl.col("event_type") == "StatementAttached").collect()
    )
    people = known_people(log, [district_id], readings)
    shown = people.of(attached)["subject_key"]
    others = people.shown.filter(pl.col("shown_key").is_in(shown.implode()))["subject_key"]
    return {*shown, *others}


def keys_of(log: Log, ledger: pl.DataFrame, district_id: str, key: str) -> list[str]:
    """Every key of the student who has this one."""
    shown = known_people(log, [district_id], loaded(ledger)).shown.drop("district_id")
    stands = next(iter(shown.filter(pl.col("subject_key") == key)["shown_key"]), key)
    return sorted({stands, *shown.filter(pl.col("shown_key") == stands)["subject_key"]})


def _on_record(log: Log, ledger: pl.DataFrame, district_id: str, keys: list[str]) -> pl.DataFrame:
    return log.events("rights", [district_id], loaded(ledger)).filter(pl.col("subject_key").is_in(keys)).collect()


def _state(
    home: Home,
    event_type: str,
    key: str,
    said: Mapping[str, object],
    note: str | None,
    sources: Sources | None,
    answers: str | None = None,
) -> dict[str, Any]:
    with at_desk(home, district_of(home, key), sources) as desk:
        if answers is not None:
            log = desk.loader.log
            known = _on_record(log, desk.ledger, desk.district_id, keys_of(log, desk.ledger, desk.district_id, key))
            of_case = known.filter(pl.col("row_id") == said["row_id"])["event_type"].to_list()
            if of_case != [answers]:
                raise NotPossible(f"No open request of this student has the number {said['row_id']}.")
        row = {"row_id": secrets.token_hex(CASE_BYTES)} | dict(said)
        row |= {"event_type": event_type, "subject_key": key, "note_chars": len(note) if note else None}
        frame = pl.DataFrame([row], schema_overrides={"note_chars": pl.Int64, "occurred_on": pl.Date})
        batch_id = desk.state(_COMMANDS[event_type], "rights", frame, None, note)
        told = {"district_id": desk.district_id, "subject_key": key, "event": event_type, "case": row["row_id"]}
        return told | {"batch_id": batch_id}
