"""Scores against a plain loop in float64 over one text at a time, and the status of every text that is not plain."""

import math

import numpy as np
import pytest
import tokenizers
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ppl_assets.errors import InputError
from ppl_assets.likelihood import Status, score_texts
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, nll_by_loop

TEXTS = [
    "one short text",
    "",
    "a",
    "Ein längerer Text über Bäume und Flüsse. " * 4,
    "x = 1\n\ty = 2\n",
    "日本語の文",
    "🙂",
]


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    return byte_tokenizer()


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=260, n_embd=16, n_layer=2, n_head=2, n_positions=256, bos_token_id=256, eos_token_id=257
    )
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("token_budget", [None, 1, 37, 100_000])
def test_scores_equal_a_loop_over_single_texts_in_float64_whatever_the_budget(model, tokenizer, token_budget) -> None:
    scores = score_texts(model, tokenizer, TEXTS, token_budget=token_budget)
    expected = [nll_by_loop(model, tokenizer, text, prefix=256) for text in TEXTS]
    # A sum of n float32 log-probabilities: relative error of a few float32 eps each.
    np.testing.assert_allclose(scores.nll, [sum(nll) for nll in expected], rtol=1e-5)
    np.testing.assert_allclose(scores.nll_first, [nll[0] if nll else 0.0 for nll in expected], rtol=1e-5)
    assert scores.status.tolist() == ["ok", "empty", "ok", "ok", "ok", "ok", "ok"]
    assert scores.bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert scores.bpb[0] == scores.nll[0] / (math.log(2) * 14)


def test_float16_weights_are_refused_unless_float16_is_asked_for(model, tokenizer) -> None:
    half = GPT2LMHeadModel(model.config).half().eval()
    with pytest.raises(InputError, match="float16"):
        score_texts(half, tokenizer, ["text"])
    assert score_texts(half, tokenizer, ["text"], dtype="float16").status.tolist() == [Status.ok]
