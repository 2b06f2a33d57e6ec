"""Which cells are withheld so that nobody proves a small one: primary and complementary suppression (METHOD 4.3, 4.4).

The model is METHOD 4.4's, solved for all primaries at once by cuts (Fischetti and Salazar 2001): choose the cheapest
cells, let an attacker with a linear programme narrow every primary, and forbid what let him; until he cannot.
"""

from itertools import chain
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from transforms.programmes import (
    Changes,
    Cover,
    HardToFind,
    Paths,
    furthest_whole,
    merged_columns,
    movable_columns,
    whole_part,
)
from transforms.publication import COMPLEMENT, STUDENTS, Problem, Rule
from transforms.scopes import Part, Scopes, components

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Cells = NDArray[np.int64]

DEAR = 20.0
"""A total costs as many times its weight (METHOD 4.4)."""
_WHOLE_DEAR = 5.0
"""What is said of the whole costs as many times more than that: a state must be able to say how it stands."""
_EXACT = 500
"""Cells that sums link to one another, up to which the cheapest pattern of all is sought."""
_LOST = 12
"""Cells for which another proof is sought before a cell is released again."""
_ROUNDS = 12
"""Pairs of tables tried on many cells at once, before cells are sought one by one."""
_CUTS = 500
"""Cuts after which the cheapest pattern is given up for a cheap one: with so many it takes long to find."""
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
    for part in components(problem, np.ones(len(is_primary), bool)):
        if len(part) > _EXACT or not state.protect_exactly(part):
            _protect_in_steps(state, Scopes(problem, part, state.withheld, state.is_safe), part)
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
    """1 + ln(1 + value), totals 20 times that (METHOD 4.4), and those of the whole 100 times."""
    weights = 1 + np.log1p(cells["value"].to_numpy())
    is_whole = (cells["level"] == 0).to_numpy() & (cells["level"] > 0).any()
    return np.where(cells["is_total"].to_numpy(), DEAR, 1.0) * np.where(is_whole, _WHOLE_DEAR, 1.0) * weights


def _protect_in_steps(state: "_State", scopes: Scopes, part: Cells) -> None:
    """Protect first what the smallest tables can protect, their totals standing still; then more and more at once.

    What is wide for who knows all the rest is wide. So nothing of an earlier step has to be looked at again.
    """
    state.enlarge(part)
    is_complete = False
    while not is_complete:
        for each in chain(scopes.tables(state.is_open | state.withheld), scopes.districts()):
            state.protect(each)
        for each in scopes.crossings(with_alike=True):
            state.prove(each)
        for each in chain(
            scopes.crossings(with_alike=False),
            scopes.helped(with_whole=False),
            scopes.helped(with_whole=True),
            scopes.everything(),
        ):
            state.protect(each)
        is_complete = not state.enlarge(part)
    state.show_again(part)


