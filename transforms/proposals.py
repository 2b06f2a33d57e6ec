"""What a renamed export probably is: the nearest layout, and which header of the file each missing column has now."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import polars as pl

from schemas.exports import Column, Layout
from transforms import cells
from transforms.cells import Reading
from transforms.recognition import (
    LONGEST_SHOWN,
    Aliases,
    Fit,
    Unplaced,
    clean,
    in_place,
    lay_over,
    named_like,
    unread,
)

MOST_COLUMNS = 1_000
"""The widest export we know has 183 columns; what is wider is no export."""
ALIKE = 0.70
"""Least likeness of two header names (1 is equal) where nothing but the name speaks for a match."""
ALIKE_OPTIONAL = 0.85
"""The same for a column that a file can do without: a wrong guess there costs more than none."""
ALIKE_WITH_VALUES = 0.55
"""The same where the values are of the column's type, and of few others."""
CONTAINED = 0.72
"""Least likeness of a name to one that has all its words and more."""
VALUES_FIT = 0.75
"""Least share of the values given that must be of the column's type; a wrong column has next to none."""
VALUES_WEIGH = 0.30
PLACE_WEIGHS = 0.10
TIE = 0.05
"""Two candidates whose scores differ by less are not told apart."""
LAYOUTS_TIE = 0.01
NEAR = 0.50
"""Least share of the needed columns that must be there or have a likely header."""
LAYOUTS_COMPARED = 6

_SAYS_NOTHING = frozenset({"text", "id", "person", "terms", "note"})
"""Types that nearly any cell is of."""
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Candidate:
    """A header of the file that a column may have now."""

    header: str
    position: int
    name_likeness: float
    """1 is equal but for case, punctuation and the order of words."""
    values: int | None = None
    """Cells that are not blank; null where they were not looked at."""
    values_fit: int | None = None
    """Of these, how many are of the column's type; null where the type says nothing."""
    is_in_place: bool = False
    """Stands alone between the columns that the layout lists before and after."""

    @property
    def fit_share(self) -> float | None:
        """Share of the values that are of the column's type; null where there is nothing to judge by."""
        return self.values_fit / self.values if self.values and self.values_fit is not None else None

    @property
    def score(self) -> float:
        """For comparing the candidates of a file, never across files."""
        return self.name_likeness + VALUES_WEIGH * (self.fit_share or 0.0) + PLACE_WEIGHS * self.is_in_place


@dataclass(frozen=True)
class Gap:
    """One header that the layout reads and the file has not; several of our columns may be read from it."""

    expected: str
    columns: tuple[str, ...]
    needed: bool
    candidates: tuple[Candidate, ...] = ()
    """Best first."""
    chosen: Candidate | None = None
    """The one that stands out; none where two are alike or none is near."""


@dataclass(frozen=True)
class Proposal:
    """How a file would be read by its nearest layout."""

    layout: Layout
    score: float
    """Share of the needed columns times share of the headers known, likely ones by their likeness; 1 fits at once."""
    tied: tuple[str, ...] = ()
    """Layouts that are as near, this one included; a person says which."""
    matched: tuple[tuple[str, str], ...] = ()
    """(our column, header of the file), as they are found without a new alias."""
    gaps: tuple[Gap, ...] = ()
    new: tuple[str, ...] = ()
    """Headers that the layout does not know, likely ones of a gap left out."""
    is_near: bool = True

    @property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """New headers by our column, as an alias file has them."""
        found: dict[str, list[str]] = {}
        for gap in self.gaps:
            for name in gap.columns if gap.chosen else ():
                found.setdefault(name, []).append(gap.chosen.header if gap.chosen else "")
        return {name: tuple(dict.fromkeys(headers)) for name, headers in found.items()}


@dataclass
class Nearest:
    """The layouts nearest to a header by names alone, and the positions whose values would tell more."""

    names: tuple[str, ...]
    fits: list[Fit] = field(default_factory=list)
    """Best first."""
    scores: list[float] = field(default_factory=list)

    @property
    def positions(self) -> set[int]:
        """Headers of the file that the nearest layout does not know."""
        return set(unread(self.fits[0], self.names)) if self.fits else set()

    @property
    def is_near(self) -> bool:
        """Whether the nearest layout is one at all: half of what it needs is there, and two of its headers."""
        fit = self.fits[0]
        likely = sum(1 for gap in _chosen(_named(fit, self.names)) if gap.needed and gap.chosen)
        return fit.needed - len(fit.lacking) + likely >= NEAR * fit.needed and len(fit.known) >= 2


