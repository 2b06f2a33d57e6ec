"""Linear programmes over changes of cells, solved by HiGHS again and again from where the last one ended."""

from functools import cached_property
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

Floats = NDArray[np.float64]

_NODES = 500
_FRACTION = 1e-6
_STEP = 1e-4
"""Price of a step that costs nothing: of equal changes the one of fewest cells is taken."""
_TRIES = 6
"""Times that a linear programme is asked for a change in whole numbers, where fractions go far enough."""
_CHEAP = 0.5
"""A change in whole numbers may cost as much more than the cheapest, as a share."""
_DUAL_SIMPLEX, _PRIMAL_SIMPLEX = 1, 4


def movable_columns(relations: sparse.csr_array) -> NDArray[np.bool_]:
    """Columns that stand alone in no sum, when those that do are left out."""
    links, movable = abs(relations), np.ones(relations.shape[1], bool)
    while True:
        stuck = movable & (links.T @ (links @ movable.astype(float) == 1).astype(float) > 0)
        if not stuck.any():
            return movable
        movable &= ~stuck


def merged_columns(relations: sparse.csr_array) -> sparse.csr_array:
    """Columns that can only change as one: a row per column of the sums, 1 or -1 at the column that stands for it."""
    size = relations.shape[1]
    merged = sparse.eye_array(size, format="csr")
    while True:
        relations.sum_duplicates()
        relations.eliminate_zeros()
        pairs = np.flatnonzero(np.diff(relations.indptr) == 2)
        first, second = relations.indptr[pairs], relations.indptr[pairs] + 1
        low, high = relations.indices[first], relations.indices[second]
        sign = np.where(relations.data[first] == relations.data[second], -1.0, 1.0)
        is_plain = (np.abs(relations.data[first]) == np.abs(relations.data[second])) & (low != high)
        if not is_plain.any():
            return merged
        low, high = np.minimum(low, high)[is_plain], np.maximum(low, high)[is_plain]
        parent, factor = np.arange(size), np.ones(size)
        parent[high], factor[high] = low, sign[is_plain]
        while (parent[parent] != parent).any():
            parent, factor = parent[parent], factor * factor[parent]
        step = sparse.csr_array((factor, (np.arange(size), parent)), shape=(size, size))
        merged, relations = (merged @ step).tocsr(), (relations @ step).tocsr()


def whole_part(relations: sparse.csr_array, change: Floats) -> Floats:
    """A change in whole numbers: what sums link to a fraction in it stands still."""
    whole = np.rint(change)
    is_odd = np.abs(whole - change) >= _FRACTION
    if is_odd.any():
        links = abs(relations) @ sparse.diags_array((np.abs(change) > _FRACTION).astype(float))
        label = csgraph.connected_components(links.T @ links, directed=False)[1]
        whole[np.isin(label, label[is_odd])] = 0.0
    return whole


class Changes:
    """All ways to change cells so that every sum still holds: `relations @ change = 0` within bounds.

    No change at all is always one of them, so the primal simplex starts from the last answer whatever the objective.
    """

    def __init__(self, relations: sparse.csr_array) -> None:
        self.relations = relations.tocsc()
        self.cells = relations.shape[1]
        self._every = np.arange(self.cells, dtype=np.int32)
        self._solver = _solver()
        self._solver.setOptionValue("presolve", "off")
        self._solver.passModel(_model(self.relations))
        self._is_feasible = False
        self._patience = 1000 + 5 * self.cells

    def bound(self, low: Floats, high: Floats) -> None:
        """Let every cell change by as much."""
        self._solver.changeColsBounds(self.cells, self._every, low, high)
        self._is_feasible = False

    def furthest(self, direction: Floats) -> Floats:
        """A change that goes as far as it can."""
        self._solver.changeColsCost(self.cells, self._every, direction)
        # The last answer still obeys the bounds if they are the same; then only the objective is another.
        self._solver.setOptionValue("simplex_strategy", _PRIMAL_SIMPLEX if self._is_feasible else _DUAL_SIMPLEX)
        self._solver.setOptionValue("simplex_iteration_limit", self._patience)
        self._solver.run()
        self._is_feasible = True
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            # The simplex can run in circles; the dual one, from scratch, then does not.
            return self.furthest_afresh(direction)
        return np.array(self._solver.getSolution().col_value)

    def furthest_afresh(self, direction: Floats) -> Floats:
        """The same, forgetting the last answer: sooner found if the new one is near no change at all."""
        self._solver.clearSolver()
        self._solver.changeColsCost(self.cells, self._every, direction)
        self._solver.setOptionValue("simplex_strategy", _DUAL_SIMPLEX)
        self._solver.setOptionValue("simplex_iteration_limit", highspy.kHighsIInf)
        self._solver.run()
        return np.array(self._solver.getSolution().col_value)

    def proven(self, direction: Floats) -> tuple[Floats, Floats]:
        """The same, and the reduced cost of every cell: what proves that no change goes further.

        For any change within any bounds, `direction @ change` is `reduced @ change`.
        """
        change = self.furthest(direction)
        reduced = direction - self.relations.T @ np.array(self._solver.getSolution().row_dual)
        reduced[np.abs(reduced) < 1e-9] = 0.0
        return change, reduced