class _State:
    """The pattern so far. Safe cells stay so: to withhold more only widens what an attacker can prove."""

    def __init__(self, problem: Problem, rule: Rule, is_primary: Flags, weights: Floats) -> None:
        cells = problem.cells
        self.relations = problem.relations
        self.of_cell = problem.relations.tocsc()
        self.own = problem.own
        self.is_link = (problem.sums["over"] == "statistic").to_numpy()
        self.least_category = rule.min_category
        self.total = problem.sums["total"].to_numpy()
        self.value = cells["value"].to_numpy().astype(float)
        self.weights = weights
        self.is_primary = is_primary
        self.threshold = rule.thresholds(cells["kind"]).astype(float)
        self.least_rest = np.where(self.is_link, self.least_category, self.threshold[self.total])
        self.need = np.where(is_primary, self.threshold - 1, 1.0)
        self.down = np.minimum(rule.least(cells["kind"]) - self.value, 0.0)
        self.up = problem.ceiling - self.value
        shown = cells["shown"]
        self.is_open = shown.is_null().to_numpy() & (self.value >= rule.least(cells["kind"]))
        self.is_safe = np.zeros(len(cells), bool)
        self.withheld = (is_primary & ~shown.fill_null(False).to_numpy()) | (~shown.fill_null(True)).to_numpy()
        self.is_whole = (cells["kind"] == STUDENTS).to_numpy()

    def protect_exactly(self, part: Cells) -> bool:
        """Withhold the cheapest cells of all that protect what can be protected; false if they are hard to find."""
        is_complete = False
        while not is_complete:
            cells = part[self.is_open[part] | self.withheld[part]]
            needy = self.withheld[cells] & ~self.is_safe[cells]
            if needy.any() and not _Block(self, cells).protect(needy):
                return False
            is_complete = not self.enlarge(part)
        return True

    def prove(self, part: Part) -> None:
        """Find which withheld cells are safe by changes of withheld cells of this part alone."""
        if (self.withheld[part.own] & ~self.is_safe[part.own]).any():
            _Scope(self, part.cells[self.withheld[part.cells]], part.own).prove()

    def protect(self, part: Part) -> None:
        """Withhold few more cells of this part, so that changes among them alone make its own safe."""
        self.prove(part)
        if (self.withheld[part.own] & ~self.is_safe[part.own]).any():
            cells = part.cells
            # Numbers of students that can be shown are: to withhold them beside their counts is seldom cheaper.
            may = self.is_open[cells] & (~self.is_whole[cells] | (self.withheld & self.is_whole)[cells].any())
            _Scope(self, cells[may | self.withheld[cells]], part.own).protect()

    def enlarge(self, part: Cells) -> bool:
        """Withhold one more cell of every sum whose withheld parts are a small number (SEMANTICS 8.3)."""
        hidden = np.where(self.withheld, self.value, 0.0)
        rest = (self.relations > 0) @ hidden
        inside = np.isin(self.total, part) & ~self.withheld[self.total]
        small = np.flatnonzero(inside & (rest > 0) & (rest < self.least_rest))
        added = False
        for row in small.tolist():
            cells = self._of_sum(row)
            if self.withheld[self.total[row]] or self.value[self._parts(row)].sum() >= self.least_rest[row]:
                continue
            open_ = cells[self.is_open[cells] & ~self.withheld[cells]]
            missing = self.least_rest[row] - self.value[self._parts(row)].sum()
            enough = open_[(open_ == self.total[row]) | (self.value[open_] >= missing)]
            if len(enough):
                self.withheld[enough[np.argmin(self.weights[enough])]] = added = True
        return added

    def show_again(self, part: Cells) -> None:
        """Show what is neither small nor could be changed: it protects nobody, unless a small remainder needs it."""
        for cell in part[self.withheld[part] & ~self.is_safe[part] & ~self.is_primary[part] & self.is_open[part]]:
            self.withheld[cell] = False
            self.withheld[cell] = self.is_needed(int(cell))

    def is_needed(self, cell: int) -> bool:
        """As long as this cell is shown some shown total leaves a small number to its withheld parts."""
        rows = self.of_cell.indices[self.of_cell.indptr[cell] : self.of_cell.indptr[cell + 1]]
        for row in rows:
            if not self.withheld[self.total[row]] and 0 < self.value[self._parts(row)].sum() < self.least_rest[row]:
                return True
        return False

    def _of_sum(self, row: int) -> Cells:
        return self.relations.indices[self.relations.indptr[row] : self.relations.indptr[row + 1]]

    def _parts(self, row: int) -> Cells:
        """Withheld parts of a sum."""
        cells = self._of_sum(row)
        return cells[self.withheld[cells] & (cells != self.total[row])]


class _Tables:
    """Changes found so far, and how far apart they are in each column."""

    def __init__(self, relations: sparse.csr_array, need: Floats) -> None:
        self.relations, self.need = relations, need
        self.low, self.high = np.zeros(len(need)), np.zeros(len(need))

    def is_wide(self) -> Flags:
        """Columns that two of the tables show to be wide enough."""
        return self.high - self.low >= self.need - _SLACK

    def keep(self, change: Floats) -> Floats:
        """Believe a change in whole numbers; what is linked to a fraction stands still. What was believed."""
        whole = whole_part(self.relations, change)
        if (self.relations @ whole).any():
            whole = np.zeros(len(change))
        self.low, self.high = np.minimum(self.low, whole), np.maximum(self.high, whole)
        return whole


