"""Benchmark windows: which window a test falls in, and the day that decides who is in which class."""

from collections.abc import Mapping
from datetime import date

import polars as pl

from schemas.policy import DEFAULT_WINDOW_ENDS, FROZEN_AFTER_DAYS, DistrictPolicy
from schemas.projections import SEASONS

DISTRICT_YEAR = ["district_id", "school_year"]
WINDOW = [*DISTRICT_YEAR, "benchmark_window"]
OUTSIDE = "outside"


def configured_windows(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Windows that districts configure: one row per district, school year and window."""
    return pl.LazyFrame(
        [
            (district, window.school_year, window.season, window.begins_on, window.ends_on, window.reference_on)
            for district, policy in sorted(policies.items())
            for window in policy.windows
        ],
        schema={
            "district_id": pl.String,
            "school_year": pl.String,
            "benchmark_window": pl.String,
            "begins_on": pl.Date,
            "ends_on": pl.Date,
            "configured_on": pl.Date,
        },
        orient="row",
    )


def named_season(frame: pl.LazyFrame, column: str, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``season``: what ``column`` says, as fall, winter, spring or `outside`; null where nobody knows the name.

    A district's own names (`season_names`) come before the common ones; case and surrounding blanks do not count.
    """
    return _seasons(frame, column, policies).drop("own_season")


def _seasons(frame: pl.LazyFrame, column: str, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``own_season``, by the district's own names alone, and ``season``."""
    own = {
        (district, name.strip().lower()): season
        for district, policy in sorted(policies.items())
        for name, season in policy.season_names.items()
    }
    said = pl.col(column).str.strip_chars().str.to_lowercase()
    if not own:
        return frame.with_columns(
            own_season=pl.lit(None, pl.String), season=pl.when(said.is_in([*SEASONS, OUTSIDE])).then(said)
        )
    names = pl.LazyFrame(
        [(*name, season) for name, season in own.items()],
        schema={"district_id": pl.String, "season_name": pl.String, "own_season": pl.String},
        orient="row",
    )
    common = pl.when(pl.col("season_name").is_in([*SEASONS, OUTSIDE])).then("season_name")
    return (
        frame.with_columns(season_name=said)
        .join(names, on=["district_id", "season_name"], how="left")
        .with_columns(season=pl.coalesce("own_season", common))
        .drop("season_name")
    )


def default_end(season: str) -> pl.Expr:
    """Last day of a window that nobody configures, by the ``school_year`` of the row."""
    year = pl.col("school_year").cast(pl.Int32, strict=False)
    if season not in DEFAULT_WINDOW_ENDS:
        starts = pl.col("year_starts_month")
        return pl.date(year + (starts == 1), starts, 1).dt.offset_by("-1d")
    month, day = DEFAULT_WINDOW_ENDS[season]
    return pl.date(year - (month > 6), month, day)


def place_in_windows(tests: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``benchmark_window`` and ``window_source`` to tests (SEMANTICS 6.1).

    Where the district configures ranges for the school year, only they decide, both ends included, and a date in none
    is outside. Else the district's own name for the season column decides, then the label of the export, then the
    season column; `outside` is outside. A name that nobody knows, or none, leaves the default dates. A test without a
    date is outside unless a label places it.
    """
    ranges = (
        configured_windows(policies)
        .filter(pl.col("begins_on").is_not_null())
        .group_by(DISTRICT_YEAR)
        .agg(
            pl.col(name).filter(pl.col("benchmark_window") == season).first().alias(f"{season}_{name}")
            for season in SEASONS
            for name in ("begins_on", "ends_on")
        )
        .with_columns(is_configured=True)
    )
    day = pl.col("occurred_on")
    by_range = pl.coalesce(
        pl.when(day.is_between(f"{season}_begins_on", f"{season}_ends_on")).then(pl.lit(season)) for season in SEASONS
    )
    by_date = (
        pl.when(day <= default_end("fall"))
        .then(pl.lit("fall"))
        .when(day <= default_end("winter"))
        .then(pl.lit("winter"))
        .when(day.is_not_null())
        .then(pl.lit("spring"))
    )
    is_configured = pl.col("is_configured").is_not_null()
    said = pl.coalesce("own_season", "label_season", "slot_season")
    window = (
        pl.when(is_configured)
        .then(by_range)
        .when(said.is_not_null())
        .then(pl.when(said != OUTSIDE).then(said))
        .otherwise(by_date)
    )
    source = (
        pl.when(pl.col("benchmark_window").is_null())
        .then(pl.lit(OUTSIDE))
        .when(is_configured)
        .then(pl.lit("range"))
        .when(said.is_not_null())
        .then(pl.lit("label"))
        .otherwise(pl.lit("date"))
    )
    labelled = named_season(tests, "window_label", policies).rename({"season": "label_season"})
    return (
        _seasons(labelled, "season_slot", policies)
        .rename({"season": "slot_season"})
        .join(ranges, on=DISTRICT_YEAR, how="left")
        .with_columns(benchmark_window=window)
        .with_columns(window_source=source)
        .drop(
            "own_season",
            "label_season",
            "slot_season",
            "is_configured",
            *(f"{season}_{name}" for season in SEASONS for name in ("begins_on", "ends_on")),
        )
    )


def policy_versions(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Version of each district's policy: the day from which it is valid."""
    return pl.LazyFrame(
        [
            (district, policy.valid_from.isoformat(), policy.year_starts_month)
            for district, policy in sorted(policies.items())
        ],
        schema={"district_id": pl.String, "policy_version": pl.String, "year_starts_month": pl.Int32},
        orient="row",
    )


def frozen(tests: pl.LazyFrame, by: list[str], policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Of valid tests in a window, those that settle it (SEMANTICS 6.1b).

    In each group of ``by`` these are the tests first exported up to 28 days (UTC) after the window's last day, or
    all of them if there are none.
    """
    ends = configured_windows(policies).select(*WINDOW, "ends_on")
    default = pl.coalesce(pl.when(pl.col("benchmark_window") == season).then(default_end(season)) for season in SEASONS)
    days = FROZEN_AFTER_DAYS
    return (
        tests.filter("is_valid", pl.col("benchmark_window").is_not_null())
        .join(ends, on=WINDOW, how="left")
        .join(policy_versions(policies), on="district_id", how="left")
        .with_columns(last_on=pl.coalesce("ends_on", default).dt.offset_by(f"{days}d"))
        .with_columns(is_early=(pl.col("first_export_at").dt.date() <= pl.col("last_on")).fill_null(False))
        .filter(pl.col("is_early") | ~pl.col("is_early").any().over(by))
        .drop("ends_on", "policy_version", "year_starts_month", "last_on", "is_early")
    )


def window_rules(screening: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Benchmark windows in force: those the policy names and those with a test.

    The reference date is the configured one, else the lower median day of the window's valid tests, all measures
    together, frozen (SEMANTICS 6.1b). A window without a valid test and without a configured date has none. A
    group rule: it depends on all tests of the district and window.

    Args:
        screening: ``ScreeningResult`` rows.
        policies: Policy of each district.

    Returns:
        ``WindowRule`` rows without ``input_id``.
    """
    settling = frozen(screening, WINDOW, policies).filter(pl.col("occurred_on").is_not_null())
    median = settling.group_by(WINDOW).agg(
        median_on=pl.col("occurred_on").to_physical().quantile(0.5, "lower").cast(pl.Int32).cast(pl.Date)
    )
    configured = configured_windows(policies)
    tested = screening.filter(pl.col("benchmark_window").is_not_null()).select(WINDOW)
    return (
        pl.concat([configured.select(WINDOW), tested])
        .unique()
        .join(configured, on=WINDOW, how="left")
        .join(median, on=WINDOW, how="left")
        .join(policy_versions(policies), on="district_id", how="left")
        .select(
            *WINDOW,
            "begins_on",
            "ends_on",
            reference_on=pl.coalesce("configured_on", "median_on"),
            reference_source=pl.when(pl.col("configured_on").is_not_null())
            .then(pl.lit("configured"))
            .when(pl.col("median_on").is_not_null())
            .then(pl.lit("median_test_day")),
            policy_version="policy_version",
        )
        .sort(WINDOW)
    )


def school_days_before(frame: pl.LazyFrame, column: str, policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    """Add ``{column}_school_day``: school days before the date in ``column``, counted from a Monday long ago.

    School days are weekdays less the district's `no_school_days`; the difference of two such counts is the number
    of school days from the first date (included) to the second (not included).
    """
    monday = (pl.col(column) - pl.lit(date(1969, 12, 29))).dt.total_days()
    weekdays = monday // 7 * 5 + pl.min_horizontal(monday % 7, pl.lit(5, pl.Int64))
    free = [
        (district, day, count)
        for district, policy in sorted(policies.items())
        for count, day in enumerate(sorted({d for d in policy.no_school_days if d.weekday() < 5}), start=1)
    ]
    if not free:
        return frame.with_columns(weekdays.alias(f"{column}_school_day"))
    schema = {"district_id": pl.String, "free_on": pl.Date, "free_days": pl.Int64}
    counts = (
        frame.select("district_id", column)
        .unique()
        .drop_nulls()
        .sort(column)
        .join_asof(
            pl.LazyFrame(free, schema=schema, orient="row").sort("free_on"),
            left_on=column,
            right_on="free_on",
            by="district_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .select("district_id", column, "free_days")
    )
    return (
        frame.join(counts, on=["district_id", column], how="left")
        .with_columns((weekdays - pl.col("free_days").fill_null(0)).alias(f"{column}_school_day"))
        .drop("free_days")
    )
