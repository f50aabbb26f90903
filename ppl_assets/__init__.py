"""Choose pretraining data with evidence from public models, and say so when there is none."""

__version__ = "0.1.0"
