"""Intervals and probabilities of a share `y` of `n`, over whole arrays. Nobody tested (n = 0) gives NaN throughout."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_SPREADS = 6.5
"""Standard deviations of the angle, at its widest, that are integrated on each side."""


def _counts(y: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    made_y, made_n = np.broadcast_arrays(np.asarray(y, np.float64), np.asarray(n, np.float64))
    return made_y, np.where(made_n > 0, made_n, np.nan)


def jeffreys(y: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Equal-tailed interval of Beta(y + 1/2, n - y + 1/2), its ends forced to 0 at y = 0 and to 1 at y = n."""
    y, n = _counts(y, n)
    tail = (1 - confidence) / 2
    low = special.betaincinv(y + 0.5, n - y + 0.5, tail)
    high = special.betainccinv(y + 0.5, n - y + 0.5, tail)
    return np.where(y == 0, 0 * n, low), np.where(y == n, 1.0, high)


def wilson(y: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Score interval (Wilson 1927)."""
    y, n = _counts(y, n)
    z = special.ndtri(1 - (1 - confidence) / 2)
    centre = (y + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(y * (n - y) / n + z * z / 4)
    return np.where(y == 0, 0 * n, centre - half), np.where(y == n, 1.0, centre + half)


def clopper_pearson(y: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Exact interval: covers at least as often as it says, at the price of width."""
    y, n = _counts(y, n)
    tail = (1 - confidence) / 2
    low = special.betaincinv(np.maximum(y, 0.5), n - y + 1, tail)
    high = special.betainccinv(y + 1, np.maximum(n - y, 0.5), tail)
    return np.where(y == 0, 0 * n, low), np.where(y == n, 1.0, high)


def tail_at_least(y: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Floats:
    """P(X >= y) of a binomial with `n` students and the given rate."""
    y, n = _counts(y, n)
    return np.where(y == 0, 1 + 0 * n, special.betainc(np.maximum(y, 0.5), n - y + 1, rate))


def mid_p(y: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Floats:
    """P(X > y) + P(X = y) / 2 of the same binomial."""
    y, n = _counts(y, n)
    above = np.where(y == n, 0 * n, tail_at_least(np.minimum(y + 1, n), n, rate))
    return (tail_at_least(y, n, rate) + above) / 2


def p_above(y: ArrayLike, n: ArrayLike, tau: ArrayLike) -> Floats:
    """P(p > tau) under Beta(y + 1/2, n - y + 1/2)."""
    y, n = _counts(y, n)
    return special.betainc(n - y + 0.5, y + 0.5, 1 - np.asarray(tau, np.float64))


def p_greater(a1: ArrayLike, b1: ArrayLike, a2: ArrayLike, b2: ArrayLike) -> Floats:
    """P(Beta(a1, b1) > Beta(a2, b2)), to 1e-8 for counts plus one half (Jeffreys).

    Gauss-Legendre on the angle of x = sin^2: a beta of counts plus one half is a trigonometric polynomial
    there, with no singular end even at y = 0 or y = n. The narrower of the two is integrated, weighted by the
    distribution function of the wider: the other way round the function would be a step.
    """
    a1, b1, a2, b2 = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (a1, b1, a2, b2)))
    first = a1 + b1 >= a2 + b2
    a, b = np.where(first, a1, a2), np.where(first, b1, b2)
    c, d = np.where(first, a2, a1), np.where(first, b2, b1)
    centre, reach = np.arctan2(np.sqrt(a), np.sqrt(b)), _SPREADS * np.sqrt(0.5 / (a + b))
    low, high = np.maximum(centre - reach, 0.0), np.minimum(centre + reach, np.pi / 2)
    middle, half = (high + low) / 2, (high - low) / 2
    constant = special.betaln(a, b)
    total = np.zeros_like(middle)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        angle = middle + half * node
        sine, cosine = np.sin(angle), np.cos(angle)
        density = np.exp((2 * a - 1) * np.log(sine) + (2 * b - 1) * np.log(cosine) - constant)
        total += weight * density * special.betainc(c, d, sine * sine)
    total *= 2 * half
    return np.clip(np.where(first, total, 1 - total), 0.0, 1.0)


def p_full_class_above(
    in_need: ArrayLike, tested: ArrayLike, enrolled: ArrayLike, limit: ArrayLike, alpha: ArrayLike, beta: ArrayLike
) -> Floats:
    """P(more than `limit` of the enrolled are in need) if the untested are missing at random.

    The untested in need are beta-binomial with the posterior `alpha` and `beta` of the tested. `limit` is the
    greatest whole count that is not above the threshold. All of one shape, or broadcast to one.
    """
    given = (np.asarray(each, np.float64) for each in (in_need, tested, enrolled, limit, alpha, beta))
    in_need, tested, enrolled, limit, a, b = np.broadcast_arrays(*given)
    untested, needed = enrolled - tested, limit - in_need
    chance = np.exp(special.betaln(a, b + untested) - special.betaln(a, b))
    above = np.where(needed < 0, chance, 0.0)
    for more in range(1, int(untested.max(initial=0)) + 1):
        # Past the untested the chance is 0; the divisor is kept from being so as well.
        rest = np.maximum(untested - more + 1, 0.0)
        chance = chance * rest * (a + more - 1) / (more * np.maximum(b + rest - 1, 1e-300))
        above = above + np.where(needed < more, chance, 0.0)
    return np.minimum(above, 1.0)
