"""The log against its hashes, the ledger against its sums and its files, the projections against a rebuild."""

import hashlib
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from pipelines.loading import read_aliases
from pipelines.reading import batch_of
from pipelines.refresh import Plausible, out_of_date, refresh
from pipelines.rules import aliases_on_record
from pipelines.status import FACT_CHANGES, rows_by_outcome
from schemas.contract import table_name
from schemas.events import EVENT_TYPES, FAMILIES, SUBJECT_ERASED
from schemas.exports import layouts
from schemas.policy import DistrictPolicy, UnreadablePolicy
from schemas.projections import PROJECTIONS, Projection
from transforms.batches import ROW_OUTCOMES
from transforms.exports import unhashed
from transforms.versions import content_hash, event_id, misnamed
from warehouse.archive import removed
from warehouse.home import Home, HomeError, fingerprint
from warehouse.landing import open_landed
from warehouse.log import POLICY, READING, STATEMENT, Log, exports, loaded, redactions
from warehouse.projections import PARTITION, Projections

CONTENT = ["natural_key", "content_hash"]
FILES_SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """Whether one rule holds in one district."""

    rule: str
    is_passed: bool
    told: str


def verify_home(
    home: Home,
    districts: Sequence[str],
    say: Callable[[str], None] = lambda _: None,
    plausible: Plausible | None = None,
    *,
    rebuild: bool = True,
) -> list[dict[str, Any]]:
    """Recompute what the log, the ledger and the archive say of themselves, and say what does not agree.

    Args:
        home: The home. Only a temporary folder is written in it.
        districts: Which districts.
        say: Told what is under way.
        plausible: What a run asks of new projections beside their contracts; the rebuild asks the same.
        rebuild: Whether every projection is computed anew from the log and compared row by row; else it is only asked
            whether they are as new as the log, the policy and the rules.

    Returns:
        `district_id`, `rule`, `is_passed` and `told`: numbers, file names and tables, never a cell.
    """
    log = Log(home)
    ledger = log.ledger_rows(districts)
    if ledger.height and not (home.vault / "secret").exists():
        raise HomeError("vault/secret is missing: no hash can be checked. Restore it from the backup of this home.")
    results: dict[str, list[Verdict]] = {district: [] for district in districts}
    for district in districts:
        own = ledger.filter(pl.col("district_id") == district)
        if own.height:
            results[district] += _log(home, log, district, own, say)
            say(f"{district}: ledger and files")
            results[district] += [_balances(own), _counted(log, district, own), _archived(home, log, district, own)]
        results[district].append(_permissions(home))
    for district, verdict in _projections(home, log, ledger, districts, plausible, say, rebuild=rebuild):
        results[district].append(verdict)
    return [
        {"district_id": district, "rule": each.rule, "is_passed": each.is_passed, "told": each.told}
        for district, verdicts in results.items()
        for each in verdicts
    ]


# The log


def _log(home: Home, log: Log, district: str, ledger: pl.DataFrame, say: Callable[[str], None]) -> Iterator[Verdict]:
    secret = home.secret()
    other = ledger.filter(pl.col("home_fingerprint") != fingerprint(secret))
    if other.height:
        told = f"{other.height} files were loaded with another secret than vault/secret; no hash of theirs can fit."
        yield Verdict("secret", False, told)
    readings = loaded(ledger)
    checked = dict.fromkeys(("events", "names", "contents", "ids", "unknown", "unseen", "lost"), 0)
    written = [pl.DataFrame(schema={"batch_id": pl.String, "attempt": pl.Int64, "events": pl.UInt32})]
    for family in FAMILIES:
        say(f"{district}: {family}")
        events = log.stored_events(family, [district], readings).collect()
        if family == "log":  # what stands for erased events is counted, and says nothing that a hash could fit
            stones = events.filter(pl.col("event_type") == SUBJECT_ERASED)
            written.append(stones.group_by(READING).agg(events=pl.col("event_id").n_unique()))
            events = events.filter(pl.col("event_type") != SUBJECT_ERASED)
        if events.is_empty():
            continue
        sighted = log.sighted(family, [district], readings).select(CONTENT).unique().collect()
        checked["events"] += events.height
        checked["names"] += misnamed(events.with_columns(event_type=_stated_type(family)), secret).height
        checked["ids"] += events.filter(event_id(secret).ne_missing(pl.col("event_id"))).height
        for name, value in _contents(events, family, secret).items():
            checked[name] += value
        checked["unseen"] += events.join(sighted, on=CONTENT, how="anti").height
        checked["lost"] += sighted.join(events, on=CONTENT, how="anti").height
        if family == "identity":  # links that a file brought are no facts of its rows
            events = events.filter(pl.col("layout") == STATEMENT)
        if events.height:
            written.append(events.group_by(READING).agg(events=pl.col("event_id").n_unique()))
    yield _hashes(checked)
    yield _sightings(log, district, ledger, checked)
    yield _readings(ledger, pl.concat(written).group_by(READING).agg(pl.col("events").sum()))


