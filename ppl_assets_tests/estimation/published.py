"""Published data that tests and benchmarks read, from a folder beside the repository; absent on most machines.

``perplexity_correlations``: losses of 263 texts and errors on 9 tasks for 90 public models (Thrush, Potts, Hashimoto,
MIT). ``regmix``: random mixtures of 17 domains and losses on 13 of them for 512 small models (sail-sg/regmix, MIT).
"""

import ast
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data"

needs_public_models = pytest.mark.skipif(
    not (FOLDER / "perplexity_correlations").is_dir(), reason=f"no published matrix of 90 models in {FOLDER}"
)
needs_regmix = pytest.mark.skipif(not (FOLDER / "regmix").is_dir(), reason=f"no published RegMix runs in {FOLDER}")


@dataclass(frozen=True, kw_only=True, eq=False)
class PublicModels:
    """Bits per byte of 90 models on 263 texts, and their errors by task (LAMBADA as log perplexity)."""

    bpb_MD: np.ndarray
    families: list[str]
    models: list[str]
    errors: dict[str, np.ndarray]


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def public_models() -> PublicModels:
    """The published matrix. One model is in it twice under two families, so keys join family and name."""
    texts = _rows(FOLDER / "perplexity_correlations" / "bpb_by_text.csv")
    tasks = _rows(FOLDER / "perplexity_correlations" / "error.csv")
    names = [ast.literal_eval(header) for header in texts[0][1:]]
    column = {ast.literal_eval(header): i for i, header in enumerate(tasks[0][1:], start=1)}
    errors = {row[0]: np.array([float(row[column[name]]) for name in names]) for row in tasks[1:]}
    return PublicModels(
        bpb_MD=np.array([[float(value) for value in row[1:]] for row in texts[1:]]).T,
        families=[family for family, _ in names],
        models=["/".join(name) for name in names],
        errors={task: np.log(error) if "lambada" in task else error for task, error in errors.items()},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class RegMix:
    """Losses of 512 models on 13 domains; causal effects of weights on losses, domains x targets."""

    loss_MD: np.ndarray
    effect_DT: np.ndarray
    domains: list[str]


def regmix() -> RegMix:
    """Effects: minus the ridge coefficients of a loss's centred ranks on the centred mixture weights.

    The penalty is 0.01 x models x mean variance of the weights. Mixtures were drawn at random: effects are causal.
    """
    mixture = _rows(FOLDER / "regmix" / "train_mixture_1m.csv")
    losses = _rows(FOLDER / "regmix" / "train_pile_loss_1m.csv")
    assert [row[0] for row in mixture[1:]] == [row[0] for row in losses[1:]]
    sources = [name.removeprefix("train_the_pile_") for name in mixture[0][1:]]
    domains = [name.removeprefix("metric/the_pile_").removesuffix("_val_loss") for name in losses[0][1:]]
    share = np.array([[float(value) for value in row[1:]] for row in mixture[1:]])
    loss = np.array([[float(value) for value in row[1:]] for row in losses[1:]])
    share = share - share.mean(axis=0)
    rank = rankdata(loss, axis=0) - (len(loss) + 1) / 2
    penalty = 0.01 * len(share) * share.var(axis=0).mean()
    effect = -np.linalg.solve(share.T @ share + penalty * np.eye(share.shape[1]), share.T @ rank)
    return RegMix(loss_MD=loss, effect_DT=effect[[sources.index(name) for name in domains]], domains=domains)
