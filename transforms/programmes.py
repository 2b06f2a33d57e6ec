"""Linear programmes over changes of cells, solved by HiGHS again and again from where the last one ended."""

from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]

_NODES = 20

_DUAL_SIMPLEX, _PRIMAL_SIMPLEX = 1, 4


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
        self._patience = 1000 + 5 * self.cells

    def bound(self, low: Floats, high: Floats) -> None:
        """Let every cell change by as much."""
        self._solver.changeColsBounds(self.cells, self._every, low, high)

    def furthest(self, direction: Floats) -> tuple[Floats, Floats]:
        """A change that goes as far as it can, and the reduced cost of every cell: what proves that none goes further.

        For any change within any bounds, `direction @ change` is `reduced @ change`.
        """
        self._solver.changeColsCost(self.cells, self._every, direction)
        self._solver.setOptionValue("simplex_strategy", _PRIMAL_SIMPLEX)
        self._solver.setOptionValue("simplex_iteration_limit", self._patience)
        self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            # The primal simplex can run in circles; the dual one, from scratch, then does not.
            self._solver.clearSolver()
            self._solver.setOptionValue("simplex_strategy", _DUAL_SIMPLEX)
            self._solver.setOptionValue("simplex_iteration_limit", highspy.kHighsIInf)
            self._solver.run()
        found = self._solver.getSolution()
        reduced = direction - self.relations.T @ np.array(found.row_dual)
        reduced[np.abs(reduced) < 1e-9] = 0.0
        return np.array(found.col_value), reduced


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


class Cover:
    """The cheapest choice of cells that obeys every cut added so far; of equal ones that of the lowest numbers."""

    def __init__(self, weights: Floats, is_chosen: NDArray[np.bool_], is_open: NDArray[np.bool_], gap: float) -> None:
        self._solver = _solver()
        self._solver.setOptionValue("mip_rel_gap", gap)
        if gap:
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
        self._solver.run()
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
