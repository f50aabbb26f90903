"""Small causal language models from scratch: a study's own pool where there are no public models to look at.

A run is a tokenizer, an architecture, a mixture over domain patterns and a seed; its checkpoints are the pool's models,
each a folder that ``from_pretrained`` loads. The result depends on these and on the set of training pages, not on the
pages' order. Nothing here chooses among models or says that a recipe is good.
"""

from ppl_assets.training.tokenizer import train_tokenizer
from ppl_assets.training.train import train_run

__all__ = ["train_run", "train_tokenizer"]
