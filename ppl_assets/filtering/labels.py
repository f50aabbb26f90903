"""What the mixture says of a domain, as the probability that a page of it is to be included.

Three readings of the same evidence, compared in ``docs/filtering.md``:

- ``mixture``: the share of what the domain may give that the mixture takes, weight over cap: 1 or 0 but for the domain
  on the boundary, or the several that are equally good there. These are the labels of the paper. They change with the
  budget, and where the budget holds only some of many good domains the others count as bad.
- ``stability``: in which share of half-samples of model families the domain was among the best.
- ``better``: the probability that the domain is better than the pool, its estimate taken as normal around the true
  value with its standard error: Phi((estimate - pool's estimate) / standard error). It does not depend on the budget.
"""

from typing import Literal

import numpy as np
import polars as pl

from ppl_assets.errors import InputError

Labels = Literal["better", "mixture", "stability"]


def domain_labels(
    mixture: pl.DataFrame, estimates: pl.DataFrame, domains: pl.DataFrame, labels: Labels
) -> pl.DataFrame:
    """Columns domain and label (0 to 1), of the domains that have an estimate and that policy allows.

    Args:
        mixture: rows of ``pretraining_mixture`` of one target.
        estimates: rows of ``correlation_estimates`` of that target and of the estimator that decides.
        domains: the table ``domains``; the pool's estimate is the mean over it, by tokens where they are known.

    Raises:
        InputError: the labels need what the estimator does not give.
    """
    allowed = domains.filter(pl.col("policy") == "allow").select("domain", pool=pl.col("tokens").fill_null(1))
    rows = (
        mixture.select("domain", "weight", "cap")
        .join(estimates.drop("target"), on="domain")
        .join(allowed, on="domain")
        .filter(pl.col("estimate").is_not_null())
        .sort("domain")
    )
    match labels:
        case "mixture":
            label = (
                pl.when(pl.col("weight") > 0)
                .then(pl.min_horizontal(pl.col("weight") / pl.col("cap"), 1.0))
                .otherwise(0.0)
            )
        case "stability":
            _require(rows, "selection_probability", labels)
            label = pl.col("selection_probability")
        case "better":
            return rows.select("domain", label=pl.Series(_better(rows), dtype=pl.Float64))
    return rows.select("domain", label=label)


def _better(rows: pl.DataFrame) -> np.ndarray:
    """P(estimate above the pool's); without standard errors 1 or 0, and 1/2 where they are equal."""
    from scipy.stats import norm

    estimate_D = rows["estimate"].to_numpy()
    over_D = estimate_D - np.average(estimate_D, weights=rows["pool"].to_numpy()) if rows.height else estimate_D
    stderr_D = rows["stderr"].fill_null(0.0).fill_nan(0.0).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        z_D = np.where(over_D == 0, 0.0, over_D / stderr_D)
    return norm.cdf(z_D)


def _require(rows: pl.DataFrame, column: str, labels: str) -> None:
    if rows[column].null_count():
        raise InputError(
            f"study field filter.labels: {labels!r} needs {column}, which the estimator does not give; "
            "expected 'better' or 'mixture', or an estimator with intervals"
        )
