"""From domains to pages: a classifier that carries the mixture's choice to any page, and the selection it makes.

What is kept: pages in order of a method's score until the token budget is full, each text once, no page of the study's
test text, within policy and caps. Everything else stays where it is; the tables count it.
"""

from ppl_assets.filtering.artifact import Card, LoadedFilter, load
from ppl_assets.filtering.classifier import Classifier, ClassifierSettings, train_classifier
from ppl_assets.filtering.labels import domain_labels
from ppl_assets.filtering.normalization import Normalization
from ppl_assets.filtering.training import Budget, HeldOut, Training, measure, split, train

__all__ = [
    "load",
    "LoadedFilter",
    "Card",
    "Normalization",
    "Classifier",
    "ClassifierSettings",
    "train_classifier",
    "domain_labels",
    "Training",
    "Budget",
    "HeldOut",
    "split",
    "train",
    "measure",
]
