"""One reading of one landed file: recognise, parse, find its students, settle what changes; ledger row last."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl

from pipelines.blocking import BlockList, bound, copy_without, tables_in
from pipelines.extracts import FullExtract, full_extract
from schemas.contract import columns
from schemas.events import ParkedRow
from schemas.exports import Binding, Layout, layouts
from schemas.policy import SECTION_VOCABULARY, DistrictPolicy
from schemas.projections import IngestLedger, RejectedRow
from transforms.batches import (
    ROW_OUTCOMES,
    Changes,
    FileFacts,
    Stamp,
    erase,
    merged_events,
    name_facts,
    only_lines,
    park,
    settle,
)
from transforms.exports import Context, Parsed, parse, unhashed, wanted, without
from transforms.identity import best_match
from transforms.recognition import Held, Recognised, recognise, shown
from warehouse.home import fingerprint
from warehouse.landing import YEARS, ChangedExport, Landed
from warehouse.lines import UnreadableExport
from warehouse.log import Log, loaded
from warehouse.redaction import physical_lines
from warehouse.tabular import RawTable, read_header, read_table
from warehouse.vault import Vault

Aliases = Mapping[str, Mapping[str, Sequence[str]]]
ParsedFile = tuple[Binding, Parsed, pl.DataFrame, int]
"""How a file's header binds, its facts, its damaged lines, and how many data rows it has."""
CHANGING = "changing_file"
"""Rule that holds a file while somebody writes it: what was read may be half of a row, and of a score."""


class HeldFile(Exception):
    """The file waits for a person: nothing of it was written but a ledger row that says why."""

    def __init__(self, rule: str, message: str, data_rows: int = 0) -> None:
        super().__init__(message)
        self.rule = rule
        self.data_rows = data_rows


@dataclass(frozen=True)
class KnownFile:
    """A landed file and the layout its header has."""

    landed: Landed
    recognised: Recognised | Held
    batch_id: str
    export_at: datetime | None = None
    """Set when the file is read again: what the first reading took."""
    redacted_hash: str | None = None
    """Set when a copy is read again that lacks the lines of erased students."""

    @property
    def layout(self) -> Layout | None:
        """The layout, if one was recognised."""
        return self.recognised.binding.layout if isinstance(self.recognised, Recognised) else None

    @property
    def order(self) -> tuple[bool, str]:
        """Rosters first, so that what follows finds its students."""
        return (self.layout is None or self.layout.kind != "roster", self.landed.name)


def know(landed: Landed, aliases: Aliases) -> KnownFile:
    """Recognise a file by its header. The batch id covers its bytes, district, layout and that layout's aliases."""
    try:
        recognised = recognise(read_header(landed.read(), landed.name), landed.name, layouts(), aliases)
    except UnreadableExport as error:
        recognised = Held("unreadable", str(error))
    layout = recognised.binding.layout.id if isinstance(recognised, Recognised) else None
    return KnownFile(landed, recognised, batch_of(landed, layout, aliases))


def batch_of(landed: Landed, layout: str | None, aliases: Aliases) -> str:
    """The batch id of a file that this layout reads."""
    read_as = layout or "unknown"
    named = sorted((name, tuple(headers)) for name, headers in aliases.get(read_as, {}).items())
    text = "\0".join((landed.data_sha256, landed.district_id, read_as, repr(named)))
    return hashlib.sha256(text.encode()).hexdigest()


def export_time(file: KnownFile, policy: DistrictPolicy) -> datetime:
    """The day in the file's name where the layout declares one, else of its folder, else when it was written."""
    if file.export_at is not None:
        return file.export_at
    day = _named_day(file) or file.landed.landed_on
    if day is None:
        return file.landed.modified_at.astimezone(UTC)
    return datetime.combine(day, time(), policy.zone).astimezone(UTC)


def _named_day(file: KnownFile) -> date | None:
    if file.layout is None or not file.layout.export_name:
        return None
    found = re.search(file.layout.export_name, Path(file.landed.name).name)
    try:
        day = date(int(found["year"]), int(found["month"]), int(found["day"])) if found else None
    except ValueError:
        return None
    return day if day is not None and day.year in YEARS else None


