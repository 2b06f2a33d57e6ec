"""Probes to series: one score a day, in one measure and one family of forms (METHOD 2.1)."""

from collections.abc import Mapping

import polars as pl

from schemas.policy import DistrictPolicy
from transforms.cycle_places import YEAR, broken_by, inside


def scored_probes(rows: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Probes with a score, numbered by `fact_no`, with the `family` of their form.

    Forms that the district's policy names in no family, and probes without a form, are one family: null.
    """
    families = pl.DataFrame(
        [
            (district, each.measure, form, each.family)
            for district, policy in sorted(policies.items())
            for each in policy.cycles.form_families
            for form in each.read_forms
        ],
        schema=dict.fromkeys(("district_id", "measure", "read_form", "family"), pl.String),
        orient="row",
    )
    return (
        rows.filter(pl.col("score").is_finite())
        .with_row_index("fact_no")
        .with_columns(read_form=pl.col("form").str.strip_chars().str.to_lowercase())
        .join(families, on=["district_id", "measure", "read_form"], how="left", maintain_order="left")
        .drop("read_form")
    )


def probe_days(scored: pl.DataFrame, stay: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Probe days of each member in the cycle's measure, and the probes that fit no cycle or another series.

    A probe counts for every cycle of its student and measure whose dates contain its day, while the student is a
    member; probes of one day count by their median. Another family of forms is another series: the one with the
    latest day counts, of two the one with more days, then the first by name.

    Args:
        scored: Rows of ``scored_probes``.
        stay: Spells of members with their cycle.

    Returns:
        ``member_no``, ``on``, ``day`` from the start of the cycle, ``score``, ``goal_score``, ``family`` and
        ``series_day``, the day on which the series began: 0 unless another one came before it. And the findings.
    """
    hits = (
        scored.select("fact_no", *YEAR, "subject_key", "measure", "on", "score", "goal_score", "family")
        .join(stay, on=[*YEAR, "subject_key", "measure"])
        .filter(inside("opened_on", "ends_on") & inside("from_on", "to_on"))
    )
    series = hits.group_by("member_no", "family").agg(
        begins=pl.col("on").min(), ends=pl.col("on").max(), days=pl.col("on").n_unique()
    )
    chosen = (
        series.with_columns(is_first=pl.col("begins") == pl.col("begins").min().over("member_no"))
        .sort(["member_no", "ends", "days", "family"], descending=[False, True, True, False], nulls_last=True)
        .unique("member_no", keep="first", maintain_order=True)
        .select("member_no", "family", "begins", "is_first")
    )
    counted = hits.join(chosen, on=["member_no", "family"], nulls_equal=True)
    since = (pl.col("begins") - pl.col("opened_on")).dt.total_days()
    days = (
        counted.with_columns(series_day=pl.when("is_first").then(0).otherwise(since))
        .group_by("member_no", "on")
        .agg(
            pl.col("score").median(),
            pl.col("goal_score").max(),
            pl.col("opened_on", "family", "series_day").first(),
        )
        .select(
            *("member_no", "on", "score", "goal_score", "family", "series_day"),
            day=(pl.col("on") - pl.col("opened_on")).dt.total_days(),
        )
        .sort("member_no", "on")
    )
    other = scored.join(hits, on="fact_no", how="semi").join(counted, on="fact_no", how="anti")
    outside = scored.join(hits, on="fact_no", how="anti")
    return days, pl.concat([broken_by(outside, "probe_outside_cycle"), broken_by(other, "probe_of_other_forms")])
