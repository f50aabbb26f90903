"""bf16 against float32 of the same rounded weights, on two models trained for a minute on the standard library."""

import copy
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from ppl_assets.likelihood import TextScores, score_texts, tokenize

VOCABULARY, WIDTH, LAYERS, STEPS, ROWS, TOKENS = 4096, 128, 4, 60, 8, 128


def _corpus() -> str:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return "".join(file.read_text(encoding="utf-8", errors="ignore") for file in sorted(folder.glob("*.py"))[:60])


def _tokenizer(text: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def _trained(config_class, model_class, ids: torch.Tensor):
    torch.manual_seed(0)
    model = model_class(
        config_class(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
            intermediate_size=4 * WIDTH, max_position_embeddings=512, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        rows = torch.stack([ids[at : at + TOKENS] for at in torch.randint(len(ids) - TOKENS, (ROWS,))])
        model(input_ids=rows, labels=rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval().bfloat16()


@pytest.fixture(scope="module")
def pairs() -> list[tuple[TextScores, TextScores]]:
    """Scores of 200 chunks by two models: in bf16, and in float32 with the same rounded weights."""
    text = _corpus()
    tokenizer = _tokenizer(text)
    ids = torch.from_numpy(tokenize(tokenizer, [text]).ids.astype(np.int64))
    generator = np.random.default_rng(0)
    begins, sizes = generator.integers(0, len(text) - 1600, 200), generator.integers(100, 1600, 200)
    texts = [text[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)]
    trained = [_trained(GPTNeoXConfig, GPTNeoXForCausalLM, ids), _trained(LlamaConfig, LlamaForCausalLM, ids)]
    return [
        (score_texts(model, tokenizer, texts), score_texts(copy.deepcopy(model).float(), tokenizer, texts))
        for model in trained
    ]


@pytest.mark.slow
def test_bits_per_byte_in_bf16_are_within_1e_4_rms_of_float32(pairs) -> None:
    for half, full in pairs:
        error = half.nll / full.nll - 1
        assert 0 < np.sqrt(np.mean(error**2)) < 1e-4
        # What is left when the noise of 50,000 tokens is averaged out: a bias of the rounded body (3e-5 measured).
        assert abs(half.nll.sum() / full.nll.sum() - 1) < 1e-4


@pytest.mark.slow
def test_bf16_never_turns_the_order_of_two_models_but_for_near_ties(pairs) -> None:
    (half, full), (other_half, other_full) = pairs
    in_half, in_full = half.bpb - other_half.bpb, full.bpb - other_full.bpb
    turned = np.sign(in_half) != np.sign(in_full)
    # Two scores, each off by up to four times 1e-4 of itself: below that a difference is none.
    assert np.all(np.abs(in_full[turned]) < 4e-4 * (full.bpb + other_full.bpb)[turned])
    assert np.std(in_full) > 0.01  # the models do differ