def nearest(
    header: Sequence[str],
    file_name: str,
    layouts: Mapping[str, Layout],
    aliases: Aliases = {},  # noqa: B006
) -> Nearest:
    """The layouts nearest to a header by its names.

    A layout that forbids one of the headers comes after those that do not. Of equal ones the layout whose file
    names match goes first.
    """
    names = tuple(clean(name) for name in header)
    named = sum(1 for name in names if name)
    fits = [lay_over(layout, names, aliases.get(layout.id, {})) for layout in layouts.values()]
    fits = [fit for fit in fits if fit.known]
    fits.sort(key=lambda fit: (bool(fit.forbidden), -fit.closeness(named)))
    compared = fits[:LAYOUTS_COMPARED]
    scores = [_score(fit, names) for fit in compared]
    top = max((score for fit, score in zip(compared, scores, strict=True) if not fit.forbidden), default=0.0)
    ranked = sorted(zip(compared, scores, strict=True), key=lambda each: _rank(each[0], each[1], top, file_name))
    return Nearest(names, [fit for fit, _ in ranked], [score for _, score in ranked])


def _rank(fit: Fit, score: float, top: float, file_name: str) -> tuple[bool, int, float, bool, str]:
    """Of layouts about as near as the nearest, the one that needs the fewest new names goes first."""
    is_top = top - score < LAYOUTS_TIE
    lacking = len(fit.lacking) if is_top else 1_000_000
    named = not named_like(fit.layout, file_name)
    return bool(fit.forbidden), lacking, 0.0 if is_top else -score, named, fit.layout.id


def propose(near: Nearest, file_name: str, rows: pl.DataFrame, reading: Reading) -> Proposal:
    """The nearest layout and a header for each column it lacks, where one stands out.

    Args:
        near: What the names say.
        file_name: Settles a tie between layouts whose names of files differ.
        rows: Cells as text, trimmed, null where blank: `c0`, `c1`… of ``near.positions``.
        reading: What the meaning of the cells depends on.
    """
    fit = near.fits[0]
    gaps = _chosen([_weighed(gap, column, rows, reading) for gap, column in _likely(fit, near.names)])
    taken = {gap.chosen.position for gap in gaps if gap.chosen}
    new = [name for at, name in unread(fit, near.names).items() if at not in taken]
    tied = _tied(near, file_name)
    return Proposal(
        layout=fit.layout,
        score=round(near.scores[0], 3),
        tied=tied if len(tied) > 1 else (),
        matched=tuple((name, near.names[at]) for name, at in fit.positions.items()),
        gaps=tuple(gaps),
        new=tuple(name[:LONGEST_SHOWN] for name in new),
        is_near=near.is_near,
    )


def judge(header: str, position: int, column: Column, rows: pl.DataFrame, reading: Reading) -> Candidate:
    """A header that a person named for a column, with what its values say."""
    return _with_values(Candidate(header, position, 0.0), column, rows, reading)


@lru_cache(maxsize=100_000)
def likeness(ours: str, theirs: str) -> float:
    """How alike two header names are, from 0 to 1, without regard to case, punctuation and the order of words."""
    ours_bare, theirs_bare = _bare(ours), _bare(theirs)
    if not ours_bare or not theirs_bare:
        return 0.0
    direct = difflib.SequenceMatcher(None, ours_bare, theirs_bare)
    if direct.quick_ratio() < 0.3:  # a bound on the ratio that takes a tenth of the time
        return 0.0
    in_order = difflib.SequenceMatcher(None, _sorted(ours), _sorted(theirs)).ratio()
    contained = CONTAINED if set(_sorted(ours).split()) < set(_sorted(theirs).split()) else 0.0
    return max(direct.ratio(), in_order, contained)


@lru_cache(maxsize=10_000)
def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name[:LONGEST_SHOWN].casefold())


@lru_cache(maxsize=10_000)
def _sorted(name: str) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name[:LONGEST_SHOWN])
    return " ".join(sorted(word.casefold() for word in words))


def _score(fit: Fit, names: tuple[str, ...]) -> float:
    gaps = _chosen(_named(fit, names))
    needed = sum(gap.chosen.name_likeness for gap in gaps if gap.chosen and gap.needed)
    likely = sum(gap.chosen.name_likeness for gap in gaps if gap.chosen)
    present = fit.needed - len(fit.lacking) + min(needed, len(fit.lacking))
    left = max(0.0, len(fit.lacking) - needed)
    return present / max(1, fit.needed) * (len(fit.known) + likely) / max(1.0, sum(map(bool, names)) + left)


def _tied(near: Nearest, file_name: str) -> tuple[str, ...]:
    """Layouts as near as the nearest; names of files settle what the header does not."""
    best = near.scores[0]
    tied = [
        fit
        for fit, score in zip(near.fits, near.scores, strict=True)
        if abs(best - score) < LAYOUTS_TIE
        and len(fit.lacking) == len(near.fits[0].lacking)
        and bool(fit.forbidden) == bool(near.fits[0].forbidden)
    ]
    like = [fit for fit in tied if named_like(fit.layout, file_name)]
    return tuple(sorted(fit.layout.id for fit in like or tied))


