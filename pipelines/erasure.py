"""Erasure of a student (METHOD 5.5, SEMANTICS 5.4): planned, written down, then done in steps that may be done again.

Whatever holds something of the student is made anew without it. The plan lies in the vault until the last step is done,
so that a run or command that finds one first finishes what another began. Counts and tables are told, and nothing that
names the student.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.blocking import BlockList, copy_without, fact_digest, id_digest
from pipelines.copies import Subject, copies_with, landed_with
from pipelines.facts import known_people
from pipelines.loading import Loader, Sources, read_aliases
from pipelines.refresh import refresh
from pipelines.reproducible import COMMAND
from pipelines.statements import NotPossible
from schemas.contract import columns
from schemas.events import (
    ALL_YEARS,
    ERASURE_REASONS,
    FAMILIES,
    SCHEMA_VERSION,
    SUBJECT_ERASED,
    UNDO_REASONS,
    LogEvent,
    ParkedRow,
)
from schemas.exports import id_types
from schemas.policy import UnreadablePolicy
from schemas.projections import IngestLedger
from transforms.batches import ROW_OUTCOMES
from warehouse.alone import alone, together
from warehouse.delta import Table
from warehouse.home import Home, fingerprint
from warehouse.log import READING, STATEMENT, Log, loaded
from warehouse.projections import Projections
from warehouse.publish import publish
from warehouse.swap import restore, sync
from warehouse.vault import Vault

UNDO = f"{COMMAND} --undo-block"
FACTS = tuple(family for family in FAMILIES if family not in ("identity", "rules", "log"))
NOT_THE_SAME = "reproducible = false, reason = erasure: what was made before no longer comes out the same."
PLAN = ".erasure"
_FRAMES = ("log", "ledger", "parked")


@dataclass(frozen=True)
class Plan:
    """What an erasure does. It is made once; doing it twice is doing it once."""

    district_id: str
    erasure: str
    """Batch id of the erasure itself."""
    keys: list[str]
    """Subject keys that go."""
    natural_keys: list[str]
    """Facts that go, in all their versions; and the statements about them."""
    digests: list[str]
    copies: list[dict[str, Any]]
    """Archived files that hold the student: ``Copy``."""


@dataclass(frozen=True)
class Found:
    """Who would be erased, and what of the student there is, in numbers."""

    district_id: str
    keys: list[str]
    told: dict[str, Any]


def _plan_of(home: Home) -> Path:
    return home.vault / PLAN


# Whom


def look(home: Home, student: str, district: str | None = None, sources: Sources | None = None) -> Found:
    """What an erasure of this student would take, without taking it.

    Args:
        home: The home.
        student: A subject key, or an id that the district knows the student by.
        district: The only district to look in.
        sources: What equality tests inject.

    Raises:
        NotPossible: nobody or several students are known so, or a request of the student is open.
    """
    with at_work(home):
        loader = Loader(home, sources)
        try:
            return _looked(loader, student, district)[0]
        finally:
            loader.vault.close()


def _looked(loader: Loader, student: str, district: str | None) -> tuple[Found, "_Traces"]:
    district_id, keys = _whom(loader, student, district)
    open_now = open_requests(loader.log, district_id, keys)
    if open_now:
        raise NotPossible(
            f"{open_now} requests of this student are open. A record may not be destroyed before they are answered"
            " (34 CFR 99.10(e)): `tierline inspection` and `tierline amend` record the answer."
        )
    traces = _Traces(loader, district_id, keys)
    return Found(district_id, keys, traces.told()), traces


def open_requests(log: Log, district_id: str, keys: Sequence[str]) -> int:
    """Requests to see or to amend the record of a student, under any of the keys, that are not answered."""
    readings = loaded(log.ledger_rows([district_id]))
    rights = log.events("rights", [district_id], readings).filter(pl.col("subject_key").is_in(list(keys))).collect()
    answers = pl.col("event_type").is_in(["InspectionAnswered", "AmendmentDecided"])
    asked = rights.filter(pl.col("event_type").is_in(["InspectionRequested", "AmendmentRequested"]))
    return asked.join(rights.filter(answers), on="row_id", how="anti")["row_id"].n_unique()


def _whom(loader: Loader, student: str, district: str | None) -> tuple[str, list[str]]:
    """The district and every key of a student, merged ones included."""
    named = loader.vault.keys_with(student, sorted(id_types("person"))).rows()
    readings = loaded(loader.log.ledger_rows())
    for family in FACTS:
        rows = loader.log.families[family].scan().filter(pl.col("subject_key") == student)
        named += rows.select("district_id", "subject_key").unique().collect().rows()
    named += loader.vault.districts_of(student)
    asked = pl.DataFrame(named, schema={"district_id": pl.String, "subject_key": pl.String}, orient="row").unique()
    if district is not None:
        asked = asked.filter(pl.col("district_id") == district)
    people = known_people(loader.log, asked["district_id"].unique().to_list(), readings)
    shown = (
        asked.join(people.shown, on=["district_id", "subject_key"], how="left")
        .select("district_id", shown_key=pl.coalesce("shown_key", "subject_key"))
        .unique()
        .sort(pl.all())
    )
    if shown.is_empty():
        raise NotPossible("Nobody is known by this id or key. Write the id as the district's files have it.")
    if shown.height > 1:
        listed = "; ".join(f"{where} {key}" for where, key in shown.rows())
        raise NotPossible(f"{shown.height} students are known by this id. Name one by key: {listed}.")
    district_id, key = shown.row(0)
    merged = people.shown.filter(pl.col("district_id") == district_id, pl.col("shown_key") == key)["subject_key"]
    return district_id, sorted({key, *merged})


class _Traces:
    """Everything that a home holds of a student."""

    def __init__(self, loader: Loader, district_id: str, keys: Sequence[str]) -> None:
        self.loader = loader
        self.district_id = district_id
        self.keys = list(keys)
        self.ledger = loader.ledger(district_id)
        self.ids = loader.vault.ids_of(district_id, keys)
        moved = known_people(loader.log, [district_id], loaded(self.ledger)).moved
        is_ours = pl.col("to_key").is_in(self.keys)
        self.came, self.went = (moved.filter(each)["natural_key"].to_list() for each in (is_ours, ~is_ours))
        """Facts that were moved to the student, and those that were moved to anybody else."""
        self.events = self._events()
        self.natural_keys = sorted({key for rows in self.events.values() for key in rows["natural_key"]})
        self.digests = self._digests()
        digests, roster = pl.Series(self.digests, dtype=pl.String), loader.vault.roster_ids(district_id)
        self.subject = Subject(
            BlockList(district_id, loader.secret, digests, roster),
            self.ids["id"].unique().sort().to_list(),
            loader.vault.names_of(district_id, keys),
            pl.concat([rows.select("batch_id", "source_line") for rows in self.events.values()]).drop_nulls().unique(),
        )

    def _events(self) -> dict[str, pl.DataFrame]:
        """Events that go, by family, those of broken-off loads included."""
        is_own = pl.col("subject_key").is_in(self.keys) & ~pl.col("natural_key").is_in(self.went)
        found = {each: self._rows(each, is_own | pl.col("natural_key").is_in(self.came)) for each in FACTS}
        facts = pl.concat([rows["natural_key"] for rows in found.values()]).unique()
        is_about = pl.any_horizontal(
            pl.col("subject_key", "loser_key", "winner_key", "from_key", "to_key").is_in(self.keys)
        ) & ~pl.col("moved_key").is_in(self.went).fill_null(value=False)
        found["identity"] = self._rows("identity", is_about | pl.col("moved_key").is_in(facts.implode()))
        about = pl.col("subject_key").is_in(self.keys) & ~pl.col("target_key").is_in(self.went)
        found["log"] = self._rows("log", about | pl.col("target_key").is_in(facts.implode()))
        return found

    def _rows(self, family: str, condition: pl.Expr) -> pl.DataFrame:
        names = ["event_id", "natural_key", "batch_id", "attempt", "source_line", "layout", "export_at"]
        return (
            self.loader.log.families[family]
            .scan(district_id=[self.district_id])
            .filter(condition)
            .select(names)
            .collect()
        )

    def _digests(self) -> list[str]:
        """Block list: the student's ids, but those that another student has too and was not given a key for."""
        own = self.ids.filter(pl.col("is_own") | (pl.col("others") == 0))
        facts = pl.DataFrame({"natural_key": self.came}, schema={"natural_key": pl.String})
        secret = self.loader.secret
        digests = own.select(id_digest(self.district_id, secret)).to_series().to_list()
        return sorted({*digests, *facts.select(fact_digest(self.district_id, secret)).to_series().to_list()})

    def digests_of(self, named: pl.DataFrame) -> list[str]:
        """The same of ids that stand in files alone: the vault keeps those by which a student was found."""
        others = self.loader.vault.ids_of_others(self.district_id, self.keys)
        own = named.join(others, on=["id_type", "id"], how="anti")
        return own.select(id_digest(self.district_id, self.loader.secret)).to_series().to_list()

    def told(self) -> dict[str, Any]:
        """What there is, in numbers."""
        notes = self.loader.log.notes.scan(district_id=[self.district_id]).select("natural_key", "text").collect()
        is_own = pl.col("natural_key").is_in(self.natural_keys)
        names = sorted({family for _, family in self.subject.names})
        mentioned = notes.filter(~is_own, pl.col("text").str.contains_any(names)).height if names else 0
        shared = self.ids.filter(pl.col("others") > 0)
        return {
            "district_id": self.district_id,
            "subject_keys": len(self.keys),
            "ids": self.ids.height,
            "ids_of_others_too": shared.height,
            "events": {family: rows["event_id"].n_unique() for family, rows in self.events.items() if rows.height},
            "disclosures": self._disclosures(),
            "notes": notes.filter(is_own).height,
            "notes_of_others_with_the_name": mentioned,
            "facts_moved_to_others": self._moved_away(),
            "released_aggregates": len(list((self.loader.home.reports / "state").glob("[!.]*/release.json"))),
        }

    def _moved_away(self) -> int:
        is_moved = pl.col("subject_key").is_in(self.keys) & pl.col("natural_key").is_in(self.went)
        return sum(self._rows(family, is_moved)["natural_key"].n_unique() for family in FACTS)

    def _disclosures(self) -> int:
        rights = self.loader.log.families["rights"].scan(district_id=[self.district_id])
        logged = rights.filter(pl.col("event_type") == "DisclosureLogged", pl.col("subject_key").is_in(self.keys))
        return int(logged.select(pl.col("natural_key").n_unique()).collect().item())


