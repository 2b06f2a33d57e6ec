"""Landing folder to log, one district at a time: every file becomes one batch, and its file goes to the archive."""

import hashlib
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import polars as pl

from pipelines.links import record_state_ids
from pipelines.reading import Aliases, HeldFile, KnownFile, Reader, know
from pipelines.rules import aliases_on_record, policy_news, record_policy
from schemas.exports import layouts
from schemas.policy import DistrictPolicy, UnreadablePolicy
from transforms.retention import past_retention
from warehouse.alone import together
from warehouse.archive import remove
from warehouse.home import Home, fingerprint
from warehouse.landing import ChangedExport, Landed, Refused, discover
from warehouse.log import Log, exports, redactions
from warehouse.plain import plain
from warehouse.vault import KeySource, Vault, random_keys

Progress = Callable[[str], None]


class HomeMismatch(Exception):
    """The log does not belong to this home's vault: it was written with another secret, or after this vault."""


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Sources:
    """What equality tests inject: the clock, the keys, the secret (SEMANTICS 5.2)."""

    clock: Callable[[], datetime] = system_clock
    keys: KeySource = random_keys
    secret: bytes | None = None


@dataclass
class LoadReport:
    """What became of a district's landing folder in one run."""

    district_id: str
    rows: list[dict[str, object]] = field(default_factory=list)
    """Ledger rows written."""
    refused: list[Refused] = field(default_factory=list)
    """Archives and files that were not opened."""
    unchanged_files: int = 0
    """Files loaded before, or held before for a reason that still stands."""
    still_held: int = 0
    """Of these, the held ones."""
    removed_files: int = 0
    """Archived files that the policy no longer keeps."""
    rules: int = 0
    """Policies, calendars and aliases that are new on record."""

    def files(self, status: str) -> int:
        """Files that got this status in this run."""
        return sum(row["status"] == status for row in self.rows)