def _stated_type(family: str) -> pl.Expr:
    """The event type as a layout states it: corrections and withdrawals are versions of a score."""
    if family != "screening":
        return pl.col("event_type")
    stated = next(name for name, each in EVENT_TYPES.items() if each.family == family)
    return pl.lit(stated)


def _contents(events: pl.DataFrame, family: str, secret: bytes) -> Mapping[str, int]:
    """Events whose content hash is not that of their columns, and events of a layout that no longer exists."""
    wrong = unknown = 0
    known = layouts()
    for (layout,), rows in events.partition_by("layout", as_dict=True).items():
        if layout not in known and layout not in (POLICY, STATEMENT):
            unknown += rows.height
            continue
        recomputed = content_hash(rows, family, secret, sorted(unhashed(known[str(layout)])) if layout in known else ())
        wrong += rows.filter(recomputed.ne_missing(pl.col("content_hash"))).height
    return {"contents": wrong, "unknown": unknown}


def _hashes(checked: Mapping[str, int]) -> Verdict:
    found = {
        "events with another content than their hash": checked["contents"],
        "events with a natural key that is not that of their columns": checked["names"],
        "events with an id that is not that of their type, key, content and export time": checked["ids"],
        "events of a layout that this version does not have": checked["unknown"],
    }
    return _verdict("event_hashes", found, f"{checked['events']:,} events have the hashes of what they say")


def _sightings(log: Log, district: str, ledger: pl.DataFrame, checked: Mapping[str, int]) -> Verdict:
    held = ledger.filter(pl.col("status") != "loaded").select(READING).lazy()
    stray = sum(
        table.scan(district_id=[district]).join(held, on=READING, how="semi").select(pl.len()).collect().item()
        for table in (*log.families.values(), log.sightings)
    )
    found = {
        "events that no sighting shows, so that they are never current": checked["unseen"],
        "sightings without the event they saw": checked["lost"],
        "events and sightings of files that the ledger holds back": stray,
    }
    return _verdict("sightings", found, "every event was seen, every sighting has its event")


def _readings(ledger: pl.DataFrame, written: pl.DataFrame) -> Verdict:
    """The log has as many events of each reading as the ledger says were appended or corrected."""
    said = ledger.filter(pl.col("status") == "loaded").select(
        *READING, "file", said=pl.sum_horizontal("facts_appended", "facts_corrected")
    )
    compared = said.join(written, on=READING, how="left").with_columns(pl.col("events").fill_null(0))
    wrong = compared.filter(pl.col("said").ne_missing(pl.col("events").cast(pl.Int64)))
    good = f"each of {said.height} readings has the events that the ledger counts"
    return _named("events_counted", wrong, "the log has another number of events than the ledger says", good)


# The ledger