# Doing it


def erase(
    home: Home,
    student: str,
    reason: str,
    *,
    district: str | None = None,
    sources: Sources | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Erase a student from a home, and keep the student out of it.

    Args:
        home: The home; log and projections stand in folders.
        student: A subject key, or an id that the district knows the student by.
        reason: A code of ``ERASURE_REASONS``.
        district: The only district to look in.
        sources: What equality tests inject.
        say: Told what is under way.

    Returns:
        What there was, and what was made anew: counts and tables.

    Raises:
        NotPossible: the reason is not of the list, nobody or several students are known so, or a request is open.
    """
    if reason not in ERASURE_REASONS:
        raise NotPossible(f"{reason} is not a reason of the list: {', '.join(ERASURE_REASONS)}.")
    if "://" in Log(home).ledger.uri or "://" in home.projections:
        raise NotPossible("The log or the projections stand in an object store, from which nothing can be erased yet.")
    with alone(home):
        _finish(home, say)
        loader = Loader(home, sources)
        try:
            found, traces = _looked(loader, student, district)
            say("Looking through the archive")
            in_landing = landed_with(home, traces.subject, read_aliases(home))
            plan = _write_plan(home, traces, reason)
        finally:
            loader.vault.close()
        done = _carry_out(home, plan, say)
    return found.told | done | {"files_in_landing": in_landing}


@contextmanager
def at_work(home: Home) -> Iterator[None]:
    """Work on a home on which nobody erases; an erasure that broke off is finished first."""
    while True:
        with together(home):
            if not _plan_of(home).exists():
                yield
                return
        with alone(home):
            _finish(home)


def _finish(home: Home, say: Callable[[str], None] = lambda _: None) -> None:
    """Finish an erasure that broke off, if there is one; the home is ours alone."""
    shutil.rmtree(_plan_of(home).with_suffix(".making"), ignore_errors=True)
    if _plan_of(home).exists():
        _carry_out(home, Plan(**json.loads((_plan_of(home) / "plan.json").read_text("utf-8"))), say)


def _write_plan(home: Home, traces: _Traces, reason: str) -> Plan:
    """Note what is to be done where the next run finds it. From here on there is no way back but a backup."""
    loader, district_id = traces.loader, traces.district_id
    copies, named = copies_with(home, traces.subject, traces.ledger, read_aliases(home))
    erasure = secrets.token_hex(32)
    digests = sorted({*traces.digests, *traces.digests_of(named)})
    held = [asdict(each) for each in copies]
    plan = Plan(district_id, erasure, traces.keys, traces.natural_keys, digests, held)
    statement = _statement(loader, district_id, erasure, COMMAND)
    waiting = [_without_parked(loader, each.batch_id, each.lines, traces.ledger) for each in copies]
    rows = [statement, *(row for row, _ in waiting if row)]
    frames = {
        "log": pl.concat([_stone(statement, reason), _stones(traces)]),
        "ledger": pl.DataFrame(rows, schema=columns(IngestLedger), strict=False),
        "parked": pl.concat([pl.DataFrame(schema=columns(ParkedRow)), *(lines for _, lines in waiting)]),
    }
    folder = _plan_of(home)
    making = folder.with_suffix(".making")
    making.mkdir(mode=0o700)
    for name, frame in frames.items():
        frame.write_parquet(making / f"{name}.parquet")
    (making / "plan.json").write_text(json.dumps(asdict(plan)), "utf-8")
    for path in (*making.iterdir(), making):
        sync(path)
    making.rename(folder)
    sync(folder.parent)
    return plan


def _statement(loader: Loader, district_id: str, batch_id: str, command: str) -> dict[str, object]:
    """Ledger row of an erasure or of its undoing: that there was one, and when."""
    now = loader.now()
    row: dict[str, object] = dict.fromkeys(columns(IngestLedger))
    return row | {
        "batch_id": batch_id,
        "attempt": loader.vault.begin_attempt(district_id, batch_id),
        "district_id": district_id,
        "file": command,
        "layout": STATEMENT,
        "status": "loaded",
        "message": NOT_THE_SAME if command == COMMAND else None,
        "export_at": now,
        "school_years": ALL_YEARS,
        "data_rows": 1,
        "slots": 1,
        "home_fingerprint": fingerprint(loader.secret),
        **dict.fromkeys(ROW_OUTCOMES, 0),
        **{f"facts_{name}": 0 for name in ("corrected", "unchanged", "empty", "rejected")},
        "parsed": 1,
        "facts_appended": 1,
        "recorded_at": now,
    }


def _stone(statement: Mapping[str, object], reason: str, *, is_restored: bool | None = None) -> pl.DataFrame:
    """The event of an erasure itself, or of its undoing."""
    row: dict[str, object] = dict.fromkeys(columns(LogEvent))
    row |= {name: statement[name] for name in (*READING, "district_id", "layout", "export_at")}
    row |= {"reason": reason, "is_restored": is_restored}
    return _with_random_ids(pl.DataFrame([row], schema=columns(LogEvent), strict=False))


def _stones(traces: _Traces) -> pl.DataFrame:
    """One row for every event that goes and that the ledger counts, so that both still agree."""
    counted = [
        rows if family != "identity" else rows.filter(pl.col("layout") == STATEMENT)
        for family, rows in traces.events.items()
    ]
    gone = [rows.select("event_id", *READING, "layout", "export_at").unique() for rows in counted]
    known = pl.concat(gone).join(loaded(traces.ledger).select(READING), on=READING, how="semi").sort(pl.all())
    lacking = [pl.lit(None, kind).alias(name) for name, kind in columns(LogEvent).items() if name not in known.columns]
    return _with_random_ids(known.with_columns(lacking).with_columns(district_id=pl.lit(traces.district_id)))


def _with_random_ids(rows: pl.DataFrame) -> pl.DataFrame:
    ids = [pl.Series(name, _random(rows.height)) for name in ("event_id", "natural_key", "content_hash")]
    return rows.with_columns(
        *ids,
        event_type=pl.lit(SUBJECT_ERASED),
        school_year=pl.lit(ALL_YEARS),
        schema_version=pl.lit(SCHEMA_VERSION, pl.Int16),
    ).select(list(columns(LogEvent)))


def _random(number: int) -> list[str]:
    noise = secrets.token_bytes(32 * number).hex()
    return [noise[start : start + 64] for start in range(0, len(noise), 64)]


def _without_parked(
    loader: Loader, batch_id: str, lines: Sequence[int], ledger: pl.DataFrame
) -> tuple[dict[str, object] | None, pl.DataFrame]:
    """Ledger row of a further reading of a file's parked lines, and those that still wait.

    The student's have the outcome `erased` in it. Nothing where none of them waits.
    """
    none = pl.DataFrame(schema=columns(ParkedRow))
    last = ledger.filter(pl.col("batch_id") == batch_id, pl.col("status") == "loaded").tail(1)
    if last.is_empty() or not last["parked"].item():
        return None, none
    rows = loader.log.parked.scan(district_id=last["district_id"].to_list()).collect()
    waiting = rows.join(last.select(READING), on=READING, how="semi")
    left = waiting.filter(~pl.col("source_line").is_in(list(lines)))
    if left.height == waiting.height:
        return None, none
    attempt = loader.vault.begin_attempt(str(last["district_id"].item()), batch_id)
    row = last.row(0, named=True) | {f"facts_{name}": 0 for name in ("appended", "corrected", "unchanged")}
    row |= {"facts_empty": 0, "facts_rejected": 0, "tests_vanished": None, "tests_withdrawn": None, "message": None}
    row |= dict.fromkeys(ROW_OUTCOMES, 0)
    row |= {"parked": left.height, "erased": waiting.height - left.height, "data_rows": waiting.height}
    row |= {"attempt": attempt, "school_years": None, "recorded_at": loader.now()}
    return row, left.with_columns(attempt=pl.lit(attempt, pl.Int64))


def _carry_out(home: Home, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Every step of a plan. Each finds the work of an earlier try done, and the plan goes last."""
    vault = Vault(home.vault)
    try:
        say("Block list")
        vault.block(plan.district_id, plan.erasure, plan.digests)
        say("Archive")
        hashes = _rewrite_copies(home, plan)
        say("Log")
        tables = _rewrite_log(Log(home), plan, _plan_of(home), hashes)
        say("Vault")
        vault.forget(plan.district_id, plan.keys)
    finally:
        vault.close()
    tables += _rewrite_derived(home, plan, say)
    gone = _plan_of(home).with_suffix(".making")
    _plan_of(home).rename(gone)
    shutil.rmtree(gone)
    return {"archived_files_rewritten": len(plan.copies), "tables_rebuilt": sorted(tables)}


def _rewrite_copies(home: Home, plan: Plan) -> pl.DataFrame:
    """Write archived files without the student's lines; returns `batch_id` and the `redacted_hash` of each."""
    hashes = []
    for each in plan.copies:
        path = home.root / each["path"]
        copy = copy_without(path.read_bytes(), each["gone"])
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(copy)
        part.chmod(0o600)
        sync(part)
        part.replace(path)
        sync(path.parent)
        if each["batch_id"]:
            hashes.append((each["batch_id"], sha256(copy).hexdigest()))
    for part in (home.archive / plan.district_id).glob("*/.*.part"):  # of loads that broke off
        part.unlink()
    return pl.DataFrame(hashes, schema={"batch_id": pl.String, "redacted_hash": pl.String}, orient="row")


def _rewrite_log(log: Log, plan: Plan, folder: Path, hashes: pl.DataFrame) -> list[str]:
    frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in _FRAMES}
    is_here = pl.col("district_id") == plan.district_id
    is_fact = is_here & pl.col("natural_key").is_in(plan.natural_keys).fill_null(value=False)
    is_student = is_here & pl.col("subject_key").is_in(plan.keys).fill_null(value=False)
    gone = dict.fromkeys((*log.families.values(), log.sightings, log.notes), is_fact)
    gone[log.extract_gaps] = is_fact | is_student
    done = [
        table.name for table, condition in gone.items() if table is not log.families["log"] and _drop(table, condition)
    ]
    stones, rows, parked = frames["log"], frames["ledger"], frames["parked"]
    log.families["log"].rebuild(
        lambda old: old.filter(~is_fact).join(stones, on="event_id", how="anti", maintain_order="left"), stones
    )
    if parked.height:
        log.parked.rebuild(lambda old: old.join(parked, on=READING, how="anti", maintain_order="left"), parked)
        done.append(log.parked.name)
    log.ledger.rebuild(lambda old: _marked(old.join(rows, on=READING, how="anti"), hashes), _marked(rows, hashes))
    return [*done, log.families["log"].name, log.ledger.name]


