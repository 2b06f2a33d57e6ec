"""Outcomes to responder rates: what share of students each intervention and each concept reached (METHOD 2.5)."""

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from schemas.contract import conform
from schemas.policy import DistrictPolicy, ResponseRule
from schemas.projections import CONCLUSIONS, ResponderRate
from transforms.class_priors import CLASSES_TO_FIT, POOLED_STRENGTH
from transforms.intervals import jeffreys
from transforms.priors import fit

YEAR = ("district_id", "school_year")
CYCLE = (*YEAR, "school_id", "cycle_id")
RATE = (*YEAR, "kind", "name", "tier")
BESIDE = (*YEAR, "kind", "tier")
"""Rates that are drawn to one another."""
UNDECIDED = ("open", "overdue")
WITHOUT = ("dose_unknown", "insufficient_dose", "insufficient_data")


def response_rules(policies: Mapping[str, DistrictPolicy]) -> dict[str, ResponseRule]:
    """The response rule of each district, in the order of their names."""
    return {district: policies[district].responses for district in sorted(policies)}


def grades_of(memberships: pl.DataFrame, needs: pl.DataFrame) -> pl.DataFrame:
    """Grade of each student and school year: of the earliest window that knows one, the roster before the test.

    Args:
        memberships: ``ClassMembership`` rows.
        needs: ``NeedLevel`` rows, for students whom no roster names.

    Returns:
        ``district_id``, ``school_year``, ``subject_key``, ``grade``.
    """
    known = ["subject_key", "benchmark_window", "grade"]
    rows = [each.select(*YEAR, *known, source=pl.lit(place)) for place, each in enumerate((memberships, needs))]
    order = pl.col("benchmark_window").replace_strict({"fall": 0, "winter": 1, "spring": 2}, return_dtype=pl.Int8)
    return (
        pl.concat(rows)
        .filter(pl.col("grade").is_not_null())
        .sort("source", order, "grade")
        .unique([*YEAR, "subject_key"], keep="first", maintain_order=True)
        .select(*YEAR, "subject_key", "grade")
        .sort(*YEAR, "subject_key")
    )


