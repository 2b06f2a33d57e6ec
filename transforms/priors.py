"""Beta priors of the need rates of classes, fitted to many groups of classes at once (METHOD 3.3).

A group is a run of neighbouring rows, given by where each begins. Every count is of one class; groups are not empty.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from transforms.intervals import p_full_class_above
from transforms.maximise import Derivatives, Floats, Places, maximise

Counts = NDArray[np.int64]

STRENGTHS = (1.0, 200.0)
"""Least and greatest strength of a prior, in students; at the greatest, classes cannot be told apart."""
LOGIT_MEANS = (-6.0, 6.0)
_STARTS = (5.0, 50.0)
_CLEARLY = 1e-6
"""A later start must be better by this to be taken."""
_GRID, _GRID_GROUPS = 241, 64
"""Points on each side of the grid, and groups that are held in memory together."""
_GRID_MEANS, _GRID_LOGS = (-4.0, 2.0), (0.0, float(np.log(500.0)))


class Moments(NamedTuple):
    """Kleinman's estimates; without overdispersion `strength` is infinite."""

    mean: Floats
    spread: Floats
    correlation: Floats
    strength: Floats


class Prior(NamedTuple):
    """Mean and strength (alpha + beta) of each group's Beta prior."""

    mean: Floats
    strength: Floats
    loglik: Floats
    at_bound: NDArray[np.bool_]


class Posterior(NamedTuple):
    """Of each class: mean, P(p > tau), and the chance that all enrolled are above it if the untested are missing at
    random."""

    mean: Floats
    p_above: Floats
    p_above_if_all_tested: Floats


class ClassCounts(NamedTuple):
    """Counts of classes: in need, tested, enrolled; the most in need of all enrolled not above tau; tau."""

    y: Counts
    n: Counts
    enrolled: Counts
    limit: Counts
    tau: Floats