def _drop(table: Table, condition: pl.Expr) -> bool:
    """Make a table anew without some rows, if it has any of them."""
    if not table.scan().filter(condition).select(pl.len()).collect().item():
        table.clear()
        return False
    table.rebuild(lambda rows: rows.filter(~condition))
    return True


def _marked(ledger: pl.DataFrame, hashes: pl.DataFrame) -> pl.DataFrame:
    """Ledger rows with the hash of the copy that is kept now."""
    marked = ledger.join(hashes, on="batch_id", how="left", suffix="_now", maintain_order="left")
    return marked.with_columns(redacted_hash=pl.coalesce("redacted_hash_now", "redacted_hash")).drop(
        "redacted_hash_now"
    )


def _rewrite_derived(home: Home, plan: Plan, say: Callable[[str], None]) -> list[str]:
    """Projections, warehouse and reports, from the log as it is now."""
    from pipelines.work import plausible, published_files

    district = plan.district_id
    log, projections = Log(home), Projections(home.projections)
    say("Projections")
    with suppress(UnreadablePolicy):  # the next run says so; what is below takes the student out all the same
        refresh(log, projections, {district: home.policy(district)}, plausible=plausible)
    is_student = (pl.col("district_id") == district) & pl.col("subject_key").is_in(plan.keys)
    done = []
    for table in projections.tables.values():
        named = "subject_key" in columns(table.contract)
        table.rebuild(lambda rows, named=named: rows.filter(~is_student) if named else rows)  # type: ignore[misc]
        done.append(table.name)
    say("Warehouse")
    for path in (
        *home.root.glob(".verify-*"),
        *home.root.glob(".*.building"),
        *home.root.glob("warehouse/.*.building"),
    ):
        shutil.rmtree(path)
    if home.warehouse.exists():
        publish(home.warehouse, published_files(log, projections))
    own = home.warehouse_of(district)
    if own.exists():
        publish(own, published_files(log, projections, district_id=[district]), lock_of=home.warehouse)
    say("Reports")
    _rewrite_reports(home, district)
    return done


