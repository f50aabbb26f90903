"""Training a page filter and measuring it on sites that it has not seen.

Pages are split into folds by groups (`grouping`). For each fold a classifier is trained on the others and scores it, so
every page gets a score from a classifier that saw neither its site nor a near duplicate; metrics, calibration and the
threshold for the budget come from these scores alone. The filter that is handed out is then trained on all pages.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.filtering import measures
from ppl_assets.filtering.calibration import Calibration
from ppl_assets.filtering.classifier import Classifier, ClassifierSettings, sigmoid, train_classifier
from ppl_assets.filtering.grouping import fold_assignment, page_groups
from ppl_assets.filtering.normalization import Normalization

# Slices of pages that metrics are reported for, besides all pages: columns of the page table and their words.
SLICES = {"language": "language", "domain_group": "group"}
# Metrics in which a page counts by how sure its label is; they stand beside what they are without.
_BY_CERTAINTY = ("roc_auc", "precision", "recall", "f1", "precision_at_budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a filter is trained and measured."""

    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    normalization: Normalization = field(default_factory=Normalization)
    folds: int = 4
    near_duplicate_similarity: float = 0.6
    replicates: int = 200
    level: float = 0.90
    processes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What classifiers that had not seen a page's group say of it.

    `pages` holds page_id, domain, group, fold, label, logit, probability (calibrated on the other folds) and what the
    caller's pages held; logit is null where the other folds had one kind of page only. `metrics` is long: slice,
    metric, value, ci_low, ci_high, pages.
    """

    pages: pl.DataFrame
    metrics: pl.DataFrame
    calibration: Calibration
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many tokens are to be taken of a pool that the pages are a sample of: tokens that each domain holds."""

    tokens: float
    pool: dict[str, int] = field(default_factory=dict)


def split(pages: pl.DataFrame, training: Training) -> pl.DataFrame:
    """`pages` (page_id, domain, text, label) with the columns group and fold."""
    group_P = page_groups(pages["domain"].to_list(), pages["text"].to_list(), training.near_duplicate_similarity)
    fold_P = fold_assignment(
        group_P,
        pages["label"].to_numpy() >= 0.5,
        pages["page_id"].to_list(),
        folds=training.folds,
        seed=training.classifier.seed,
    )
    return pages.with_columns(group=pl.Series(group_P, dtype=pl.Int64), fold=pl.Series(fold_P, dtype=pl.Int64))


def train(pages: pl.DataFrame, path: Path, training: Training) -> Classifier:
    """A classifier of all `pages` (text, label), its model written to `path`."""
    return _train(pages["text"].to_list(), pages["label"].to_numpy(), path, training)


def _train(texts: list[str], label_P: np.ndarray, path: Path, training: Training) -> Classifier:
    return train_classifier(texts, label_P, path, settings=training.classifier, normalization=training.normalization)


def measure(
    pages: pl.DataFrame,
    scratch: Path,
    training: Training,
    budget: Budget,
    *,
    trained: Callable[[int, int], None] | None = None,
) -> HeldOut:
    """Score every page by a classifier trained without its fold, and measure these scores.

    Args:
        pages: page_id, domain, text, label, tokens, and language and domain_group where they are known.
        scratch: folder for the folds' models, which are deleted.
        trained: called after each fold with the folds done and in all.
    """
    folded = split(pages, training)
    logit_P, fold_P = _held_out_logits(folded, scratch, training, trained), folded["fold"].to_numpy()
    positive_P = folded["label"].to_numpy() >= 0.5
    scored_P = ~np.isnan(logit_P)
    found = folded.drop("text").with_columns(
        logit=pl.Series(logit_P).fill_nan(None),
        probability=pl.Series(_cross_calibrated(logit_P, positive_P, fold_P)).fill_nan(None),
        pool_tokens=pl.Series(_pool_tokens(folded, budget)),
    )
    evaluated = found.filter(pl.col("logit").is_not_null() & pl.col("probability").is_not_null())
    return HeldOut(
        pages=found,
        metrics=_metrics(evaluated, budget, training),
        calibration=Calibration.fit(logit_P[scored_P], positive_P[scored_P]),
        threshold=_threshold(evaluated, budget),
    )


def _held_out_logits(
    folded: pl.DataFrame, scratch: Path, training: Training, trained: Callable[[int, int], None] | None
) -> np.ndarray:
    """Each page's logit by a classifier of the other folds; NaN where those hold one kind of page only."""
    logit_P, fold_P = np.full(folded.height, np.nan), folded["fold"].to_numpy()
    folds = sorted(set(fold_P.tolist()))
    texts, label_P = folded["text"].to_list(), folded["label"].to_numpy()

    def logits(fold: int) -> np.ndarray | None:
        rest_P = fold_P != fold
        if not 0 < label_P[rest_P].sum() < rest_P.sum():
            return None
        path = scratch / f"fold-{fold}.bin"
        try:
            seen = _train([texts[page] for page in np.flatnonzero(rest_P)], label_P[rest_P], path, training)
            return seen.logits([texts[page] for page in np.flatnonzero(~rest_P)])
        finally:
            path.unlink(missing_ok=True)

    # Each training is a process of its own: threads only wait for them.
    with ThreadPoolExecutor(training.processes) as pool:
        for done, (fold, found) in enumerate(zip(folds, pool.map(logits, folds), strict=True), start=1):
            if found is not None:
                logit_P[fold_P == fold] = found
            if trained:
                trained(done, len(folds))
    return logit_P


