"""Where to look first: parts of a publication that are small enough for a programme, all else standing still.

What changes among few cells, the others as they are, is a change of the whole. So what is found in a part holds, and
a part that is chosen badly costs time and nothing else. Shared by `transforms.suppression` and `transforms.audit`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph

from transforms.publication import Problem

Flags = NDArray[np.bool_]
Cells = NDArray[np.int64]

_TOGETHER = 300
"""Cells of one table; a larger one is looked at by some places at a time."""
_HELPERS = 2
"""Districts, the largest, that help every other: what is withheld there serves many."""
_ACROSS = 16
"""Districts, the largest, of which only what they cross helps: the whole's rare crossings lie there."""
_NEAR = 10
"""Lowest places of each of these that help along."""


class Part(NamedTuple):
    """Cells that may change, everything else standing still, and those of them that this is for."""

    cells: Cells
    own: Cells


class Scopes:
    """Parts of some cells, the smallest first, as long as anything in them is withheld and not safe.

    `withheld` and `is_safe` are looked at when a part is asked for: they may change in between.
    """

    def __init__(self, problem: Problem, part: Cells, withheld: Flags, is_safe: Flags) -> None:
        cells = problem.cells
        self.withheld, self.is_safe = withheld, is_safe
        self.own = problem.own
        self.block, self.place = cells["block"].to_numpy(), cells["place"].to_numpy()
        level, is_total = cells["level"].to_numpy(), cells["is_total"].to_numpy()
        self.is_deep = (level == level.max(initial=0)) & (level.max(initial=0) > 1)
        is_deep = self.is_deep[part]
        self.leaves, self.deep = part[is_deep & ~is_total[part]], part[is_deep]
        self.whole = part[self.block[part] < 0]
        self.of_district = grouped(part[self.block[part] >= 0], self.block)
        self.of_district.sort(key=len)
        self.inner = [each[~self.is_deep[each] & ~is_total[each]] for each in self.of_district]

    def tables(self, may: Flags) -> Iterator[Part]:
        """Tables of the lowest places in one district, their totals standing still.

        Args:
            may: Cells that count: tables that only others link are apart.
        """
        cells = self.leaves[may[self.leaves]]
        links = abs(self.own[:, cells]).tocsr()
        label = np.zeros(len(may), np.int64)
        label[cells] = csgraph.connected_components(links.T @ links, directed=False)[1]
        for table in grouped(cells, label):
            inside = table[np.argsort(self.place[table], kind="stable")]
            starts = np.flatnonzero(np.diff(self.place[inside], prepend=-1))
            chunk = (starts * -(-len(inside) // _TOGETHER)) // len(inside)
            for each in np.split(inside, starts[np.flatnonzero(np.diff(chunk)) + 1]):
                if self._is_needy(each):
                    yield Part(each, each)

    def districts(self) -> Iterator[Part]:
        """Lowest places of one district, the district standing still."""
        for cells in grouped(self.deep, self.block):
            if self._is_needy(cells):
                yield Part(cells, cells)

    def crossings(self, with_alike: bool) -> Iterator[Part]:
        """What two districts cross, their totals standing still: each with the largest.

        Args:
            with_alike: Also with those that are most like it in size.
        """
        of = self.inner
        helpers = [*range(len(of))][: -_HELPERS - 1 : -1]
        for at, own in enumerate(of):
            alike = [each for each in (at + 1, at - 1, at + 2) if 0 <= each < len(of)] if with_alike else []
            for partner in [*helpers, *alike]:
                if partner != at and self._is_needy(own):
                    yield Part(np.sort(np.concatenate([own, of[partner]])), own)

    def helped(self, with_whole: bool) -> Iterator[Part]:
        """One district with all its places, the largest first: with the largest other, then with more and the whole.

        Args:
            with_whole: The whole, and more districts that help.
        """
        of = self.of_district
        for at, own in reversed([*enumerate(of)]):
            others = [each for number, each in enumerate(of) if number != at]
            if self._is_needy(own):
                near = [self._near(each) for each in (others[-_HELPERS:] if with_whole else others[-1:])]
                cells = np.sort(np.concatenate([own, *near, *([self.whole] if with_whole else [])]))
                # Cells that help a district often move with its own alone: here they are sought as well.
                yield Part(cells, cells if with_whole else own)
        if with_whole and self._is_needy(self.whole):
            cells = np.sort(np.concatenate([*of[-_HELPERS - 1 :], self.whole]))
            yield Part(cells, cells)

    def across(self) -> Iterator[Part]:
        """One district with all its places, the whole, and what the largest, then all, districts cross."""
        for inner in (self.inner[-_ACROSS:], self.inner):
            for own in self.of_district:
                if self._is_needy(own):
                    yield Part(np.unique(np.concatenate([own, *inner, self.whole])), own)

    def everything(self) -> Iterator[Part]:
        """All at once."""
        every = np.sort(np.concatenate([*self.of_district, self.whole]))
        if self._is_needy(every):
            yield Part(every, every)

    def _near(self, cells: Cells) -> Cells:
        """Of these cells, of the lowest places only those of few: where most is withheld."""
        deep = cells[self.is_deep[cells]]
        places, at = np.unique(self.place[deep], return_inverse=True)
        order = np.argsort(-np.bincount(at, self.withheld[deep], len(places)), kind="stable")
        is_near = np.isin(at, order[:_NEAR])
        return np.concatenate([cells[~self.is_deep[cells]], deep[is_near]])

    def _is_needy(self, cells: Cells) -> bool:
        return bool((self.withheld[cells] & ~self.is_safe[cells]).any())


def grouped(cells: Cells, number: NDArray[np.integer]) -> list[Cells]:
    """Cells of each number, in order."""
    order = np.argsort(number[cells], kind="stable")
    inside = cells[order]
    return np.split(inside, np.flatnonzero(np.diff(number[inside])) + 1) if len(cells) else []


def components(problem: Problem, may: Flags) -> list[Cells]:
    """Cells, among those that may change, that no sum links to others."""
    cells = np.flatnonzero(may)
    links = abs(problem.relations[:, cells])
    label = np.zeros(len(may), np.int64)
    label[cells] = csgraph.connected_components(links.T @ links, directed=False)[1]
    return grouped(cells, label)
