"""Likelihood: what text costs a language model, in nats and bits per byte.

Which bytes count: all UTF-8 bytes of a text, each paid once, given one start token that is never scored.
Precision: forward pass in the checkpoint's bfloat16 or float32, logits reduced in float32, sums in float64.

    loading       model and tokenizer from a folder or the hub, checked
    tokenization  texts -> ids, once per distinct tokenizer
    batching      ids -> windows and batches of a token budget
    head          hidden states -> nats, without a [tokens, vocabulary] tensor
    passes        batches -> nats, within the memory there is
    selftest      whether one model with one tokenizer can be trusted
    scoring       the definition of bits per byte, and its status per text
    cost          floating-point operations per token, and per second
    shards        large corpora, resumable after a kill at any moment
"""

from ppl_assets.likelihood.cost import forward_flops_per_token, matmul_flops_per_second
from ppl_assets.likelihood.loading import LoadedModel, load_model, prefetch_model
from ppl_assets.likelihood.scoring import Status, TextScores, score_texts, score_tokens
from ppl_assets.likelihood.selftest import Check, SelfTest, self_test
from ppl_assets.likelihood.shards import Settings, ShardScores, resume_shards, score_shards
from ppl_assets.likelihood.tokenization import (
    TokenizedTexts,
    load_or_tokenize,
    start_token,
    tokenize,
    tokenizer_fingerprint,
)

__all__ = [
    "score_texts",
    "score_tokens",
    "TextScores",
    "Status",
    "score_shards",
    "resume_shards",
    "Settings",
    "ShardScores",
    "load_model",
    "LoadedModel",
    "prefetch_model",
    "self_test",
    "SelfTest",
    "Check",
    "tokenize",
    "load_or_tokenize",
    "TokenizedTexts",
    "tokenizer_fingerprint",
    "start_token",
    "forward_flops_per_token",
    "matmul_flops_per_second",
]
