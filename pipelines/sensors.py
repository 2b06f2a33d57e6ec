"""What starts runs by itself: files that landed, and the night; and who hears when one breaks off."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from pipelines.alerts import send, settings
from pipelines.loading import Loader
from pipelines.partitions import DISTRICTS, STATE, add_districts, run_tags
from pipelines.work import Work, told
from schemas.policy import UnreadablePolicy
from warehouse.home import Home

EVERYTHING = dg.define_asset_job(
    "update_districts",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("reports"),
    partitions_def=DISTRICTS,
    executor_def=dg.in_process_executor,
    description="Load what landed, compute what is stale, publish it, for any districts.",
)
LONGEST_RUN = timedelta(hours=1)
"""A run that began before is not waited for: its process may have died. If it did not, the new run waits for it."""
MOST_OFFERS = 3
"""A file whose reading keeps breaking is offered this often; then it waits for a change or for the night."""
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dataclass
class Seen:
    """What the sensor remembers of a district: hashes only, since names of files may be names of people."""

    listing: str = ""
    """Names, sizes and times of its files, and its policy."""
    looked: str = ""
    """Listing, log and last run as its files were last opened."""
    offered: str = ""
    """The work that was last offered."""
    offers: int = 0
    """How often."""


@dataclass
class Look:
    """One tick: districts with work, and a name for that work."""

    districts: list[str] = field(default_factory=list)
    work: list[str] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    arriving: int = 0
    """Districts whose files still change."""

    @property
    def run_key(self) -> str:
        """Equal for equal work: contents, readings begun, and what they would be held under."""
        return _hash("\0".join(sorted(self.work)))


def look(home: Home, seen: dict[str, Seen], last_run: str = "") -> Look:
    """Which districts have files to read, all their files being as they were at the tick before.

    A district's files are opened only when its folder, its policy or the log changed since they last were, or when
    another run has ended.
    """
    found = Look()
    loader: Loader | None = None
    for district in _with_files(home):
        before = seen.get(district, Seen())
        now = Seen(_listing(home, district), before.looked, before.offered, before.offers)
        found.seen[district] = now
        if now.listing != before.listing:
            found.arriving += 1
            continue
        loader = loader or Loader(home)
        looked = _hash(f"{now.listing}\0{loader.log.ledger.delta().version()}\0{last_run}")
        if looked == now.looked:
            continue
        work = _work(loader, district, now.listing)
        content = _hash("\0".join(sorted(work)))
        now.offers = now.offers + 1 if content == now.offered else 1
        now.looked, now.offered = looked, content
        if work and now.offers <= MOST_OFFERS:
            found.districts.append(district)
            found.work += [f"{district}:{each}:{begun}" for each, begun in work.items()]
    return found


def _work(loader: Loader, district: str, listing: str) -> dict[str, int]:
    try:
        return loader.waiting(district)
    except UnreadablePolicy:
        return {f"policy:{listing}": 0}


def _with_files(home: Home) -> list[str]:
    return [each for each in home.districts() if (home.landing / each).is_dir()]


def _listing(home: Home, district: str) -> str:
    told = [f"{path.name}:{_content(path)}" for path in (home.policies / f"{district}.toml", *_aliases(home))]
    told += sorted(_entries(home.landing / district))
    return _hash("\0".join(told))


def _aliases(home: Home) -> list[Path]:
    return sorted((home.policies / "aliases").glob("*.toml"))


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


def _entries(folder: Path) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))
        elif not entry.name.startswith("."):
            about = entry.stat(follow_symlinks=False)
            yield f"{entry.path}\0{about.st_size}\0{about.st_mtime_ns}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def remembered(cursor: str | None) -> dict[str, Seen]:
    """What a cursor says; nothing where an older release wrote it otherwise."""
    try:
        held: dict[str, Any] = json.loads(cursor or "{}")
        return {district: Seen(**each) for district, each in held.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def cursor_of(seen: dict[str, Seen]) -> str:
    """What to remember until the next tick."""
    return json.dumps({district: vars(each) for district, each in seen.items()}, separators=(",", ":"))


@dg.sensor(
    job=EVERYTHING,
    minimum_interval_seconds=30,
    description="Starts one run for the districts whose landing folders have files to read, once the files rest.",
)
def landed_files(context: dg.SensorEvaluationContext, work: dg.ResourceParam[Work]) -> dg.SensorResult | dg.SkipReason:
    """One run for the work there is; the same file twice is no work."""
    recent = datetime.now(UTC) - LONGEST_RUN
    under_way = dg.RunsFilter(job_name=EVERYTHING.name, statuses=UNFINISHED, created_after=recent)
    if context.instance.get_runs(under_way, limit=1):
        return dg.SkipReason("A run is under way; what landed since is read after it.")
    home = work.home
    last = context.instance.get_runs(dg.RunsFilter(job_name=EVERYTHING.name), limit=1)
    with told("looking for files"):  # what a tick fails with is kept
        found = look(home, remembered(context.cursor), last[0].run_id if last else "")
    known = list(context.instance.get_dynamic_partitions(str(DISTRICTS.name)))
    new = [each for each in home.districts() if each not in known]
    runs = []
    if found.districts:
        tags = run_tags([*known, *new], found.districts)
        runs = [dg.RunRequest(run_key=found.run_key, tags=tags)]
    waits = f"{found.arriving} districts have files that still arrive." if found.arriving else "Nothing new landed."
    return dg.SensorResult(
        run_requests=runs,
        skip_reason=None if runs else dg.SkipReason(waits),
        cursor=cursor_of(found.seen),
        dynamic_partitions_requests=[DISTRICTS.build_add_request(new)] if new else [],
    )


@dg.schedule(
    job=EVERYTHING,
    cron_schedule="0 9 * * *",  # 09:00 UTC is the small hours everywhere from Maine to Hawaii
    description="Every night, all districts: what landed, what a changed policy made stale, and what failed before.",
)
def nightly(context: dg.ScheduleEvaluationContext, work: dg.ResourceParam[Work]) -> dg.RunRequest | dg.SkipReason:
    """All districts."""
    districts = work.home.districts()
    if not districts:
        return dg.SkipReason("No district has a landing folder or a policy.")
    tags = run_tags(add_districts(context.instance, districts), districts)
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat(), tags=tags)


@dg.run_failure_sensor(
    monitored_jobs=[EVERYTHING],
    description="Alerts when a run broke off before it could tell what became of the districts.",
)
def broken_off(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """A run that ended has told its own failures; of one whose process died nobody has."""
    if STATE in context.dagster_run.tags:
        return dg.SkipReason("The run ended and told what became of its districts.")
    wanted = settings()
    if not wanted.channels:
        return dg.SkipReason("No alert is set up.")
    told = (
        f"Run {context.dagster_run.run_id[:8]} broke off before it ended. What was loaded stays; the next run goes on."
    )
    send(wanted, "Tierline: a run broke off", told)
    return None
