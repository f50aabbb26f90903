"""Tiny tokenizers and a naive scorer for the tests of the likelihood room."""

from typing import Any

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel


def byte_tokenizer() -> tokenizers.Tokenizer:
    """One token per UTF-8 byte (ids 0 to 255), ``<s>`` is 256 and ``</s>`` is 257."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<s>", "</s>"])
    return raw


def nll_by_loop(model: Any, tokenizer: tokenizers.Tokenizer, text: str, *, prefix: int) -> list[float]:
    """Nats of each token of one text: full logits of this text alone, log-softmax in float64."""
    ids = [prefix, *tokenizer.encode(text, add_special_tokens=False).ids]
    if len(ids) == 1:
        return []
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[:-1]])).logits[0].double().numpy()
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return [-log_p[i, token] for i, token in enumerate(ids[1:])]


def text_of_bytes(n_bytes: int, generator: np.random.Generator) -> str:
    """Words of several scripts, `n_bytes` UTF-8 bytes long."""
    words = ["the", "of", "water", "Fluß", "naïve", "日本", "x = 1;", "def f():", "return", "🙂", "mountain", "river!"]
    whole = " ".join(generator.choice(words, n_bytes)).encode()[:n_bytes].decode("utf-8", "ignore")
    return whole + "." * (n_bytes - len(whole.encode()))


def tiny_gpt2(*, context: int = 256, seed: int = 0) -> GPT2LMHeadModel:
    """A random model for `byte_tokenizer`."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=260, n_embd=16, n_layer=2, n_head=2, n_positions=context, bos_token_id=256, eos_token_id=257
    )
    return GPT2LMHeadModel(config).eval()
