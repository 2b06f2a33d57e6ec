"""What a delivery looks like, in summaries: one row per school, measure or file, with the bounds it should lie in."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from schemas.policy import DistrictPolicy, QualityRule
from schemas.projections import SEASONS, ClassMembership, Projection, ScreeningResult

DRIFT_TESTS = 30
"""Tests in both windows below which a mean percentile says nothing of a delivery."""
SCALES = {
    "map_": (100.0, 350.0),
    "iready_math": (100.0, 800.0),
    "star_math": (0.0, 1400.0),
    "fastbridge_amath": (145.0, 275.0),
}
"""Vendors' published score scales, by start of the measure's name; a measure without one is not looked at."""
PARTITION = ["district_id", "school_year"]
_WINDOW = [*PARTITION, "benchmark_window"]


class Rule(NamedTuple):
    """One question put to a delivery."""

    stage: str
    asks: str


RULES = {
    "volume_per_school": Rule("projections", "Did a school's tests of a measure fall from one window to the next?"),
    "tested_share": Rule("projections", "Was a usual share of a school's students tested?"),
    "score_range": Rule("projections", "Do scores lie on the vendor's scale?"),
    "percentile_drift": Rule("projections", "Is the mean percentile near that of the window before?"),
    "match_rate": Rule("exports", "Were a file's students found in the roster?"),
}
"""Rules by name; `quality.blocking` of a policy lists these names."""


def summaries(
    tables: Mapping[type[Projection], pl.DataFrame], ledger: pl.DataFrame, policies: Mapping[str, DistrictPolicy]
) -> dict[str, pl.DataFrame]:
    """One frame per rule: partition, `school_id`, `about`, `rule`, `observed`, `low`, `high` and `rows`.

    `rows` counts what breaks the rule where it is broken: tests, students or files' rows.
    """
    knobs = _knobs(policies)
    tests = (
        tables[ScreeningResult]
        .filter("is_valid", pl.col("benchmark_window").is_not_null())
        .with_columns(_order=pl.col("benchmark_window").replace_strict(dict(zip(SEASONS, range(3), strict=True))))
        .join(
            tables[ClassMembership].select(*_WINDOW, "subject_key", roster_school="school_id"),
            on=[*_WINDOW, "subject_key"],
            how="left",
        )
        .with_columns(school_id=pl.coalesce("roster_school", "school_id"))
    )
    found = {
        "volume_per_school": _volume(tests, knobs),
        "tested_share": _share(tests, tables[ClassMembership], knobs),
        "score_range": _range(tests),
        "percentile_drift": _drift(tests, knobs),
        "match_rate": _match(ledger, knobs),
    }
    return {rule: _shaped(frame, rule) for rule, frame in found.items()}


def _knobs(policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    names = [name for name in QualityRule.model_fields if name != "blocking"]
    rows = [{"district_id": district, **{n: getattr(p.quality, n) for n in names}} for district, p in policies.items()]
    return pl.DataFrame(rows, schema={"district_id": pl.String, **dict.fromkeys(names, pl.Float64)})


def _shaped(frame: pl.DataFrame, rule: str) -> pl.DataFrame:
    window = pl.col("benchmark_window") if "benchmark_window" in frame.columns else pl.lit(None, pl.String)
    return frame.select(
        *PARTITION,
        school_id=pl.col("school_id") if "school_id" in frame.columns else pl.lit(None, pl.String),
        about=pl.col("about"),
        rule=pl.concat_str([pl.lit(rule), window], separator=": ", ignore_nulls=True),
        observed=pl.col("observed").cast(pl.Float64),
        low=pl.col("low").cast(pl.Float64),
        high=pl.col("high").cast(pl.Float64),
        rows=pl.col("rows").cast(pl.Int64),
    ).sort(*PARTITION, "about", "rule", "school_id", nulls_last=True)


def _volume(tests: pl.DataFrame, knobs: pl.DataFrame) -> pl.DataFrame:
    """Tests of a school and measure beside those of its last window that had any."""
    within = [*PARTITION, "school_id", "measure"]
    return (
        tests.group_by(*within, "benchmark_window", "_order")
        .agg(tests=pl.len())
        .sort(*within, "_order")
        .with_columns(before=pl.col("tests").shift().over(within))
        .drop_nulls(["before", "school_id"])
        .join(knobs, on="district_id")
        .with_columns(
            about="measure",
            observed=pl.col("tests") / pl.col("before"),
            low=1 - pl.col("volume_drop_maximum"),
            high=None,
            rows=(pl.col("before").cast(pl.Int64) - pl.col("tests")).clip(0),
        )
    )


def _share(tests: pl.DataFrame, members: pl.DataFrame, knobs: pl.DataFrame) -> pl.DataFrame:
    """Students of a school with any valid test in a window, of those on its roster on the reference date."""
    tested = tests.select(*_WINDOW, "subject_key").unique().with_columns(is_tested=pl.lit(value=True))
    return (
        members.filter(~pl.col("is_alternate_assessment").fill_null(value=False))
        .drop_nulls("school_id")
        .join(tested, on=[*_WINDOW, "subject_key"], how="left")
        .group_by(*_WINDOW, "school_id")
        .agg(enrolled=pl.len(), tested=pl.col("is_tested").sum())
        .join(knobs, on="district_id")
        .with_columns(
            about=pl.lit("class_membership"),
            observed=pl.col("tested") / pl.col("enrolled"),
            low="tested_share_minimum",
            high=None,
            rows=pl.col("enrolled").cast(pl.Int64) - pl.col("tested"),
        )
    )


def _range(tests: pl.DataFrame) -> pl.DataFrame:
    """Share of a measure's scores that lie outside the vendor's scale."""
    low, high = (
        pl.coalesce(
            pl.when(pl.col("measure").str.starts_with(start)).then(bounds[end]) for start, bounds in SCALES.items()
        )
        for end in (0, 1)
    )
    return (
        tests.with_columns(outside=~pl.col("score").is_between(low, high))
        .drop_nulls("outside")
        .group_by(*_WINDOW, "measure")
        .agg(observed=pl.col("outside").mean(), rows=pl.col("outside").sum())
        .with_columns(about="measure", low=None, high=0.0)
    )


def _drift(tests: pl.DataFrame, knobs: pl.DataFrame) -> pl.DataFrame:
    """Mean percentile of a measure less that of the window before, of this year or, for fall, of last spring."""
    within = ["district_id", "measure"]
    return (
        tests.filter("is_chosen", pl.col("percentile").is_not_null())
        .group_by(*within, "school_year", "benchmark_window", "_order")
        .agg(mean=pl.col("percentile").mean(), tests=pl.len())
        .filter(pl.col("tests") >= DRIFT_TESTS)
        .sort(*within, "school_year", "_order")
        .with_columns(before=pl.col("mean").shift().over(within))
        .drop_nulls("before")
        .join(knobs, on="district_id")
        .with_columns(
            about="measure",
            observed=pl.col("mean") - pl.col("before"),
            low=-pl.col("score_drift_maximum"),
            high="score_drift_maximum",
            rows="tests",
        )
    )


def _match(ledger: pl.DataFrame, knobs: pl.DataFrame) -> pl.DataFrame:
    """Lowest match rate of the files of a layout that brought facts of a school year."""
    return (
        ledger.filter((pl.col("status") == "loaded") & pl.col("match_rate").is_not_null())
        .sort("recorded_at")
        .unique(["batch_id"], keep="last", maintain_order=True)
        .with_columns(school_year=pl.col("school_years").str.split(";"))
        .explode("school_year", empty_as_null=True, keep_nulls=True)
        .drop_nulls("school_year")
        .group_by(*PARTITION, about="layout")
        .agg(observed=pl.col("match_rate").min(), rows=pl.col("parked").sum())
        .join(knobs, on="district_id")
        .with_columns(low="match_rate_expected", high=None)
    )