def responder_rates(
    cycles: pl.LazyFrame, outcomes: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    """Count responses by intervention and by concept, each within its tier of support.

    The rate is adequate of concluded outcomes of cycles that are over. A cycle that is not over says nothing yet,
    also of those who met their goal in it: counting them first would flatter every running intervention. A cycle
    that was abandoned is over, and its students count as those of any other. A student counts once per cycle.

    Args:
        cycles: ``Cycle`` rows.
        outcomes: ``CycleOutcome`` rows.
        policies: Policy of each district; a district without one is counted by the defaults.

    Returns:
        ``ResponderRate`` rows without ``input_id``.
    """
    named = pl.concat([_named(cycles, kind) for kind in ("intervention", "concept")])
    members = outcomes.select(*CYCLE, "subject_key", "response").join(named, on=CYCLE, nulls_equal=True)
    is_undecided = pl.col("state").is_in(UNDECIDED)

    def ended(response: str) -> pl.Expr:
        return _count(~is_undecided & (pl.col("response") == response)).alias(response)

    counted = members.group_by(RATE).agg(
        *(_count(pl.col("state") == state).alias(f"{state}_outcomes") for state in (*UNDECIDED, "abandoned")),
        *(ended(response) for response in (*CONCLUSIONS, *WITHOUT)),
        outcomes=pl.len().cast(pl.Int64),
        students=pl.col("subject_key").n_unique().cast(pl.Int64),
    )
    rows = (
        named.group_by(RATE)
        .agg(cycles=pl.len().cast(pl.Int64), abandoned_cycles=_count(pl.col("state") == "abandoned"))
        .join(counted, on=RATE, how="left", nulls_equal=True)
        .with_columns(pl.exclude(RATE).fill_null(0))
        .with_columns(concluded=pl.sum_horizontal(CONCLUSIONS))
        .with_columns(ended=pl.sum_horizontal("concluded", *WITHOUT))
        .sort(RATE, nulls_last=True)
        .collect()
    )
    low, high = jeffreys(rows["adequate"].to_numpy(), rows["concluded"].to_numpy())
    rules = _rules(rows["district_id"].unique().sort(), policies)
    made = (
        rows.with_columns(
            interval_low=pl.Series(np.round(low, 9)).fill_nan(None),
            interval_high=pl.Series(np.round(high, 9)).fill_nan(None),
            responder_share=_share(pl.col("adequate"), pl.col("concluded")),
            ended_share=_share(pl.col("adequate"), pl.col("ended")),
        )
        .join(_shrunk(rows), on=RATE, how="left", nulls_equal=True)
        .join(rules, on="district_id", how="left")
        .join(_progression(policies), on=["district_id", "kind", "name"], how="left")
        .with_columns(
            is_comparable=pl.col("concluded") >= pl.col("compare_minimum"),
            withheld_reason=pl.when(pl.col("concluded") < pl.col("display_minimum")).then("display_reason"),
        )
    )
    return conform(made.lazy(), ResponderRate).drop("input_id").sort(RATE, nulls_last=True).collect()


def _shrunk(rows: pl.DataFrame) -> pl.DataFrame:
    """Rates drawn to those of the same district, year, kind and tier by empirical Bayes (METHOD 2.5, 3.3)."""
    told = (
        rows.filter(pl.col("concluded") > 0, pl.col("name").is_not_null())
        .filter(pl.len().over(BESIDE) > 1)
        .sort(*BESIDE, "name", nulls_last=True)
        .with_columns(group=pl.struct(BESIDE).rle_id())
    )
    y, n, group = (told[name].to_numpy() for name in ("adequate", "concluded", "group"))
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    prior, sizes = fit(y, n, begins), np.diff(np.append(begins, len(told)))
    pooled = np.add.reduceat(y, begins) / np.add.reduceat(n, begins) if len(begins) else np.empty(0)
    is_fitted = sizes >= CLASSES_TO_FIT
    mean = np.repeat(np.where(is_fitted, prior.mean, pooled), sizes)
    strength = np.repeat(np.where(is_fitted, prior.strength, POOLED_STRENGTH), sizes)
    return told.select(
        *RATE,
        shrunk_share=pl.Series(np.round((mean * strength + y) / (strength + n), 9)),
        shrunk_by=pl.Series(np.where(np.repeat(is_fitted, sizes), "one_level", "pooled"), dtype=pl.String),
    )


def _named(cycles: pl.LazyFrame, kind: str) -> pl.LazyFrame:
    return cycles.select(*CYCLE, "tier", "state", kind=pl.lit(kind), name=kind)


def _count(rows: pl.Expr) -> pl.Expr:
    return pl.when(rows).then(1).otherwise(0).sum().cast(pl.Int64)


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return part / pl.when(whole > 0).then(whole)


def _rules(districts: Iterable[str], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    known = response_rules(policies)
    rules = [(district, known.get(district, ResponseRule())) for district in districts]
    return pl.DataFrame(
        [
            (
                district,
                rule.display_minimum,
                rule.compare_minimum,
                f"fewer_than_{rule.display_minimum}_concluded",
            )
            for district, rule in rules
        ],
        schema={
            "district_id": pl.String,
            "display_minimum": pl.Int64,
            "compare_minimum": pl.Int64,
            "display_reason": pl.String,
        },
        orient="row",
    )


def _progression(policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    places = [
        (district, "concept", concept, place)
        for district, rule in response_rules(policies).items()
        for place, concept in enumerate(dict.fromkeys(rule.progression), 1)
    ]
    schema = {"district_id": pl.String, "kind": pl.String, "name": pl.String, "progression_place": pl.Int64}
    return pl.DataFrame(places, schema=schema, orient="row")