class Loader:
    """Loads one district at a time under its commit lock."""

    def __init__(self, home: Home, sources: Sources | None = None) -> None:
        sources = sources or Sources()
        self.home = home.make()
        self.log = Log(home)
        self.vault = Vault(home.vault, sources.keys)
        self.secret = sources.secret or home.secret()
        self.clock = sources.clock

    def load(self, district_id: str, progress: Progress = lambda _: None) -> LoadReport:
        """Load what landed for a district; students that were missing in the roster are looked for again.

        ``progress`` is told the name of each file that is read.

        Raises:
            UnreadablePolicy: the district has no usable policy, or it changes closed windows unasked; nothing is read.
            VaultError: another run held the district too long.
            HomeMismatch: the log was written with another secret.
        """
        policy, agency = self.home.policy(district_id), self.home.agency()
        report = LoadReport(district_id)
        with together(self.home), self.vault.lease(district_id) as renew:

            def now() -> datetime:
                """A time for a ledger row; who lost the lease writes none, because another may have read the file."""
                renew()
                return self.now()

            reader = Reader(district_id, policy, self.log, self.vault, self.secret, now)
            ledger = self.ledger(district_id)
            reader.block()
            aliases = reader.aliases = read_aliases(self.home)
            report.rules = record_policy(
                self.log, self.vault, self.secret, district_id, policy, aliases, agency, ledger, now
            )
            landed, report.refused = discover(self.home.landing / district_id, district_id)
            files = sorted((know(each, aliases) for each in landed), key=lambda each: each.order)
            years = _bundle_years(reader, files)
            status = dict(ledger.sort("status").select("batch_id", "status").rows())  # once loaded, loaded
            held = dict(zip(ledger["batch_id"], ledger["held_against"], strict=True))
            past = set(self._past(ledger, policy)["batch_id"])
            for number, each in enumerate(files, 1):
                renew()
                against = self._against(district_id, policy, aliases)
                if status.get(each.batch_id) == "loaded":
                    report.unchanged_files += 1
                    if each.batch_id in past:
                        self._take(each.landed, policy)
                    else:
                        self._archive(reader, each, policy, report)
                elif each.batch_id in status and held[each.batch_id] == against:
                    report.unchanged_files += 1
                    report.still_held += 1
                else:
                    progress(each.landed.name)
                    seen = status.keys() | {each.batch_id}
                    if following := next((file for file in files[number:] if file.batch_id not in seen), None):
                        reader.look_ahead(following)
                    row = reader.read(each, against, years.get(each.landed.bundle))
                    report.rows.append(row)
                    status[each.batch_id], held[each.batch_id] = str(row["status"]), against
                    if row["status"] == "loaded":
                        self._archive(reader, each, policy, report)
            if policy.landing == "move":
                self._clear(files, status, report.refused)
            if report.rows:
                ledger = self.log.ledger_rows([district_id])
            report.rows += self._retry_parked(reader, ledger, aliases, renew)
            known = self.log.ledger_rows([district_id])
            record_state_ids(self.log, self.vault, self.secret, district_id, agency, known, now)
            report.removed_files = self._remove_past(district_id, policy, known)
            if report.rows:
                self.log.pack(district_id, renew)
        return report

    def waiting(self, district_id: str) -> dict[str, int]:
        """What a load would read or refuse now: content and what it is held under, to readings begun before.

        Empty when every landed file was loaded, or held for a reason that still stands.

        Raises:
            UnreadablePolicy: the district has no usable policy.
        """
        policy, aliases = self.home.policy(district_id), read_aliases(self.home)
        against = self._against(district_id, policy, aliases)
        ledger = self.log.ledger_rows([district_id])
        status = dict(zip(ledger["batch_id"], ledger["status"], strict=True))
        held = dict(zip(ledger["batch_id"], ledger["held_against"], strict=True))
        attempts = self.vault.attempts(district_id)
        landed, refused = discover(self.home.landing / district_id, district_id)
        batches = {know(each, aliases).batch_id for each in landed}
        new = {batch for batch in batches if status.get(batch) != "loaded" and held.get(batch) != against}
        found = {f"{batch}:{against}": attempts.get(batch, 0) for batch in new}
        if news := policy_news(self.log, district_id, policy, aliases, self.home.agency(), ledger):
            found[f"policy:{news}"] = 0
        return found | {f"{each.rule}:{hashlib.sha256(each.name.encode()).hexdigest()}": 0 for each in refused}

    def ledger(self, district_id: str) -> pl.DataFrame:
        """The district's ledger rows.

        Raises:
            HomeMismatch: the log was written with another secret, or is newer than the vault.
        """
        ledger = self.log.ledger_rows([district_id])
        self._require_kin(ledger)
        return ledger

    def now(self) -> datetime:
        """A time of this home, later than any before it."""
        stamp = self.vault.tick(int(self.clock().timestamp() * 1_000_000))
        return datetime.fromtimestamp(stamp / 1_000_000, UTC)

    def _past(self, ledger: pl.DataFrame, policy: DistrictPolicy) -> pl.DataFrame:
        return past_retention(exports(ledger), policy, self.clock().astimezone(policy.zone).date())

    def _require_kin(self, ledger: pl.DataFrame) -> None:
        if ledger.filter(pl.col("recorded_at").dt.timestamp("us") > self.vault.last_tick()).height:
            raise HomeMismatch(
                "vault/ is older than log/: keys that the log uses would be given out a second time."
                " Restore the vault that was copied with this log, or after it."
            )
        if ledger.filter(pl.col("home_fingerprint") != fingerprint(self.secret)).height:
            raise HomeMismatch(
                "vault/secret is not the secret this log was written with: its keys would not fit."
                " Restore the vault that belongs to this log from its backup."
            )

    def _against(self, district_id: str, policy: DistrictPolicy, aliases: Aliases) -> str:
        """What a file is held under: it is offered again when any of it changes (SEMANTICS 2.6)."""
        roster = self.vault.roster_size(district_id)
        text = "\0".join((_layouts_text(), policy.model_dump_json(), repr(sorted(aliases.items())), str(roster)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _archive(self, reader: Reader, file: KnownFile, policy: DistrictPolicy, report: LoadReport) -> None:
        """Keep the bytes of a loaded batch, and take its file out of the landing folder.

        What they say of erased students is not kept.
        """
        landed = file.landed
        kept = self.home.archived(landed.district_id, file.batch_id, landed.name)
        if not kept.exists():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = kept.with_name(f".{file.batch_id[:24]}.part")
            try:
                copy = reader.copy_without_erased(file)
                if copy is not None:
                    part.write_bytes(copy)
                else:
                    _copy(landed, part)
            except ChangedExport:
                part.unlink(missing_ok=True)
                report.refused.append(_replaced(landed))
                return
            part.chmod(0o600)
            part.replace(kept)
        self._take(landed, policy)

    def _take(self, landed: Landed, policy: DistrictPolicy) -> None:
        """A file that stood alone leaves the landing folder, unless the policy keeps it there or somebody wrote it.

        What was added since it was read is another batch, of the next run.
        """
        if policy.landing == "move" and landed.member is None and landed.is_unchanged:
            _remove(landed.path)

    def _remove_past(self, district_id: str, policy: DistrictPolicy, ledger: pl.DataFrame) -> int:
        """Remove archived files that the policy no longer keeps; their ledger rows stay. Returns how many."""
        return remove(self.home, district_id, self._past(ledger, policy).rows())

    def _clear(self, files: Sequence[KnownFile], status: Mapping[str, str], refused: Sequence[Refused]) -> None:
        """Archives and workbooks leave the landing folder once everything in them is loaded."""
        waiting = {each.landed.path for each in files if status.get(each.batch_id) != "loaded"}
        for landed in {each.landed.path: each.landed for each in files if each.landed.member is not None}.values():
            name = plain(landed.path.relative_to(self.home.landing / landed.district_id).as_posix())
            is_left = any(each.name.startswith(f"{name}!") for each in refused)
            if landed.is_unchanged and landed.path not in waiting and not is_left:
                _remove(landed.path)

    def _retry_parked(
        self, reader: Reader, ledger: pl.DataFrame, aliases: Aliases, renew: Callable[[], None]
    ) -> list[dict[str, object]]:
        """Read parked lines again from the archive, as the next attempt of their batch (SEMANTICS 2.2).

        Again means that a roster was loaded since they were last looked for, in this run or in one that broke off.
        """
        rosters = [layout.id for layout in layouts().values() if layout.names_people and layout.kind == "roster"]
        loaded = ledger.filter(pl.col("status") == "loaded")
        newest = loaded.filter(pl.col("layout").is_in(rosters)).select(newest_at=pl.col("recorded_at").max())
        tried = ledger.group_by("batch_id").agg(tried_at=pl.col("recorded_at").max())
        latest = (
            loaded.group_by("batch_id", maintain_order=True)
            .last()
            .join(tried, on="batch_id", maintain_order="left")
            .join(newest, how="cross")
            .filter(pl.col("parked") > 0, pl.col("tried_at") < pl.col("newest_at"))
        )
        rows: list[dict[str, object]] = []
        kept_as = redactions(ledger)
        parked = latest.select("batch_id", "attempt", "file", "layout", "export_at", "received_on")
        for batch_id, attempt, name, layout, export_at, received_on in parked.rows():
            renew()
            path = self.home.archived(reader.district_id, batch_id, name)
            found = discover(path.parent, reader.district_id)[0] if path.exists() else []
            # A batch is its file as one set of aliases reads it: today's, or one that was in force before.
            named = [aliases, {}] + [
                {layout: each} for each in aliases_on_record(self.log, reader.district_id, layout, ledger)
            ]
            again = (know(replace(each, name=name, received_on=received_on), then) for each in found for then in named)
            expected = _Expected(batch_id, layout, kept_as.get(batch_id))
            file = next((replace(each, export_at=export_at) for each in map(expected.match, again) if each), None)
            if file is None:
                continue  # its copy is gone: the rows stay parked, and the ledger says so
            lines = (
                self.log.parked.scan(district_id=[reader.district_id])
                .filter((pl.col("batch_id") == batch_id) & (pl.col("attempt") == attempt))
                .collect()["source_line"]
            )
            rows.append(reader.read(file, "", None, lines))
        return rows


@dataclass(frozen=True)
class _Expected:
    """The archived file of a batch: its bytes as they landed, or without the lines of erased students."""

    batch_id: str
    layout: str
    redacted_hash: str | None

    def match(self, file: KnownFile) -> KnownFile | None:
        """The file under its batch's id; None where it is another."""
        if self.redacted_hash is None:
            return file if file.batch_id == self.batch_id else None
        sheet = file.landed.sheet
        is_it = hashlib.sha256(file.landed.path.read_bytes()).hexdigest() == self.redacted_hash
        is_sheet = sheet is None or file.landed.name.endswith(f"!{sheet}")
        if not (is_it and is_sheet) or file.layout is None or file.layout.id != self.layout:
            return None
        return replace(file, batch_id=self.batch_id, redacted_hash=self.redacted_hash)


def read_aliases(home: Home) -> Aliases:
    """The agency's own headers, by layout and column.

    Raises:
        UnreadablePolicy: a file of them cannot be used.
    """
    return {path.stem: _aliases_in(path) for path in sorted((home.policies / "aliases").glob("*.toml"))}


def _aliases_in(path: Path) -> Mapping[str, Sequence[str]]:
    name = f"policy/aliases/{path.name}"
    try:
        named = tomllib.loads(path.read_text("utf-8")).get("columns", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise UnreadablePolicy(f"{name} is not TOML. Look for a quote or bracket that is not closed.") from None
    if path.stem not in layouts():
        raise UnreadablePolicy(f"{name}: no layout is called {path.stem}. `tierline layouts` lists them.")
    if not isinstance(named, dict) or not all(
        isinstance(headers, list) and all(isinstance(each, str) for each in headers) for headers in named.values()
    ):
        raise UnreadablePolicy(
            f'{name}: under [columns], give each column a list of headers, such as score = ["Scale Score"].'
        )
    return named


def _copy(landed: Landed, part: Path) -> None:
    """The bytes that were read, of a packed file unpacked, as its name says.

    Raises:
        ChangedExport: other bytes stand there now.
    """
    if landed.member is None and not landed.is_packed:
        with suppress(FileNotFoundError):
            shutil.copyfile(landed.path, part)
        if landed.is_unchanged:
            return
    part.write_bytes(landed.read(may_have_grown=True))


def _replaced(landed: Landed) -> Refused:
    return Refused(
        landed.name,
        "replaced_file",
        f"{landed.name}: another file took its place while it was loaded. It was loaded, but the archive has no copy of"
        " it; the next run loads the other one. Land the first one again under another name to keep a copy.",
    )


def _remove(path: Path) -> None:
    """Where the landing folder is read-only, the copy in the archive is what counts."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


@cache
def _layouts_text() -> str:
    return "\0".join(layout.model_dump_json() for layout in layouts().values())


def _bundle_years(reader: Reader, files: Sequence[KnownFile]) -> dict[str, str]:
    """School year of each roster folder or archive: the last one its academic sessions name."""
    years: dict[str, str] = {}
    for each in files:
        if each.layout is None or not any(fact.event == "TermListed" for fact in each.layout.facts):
            continue
        try:
            terms = reader.parse(each)[1].facts["roster"]["school_year"].drop_nulls()
        except HeldFile:
            continue
        if len(terms):
            years[each.landed.bundle] = str(terms.max())
    return years
