"""Aggregates that may leave the state office, and the record of them that may not: what each table means."""

import polars as pl

from schemas.contract import Contract, field
from schemas.projections import SEASONS

GEOGRAPHIES = ("state", "district", "school")
REASONS = ("small", "complementary", "too_few_students", "band_too_fine")
"""Why a cell is withheld: small itself; beside a small one; of too few students; no band of it would hold."""
_CELL = (
    *("release_id", "statistic", "category", "school_year", "benchmark_window", "measure"),
    *("district_id", "school_id", "grade", "group_kind", "student_group"),
)


class PublishedCell(Contract):
    """Columns that name a published cell. `all`: not told apart; `unknown`: not on record."""

    release_id: pl.String = field("Release, such as `2026-winter-bands`.", nullable=False)
    statistic: pl.String = field("What is counted, such as `need`.", nullable=False)
    category: pl.String = field("The count, such as `in_need` or `tier_2`.", nullable=False)
    school_year: pl.String = field("Ending year of the school year.", nullable=False)
    benchmark_window: pl.String = field("Benchmark window.", isin=SEASONS, nullable=False)
    measure: pl.String = field("Screening measure; `all` where measures are combined or none is meant.", nullable=False)
    geography: pl.String = field("state, district or school.", isin=GEOGRAPHIES, nullable=False)
    district_id: pl.String = field("District; `all` for the state.", nullable=False)
    school_id: pl.String = field("School; `all` for the state and for a district.", nullable=False)
    grade: pl.String = field("Grade on the reference date.", nullable=False)
    group_kind: pl.String = field("What the student group goes by, such as `sex`.", nullable=False)
    student_group: pl.String = field(
        "Student group; `other`: values of too few students of the state to be named.", nullable=False
    )


class StateAggregate(PublishedCell):
    """Shares in bands, for the public: no number of students. One row per statistic, category and cell.

    A blank `share_band` is withheld; it is never zero. Cells in which nobody is counted have no row.
    """

    students_range: pl.String = field("Range of the students whom the share is of; null where withheld.")
    share_band: pl.String = field("Band of the share, such as `15-19%`; null where withheld.")

    class Config:
        unique = list(_CELL)


class StateAggregateCounts(PublishedCell):
    """Counts, for partners. One row per statistic, category and cell.

    A blank is withheld, for whichever reason; it is never zero. Cells in which nobody is counted have no row.
    """

    students: pl.Int64 = field("Students, or classes, whom the share is of; null where withheld.")
    count: pl.Int64 = field("Of these, in the category; null where withheld.")
    share: pl.Float64 = field("Count of students; null where either is withheld.")

    class Config:
        unique = list(_CELL)


class ReleasedCell(PublishedCell):
    """What a release said of each cell and what it withheld. One row per statistic and cell, wholes included.

    It never leaves the office: it has the true counts, and why each is withheld.
    """

    mode: pl.String = field("bands or counts: what the release publishes.", isin=["bands", "counts"], nullable=False)
    kind: pl.String = field("students: the whole; count; complement: the whole less the only count.", nullable=False)
    value: pl.Int64 = field("The true number.", nullable=False)
    is_shown: pl.Boolean = field("The number itself is public.", nullable=False)
    is_primary: pl.Boolean = field("It must be protected for its own sake.", nullable=False)
    share_band: pl.String = field("Public band of its share; null where none is public.")
    students_range: pl.String = field("Public range of its students; null where none is public.")
    reason: pl.String = field("Why it is withheld; null where a number or a band is public.", isin=REASONS)

    class Config:
        unique = list(_CELL)


REPORTS: tuple[type[PublishedCell], ...] = (StateAggregate, StateAggregateCounts, ReleasedCell)
