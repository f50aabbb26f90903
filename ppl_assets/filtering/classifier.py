"""A fastText classifier of two labels, ``include`` and ``exclude``, over word n-grams.

Labels come from the caller and are written in front of the line that `Normalization` makes of a page, in which no label
can stand. Soft labels are sampled: a page with the label 0.6 stands in three of five epochs under ``include``, in the
others under ``exclude``, each epoch in an order of its own. One thread trains, because fastText with several gives
another model each time.

The score is P(include), computed from the model's file alone (`linear_model`), several times as fast as fastText does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.filtering.fasttext_file import read_model
from ppl_assets.filtering.fasttext_process import train_in_process
from ppl_assets.filtering.linear_model import LinearModel
from ppl_assets.filtering.normalization import Normalization

INCLUDE, EXCLUDE = b"__label__include", b"__label__exclude"

# So few lines that the processor's cache still holds them when they are read.
_LINES_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSettings:
    """How a classifier is trained. A model takes (words + buckets) x dimension x 4 bytes.

    A page is one step of stochastic gradient descent; with few pages there are more epochs than `epochs`, so that there
    are at least `min_steps`.
    """

    dimension: int = 16
    word_ngrams: int = 2
    buckets: int = 200_000
    epochs: int = 5
    min_steps: int = 6000
    learning_rate: float = 0.2
    min_count: int = 2
    seed: int = 0

    def epochs_for(self, pages: int) -> int:
        """Epochs over so many pages."""
        return max(self.epochs, -(-self.min_steps // pages))


def train_classifier(
    texts: Sequence[str],
    label_P: np.ndarray,
    path: Path,
    *,
    settings: ClassifierSettings,
    normalization: Normalization,
) -> "Classifier":
    """Train on texts and write the model to `path`; the training file lies beside it meanwhile.

    Args:
        label_P: probability of each page that it is to be included, 0 to 1; other than 0 and 1 they are sampled.

    Raises:
        InputError: all pages have the same label, or a label is not a probability.
    """
    _check_labels(label_P)
    soft = bool(((label_P > 0) & (label_P < 1)).any())
    training = path.with_suffix(".txt")
    lines = [normalization.line(text) for text in texts]
    rng = np.random.default_rng(settings.seed)
    # Hard labels are the same in every epoch, so one copy of the text is enough.
    epochs = settings.epochs_for(len(texts))
    copies = epochs if soft else 1
    try:
        with training.open("wb") as file:
            for labels_P in _sampled_labels(label_P, copies, rng):
                for page in rng.permutation(len(lines)):
                    file.write((INCLUDE if labels_P[page] else EXCLUDE) + b" " + lines[page])
        options = {
            "dim": settings.dimension,
            "wordNgrams": settings.word_ngrams,
            "bucket": settings.buckets,
            "epoch": epochs // copies,
            "lr": settings.learning_rate,
            # A page that is written so many times has its words so many times more.
            "minCount": settings.min_count * copies,
            "seed": settings.seed,
            "loss": "softmax",
            "thread": 1,
            "verbose": 0,
        }
        train_in_process(training, path, options)
    finally:
        training.unlink(missing_ok=True)
    return Classifier.load(path, normalization)


def _check_labels(label_P: np.ndarray) -> None:
    wrong = label_P[~((label_P >= 0) & (label_P <= 1))]
    if len(wrong):
        raise InputError(f"page filter: found the label {wrong[0]}, expected a probability")
    if len(label_P) == 0 or (label_P == 0).all() or (label_P == 1).all():
        found = f"{len(label_P)} pages, all with the label {label_P[0]:g}" if len(label_P) else "no page"
        raise InputError(f"page filter: found {found}; expected pages to include and pages to exclude")


def _sampled_labels(label_P: np.ndarray, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Whether each page is included, by epoch: round(epochs x label) times, spread over epochs at random."""
    rank_EP = rng.permuted(np.tile(np.arange(epochs)[:, None], (1, len(label_P))), axis=0)
    # A page with label 0.5 and five epochs is included in two or three of them, by chance.
    times_P = np.floor(label_P * epochs + rng.random(len(label_P)))
    return rank_EP < times_P


class Classifier:
    """A trained classifier with the normalisation that it was trained under."""

    def __init__(self, model: LinearModel, normalization: Normalization) -> None:
        self.model = model
        self.normalization = normalization

    @classmethod
    def load(cls, path: Path, normalization: Normalization) -> "Classifier":
        """The classifier of a model file.

        Raises:
            InputError: there is no such file, or it is no fastText model with our two labels.
        """
        model = read_model(path)
        if sorted(model.labels) != sorted((INCLUDE, EXCLUDE)):
            labels = [label.decode("utf-8", "replace") for label in model.labels]
            raise InputError(f"{path}: found a fastText model with labels {labels}, expected include and exclude")
        try:
            return cls(LinearModel(model, INCLUDE, EXCLUDE), normalization)
        except ValueError as error:
            raise InputError(f"{path}: no fastText model that can be trusted: {error}") from error

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """log P(include) - log P(exclude) of each text."""
        logit_P = np.empty(len(texts))
        for start in range(0, len(texts), _LINES_AT_ONCE):
            lines = [self.normalization.line(text) for text in texts[start : start + _LINES_AT_ONCE]]
            logit_P[start : start + len(lines)] = self.model.logits(lines)
        return logit_P

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """P(include) of each text, uncalibrated: an order of preference."""
        return sigmoid(self.logits(texts))


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logit)), without overflow."""
    half = np.exp(-np.abs(logit) / 2)
    small = half * half / (1 + half * half)
    return np.where(logit >= 0, 1 - small, small)
