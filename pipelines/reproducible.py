"""What an erasure means for what was made before it: it no longer comes out the same (METHOD 5.5)."""

from datetime import datetime

import polars as pl

from schemas.policy.state import PROFILES
from warehouse.log import STATEMENT

COMMAND = "tierline erase"
"""What the ledger calls the file of an erasure."""
REASON = "erasure"


def not_reproducible(ledger: pl.DataFrame, moment: datetime | None = None) -> pl.DataFrame:
    """Districts in which students were erased, later than a time if one is given.

    Tables and reports that were made before `erased_at`, or are made again as of a time before it, do not come out as
    they did. How many `students` that were is told only where they are enough to say so of anything published.

    Args:
        ledger: Ledger rows of every time.
        moment: The time as of which tables are made.

    Returns:
        `district_id`, `is_reproducible`, `reason`, `erased_at`, `students`.
    """
    later = pl.lit(value=True) if moment is None else pl.col("recorded_at") > moment
    least = PROFILES["default"].min_n
    return (
        ledger.filter(pl.col("layout") == STATEMENT, pl.col("file") == COMMAND, later)
        .group_by("district_id")
        .agg(erased_at=pl.col("recorded_at").max(), students=pl.len().cast(pl.Int64))
        .select(
            "district_id",
            "erased_at",
            is_reproducible=pl.lit(value=False),
            reason=pl.lit(REASON),
            students=pl.when(pl.col("students") >= least).then("students"),
        )
        .sort("district_id")
    )


def in_words(erased: pl.DataFrame) -> str:
    """What is said of tables and reports of these districts; nothing where nobody was erased."""
    if erased.is_empty():
        return ""
    listed = [
        f"{district} ({students} students)" if students else str(district)
        for district, students in erased.select("district_id", "students").rows()
    ]
    return f"Not reproducible, by reason of erasure: {', '.join(listed)}."
