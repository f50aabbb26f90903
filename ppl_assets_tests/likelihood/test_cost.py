"""Operations per token by hand, for a dense model, tied embeddings and experts."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from ppl_assets.likelihood import forward_flops_per_token

# Width 8, two heads of 4 with one key-value head, feed-forward 16, one layer, vocabulary 100.
SIZES = {
    "vocab_size": 100, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 4,
}  # fmt: skip
ATTENTION, NORMS, FEED_FORWARD, OUTPUT = 8 * (8 + 4 + 4 + 8), 3 * 8, 3 * 8 * 16, 100 * 8


@pytest.mark.parametrize("tied", [False, True])
def test_a_dense_model_uses_all_but_its_input_embedding(tied) -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=tied, **SIZES))
    assert forward_flops_per_token(model) == 2 * (ATTENTION + NORMS + FEED_FORWARD + OUTPUT)


def test_of_experts_only_those_a_token_is_sent_to_count() -> None:
    with torch.device("meta"):
        model = MixtralForCausalLM(MixtralConfig(num_local_experts=8, num_experts_per_tok=2, **SIZES))
    router = 8 * 8
    assert forward_flops_per_token(model) == 2 * (ATTENTION + NORMS + router + 2 * FEED_FORWARD + OUTPUT)