class Paths:
    """The same for one cell at a time, by changes of few others: in tables most of these are whole numbers."""

    def __init__(self, relations: sparse.csr_array) -> None:
        self.relations, self.cells = relations, relations.shape[1]
        self._changes = Changes(sparse.hstack([relations, -relations]).tocsr())

    def furthest(self, cell: int, low: Floats, high: Floats, price: Floats, *, is_hard: bool = True) -> Floats:
        """The cheapest whole change within bounds that moves a cell up as far as it can; none where none is found.

        To move it down, give the bounds of the change backwards: -high and -low.

        Args:
            cell: Which is moved.
            low: Furthest down.
            high: Furthest up.
            price: Of a step of each cell.
            is_hard: Ask an integer programme where all else gives fractions.
        """
        most, price = np.concatenate([high, -low]), np.concatenate([price, price]) + _STEP
        most[self.cells + cell] = 0.0
        self._changes.bound(np.zeros(2 * self.cells), most)
        random, may = np.random.default_rng(0), price <= _STEP
        for again in range(_TRIES):
            # Of dearer changes one may be whole where the cheapest is a fraction.
            direction = -price * (1 + random.random(2 * self.cells) * (again > 0))
            direction[cell] = 1e6
            both = self._changes.furthest_afresh(direction)
            whole = whole_part(self.relations, both[: self.cells] - both[self.cells :])
            if both[cell] < _FRACTION or (whole[cell] and not (self.relations @ whole).any()):
                return whole if whole[cell] else np.zeros(self.cells)
            may |= both > _FRACTION
        most[cell] = np.floor(both[cell] + _FRACTION)
        return self._among(cell, np.flatnonzero(may & (most > 0)), most, price) if is_hard else np.zeros(self.cells)

    def _among(self, cell: int, steps: NDArray[np.int64], most: Floats, price: Floats) -> Floats:
        """A change in whole numbers that moves a cell so far by these steps up and down; none if there is none."""
        solver, high = _solver(), most[steps]
        relations = sparse.hstack([self.relations, -self.relations]).tocsc()[:, steps].tocsr()
        relations = relations[np.flatnonzero(np.diff(relations.indptr))].tocsc()
        model = _model(relations, np.where(steps == cell, high, 0.0), high)
        model.sense_, model.col_cost_ = highspy.ObjSense.kMinimize, price[steps]
        model.integrality_ = [highspy.HighsVarType.kInteger] * len(steps)
        solver.setOptionValue("mip_rel_gap", _CHEAP)
        solver.setOptionValue("mip_max_nodes", _NODES)
        solver.passModel(model)
        solver.run()
        both = np.zeros(2 * self.cells)
        if solver.getInfo().primal_solution_status == highspy.kSolutionStatusFeasible:
            both[steps] = np.rint(np.array(solver.getSolution().col_value))
        return both[: self.cells] - both[self.cells :]


