"""How well a screening measure told who failed a later test (METHOD 1.6)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy import special

from schemas.contract import columns
from schemas.policy import ACCURACY_RUBRICS, DistrictPolicy
from schemas.projections import ScreeningAccuracy
from transforms.classes import RECOMMENDED
from transforms.intervals import Floats, wilson
from transforms.windows import DISTRICT_YEAR, WINDOW

_GROUP = [*WINDOW, "measure", "grade", "outcome_measure"]
TOLERANCE = 1e-9
"""A share or bound this near to a threshold is on it."""
_Z = float(special.ndtri(0.975))


class Predicted(NamedTuple):
    """What a screening of this sensitivity and specificity says where a share ``base_rate`` fails, by Bayes."""

    ppv: Floats
    npv: Floats
    flagged_share: Floats


def screening_accuracy(
    needs: pl.LazyFrame, screening: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.DataFrame:
    """Compare screenings with the outcome test that the policy names, where one was taken later the same year.

    At risk is who is below the tier 2 cut. Failed is who is in need by the outcome test's own cut rule, in the last
    window with a result. Students of whom either is not known, and screenings on the day of the outcome test or
    after it, are left out. Nothing is said of a district without an outcome test.

    Args:
        needs: ``NeedLevel`` rows; give levels, scores and who failed.
        screening: ``ScreeningResult`` rows; give the days.
        policies: Policy of each district.

    Returns:
        ``ScreeningAccuracy`` rows without ``input_id``.
    """
    rules = _rules(policies)
    days = screening.select("district_id", "natural_key", "occurred_on")
    dated = needs.join(days, on=["district_id", "natural_key"], how="left").join(rules, on="district_id")
    is_outcome = pl.col("measure") == pl.col("outcome_measure")
    outcomes = (
        dated.filter(is_outcome, pl.col("is_in_need").is_not_null(), pl.col("occurred_on").is_not_null())
        .sort("occurred_on")
        .unique([*DISTRICT_YEAR, "subject_key"], keep="last", maintain_order=True)
        .select(*DISTRICT_YEAR, "subject_key", has_failed="is_in_need", outcome_on="occurred_on")
    )
    pairs = (
        dated.filter(~is_outcome, pl.col("need_level").is_not_null())
        .join(outcomes, on=[*DISTRICT_YEAR, "subject_key"])
        .filter(pl.col("occurred_on") < pl.col("outcome_on"))
        .with_columns(is_at_risk=pl.col("need_level").is_in(RECOMMENDED))
        .collect()
    )
    return _rated(_with_intervals(_with_auc(pairs)), rules.collect())


def _rules(policies: Mapping[str, DistrictPolicy]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [
            (
                district,
                policy.accuracy.outcome_measure,
                policy.accuracy.auc_interval,
                policy.accuracy.rubric,
                policy.classes.tau_low,
            )
            for district, policy in sorted(policies.items())
            if policy.accuracy.outcome_measure is not None
        ],
        schema={
            "district_id": pl.String,
            "outcome_measure": pl.String,
            "auc_interval": pl.String,
            "rubric": pl.String,
            "healthy_base_rate": pl.Float64,
        },
        orient="row",
    )


def _with_auc(pairs: pl.DataFrame) -> pl.DataFrame:
    """Counts of each group, its AUC from midranks, and both standard errors.

    DeLong's goes by each student's own share of the others outscored: the rank among all less the rank among those
    of the same outcome, over the number of the other outcome.
    """
    failed, at_risk = pl.col("has_failed"), pl.col("is_at_risk")
    same = [*_GROUP, "has_failed"]
    others = pl.len().over(_GROUP) - pl.len().over(same)
    ranked = pairs.with_columns(
        share_below=(pl.col("score").rank().over(_GROUP) - pl.col("score").rank().over(same)) / others
    )
    spread = pl.col("share_below").sort()
    sums = ranked.group_by([*_GROUP, "auc_interval"]).agg(
        students=pl.len().cast(pl.Int64),
        true_positives=(at_risk & failed).sum().cast(pl.Int64),
        false_positives=(at_risk & ~failed).sum().cast(pl.Int64),
        false_negatives=(~at_risk & failed).sum().cast(pl.Int64),
        true_negatives=(~at_risk & ~failed).sum().cast(pl.Int64),
        auc=spread.filter(~failed.sort_by("share_below")).mean(),
        spread_passed=spread.filter(~failed.sort_by("share_below")).var(),
        spread_failed=spread.filter(failed.sort_by("share_below")).var(),
    )
    n_failed = (pl.col("true_positives") + pl.col("false_negatives")).cast(pl.Float64)
    n_passed = (pl.col("false_positives") + pl.col("true_negatives")).cast(pl.Float64)
    a = pl.col("auc")
    hanley_mcneil = (
        a * (1 - a) + (n_failed - 1) * (a / (2 - a) - a * a) + (n_passed - 1) * (2 * a * a / (1 + a) - a * a)
    ) / (n_failed * n_passed)
    delong = pl.col("spread_passed") / n_passed + pl.col("spread_failed") / n_failed
    error = pl.when(pl.col("auc_interval") == "delong").then(delong).otherwise(hanley_mcneil).sqrt()
    is_defined = (n_failed > 0) & (n_passed > 0)
    return (
        sums.with_columns(auc=pl.when(is_defined).then("auc"))
        .with_columns(auc_standard_error=pl.when(is_defined).then(error))
        .with_columns(
            pl.col("auc", "auc_standard_error").round(9),
            auc_low=(a - _Z * pl.col("auc_standard_error")).clip(0, 1).round(9),
            auc_high=(a + _Z * pl.col("auc_standard_error")).clip(0, 1).round(9),
        )
        .sort(_GROUP, nulls_last=True)
    )


def _with_intervals(groups: pl.DataFrame) -> pl.DataFrame:
    """Each share with its Wilson interval; null where it is a share of nobody."""
    right_low, right_high = groups["true_positives"], groups["true_negatives"]
    failed, flagged = right_low + groups["false_negatives"], right_low + groups["false_positives"]
    passed = right_high + groups["false_positives"]
    shares = {
        "sensitivity": (right_low, failed),
        "specificity": (right_high, passed),
        "ppv": (right_low, flagged),
        "npv": (right_high, groups["students"] - flagged),
        "base_rate": (failed, groups["students"]),
    }
    made = []
    for name, (part, whole) in shares.items():
        y, n = part.to_numpy(), whole.to_numpy()
        low, high = wilson(y, n)
        made += [
            pl.Series(name, y / np.where(n > 0, n, np.nan)),
            pl.Series(f"{name}_low", low),
            pl.Series(f"{name}_high", high),
        ]
    return groups.with_columns(each.fill_nan(None) for each in made)


def predictive_values(sensitivity: ArrayLike, specificity: ArrayLike, base_rate: ArrayLike) -> Predicted:
    """Bayes: of those screened below the cut, who fails; of the others, who passes; and how many are below it."""
    caught, cleared, rate = (np.asarray(each, np.float64) for each in (sensitivity, specificity, base_rate))
    hit, clear = caught * rate, cleared * (1 - rate)
    flagged = hit + (1 - rate - clear)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Predicted(ppv=hit / flagged, npv=clear / (1 - flagged), flagged_share=flagged)


def _rated(groups: pl.DataFrame, rules: pl.DataFrame) -> pl.DataFrame:
    """Add the rubric's rating and what the same screening would say of a class that is well."""
    reached = pl.coalesce(
        pl.when(
            pl.col("rubric") == rubric,
            pl.col("auc_low") >= auc - TOLERANCE,
            pl.col("sensitivity") >= sensitivity - TOLERANCE,
            pl.col("specificity") >= specificity - TOLERANCE,
        ).then(pl.lit(level))
        for rubric, levels in ACCURACY_RUBRICS.items()
        for level, (auc, sensitivity, specificity) in levels.items()
    )
    rows = groups.join(rules.drop("outcome_measure", "auc_interval"), on="district_id", maintain_order="left")
    healthy = predictive_values(
        rows["sensitivity"].to_numpy(), rows["specificity"].to_numpy(), rows["healthy_base_rate"].to_numpy()
    )
    return rows.with_columns(
        pl.Series("healthy_flagged_share", healthy.flagged_share).fill_nan(None).round(9),
        pl.Series("healthy_ppv", healthy.ppv).fill_nan(None).round(9),
        rating=pl.when(pl.col("auc_low").is_not_null()).then(pl.coalesce(reached, pl.lit("none"))),
    ).select(name for name in columns(ScreeningAccuracy) if name != "input_id")