class _Scope:
    """Cells that may change while everything else stands still, those that only change as one in one column."""

    def __init__(self, state: _State, cells: Cells, own: Cells) -> None:
        relations = state.own[:, cells].tocsr()
        movable = movable_columns(relations)
        cells, relations = cells[movable], relations[:, movable]
        merged = merged_columns(relations[np.flatnonzero(np.diff(relations.indptr))]).tocoo()
        columns, self.column = np.unique(merged.col, return_inverse=True)
        order = np.argsort(merged.row)
        self.state, self.cells = state, cells
        self.column, sign = self.column[order], merged.data[order]
        self.size = len(columns)
        as_one = sparse.csr_array((sign, (np.arange(len(cells)), self.column)), shape=(len(cells), self.size))
        relations = relations @ as_one
        relations.eliminate_zeros()
        self.relations = relations[np.flatnonzero(np.diff(relations.indptr))]
        down = np.where(sign > 0, state.down[cells], -state.up[cells])
        up = np.where(sign > 0, state.up[cells], -state.down[cells])
        self.down, self.up, self.need = np.full(self.size, -np.inf), np.full(self.size, np.inf), np.zeros(self.size)
        np.maximum.at(self.down, self.column, down)
        np.minimum.at(self.up, self.column, up)
        np.maximum.at(self.need, self.column, state.need[cells])
        is_unsafe = state.withheld[cells] & ~state.is_safe[cells]
        self.is_wanted = np.bincount(self.column, is_unsafe, self.size) > 0
        self.is_own = np.bincount(self.column, is_unsafe & np.isin(cells, own), self.size) > 0

    def prove(self) -> None:
        """Find pairs of tables for the unsafe cells: many at once, then one by one those that can change at all."""
        if not self.is_own.any():
            return
        tables, changes = _Tables(self.relations, self.need), Changes(self.relations)
        random, left = np.random.default_rng(0), self.is_wanted
        for _ in range(_ROUNDS):
            self._bound(changes, left)
            direction = np.where(random.random(self.size) < 0.5, 1.0, -1.0) * left
            for sign in (1.0, -1.0):
                tables.keep(changes.furthest(sign * direction))
            still = self.is_wanted & ~tables.is_wide()
            is_slow = 4 * np.count_nonzero(still) > 3 * np.count_nonzero(left)
            left = still
            if is_slow or not left.any():
                break
        for column in np.flatnonzero(left & self.is_own & (tables.high > tables.low)):
            left = self.is_wanted & ~tables.is_wide()
            for sign in (1.0, -1.0) if left[column] else ():
                self._bound(changes, left)
                direction = 1e-3 * np.where(random.random(self.size) < 0.5, 1.0, -1.0) * left
                direction[column] = sign
                tables.keep(changes.furthest(direction))
        self.state.is_safe[self.cells[tables.is_wide()[self.column]]] = True

    def _bound(self, changes: Changes, left: Flags) -> None:
        """No further than a column needs: what one does not take another can."""
        low, high = np.maximum(self.down, -self.need), np.minimum(self.up, self.need)
        changes.bound(np.where(left, low, self.down), np.where(left, high, self.up))

    def protect(self) -> None:
        """Withhold the cells along the cheapest change that moves one unsafe cell; then the next, smallest first."""
        if not self.is_own.any():
            return
        state, cells = self.state, self.cells
        cost = np.where(state.withheld[cells], 0.0, state.weights[cells])
        self.cost = np.bincount(self.column, cost, self.size).astype(float)
        chosen = np.bincount(self.column, ~state.withheld[cells], self.size) == 0
        given = chosen.copy()
        value = np.full(self.size, np.inf)
        np.minimum.at(value, self.column, state.value[cells])
        self.paths = Paths(self.relations)
        tables, kept = _Tables(self.relations, self.need), []
        price = self.cost / np.minimum(self.need, np.maximum(1, self.up))
        order = np.flatnonzero(self.is_own)
        for column in order[np.lexsort((order, value[order]))]:
            if not tables.is_wide()[column]:
                found = self._path(
                    int(column), np.where(chosen, 0.0, price), np.ones(self.size, bool), tables, is_hard=True
                )
                chosen |= (found != 0).any(axis=0)
                kept.append(found)
        changes = np.concatenate([*kept, np.zeros((0, self.size))])
        chosen, changes = self._released(chosen, given, self.is_wanted & tables.is_wide(), changes)
        apart = changes.max(axis=0, initial=0) - changes.min(axis=0, initial=0)
        state.is_safe[cells[(chosen & (apart >= self.need - _SLACK))[self.column]]] = True

    def _path(self, column: int, price: Floats, may: Flags, tables: _Tables, *, is_hard: bool) -> Floats:
        """Whole changes, none or up to two, that together move a column as far as it needs, at least price."""
        found, moved = [], 0.0
        for side in (0, 1):
            low, high = (self.down * may, self.up * may) if side == 0 else (-self.up * may, -self.down * may)
            high[column] = min(high[column], self.need[column] - moved)
            change = self.paths.furthest(column, low, high, price, is_hard=is_hard) * (1 if side == 0 else -1)
            if change[column]:
                found.append(change)
                moved += abs(change[column])
            if moved >= self.need[column] - _SLACK:
                for change in found:
                    tables.keep(change)
                return np.array(found)
        return np.zeros((0, self.size))

    def _released(self, chosen: Flags, given: Flags, wanted: Flags, changes: Floats) -> tuple[Flags, Floats]:
        """Show again what is not needed, dearest first, as long as other changes are found for what it served."""
        state, before = self.state, self.state.withheld[self.cells]
        state.withheld[self.cells[chosen[self.column]]] = True
        added = np.flatnonzero(chosen & ~given)
        for column in added[np.lexsort((added, -self.cost[added]))]:
            cells = self.cells[(self.column == column) & ~before]
            state.withheld[cells] = False
            is_needed = any(state.is_needed(int(cell)) for cell in cells)
            left = None if is_needed else self._without(column, chosen, wanted, changes)
            if left is None:
                state.withheld[cells] = True
            else:
                changes = left
                chosen = chosen.copy()
                chosen[column] = False
        return chosen, changes

    def _without(self, column: int, chosen: Flags, wanted: Flags, changes: Floats) -> Floats | None:
        """Changes that leave this column alone and move all that is wanted far enough; None if there are none."""
        changes = changes[changes[:, column] == 0]
        tables = _Tables(self.relations, self.need)
        tables.low, tables.high = changes.min(axis=0, initial=0), changes.max(axis=0, initial=0)
        lost = np.flatnonzero(wanted & ~tables.is_wide())
        if len(lost) > _LOST:
            return None
        may = chosen.copy()
        may[column] = False
        for each in lost:
            if not tables.is_wide()[each]:
                found = self._path(int(each), self.cost * 1e-2, may, tables, is_hard=False)
                if not len(found):
                    return None
                changes = np.concatenate([changes, found])
        return changes


