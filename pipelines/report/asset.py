"""The report as an asset: the same pages as the command makes, for any number of districts."""

from collections.abc import Iterator

import dagster as dg

from pipelines.contracts import LOOKED_AT, OWNER, WAREHOUSE
from pipelines.partitions import DISTRICTS, add_districts, districts_of, run_tags
from pipelines.work import Work, told

REPORT = dg.AssetSpec(
    ["reports", "report"],
    description="Pages of a district to open in a browser from disk; no names. The entry page is reports/<district>/.",
    group_name="reports",
    deps=[WAREHOUSE],
    kinds={"html"},
    owners=[OWNER],
    freshness_policy=LOOKED_AT,
    partitions_def=DISTRICTS,
    skippable=True,
)


@dg.multi_asset(
    name="make_report",
    specs=[REPORT],
    can_subset=True,
    backfill_policy=dg.BackfillPolicy.single_run(),
    partitions_def=DISTRICTS,
)
def make_report(context: dg.AssetExecutionContext, work: dg.ResourceParam[Work]) -> Iterator[dg.AssetCheckResult]:
    """Make the pages of each district; one of which nothing is published is passed over."""
    from pipelines.report.reading import NothingToReport  # what draws takes seconds to import
    from pipelines.report.site import build_report

    for district in districts_of(context.partition_keys, context.run.tags):
        try:
            with told(f"making the report of {district}", pass_on=(NothingToReport,)):
                built = build_report(work.home, district)
        except NothingToReport as error:
            context.log.warning(str(error))
            continue
        metadata = {
            "path": dg.MetadataValue.path(str(built.folder / "index.html")),
            "checks": dg.MetadataValue.path(str(built.folder / "checks.html")),
            "pages": dg.MetadataValue.int(built.pages),
            "bytes": dg.MetadataValue.int(built.bytes),
        }
        context.log_event(dg.AssetMaterialization(REPORT.key, partition=district, metadata=metadata))
    yield from ()


REPORTS = dg.define_asset_job(
    "make_reports",
    selection=dg.AssetSelection.assets(REPORT.key),
    partitions_def=DISTRICTS,
    executor_def=dg.in_process_executor,
    description="Make the report of any districts.",
)


@dg.schedule(
    job=REPORTS,
    cron_schedule="0 10 * * *",  # an hour after the districts are brought up to date
    description="Every night, after the districts are brought up to date: their reports.",
)
def nightly_reports(
    context: dg.ScheduleEvaluationContext, work: dg.ResourceParam[Work]
) -> dg.RunRequest | dg.SkipReason:
    """All districts."""
    districts = work.home.districts()
    if not districts:
        return dg.SkipReason("No district has a landing folder or a policy.")
    tags = run_tags(add_districts(context.instance, districts), districts)
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat(), tags=tags)