def _cross_calibrated(logit_P: np.ndarray, positive_P: np.ndarray, fold_P: np.ndarray) -> np.ndarray:
    """Each page's probability by the calibration of the other folds; NaN where there is none."""
    probability_P, scored_P = np.full(len(logit_P), np.nan), ~np.isnan(logit_P)
    for fold in set(fold_P[scored_P].tolist()):
        others_P, own_P = scored_P & (fold_P != fold), fold_P == fold
        if others_P.any():
            probability_P[own_P] = Calibration.fit(logit_P[others_P], positive_P[others_P]).probability(logit_P[own_P])
    return probability_P


def _pool_tokens(pages: pl.DataFrame, budget: Budget) -> np.ndarray:
    """Tokens of the pool that each sampled page stands for: its share of its domain's sample, times the domain."""
    of_domain = pages["domain"].replace_strict(budget.pool, default=None, return_dtype=pl.Float64)
    sampled = pages.select(pl.sum("tokens").over("domain"))["tokens"]
    return (pages["tokens"] * of_domain.fill_null(sampled.cast(pl.Float64)) / sampled).to_numpy()


def _threshold(pages: pl.DataFrame, budget: Budget) -> float | None:
    """The score at which the pool's best pages fill the budget, each page standing for its share of the pool."""
    if pages.is_empty():
        return None
    ordered = pages.sort("logit", descending=True)
    # Sites that could not be scored hold a part of the pool too.
    scale = float(ordered["pool_tokens"].sum()) / max(sum(budget.pool.values()), 1) if budget.pool else 1.0
    place = int(np.searchsorted(ordered["pool_tokens"].cum_sum().to_numpy(), budget.tokens * min(scale, 1.0)))
    return float(sigmoid(ordered["logit"].to_numpy())[min(place, ordered.height - 1)])


def _metrics(pages: pl.DataFrame, budget: Budget, training: Training) -> pl.DataFrame:
    """Metrics of all evaluated pages, and of each language and group that holds a share of them."""
    slices = {"all": pages}
    for column, word in SLICES.items():
        if column in pages.columns:
            parts = pages.filter(pl.col(column).is_not_null()).partition_by(column, as_dict=True)
            slices |= {
                f"{word}={value}": part for (value,), part in sorted(parts.items(), key=lambda item: str(item[0]))
            }
    rows = [row for name, part in slices.items() for row in _slice_metrics(name, part, pages, budget, training)]
    schema = {"slice": pl.String, "metric": pl.String, "value": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64}
    return pl.DataFrame(rows, schema={**schema, "pages": pl.Int64}, orient="row").fill_nan(None)


def _slice_metrics(
    name: str, pages: pl.DataFrame, all_pages: pl.DataFrame, budget: Budget, training: Training
) -> list[tuple[str, str, float, float, float, int]]:
    """One slice's metrics; undefined ones, such as the area under the curve of one kind of page, are NaN."""
    logit_P, probability_P = pages["logit"].to_numpy(), pages["probability"].to_numpy()
    positive_P = pages["label"].to_numpy() >= 0.5
    chosen_P, pool_P = probability_P >= 0.5, pages["pool_tokens"].to_numpy()
    # A slice gets its share of the budget, in proportion to its tokens in the pool.
    evaluated = float(all_pages["pool_tokens"].sum())
    tokens = budget.tokens * pool_P.sum() / (sum(budget.pool.values()) or evaluated)
    found = {
        "roc_auc": measures.roc_auc(logit_P, positive_P),
        "precision": measures.precision(chosen_P, positive_P),
        "recall": measures.recall(chosen_P, positive_P),
        "f1": measures.f1(chosen_P, positive_P),
        "precision_at_budget": measures.precision_at_budget(logit_P, positive_P, pool_P, tokens),
        "brier": measures.brier(probability_P, positive_P),
        "calibration_error": measures.calibration_error(probability_P, positive_P),
        "calibration_error_before": measures.calibration_error(sigmoid(logit_P), positive_P),
        "positive_share": lambda weight_P: float(np.average(positive_P, weights=weight_P)),
    }
    # How sure a label is, from 0 for a coin to 1: what is in doubt itself is no truth to measure by.
    certainty_P, all_alike_P = np.abs(2 * pages["label"].to_numpy() - 1), np.ones(pages.height)
    by_certainty = [(metric, one, certainty_P) for metric, one in found.items() if metric in _BY_CERTAINTY]
    unweighted = [(f"{metric}_unweighted" if metric in _BY_CERTAINTY else metric, found[metric]) for metric in found]
    every = [*by_certainty, *((metric, one, all_alike_P) for metric, one in unweighted)]
    groups_P, seed = pages["group"].to_numpy(), training.classifier.seed

    def measured(one: measures.Measure, weight_P: np.ndarray) -> tuple[float, float, float]:
        return measures.interval(
            one, groups_P, replicates=training.replicates, level=training.level, seed=seed, weight_P=weight_P
        )

    return [(name, metric, *measured(one, weight_P), pages.height) for metric, one, weight_P in every if pages.height]
