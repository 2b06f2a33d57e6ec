"""Who could be taught together next: proposals for new groups, from need and the last cycle of each student."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns, empty
from schemas.policy import CycleRule, DistrictPolicy, ResponseRule
from schemas.projections import RegroupingProposal
from transforms.classes import season_rank

YEAR = ("district_id", "school_year")
WINDOW = (*YEAR, "benchmark_window")
STUDENT = (*WINDOW, "subject_key")
CYCLE = (*YEAR, "school_id", "cycle_id")
CELL = (*WINDOW, "school_id", "grade", "concept", "step")
"""Students of one cell can be taught the same thing; they are ordered by key, never by a score."""
_ALONE = 1


def regrouping_proposals(
    placements: pl.DataFrame,
    cycles: pl.DataFrame,
    outcomes: pl.DataFrame,
    policies: Mapping[str, DistrictPolicy],
) -> pl.DataFrame:
    """Propose groups of students in tier 2 or 3 who are in no open cycle at the end of a window's season.

    The tier is the one that stands: the team's where it decided one. A season ends on the day before the next
    window's reference date, and in the year's last window with all that is known. A cycle is open until it is closed,
    also when it is overdue. What a student works on next follows from the last cycle that ended for them, of several
    on one day from the one that opened last, then by id: its concept again, or, where its goal was met, the concept
    that comes next on the district's progression. Where that cannot be told the student has a row and a reason, and
    no group: nothing is guessed, and nobody in need is left out.

    Students of one school, grade, concept and step are split into as few groups as the group size allows, as even
    as can be, in order of their keys. A student alone is said to be left over.

    Args:
        placements: ``TierPlacement`` rows.
        cycles: ``Cycle`` rows.
        outcomes: ``CycleOutcome`` rows.
        policies: Policy of each district; a district without one takes the defaults.

    Returns:
        ``RegroupingProposal`` rows without ``input_id``, one per student and window.
    """
    standing = pl.coalesce("assigned_tier", "tier")
    needy = (
        placements.join(_seasons(placements), on=WINDOW, how="left", nulls_equal=True)
        .filter(standing > 1)
        .select(*STUDENT, "school_id", "grade", "until_on", "tier_decided_by", tier=standing)
    )
    if needy.is_empty():
        return empty(RegroupingProposal).drop("input_id")
    stays = _stays(cycles, outcomes, needy)
    free = needy.join(stays.filter("is_open").select(STUDENT).unique(), on=STUDENT, how="anti")
    supplied = cycles.select(YEAR).unique().with_columns(has_cycles=pl.lit(value=True))
    placed = (
        free.join(_last_ended(stays), on=STUDENT, how="left")
        .join(supplied, on=YEAR, how="left")
        .join(_following(policies), on=["district_id", "last_concept"], how="left")
        .with_columns(step=_step())
        .with_columns(concept=pl.when(pl.col("step") == "next").then("following").otherwise("last_concept"))
        .with_columns(reason=_reason())
        .join(_places(policies), on=["district_id", "concept"], how="left")
    )
    made = pl.concat([_grouped(placed, policies), placed.filter(pl.col("reason").is_not_null())], how="diagonal")
    wanted = {name: dtype for name, dtype in columns(RegroupingProposal).items() if name != "input_id"}
    return made.select(pl.col(name).cast(dtype) for name, dtype in wanted.items()).sort(
        *YEAR, season_rank(), "subject_key"
    )


def _seasons(placements: pl.DataFrame) -> pl.DataFrame:
    """The day by which a window's proposals are made; null in the last window of a year."""
    after = pl.col("reference_on").backward_fill().shift(-1).over(YEAR)
    return (
        placements.group_by(WINDOW)
        .agg(pl.col("reference_on").min())
        .sort(*YEAR, season_rank())
        .select(*WINDOW, until_on=after.dt.offset_by("-1d"))
    )


