"""From a score to the probability that a page is to be included, by isotonic regression.

Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates" (KDD 2002);
scipy's pool-adjacent-violators algorithm. Kept as knots between which probabilities run straight, so that it fits on a
model card.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Knots of a curve that never falls: logits in increasing order, and their probabilities."""

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(cls, logit_P: np.ndarray, positive_P: np.ndarray) -> "Calibration":
        """The isotonic curve of held-out logits and truths; a stretch of equal probability keeps its two ends.

        Of nothing at all it is 1/2.
        """
        from scipy.optimize import isotonic_regression

        if len(logit_P) == 0:
            return cls(logits=(0.0,), probabilities=(0.5,))
        order_P = np.argsort(logit_P, kind="stable")
        levels_L, first_L, count_L = np.unique(logit_P[order_P], return_index=True, return_counts=True)
        mean_L = np.add.reduceat(positive_P[order_P].astype(float), first_L) / count_L
        fitted_L = isotonic_regression(mean_L, weights=count_L.astype(float)).x
        inner_L = np.ones(len(fitted_L), dtype=bool)
        inner_L[1:-1] = (fitted_L[1:-1] != fitted_L[:-2]) | (fitted_L[1:-1] != fitted_L[2:])
        return cls(logits=tuple(levels_L[inner_L].tolist()), probabilities=tuple(fitted_L[inner_L].tolist()))

    def probability(self, logit_P: np.ndarray) -> np.ndarray:
        """P(to be included) of each logit; beyond the outermost knots as at them."""
        return np.interp(logit_P, self.logits, self.probabilities)
