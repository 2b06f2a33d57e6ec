"""The one Definitions object: what `dagster` and `dg` load. Nothing is read before a run or a tick asks for it."""

import dagster as dg

from pipelines.assets import bring_up_to_date
from pipelines.publication_asset import PUBLISH_STATE, make_state_aggregate, monthly_state
from pipelines.report.asset import REPORTS, make_report, nightly_reports
from pipelines.resources import open_home
from pipelines.sensors import EVERYTHING, broken_off, landed_files, nightly

defs = dg.Definitions(
    assets=[bring_up_to_date, make_report, make_state_aggregate],
    jobs=[EVERYTHING, REPORTS, PUBLISH_STATE],
    schedules=[nightly, nightly_reports, monthly_state],
    sensors=[landed_files, broken_off],
    resources={"work": open_home},
    executor=dg.in_process_executor,
)
