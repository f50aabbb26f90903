"""A page filter as a folder: ``model.bin`` (fastText) and ``card.json`` (what it is for, and how to use it).

The card holds everything that a user of the model needs and the model file does not say: the target, the mixture that
labelled the pages, the normalisation of text, the threshold for the budget, the calibration, the metrics on held-out
sites, and the licences of the text that it was trained on.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.filtering.calibration import Calibration
from ppl_assets.filtering.classifier import Classifier, ClassifierSettings
from ppl_assets.filtering.normalization import Normalization
from ppl_assets.warehouse import replace_file

MODEL_FILE, CARD_FILE = "model.bin", "card.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a page filter is for, and how to use it.

    `threshold` is the score from which pages fill the budget of the pool that the filter was made for, estimated on
    sampled pages; None where there was no budget. `mixture` identifies the mixture that labelled the pages.
    """

    target: str
    mixture: str
    labels: str
    model_digest: str
    threshold: float | None
    budget_tokens: int | None
    normalization: Normalization
    calibration: Calibration
    classifier: ClassifierSettings
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    ngrams: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    licenses: dict[str, int] = field(default_factory=dict)
    """Pages trained on by stated licence: their terms may bind those who use the filter."""


@dataclass(frozen=True, slots=True)
class LoadedFilter:
    """A page filter, ready to score."""

    card: Card
    classifier: Classifier

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """P(include) of each text, 0 to 1, uncalibrated: an order of preference. Any text has one, an empty one too."""
        return self.classifier.score(texts)

    def probability(self, texts: Sequence[str]) -> np.ndarray:
        """The probability that each text is of a domain to be included, by the calibration on held-out sites."""
        return self.card.calibration.probability(self.classifier.logits(texts))

    def keep(self, texts: Sequence[str]) -> np.ndarray:
        """Whether each text reaches the threshold for the budget.

        Raises:
            InputError: the card has no threshold.
        """
        if self.card.threshold is None:
            raise InputError(f"page filter of {self.card.target!r}: its card has no threshold; rank by score instead")
        return self.score(texts) >= self.card.threshold


def load(path: str | Path) -> LoadedFilter:
    """The page filter in a folder.

    Raises:
        InputError: a file is missing, is no card or model of ours, or the model is not the card's.
    """
    folder = Path(path)
    card = read_card(folder)
    classifier = Classifier.load(folder / MODEL_FILE, card.normalization)
    digest = model_digest(folder)
    if digest != card.model_digest:
        raise InputError(f"{folder / MODEL_FILE}: found a model {digest}, expected the card's {card.model_digest}")
    return LoadedFilter(card, classifier)


def model_digest(folder: Path) -> str:
    """Identity of a folder's model: SHA-256 of its file."""
    with (folder / MODEL_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(folder: Path) -> Card:
    """The card of a page filter.

    Raises:
        InputError: it is missing or not of this format.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected the card of a page filter")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("format")
        if version != _FORMAT:
            raise InputError(f"{path}: found format {version!r}, expected {_FORMAT}")
        knots = {name: tuple(values) for name, values in content.pop("calibration").items()}
        return Card(
            normalization=Normalization(**content.pop("normalization")),
            calibration=Calibration(**knots),
            classifier=ClassifierSettings(**content.pop("classifier")),
            **content,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not the card of a page filter ({error})") from error


def write_card(folder: Path, card: Card) -> None:
    """Put the card in place, whole or not at all."""
    replace_file(folder / CARD_FILE, json.dumps({"format": _FORMAT, **asdict(card)}, indent=1, sort_keys=True))
