"""What methods that read say of a page's text: made ready once, loaded by each process that scores.

A method is a file or folder with an identity; scores are a function of it and the page alone, whatever else is scored.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ppl_assets.filtering import rules
from ppl_assets.filtering.arms import text_score_name
from ppl_assets.filtering.artifact import load
from ppl_assets.filtering.classifier import Classifier, train_classifier
from ppl_assets.filtering.dsir import ImportanceWeights
from ppl_assets.filtering.normalization import Normalization
from ppl_assets.filtering.tables import filter_settings, training_settings
from ppl_assets.filtering.target_texts import pool_weights, target_texts
from ppl_assets.processes import temporary_path
from ppl_assets.study.schema import Arm, Study

# Page ids and texts in, one number a page out; NaN where the method does not let the page be chosen.
Score = Callable[[Sequence[str], Sequence[str]], np.ndarray]
_QUALITY_FILE, _DSIR_FILE = "quality.bin", "dsir.npy"
_RULES_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method that reads text: where its model is, and what tells it from all others."""

    name: str
    arm: Arm
    identity: str
    path: Path = Path()
    normalization: Normalization
    seed: int

    def load(self) -> Score:
        """The method, ready to score.

        Raises:
            InputError: its model is missing or not what it was.
        """
        if self.arm == "ours":
            page_filter = load(self.path)
            return lambda _, texts: page_filter.score(texts)
        if self.arm == "quality_classifier":
            classifier = Classifier.load(self.path, self.normalization)
            return lambda _, texts: classifier.score(texts)
        if self.arm == "dsir":
            weights = ImportanceWeights.load(self.path)
            return lambda page_ids, texts: weights.scores(page_ids, texts, self.seed)
        return lambda _, texts: rules.scores(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What methods are made from: tables of the lake.

    Attributes:
        filters: ``page_filters``.
        domains: ``domains``.
        pool: sampled pages that may be selected.
        benchmark: ``pages`` of the benchmark split.
    """

    filters: pl.DataFrame
    domains: pl.DataFrame
    pool: pl.DataFrame
    benchmark: pl.DataFrame


def prepared_methods(study: Study, samples: Samples, filters: Path, folder: Path) -> list[Method]:
    """The study's methods that read text, in the order of their scores; what they need is written into `folder`.

    `filters` is the folder of the page filters. A target without a filter has no method ``ours``.

    Raises:
        InputError: a target has no texts that methods could compare with, or a filter is missing.
    """
    made: list[Method] = []
    for arm in filter_settings(study).arms:
        if arm == "rules":
            made.append(_method(study, arm, "", identity=_RULES_VERSION))
        if arm == "ours":
            trained = samples.filters.filter(pl.col("status") == "trained")
            made += [
                _method(study, arm, target, path=filters / target, identity=digest)
                for target, digest in trained.select("target", "model_digest").iter_rows()
            ]
        if arm in ("quality_classifier", "dsir"):
            for target in study.targets:
                place = folder / target
                place.mkdir(parents=True, exist_ok=True)
                texts = target_texts(study, target, samples.benchmark)
                path = (_fit_quality if arm == "quality_classifier" else _fit_dsir)(study, samples, texts, place)
                identity = hashlib.sha256(path.read_bytes()).hexdigest()
                made.append(_method(study, arm, target, path=path, identity=identity))
    return made


def _method(study: Study, arm: Arm, target: str, *, identity: str, path: Path = Path()) -> Method:
    return Method(
        name=text_score_name(arm, target),
        arm=arm,
        identity=identity,
        path=path,
        normalization=training_settings(study).normalization,
        seed=study.seed,
    )


def _fit_quality(study: Study, samples: Samples, texts: list[str], folder: Path) -> Path:
    """A classifier of a target's texts against as many pages of the pool, as DataComp-LM's best filter is trained."""
    training, weights = training_settings(study), pool_weights(samples.pool, samples.domains)
    rng = np.random.default_rng(study.seed)
    count = min(len(texts), samples.pool.height)
    drawn = rng.choice(samples.pool.height, size=count, replace=False, p=weights / weights.sum())
    pool = samples.pool["text"].gather(drawn).to_list()
    label_P = np.repeat([1.0, 0.0], [len(texts), count])
    path, temporary = folder / _QUALITY_FILE, temporary_path(folder / _QUALITY_FILE)
    train_classifier(
        [*texts, *pool], label_P, temporary, settings=training.classifier, normalization=training.normalization
    )
    return temporary.replace(path)


def _fit_dsir(study: Study, samples: Samples, texts: list[str], folder: Path) -> Path:
    weights = pool_weights(samples.pool, samples.domains)
    fitted = ImportanceWeights.fit(texts, samples.pool["text"], weights.tolist())
    return fitted.save(folder / _DSIR_FILE)
