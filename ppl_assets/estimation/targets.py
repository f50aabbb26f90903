"""From task metrics to one error per model and target: oriented, on a scale that can be averaged, told apart.

An error is lower for better models. Accuracies become 1 - accuracy, perplexities their natural logarithm, errors and
bits per byte stay. A target of several tasks is the mean of their standardised errors (mean 0, standard deviation 1
over models), so that no task outweighs another by its units; a target of one task keeps its own units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ppl_assets.errors import InputError, suggestion
from ppl_assets.estimation.domain_scores import mean_loss
from ppl_assets.estimation.inputs import MIN_MODELS, keys, loss_matrix, single_target
from ppl_assets.estimation.rank_correlation import centred_ranks

Kind = Literal["accuracy", "error", "perplexity", "bpb"]
KINDS: tuple[Kind, ...] = ("accuracy", "error", "perplexity", "bpb")
WIDE_MARGIN = 0.3  # |rho| beyond which loss and error running opposite ways is no accident of a few models
GRID = 2.0**-30  # of what a contrast leaves of ranks: a hundred times what rounding does to those of 1,000 models
SAME = 0.95  # rank correlation over models above which two targets cannot be told apart


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetErrors:
    """`error` per model (NaN where fewer than half of the tasks are known), `tasks` known per model."""

    error: np.ndarray
    tasks: np.ndarray


def task_errors(values_M: np.ndarray, kind: Kind, *, task: str = "task") -> np.ndarray:
    """One task's metric as an error: lower is better; NaN stays NaN.

    Raises:
        InputError: an unknown kind, an infinite value, an accuracy outside 0..1, a perplexity below 1.
    """
    if kind not in KINDS:
        raise InputError(f"{task}: found kind {kind!r}, expected one of {', '.join(KINDS)}{suggestion(kind, KINDS)}")
    values = np.asarray(values_M, dtype=np.float64)
    if np.isinf(values).any():
        raise InputError(f"{task}: found an infinite value at row {np.flatnonzero(np.isinf(values))[0]}")
    known = values[~np.isnan(values)]
    if kind == "accuracy" and ((known < 0) | (known > 1)).any():
        raise InputError(f"{task}: found an accuracy of {known[(known < 0) | (known > 1)][0]:g}, expected 0 to 1")
    if kind == "perplexity":
        if (known < 1).any():
            raise InputError(f"{task}: found a perplexity of {known[known < 1][0]:g}, expected 1 or more")
        return np.log(values)
    return 1 - values if kind == "accuracy" else values


def target_errors(values_MK: np.ndarray, *, tasks: Sequence[str], kinds: Sequence[Kind]) -> TargetErrors:
    """The error of one target from the metrics of its tasks (models x tasks; NaN where a model lacks a task).

    Raises:
        InputError: shapes that do not fit, a task no two models of which differ, or as `task_errors`.
    """
    values = np.asarray(values_MK, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(tasks) or len(kinds) != len(tasks) or len(tasks) == 0:
        raise InputError(
            f"target: found values of shape {values.shape}, {len(tasks)} tasks and {len(kinds)} kinds, "
            "expected one column and one kind per task"
        )
    keys("task", tasks, len(tasks))
    columns = [
        task_errors(values[:, i], kind, task=task) for i, (task, kind) in enumerate(zip(tasks, kinds, strict=True))
    ]
    known_M = (~np.isnan(values)).sum(axis=1)
    if len(tasks) == 1:
        return TargetErrors(error=columns[0], tasks=known_M)
    standard_MK = np.stack([_standardised(column, task) for column, task in zip(columns, tasks, strict=True)], axis=1)
    enough = known_M * 2 >= len(tasks)
    error = np.full(len(values), np.nan)
    error[enough] = np.nansum(standard_MK[enough], axis=1) / known_M[enough]
    return TargetErrors(error=error, tasks=known_M)


def _standardised(error_M: np.ndarray, task: str) -> np.ndarray:
    known = error_M[~np.isnan(error_M)]
    if len(known) < 2 or known.min() == known.max():
        raise InputError(f"{task}: found the same value for all {len(known)} models, expected a task that varies")
    return (error_M - known.mean()) / known.std()


def check_orientation(bpb_MD: np.ndarray, error_M: np.ndarray, *, target: str) -> float:
    """Refuse an "error" that falls when loss rises: it is almost surely an accuracy. Returns its rho with mean loss.

    Refused are a rho with the pool's mean loss below -0.3 together with a negative correlation on nine domains in ten;
    a target of one kind of text may well run against a pool of mostly another kind, but not against its own kind too.

    Raises:
        InputError: as said, or as `estimate_domains`. A study that means it leaves this check out.
    """
    x_MD = loss_matrix(bpb_MD)
    y_M = single_target(error_M, len(x_MD), models=None)
    target_M = np.sign(y_M[:, None] - y_M[None, :]).sum(axis=1)
    rank_MD = centred_ranks(np.column_stack([x_MD.astype(np.float64), mean_loss(x_MD)])).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = target_M @ rank_MD / np.sqrt((target_M**2).sum() * (rank_MD**2).sum(axis=0))
    if rho[-1] < -WIDE_MARGIN and np.nanquantile(rho[:-1], 0.9) < 0:
        raise InputError(
            f"target {target!r}: found errors that fall as losses rise (rank correlation {rho[-1]:.2f} with the mean "
            "loss), expected errors that rise with loss; this looks like an accuracy: declare its kind as such, or "
            "override the check in the study"
        )
    return float(rho[-1])


def target_correlations(error_MT: np.ndarray) -> np.ndarray:
    """Spearman's rho between targets over the models that have both: T x T, 1 on the diagonal."""
    error = np.asarray(error_MT, dtype=np.float64)
    n_targets = error.shape[1]
    rho_TT = np.eye(n_targets)
    for s in range(n_targets):
        for t in range(s):
            both = ~np.isnan(error[:, s]) & ~np.isnan(error[:, t])
            a, b = (np.sign(error[both, i][:, None] - error[both, i][None, :]).sum(axis=1) for i in (s, t))
            scale = np.sqrt((a**2).sum() * (b**2).sum())
            rho_TT[s, t] = rho_TT[t, s] = (a @ b) / scale if scale > 0 else np.nan
    return rho_TT


