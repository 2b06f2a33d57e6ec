"""The state's aggregates as an asset: each window once, in bands, when it is over; no file unless the audit passes."""

from collections.abc import Iterator

import dagster as dg

from pipelines.contracts import OWNER, WAREHOUSE
from pipelines.work import Work, told

STATE_AGGREGATE = dg.AssetSpec(
    ["reports", "state_aggregate"],
    description="Aggregates of all districts that may leave, in bands; reports/state/ has every release.",
    group_name="reports",
    deps=[WAREHOUSE],
    kinds={"csv", "parquet"},
    owners=[OWNER],
    skippable=True,
)
AUDIT = dg.AssetCheckSpec(
    "audit",
    asset=STATE_AGGREGATE.key,
    blocking=True,
    description="Nothing withheld can be proven from all that is public; where it could be, no file was written.",
)


@dg.multi_asset(name="publish_state", specs=[STATE_AGGREGATE], check_specs=[AUDIT], can_subset=True)
def make_state_aggregate(
    context: dg.AssetExecutionContext, work: dg.ResourceParam[Work]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Publish the latest window that is over, if it is not released yet."""
    from pipelines.publication import Asked, NothingToPublish, PublicationRefused, publish_state

    try:
        with told("publishing the state's aggregates", pass_on=(NothingToPublish, PublicationRefused)):
            done = publish_state(work.home, Asked(), tell=context.log.info)
    except NothingToPublish as nothing:
        context.log.info(str(nothing))
        return
    except PublicationRefused as refused:
        yield dg.AssetCheckResult(asset_key=STATE_AGGREGATE.key, check_name=AUDIT.name, passed=False)
        raise dg.Failure(str(refused), allow_retries=False) from None
    counted = {"rows": done.about["rows"], "withheld": done.about["withheld"]}
    path = dg.MetadataValue.path(str(done.folder))
    yield dg.MaterializeResult(asset_key=STATE_AGGREGATE.key, metadata={"path": path, **counted})
    cells = sum(each["cells"] for each in done.about["audit"].values())
    yield dg.AssetCheckResult(
        asset_key=STATE_AGGREGATE.key, check_name=AUDIT.name, passed=True, metadata={"withheld_cells_audited": cells}
    )


PUBLISH_STATE = dg.define_asset_job(
    "publish_state_aggregate",
    selection=dg.AssetSelection.assets(STATE_AGGREGATE.key),
    executor_def=dg.in_process_executor,
    description="Publish the state's aggregates of the latest window that is over.",
)


@dg.schedule(
    job=PUBLISH_STATE,
    cron_schedule="0 11 1 * *",  # after the districts and their reports of that night
    description="On the first of each month: the state's aggregates of the latest window that is over, once.",
)
def monthly_state(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run a month; a window that is released already is passed over."""
    return dg.RunRequest(run_key=f"state-{context.scheduled_execution_time.date().isoformat()}")
