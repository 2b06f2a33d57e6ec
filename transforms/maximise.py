"""Newton's method for many small problems at once: no problem looks at another, so any batch gives the same."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Derivatives = tuple[Floats, Floats, Floats]
"""Value `[problem]`, gradient `[problem, parameter]` and Hessian `[problem, parameter, parameter]`."""
Evaluate = Callable[[Places, Floats], Derivatives]

_STEPS = 80
_LONGEST = 1.5
_SLACK = 1e-6
"""Fall of the value that is still noise of the quadrature behind it."""
_FLAT = 1e-6
_STUCK = 1e6


def maximise(evaluate: Evaluate, start: Floats, low: Floats, high: Floats, near: float = 1e-6) -> tuple[Floats, Floats]:
    """Maximise every problem within a box, from the start on.

    A parameter at a bound it is pushed against stays there. Where the value is not concave, the step climbs along
    every axis of the Hessian; a step that loses value is damped and tried again.

    Args:
        evaluate: Value and derivatives of the named problems at one point each.
        start: `[problem, parameter]`, within the box.
        low: Lower ends, `[parameter]`.
        high: Upper ends, `[parameter]`.
        near: A step shorter than this is the last; what it leaves is about its square.

    Returns:
        The points found and their values.
    """
    point = start.copy()
    value, gradient, hessian = evaluate(np.arange(len(point)), point)
    damping = np.zeros(len(point))
    active = np.arange(len(point))
    for _ in range(_STEPS):
        if not len(active):
            break
        here = point[active]
        wanted = here + _steps(here, gradient[active], hessian[active], damping[active], low, high)
        there = np.clip(wanted, low, high)
        found, slope, bend = evaluate(active, there)
        better = found >= value[active] - _SLACK
        length = np.abs(there - here).max(axis=1)
        moved = active[better]
        point[moved], value[moved] = there[better], found[better]
        gradient[moved], hessian[moved] = slope[better], bend[better]
        damping[active] = np.where(better, damping[active] / 10, np.maximum(10 * damping[active], 1.0))
        damping[moved] = np.where(damping[moved] < _FLAT, 0.0, damping[moved])
        active = active[~(better & (length < near)) & (damping[active] < _STUCK)]
    return point, value


def _steps(point: Floats, gradient: Floats, hessian: Floats, damping: Floats, low: Floats, high: Floats) -> Floats:
    held = ((point <= low) & (gradient < 0)) | ((point >= high) & (gradient > 0))
    free = ~held
    gradient = np.where(free, gradient, 0.0)
    hessian = np.where(free[:, :, None] & free[:, None, :], hessian, 0.0)
    bends, axes = np.linalg.eigh(hessian)
    along = np.einsum("gpk,gp->gk", axes, gradient)
    steps = np.einsum("gpk,gk->gp", axes, along / (np.maximum(np.abs(bends), _FLAT) + damping[:, None]))
    longest = np.abs(steps).max(axis=1, keepdims=True)
    return steps * np.minimum(1.0, _LONGEST / np.maximum(longest, _LONGEST * 1e-3))
