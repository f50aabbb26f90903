"""The blockwise log-sum-exp equals the full one, and what a model does after its output layer is found and followed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from ppl_assets.likelihood import head as head_module
from ppl_assets.likelihood import score_texts
from ppl_assets.likelihood.head import Head, eval_mode, find_head, nll_of_rows
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, nll_by_loop, tiny_gpt2

SMALL = {
    "vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 32, "head_dim": 8, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 0,
}  # fmt: skip
PROBE = torch.arange(16).reshape(2, 8)


@given(
    rows=st.integers(1, 40),
    vocabulary=st.integers(2, 90),
    scale=st.sampled_from([1.0, 0.25]),
    cap=st.sampled_from([None, 3.0]),
    size=st.sampled_from([0.1, 30.0, 3000.0]),
    seed=st.integers(0, 99),
)
def test_nats_equal_the_full_log_sum_exp_in_float64(rows, vocabulary, scale, cap, size, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(8, vocabulary)
    with torch.no_grad():
        layer.weight.normal_(0, 1, generator=generator)
        layer.bias.normal_(0, 1, generator=generator)
    hidden = size * torch.randn(rows, 8, generator=generator)
    target = torch.randint(vocabulary, (rows,), generator=generator)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(head_module, "CPU_BLOCK", (7, 16))  # several blocks, the last of them not full
        nll = nll_of_rows(hidden, target, Head(layer=layer, scale=scale, cap=cap)).numpy()
    z = scale * (
        hidden.double().numpy() @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    )
    z = z if cap is None else cap * np.tanh(z / cap)
    expected = logsumexp(z, axis=1) - z[np.arange(rows), target]
    # Logits are rounded to float32: a few eps of the largest of them.
    np.testing.assert_allclose(nll, expected, rtol=1e-5, atol=4e-6 * max(1.0, float(np.abs(z).max())))


def test_a_masked_entry_of_a_models_own_logits_leaves_the_loss_of_an_unlikely_token_finite() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -100.0, 1.0]])
    with torch.inference_mode():
        nll = nll_of_rows(logits, torch.tensor([2]), Head(layer=None))
    np.testing.assert_allclose(nll, logsumexp(logits.double().numpy(), axis=1) + 100.0, rtol=1e-6)


def test_bf16_logits_are_reduced_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(64, 5000, bias=False)
    with torch.no_grad():
        layer.weight.normal_(0, 0.3, generator=generator)
    layer, hidden = layer.bfloat16(), torch.randn(500, 64, generator=generator).bfloat16()
    target = torch.randint(5000, (500,), generator=generator)
    with torch.inference_mode():
        nll = nll_of_rows(hidden, target, Head(layer=layer)).double().numpy()
        logits = hidden.double() @ layer.weight.double().T
        exact = torch.nn.functional.cross_entropy(logits, target, reduction="none").numpy()
        half = torch.nn.functional.cross_entropy(logits.bfloat16(), target, reduction="none").double().numpy()
    assert nll.dtype == np.float64
    # bf16 keeps 8 bits: logits of size 8 are off by up to 2^-6, 9e-3 rms. In the log-sum-exp the few large ones average
    # that down, and the target's logit is exact; reduced in bf16, nats of about 10 are off by 2e-2: what this rejects.
    ours, reduced_in_half = (float(np.sqrt(np.mean((found - exact) ** 2))) for found in (nll, half))
    assert ours < 5e-3
    assert reduced_in_half > 3 * ours


@pytest.mark.parametrize(
    ("model_class", "config", "scale", "cap"),
    [
        (CohereForCausalLM, CohereConfig(logit_scale=0.0625, **SMALL), 0.0625, None),
        (GraniteForCausalLM, GraniteConfig(logits_scaling=7.0, **SMALL), 1 / 7, None),
        (Gemma2ForCausalLM, Gemma2Config(final_logit_softcapping=5.0, **SMALL), 1.0, 5.0),
        (Gemma2ForCausalLM, Gemma2Config(final_logit_softcapping=None, **SMALL), 1.0, None),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scale_and_soft_cap_after_the_output_layer_are_found(model_class, config, scale, cap, dtype) -> None:
    torch.manual_seed(0)
    model = model_class(config).eval().to(dtype)
    with eval_mode(model):
        found = find_head(model, PROBE)
    assert found.layer is model.lm_head
    # Four digits more than bf16 has: a scale rounded to bf16 would bias every score.
    assert found.scale == pytest.approx(scale, rel=1e-6)
    assert found.cap == (cap if cap is None else pytest.approx(cap, rel=1e-6))


class _Shifted(type(tiny_gpt2())):
    """Does to logits what is neither a scale nor a soft cap."""

    def forward(self, input_ids, **options):
        answer = super().forward(input_ids=input_ids, **options)
        answer.logits = answer.logits + torch.arange(answer.logits.shape[-1]) % 3
        return answer


def test_logits_that_are_shaped_otherwise_are_taken_from_the_model_itself() -> None:
    torch.manual_seed(0)
    model = _Shifted(tiny_gpt2().config).eval()
    with eval_mode(model):
        assert find_head(model, PROBE).layer is None
    texts = ["some text", "other"]
    scores = score_texts(model, byte_tokenizer(), texts)
    expected = [sum(nll_by_loop(model, byte_tokenizer(), text, prefix=256)) for text in texts]
    np.testing.assert_allclose(scores.nll, expected, rtol=1e-5)


def test_a_forward_that_was_replaced_before_is_put_back() -> None:
    model, calls = tiny_gpt2(), []
    original = model.lm_head.forward

    def counted(hidden):
        calls.append(len(hidden))
        return original(hidden)

    model.lm_head.forward = counted
    score_texts(model, byte_tokenizer(), ["text"])
    assert model.lm_head.forward is counted
    assert calls


def test_no_tensor_of_tokens_by_vocabulary_is_made() -> None:
    """The largest tensor made while scoring is a block, not all tokens' logits."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            made = function(*arguments, **(options or {}))
            if isinstance(made, torch.Tensor):
                self.elements = max(self.elements, made.numel())
            return made

    rows, vocabulary = 3000, 4000
    layer, hidden = torch.nn.Linear(8, vocabulary), torch.randn(rows, 8)
    with torch.inference_mode(), Largest() as largest:
        nll_of_rows(hidden, torch.zeros(rows, dtype=torch.int64), Head(layer=layer))
    assert largest.elements <= 1024 * 1024 < rows * vocabulary
