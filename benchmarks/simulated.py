"""Simulated districts, where the true need rate of every class is known: who is flagged wrongly, and what a posterior
is worth. Rates, sizes and students are drawn with the seed given; districts never see each other.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from schemas.policy import ClassRule
from transforms import priors, two_level
from transforms.discovery import believed, discovered
from transforms.intervals import Floats, tail_at_least
from transforms.priors import ClassCounts, Counts

RULE = ClassRule()
TENTHS = 10
_FEWEST, _MOST = 16, 29
"""Students tested in a class, the second not reached (METHOD 3.4)."""
_SURE = 1.959964
"""Standard errors on either side of a 95 % interval."""


class Rates(NamedTuple):
    """A row of METHOD 3.4's table: rates ~ Beta(alpha, beta), and what the method found, as false share and power."""

    alpha: float
    beta: float
    classes: int
    raw: tuple[float, float]
    posterior: tuple[float, float]
    tails: tuple[float, float]


METHOD_ROWS = (
    Rates(2.4, 9.6, 40, (0.220, 0.76), (0.074, 0.42), (0.003, 0.12)),
    Rates(2.4, 9.6, 12, (0.200, 0.77), (0.068, 0.39), (0.011, 0.16)),
    Rates(6, 34, 40, (0.578, 0.60), (0.216, 0.03), (0.000, 0.01)),
    Rates(3, 9, 40, (0.136, 0.81), (0.063, 0.61), (0.006, 0.23)),
    Rates(4, 6, 40, (0.029, 0.91), (0.027, 0.90), (0.002, 0.61)),
)


def flag_errors(rates: Rates, districts: int, seed: int) -> dict[str, tuple[float, float]]:
    """False share of all flags and power, pooled over districts, of the three rules of METHOD 3.4.

    `raw`: the share is above tau. `posterior`: one-level prior, Bayesian false discovery, floor, own evidence.
    `tails`: Benjamini-Hochberg on the exact binomial tails. A flag is right where the true rate is above tau.
    """
    rng = np.random.default_rng(seed)
    rate = rng.beta(rates.alpha, rates.beta, districts * rates.classes)
    n = rng.integers(_FEWEST, _MOST, rate.size)
    y = rng.binomial(n, rate)
    of = np.repeat(np.arange(districts), rates.classes)
    fitted = priors.fit(y, n, np.arange(0, rate.size, rates.classes))
    chance = priors.posterior(_counts(y, n), fitted.mean[of], fitted.strength[of]).p_above
    rows = pl.DataFrame({"district": of, "chance": chance, "tail": tail_at_least(y, n, RULE.tau)}).with_columns(
        share=pl.lit(RULE.false_discovery)
    )
    own, true = y > _limit(n), rate > RULE.tau
    sure = believed(rows, "chance", ["district"], "share").to_numpy() & (chance >= RULE.flag_probability)
    tails = discovered(rows, "tail", ["district"], "share").to_numpy()
    return {
        name: (float((found & ~true).sum() / found.sum()), float((found & true).sum() / true.sum()))
        for name, found in (("raw", own), ("posterior", sure & own), ("tails", tails))
    }


class World(NamedTuple):
    """How districts are made: schools in each, fewest and most classes in a school, what breaks the model; and
    whether the fit is told the strengths and means it would otherwise estimate."""

    name: str
    schools: int
    classes: tuple[int, int]
    broken: str = ""
    is_told: bool = False


WORLDS = (
    World("as the model says", 8, (1, 4)),
    World("parameters known", 8, (1, 4), is_told=True),
    World("small districts", 3, (3, 4)),
    World("no class effects", 8, (1, 4), "classes"),
    World("heavy-tailed schools", 8, (1, 4), "schools"),
)


def findings(world: World, districts: int, seed: int) -> pl.DataFrame:
    """Fit every district with two levels and put what is true beside what is said.

    A district has one grade; its mean is uniform on .10 to .35, its strengths log-uniform on 6 to 60 (schools) and 8
    to 80 (classes). Without class effects a class has its school's rate. Heavy-tailed are logits of the school
    means: Student's t with 2 degrees of freedom, as wide at its quartiles as the normal one would be.

    Returns:
        One row per class: `district`, `school`, `p_above` and `is_above` (tau), `p_above_school` and
        `is_above_school` (p > m), `p_school` and `is_school` (m > tau, the same for all classes of a school),
        `is_outlier`.
    """
    rng = np.random.default_rng(seed)
    mean = rng.uniform(0.10, 0.35, districts)
    between, within = (np.exp(rng.uniform(np.log(low), np.log(high), districts)) for low, high in ((6, 60), (8, 80)))
    group = np.repeat(np.arange(districts), world.schools)
    m = _school_means(world, mean[group], between[group], rng)
    school = np.repeat(np.arange(m.size), rng.integers(world.classes[0], world.classes[1] + 1, m.size))
    power = within[group[school]]
    rate = m[school] if world.broken == "classes" else rng.beta(m[school] * power, (1 - m[school]) * power)
    n = rng.integers(_FEWEST, _MOST, rate.size)
    y = rng.binomial(n, rate)
    said = two_levels(y, n, school, group, (mean, within, between) if world.is_told else None)
    return pl.DataFrame(
        {
            "district": group[school],
            "school": school,
            "p_above": said.p_above,
            "is_above": rate > RULE.tau,
            "p_above_school": said.p_above_school,
            "is_above_school": rate > m[school],
            "p_school": said.school_p_above[school],
            "is_school": m[school] > RULE.tau,
            "is_outlier": is_outlier(said, y, n),
        }
    )


