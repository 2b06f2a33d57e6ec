"""Schools of the roster, under the names people know."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.projections import School

SCHOOL = "school"


def schools(facts: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """``School`` rows without ``input_id``; other organisations of a roster, and schools nobody attends, make none."""
    is_school = pl.col("org_type").fill_null(SCHOOL) == SCHOOL
    named = facts["roster"].filter((pl.col("event_type") == "SchoolListed") & is_school)
    return named.select(name for name in columns(School) if name != "input_id")
