"""Checks of what enters the estimators: shapes, finiteness, keys. A user's mistake becomes a sentence with a name in
it.

NaN among the losses means "not measured" and is allowed; infinity never is, nor is NaN among errors: a model without an
error for a target is left out by the caller, who knows why it is missing.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from ppl_assets.errors import InputError

MIN_MODELS = 3  # a rank correlation over two models is always -1 or 1
MIN_FAMILIES = 2  # resampling one family says nothing about the next


def _name(names: Sequence[str] | None, kind: str, index: int) -> str:
    return f"{kind} {index}" if names is None else f"{kind} {names[index]!r}"


def loss_array(X: np.ndarray) -> np.ndarray:
    """`X` as a two-dimensional float array (float32 stays float32), models by texts, entries unchecked.

    Raises:
        InputError: not two-dimensional, not numeric, fewer than 3 models, or no text.
    """
    try:
        x_MD = np.asarray(X)
        x_MD = x_MD if x_MD.dtype in (np.float32, np.float64) else x_MD.astype(np.float64)
    except (TypeError, ValueError) as problem:
        raise InputError(f"losses: found values that are no numbers ({problem}), expected floats") from problem
    if x_MD.ndim != 2:
        raise InputError(f"losses: found {x_MD.ndim} dimensions, expected 2 (models x texts)")
    if x_MD.shape[0] < MIN_MODELS:
        raise InputError(f"losses: found {x_MD.shape[0]} models, expected at least {MIN_MODELS}")
    if x_MD.shape[1] == 0:
        raise InputError("losses: found no text, expected at least one column")
    return x_MD


def loss_matrix(
    X: np.ndarray, *, models: Sequence[str] | None = None, domains: Sequence[str] | None = None
) -> np.ndarray:
    """`loss_array` with its entries and keys checked.

    Raises:
        InputError: as `loss_array`; keys that repeat or do not fit the shape; an infinite entry, the first one named.
    """
    x_MD = loss_array(X)
    keys("model", models, x_MD.shape[0])
    keys("domain", domains, x_MD.shape[1])
    if not sums_are_finite(x_MD):
        refuse_infinite(x_MD, models=models, domains=domains)
    return x_MD


def refuse_infinite(
    x_MD: np.ndarray, *, models: Sequence[str] | None = None, domains: Sequence[str] | None = None
) -> None:
    """Raise `InputError` naming the first infinite entry, if there is one."""
    if np.isinf(x_MD).any():
        model, domain = np.argwhere(np.isinf(x_MD))[0]
        where = f"{_name(models, 'model', model)}, {_name(domains, 'domain', domain)}"
        raise InputError(f"losses: found {x_MD[model, domain]} at {where}, expected a finite number or NaN for missing")


def sums_are_finite(x_MD: np.ndarray) -> bool:
    """True only where every entry is finite: one pass at the speed of memory, without a mask of the matrix."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.ones(x_MD.shape[0], x_MD.dtype) @ x_MD).all())


def errors_by_target(y: np.ndarray, n_models: int, *, models: Sequence[str] | None = None) -> np.ndarray:
    """`y`, of shape (models,) or (models, targets), as float64 targets x models.

    Raises:
        InputError: other shapes, or a value that is not finite; its model is named.
    """
    try:
        y_MT = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise InputError(f"errors: found values that are no numbers ({problem}), expected floats") from problem
    if y_MT.ndim not in (1, 2):
        raise InputError(f"errors: found {y_MT.ndim} dimensions, expected 1 (models) or 2 (models x targets)")
    if y_MT.shape[0] != n_models:
        raise InputError(f"errors: found {y_MT.shape[0]} models, expected {n_models}, one per row of the losses")
    y_TM = np.ascontiguousarray(y_MT.reshape(n_models, -1).T)
    if not np.isfinite(y_TM).all():
        target, model = np.argwhere(~np.isfinite(y_TM))[0]
        where = _name(models, "model", model) + (f", target {target}" if y_MT.ndim == 2 else "")
        raise InputError(f"errors: found {y_TM[target, model]} at {where}, expected a finite number")
    return y_TM


def keys(kind: str, names: Sequence[str] | None, expected: int) -> None:
    """Check that `names`, where given, are `expected` distinct keys."""
    if names is None:
        return
    if len(names) != expected:
        raise InputError(f"{kind} names: found {len(names)}, expected {expected}")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{kind} names: found {name!r} twice, expected distinct keys")
        seen.add(name)


def family_index(families: Sequence[str], n_models: int) -> np.ndarray:
    """Families numbered 0, 1, ... in sorted order, one number per model.

    Raises:
        InputError: a wrong count, an empty label, or fewer than 2 families.
    """
    if len(families) != n_models:
        raise InputError(f"families: found {len(families)}, expected {n_models}, one per model")
    labels = [str(family) for family in families]
    if "" in labels:
        raise InputError(f"families: found an empty label at model {labels.index('')}, expected a name")
    unique, family_M = np.unique(labels, return_inverse=True)
    if len(unique) < MIN_FAMILIES:
        raise InputError(
            f"families: found only {unique[0]!r}, expected at least {MIN_FAMILIES}: models of one family are not "
            "independent, so nothing can be said about the error of an estimate"
        )
    return family_M


def canonical_order(x_MD: np.ndarray, y_M: np.ndarray, family_M: np.ndarray) -> np.ndarray:
    """An order of models that depends on their values alone, so that rows may come in any order.

    By family, error and a hash of all losses: two models share a place only where nothing tells them apart.
    """
    # One zero and one NaN, whatever bits they came with.
    hashed = (blake2b(np.where(np.isnan(x_D), np.nan, x_D + 0.0).tobytes(), digest_size=8) for x_D in x_MD)
    return np.lexsort((np.array([row.digest() for row in hashed]), y_M, family_M))


def single_target(error_M: np.ndarray, n_models: int, *, models: Sequence[str] | None) -> np.ndarray:
    """One target's errors as float64, refused where they are not finite or do not vary."""
    y_TM = errors_by_target(error_M, n_models, models=models)
    if np.ndim(error_M) != 1:
        raise InputError(f"errors: found {np.ndim(error_M)} dimensions, expected 1: one target at a time")
    if y_TM.min() == y_TM.max():
        raise InputError(f"errors: all {n_models} models are tied at {y_TM[0, 0]:g}, expected a target that varies")
    return y_TM[0]


def log_size(params: Sequence[float] | np.ndarray, n_models: int) -> np.ndarray:
    """Natural logarithm of the parameters per model; NaN where unknown."""
    size_M = np.asarray(params, dtype=np.float64)
    if size_M.shape != (n_models,):
        raise InputError(f"params: found shape {size_M.shape}, expected ({n_models},), one count per model")
    if (size_M[~np.isnan(size_M)] <= 0).any():
        raise InputError("params: found a count that is not positive, expected parameters above 0 or NaN for unknown")
    return np.log(size_M)
