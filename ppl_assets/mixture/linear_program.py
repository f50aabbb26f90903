"""Linear programs over mixtures, solved by HiGHS and repaired to rounding error.

Quantities: weights as shares of the mixture, prices as objective per unit of a bound. Axis letters: D variables, R
rows.
HiGHS (Huangfu and Hall, Mathematical Programming Computation 10, 2018) accepts violations of 1e-7. Its answer is a
vertex: most variables lie on a bound, and the few others are determined by the rows that hold with equality. So
variables next to a bound are put on it and the others are solved for again. Two further steps make the answer
independent of the order of variables: they are sorted by content before solving, and those with identical columns share
their sum.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from ppl_assets.mixture.projection import Vector

# HiGHS counts a row as met when it is missed by less than 1e-7 of its unit, here the mean share of a variable. The
# variables it leaves on their bounds carry rounding errors only.
ROW_TIGHT, VARIABLE_TIGHT = 1e-6, 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Maximise gain_D x_D over low_D <= x_D <= high_D and row_low_R <= rows_RD x_D <= row_high_R (inf: no limit)."""

    gain_D: Vector
    low_D: Vector
    high_D: Vector
    rows_RD: Vector
    row_low_R: Vector
    row_high_R: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best vertex and what relaxing each row by one unit would gain, 0 where the row does not bind."""

    x_D: Vector
    low_price_R: Vector
    high_price_R: Vector


def maximise(program: Program) -> Optimum | None:
    """The optimum, or None where no point satisfies all bounds."""
    key_KD = np.vstack([program.high_D, program.low_D, program.rows_RD, -program.gain_D])
    order = np.lexsort(key_KD)
    rows_RD = program.rows_RD[:, order]
    unit = 1 / order.size
    bounds_D2 = np.column_stack([program.low_D, program.high_D])[order] / unit
    limits = np.concatenate([-program.row_low_R, program.row_high_R]) / unit
    limited = np.isfinite(limits)
    found = linprog(
        -program.gain_D[order],
        A_ub=np.vstack([-rows_RD, rows_RD])[limited],
        b_ub=limits[limited],
        bounds=bounds_D2,
        method="highs-ds",
    )
    if found.status == 2:
        return None
    if not found.success:
        raise RuntimeError(f"HiGHS did not solve a linear program of {order.size} variables: {found.message}")
    x_D = np.empty(order.size)
    x_D[order] = found.x * unit
    n_rows = len(program.row_low_R)
    price = np.zeros(limits.size)
    price[limited] = -found.ineqlin.marginals
    return Optimum(
        x_D=_shared(program, _repaired(program, x_D)), low_price_R=price[:n_rows], high_price_R=price[n_rows:]
    )


def _repaired(program: Program, x_D: Vector) -> Vector:
    """The vertex near x_D: tight variables on their bounds, the others moved so that tight rows hold exactly."""
    slack_D = VARIABLE_TIGHT * (program.high_D - program.low_D)
    x_D = np.where(x_D - program.low_D <= slack_D, program.low_D, x_D)
    x_D = np.where(program.high_D - x_D <= slack_D, program.high_D, x_D)
    free_D = (x_D > program.low_D) & (x_D < program.high_D)
    value_R = program.rows_RD @ x_D
    tight_low_R = np.abs(value_R - program.row_low_R) < ROW_TIGHT / len(x_D)
    tight_high_R = np.abs(value_R - program.row_high_R) < ROW_TIGHT / len(x_D)
    wanted_R = np.where(tight_low_R, program.row_low_R, program.row_high_R)
    tight_R = tight_low_R | tight_high_R
    if free_D.any() and tight_R.any():
        missing_R = (wanted_R - value_R)[tight_R]
        x_D[free_D] += np.linalg.lstsq(program.rows_RD[np.ix_(tight_R, free_D)], missing_R)[0]
    return np.clip(x_D, program.low_D, program.high_D)


def _shared(program: Program, x_D: Vector) -> Vector:
    """Variables with identical columns share what they hold above their lower bounds in proportion to their room."""
    column_KD = np.vstack([program.gain_D, program.rows_RD])
    _, group_D = np.unique(column_KD, axis=1, return_inverse=True)
    room_D = program.high_D - program.low_D
    room_G = np.bincount(group_D, weights=room_D)
    held_G = np.bincount(group_D, weights=x_D - program.low_D)
    share_G = np.divide(held_G, room_G, out=np.zeros_like(room_G), where=room_G > 0)
    alone_D = np.bincount(group_D)[group_D] == 1
    shared_D = np.minimum(program.low_D + room_D * share_G[group_D], program.high_D)
    return np.where(alone_D, x_D, shared_D)
