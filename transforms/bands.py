"""Percentages in bands: what may be said of y of n in public without giving y away (METHOD 4.2)."""

from functools import cache
from itertools import pairwise
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


def safe_width(n: pl.Series, min_n: int = 10, least: int = LEAST_COUNTS) -> pl.Series:
    """Width in points of the bands of `safe_bands` for each n; null below ``min_n``."""
    begins, widths = (np.array(each) for each in zip(*safe_widths(least), strict=True))
    found = widths[np.clip(np.searchsorted(begins, n.to_numpy(), side="right") - 1, 0, None)]
    return pl.DataFrame({"n": n, "width": found}).select(pl.when(pl.col("n") >= min_n).then("width")).to_series()


def students_ranges(n: pl.Series, min_n: int = 10, least: int = LEAST_COUNTS) -> pl.Series:
    """n as it is said beside a band, such as `16-30`: where the width is the same; null below ``min_n``."""
    begins = sorted({max(begin, min_n) for begin, _ in safe_widths(least)})
    said = [f"{begin}-{end - 1}" for begin, end in pairwise(begins)] + [f"{begins[-1]}+"]
    place = np.searchsorted(np.array(begins), n.to_numpy(), side="right") - 1
    words = pl.Series(said).gather(np.clip(place, 0, None))
    return pl.DataFrame({"n": n, "words": words}).select(pl.when(pl.col("n") >= min_n).then("words")).to_series()


def range_ends(ranges: pl.Series) -> pl.DataFrame:
    """Least and greatest n, `low` and `high`, of what `students_ranges` said; no greatest for the last range."""
    ends = ranges.str.extract_groups(r"^(?<low>\d+)(?:-(?<high>\d+)|\+)$").struct.unnest()
    return ends.cast(pl.Int64)


def bands(y: pl.Series, n: pl.Series, width: pl.Series) -> pl.Series:
    """Percentage of y in n in bands of each row's own width; null where that is null."""
    said = np.full(len(y), None, dtype=object)
    for points in WIDTHS:
        here, band = (width == points).fill_null(False).to_numpy(), Band(points, points)
        said[here] = _words(_place(y.to_numpy()[here], n.to_numpy()[here], band), band)
    return pl.Series("band", said.tolist(), dtype=pl.String)


def band_counts(said: pl.Series, n: pl.Series) -> pl.DataFrame:
    """Least and greatest count of n, `low` and `high`, that what is said leaves open; 0 and n where nothing is said."""
    known = pl.DataFrame(_every_band(), schema={"said": pl.String, "place": pl.Int64, "width": pl.Int64}, orient="row")
    rows = pl.DataFrame({"said": said, "n": n}).join(known, on="said", how="left", maintain_order="left")
    low, high = np.zeros(len(n), np.int64), n.to_numpy().copy()
    for points in WIDTHS:
        here = (rows["width"] == points).fill_null(False).to_numpy()
        low[here], high[here] = _ends(rows["place"].filter(here).to_numpy(), n.to_numpy()[here], points)
    return pl.DataFrame({"low": low, "high": high})


@cache
def _every_band() -> list[tuple[str, int, int]]:
    """Words, place and width of every band of `bands`."""
    found = []
    for points in WIDTHS:
        inner = [] if points == HALVES else range((points + 1) // points * points, 100 - points, points)
        places = np.array([0, *inner, 100])
        words = _words(places, Band(points, points))
        found += [(word, int(place), points) for word, place in zip(words, places, strict=True)]
    return found


def _ends(place: NDArray[np.int64], n: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least and greatest count of n in a band: the inverse of `_place`."""
    if width == HALVES:
        half = -(-n // 2)
        return np.where(place == 0, 0, half), np.where(place == 0, half - 1, n)
    first, last = (width + 1) // width * width, (99 - width) // width * width
    bottom, top = width * n // 100, -(-(100 - width) * n // 100)
    low = np.where(place <= first, bottom + 1, -(-(2 * n * place - n) // 200))
    high = np.where(place >= last, top - 1, -(-(2 * n * (place + width) - n) // 200) - 1)
    return np.where(place == 0, 0, np.where(place == 100, top, low)), np.where(
        place == 0, bottom, np.where(place == 100, n, high)
    )


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