def _balances(ledger: pl.DataFrame) -> Verdict:
    """The two balances of SEMANTICS 2.2, for each reading and over the attempts of each file."""
    read = exports(ledger).filter(pl.col("status") == "loaded")
    rows = pl.sum_horizontal(pl.col(name) for name in ROW_OUTCOMES)
    facts = pl.sum_horizontal(pl.col(f"facts_{change}") for change in FACT_CHANGES)
    broken = read.filter(
        rows.ne_missing(pl.col("data_rows")) | facts.ne_missing(pl.col("parsed") * pl.col("slots"))
    ).select("batch_id")
    summed = rows_by_outcome(ledger).filter(rows.ne_missing(pl.col("data_rows"))).select("batch_id")
    files = read.unique("batch_id", keep="last", maintain_order=True)
    wrong = files.join(pl.concat([broken, summed]).unique(), on="batch_id", how="semi")
    good = f"rows and facts of {files.height} files add up over {read.height} readings"
    return _named("ledger_balance", wrong, "rows or facts do not add up", good)


def _counted(log: Log, district: str, ledger: pl.DataFrame) -> Verdict:
    """Rejected and parked rows are as many as the ledger says."""
    read = ledger.filter(pl.col("status") == "loaded")
    tables = {"rejected": log.rejected, "parked": log.parked}
    for name, table in tables.items():
        rows = table.scan(district_id=[district])
        if name == "rejected":
            rows = rows.filter(pl.col("slot").is_null())
        listed = rows.group_by(READING).agg(pl.col("source_line").n_unique().alias(f"listed_{name}")).collect()
        read = read.join(listed, on=READING, how="left")
    differs = [pl.col(name).fill_null(0) != pl.col(f"listed_{name}").fill_null(0).cast(pl.Int64) for name in tables]
    wrong = read.filter(pl.any_horizontal(differs))
    good = f"{read['rejected'].sum():,} rejected rows and the parked ones are listed line by line"
    return _named("lines_listed", wrong, "other numbers of rejected or parked lines are listed", good)


def _archived(home: Home, log: Log, district: str, ledger: pl.DataFrame) -> Verdict:
    """The bytes that were loaded are those in the archive, but for files that retention removed."""
    aliases = read_aliases(home)
    noted = removed(home, district)
    files = (
        exports(ledger)
        .filter(pl.col("status") == "loaded")
        .unique("batch_id", keep="last", maintain_order=True)
        .select("batch_id", "file", "layout")
    )
    missing, changed, past = [], [], 0
    kept_as = redactions(ledger)
    for batch, file, layout in files.rows():
        path = home.archived(district, batch, file)
        if not path.exists():
            past += batch in noted
            missing += [] if batch in noted else [file]
            continue
        if batch in kept_as:
            changed += [] if hashlib.sha256(path.read_bytes()).hexdigest() == kept_as[batch] else [file]
            continue
        found = [replace(each, name=file) for each in open_landed(path, path.name, district)[0]]
        named = [aliases, {}, *({layout: each} for each in aliases_on_record(log, district, layout, ledger))]
        if batch not in {batch_of(each, layout, known) for each in found for known in named}:
            changed.append(file)
    told = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("archived files are missing", missing),
            (
                "archived files are not what was loaded (or were read with aliases that are not on record)",
                changed,
            ),
        )
        if names
    ]
    redacted = len(kept_as.keys() & set(files["batch_id"]))
    good = f"{files.height - past - redacted} archived files are byte for byte what was loaded"
    if redacted:
        good += f"; {redacted} are what was left of them when lines of erased students were taken out"
    if past:
        good += f"; {past} were removed at the end of their retention"
    return Verdict("archive", not told, "; ".join(told) or good)