@dataclass(frozen=True)
class Rising:
    """Rows of counts, ready for sums of `ln z + ln (z + 1) + ...` over every count of a row.

    A sum over a count is the logarithm of a ratio of gamma functions; summing the steps is faster, exact for small
    `z` and gives both derivatives on the way. Rows stand longest first, so that a step touches only rows it reaches.
    """

    order: Places
    counts: Floats
    reached: Places

    @classmethod
    def of(cls, row: Places, count: Counts, rows: int) -> "Rising":
        """Collect counts by their row; a count of 0 adds nothing."""
        longest = int(count.max(initial=0))
        ends = np.zeros((rows, longest + 1))
        np.add.at(ends, (row, count), 1.0)
        counts = ends[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        lengths = (counts > 0).sum(axis=1)
        order = np.argsort(-lengths, kind="stable")
        reached = (lengths[:, None] > np.arange(longest)).sum(axis=0)
        return cls(order, np.ascontiguousarray(counts[order].T), reached)

    def logs(self, z: Floats) -> Floats:
        """Sum of the logarithms; `z` is `[row]` or `[row, node]`."""
        z = z[self.order]
        total = np.zeros_like(z)
        for step, (many, reached) in enumerate(zip(self.counts, self.reached, strict=True)):
            total[:reached] += _column(many[:reached], z) * np.log(z[:reached] + step)
        return self._back(total)

    def sums(self, z: Floats) -> Derivatives:
        """The sum with its first derivative and the second's negative."""
        z = z[self.order]
        total, first, second = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
        for step, (many, reached) in enumerate(zip(self.counts, self.reached, strict=True)):
            times, at = _column(many[:reached], z), z[:reached] + step
            total[:reached] += times * np.log(at)
            slope = times / at
            first[:reached] += slope
            second[:reached] += slope / at
        return self._back(total), self._back(first), self._back(second)

    def _back(self, values: Floats) -> Floats:
        made = np.empty_like(values)
        made[self.order] = values
        return made


def _column(values: Floats, like: Floats) -> Floats:
    return values[:, None] if like.ndim > 1 else values


def moments(y: ArrayLike, n: ArrayLike, begins: ArrayLike) -> Moments:
    """Estimates by moments, classes weighted by size (Kleinman 1973)."""
    y, n, begins = np.asarray(y, np.float64), np.asarray(n, np.float64), np.asarray(begins, np.intp)
    classes = np.diff(np.append(begins, len(y)))
    students = np.add.reduceat(n, begins)
    mean = np.add.reduceat(y, begins) / students
    gaps = n * (y / n - np.repeat(mean, classes)) ** 2
    spread = np.add.reduceat(gaps, begins)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = spread / (mean * (1 - mean)) - (classes - 1)
        room = students - np.add.reduceat(n * n, begins) / students - (classes - 1)
        correlation = excess / room
        strength = np.where(correlation > 0, (1 - correlation) / correlation, np.inf)
    return Moments(mean, spread, correlation, strength)


def tarone(y: ArrayLike, n: ArrayLike, begins: ArrayLike) -> Floats:
    """Tarone's z: how much more the classes of a group differ than chance; null where all or nobody is in need."""
    y, n, begins = np.asarray(y, np.float64), np.asarray(n, np.float64), np.asarray(begins, np.intp)
    classes = np.diff(np.append(begins, len(y)))
    students = np.add.reduceat(n, begins)
    mean = np.add.reduceat(y, begins) / students
    with np.errstate(divide="ignore", invalid="ignore"):
        gaps = np.add.reduceat((y - n * np.repeat(mean, classes)) ** 2, begins) / (mean * (1 - mean))
        return (gaps - students) / np.sqrt(2 * np.add.reduceat(n * (n - 1), begins))


def beta_derivatives(by_ab: Derivatives, mean: Floats, strength: Floats) -> Derivatives:
    """Derivatives by (alpha, beta, others...) as derivatives by (logit mean, ln strength, others...)."""
    value, gradient, hessian = by_ab
    a, b, d = mean * strength, (1 - mean) * strength, strength * mean * (1 - mean)
    size = gradient.shape[1]
    turn = np.broadcast_to(np.eye(size), hessian.shape).copy()
    turn[:, 0, 0], turn[:, 0, 1] = d, -d
    turn[:, 1, 0], turn[:, 1, 1] = a, b
    turned = np.einsum("gpi,gij,gqj->gpq", turn, hessian, turn)
    tilt = gradient[:, 0] - gradient[:, 1]
    turned[:, 0, 0] += d * (1 - 2 * mean) * tilt
    turned[:, 1, 1] += a * gradient[:, 0] + b * gradient[:, 1]
    turned[:, 0, 1] += d * tilt
    turned[:, 1, 0] += d * tilt
    return value, np.einsum("gpi,gi->gp", turn, gradient), turned


def fit(y: ArrayLike, n: ArrayLike, begins: ArrayLike) -> Prior:
    """Marginal maximum likelihood of one Beta prior per group, the best of the starts: moments, 5 and 50.

    Args:
        y: In need, per class.
        n: ClassCounts, per class; above 0.
        begins: First row of each group.

    Returns:
        The prior; `loglik` is without binomial coefficients, `at_bound` means the greatest strength.
    """
    y, n, begins = np.asarray(y, np.int64), np.asarray(n, np.int64), np.asarray(begins, np.intp)
    groups = len(begins)
    low = np.array([LOGIT_MEANS[0], np.log(STRENGTHS[0])])
    high = np.array([LOGIT_MEANS[1], np.log(STRENGTHS[1])])
    if not groups:
        return Prior(np.empty(0), np.empty(0), np.empty(0), np.empty(0, np.bool_))
    of = np.repeat(np.arange(groups), np.diff(np.append(begins, len(y))))
    found = moments(y, n, begins)
    with np.errstate(divide="ignore"):
        logits = np.clip(special.logit(found.mean), *LOGIT_MEANS)
    first = np.log(np.clip(found.strength, *STRENGTHS))
    best, loglik = np.empty((groups, 2)), np.full(groups, -np.inf)
    for strength in (first, *(np.full(groups, np.log(each)) for each in _STARTS)):
        problem = _OneLevel(y, n, of)
        point, value = maximise(problem.evaluate, np.clip(np.c_[logits, strength], low, high), low, high)
        better = value > loglik + _CLEARLY
        best[better], loglik[better] = point[better], value[better]
    return Prior(special.expit(best[:, 0]), np.exp(best[:, 1]), loglik, best[:, 1] >= high[1])


class _OneLevel:
    """The marginal likelihood of every group; keeps the counts of the groups asked for last."""

    def __init__(self, y: Counts, n: Counts, of: Places) -> None:
        self.y, self.n, self.of = y, n, of
        self.rising: tuple[Rising, Rising, Rising] | None = None
        self.groups = -1

    def evaluate(self, groups: Places, point: Floats) -> Derivatives:
        if self.rising is None or len(groups) != self.groups:
            place = np.full(self.of.max() + 1, -1)
            place[groups] = np.arange(len(groups))
            row = place[self.of]
            kept = row >= 0
            row, y, n = row[kept], self.y[kept], self.n[kept]
            self.rising = (
                Rising.of(row, y, len(groups)),
                Rising.of(row, n - y, len(groups)),
                Rising.of(row, n, len(groups)),
            )
            self.groups = len(groups)
        mean, strength = special.expit(point[:, 0]), np.exp(point[:, 1])
        parts = (mean * strength, (1 - mean) * strength, strength)
        (la, ga, ha), (lb, gb, hb), (lm, gm, hm) = (r.sums(z) for r, z in zip(self.rising, parts, strict=True))
        hessian = np.stack([np.stack([hm - ha, hm], -1), np.stack([hm, hm - hb], -1)], -2)
        return beta_derivatives((la + lb - lm, np.stack([ga - gm, gb - gm], -1), hessian), mean, strength)


def posterior(classes: ClassCounts, mean: ArrayLike, strength: ArrayLike) -> Posterior:
    """What Beta(alpha + y, beta + n - y) says of each class, its prior given per class."""
    mean, strength = np.asarray(mean, np.float64), np.asarray(strength, np.float64)
    y, n, enrolled, limit, tau = classes
    a, b = mean * strength + y, (1 - mean) * strength + n - y
    whole = p_full_class_above(y, n, enrolled, limit, a, b)
    return Posterior(a / (a + b), special.betainc(b, a, 1 - tau), whole)


def reliability(n: ArrayLike, strength: ArrayLike) -> Floats:
    """Weight of the class's own share in its estimate: n / (n + strength)."""
    n = np.asarray(n, np.float64)
    return n / (n + np.asarray(strength, np.float64))


def full_bayes(classes: ClassCounts, begins: ArrayLike) -> tuple[Posterior, Floats, Floats]:
    """Average over a grid of priors instead of the likeliest one: 241 logit means from -4 to 2, 241 ln strengths.

    The hyperprior is proportional to (alpha + beta)^-2.5 in alpha and beta (Gelman et al.). Slower than ``fit`` by
    two orders of magnitude.

    Args:
        classes: Classes in order of group.
        begins: First row of each group.

    Returns:
        Of each class, its posterior; of each group, the expected mean and ln strength of its prior.
    """
    begins = np.asarray(begins, np.intp)
    ends = np.append(begins, len(classes.y))[1:]
    means, logs = np.empty(len(begins)), np.empty(len(begins))
    found = Posterior(*(np.empty(len(classes.y)) for _ in Posterior._fields))
    for first in range(0, len(begins), _GRID_GROUPS):
        groups = slice(first, first + _GRID_GROUPS)
        rows = slice(begins[first], ends[groups][-1])
        some = ClassCounts(*(each[rows] for each in classes))  # type: ignore[arg-type]
        of = np.repeat(np.arange(len(ends[groups])), (ends - begins)[groups])
        part, means[groups], logs[groups] = _average(some, of)
        for whole, each in zip(found, part, strict=True):
            whole[rows] = each
    return found, means, logs


def _average(classes: ClassCounts, of: Places) -> tuple[Posterior, Floats, Floats]:
    means = np.repeat(special.expit(np.linspace(*_GRID_MEANS, _GRID)), _GRID)
    logs = np.tile(np.linspace(*_GRID_LOGS, _GRID), _GRID)
    a, b = means * np.exp(logs), (1 - means) * np.exp(logs)
    groups = int(of[-1]) + 1
    density = np.log(a) + np.log(b) - 2.5 * logs + np.zeros((groups, 1))
    for count, z, sign in ((classes.y, a, 1), (classes.n - classes.y, b, 1), (classes.n, a + b, -1)):
        steps = np.arange(int(count.max(initial=0)))
        reached = np.zeros((groups, len(steps)))
        np.add.at(reached, of, count[:, None] > steps)
        density += sign * (reached @ np.log(z + steps[:, None]))
    weight = special.softmax(density, axis=1)
    found = Posterior(*(np.empty(len(of)) for _ in Posterior._fields))
    # Classes with equal counts share their work; what differs is the weight of their group.
    kinds, kind = np.unique(np.stack(np.broadcast_arrays(*classes), -1), axis=0, return_inverse=True)
    for place, counts in enumerate(kinds):
        rows = np.flatnonzero(kind == place)
        said = posterior(ClassCounts(*counts), means, np.exp(logs))
        for whole, each in zip(found, said, strict=True):
            whole[rows] = weight[of[rows]] @ each
    return found, weight @ means, weight @ logs
