"""When a loaded file has been kept long enough (SEMANTICS 2.6)."""

from datetime import date

import polars as pl

from schemas.events import ALL_YEARS
from schemas.policy import DistrictPolicy


def past_retention(ledger: pl.DataFrame, policy: DistrictPolicy, today: date) -> pl.DataFrame:
    """Batches whose archived file the policy no longer keeps: `batch_id`, `file`, one row each.

    A file is kept for `archive_days_after_year` days after the last day of the latest school year that its readings
    touched or, where they touched none, of the one it was exported in. Two things keep it longer: a row that is still
    parked, or a reading that is held; and a reading of these last days, so that old files that are loaded late do not
    vanish on the day they come.

    Args:
        ledger: One district's ledger.
        policy: The district's policy; without the knob no file is ever past.
        today: The district's local day. A file is past once its last day of keeping is over.
    """
    if policy.archive_days_after_year is None:
        return ledger.select("batch_id", "file").clear()
    month = policy.year_starts_month
    read_on, exported_on = (
        pl.col(name).dt.convert_time_zone(policy.time_zone).dt.date() for name in ("recorded_at", "export_at")
    )
    exported_in = exported_on.dt.year() + (exported_on.dt.month() >= month).cast(pl.Int32)
    years = pl.col("school_years").str.split(";").list.eval(pl.element().filter(pl.element() != ALL_YEARS))
    files = (
        ledger.sort("recorded_at")
        .with_columns(year=pl.coalesce(years.list.eval(pl.element().cast(pl.Int32)).list.max(), exported_in))
        .group_by("batch_id", maintain_order=True)
        .agg(
            pl.col("file").first(),
            last_status=pl.col("status").last(),
            parked=pl.col("parked").filter(pl.col("status") == "loaded").last(),
            year=pl.col("year").filter(pl.col("status") == "loaded").max(),
            read_on=read_on.max(),
        )
        .filter(pl.col("last_status") == "loaded", pl.col("parked").fill_null(0) == 0)
    )
    year_ends_on = pl.date("year", month, 1) - pl.duration(days=1)
    kept_to = pl.max_horizontal(year_ends_on, "read_on") + pl.duration(days=policy.archive_days_after_year)
    return files.filter(kept_to < today).select("batch_id", "file")