def not_separable(error_MT: np.ndarray, targets: Sequence[str]) -> list[tuple[str, str, float]]:
    """Pairs of targets that these models cannot tell apart: |rho| above 0.95, strongest first."""
    keys("target", targets, np.asarray(error_MT).shape[1])
    rho_TT = target_correlations(error_MT)
    pairs = [
        (targets[t], targets[s], float(rho_TT[s, t]))
        for s in range(len(targets))
        for t in range(s)
        if abs(rho_TT[s, t]) > SAME
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def contrast_target(error_MT: np.ndarray, targets: Sequence[str], target: str) -> np.ndarray:
    """What is particular to `target`: its ranks less their least-squares fit on the ranks of the other targets.

    NaN for models that lack any of the targets. Small differences between targets that nearly agree are mostly noise;
    the gate decides about a contrast like about any target.

    Raises:
        InputError: an unknown target, or one of which the others leave nothing.
    """
    if target not in targets:
        raise InputError(f"found target {target!r}, expected one of {', '.join(targets)}{suggestion(target, targets)}")
    error = np.asarray(error_MT, dtype=np.float64)
    complete = ~np.isnan(error).any(axis=1)
    known = error[complete]
    rank = np.sign(known[:, None, :] - known[None, :, :]).sum(axis=1)
    own = list(targets).index(target)
    others = np.delete(rank, own, axis=1)
    left = rank[:, own] - others @ np.linalg.lstsq(others, rank[:, own], rcond=None)[0]
    # Ranks are whole numbers, so that what is left of models that are tied, or of all, differs by rounding alone.
    left = np.round(left / GRID) * GRID
    if len(left) >= MIN_MODELS and left.min() == left.max():
        rest = ", ".join(repr(name) for name in targets if name != target)
        raise InputError(
            f"target {target!r}: nothing is left of it next to {rest}: {len(left)} models rank alike on them; "
            "expected a target that differs from those that it is a contrast to"
        )
    residual = np.full(len(error), np.nan)
    residual[complete] = left + 0.0  # no negative zero
    return residual
