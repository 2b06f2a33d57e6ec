"""One pass over some districts: load, bring the projections up to date, publish; and what became of each."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from threading import Thread
from traceback import extract_tb
from typing import Any

import polars as pl

from pipelines.contracts import STAGES
from pipelines.erasure import at_work
from pipelines.loading import HomeMismatch, Loader, LoadReport, Sources
from pipelines.looked import remember, remembered
from pipelines.refresh import RefreshReport, refresh
from pipelines.reproducible import REASON, in_words
from schemas.contract import BrokenContract
from schemas.policy import DistrictPolicy, UnreadablePolicy
from schemas.projections import Projection
from warehouse.delta import StoreError
from warehouse.faults import disk_fault
from warehouse.home import Home, HomeError, valid_district
from warehouse.log import Known, Log
from warehouse.projections import Projections
from warehouse.publish import PARTITIONED, PublishFailed, publish, unpublished
from warehouse.vault import Vault, VaultError

DONE, BLOCKED, NOTHING = 0, 1, 3
"""Exit codes of a pass (DESIGN 7)."""
TOLD = (BrokenContract, HomeError, HomeMismatch, PublishFailed, StoreError, UnreadablePolicy, VaultError)
"""Errors of our own: their messages name tables, columns, rules and counts, never a cell."""
REFRESH = "(projections)"
"""Name of the lease that a run has while it writes projections and the warehouse; no district can have it."""
EXPECTATIONS = "pipelines.expectations"
TRANSIENT = (OSError, StoreError, VaultError)
"""Errors that another try may cure."""


class PassFailed(Exception):
    """A stage could not be done; says where, never with which cells."""

    def __init__(self, message: str, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True)
class Past:
    """A day that was rebuilt."""

    as_of: datetime
    by: Known = "recorded"
    erased: pl.DataFrame | None = None
    """Districts in which students were erased since: ``reproducible.not_reproducible``."""

    @property
    def is_reproducible(self) -> bool:
        """Whether it comes out as it did on the day."""
        return self.erased is None or self.erased.is_empty()

    @property
    def words(self) -> str:
        """What is said of every table of it."""
        told = f"As known at {self.as_of.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."
        if self.by == "received":
            told += " Reconstructed: backfilled files count from the day they were declared received."
        return told if self.erased is None else f"{told} {in_words(self.erased)}".rstrip()


@dataclass
class Outcome:
    """What became of the districts of one pass."""

    districts: list[str] = field(default_factory=list)
    loads: dict[str, LoadReport] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Districts that were not brought up to date, and why."""
    refreshed: RefreshReport = field(default_factory=RefreshReport)
    published: dict[str, int] = field(default_factory=dict)
    """Rows of every table of the warehouse; empty where it was not published."""
    district_files: list[str] = field(default_factory=list)
    """Districts whose own file was published."""
    suspect: pl.DataFrame | None = None
    """What the published tables failed: `QualityResult` rows without `input_id`."""
    transient: bool = False
    """Whether another try may help a district that failed."""
    past: Past | None = None
    """The day that was rebuilt, where it is not the present."""

    @property
    def held(self) -> dict[str, list[str]]:
        """Districts of which a file or a school year waits for a person, and the rules that hold it."""
        found: dict[str, list[str]] = {}
        for district, load in self.loads.items():
            rules = [str(row["held_rule"]) for row in load.rows if row["status"] == "held"]
            rules += [each.rule for each in load.refused]
            if load.still_held:
                rules.append("still_held")
            if rules:
                found[district] = sorted(set(rules))
        for district, year, rule in self.refreshed.held:
            found.setdefault(district, []).append(f"{year}: {rule}")
        return found

    @property
    def up_to_date(self) -> list[str]:
        """Districts that show what their files say, but for files that wait for a person."""
        behind = {district for district, _, _ in self.refreshed.held}
        return [each for each in self.districts if each not in self.failed and each not in behind]

    def summary(self) -> dict[str, Any]:
        """Counts, for a terminal or a script."""
        rows = [row for load in self.loads.values() for row in load.rows]
        counted = ("data_rows", "parsed", "rejected", "out_of_scope", "parked", "facts_appended", "facts_corrected")
        quality = self.refreshed.quality
        return {
            "districts": len(self.districts),
            "files": {
                **{name: sum(load.files(name) for load in self.loads.values()) for name in ("loaded", "held")},
                "refused": sum(len(load.refused) for load in self.loads.values()),
                "seen_before": sum(load.unchanged_files for load in self.loads.values()),
                "still_held": sum(load.still_held for load in self.loads.values()),
                "removed_from_archive": sum(load.removed_files for load in self.loads.values()),
            },
            "rows": {name: sum(int(str(row[name] or 0)) for row in rows) for name in counted},
            "updated": [f"{district} {year}" for district, year in self.refreshed.updated],
            "unchanged": self.refreshed.unchanged,
            "quality_rules": {"looked_at": quality.height, "failed": quality.filter(~pl.col("is_passed")).height},
            "held": self.held,
            "failed": self.failed,
            "published": self.published,
            "district_files": self.district_files,
            "as_of": self.past and self.past.as_of.astimezone(UTC).isoformat(),
            "reconstructed": self.past and self.past.by == "received",
            "reproducible": self.past and self.past.is_reproducible,
            "not_reproducible_reason": REASON if self.past and not self.past.is_reproducible else None,
        }

    @property
    def exit_code(self) -> int:
        """0 done; 1 something failed or waits for a person; 3 there was nothing to look at."""
        if not self.districts:
            return NOTHING
        return BLOCKED if self.failed or self.held or self.off else DONE

    @property
    def off(self) -> bool:
        """Whether the marts do not add up to the projections: an error of the program, not of the data."""
        return self.suspect is not None and self.suspect.filter("is_blocking", ~pl.col("is_passed")).height > 0


