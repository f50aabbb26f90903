"""Linear programs over mixtures, solved by HiGHS and refined to rounding error.

Quantities: weights as shares of the mixture, prices as objective per unit of a bound. Axis letters: D variables, R
rows, G groups of alike variables. HiGHS (Huangfu and Hall, Mathematical Programming Computation 10, 2018) accepts
violations of 1e-7. Iterative refinement (Gleixner, Steffy, Wolter, INFORMS Journal on Computing 28, 2016) removes them:
the same program is solved again around the first answer, in a unit 2^20 times finer. Two further steps make the answer
independent of the order of variables: they are sorted by content before solving, and those with identical columns share
their sum.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ppl_assets.mixture.projection import NOTHING, Vector

FINER = 2.0**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Maximise gain_D x_D over low_D <= x_D <= high_D and row_low_R <= rows_RD x_D <= row_high_R (inf: no limit)."""

    gain_D: Vector
    low_D: Vector
    high_D: Vector
    rows_RD: Vector
    row_low_R: Vector
    row_high_R: Vector

    def around(self, x_D: Vector, scale: float) -> "Program":
        """The same program for (x - x_D) * scale; its prices are the same."""
        value_R = self.rows_RD @ x_D
        return replace(
            self,
            low_D=(self.low_D - x_D) * scale,
            high_D=(self.high_D - x_D) * scale,
            row_low_R=(self.row_low_R - value_R) * scale,
            row_high_R=(self.row_high_R - value_R) * scale,
        )

    def sorted_by(self, order_D: NDArray[np.intp]) -> "Program":
        """The same program with its variables in another order."""
        return replace(
            self,
            gain_D=self.gain_D[order_D],
            low_D=self.low_D[order_D],
            high_D=self.high_D[order_D],
            rows_RD=self.rows_RD[:, order_D],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best point, and what relaxing a row by one unit would gain: 0 where the row does not bind."""

    x_D: Vector
    low_price_R: Vector
    high_price_R: Vector


def maximise(program: Program) -> Optimum | None:
    """The optimum, or None where no point satisfies all bounds."""
    n = program.gain_D.size
    order = np.lexsort(np.vstack([program.high_D, program.low_D, program.rows_RD, -program.gain_D]))
    alike = program.sorted_by(order)
    # variables are shares: counted in their mean, they are of order 1 as HiGHS' tolerances suppose
    rough = _solved(alike.around(np.zeros(n), float(n)))
    if rough is None:
        return None
    near_D = np.clip(rough.x_D / n, alike.low_D, alike.high_D)
    # bounds that hold with nothing to spare can look infeasible by a rounding error in the finer unit: then stay
    fine = _solved(alike.around(near_D, n * FINER)) or replace(rough, x_D=np.zeros(n))
    x_D = np.empty(n)
    x_D[order] = near_D + fine.x_D / (n * FINER)
    x_D = np.where(x_D - program.low_D > NOTHING, x_D, program.low_D)
    return replace(fine, x_D=_shared(program, np.clip(x_D, program.low_D, program.high_D)))


def _solved(program: Program) -> Optimum | None:
    """What HiGHS says."""
    from scipy.optimize import linprog

    limits = np.concatenate([-program.row_low_R, program.row_high_R])
    limited = np.isfinite(limits)
    found = linprog(
        -program.gain_D,
        A_ub=np.vstack([-program.rows_RD, program.rows_RD])[limited],
        b_ub=limits[limited],
        bounds=np.column_stack([program.low_D, program.high_D]),
        method="highs-ds",
    )
    if found.status == 2:
        return None
    if not found.success:
        raise RuntimeError(f"HiGHS did not solve a linear program of {program.gain_D.size} variables: {found.message}")
    price = np.zeros(limits.size)
    price[limited] = -found.ineqlin.marginals
    n_rows = program.row_low_R.size
    return Optimum(x_D=found.x, low_price_R=price[:n_rows], high_price_R=price[n_rows:])


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
