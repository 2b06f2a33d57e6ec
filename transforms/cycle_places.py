"""Cycles as they were opened and closed, and which of them a row belongs to."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from schemas.policy import CycleRule, DistrictPolicy

YEAR = ("district_id", "school_year")
PLACE = (*YEAR, "school_id", "cycle_id", "group_id")
"""What a row says about where it belongs, besides its day."""
PLANS = ("SessionScheduled", "SessionCancelled")
"""Sessions that may lie ahead."""
_WHOLE = (
    *("shortest_days", "longest_days", "probes_minimum", "level_probes", "goal_probes"),
    *("rule_points", "rule_minimum", "peer_cycles", "group_minimum", "classmates_minimum"),
)
_OTHER: dict[str, pl.DataType | type[pl.DataType]] = {
    "slope_by": pl.String,
    "theil_sen_measures": pl.List(pl.String),
    "dual_discrepancy": pl.Boolean,
}
"""Knobs that are no numbers."""


class Placed(NamedTuple):
    rows: pl.DataFrame
    broken: pl.DataFrame


def knobs(districts: Iterable[str], policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """The cycle rule of each district as a table, with the reason codes that name a threshold."""
    rules = {district: policies[district].cycles if district in policies else CycleRule() for district in districts}
    rows = [
        {
            "district_id": district,
            **rule.model_dump(mode="json", exclude={"form_families"}),
            "dose_reason": f"dose_below_{rule.dose_minimum:.2f}",
            "fidelity_reason": f"fidelity_below_{rule.fidelity_minimum:.2f}",
            "probes_reason": f"fewer_than_{rule.probes_minimum}_probes",
            "early_reason": f"before_day_{rule.shortest_days}",
        }
        for district, rule in rules.items()
    ]
    names = [name for name in CycleRule.model_fields if name != "form_families"]
    types: dict[str, pl.DataType | type[pl.DataType]] = {
        name: pl.Int64 if name in _WHOLE else pl.Float64 for name in names
    } | _OTHER
    reasons = dict.fromkeys(("dose_reason", "fidelity_reason", "probes_reason", "early_reason"), pl.String)
    return pl.DataFrame(rows, schema={"district_id": pl.String, **types, **reasons})


def of_type(rows: pl.DataFrame, event_type: str) -> pl.DataFrame:
    return rows.filter(pl.col("event_type") == event_type)


def broken_by(rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    return rows.select(*YEAR, rule=pl.lit(rule))


def inside(first: str, last: str) -> pl.Expr:
    """Whether the day lies between two days, both included; a null last day is no end."""
    on = pl.col("on")
    return ((on >= pl.col(first)) & (pl.col(last).is_null() | (on <= pl.col(last)))).fill_null(value=False)


def years(cycle: pl.DataFrame, session: pl.DataFrame) -> pl.DataFrame:
    """The last day known of each district and school year, which stands for today.

    Sessions scheduled or cancelled are plans, which may lie ahead, and do not move it.
    """
    day = pl.when(~pl.col("event_type").is_in(PLANS)).then("on").max()
    told = [rows.group_by(YEAR).agg(known_through=day) for rows in (cycle, session)]
    return pl.concat(told).group_by(YEAR).agg(pl.col("known_through").max()).sort(YEAR)


def openings(cycle: pl.DataFrame, year: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Cycles opened, one row each; a cycle without id is named by its group and day (SEMANTICS 1.1)."""
    opened = (
        of_type(cycle, "CycleOpened")
        .with_columns(cycle_id=pl.coalesce("cycle_id", pl.concat_str("group_id", pl.lit("@"), "on")))
        .filter(pl.col("cycle_id").is_not_null())
        .sort(*YEAR, "school_id", "cycle_id", "on", "natural_key")
        .unique([*YEAR, "school_id", "cycle_id"], keep="first", maintain_order=True)
        .with_row_index("cycle_no")
    )
    rules = knobs(opened["district_id"].unique().sort(), policies)
    return (
        opened.select(
            *("cycle_no", *PLACE, "tier", "concept", "intervention", "measure", "planned_sessions"),
            *("session_minutes", "planned_end_on", "parent_goal", pl.col("on").alias("opened_on")),
        )
        .join(year, on=YEAR, how="left", maintain_order="left")
        .join(rules, on="district_id", how="left", maintain_order="left")
        .with_columns(ends_on=pl.col("planned_end_on"))
    )


def until_next(opening: pl.DataFrame) -> pl.DataFrame:
    """Openings that last until their group opens again: a cycle is often closed, or left, after its planned end."""
    group = [*YEAR, "school_id", pl.coalesce("group_id", "cycle_id")]
    following = pl.col("opened_on").shift(-1).over(group, order_by=["opened_on", "cycle_no"])
    return opening.with_columns(ends_on=following.dt.offset_by("-1d"))


def with_closes(cycle: pl.DataFrame, opening: pl.DataFrame) -> Placed:
    """Openings with their close: of two closes the one exported last, then the later day."""
    closes = place(of_type(cycle, "CycleClosed"), until_next(opening), "close_without_cycle")
    last = (
        closes.rows.sort("export_at", "on", "natural_key")
        .unique("cycle_no", keep="last", maintain_order=True)
        .select("cycle_no", "close_reason", closed_on="on")
    )
    rows = opening.join(last, on="cycle_no", how="left", maintain_order="left")
    return Placed(rows.with_columns(ends_on=pl.coalesce("closed_on", "planned_end_on")), closes.broken)


def place(rows: pl.DataFrame, opening: pl.DataFrame, rule: str) -> Placed:
    """Rows with the ``cycle_no`` they belong to; the others break ``rule`` or fit several cycles."""
    keys = rows.select(*PLACE, "on").unique().with_row_index("key_no")
    cycles = opening.select(
        *YEAR,
        "cycle_no",
        "cycle_id",
        "opened_on",
        "ends_on",
        at_school="school_id",
        group=pl.coalesce("group_id", "cycle_id"),
    )
    named = keys.join(cycles, on=[*YEAR, "cycle_id"])
    grouped = keys.filter(pl.col("cycle_id").is_null()).join(
        cycles, left_on=[*YEAR, "group_id"], right_on=[*YEAR, "group"]
    )
    is_here = (pl.col("school_id") == pl.col("at_school")).fill_null(value=False)
    is_inside = inside("opened_on", "ends_on")
    found = (
        pl.concat(
            [
                named.select("key_no", "cycle_no", is_here=is_here, is_inside=is_inside),
                grouped.filter(is_inside).select("key_no", "cycle_no", is_here=is_here, is_inside=pl.lit(value=True)),
            ]
        )
        .filter(pl.col("is_here") == pl.col("is_here").max().over("key_no"))
        .filter(pl.col("is_inside") == pl.col("is_inside").max().over("key_no"))
        .group_by("key_no")
        .agg(pl.col("cycle_no").first(), cycles=pl.len())
    )
    placed = rows.join(
        keys.join(found, on="key_no", how="left").drop("key_no"), on=[*PLACE, "on"], how="left", nulls_equal=True
    )
    return Placed(
        placed.filter(pl.col("cycles") == 1).drop("cycles"),
        pl.concat(
            [
                broken_by(placed.filter(pl.col("cycles").is_null()), rule),
                broken_by(placed.filter(pl.col("cycles") > 1), "several_open_cycles"),
            ]
        ),
    )
