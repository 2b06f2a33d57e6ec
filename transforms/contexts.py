"""What schools reported about the curriculum and the engagement of a class; context of a finding, never part of it."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import ClassContext
from transforms.classes import WINDOW, season_rank
from transforms.signals import YEAR, window_seasons

KINDS = {"CurriculumReported": "curriculum", "EngagementObserved": "engagement"}
"""Kind of a report by event type."""


def class_contexts(
    facts: Mapping[str, pl.LazyFrame], memberships: pl.DataFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    """Every report about a class, and the windows whose newest it is (METHOD 3.12).

    A class may use several materials, so a report is replaced only by a later one on the same class and material, of
    engagement by a later one on the same class. Reports of one day stand beside each other. A window knows what was
    reported by the day before the next window's reference date, the last one what was reported by the year's end.

    Args:
        facts: Current facts of the family `context`.
        memberships: ``ClassMembership`` rows, for the reference dates.
        policies: Policy of each district.

    Returns:
        ``ClassContext`` rows without ``input_id``.
    """
    reports = facts["context"].filter(pl.col("event_type").is_in(list(KINDS))).rename({"occurred_on": "reported_on"})
    reports = reports.with_columns(kind=pl.col("event_type").replace_strict(KINDS, return_dtype=pl.String))
    newest = (
        reports.join(window_seasons(memberships.lazy(), policies), on=YEAR)
        .filter(pl.col("reported_on") <= pl.col("season_ends"))
        .filter(pl.col("reported_on") == pl.col("reported_on").max().over(*WINDOW, "class_id", "kind", "material"))
        .group_by(*YEAR, "natural_key")
        .agg(newest_in=pl.col("benchmark_window").sort_by(season_rank()).str.join(";"))
    )
    return (
        reports.join(newest, on=[*YEAR, "natural_key"], how="left")
        .sort(*YEAR, "class_id", "kind", "reported_on", "material", "natural_key", nulls_last=True)
        .select(name for name in columns(ClassContext) if name != "input_id")
        .collect()
    )
