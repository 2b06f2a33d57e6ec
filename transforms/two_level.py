"""Need rates of classes within schools: the two-level prior, fitted to many groups at once (METHOD 3.9).

Within a group, the mean m of a school-grade is Beta(mu phi_school, (1 - mu) phi_school) and the rate of its classes
Beta(m phi_class, (1 - m) phi_class). What depends on m is integrated over logit m.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from transforms import priors
from transforms.intervals import p_full_class_above
from transforms.maximise import Derivatives, Floats, Places, maximise
from transforms.priors import LOGIT_MEANS, STRENGTHS, Counts, Rising

_STARTS = ((5.0, 80.0), (20.0, 20.0), (80.0, 5.0))
"""Strengths of classes and of schools at which the search begins, beside the mean of the one-level fit."""
_CLEARLY = 1e-6
_START_NODES, _START_NEAR = 32, 1e-4
_FEWEST_NODES = 40
_MOST_NODES = 1280
"""Only P(p > m + excess) of a class where everybody is in need can still move then: it has a cliff there."""
_STILL = 1e-6
"""Posteriors that move by less when the nodes are doubled have settled."""
_END = 20.0
"""Beyond +-20 a logit is 0 or 1 to 2e-9: the rest of the prior is one point there."""
_DROP = 17.0
"""Fall of the log density at which the integral is cut: e^-20 is 2e-9."""
_REACHES = np.array([0.3, 0.37, 0.45, 0.53, 0.62, 0.72, 0.83, 0.95, 1.2, 1.6])
_UNHEARD = 1e-10
"""Weight below which a node's probabilities are not worked out."""
_CHUNKS = (250, 3000)
"""Least and most schools whose groups are worked on together: few for one district, so that every processor has some,
more for a state, so that the work done per chunk is little."""
_DIGITS = 9
_OF_SCHOOLS = 2
"""The first fields of ``Posterior``, which are of schools."""


class Fit(NamedTuple):
    """Parameters per group; `loglik` has its binomial coefficients, `at_bound` a strength at its greatest."""

    mean: Floats
    class_strength: Floats
    school_strength: Floats
    loglik: Floats
    at_bound: NDArray[np.bool_]
    nodes: NDArray[np.int64]


class Posterior(NamedTuple):
    """Per school-grade, its mean and P(m > tau); per class, mean, P(p > tau), P(p > m), P(p > m + excess), and the
    chance that all enrolled together are above the threshold if the untested are missing at random."""

    school_mean: Floats
    school_p_above: Floats
    mean: Floats
    p_above: Floats
    p_above_school: Floats
    p_excess: Floats
    p_above_if_all_tested: Floats


class Classes(NamedTuple):
    """Classes in order of group and school-grade, every group with a class and every class with someone tested."""

    y: Counts
    n: Counts
    enrolled: Counts
    limit: Counts
    """Most students in need of all enrolled that are not above the threshold."""
    school: Places
    group: Places
    """Group of each school."""
    tau: Floats
    excess: Floats
    """Threshold and excess of each group."""

    def of_groups(self, groups: Places) -> tuple["Classes", Places, Places]:
        """The classes of these groups, with the places of their classes and schools here."""
        place = np.full(len(self.tau), -1)
        place[groups] = np.arange(len(groups))
        schools = np.flatnonzero(place[self.group] >= 0)
        at = np.full(len(self.group), -1)
        at[schools] = np.arange(len(schools))
        rows = np.flatnonzero(at[self.school] >= 0)
        some = Classes(
            self.y[rows],
            self.n[rows],
            self.enrolled[rows],
            self.limit[rows],
            at[self.school[rows]],
            place[self.group[schools]],
            self.tau[groups],
            self.excess[groups],
        )
        return some, rows, schools


class _Nodes(NamedTuple):
    """Nodes of each school: the last two stand for everything beyond -20 and 20."""

    x: Floats
    log_weight: Floats
    log_m: Floats
    log_rest: Floats
    beyond_low: Floats
    beyond_high: Floats