def _stays(cycles: pl.DataFrame, outcomes: pl.DataFrame, needy: pl.DataFrame) -> pl.DataFrame:
    """Cycles of the students in need that had begun by the end of each season, and whether they were over by then."""
    until, ended = pl.col("until_on"), pl.col("ended_on")
    begun = pl.max_horizontal("opened_on", "joined_on")
    return (
        outcomes.select(*CYCLE, "subject_key", "joined_on", "left_on", "next_step")
        .join(cycles.select(*CYCLE, "opened_on", "closed_on", "concept"), on=CYCLE, nulls_equal=True)
        .rename({"school_id": "at_school", "concept": "last_concept"})
        .join(needy.select(*STUDENT, "until_on"), on=[*YEAR, "subject_key"])
        .filter(until.is_null() | begun.is_null() | (begun <= until))
        .with_columns(ended_on=pl.min_horizontal("closed_on", "left_on"))
        .with_columns(is_open=ended.is_null() | (ended > until).fill_null(value=False))
    )


def _last_ended(stays: pl.DataFrame) -> pl.DataFrame:
    return (
        stays.filter(~pl.col("is_open"))
        .sort(
            ["ended_on", "opened_on", "cycle_id", "at_school"],
            descending=[True, True, False, False],
            nulls_last=True,
        )
        .unique(STUDENT, keep="first", maintain_order=True)
        .select(
            *STUDENT,
            "last_concept",
            last_cycle_id="cycle_id",
            last_ended_on="ended_on",
            last_next_step="next_step",
        )
    )


def _step() -> pl.Expr:
    is_met = pl.col("last_next_step") == "exit_or_regroup"
    return (
        pl.when(pl.col("last_concept").is_null())
        .then(None)
        .when(is_met.fill_null(value=False))
        .then(pl.lit("next"))
        .otherwise(pl.lit("again"))
    )


def _reason() -> pl.Expr:
    """Why no group can be proposed; null where one can."""
    return (
        pl.when(pl.col("has_cycles").is_null())
        .then(pl.lit("cycles_not_supplied"))
        .when(pl.col("last_cycle_id").is_null())
        .then(pl.lit("no_ended_cycle"))
        .when(pl.col("last_concept").is_null())
        .then(pl.lit("concept_not_named"))
        .when(pl.col("concept").is_null())
        .then(pl.lit("next_concept_unknown"))
        .when(pl.col("school_id").is_null() | pl.col("grade").is_null())
        .then(pl.lit("school_or_grade_unknown"))
    )


def _grouped(placed: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Students with a concept, numbered into groups within their cell."""
    students, rank = pl.len().cast(pl.Int64).over(CELL), pl.int_range(pl.len()).over(CELL)
    groups = (students + pl.col("group_size") - 1) // pl.col("group_size")
    return (
        placed.filter(pl.col("reason").is_null())
        .join(_sizes(placed["district_id"].unique().to_list(), policies), on="district_id")
        .sort(*CELL, "subject_key")
        .with_columns(group_number=rank * groups // students + 1)
        .with_columns(group_students=pl.len().over(*CELL, "group_number"))
        .with_columns(is_leftover=pl.col("group_students") == _ALONE)
    )


def _sizes(districts: list[str], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    rules = [policies[each].cycles if each in policies else CycleRule() for each in districts]
    return pl.DataFrame(
        {"district_id": districts, "group_size": [rule.group_size for rule in rules]},
        schema={"district_id": pl.String, "group_size": pl.Int64},
    )


def _places(policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Concepts of each district's progression with their place, from 1."""
    rules: dict[str, ResponseRule] = {district: policies[district].responses for district in sorted(policies)}
    rows = [
        (district, concept, place)
        for district, rule in rules.items()
        for place, concept in enumerate(dict.fromkeys(rule.progression), 1)
    ]
    schema = {"district_id": pl.String, "concept": pl.String, "progression_place": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _following(policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Each concept beside the one that comes next; null after the last."""
    return (
        _places(policies)
        .sort("district_id", "progression_place")
        .select(
            "district_id",
            last_concept="concept",
            following=pl.col("concept").shift(-1).over("district_id"),
        )
    )