@dataclass
class Reader:
    """Reads the files of one district under its commit lock."""

    district_id: str
    policy: DistrictPolicy
    log: Log
    vault: Vault
    secret: bytes
    now: Callable[[], datetime]
    aliases: Aliases = field(default_factory=dict)
    blocked: BlockList = field(init=False)
    _moved: dict[str, list[int]] = field(default_factory=dict, init=False)
    """By batch, lines with facts that were moved to an erased student."""
    _ahead: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), init=False)
    _begun: dict[int, Future[ParsedFile]] = field(default_factory=dict, init=False)
    """By identity: two landed files may have equal bytes and other names and times."""

    def __post_init__(self) -> None:
        self.blocked = BlockList(self.district_id, self.secret)

    def block(self) -> None:
        """Take note of the erased students; the district's lease is held."""
        digests = self.vault.blocked(self.district_id)
        if digests.len():
            self.blocked = BlockList(self.district_id, self.secret, digests, self.vault.roster_ids(self.district_id))

    def copy_without_erased(self, file: KnownFile) -> bytes | None:
        """The file without the rows of erased students; None where it has none.

        A workbook's copy holds all its sheets, so it lacks their rows too.
        """
        if not self.blocked:
            return None
        data = file.landed.read()
        gone: dict[str, list[int]] = {}
        for sheet, name in tables_in(data, file.landed.name):
            binding = bound(data, name, self.aliases)
            if binding is None:
                continue
            table = read_table(data, name, wanted(binding))
            parsed = parse(table.rows, binding, context_of(file, self.district_id, self.policy), name_all=True)
            records = set(self.blocked.lines(parsed)["source_line"])
            if name == file.landed.name:
                records |= set(self._moved.get(file.batch_id, ()))
            gone[sheet] = sorted(records) if sheet else physical_lines(data, records, _starts(table))
        return copy_without(data, gone) if any(gone.values()) else None

    def look_ahead(self, file: KnownFile) -> None:
        """Begin to parse a file in another thread: what it says depends on nothing that is written meanwhile."""
        self._begun[id(file)] = self._ahead.submit(self._parse, file)

    def read(
        self, file: KnownFile, held_against: str, year: str | None = None, lines: pl.Series | None = None
    ) -> dict[str, object]:
        """Load or hold one file and return its ledger row.

        Args:
            file: The file.
            held_against: What it would be held under.
            year: School year of its roster folder, where it belongs to one.
            lines: Only these lines, which an earlier reading parked.
        """
        row: dict[str, object] = dict.fromkeys(columns(IngestLedger))
        row |= {
            "batch_id": file.batch_id,
            "attempt": self.vault.begin_attempt(self.district_id, file.batch_id),
            "district_id": self.district_id,
            "file": file.landed.name,
            "file_bytes": file.landed.bytes,
            "layout": file.layout.id if file.layout else None,
            "export_at": export_time(file, self.policy),
            "received_on": file.landed.received_on,
            "home_fingerprint": fingerprint(self.secret),
            "redacted_hash": file.redacted_hash,
        }
        try:
            row |= self._load(file, row, year, lines)
            row["status"] = "loaded"
        except HeldFile as held:
            row |= {
                "status": "held",
                "held_rule": held.rule,
                "message": str(held),
                "held_against": "" if held.rule == CHANGING else held_against,  # offered again by the next run
                "data_rows": held.data_rows,
            }
        row["recorded_at"] = self.now()
        self.log.record(row)
        return row

    def parse(self, file: KnownFile) -> ParsedFile:
        """What a file says.

        Raises:
            HeldFile: no layout fits, or the bytes cannot be read.
        """
        begun = self._begun.pop(id(file), None)
        return self._parse(file) if begun is None else begun.result()

    def _parse(self, file: KnownFile) -> ParsedFile:
        return parse_file(file, self.district_id, self.policy, name_all=bool(self.blocked))

    def _load(
        self, file: KnownFile, row: Mapping[str, object], year: str | None, lines: pl.Series | None
    ) -> dict[str, object]:
        binding, parsed, damaged, records = self.parse(file)
        layout = binding.layout
        erased = self.blocked.lines(parsed)
        if erased.height:
            parsed = without(parsed, erased)
        refuse_other_year(parsed, records, self.policy)
        stamp = Stamp(
            batch_id=file.batch_id,
            attempt=int(str(row["attempt"])),
            district_id=self.district_id,
            export_at=export_time(file, self.policy),
            layout=layout.id,
            secret=self.secret,
            year=year or self._year_of(export_time(file, self.policy)),
            year_starts_month=self.policy.year_starts_month,
            unhashed=tuple(sorted(unhashed(layout))),
        )
        keys = self._own_keys(parsed, layout)
        read = self._with_subjects(parsed, damaged, keys)
        if lines is not None:
            read = only_lines(read, lines)
        match, pairs = self._match(parsed, keys, layout, records, stamp.batch_id)
        everyone = read
        if pairs is not None and layout.kind != "roster":
            read = park(read, pairs["subject_key"])
        facts = name_facts(read, stamp)
        moved = self.blocked.facts(facts)
        if moved.height:
            self._moved[file.batch_id] = moved["source_line"].to_list()
            read = erase(read, moved)
            facts = {family: rows.join(moved, on="source_line", how="anti") for family, rows in facts.items()}
        known = loaded(self.log.ledger_rows([self.district_id]))
        extract = FullExtract()
        if layout.id in self.policy.full_extracts and lines is None:
            parked = only_lines(everyone, read.outcomes.filter(pl.col("outcome") == "parked")["source_line"])
            unread = self._unread_subjects(parsed, damaged)
            extract = self._full_extract(facts, name_facts(parked, stamp), unread, stamp, known)
            if extract.waits_for:
                raise HeldFile("tests_vanished", extract.waits_for, records)
        seen = {
            family: self.log.seen(self.district_id, family, rows["natural_key"], known)
            for family, rows in facts.items()
        }
        changes = settle(read, facts, seen, stamp)
        events, sightings = self._links(pairs, known, stamp)
        self._keep_names(parsed, keys, layout)
        rejected = _rejected(parsed, damaged, stamp, lines)
        waiting = read.outcomes.filter(pl.col("outcome") == "parked").select(
            **_reading(stamp), source_line=pl.col("source_line")
        )
        self.log.append(
            stamp.batch_id,
            stamp.attempt,
            {**changes.events, "identity": events},
            pl.concat([changes.sightings, sightings]),
            rejected,
            waiting.select(list(columns(ParkedRow))),
            _notes(parsed, changes, stamp),
        )
        if extract.rows is not None:
            self.log.append_extract(stamp.batch_id, stamp.attempt, *extract.rows)
        new = binding.new if _fits(damaged, records) else ()
        counted = _counted(read, changes, binding.renamed, new, extract.message)
        is_sheet = bool(self.blocked) and file.landed.sheet is not None  # its copy has the other sheets as well
        if lines is None and (is_sheet or erased.height + moved.height):
            counted["redacted_hash"] = self._hash_without_erased(file)
        return counted | match | {**extract.counts, "school_years": _school_years(changes)}

    def _hash_without_erased(self, file: KnownFile) -> str | None:
        copy = self.copy_without_erased(file)
        return None if copy is None else hashlib.sha256(copy).hexdigest()

    def _full_extract(
        self,
        facts: Mapping[str, pl.DataFrame],
        parked: Mapping[str, pl.DataFrame],
        unread: pl.DataFrame,
        stamp: Stamp,
        known: pl.DataFrame,
    ) -> FullExtract:
        tests = [each["screening"] for each in (facts, parked) if "screening" in each]
        if not tests:
            return FullExtract()
        none = tests[0].clear()
        is_confirmed = any(stamp.batch_id.startswith(each) for each in self.policy.confirmed_extracts)
        return full_extract(
            facts.get("screening", none),
            parked.get("screening", none),
            unread,
            stamp,
            self.log,
            known,
            is_confirmed=is_confirmed,
        )

    def _unread_subjects(self, parsed: Parsed, damaged: pl.DataFrame) -> pl.DataFrame:
        """The student of every row that was not read, null where it names none: `subject_key`."""
        nobody = (
            damaged.select("source_line")
            .unique()
            .with_columns(own_id_type=pl.lit(None, pl.String), own_id=pl.lit(None, pl.String))
        )
        own = pl.concat([parsed.unread.select(nobody.columns), nobody])
        ids = own.select(id_type="own_id_type", id="own_id").drop_nulls().unique()
        keys = self.vault.subject_keys(self.district_id, ids).rename({"id_type": "own_id_type", "id": "own_id"})
        return own.join(keys, on=["own_id_type", "own_id"], how="left").select("subject_key")

    def _year_of(self, when: datetime) -> str:
        local = when.astimezone(self.policy.zone)
        return str(local.year + (local.month >= self.policy.year_starts_month))

    def _own_keys(self, parsed: Parsed, layout: Layout) -> pl.DataFrame:
        """Key of every own id in the file: `own_id_type`, `own_id`, `subject_key`."""
        own = [
            frame.select(id_type="own_id_type", id="own_id")
            for frame in (*parsed.facts.values(), parsed.identifiers, parsed.vault_rows)
            if "own_id" in frame.columns
        ]
        ids = pl.concat([pl.DataFrame(schema={"id_type": pl.String, "id": pl.String}), *own]).drop_nulls().unique()
        return self.vault.subject_keys(self.district_id, ids).rename({"id_type": "own_id_type", "id": "own_id"})

    def _with_subjects(self, parsed: Parsed, damaged: pl.DataFrame, keys: pl.DataFrame) -> FileFacts:
        facts = {}
        for family, rows in parsed.facts.items():
            keyed = rows.join(keys, on=["own_id_type", "own_id"], how="left", maintain_order="left")
            for name in parsed.persons.keys() & set(keyed.columns):
                keyed = self._person_keys(keyed, name, parsed.persons[name])
            facts[family] = keyed
        lost = damaged.select("source_line", outcome=pl.lit("rejected")).unique()
        slots = parsed.rejected.filter(pl.col("slot").is_not_null()).select("source_line", "slot").unique()
        return FileFacts(facts, pl.concat([parsed.outcomes, lost]), parsed.slots, slots)

    def _person_keys(self, rows: pl.DataFrame, name: str, id_type: str) -> pl.DataFrame:
        ids = rows.select(id_type=pl.lit(id_type), id=pl.col(name)).drop_nulls().unique()
        keys = self.vault.subject_keys(self.district_id, ids).select(pl.col("id").alias(name), _key="subject_key")
        return (
            rows.join(keys, on=name, how="left", maintain_order="left")
            .with_columns(pl.col("_key").alias(name))
            .drop("_key")
        )

    def _match(
        self, parsed: Parsed, keys: pl.DataFrame, layout: Layout, records: int, batch_id: str
    ) -> tuple[dict[str, object], pl.DataFrame | None]:
        """How the file's students are found in the roster; no pairs where there is no roster or nobody is meant."""
        ids = parsed.identifiers.join(keys, on=["own_id_type", "own_id"], how="inner").select(
            "subject_key", "id_type", "id", id_column="column"
        )
        if ids.is_empty():
            return {}, None
        if layout.names_people and layout.kind == "roster":
            self.vault.add_roster_ids(self.district_id, ids)
            return {}, self._earlier_subjects()
        if layout.kind == "roster":
            return {}, None
        roster = self.vault.roster_ids(self.district_id)
        if roster.is_empty():
            self.vault.add_seen_ids(self.district_id, batch_id, ids)
            return {}, None
        column, id_type, rate, pairs = best_match(ids, roster)
        refuse_strangers(column, rate, records, self.policy)
        return {"match_column": column, "match_id_type": id_type, "match_rate": rate}, pairs

    def _earlier_subjects(self) -> pl.DataFrame:
        """Students that came before their roster, found in it now: file by file, as if the roster had come first."""
        roster, seen = self.vault.roster_ids(self.district_id), self.vault.seen_ids(self.district_id)
        found = [pl.DataFrame(schema={"subject_key": pl.String, "roster_key": pl.String})]
        for ids in seen.partition_by("batch_id", maintain_order=False):
            _, _, rate, pairs = best_match(ids, roster)
            if rate >= self.policy.quality.match_rate_minimum:
                found.append(pairs)
        return pl.concat(found).unique()

    def _links(
        self, pairs: pl.DataFrame | None, known: pl.DataFrame, stamp: Stamp
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        none = pl.DataFrame(schema={"subject_key": pl.String, "roster_key": pl.String})
        linked = self.log.events("identity", [self.district_id], known).select("loser_key", "winner_key").collect()
        return merged_events(none if pairs is None else pairs, linked, stamp)

    def _keep_names(self, parsed: Parsed, keys: pl.DataFrame, layout: Layout) -> None:
        rows = parsed.vault_rows
        if rows.is_empty():
            return
        people = rows.join(keys, on=["own_id_type", "own_id"], how="inner", maintain_order="left")
        self.vault.add_people(self.district_id, layout.id, people)
        if "class_id" in parsed.persons:
            rows = self._person_keys(rows, "class_id", parsed.persons["class_id"])
        self.vault.add_classes(self.district_id, layout.id, rows)


def _starts(table: RawTable) -> list[int]:
    """The lines on which a record starts, whether it could be read or not."""
    return [*table.rows["source_line"].to_list(), *table.damaged["source_line"].to_list()]


def context_of(file: KnownFile, district_id: str, policy: DistrictPolicy) -> Context:
    """What the rows of a file mean depends on."""
    return Context(
        district_id=district_id,
        file_name=file.landed.name,
        export_at=export_time(file, policy),
        time_zone=policy.time_zone,
        year_starts=(policy.year_starts_month, 1),
        section_vocabulary=SECTION_VOCABULARY,
    )


def parse_file(file: KnownFile, district_id: str, policy: DistrictPolicy, *, name_all: bool = False) -> ParsedFile:
    """What a file says to a district; nothing is written. ``name_all`` as ``transforms.exports.parse`` has it.

    Raises:
        HeldFile: no layout fits, or the bytes cannot be read.
    """
    if isinstance(file.recognised, Held):
        raise _unrecognised(file.landed, file.recognised)
    binding = file.recognised.binding
    try:
        table = read_table(file.landed.read(), file.landed.name, wanted(binding))
        if not file.landed.is_unchanged:
            raise file.landed.changed
    except ChangedExport as error:
        raise HeldFile(CHANGING, str(error)) from None
    except UnreadableExport as error:
        raise HeldFile("unreadable", str(error)) from None
    context = context_of(file, district_id, policy)
    return binding, parse(table.rows, binding, context, name_all=name_all), table.damaged, table.records


def refuse_other_year(parsed: Parsed, records: int, policy: DistrictPolicy) -> None:
    """A folder still holding last year's file would fill this year with old rows (SEMANTICS 2.4).

    Raises:
        HeldFile: too many rows lie outside the school year that the file declares.
    """
    found = parsed.findings.filter(pl.col("rule") == "school_year_disagrees")["rows"].sum()
    read = parsed.outcomes.filter(pl.col("outcome") == "parsed").height
    if read and found / read > policy.quality.year_disagreement_maximum:
        raise HeldFile(
            "school_year_disagrees",
            f"{found} of {read} rows have a test date outside the school year that the file declares."
            " It is probably last year's export; export this year's file, or correct the year column.",
            records,
        )


def refuse_strangers(column: str | None, rate: float, records: int, policy: DistrictPolicy) -> None:
    """A file whose students the roster does not know is of another district, or came before its roster.

    Raises:
        HeldFile: fewer are known than the policy asks for.
    """
    minimum = policy.quality.match_rate_minimum
    if rate < minimum:
        raise HeldFile(
            "match_rate",
            f"{rate:.1%} of the students are in the roster by their best id column ({column or 'none'}),"
            f" below the minimum of {minimum:.0%}. Load the roster that has these students, or set"
            " quality.match_rate_minimum in the policy if so few are expected.",
            records,
        )


def _unrecognised(landed: Landed, held: Held) -> HeldFile:
    """Why a file is held, with its rows; the file's own headers are told only if they are headers."""
    try:
        table = read_table(landed.read(), landed.name, ())
    except UnreadableExport:
        return HeldFile(held.rule, held.message)
    if held.likely and not _fits(table.damaged, table.records):
        return HeldFile(
            held.rule,
            f"{held.nearest}: the file lacks {len(held.missing)} columns, and most of its rows do not fit its first"
            " line. See that the first line holds the header and nothing else, and export the file again.",
            table.records,
        )
    return HeldFile(held.rule, held.message, table.records)


def _fits(damaged: pl.DataFrame, records: int) -> bool:
    """Whether the rows have the header's fields. If not, a lost line end may have put a student into the header."""
    return damaged.height * 2 < records


def _reading(stamp: Stamp) -> dict[str, pl.Expr]:
    return {
        "district_id": pl.lit(stamp.district_id),
        "batch_id": pl.lit(stamp.batch_id),
        "attempt": pl.lit(stamp.attempt, pl.Int64),
    }


def _rejected(parsed: Parsed, damaged: pl.DataFrame, stamp: Stamp, lines: pl.Series | None) -> pl.DataFrame:
    names = ["source_line", "slot", "column", "rule"]
    headers = {each: shown(each) for each in damaged["column"].drop_nulls().unique()}
    broken = damaged.with_columns(pl.col("column").replace(headers), slot=pl.lit(None, pl.Int32)).select(names)
    rows = pl.concat([parsed.rejected.select(names), broken]).with_columns(**_reading(stamp))
    if lines is not None:
        rows = rows.filter(pl.col("source_line").is_in(lines.implode()))
    return rows.select(list(columns(RejectedRow)))


def _notes(parsed: Parsed, changes: Changes, stamp: Stamp) -> pl.DataFrame:
    changed = [rows.select("natural_key") for rows in changes.events.values()]
    keys = pl.concat([pl.DataFrame(schema={"natural_key": pl.String}), *changed]).unique()
    return (
        parsed.notes.join(changes.keys, on=["source_line", "slot"], how="inner")
        .join(keys, on="natural_key", how="semi")
        .with_columns(**_reading(stamp))
        .select("district_id", "batch_id", "attempt", "natural_key", "text")
    )


def _counted(
    read: FileFacts,
    changes: Changes,
    renamed: Sequence[tuple[str, str]],
    new: Sequence[str],
    about_extract: str | None,
) -> dict[str, object]:
    counts: dict[str, object] = {outcome: changes.rows.get(outcome, 0) for outcome in ROW_OUTCOMES}
    counts |= {f"facts_{name}": number for name, number in changes.facts.items()}
    told = []
    if renamed:
        told.append("Renamed columns were read: " + "; ".join(f"{found} is {today}" for today, found in renamed) + ".")
    if new:
        told.append("New columns were not read: " + "; ".join(new) + ".")
    if changes.conflicts:
        told.append(f"conflicting_sources: {changes.conflicts} facts are stated twice with different content.")
    if about_extract:
        told.append(about_extract)
    return counts | {
        "data_rows": read.outcomes.height,
        "slots": read.slots,
        "renamed_columns": "; ".join(f"{today} = {found}" for today, found in renamed) or None,
        "new_columns": "; ".join(new) or None,
        "message": " ".join(told) or None,
    }


def _school_years(changes: Changes) -> str | None:
    years = {year for rows in changes.events.values() for year in rows["school_year"].unique().to_list()}
    return ";".join(sorted(years)) or None
