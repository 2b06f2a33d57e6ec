"""The whole graph in this process, for the command line: the same assets, checks and history as Dagster's own runs."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

import dagster as dg

from pipelines.definitions import defs
from pipelines.history import dagster_home, instance_of
from pipelines.loading import Sources
from pipelines.partitions import add_districts, run_tags
from pipelines.refresh import refresh
from pipelines.reproducible import not_reproducible
from pipelines.sensors import EVERYTHING
from pipelines.work import Outcome, Past, Work, plausible, published_files
from schemas.policy import DistrictPolicy, UnreadablePolicy
from warehouse.home import Home
from warehouse.log import Known, Log
from warehouse.projections import Projections
from warehouse.publish import publish

__all__ = ["dagster_home", "policies_of", "rebuild_as_of", "run_graph"]

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_graph(
    home: Home,
    districts: Sequence[str] | None = None,
    *,
    school_year: str | None = None,
    instance: dg.DagsterInstance | None = None,
    sources: Sources | None = None,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Bring districts up to date in one Dagster run; ``exit_code`` of the outcome is the command's.

    Args:
        home: The home.
        districts: Which of its districts; none named means all.
        school_year: The only school year to bring up to date; the others stay stale.
        instance: Where the run is recorded; the home's own instance if absent.
        sources: What equality tests inject.
        progress: Told what is under way.
    """
    known = home.make().districts()
    chosen = [each for each in known if districts is None or each in districts]
    if not chosen:
        return Outcome()
    work = Work(home, sources, progress, school_year)
    with ExitStack() as stack:
        history = instance or stack.enter_context(instance_of(home))
        result = defs.resolve_job_def(EVERYTHING.name).execute_in_process(
            instance=history,
            resources={"work": work},
            tags=run_tags(add_districts(history, known), chosen),
            run_config=QUIET,
            raise_on_error=False,
        )
    if not result.success and not work.outcome.failed:
        work.outcome.failed = dict.fromkeys(
            chosen, f"The run stopped by itself; `tierline ui` shows run {result.run_id}."
        )
    return work.outcome


def policies_of(home: Home) -> dict[str, DistrictPolicy]:
    """Policy of every district that has one which can be used: small districts borrow from the others."""
    found = {}
    for district in home.districts():
        with suppress(UnreadablePolicy):
            found[district] = home.policy(district)
    return found


def rebuild_as_of(
    home: Home,
    districts: Sequence[str],
    as_of: datetime,
    out: Path,
    *,
    by: Known = "recorded",
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """What was known at a time, from the log alone, as a home of its own: projections and warehouse below ``out``.

    By ``received``, a backfilled file counts from the day it is declared received, and every table of the warehouse
    says that it is reconstructed. Policies have no such day: where none was on record yet, today's rules.
    """
    then, log = Home(out), Log(home)
    day = Past(as_of, by, not_reproducible(log.ledger_rows(districts), as_of))
    outcome = Outcome(list(districts), past=day)
    projections, past = Projections(then.projections), Log(then)
    policies = policies_of(home) | {district: home.policy(district) for district in districts}
    outcome.refreshed = refresh(log, projections, policies, as_of=as_of, by=by, plausible=plausible, progress=progress)
    ledger = log.ledger_rows(districts, as_of, by)
    readings = ledger.lazy().select("batch_id", "attempt")
    rejected = log.rejected.scan(district_id=districts).join(readings, on=["batch_id", "attempt"], how="semi").collect()
    known = [(district,) for district in districts]
    past.ledger.replace(ledger, known)
    past.rejected.replace(rejected, known)
    progress("warehouse")
    files = published_files(past, projections, district_id=districts)
    outcome.published = publish(then.warehouse, files, note=day.words)
    return outcome