class _Block:
    """Cells that may change while everything else stands still."""

    def __init__(self, state: _State, cells: Cells) -> None:
        self.state, self.cells = state, cells
        own = state.own[:, cells].tocsr()
        self.relations = own[np.flatnonzero(np.diff(own.indptr))]
        self.links = abs(self.relations)
        self.changes = Changes(self.relations)
        self.down, self.up = state.down[cells], state.up[cells]
        self.need = state.need[cells]
        self.forced = state.withheld[cells]
        self.open = ~self.forced
        self.kept = self.forced.copy()
        self._forget()
        self.cuts: list[tuple[int, Cells, Floats, float]] = []

    def protect(self, needy: Flags) -> bool:
        """Withhold the cheapest cells that make the needy wide; those that nothing here can help are left.

        Returns:
            Whether they were found in so many rounds; if not, nothing is withheld.
        """
        needy = self._held_alone(needy)
        chosen = self._at_once(needy)
        if chosen is None:
            return False
        state = self.state
        self._searched(chosen, chosen)
        for cell in np.flatnonzero(chosen & self.open & (self.high == self.low)):
            self._keep_whole(int(cell), chosen)
        # Who cannot change protects nobody.
        chosen &= ~(self.open & (self.high == self.low))
        state.withheld[self.cells] = chosen
        state.is_safe[self.cells] |= chosen & (self.high - self.low >= self.need - _SLACK)
        return True

    def _at_once(self, needy: Flags) -> Flags | None:
        """The cheapest pattern of all: cuts until the attacker fails everywhere."""
        while len(self.cuts) < _CUTS:
            try:
                chosen = self._cheapest()
            except HardToFind:
                return None
            self._forget()
            is_cut, is_hopeless = self._cut(chosen, self._unproven(chosen, needy))
            if is_hopeless.any():
                needy = needy & ~is_hopeless
                self.cuts = [cut for cut in self.cuts if not is_hopeless[cut[0]]]
            elif not is_cut:
                return chosen
        return None

    def _forget(self) -> None:
        """What was proven with other cells withheld does not count."""
        self.low, self.high = np.zeros(len(self.cells)), np.zeros(len(self.cells))

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
        cover = Cover(weights, self.kept[columns], np.ones(len(columns), bool))
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
                self._keep(self.changes.furthest(sign * direction))
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
                    self._keep(self.changes.furthest(sign * (others + _unit(int(cell), len(left)))))
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
            change, reduced = self.changes.proven(sign * _unit(cell, len(chosen)))
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