def _rewrite_reports(home: Home, district: str) -> None:
    """The report with names goes: who has the vault makes it again. The other is made anew where it can be."""
    from pipelines.report.reading import NothingToReport
    from pipelines.report.site import build_report

    named, plain = home.reports / f"{district}-with-names", home.reports / district
    for site in (named, plain):
        restore(site)
        shutil.rmtree(site.with_name(f".{site.name}.building"), ignore_errors=True)
    shutil.rmtree(named, ignore_errors=True)
    if plain.exists():
        try:
            build_report(home, district)
        except NothingToReport:
            shutil.rmtree(plain)


# Taking it back


def undo_block(
    home: Home, student: str, reason: str, *, district: str | None = None, sources: Sources | None = None
) -> dict[str, Any]:
    """Let an erased student in again, by any of the student's ids: files that are loaded from now on bring rows again.

    What was erased stays erased, and a file that was loaded before is not read again.

    Raises:
        NotPossible: the reason is not of the list, or nobody with this id is erased.
    """
    if reason not in UNDO_REASONS:
        raise NotPossible(f"{reason} is not a reason of the list: {', '.join(UNDO_REASONS)}.")
    with at_work(home):
        loader = Loader(home, sources)
        try:
            lifted = {each: _lift(loader, each, student, reason) for each in _districts(loader, district)}
        finally:
            loader.vault.close()
    if not any(lifted.values()):
        raise NotPossible("Nobody with this id is on the block list. Write the id as the district's files have it.")
    return {"districts": [each for each, number in lifted.items() if number], "erasures_undone": sum(lifted.values())}


def _districts(loader: Loader, district: str | None) -> list[str]:
    known = loader.log.ledger_rows()["district_id"].unique().sort().to_list()
    return [each for each in known if district in (None, each)]


def _lift(loader: Loader, district_id: str, student: str, reason: str) -> int:
    with loader.vault.lease(district_id):
        types = loader.vault.id_types(district_id) | id_types("id")
        ids = pl.DataFrame({"id_type": sorted(types), "id": student})
        digests = ids.select(id_digest(district_id, loader.secret)).to_series().to_list()
        lifted = loader.vault.unblock(district_id, digests)
        if lifted:
            row = _statement(loader, district_id, secrets.token_hex(32), UNDO)
            stone = _stone(row, reason, is_restored=True)
            loader.log.families["log"].append(stone)
            loader.log.record(row)
        return lifted
