"""Each fault that would give plausible nonsense is refused with its number; a sound model passes."""

import pytest
import tokenizers
import torch
from tokenizers import models, normalizers
from transformers import PreTrainedTokenizerFast

from ppl_assets.errors import InputError
from ppl_assets.likelihood import Check, SelfTest, self_test
from ppl_assets.likelihood.selftest import PASSAGES
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, tiny_gpt2


def _failed(verdict: SelfTest) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_sound_model_passes_in_every_dtype(dtype) -> None:
    verdict = self_test(tiny_gpt2().to(dtype), byte_tokenizer())
    assert verdict.refusal is None
    verdict.require("tiny")


def test_a_tokenizer_that_loses_text_is_refused_with_its_share() -> None:
    lower = byte_tokenizer()
    lower.normalizer = normalizers.Lowercase()
    verdict = self_test(tiny_gpt2(), lower)
    assert _failed(verdict) == ["share of texts that survive a round trip"]
    with pytest.raises(InputError, match=r"model m: refused by its self-test: .*found 0\.166667, expected 0\.9 to 1"):
        verdict.require("m")
    assert self_test(tiny_gpt2(), lower, min_round_trip=0.1).refusal is None


def test_a_tokenizer_that_swallows_text_is_refused_by_tokens_per_byte() -> None:
    words = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    verdict = self_test(tiny_gpt2(), words, PASSAGES)
    assert "tokens per byte" in _failed(verdict)


def test_a_tokenizer_that_transformers_rebuilt_otherwise_is_refused(tmp_path) -> None:
    PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), bos_token="<s>").save_pretrained(tmp_path)
    other = byte_tokenizer()
    other.normalizer = normalizers.Replace("the", "eht")
    wrong = PreTrainedTokenizerFast(tokenizer_object=other, bos_token="<s>")
    wrong.name_or_path = str(tmp_path)
    share = "share of texts tokenized as by tokenizer.json"
    assert share in _failed(self_test(tiny_gpt2(), wrong))
    right = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert share in [check.name for check in self_test(tiny_gpt2(), right).checks]
    assert self_test(tiny_gpt2(), right).refusal is None


def test_weights_of_another_tokenizer_are_refused_by_their_mean_nats() -> None:
    model = tiny_gpt2()
    with torch.no_grad():
        # Sure of one token whatever the text: what a model says to a tokenizer whose ids mean other words.
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(260))
        model.lm_head.bias[0] = 30.0
    assert _failed(self_test(model, byte_tokenizer())) == ["mean nats per token"]


def test_attention_that_looks_ahead_is_refused() -> None:
    torch.manual_seed(0)
    verdict = self_test(_Leaking(tiny_gpt2().config).eval(), byte_tokenizer())
    assert "batched against alone, relative" in _failed(verdict)


class _Leaking(type(tiny_gpt2())):
    """Adds to each position what the row's last one holds."""

    def forward(self, input_ids, **options):
        answer = super().forward(input_ids=input_ids, **options)
        answer.logits = answer.logits + answer.logits[:, -1:]
        return answer


def test_a_check_fails_on_nan() -> None:
    check = Check(name="n", value=float("nan"), low=0, high=1)
    assert not check.passed
    assert str(check) == "n: found nan, expected 0 to 1"


def test_ids_beyond_the_model_are_named() -> None:
    with pytest.raises(InputError, match="token id 300 found, expected below 260"):
        self_test(tiny_gpt2(), byte_tokenizer(), prefix_id=300)


def test_texts_without_a_byte_are_no_sample() -> None:
    with pytest.raises(InputError, match="texts: found none"):
        self_test(tiny_gpt2(), byte_tokenizer(), ["", ""])