def _permissions(home: Home) -> Verdict:
    """Names, notes and the files as they came are closed to others."""
    closed = [home.vault, *home.vault.glob("*"), home.notes, home.archive]
    open_to_others = [path for path in closed if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    names = sorted(path.relative_to(home.root).as_posix() for path in open_to_others)
    told = f"others can read {_listed(names)}. Run chmod go-rwx on it"
    return Verdict("permissions", not names, told if names else "vault, notes and archive are closed to others")


# The projections


def _projections(
    home: Home,
    log: Log,
    ledger: pl.DataFrame,
    districts: Sequence[str],
    plausible: Plausible | None,
    say: Callable[[str], None],
    *,
    rebuild: bool,
) -> Iterator[tuple[str, Verdict]]:
    """Whether they are up to date; where asked, all computed again beside them and compared, table by table."""
    policies: dict[str, DistrictPolicy] = {}
    for district in districts:
        try:
            policies[district] = home.policy(district)
        except UnreadablePolicy as error:
            yield district, Verdict("projections", False, str(error))
    kept = Projections(home.projections)
    stale = out_of_date(kept, ledger, policies)["district_id"].to_list()
    for district in stale:
        told = "they are older than the ledger, the policy or the rules: `tierline run`, then verify again"
        yield district, Verdict("projections", False, told)
    fresh = {district: policy for district, policy in policies.items() if district not in stale}
    if not rebuild:
        told = "they are as new as the ledger, the policy and the rules; --rebuild computes them again"
        yield from ((district, Verdict("projections", True, told)) for district in fresh)
        return
    if not fresh:
        return
    say("projections, computed again")
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".verify-") as folder:
        again = Projections(folder)
        report = refresh(log, again, fresh, lenders=kept, plausible=plausible, progress=say)
        held = pl.DataFrame(report.held, schema=[*PARTITION, "rule"], orient="row").cast(pl.String)
        for district in fresh:
            say(f"{district}: projections compared")
            mine = held.filter(pl.col("district_id") == district)
            yield district, _compared(kept, again, district, mine)


def _compared(kept: Projections, again: Projections, district: str, held: pl.DataFrame) -> Verdict:
    found: dict[str, int] = {}
    rows = 0
    for contract in PROJECTIONS:
        ours, theirs = (_rows(each, contract, district, held) for each in (kept, again))
        rows += ours.height
        found[f"rows of {table_name(contract)} differ from a rebuild"] = _differences(ours, theirs)
    good = f"{rows:,} rows of {len(PROJECTIONS)} tables are what the log gives"
    if held.height:
        good += f"; {held.height} school years are held and were not compared"
    return _verdict("projections", found, good)


def _rows(projections: Projections, contract: type[Projection], district: str, held: pl.DataFrame) -> pl.DataFrame:
    return projections.read(contract, [district]).join(held.lazy(), on=list(PARTITION), how="anti").collect()


def _differences(ours: pl.DataFrame, theirs: pl.DataFrame) -> int:
    """Rows that one of two tables has more often than the other; the larger side counts."""
    counts = [rows.hash_rows(seed=7).rename("row").value_counts() for rows in (ours, theirs)]
    both = counts[0].join(counts[1], on="row", how="full", coalesce=True, suffix="_again").fill_null(0)
    more = (pl.col("count").cast(pl.Int64) - pl.col("count_again").cast(pl.Int64)).clip(lower_bound=0)
    fewer = (pl.col("count_again").cast(pl.Int64) - pl.col("count").cast(pl.Int64)).clip(lower_bound=0)
    return max(both.select(more.sum()).item(), both.select(fewer.sum()).item())


# What is told


def _verdict(rule: str, found: Mapping[str, int], good: str) -> Verdict:
    """Passed where nothing was found; else the numbers."""
    told = [f"{number:,} {what}" for what, number in found.items() if number]
    return Verdict(rule, not told, "; ".join(told) or good)


def _named(rule: str, wrong: pl.DataFrame, what: str, good: str) -> Verdict:
    """Passed where no file is wrong; else their names."""
    if wrong.is_empty():
        return Verdict(rule, True, good)
    return Verdict(rule, False, f"{what}: {_listed(wrong['file'].unique(maintain_order=True).to_list())}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:FILES_SHOWN])
    return shown if len(names) <= FILES_SHOWN else f"{shown} and {len(names) - FILES_SHOWN} more"