def _named(fit: Fit, names: tuple[str, ...]) -> list[Gap]:
    return [gap for gap, _ in _likely(fit, names)]


def _likely(fit: Fit, names: tuple[str, ...]) -> list[tuple[Gap, Column]]:
    """Each missing header with the unknown ones whose names could be its new one, and the column to judge values by."""
    unknown = {at: name for at, name in unread(fit, names).items() if _may_be_named(name)}
    together: dict[tuple[str, tuple[int, int] | None], list[Unplaced]] = {}
    for each in fit.unplaced:
        together.setdefault((each.expected, each.within), []).append(each)
    found = []
    for (expected, within), parts in together.items():
        needed = any(part.needed for part in parts)
        # The least forgiving type decides what the values must be.
        judge_by = min((part.column for part in parts), key=lambda column: column.type in _SAYS_NOTHING)
        if within is not None:  # there a pattern is of the header, not of the cell
            judge_by = judge_by.model_copy(update={"pattern": None})
        alone = in_place(fit, parts[0].name, unknown) if needed else None
        candidates = tuple(
            Candidate(name, at, _likeness_in_block(parts[0], name), is_in_place=at == alone)
            for at, name in unknown.items()
            if within is None or within[0] <= at < within[1]
        )
        least = ALIKE_WITH_VALUES if needed else ALIKE_OPTIONAL
        kept = tuple(each for each in candidates if each.name_likeness >= least or each.is_in_place)
        found.append((Gap(expected, tuple(dict.fromkeys(part.name for part in parts)), needed, kept), judge_by))
    return found


def _likeness_in_block(part: Unplaced, header: str) -> float:
    """The best over every name of a column; inside a block the words before it, such as the season, do not count."""
    whole = max(likeness(name, header) for name in part.headers)
    if part.within is None:
        return whole
    words = header.split()
    return max(
        whole, *(likeness(name, " ".join(words[-n:])) for name in part.headers for n in range(1, len(words) + 1))
    )


def _may_be_named(name: str) -> bool:
    """A name that an alias file can hold as it is, and that no spreadsheet runs."""
    return bool(name) and len(name) <= LONGEST_SHOWN and name.isprintable() and not name.startswith(_FORMULA)


def _weighed(gap: Gap, column: Column, rows: pl.DataFrame, reading: Reading) -> Gap:
    """The gap with what the values of each candidate say; those of another type are no candidates."""
    weighed = [_with_values(each, column, rows, reading) for each in gap.candidates]
    least = ALIKE if gap.needed else ALIKE_OPTIONAL
    kept = [
        each
        for each in weighed
        if (each.fit_share is None or each.fit_share >= VALUES_FIT)
        and (each.name_likeness >= least or each.is_in_place or each.fit_share is not None)
    ]
    return Gap(gap.expected, gap.columns, gap.needed, tuple(kept))


def _with_values(each: Candidate, column: Column, rows: pl.DataFrame, reading: Reading) -> Candidate:
    text = pl.col(f"c{each.position}")
    values = rows.select(text.is_not_null().sum()).item()
    if (column.type in _SAYS_NOTHING and not column.pattern) or column.otherwise is not None or column.join:
        return Candidate(each.header, each.position, each.name_likeness, values, None, each.is_in_place)
    read = cells.read(text, column, reading)
    fits = rows.select((text.is_not_null() & (read.broken == 0)).sum()).item()
    return Candidate(each.header, each.position, each.name_likeness, values, fits, each.is_in_place)


def _chosen(gaps: Sequence[Gap]) -> list[Gap]:
    """Each gap with the candidate that stands out; the strongest pair is settled first, and a header only once.

    Where another header of the gap, or another gap of the header, is as strong, nobody guesses.
    """
    pairs = sorted(
        ((each.score, number, each) for number, gap in enumerate(gaps) for each in gap.candidates),
        key=lambda pair: (-pair[0], pair[1], pair[2].position),
    )
    chosen: dict[int, Candidate] = {}
    unsettled: set[int] = set()
    taken: set[int] = set()
    for score, number, each in pairs:
        if number in chosen or number in unsettled or each.position in taken:
            continue
        rivals = [
            other
            for strength, other, rival in pairs
            if (other == number) != (rival.position == each.position)
            and other not in chosen
            and rival.position not in taken
            and score - strength < TIE
        ]
        if rivals:
            unsettled |= {number, *rivals}
            continue
        chosen[number] = each
        taken.add(each.position)
    return [
        Gap(
            gap.expected,
            gap.columns,
            gap.needed,
            tuple(sorted(gap.candidates, key=lambda each: (-each.score, each.position))),
            chosen.get(number),
        )
        for number, gap in enumerate(gaps)
    ]
