"""Percentages in bands: what may be said of y of n in public without giving y away (METHOD 4.2)."""

from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

SUPPRESSED = "S"
LEAST_COUNTS = 3
"""Whole counts that every band must cover, so that a band and a known n never give the count."""
WIDTHS = (1, 5, 10, 20, 50)
"""Points; each divides 100."""
HALVES = 50
_EXACT_FROM = 300
"""From this n on whole percents are published, and every width below covers enough counts."""


class Band(NamedTuple):
    """How a percentage is published: the width of its bands, and the share at either end that is one band."""

    width: int
    ends: int


NCES = ((10, Band(20, 20)), (20, Band(10, 10)), (40, Band(5, 5)), (100, Band(1, 2)), (300, Band(1, 1)))
"""Band by the least n it is for (NCES 2011-603 as a state adopted it)."""


def nces_bands(y: pl.Series, n: pl.Series, min_n: int = 10) -> pl.Series:
    """Percentage of y in n in the bands of NCES 2011-603, `S` below ``min_n``: its width can give the count away."""
    return _published(y, n, NCES, min_n)


def safe_bands(y: pl.Series, n: pl.Series, min_n: int = 10, least: int = LEAST_COUNTS) -> pl.Series:
    """Percentage of y in n in the finest bands that each cover ``least`` counts, `S` below ``min_n``.

    The width depends on n only and grows as n falls, so the choice tells nothing.
    """
    steps = tuple((begins, Band(width, width)) for begins, width in safe_widths(least))
    return _published(y, n, steps, min_n)


@cache
def safe_widths(least: int = LEAST_COUNTS) -> tuple[tuple[int, int], ...]:
    """Least n and width in points, in order of n: no band of that n or a larger one covers fewer than ``least``."""
    sizes = range(NCES[0][0], _EXACT_FROM * max(least, 1))
    first = np.array([first_width(size, least) for size in sizes])
    widths = np.maximum.accumulate(first[::-1])[::-1]
    begins = np.flatnonzero(np.r_[True, np.diff(widths) != 0])
    return tuple((int(sizes[at]), int(widths[at])) for at in begins)


def first_width(n: int, least: int = LEAST_COUNTS) -> int:
    """Finest width, never finer than NCES's at this n, at which every band covers ``least`` counts."""
    finest = next(band.width for begins, band in reversed(NCES) if n >= begins)
    found = (width for width in WIDTHS if width >= finest and fewest_counts(n, Band(width, width)) >= least)
    return next(found, HALVES)


def fewest_counts(n: int, band: Band) -> int:
    """Fewest whole counts of n that share one published band."""
    return int(np.unique(_place(np.arange(n + 1), np.full(n + 1, n), band), return_counts=True)[1].min())


def _published(y: pl.Series, n: pl.Series, steps: tuple[tuple[int, Band], ...], min_n: int) -> pl.Series:
    counts, sizes = y.to_numpy(), n.to_numpy()
    said = np.full(len(y), SUPPRESSED, dtype=object)
    ends = [*(begins for begins, _ in steps[1:]), np.inf]
    for (begins, band), end in zip(steps, ends, strict=True):
        here = (sizes >= max(begins, min_n)) & (sizes < end)
        said[here] = _words(_place(counts[here], sizes[here], band), band)
    return pl.Series("band", said, dtype=pl.String)


def _place(y: NDArray[np.int64], n: NDArray[np.int64], band: Band) -> NDArray[np.int64]:
    """First whole percent of the band; 0 and 100 for the ends.

    Percents are rounded half up, but an end holds exactly what reaches it: the inner bands begin just beyond.
    """
    if band.width == HALVES:
        return np.where(2 * y >= n, 100, 0)
    rounded = (200 * y + n) // (2 * n)
    inner = np.clip(rounded, band.ends + 1, 99 - band.ends) // band.width * band.width
    return np.where(100 * y <= band.ends * n, 0, np.where(100 * y >= (100 - band.ends) * n, 100, inner))


def _words(place: NDArray[np.int64], band: Band) -> list[str]:
    if band.width == HALVES:
        return ["<50%" if at == 0 else ">=50%" for at in place]
    words = {0: f"<={band.ends}%", 100: f">={100 - band.ends}%"}
    for at in np.setdiff1d(place, [0, 100]):
        low, high = max(at, band.ends + 1), min(at + band.width, 100 - band.ends) - 1
        words[int(at)] = f"{low}%" if low == high else f"{low}-{high}%"
    return [words[int(at)] for at in place]
