"""Tiers by a state machine over windows that does not flap (METHOD 1.5); what it reads is made in ``tier_inputs``."""

import polars as pl

from schemas.contract import columns, empty
from schemas.projections import SEASONS, TierPlacement
from transforms.classes import season_rank
from transforms.windows import DISTRICT_YEAR

STUDENT_YEAR = [*DISTRICT_YEAR, "subject_key"]
TOLERANCE = 1e-9
"""A probability this near to a threshold is on it."""


def tier_states(
    inputs: pl.DataFrame, before: pl.DataFrame | None = None, elsewhere: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Recommend a tier in each window of a year, in order, from what the window says and the tier before.

    A window starts from the team's latest decision before its reference date if that is not older than the last
    recommendation, which resets both streaks and the count of windows without a test; else from that recommendation.
    Only a first test starts at tier 1: without any, the tier is unknown. A student whom no test tells anything of
    keeps the tier for `carry_windows` windows, marked stale; then it is no longer shown, but the next test still
    starts from it. Responses without a conclusion count as none.

    Args:
        inputs: ``placement_inputs`` of any school years, each window of a year by whatever policy it has.
        before: ``TierPlacement`` rows of the school years before these; of each student the last window counts.
        elsewhere: ``TierPlacement`` rows of these years that another district made of the student; they count for the
            windows after theirs, where the student has no row here.

    Returns:
        ``TierPlacement`` rows without ``input_id``, one for each row of ``inputs``.
    """
    if inputs.is_empty():
        return empty(TierPlacement).drop("input_id")
    state = state_after(before)
    made = []
    for season in SEASONS:
        rows = inputs.filter(pl.col("benchmark_window") == season)
        told = _recommended(_started(rows.join(state, on=STUDENT_YEAR, how="left")))
        made.append(told)
        came = _left_by(elsewhere, season).join(told, on=STUDENT_YEAR, how="anti")
        new = pl.concat([_state(told), came])
        state = pl.concat([new, state.join(new, on=STUDENT_YEAR, how="anti")])
    return pl.concat(made).select(
        pl.col(name).cast(dtype) for name, dtype in columns(TierPlacement).items() if name != "input_id"
    )


def state_after(before: pl.DataFrame | None) -> pl.DataFrame:
    """What each student brings into the school year after these placements: one row per student."""
    wanted = columns(TierPlacement)
    rows = pl.DataFrame(schema=wanted) if before is None else before
    following = (pl.col("school_year").cast(pl.Int32, strict=False) + 1).cast(pl.String)
    return _state(
        rows.sort(season_rank(), descending=True)
        .unique(STUDENT_YEAR, keep="first", maintain_order=True)
        .with_columns(school_year=following, last_on="reference_on", state_tier=pl.coalesce("tier", "tier_before"))
    )


def _left_by(elsewhere: pl.DataFrame | None, season: str) -> pl.DataFrame:
    """What another district's window leaves to the next: one row per student."""
    rows = pl.DataFrame(schema=columns(TierPlacement)) if elsewhere is None else elsewhere
    return _state(
        rows.filter(pl.col("benchmark_window") == season).with_columns(
            last_on="reference_on", state_tier=pl.coalesce("tier", "tier_before")
        )
    )


def _state(rows: pl.DataFrame) -> pl.DataFrame:
    """What the next window needs to know of this one."""
    return rows.select(
        *STUDENT_YEAR,
        last_tier="state_tier",
        last_on="last_on",
        last_streak_2="streak_2",
        last_streak_3="streak_3",
        last_without_test="windows_without_test",
        last_assigned_tier="assigned_tier",
        last_assigned_on="assigned_on",
    )


def _started(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the tier, streaks and count they start from."""
    team_tier = pl.coalesce("start_tier", "last_assigned_tier")
    is_newer = (pl.coalesce("start_on", "last_assigned_on") >= pl.col("last_on")).fill_null(value=True)
    by_team = team_tier.is_not_null() & is_newer
    counts = ("last_streak_2", "last_streak_3", "last_without_test")
    return rows.with_columns(
        *(pl.when(~by_team).then(name).fill_null(0).alias(name) for name in counts),
        tier_before=pl.when(by_team).then(team_tier).otherwise("last_tier"),
        tier_before_by=pl.when(by_team)
        .then(pl.lit("team"))
        .when(pl.col("last_tier").is_not_null())
        .then(pl.lit("recommendation")),
    )


def _recommended(rows: pl.DataFrame) -> pl.DataFrame:
    """One step of the machine (METHOD 1.5), with the state it leaves in ``state_tier`` and ``last_on``."""
    is_known, has_tier = pl.col("p_tier_2").is_not_null(), pl.col("tier_before").is_not_null()
    lasts = ~is_known & has_tier & (pl.col("last_without_test") < pl.col("carry_windows"))
    why_not = (
        pl.when(~has_tier)
        .then("unknown_reason")
        .when(~lasts)
        .then(pl.lit("no_test_for_too_long"))
        .when(pl.col("unknown_reason") == "rule_cannot_say")
        .then(pl.lit("carried_forward_rule_cannot_say"))
        .otherwise(pl.lit("carried_forward_no_test"))
    )
    start = pl.col("tier_before").fill_null(1)
    after = (
        pl.when(pl.col("move") == "enter_t3")
        .then(3)
        .when(pl.col("move") == "enter_t2")
        .then(2)
        .when(pl.col("move").str.starts_with("exit"))
        .then(start - 1)
        .otherwise(start)
    )
    moved = is_known & (pl.col("move") != "stay")
    return (
        rows.with_columns(streak_2=_streak("p_tier_2", "last_streak_2"), streak_3=_streak("p_tier_3", "last_streak_3"))
        .with_columns(move=_move())
        .with_columns(
            *(pl.when(moved).then(0).otherwise(name).alias(name) for name in ("streak_2", "streak_3")),
            tier=pl.when(is_known).then(after).when(lasts).then("tier_before"),
            state_tier=pl.when(is_known).then(after).otherwise("tier_before"),
            last_on=pl.coalesce("reference_on", "last_on"),
            is_stale=lasts,
            windows_without_test=pl.when(is_known).then(0).otherwise(pl.col("last_without_test") + 1),
            reason=pl.when(is_known).then("move").otherwise(why_not),
        )
        .with_columns(
            *(pl.when(pl.col("tier") > 1).then(name).alias(name) for name in ("evidence_kinds", "evidence_sources")),
            tier_decided_by=pl.when(pl.col("assigned_tier").is_not_null())
            .then(pl.lit("team"))
            .when(pl.col("tier").is_not_null())
            .then(pl.lit("recommendation")),
        )
    )


def _streak(probability: str, last: str) -> pl.Expr:
    """Windows in a row below the entry probability; a window that says nothing changes nothing."""
    p = pl.col(probability)
    return pl.when(p < pl.col("enter") - TOLERANCE).then(pl.col(last) + 1).when(p.is_null()).then(last).otherwise(0)


def _move() -> pl.Expr:
    """`enter_t2`, `enter_t3`, `exit_confident`, `exit_persistent` or `stay`, where ``p_tier_2`` is known."""
    start = pl.col("tier_before").fill_null(1)
    poor = (pl.col("response") == "poor").fill_null(value=False)
    worrying = pl.col("response").is_in(["questionable", "poor"]).fill_null(value=False)
    is_below_3 = (pl.col("p_tier_3") >= pl.col("enter") - TOLERANCE).fill_null(value=False)
    skips = (start == 1) & pl.col("allow_skip") & pl.col("is_tier_3_corroborated")
    climbs = (start == 2) & (pl.col("is_tier_3_corroborated") | poor)
    p = pl.when(start == 3).then("p_tier_3").otherwise("p_tier_2")
    streak = pl.when(start == 3).then("streak_3").otherwise("streak_2")
    return (
        pl.when(is_below_3 & (skips | climbs))
        .then(pl.lit("enter_t3"))
        .when((start == 1) & (p >= pl.col("enter") - TOLERANCE))
        .then(pl.lit("enter_t2"))
        .when((start > 1) & (p <= pl.col("exit") + TOLERANCE) & ~worrying)
        .then(pl.lit("exit_confident"))
        .when((start > 1) & (p < pl.col("enter") - TOLERANCE) & (streak >= pl.col("streak")) & ~poor)
        .then(pl.lit("exit_persistent"))
        .otherwise(pl.lit("stay"))
    )