class Work:
    """What a run needs: the home, and what equality tests inject."""

    def __init__(
        self,
        home: Home,
        sources: Sources | None = None,
        progress: Callable[[str], None] | None = None,
        school_year: str | None = None,
    ) -> None:
        self.home = home
        self.sources = sources
        self.progress = progress
        self.school_year = school_year
        self.outcome = Outcome()

    def run(
        self, districts: Sequence[str], stages: Collection[str] = STAGES, say: Callable[[str], None] = lambda _: None
    ) -> Outcome:
        """Bring districts up to date. One that cannot be does not stop the others, and the outcome says why.

        A second try after a failure begins anew; files that loaded are seen again and stay loaded.
        """
        outcome = self.outcome = Outcome(list(districts))
        try:
            with ExitStack() as stack:
                with told("finishing an erasure"):
                    stack.enter_context(at_work(self.home))
                self._run(outcome, stages, self.progress or say)
        except PassFailed as failure:
            outcome.failed = {**dict.fromkeys(districts, str(failure)), **outcome.failed}
            outcome.transient |= failure.transient
        return outcome

    def _run(self, outcome: Outcome, stages: Collection[str], tell: Callable[[str], None]) -> None:
        log = Log(self.home)
        projections = Projections(self.home.projections)
        policies = dict(self._policies(outcome))
        if {"exports", "events"} & set(stages):
            with told("loading", self.home.vault):
                loader = Loader(self.home, self.sources)
            for district in policies:
                self._load(loader, district, outcome, tell)
        if not {"projections", "marts"} & set(stages):
            return
        with self._alone():
            if "projections" in stages:
                good = {each: policy for each, policy in policies.items() if each not in outcome.failed}
                with told("bringing the projections up to date"):
                    outcome.refreshed = refresh(
                        log, projections, good, school_year=self.school_year, plausible=plausible, progress=tell
                    )
            if "marts" in stages:
                with told("publishing"):
                    self._publish(log, projections, outcome, tell)
                    outcome.suspect = self.look_at_warehouse()
                for district, policy in policies.items():
                    self._publish_own(log, projections, district, policy, outcome, tell)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of two runs at once the second waits: what it computed from an older log must not come after the newer."""
        with ExitStack() as stack:
            with told("waiting for another run", self.home.vault):
                vault = stack.enter_context(closing(Vault(self.home.make().vault)))
                stack.enter_context(vault.lease(REFRESH, doing="is bringing the projections up to date"))
            yield

    def _policies(self, outcome: Outcome) -> Iterator[tuple[str, DistrictPolicy]]:
        for district in outcome.districts:
            if not valid_district(district):
                outcome.failed[district] = (
                    "The name of the landing folder has characters other than letters, digits, - and _. Rename it."
                )
                continue
            try:
                yield district, self.home.policy(district)
            except UnreadablePolicy as error:
                outcome.failed[district] = str(error)

    def _load(self, loader: Loader, district: str, outcome: Outcome, tell: Callable[[str], None]) -> None:
        tell(f"{district}: files")
        try:
            with told("loading", self.home.vault):
                outcome.loads[district] = loader.load(district, lambda _: _expect_news())
        except PassFailed as failure:
            outcome.failed[district] = str(failure)
            outcome.transient |= failure.transient

    def _publish(self, log: Log, projections: Projections, outcome: Outcome, tell: Callable[[str], None]) -> None:
        states = projections.partitions.scan().collect()
        changed = unpublished(self.home.warehouse, states, log.ledger_rows())
        if changed and changed.issuperset(states.select(PARTITIONED).rows()):
            changed = None  # no district-year stays: built anew the file is half as large
        if changed is None or changed:
            tell("warehouse")
            outcome.published = publish(self.home.warehouse, published_files(log, projections), changed)

    def _publish_own(
        self,
        log: Log,
        projections: Projections,
        district: str,
        policy: DistrictPolicy,
        outcome: Outcome,
        tell: Callable[[str], None],
    ) -> None:
        """The district's own file, built from its own rows alone: nothing of another district can be left in it.

        Where the policy no longer asks for it the file goes, because it would be taken for today's.
        """
        target = self.home.warehouse_of(district)
        own = {"district_id": [district]}
        try:
            with told(f"publishing warehouse/{target.name}"):
                if not policy.own_warehouse:
                    target.unlink(missing_ok=True)
                    return
                states = projections.partitions.scan(**own).collect()
                if unpublished(target, states, log.ledger_rows([district])) == set():
                    return
                tell(f"{district}: its own warehouse")
                target.parent.mkdir(mode=0o750, exist_ok=True)
                publish(target, published_files(log, projections, **own), lock_of=self.home.warehouse)
                outcome.district_files.append(district)
        except PassFailed as failure:
            outcome.failed[district] = str(failure)
            outcome.transient |= failure.transient

    def look_at_warehouse(self) -> pl.DataFrame | None:
        """What the published tables promise and whether they keep it; None where nothing was published yet.

        Looked at once for each file that is published, and remembered.
        """
        warehouse = self.home.warehouse
        if not warehouse.exists():
            return None
        results = remembered(warehouse)
        if results is None:
            from pipelines.expectations import published

            results = published(warehouse)
            remember(warehouse, results)
        return results


def published_files(log: Log, projections: Projections, **partition: Sequence[str]) -> dict[str, list[str]]:
    """Parquet files behind the tables that are published; of the named partition values only."""
    tables = (log.ledger, log.rejected, projections.partitions)
    return projections.files(**partition) | {each.name: each.file_uris(**partition) for each in tables}


def plausible(
    tables: Mapping[type[Projection], pl.DataFrame], ledger: pl.DataFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    """Great Expectations takes seconds to import: only a run with news pays them (SEMANTICS 4.4)."""
    from pipelines import expectations

    return expectations.plausible(tables, ledger, policies)


def _expect_news() -> None:
    """Begin the import of Great Expectations while files are read."""
    if EXPECTATIONS not in sys.modules:
        Thread(target=import_module, args=(EXPECTATIONS,)).start()


@contextmanager
def told(doing: str, near: Path | None = None, pass_on: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Errors in words of our own: Polars, DuckDB and Delta print the cells they stumble over.

    ``near`` is a folder on the disk that is written.
    """
    try:
        yield
    except pass_on:
        raise
    except TOLD as error:
        raise PassFailed(str(error), isinstance(error, TRANSIENT)) from None
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # an interrupt; a panic of Polars or Delta is an error like any other, and may print cells
        if fault := disk_fault(error, near):
            raise PassFailed(f"{doing} failed: {fault}. Nothing that was loaded is lost.", transient=True) from None
        place = extract_tb(error.__traceback__)[-1]
        raise PassFailed(
            f"{doing} failed: {type(error).__name__} in {place.name}, {place.filename.rsplit('/', 1)[-1]} line"
            f" {place.lineno}. Nothing of this pass was lost; please report this line.",
            isinstance(error, TRANSIENT),
        ) from None
