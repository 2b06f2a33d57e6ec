"""The true counts behind a publication, from the projections of all districts: what may leave is decided later."""

from collections.abc import Mapping

import polars as pl

from schemas.projections import (
    CONCLUSIONS,
    ClassDecision,
    Cycle,
    CycleOutcome,
    NeedLevel,
    Projection,
    TierPlacement,
    WindowRule,
)
from schemas.publication import APART, PLACES, Publication, Statistic

UNKNOWN, OTHER, ALL = "unknown", "other", "all"
"""Not said of the student; a value of too few students of the state to be named; not told apart."""
STUDENT = ["district_id", "school_year", "subject_key"]
WINDOW = ["district_id", "school_year", "benchmark_window"]
CYCLE = ["district_id", "school_year", "school_id", "cycle_id"]
DECIDED = {
    "student": ("STUDENT",),
    "classroom": ("CLASSROOM", "CLASSROOM_OR_SYSTEM", "SYSTEM+CLASSROOM"),
    "system": ("SYSTEM",),
    "none": ("NONE", "WATCH"),
    "undecided": ("LOW_COVERAGE", "TOO_SMALL", "SYSTEM_DATA"),
}
"""Levels of a class decision, put together as they are published: where the class itself is meant, it is classroom."""
_AT = [*APART, *PLACES, "grade"]

Projections = Mapping[type[Projection], pl.DataFrame]


def state_counts(
    projections: Projections, descriptions: pl.DataFrame, publication: Publication, least: int
) -> dict[str, pl.DataFrame]:
    """Counts of each declared statistic in its finest cells: every total is a sum of these.

    One row per window, measure, district, school, grade and combination of groups in which anybody is counted, with
    the statistic's whole and its counts. What is not known is `unknown`, in a cell of its own.

    Args:
        projections: Rows of all districts: those that `READS` names.
        descriptions: ``StudentDescribed`` facts that stand.
        publication: Statistics, tables and groups.
        least: A group value of fewer students in the state is `other`: a value that is hardly ever said may name one.
    """
    groups = student_groups(projections[WindowRule], descriptions, publication.groups, least)
    return {each.name: _counted(COUNTED[each.name](projections), groups, each) for each in publication.statistics}


def student_groups(
    windows: pl.DataFrame, descriptions: pl.DataFrame, kinds: Mapping[str, tuple[str, ...]], least: int
) -> pl.DataFrame:
    """What each described student is on each reference date: a column per group of which anything is known.

    Of the values that hold on the day the one that began last counts, then the one exported last.
    """
    named = pl.DataFrame(
        [(kind, name, place) for name, each in kinds.items() for place, kind in enumerate(each)],
        schema={"group_kind": pl.String, "group": pl.String, "place": pl.Int64},
        orient="row",
    )
    holds = (pl.col("valid_from") <= pl.col("reference_on")).fill_null(True) & (
        pl.col("valid_to") >= pl.col("reference_on")
    ).fill_null(True)
    found = (
        descriptions.filter(pl.col("group_value").is_not_null())
        .join(named, on="group_kind")
        .join(windows.select(*WINDOW, "reference_on"), on=["district_id", "school_year"])
        .filter(holds)
        .sort(
            ["place", "valid_from", "export_at", "group_value"],
            descending=[False, True, True, False],
            nulls_last=True,
        )
        .unique([*STUDENT, "benchmark_window", "group"], keep="first", maintain_order=True)
        .with_columns(students=pl.struct("district_id", "subject_key").n_unique().over("group", "group_value"))
        .with_columns(said=pl.when(pl.col("students") < least).then(pl.lit(OTHER)).otherwise("group_value"))
    )
    there = [name for name in kinds if name in found["group"]]
    columns = [pl.col("said").filter(pl.col("group") == name).first().alias(name) for name in there]
    return found.group_by(*STUDENT, "benchmark_window").agg(columns)


def _need(projections: Projections) -> pl.DataFrame:
    tested = projections[NeedLevel].filter(pl.col("is_in_need").is_not_null())
    there = projections[TierPlacement].select(*STUDENT, "benchmark_window", "school_id", placed_grade="grade")
    return tested.join(there, on=[*STUDENT, "benchmark_window"], how="left").with_columns(
        grade=pl.coalesce("placed_grade", "grade"), in_need=pl.col("is_in_need")
    )


def _tiers(projections: Projections) -> pl.DataFrame:
    return (
        projections[TierPlacement]
        .filter(pl.col("tier").is_not_null())
        .with_columns(measure=pl.lit(ALL), **{f"tier_{tier}": pl.col("tier") == tier for tier in (1, 2, 3)})
    )


def _cycle_outcomes(projections: Projections) -> pl.DataFrame:
    """Each student once a window, by the cycle that ended last in it.

    A cycle belongs to the first window whose reference date is not before its end, else to the last: when a window
    closes, all its cycles have ended.
    """
    ended = projections[Cycle].filter(pl.col("state").is_in(["closed", "abandoned"])).select(*CYCLE, "closed_on")
    windows = projections[WindowRule].select(*WINDOW, "reference_on").drop_nulls("reference_on")
    last = pl.col("reference_on") == pl.col("reference_on").max().over(["district_id", "school_year"])
    dated = (
        ended.join(windows.with_columns(is_last=last), on=["district_id", "school_year"])
        .filter((pl.col("closed_on") <= pl.col("reference_on")).fill_null(False) | pl.col("is_last"))
        .sort("reference_on")
        .unique(CYCLE, keep="first", maintain_order=True)
    )
    grades = projections[TierPlacement].select(*STUDENT, "benchmark_window", "grade")
    is_concluded = pl.col("response").is_in(CONCLUSIONS)
    return (
        projections[CycleOutcome]
        .select(*CYCLE, "subject_key", "response")
        .join(dated, on=CYCLE, nulls_equal=True)
        .sort("closed_on", "cycle_id", "school_id", nulls_last=False)
        .unique([*STUDENT, "benchmark_window"], keep="last", maintain_order=True)
        .join(grades, on=[*STUDENT, "benchmark_window"], how="left")
        .with_columns(
            *((pl.col("response") == response).fill_null(False).alias(response) for response in CONCLUSIONS),
            no_conclusion=~is_concluded.fill_null(False),
            measure=pl.lit(ALL),
        )
    )


def _class_decisions(projections: Projections) -> pl.DataFrame:
    return projections[ClassDecision].with_columns(
        pl.col("level").is_in(levels).alias(name) for name, levels in DECIDED.items()
    )


COUNTED = {"need": _need, "tier": _tiers, "cycle_outcome": _cycle_outcomes, "class_decision": _class_decisions}
"""Who is counted, by statistic: a row each, with the cell they stand in and a yes or no per count."""
READS = (NeedLevel, TierPlacement, Cycle, CycleOutcome, ClassDecision, WindowRule)


def _counted(rows: pl.DataFrame, groups: pl.DataFrame, statistic: Statistic) -> pl.DataFrame:
    by = [name for name in groups.columns if name not in (*STUDENT, "benchmark_window")]
    if "subject_key" in rows.columns:
        rows = rows.join(groups, on=[*STUDENT, "benchmark_window"], how="left")
    else:
        by = []
    return (
        rows.with_columns(pl.col(*_AT, *by).fill_null(UNKNOWN))
        .group_by(*_AT, *by)
        .agg(pl.len().cast(pl.Int64).alias(statistic.students), pl.col(statistic.counts).sum().cast(pl.Int64))
        .sort(*_AT, *by)
    )