def two_levels(
    y: Counts,
    n: Counts,
    school: NDArray[np.intp],
    group: NDArray[np.intp],
    told: tuple[Floats, Floats, Floats] | None = None,
) -> two_level.Posterior:
    """The project's fit under the default rule, or its posterior under the parameters told.

    Args:
        y: In need, per class.
        n: Tested, per class.
        school: School of each class, from 0 up.
        group: Group of each school, from 0 up.
        told: Mean, strength of classes and strength of schools of each group; absent: they are fitted.
    """
    groups = int(group[-1]) + 1
    tau, excess = np.full(groups, RULE.tau), np.full(groups, RULE.excess)
    classes = two_level.Classes(y, n, n, _limit(n), school, group, tau, excess)
    return two_level.infer(classes, *told)[1] if told else two_level.fit(classes)[1]


def one_level(y: Counts, n: Counts, group: NDArray[np.intp]) -> priors.Posterior:
    """The same with one level; `group` of each class, from 0 up."""
    fitted = priors.fit(y, n, np.searchsorted(group, np.arange(group[-1] + 1)))
    return priors.posterior(_counts(y, n), fitted.mean[group], fitted.strength[group])


def is_outlier(said: two_level.Posterior, y: Counts, n: Counts) -> NDArray[np.bool_]:
    """Probably above tau, by its own share too, and probably well above its school's grade."""
    apart = (said.p_above_school >= RULE.outlier_probability) & (said.p_excess >= RULE.excess_probability)
    return apart & (said.p_above >= RULE.flag_probability) & (y > _limit(n))


def calibration(rows: pl.DataFrame, chance: str, truth: str) -> pl.DataFrame:
    """Posterior against truth in tenths: `tenth`, `classes`, `said`, `true`, `low`, `high`.

    The 95 % interval counts districts, not classes: those of a district share a fit and are wrong together.
    """
    binned = rows.select(
        "district", chance=chance, truth=pl.col(truth).cast(pl.Float64), tenth=_tenth(chance)
    ).with_columns(off=pl.col("truth") - pl.col("truth").mean().over("tenth"))
    error = (
        binned.group_by("tenth", "district")
        .agg(pl.col("off").sum())
        .group_by("tenth")
        .agg(error=pl.col("off").pow(2).sum().sqrt())
    )
    reach = _SURE * pl.col("error") / pl.col("classes")
    return (
        binned.group_by("tenth")
        .agg(classes=pl.len(), said=pl.col("chance").mean(), true=pl.col("truth").mean())
        .join(error, on="tenth")
        .with_columns(low=(pl.col("true") - reach).clip(0, 1), high=(pl.col("true") + reach).clip(0, 1))
        .drop("error")
        .sort("tenth")
    )


def _tenth(chance: str) -> pl.Expr:
    return (pl.col(chance) * TENTHS).floor().clip(0, TENTHS - 1).cast(pl.Int64)


def _school_means(world: World, mean: Floats, strength: Floats, rng: np.random.Generator) -> Floats:
    if world.broken != "schools":
        return rng.beta(mean * strength, (1 - mean) * strength)
    quartiles = special.ndtri(0.75) / special.stdtrit(2, 0.75)
    wide = quartiles / np.sqrt(mean * (1 - mean) * strength)
    return np.clip(special.expit(special.logit(mean) + wide * rng.standard_t(2, mean.size)), 1e-4, 1 - 1e-4)


def _limit(n: Counts) -> Counts:
    """Most in need that are not above tau: an integer for tau of one fifth."""
    return n * round(100 * RULE.tau) // 100


def _counts(y: Counts, n: Counts) -> ClassCounts:
    return ClassCounts(y, n, n, _limit(n), np.full(len(n), RULE.tau))