class MergedChanges:
    """Both, with columns that can only change as one in one column, and without those that cannot change."""

    def __init__(self, relations: sparse.csr_array) -> None:
        self._movable = np.flatnonzero(movable_columns(relations))
        inside = relations[:, self._movable]
        merged = merged_columns(inside[np.flatnonzero(np.diff(inside.indptr))])
        kept = np.flatnonzero(np.diff(merged.tocsc().indptr))
        self._as_one = merged[:, kept]
        left = (inside @ self._as_one).tocsr()
        left.eliminate_zeros()
        entries = self._as_one.tocoo()
        self._row, self._column, self._is_alike = entries.row, entries.col, entries.data > 0
        self._cells, self._size = relations.shape[1], len(kept)
        self._relations = left[np.flatnonzero(np.diff(left.indptr))]

    @cached_property
    def _changes(self) -> Changes:
        return Changes(self._relations)

    @cached_property
    def _paths(self) -> Paths:
        return Paths(self._relations)

    def bound(self, low: Floats, high: Floats) -> None:
        """Let every cell change by as much."""
        self._changes.bound(*self._merged(low, high))

    def furthest(self, direction: Floats) -> Floats:
        """A change that goes as far as it can."""
        if not self._size:
            return np.zeros(self._cells)
        return self._of_cells(self._changes.furthest(self._as_one.T @ direction[self._movable]))

    def path(self, cell: int, sign: float, low: Floats, high: Floats) -> Floats:
        """A whole change of few cells within bounds that moves one cell as far as it can."""
        at = np.flatnonzero(self._movable[self._row] == cell)
        if not len(at):
            return np.zeros(self._cells)
        sign = sign if self._is_alike[at[0]] else -sign
        least, most = self._merged(low, high)
        least, most = (least, most) if sign > 0 else (-most, -least)
        return self._of_cells(sign * self._paths.furthest(int(self._column[at[0]]), least, most, np.ones(self._size)))

    def _merged(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        low, high = low[self._movable][self._row], high[self._movable][self._row]
        least, most = np.full(self._size, -np.inf), np.full(self._size, np.inf)
        np.maximum.at(least, self._column, np.where(self._is_alike, low, -high))
        np.minimum.at(most, self._column, np.where(self._is_alike, high, -low))
        return least, most

    def _of_cells(self, change: Floats) -> Floats:
        every = np.zeros(self._cells)
        every[self._movable] = self._as_one @ change
        return every


def furthest_whole(relations: sparse.csr_array, low: Floats, high: Floats, direction: Floats) -> Floats | None:
    """The same in whole numbers, from scratch; None where there is none."""
    solver = _solver()
    model = _model(relations.tocsc(), low, high)
    model.col_cost_ = direction
    model.integrality_ = [highspy.HighsVarType.kInteger] * len(low)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.passModel(model)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return np.rint(np.array(solver.getSolution().col_value))


def whole_table(relations: sparse.csr_array, sums: Floats, low: Floats, high: Floats) -> Floats | None:
    """Whole numbers within bounds with `relations @ numbers = sums`; None where there are none."""
    solver = _solver()
    model = _model(relations.tocsc(), low, high)
    model.row_lower_ = model.row_upper_ = sums
    model.integrality_ = [highspy.HighsVarType.kInteger] * len(low)
    solver.passModel(model)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return np.rint(np.array(solver.getSolution().col_value))


class HardToFind(Exception):
    """The cheapest choice takes longer to find than it is worth."""


class Cover:
    """The cheapest choice of cells that obeys every cut added so far; of equal ones that of the lowest numbers."""

    def __init__(self, weights: Floats, is_chosen: NDArray[np.bool_], is_open: NDArray[np.bool_]) -> None:
        self._solver = _solver()
        self._solver.setOptionValue("mip_rel_gap", 0.0)
        self._solver.setOptionValue("mip_max_nodes", _NODES)
        cells = len(weights)
        model = _model(sparse.csc_array((0, cells)), is_chosen.astype(float), (is_chosen | is_open).astype(float))
        model.sense_ = highspy.ObjSense.kMinimize
        model.col_cost_ = weights * (1 + np.arange(cells) * (1e-6 / max(cells, 1)))
        model.integrality_ = [highspy.HighsVarType.kInteger] * cells
        self._solver.passModel(model)

    def demand(self, cells: NDArray[np.int64], amounts: Floats, least: float) -> None:
        """The chosen cells' amounts must reach so much."""
        self._solver.addRow(least, highspy.kHighsInf, len(cells), cells.astype(np.int32), amounts)

    def cheapest(self) -> NDArray[np.bool_]:
        """The choice; `HardToFind` after so many branches."""
        self._solver.run()
        if self._solver.getModelStatus() == highspy.HighsModelStatus.kSolutionLimit:
            raise HardToFind
        if self._solver.getInfo().primal_solution_status != highspy.kSolutionStatusFeasible:
            raise ArithmeticError("no choice of cells satisfies the cuts")
        return np.array(self._solver.getSolution().col_value) > 0.5


def _solver() -> Any:
    solver = highspy.Highs()
    for name, value in (("output_flag", False), ("threads", 1), ("random_seed", 0)):
        solver.setOptionValue(name, value)
    return solver


def _model(relations: sparse.csc_array, low: Floats | None = None, high: Floats | None = None) -> Any:
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = relations.shape
    model.sense_ = highspy.ObjSense.kMaximize
    model.col_cost_ = np.zeros(relations.shape[1])
    model.col_lower_ = np.zeros(relations.shape[1]) if low is None else low
    model.col_upper_ = np.zeros(relations.shape[1]) if high is None else high
    model.row_lower_ = model.row_upper_ = np.zeros(relations.shape[0])
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = relations.indptr, relations.indices
    model.a_matrix_.value_ = relations.data
    return model
