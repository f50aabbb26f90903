"""What the kill test runs in child processes: scoring into a folder, with a line per shard begun.

A module of its own, so that the fork server imports it once and each child begins within milliseconds.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_assets.likelihood import Settings, TextScores, TokenizedTexts, resume_shards, shards, tokenize
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, text_of_bytes, tiny_gpt2

SETTINGS = Settings(prefix=256, shard_tokens=600, token_budget=256)
TEXTS = [text_of_bytes(int(n), np.random.default_rng(n)) for n in np.random.default_rng(0).integers(1, 300, 120)]


def score_into(folder: Path) -> TextScores:
    """Score all texts, with shards in `folder`."""
    torch.set_num_threads(1)
    return resume_shards(folder, tiny_gpt2(), tokenize(byte_tokenizer(), TEXTS), SETTINGS, identity="tiny")


def score_into_with_log(folder: Path, begun: Path) -> None:
    """`score_into` for a process of its own: `begun` gets a line with the number of each shard that is begun."""
    tokens = tokenize(byte_tokenizer(), TEXTS)
    cut = shards.cut_shards(tokens.tokens, SETTINGS.shard_tokens)
    number_of = {tokens.select(index).ids.tobytes(): number for number, index in enumerate(cut)}
    score_shard = shards._score_shard

    def logged(model: Any, texts: TokenizedTexts, *rest: Any) -> TextScores:
        with begun.open("a") as log:
            log.write(f"{number_of[texts.ids.tobytes()]}\n")
        return score_shard(model, texts, *rest)

    shards._score_shard = logged
    score_into(folder)
