"""Which cells are withheld so that nobody proves a small one: primary and complementary suppression (METHOD 4.3, 4.4).

The model is METHOD 4.4's, solved for all primaries at once by cuts (Fischetti and Salazar 2001): choose the cheapest
cells, let an attacker with a linear programme narrow every primary, and forbid what let him; until he cannot.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from transforms.programmes import Changes, Cover, furthest_whole
from transforms.publication import COMPLEMENT, STUDENTS, Problem, Rule

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Cells = NDArray[np.int64]

DEAR = 20.0
"""A total costs as many times its weight (METHOD 4.4)."""
_GROUP = (1, 2, 4, 8, 16)
"""Districts that are protected among themselves, in steps; what is left is protected in the whole."""
_EXACT = 500
"""Cells that sums link to one another, up to which the cheapest pattern of all is sought."""
_GAP = 0.02
"""How much dearer than the cheapest the company of cells may be in larger ones."""
_ROUNDS = 8
"""Programmes that move many cells at once, before single cells are moved."""
_REFRESH = 8
"""Single cells after which what else they protected is looked up."""
_NUDGE = 1e-3
"""How far a shown cell may move while cuts are sought: of all proofs that one is found that rests on fewest cells."""
_SLACK = 1e-6


class Pattern(NamedTuple):
    """What is withheld, per cell of the problem."""

    withheld: Flags
    is_primary: Flags
    unprotected: Flags
    """Withheld cells that nothing protects, and primaries that are public already: the audit will refuse them."""


def suppress(problem: Problem, rule: Rule, weights: Floats | None = None) -> Pattern:
    """Choose the cells to withhold: all primaries, and with them the cheapest others.

    Afterwards every primary admits a range of `rule`'s threshold - 1 in whole numbers, given all that is shown in every
    release of the problem, and no shown total leaves a small sum to its withheld parts (SEMANTICS 8.3). Districts are
    solved apart, with what lies outside them fixed; then groups of them; then the whole, for what needs it.

    Args:
        problem: Every cell's value known. What an earlier release showed is never withheld.
        rule: Thresholds.
        weights: Cost of withholding each cell; METHOD 4.4's if not given.
    """
    is_primary = primaries(problem, rule)
    state = _State(problem, rule, is_primary, standard_weights(problem.cells) if weights is None else weights)
    for part in _components(problem):
        state.is_large, is_complete = len(part) > _EXACT, False
        state.size = int(np.count_nonzero(state.is_open[part] | state.withheld[part]))
        while not is_complete:
            for blocks in _steps(problem.cells["block"].to_numpy()[part]):
                for cells in blocks:
                    state.protect(part[cells])
            is_complete = not state.enlarge(part)
    return Pattern(state.withheld, is_primary, (state.withheld | is_primary) & ~(state.withheld & state.is_safe))


def primaries(problem: Problem, rule: Rule) -> Flags:
    """Cells that must not be shown: small ones, 100 %, and what is said of too few students (SEMANTICS 8.1, 8.2)."""
    rows, keys = problem.rows, [*problem.layout.keys, "release"]
    students = rows.filter(pl.col("kind") == STUDENTS).select(*keys, students="value")
    rows = rows.join(students, on=keys, how="left", nulls_equal=True, maintain_order="left")
    value, kind, n = pl.col("value"), pl.col("kind"), pl.col("students")
    is_small = (value < pl.Series(rule.thresholds(rows["kind"]))) | (n < rule.min_n).fill_null(False)
    is_somebody = (n > 0).fill_null(True)
    is_told = pl.when(kind == COMPLEMENT).then(is_somebody).otherwise((value > 0) | (rule.protect_zero & is_somebody))
    found = rows.select("cell", small=is_small & is_told).group_by("cell").agg(pl.col("small").any()).sort("cell")
    return found["small"].to_numpy()


def standard_weights(cells: pl.DataFrame) -> Floats:
    """1 + ln(1 + value), totals 20 times that (METHOD 4.4)."""
    weights = 1 + np.log1p(cells["value"].to_numpy())
    return np.where(cells["is_total"].to_numpy(), DEAR, 1.0) * weights


def _components(problem: Problem) -> Iterator[Cells]:
    """Cells that no sum links to others."""
    links = abs(problem.relations)
    number, label = csgraph.connected_components(links.T @ links, directed=False)
    order = np.argsort(label, kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(label, minlength=number))[:-1])


def _steps(block: NDArray[np.int32]) -> Iterator[list[Cells]]:
    """Cells of each district, of each group of districts, and all of them."""
    for size in _GROUP:
        groups = np.unique(block[block >= 0]) // size
        if len(np.unique(groups)) > 1:
            yield [np.flatnonzero((block >= 0) & (block // size == group)) for group in np.unique(groups)]
    yield [np.arange(len(block))]


class _State:
    """The pattern so far. Safe primaries stay so: to withhold more only widens what an attacker can prove."""

    def __init__(self, problem: Problem, rule: Rule, is_primary: Flags, weights: Floats) -> None:
        cells = problem.cells
        self.relations = problem.relations
        self.is_own = ~problem.sums["is_implied"].to_numpy()
        self.is_link = (problem.sums["over"] == "statistic").to_numpy()
        self.least_category = rule.min_category
        self.total = problem.sums["total"].to_numpy()
        self.value = cells["value"].to_numpy().astype(float)
        self.weights = weights
        self.is_primary = is_primary
        self.threshold = rule.thresholds(cells["kind"]).astype(float)
        self.need = np.where(is_primary, self.threshold - 1, 1.0)
        self.down = np.minimum(rule.least(cells["kind"]) - self.value, 0.0)
        self.up = problem.ceiling - self.value
        shown = cells["shown"]
        self.is_open = shown.is_null().to_numpy() & (self.value >= rule.least(cells["kind"]))
        self.is_safe = np.zeros(len(cells), bool)
        self.is_large, self.size = False, 0
        self.withheld = (is_primary & ~shown.fill_null(False).to_numpy()) | (~shown.fill_null(True)).to_numpy()

    def protect(self, cells: Cells) -> None:
        """Protect what can be protected by changes among these cells alone."""
        cells = cells[self.is_open[cells] | self.withheld[cells]]
        needy = self.withheld[cells] & ~self.is_safe[cells]
        if not needy.any():
            return
        _Block(self, cells).protect(needy)

    def enlarge(self, part: Cells) -> bool:
        """Withhold one more cell of every sum whose withheld parts are a small number (SEMANTICS 8.3)."""
        hidden = np.where(self.withheld, self.value, 0.0)
        rest = (self.relations > 0) @ hidden
        threshold = np.where(self.is_link, self.least_category, self.threshold[self.total])
        inside = np.isin(self.total, part) & ~self.withheld[self.total]
        small = np.flatnonzero(inside & (rest > 0) & (rest < threshold))
        added = False
        for row in small:
            cells = self.relations.indices[self.relations.indptr[row] : self.relations.indptr[row + 1]]
            open_ = cells[self.is_open[cells] & ~self.withheld[cells]]
            enough = open_[(open_ == self.total[row]) | (self.value[open_] >= threshold[row] - rest[row])]
            if len(enough):
                self.withheld[enough[np.argmin(self.weights[enough])]] = added = True
        return added


class _Block:
    """Cells that may change while everything else stands still."""

    def __init__(self, state: _State, cells: Cells) -> None:
        self.state, self.cells = state, cells
        own = state.relations[state.is_own][:, cells].tocsr()
        self.relations = own[np.flatnonzero(np.diff(own.indptr))]
        self.links = abs(self.relations)
        self.changes = Changes(self.relations)
        self.down, self.up = state.down[cells], state.up[cells]
        self.need = state.need[cells]
        self.forced = state.withheld[cells]
        self.open = ~self.forced
        self.kept = self.forced.copy()
        self.is_large = state.is_large
        self._forget()
        self.cuts: list[tuple[int, Cells, Floats, float]] = []

    def protect(self, needy: Flags) -> None:
        """Withhold the cheapest cells that make the needy wide; those that nothing here can help are left."""
        needy = self._held_alone(needy)
        chosen, needy = self._one_by_one(needy) if self.is_large else self._at_once(needy)
        state = self.state
        self._searched(chosen, chosen)
        for cell in np.flatnonzero(chosen & self.open & (self.high == self.low)):
            self._keep_whole(int(cell), chosen)
        # Who cannot change protects nobody.
        chosen &= ~(self.open & (self.high == self.low))
        state.withheld[self.cells] = chosen
        state.is_safe[self.cells] |= chosen & (self.high - self.low >= self.need - _SLACK)

    def _at_once(self, needy: Flags) -> tuple[Flags, Flags]:
        """The cheapest pattern of all: cuts until the attacker fails everywhere."""
        is_cut = True
        while is_cut:
            chosen = self._cheapest()
            self._forget()
            is_cut, is_hopeless = self._cut(chosen, self._unproven(chosen, needy))
            if is_hopeless.any():
                needy = needy & ~is_hopeless
                self.cuts = [cut for cut in self.cuts if not is_hopeless[cut[0]]]
                is_cut = True
        return chosen, needy

    def _forget(self) -> None:
        """What was proven with other cells withheld does not count."""
        self.low, self.high = np.zeros(len(self.cells)), np.zeros(len(self.cells))

    def _one_by_one(self, needy: Flags) -> tuple[Flags, Flags]:
        """A cheap pattern of many cells: nothing that was withheld for one is taken back for another."""
        if len(needy) < self.state.size:
            needy = needy & ~self._unproven(self.movable, needy)
        self._forget()
        self.cuts = [cut for cut in self.cuts if needy[cut[0]]]
        if not needy.any():
            return self.forced, needy
        chosen = self._cheapest()
        left = self._unproven(chosen, needy)
        paths = Changes(sparse.hstack([self.relations, -self.relations]).tocsr())
        random = np.random.default_rng(0)
        for _ in range(_ROUNDS):
            before = np.count_nonzero(left)
            if not before:
                break
            self._paths(paths, np.where(random.random(len(left)) < 0.5, 1.0, -1.0) * left, chosen)
            left = self._unproven(chosen, left)
            if 10 * np.count_nonzero(left) > 9 * before:
                break
        order = np.flatnonzero(left)
        order = order[np.lexsort((order, self.state.value[self.cells[order]]))]
        for at, cell in enumerate(order):
            if not self._is_wide(int(cell)):
                self._path(paths, int(cell), chosen)
            if at % _REFRESH == _REFRESH - 1:
                self._unproven(chosen, needy)
        for cell in np.flatnonzero(self._searched(chosen, needy)):
            self._keep_whole(int(cell), chosen)
        return chosen, needy & (self.high - self.low >= self.need - _SLACK)

    def _paths(self, paths: Changes, signs: Floats, chosen: Flags) -> None:
        """Withhold the cells along the cheapest change that moves many cells, each to its side, as far as it needs."""
        cost = np.where(chosen, 0.0, self.state.weights[self.cells]) / np.minimum(self.need, np.maximum(1, self.up))
        movable = self.movable.astype(float)
        up, down = self.up * movable, -self.down * movable
        up = np.where(signs > 0, np.minimum(up, self.need), np.where(signs < 0, 0.0, up))
        down = np.where(signs < 0, np.minimum(down, self.need), np.where(signs > 0, 0.0, down))
        paths.bound(np.zeros(2 * len(cost)), np.concatenate([up, down]))
        gain = -np.concatenate([cost, cost]) - 1e-4
        gain += 1e5 * np.concatenate([signs > 0, signs < 0])
        both = paths.furthest(gain)[0]
        change = both[: len(chosen)] - both[len(chosen) :]
        chosen |= np.abs(change) > _SLACK
        self._keep(change)

    def _path(self, paths: Changes, cell: int, chosen: Flags) -> None:
        """Withhold the cells along the cheapest change that moves one cell as far as it needs."""
        cost = np.where(chosen, 0.0, self.state.weights[self.cells]) / np.minimum(
            self.need[cell], np.maximum(1, self.up)
        )
        movable = self.movable.astype(float)
        moved = 0.0
        for side in (0, 1):
            most = np.concatenate([self.up * movable, -self.down * movable])
            this, other = (cell, len(chosen) + cell) if side == 0 else (len(chosen) + cell, cell)
            most[this], most[other] = min(most[this], self.need[cell] - moved), 0.0
            direction = -np.concatenate([cost, cost]) - 1e-4
            direction[this] = 1e6
            paths.bound(np.zeros(len(most)), most)
            both = paths.furthest(direction)[0]
            change = both[: len(chosen)] - both[len(chosen) :]
            if abs(change[cell]) > _SLACK:
                chosen |= np.abs(change) > _SLACK
                self._keep(change)
                moved += abs(change[cell])
            if moved >= self.need[cell] - _SLACK:
                return

    def _cheapest(self) -> Flags:
        """The cheapest cells that obey the cuts, with those that are withheld already; none alone in a sum."""
        cuts = self.cuts.copy()
        while True:
            chosen = self._cover(cuts)
            more = self._company(chosen)
            if not more:
                self.cuts = cuts
                return chosen
            cuts += more

    def _company(self, chosen: Flags) -> list[tuple[int, Cells, Floats, float]]:
        """Cuts for cells that were chosen but are alone in a sum: there they could not change."""
        movable = chosen & (self.open | self.movable)
        rows = np.flatnonzero(self.links @ movable.astype(float) == 1)
        lonely = []
        for row in rows:
            cells = self.links.indices[self.links.indptr[row] : self.links.indptr[row + 1]].astype(np.int64)
            (cell,) = cells[movable[cells]]
            if not self.open[cell]:
                continue
            choice = cells[self.open[cells]]
            lonely.append((int(cell), choice, np.where(choice == cell, -1.0, 1.0), 0.0))
        return lonely

    def _cover(self, cuts: list[tuple[int, Cells, Floats, float]]) -> Flags:
        chosen = self.kept.copy()
        if not cuts:
            return chosen
        columns = np.unique(np.concatenate([cut[1] for cut in cuts]))
        weights = self.state.weights[self.cells[columns]]
        cover = Cover(weights, self.kept[columns], np.ones(len(columns), bool), _GAP * self.is_large)
        for _, cells, amounts, least in cuts:
            cover.demand(np.searchsorted(columns, cells), amounts, least)
        chosen[columns[cover.cheapest()]] = True
        return chosen

    def _held_alone(self, needy: Flags) -> Flags:
        """A cell that is withheld alone in a sum needs another one there; without any it cannot change here at all."""
        needy = needy.copy()
        movable = self.forced | self.open
        links = self.links
        while True:
            others = links @ movable.astype(float)
            stuck = movable & (links.T @ (others < 1.5).astype(float) > 0)
            if not stuck.any():
                break
            movable &= ~stuck
        needy &= movable
        self.open &= movable
        self.movable = movable
        alone = np.flatnonzero(
            (links @ (self.forced & movable).astype(float) == 1) & (links @ needy.astype(float) == 1)
        )
        for row in alone:
            cells = links.indices[links.indptr[row] : links.indptr[row + 1]].astype(np.int64)
            choice = cells[self.open[cells]]
            self.cuts.append((int(cells[needy[cells]][0]), choice, np.ones(len(choice)), 1.0))
        return needy

    def _unproven(self, chosen: Flags, needy: Flags) -> Flags:
        """Needy cells that no two whole tables show to be wide enough; one pair of tables serves many cells."""
        self.changes.bound(np.where(chosen, self.down, 0.0), np.where(chosen, self.up, 0.0))
        random = np.random.default_rng(0)
        left = needy & (self.high - self.low < self.need - _SLACK)
        while left.any():
            direction = np.where(random.random(len(left)) < 0.5, 1.0, -1.0) * left
            for sign in (1.0, -1.0):
                self._keep(self.changes.furthest(sign * direction)[0])
            still = left & (self.high - self.low < self.need - _SLACK)
            if 20 * np.count_nonzero(still) > 19 * np.count_nonzero(left):
                return still
            left = still
        return left

    def _searched(self, chosen: Flags, needy: Flags) -> Flags:
        """The same, after every one of them was sought by itself."""
        left = self._unproven(chosen, needy)
        random = np.random.default_rng(0)
        for cell in np.flatnonzero(left):
            if not self._is_wide(int(cell)):
                others = 1e-3 * np.where(random.random(len(left)) < 0.5, 1.0, -1.0) * left
                for sign in (1.0, -1.0):
                    self._keep(self.changes.furthest(sign * (others + _unit(int(cell), len(left))))[0])
        return left & (self.high - self.low < self.need - _SLACK)

    def _keep(self, change: Floats) -> None:
        """Widen what is proven by a table, if it is one of whole numbers."""
        whole = np.rint(change)
        if np.abs(whole - change).max(initial=0) < _SLACK and not (self.relations @ whole).any():
            self.low, self.high = np.minimum(self.low, whole), np.maximum(self.high, whole)

    def _cut(self, chosen: Flags, left: Flags) -> tuple[bool, Flags]:
        """Forbid what lets an attacker narrow cells that are `left`: whether cuts were added, and hopeless cells."""
        is_hopeless, before = np.zeros(len(chosen), bool), len(self.cuts)
        rest = [int(cell) for cell in np.flatnonzero(left)]
        for nudge in (_NUDGE, 0.0):
            give = np.where(self.open, nudge, 0.0)
            self.changes.bound(np.where(chosen, self.down, -give), np.where(chosen, self.up, give))
            rest = [cell for cell in rest if not self._forbid(cell, chosen, is_hopeless, not nudge)]
        for cell in rest:
            if not self._is_wide(cell):
                self._keep_whole(cell, chosen)
            if not self._is_wide(cell):
                self._demand(cell, (self.open & ~chosen).astype(float), is_hopeless)
        return len(self.cuts) > before, is_hopeless

    def _forbid(self, cell: int, chosen: Flags, is_hopeless: Flags, keep: bool) -> bool:
        """Add the cut that the attack on this cell gives; false if the attack fails."""
        up = None
        for sign in (1.0, -1.0):
            change, reduced = self.changes.furthest(sign * _unit(cell, len(chosen)))
            if keep:
                self._keep(change)
            this = np.maximum(reduced * self.up, reduced * self.down)
            # What proves how far a cell goes up mostly proves how far it goes down as well.
            other = np.maximum(-reduced * self.up, -reduced * self.down) if up is None else up
            up, amounts = this, this + other
            least = self.need[cell] - amounts[self.forced].sum()
            if least > _SLACK and amounts[chosen & ~self.forced].sum() < least - _SLACK:
                self._demand(cell, amounts / least, is_hopeless)
                return True
        return False

    def _demand(self, cell: int, amounts: Floats, is_hopeless: Flags) -> None:
        """Amounts per cell that must reach 1."""
        amounts = np.where(self.open, np.minimum(amounts, 1.0), 0.0)
        if amounts.sum() < 1 - _SLACK:
            is_hopeless[cell] = True
        else:
            cells = np.flatnonzero(amounts > _SLACK)
            self.cuts.append((cell, cells, amounts[cells], 1.0))

    def _is_wide(self, cell: int) -> bool:
        return bool(self.high[cell] - self.low[cell] >= self.need[cell] - _SLACK)

    def _keep_whole(self, cell: int, chosen: Flags) -> None:
        """Fractions go far enough; whether whole numbers do only an integer programme tells."""
        low, high = np.where(chosen, self.down, 0.0), np.where(chosen, self.up, 0.0)
        for sign in (1.0, -1.0):
            change = furthest_whole(self.relations, low, high, sign * _unit(cell, len(chosen)))
            if change is not None:
                self._keep(change)


def _unit(cell: int, cells: int) -> Floats:
    direction = np.zeros(cells)
    direction[cell] = 1.0
    return direction