class _Likelihood:
    """Likelihood of the classes of some groups as a function of the means of their schools."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        y, n, school = classes.y, classes.n, classes.school
        self.schools = len(classes.group)
        self.begins = np.searchsorted(school, np.arange(self.schools))
        self.group_begins = np.searchsorted(classes.group, np.arange(len(classes.tau)))
        rows = np.r_[school, school + self.schools]
        self.rising = Rising.of(rows, np.r_[y, n - y], 2 * self.schools)
        self.total = Rising.of(school, n, self.schools)
        self.with_need = np.add.reduceat((y > 0).astype(float), self.begins)
        self.with_rest = np.add.reduceat((y < n).astype(float), self.begins)
        choices = special.gammaln(n + 1) - special.gammaln(y + 1) - special.gammaln(n - y + 1)
        self.choices = np.add.reduceat(np.add.reduceat(choices, self.begins), self.group_begins)

    def logs(self, log_m: Floats, log_rest: Floats, strength: Floats) -> Floats:
        """Log likelihood of each school at its nodes, less what does not depend on m."""
        made = self.rising.logs(np.exp(np.concatenate([log_m, log_rest])) * np.tile(strength, 2)[:, None])
        return made[: self.schools] + made[self.schools :]

    def ends(self, a: Floats, b: Floats, strength: Floats) -> tuple[Floats, Floats, Floats]:
        """Where the log density of logit m has fallen by 20 on the left, its top, and where on the right.

        The top and the width come from the beta nearest the posterior, the steepness far out from the classes that
        have anyone in need (or out of it); of a few distances in between the first that is far enough is taken.
        """
        y, n = self.classes.y, self.classes.n
        power = strength[self.classes.school]
        heard = (power + 1) / (power + n)
        in_need = a + np.add.reduceat(heard * y, self.begins)
        rest = b + np.add.reduceat(heard * (n - y), self.begins)
        middle = np.clip(np.log(in_need / rest), 1 - _END, _END - 1)[:, None]
        wide = np.sqrt(1 / in_need + 1 / rest)
        left = _reach(wide, a + self.with_need)[:, None] * _REACHES
        right = _reach(wide, b + self.with_rest)[:, None] * _REACHES
        tried = np.clip(np.concatenate([middle, middle - left, middle + right], axis=1), -_END, _END)
        log_rest = -np.log1p(np.exp(tried))
        log_m = tried + log_rest
        height = a[:, None] * log_m + b[:, None] * log_rest + self.logs(log_m, log_rest, strength)
        far = height < height.max(axis=1, keepdims=True) - _DROP
        far[:, len(_REACHES)] = far[:, -1] = True
        rows = np.arange(self.schools)
        low = tried[rows, 1 + far[:, 1 : 1 + len(_REACHES)].argmax(axis=1)]
        high = tried[rows, 1 + len(_REACHES) + far[:, 1 + len(_REACHES) :].argmax(axis=1)]
        return low, middle[:, 0], high

    def evaluate(self, point: Floats, nodes: int) -> Derivatives:
        """Marginal log likelihood of each group by (logit mu, ln phi_school, ln phi_class)."""
        group = self.classes.group
        mean, school_strength, strength = _unpacked(point)
        a, b = (mean * school_strength)[group], ((1 - mean) * school_strength)[group]
        power = strength[group]
        at = _nodes(*self.ends(a, b, power), a, b, nodes)
        both = np.exp(np.concatenate([at.log_m, at.log_rest])) * np.tile(power, 2)[:, None]
        logs, first, second = self.rising.sums(both)
        slope = both * first
        bend = slope - both * both * second
        slope = slope[: self.schools] + slope[self.schools :]
        bend = bend[: self.schools] + bend[self.schools :]
        height = a[:, None] * at.log_m + b[:, None] * at.log_rest + logs[: self.schools] + logs[self.schools :]
        height += at.log_weight
        top = height.max(axis=1, keepdims=True)
        weight = np.exp(height - top)
        mass = weight.sum(axis=1)
        weight /= mass[:, None]
        log_m, log_rest = at.log_m - at.beyond_low, at.log_rest - at.beyond_high
        e = [np.einsum("sk,sk->s", weight, each) for each in (log_m, log_rest, slope)]
        gaps = [each - centre[:, None] for each, centre in zip((log_m, log_rest, slope), e, strict=True)]
        spread = np.stack(
            [np.stack([np.einsum("sk,sk,sk->s", weight, one, other) for other in gaps], -1) for one in gaps], -1
        )
        fixed, fixed_slope, fixed_bend = self.total.sums(power)
        value = top[:, 0] + np.log(mass) - special.betaln(a, b) - fixed
        whole, whole_bend = special.digamma(a + b), special.polygamma(1, a + b)
        gradient = np.stack(
            [e[0] - special.digamma(a) + whole, e[1] - special.digamma(b) + whole, e[2] - power * fixed_slope], -1
        )
        spread[:, 0, 0] += whole_bend - special.polygamma(1, a) + weight[:, -2] / (a * a)
        spread[:, 1, 1] += whole_bend - special.polygamma(1, b) + weight[:, -1] / (b * b)
        spread[:, 0, 1] += whole_bend
        spread[:, 1, 0] += whole_bend
        spread[:, 2, 2] += np.einsum("sk,sk->s", weight, bend) - power * fixed_slope + power * power * fixed_bend
        summed = [np.add.reduceat(each, self.group_begins) for each in (value, gradient, spread)]
        summed[0] += self.choices
        # The third parameter is a logarithm already; the first two are turned from (alpha, beta).
        return priors.beta_derivatives((summed[0], summed[1], summed[2]), mean, school_strength)


def _unpacked(point: Floats) -> tuple[Floats, Floats, Floats]:
    return special.expit(point[:, 0]), np.exp(point[:, 1]), np.exp(point[:, 2])


def _reach(wide: Floats, steepest: Floats) -> Floats:
    """Distance over which a bell that goes on as a straight line, once as steep as that, falls by 20."""
    bell = np.sqrt(2 * _DROP) * wide
    return np.where(steepest * wide > np.sqrt(2 * _DROP), bell, _DROP / steepest + steepest * wide * wide / 2)


@cache
def _legendre(nodes: int) -> tuple[Floats, Floats]:
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return places, weights


def _nodes(low: Floats, middle: Floats, high: Floats, a: Floats, b: Floats, nodes: int) -> _Nodes:
    """Gauss-Legendre with half the nodes on either side of the middle, where they lie closest together.

    An end at -20 or 20 has one more node for everything beyond it, where the likelihood stands still and the prior
    falls as e^(a x), whose integral is e^(a x) / a.
    """
    places, weights = _legendre(nodes // 2)
    below, above = (middle - low)[:, None] / 2, (high - middle)[:, None] / 2
    ends = np.broadcast_to([-_END, _END], (len(low), 2))
    x = np.concatenate([low[:, None] + below * (1 + places), high[:, None] - above * (1 - places), ends], axis=1)
    log_rest = -np.log1p(np.exp(x))
    beyond_low, beyond_high = np.zeros_like(x), np.zeros_like(x)
    beyond_low[:, -2], beyond_high[:, -1] = 1 / a, 1 / b
    tails = np.stack([np.where(low <= -_END, -np.log(a), -np.inf), np.where(high >= _END, -np.log(b), -np.inf)], -1)
    log_weight = np.concatenate([np.log(below * weights), np.log(above * weights), tails], axis=1)
    return _Nodes(x, log_weight, x + log_rest, log_rest, beyond_low, beyond_high)


def fit(classes: Classes) -> tuple[Fit, Posterior]:
    """Fit every group by marginal likelihood and say what follows for its schools and classes.

    The best of three starts is taken. Nodes are doubled, from 40 on, until no posterior of the group moves by
    1e-6, so at least 80 decide; results are rounded to nine decimals. Groups do not see each other.
    """
    return _by_chunks(classes, np.full((len(classes.tau), 3), np.nan))


def infer(
    classes: Classes, mean: ArrayLike, class_strength: ArrayLike, school_strength: ArrayLike
) -> tuple[Fit, Posterior]:
    """The same with the parameters of each group given."""
    given = np.c_[special.logit(mean), np.log(school_strength), np.log(class_strength)]
    return _by_chunks(classes, given)


def _by_chunks(classes: Classes, given: Floats) -> tuple[Fit, Posterior]:
    groups, schools, rows = len(classes.tau), len(classes.group), len(classes.y)
    posterior = _nothing(schools, rows)
    point, loglik, nodes = np.empty((groups, 3)), np.empty(groups), np.empty(groups, np.int64)
    chunk_of = np.searchsorted(classes.group, np.arange(groups)) // int(np.clip(schools // 4, *_CHUNKS))
    chunks = np.split(np.arange(groups), np.flatnonzero(np.diff(chunk_of)) + 1) if groups else []
    parts = [classes.of_groups(chunk) for chunk in chunks]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        settled = pool.map(_settle, (some for some, _, _ in parts), (given[chunk] for chunk in chunks))
        for chunk, (_, row_places, school_places), made in zip(chunks, parts, settled, strict=True):
            point[chunk], loglik[chunk], nodes[chunk] = made[:3]
            for number, (whole, part) in enumerate(zip(posterior, made[3], strict=True)):
                whole[school_places if number < _OF_SCHOOLS else row_places] = part
    at_bound = (point[:, 1:] >= np.log(STRENGTHS[1])).any(axis=1)
    mean, school_strength, strength = (each.round(_DIGITS) for each in _unpacked(point))
    made_fit = Fit(mean, strength, school_strength, loglik.round(_DIGITS), at_bound, nodes)
    return made_fit, Posterior(*(each.round(_DIGITS) for each in posterior))


def _nothing(schools: int, classes: int) -> Posterior:
    sizes = (schools if number < _OF_SCHOOLS else classes for number in range(len(Posterior._fields)))
    return Posterior(*(np.full(size, np.inf) for size in sizes))


def _settle(classes: Classes, given: Floats) -> tuple[Floats, Floats, NDArray[np.int64], Posterior]:
    """Double the nodes of each group until its posteriors stand still."""
    is_given = np.isfinite(given).all()
    point = given.copy() if is_given else _best_start(classes)
    posterior = _nothing(len(classes.group), len(classes.y))
    loglik, used = np.empty(len(point)), np.empty(len(point), np.int64)
    moving, nodes = np.arange(len(point)), _FEWEST_NODES
    while len(moving):
        some, rows, schools = classes.of_groups(moving)
        likelihood = _Likelihood(some)
        if is_given:
            loglik[moving] = likelihood.evaluate(point[moving], nodes)[0]
        else:
            point[moving], loglik[moving] = _climb(some, point[moving], nodes)
        now = _posterior(likelihood, point[moving], nodes)
        change = np.zeros(len(moving))
        for number, (old, new) in enumerate(zip(posterior, now, strict=True)):
            places, of = (schools, some.group) if number < _OF_SCHOOLS else (rows, some.group[some.school])
            np.maximum.at(change, of, np.abs(new - old[places]))
            old[places] = new
        used[moving] = nodes
        moving = moving[change >= _STILL] if nodes < _MOST_NODES else moving[:0]
        nodes *= 2
    return point, loglik, used, posterior


def _best_start(classes: Classes) -> Floats:
    begins = np.searchsorted(classes.group[classes.school], np.arange(len(classes.tau)))
    centre = special.logit(priors.fit(classes.y, classes.n, begins).mean)
    best, loglik = np.empty((len(centre), 3)), np.full(len(centre), -np.inf)
    for strength, school_strength in _STARTS:
        start = np.stack(np.broadcast_arrays(centre, np.log(school_strength), np.log(strength)), -1)
        point, value = _climb(classes, start, _START_NODES, _START_NEAR)
        better = value > loglik + _CLEARLY
        best[better], loglik[better] = point[better], value[better]
    return best


def _climb(classes: Classes, start: Floats, nodes: int, near: float = 1e-6) -> tuple[Floats, Floats]:
    kept: list[_Likelihood] = []

    def evaluate(groups: Places, point: Floats) -> Derivatives:
        # The groups still climbing only ever become fewer: as many as before are the same ones.
        if not kept or len(kept[0].classes.tau) != len(groups):
            kept[:] = [_Likelihood(classes.of_groups(groups)[0])]
        return kept[0].evaluate(point, nodes)

    low, high = (np.array([mean, np.log(of), np.log(of)]) for mean, of in zip(LOGIT_MEANS, STRENGTHS, strict=True))
    return maximise(evaluate, np.clip(start, low, high), low, high, near)


def _posterior(likelihood: _Likelihood, point: Floats, nodes: int) -> Posterior:
    classes = likelihood.classes
    mean, school_strength, strength = _unpacked(point)
    group, school = classes.group, classes.school
    a, b, power = (mean * school_strength)[group], ((1 - mean) * school_strength)[group], strength[group]
    low, middle, high = likelihood.ends(a, b, power)

    # P(m > tau) is a step, and P(p > tau) nearly one where classes are alike: the panels meet there.
    cut = special.logit(classes.tau)[group]
    at = _nodes(low, np.where((low < cut) & (cut < high), cut, middle), high, a, b, nodes)
    prior = a[:, None] * at.log_m + b[:, None] * at.log_rest + at.log_weight
    weight = special.softmax(prior + likelihood.logs(at.log_m, at.log_rest, power), axis=1)
    m = np.exp(at.log_m)
    alpha = (m * power[:, None])[school] + classes.y[:, None]
    beta = (np.exp(at.log_rest) * power[:, None])[school] + (classes.n - classes.y)[:, None]
    limits = (
        np.broadcast_to(classes.tau[group[school]][:, None], alpha.shape),
        m[school],
        np.minimum(m + classes.excess[group][:, None], 1.0)[school],
    )
    mixed = weight[school]
    total = (power[school] + classes.n)[:, None]
    heard = mixed > _UNHEARD
    p_above, p_above_school, p_excess = (
        np.einsum("jk,jk->j", mixed, special.betainc(beta, alpha, 1 - limit, out=np.zeros_like(mixed), where=heard))
        for limit in limits
    )
    return Posterior(
        np.einsum("sk,sk->s", weight, m),
        np.einsum("sk,sk->s", weight, at.x > cut[:, None]),
        np.einsum("jk,jk->j", mixed, alpha / total),
        p_above,
        p_above_school,
        p_excess,
        _all_tested(classes, alpha, beta, mixed),
    )


def _all_tested(classes: Classes, alpha: Floats, beta: Floats, weight: Floats) -> Floats:
    """0 or 1 where the untested cannot change the answer."""
    y, n, enrolled, limit = (each[:, None] for each in (classes.y, classes.n, classes.enrolled, classes.limit))
    chance = (classes.y > classes.limit).astype(np.float64)
    rows = np.flatnonzero((y <= limit) & (y + enrolled - n > limit))
    if len(rows):
        whole = p_full_class_above(y[rows], n[rows], enrolled[rows], limit[rows], alpha[rows], beta[rows])
        chance[rows] = np.einsum("jk,jk->j", weight[rows], whole)
    return chance
