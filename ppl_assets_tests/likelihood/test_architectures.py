"""Every causal-LM architecture of the installed transformers is scored exactly, or refused: none silently wrong."""

import numpy as np
import pytest
import torch

from ppl_assets_tests.likelihood.architecture_support import EXACT, START, support
from ppl_assets_tests.likelihood.architectures import ARCHITECTURES, NotBuildableError, build
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, nll_by_loop

# One of each kind: learned, rotary, relative and no positions; soft caps and logit scales; experts; sliding windows and
# chunks; recurrent, convolutional and hybrid; encoders turned decoders; and those that cannot be batched.
REPRESENTATIVE = frozenset(
    {
        "bloom",
        "cohere2",
        "cpmant",
        "deepseek_v3",
        "falcon",
        "falcon_h1",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gpt_oss",
        "granite",
        "jamba",
        "lfm2",
        "llama",
        "llama4_text",
        "mamba",
        "mamba2",
        "mistral",
        "mixtral",
        "modernbert-decoder",
        "mpt",
        "nanochat",
        "olmo2",
        "opt",
        "phi3",
        "qwen2_moe",
        "qwen3",
        "qwen3_next",
        "recurrent_gemma",
        "roberta",
        "rwkv",
        "starcoder2",
        "xglm",
        "xlnet",
        "xlstm",
    }
)
# Not causal (they look ahead or at a document's end), so that no batch can be right.
REFUSED = frozenset({"cpmant", "prophetnet", "xlm", "xlnet"})


def _cases() -> list:
    return [
        pytest.param(name, marks=() if name in REPRESENTATIVE else pytest.mark.slow, id=name) for name in ARCHITECTURES
    ]


# Architectures warn of missing optional kernels and of their own deprecated arguments; neither is ours.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", _cases())
def test_an_architecture_is_scored_as_by_a_loop_in_float64_or_refused(architecture: str) -> None:
    result = support(architecture)
    if result.verdict == "not buildable":
        assert architecture not in REPRESENTATIVE
        pytest.skip(result.detail)
    assert result.verdict == ("refused" if architecture in REFUSED else "exact"), result
    assert result.verdict == "refused" or 0 < result.error <= EXACT


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_at_least_120_architectures_can_be_built() -> None:
    built = 0
    for architecture in ARCHITECTURES:
        try:
            build(architecture)
        except NotBuildableError:
            continue
        built += 1
    assert built >= 120


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", sorted(REPRESENTATIVE - REFUSED))
def test_the_tiny_models_look_at_their_context_so_that_a_wrong_batch_would_show(architecture: str) -> None:
    model, tokenizer = build(architecture), byte_tokenizer()
    tail = "the same words after another beginning"
    one, other = (nll_by_loop(model, tokenizer, begin + tail, prefix=START)[1:] for begin in "ab")
    # A hundred times what the exactness test tolerates.
    assert np.abs(np.subtract(one, other)).sum() > 100 * EXACT * np.sum(one)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
