"""Scores against a plain loop in float64 over one text at a time, and the status of every text that is not plain."""

import math
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertLMHeadModel,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForCausalLM,
)

from ppl_assets.errors import InputError
from ppl_assets.likelihood import Status, score_texts
from ppl_assets.likelihood.passes import context_length
from ppl_assets.progress import Progress
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, nll_by_loop, text_of_bytes, tiny_gpt2

TEXTS = [
    "one short text",
    "",
    "a",
    "Ein längerer Text über Bäume und Flüsse. " * 4,
    "x = 1\n\ty = 2\n",
    "日本語の文",
    "🙂",
]
START = 256
# A sum of n float32 log-probabilities against float64: a few float32 eps, n of them partly cancelling.
RTOL = 1e-5


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    return byte_tokenizer()


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return tiny_gpt2()


def test_scoring_and_its_benchmark_for_gpus_need_torch_and_transformers_alone() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1:]));"
        "import ppl_assets_tests.bench.bench_likelihood_gpu;"
        "from ppl_assets.likelihood import score_texts;"
        "from ppl_assets_tests.likelihood.tiny import byte_tokenizer, tiny_gpt2;"
        "print(*score_texts(tiny_gpt2(), byte_tokenizer(), ['one', 'two']).status)"
    )
    absent = ["dagster", "duckdb", "polars", "pyarrow", "pydantic", "psutil", "scipy", "numba", "datasets"]
    done = subprocess.run([sys.executable, "-c", code, *absent], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr.strip()[-500:]) == (["ok", "ok"], "")


def test_attention_is_never_planned_by_the_shape_of_a_batch_and_the_users_setting_is_put_back(tokenizer) -> None:
    model, seen = tiny_gpt2(), []
    model.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    assert torch.backends.cuda.cudnn_sdp_enabled()
    score_texts(model, tokenizer, TEXTS)
    assert seen
    assert not any(seen)
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("token_budget", [None, 1, 37, 100_000])
def test_scores_equal_a_loop_over_single_texts_in_float64_whatever_the_budget(model, tokenizer, token_budget) -> None:
    scores = score_texts(model, tokenizer, TEXTS, token_budget=token_budget)
    expected = [nll_by_loop(model, tokenizer, text, prefix=START) for text in TEXTS]
    np.testing.assert_allclose(scores.nll, [sum(nll) for nll in expected], rtol=RTOL)
    np.testing.assert_allclose(scores.nll_first, [nll[0] if nll else 0.0 for nll in expected], rtol=RTOL)
    assert scores.status.tolist() == ["ok", "empty", "ok", "ok", "ok", "ok", "ok"]
    assert scores.bytes.tolist() == [len(text.encode()) for text in TEXTS]
    assert scores.bytes_first.tolist() == [1, 0, 1, 1, 1, 1, 1]
    assert scores.bpb[0] == scores.nll[0] / (math.log(2) * 14)
    assert [array.dtype for array in (scores.nll, scores.nll_first)] == [np.float64] * 2
    assert [array.dtype for array in (scores.tokens, scores.bytes, scores.bytes_first)] == [np.int64] * 3


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(max_size=60), max_size=12), budget=st.integers(1, 300), seed=st.integers(0, 9))
def test_order_and_company_of_a_text_change_nothing_but_the_last_digits(texts, budget, seed) -> None:
    model, tokenizer = tiny_gpt2(), byte_tokenizer()
    scores = score_texts(model, tokenizer, texts, token_budget=budget)
    order = np.random.default_rng(seed).permutation(len(texts))
    again = score_texts(model, tokenizer, [texts[i] for i in order], token_budget=budget)
    np.testing.assert_allclose(again.nll, scores.nll[order], rtol=RTOL)
    assert np.array_equal(again.status, scores.status[order])


def test_texts_over_the_context_are_scored_in_windows_that_see_half_of_the_one_before(tokenizer) -> None:
    model = tiny_gpt2(context=64)
    text = "".join(chr(97 + i * i % 26) for i in range(150))
    scores = score_texts(model, tokenizer, ["short", text])
    # Windows of 64 positions: tokens 0-63, then 32 at a time after 32 of context, each window behind a start token.
    windows = [(0, 0, 64), (32, 64, 96), (64, 96, 128), (96, 128, 150)]
    expected = sum(
        sum(nll_by_loop(model, tokenizer, text[context:stop], prefix=START)[start - context :])
        for context, start, stop in windows
    )
    np.testing.assert_allclose(scores.nll[1], expected, rtol=RTOL)
    assert scores.status.tolist() == ["ok", "too_long"]
    assert scores.tokens.tolist() == [5, 150]


def test_the_longest_text_within_the_context_is_no_long_one(tokenizer) -> None:
    model = tiny_gpt2(context=64)
    scores = score_texts(model, tokenizer, ["x" * 64, "x" * 65], too_long="skip")
    assert scores.status.tolist() == ["ok", "too_long"]
    assert np.isfinite(scores.nll[0])
    assert np.isnan(scores.nll[1])
    assert np.isnan(scores.nll_first[1])
    assert scores.bytes.tolist() == [64, 65]


def test_a_pool_of_models_can_share_the_smallest_context(model, tokenizer) -> None:
    text = "y" * 100
    wide = score_texts(model, tokenizer, [text])
    narrow = score_texts(model, tokenizer, [text], max_context=50, window_overlap=10)
    assert (wide.status[0], narrow.status[0]) == ("ok", "too_long")
    expected = [
        *nll_by_loop(model, tokenizer, text[:50], prefix=START),
        *nll_by_loop(model, tokenizer, text[40:90], prefix=START)[10:],
        *nll_by_loop(model, tokenizer, text[80:], prefix=START)[10:],
    ]
    assert len(expected) == 100
    np.testing.assert_allclose(narrow.nll[0], sum(expected), rtol=RTOL)


def test_positions_behind_a_padding_id_count_towards_the_context() -> None:
    config = RobertaConfig(
        vocab_size=260, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=34, pad_token_id=1, is_decoder=True,
    )  # fmt: skip
    model = RobertaForCausalLM(config).eval()
    assert context_length(model) == 32
    scores = score_texts(model, byte_tokenizer(), ["z" * 32, "z" * 33], prefix_id=START)
    assert scores.status.tolist() == ["ok", "too_long"]
    assert np.isfinite(scores.nll).all()


def test_lossy_texts_are_marked_and_those_without_a_token_have_no_number(model) -> None:
    words = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "river": 1, "sea": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    one_token = "x" * 1_000_000
    scores = score_texts(model, words, ["river", one_token, "   ", "river\ud800", ""])
    assert scores.status.tolist() == ["ok", "tokenizer_lossy", "tokenizer_lossy", "tokenizer_lossy", "empty"]
    assert scores.tokens.tolist() == [1, 1, 0, 0, 0]
    assert scores.bytes.tolist() == [5, 1_000_000, 3, 8, 0]
    assert np.isfinite(scores.nll).tolist() == [True, True, False, False, True]


def test_a_text_of_zero_bytes_costs_nothing_and_one_of_nul_bytes_is_a_text(model, tokenizer) -> None:
    scores = score_texts(model, tokenizer, ["", "\0\0"])
    assert scores.status.tolist() == ["empty", "ok"]
    assert scores.nll[0] == 0
    assert np.isnan(scores.bpb[0])
    np.testing.assert_allclose(scores.nll[1], sum(nll_by_loop(model, tokenizer, "\0\0", prefix=START)), rtol=RTOL)


def test_a_megabyte_without_a_space_is_scored_in_windows(tokenizer) -> None:
    model = tiny_gpt2(context=64)
    scores = score_texts(model, tokenizer, ["a" * 20_000, "short"], token_budget=8192)
    assert scores.status.tolist() == ["too_long", "ok"]
    assert np.isfinite(scores.nll).all()


def test_nan_answers_are_marked_for_the_texts_they_concern(tokenizer) -> None:
    model = tiny_gpt2()
    score_texts(model, tokenizer, ["passes its self-test"])
    with torch.no_grad():
        # Untied, so that the letter is NaN where it is read and finite where it is predicted.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        model.transformer.wte.weight[tokenizer.encode("z").ids] = torch.nan
    scores = score_texts(model, tokenizer, ["fine", "fizzle", "fine too"])
    assert scores.status.tolist() == ["ok", "non_finite", "ok"]
    assert np.isnan(scores.nll).tolist() == [False, True, False]


def test_a_model_of_nan_weights_is_refused_with_the_number(tokenizer) -> None:
    model = tiny_gpt2()
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    scores = score_texts(model, tokenizer, ["text", "", "more"])
    assert scores.status.tolist() == ["refused"] * 3
    assert np.isnan(scores.nll).all()
    assert scores.bytes.tolist() == [4, 0, 4]
    assert "batched against alone, relative: found nan" in scores.refusal


def test_an_encoder_that_sees_the_future_is_refused(tokenizer) -> None:
    config = BertConfig(
        vocab_size=260, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    scores = score_texts(BertLMHeadModel(config).eval(), tokenizer, ["looks ahead"], prefix_id=START)
    assert scores.status.tolist() == ["refused"]


def test_the_model_is_left_as_it_was(model, tokenizer) -> None:
    model.train()
    forward, gradients = model.lm_head.forward, torch.is_grad_enabled()
    score_texts(model, tokenizer, TEXTS, dtype="bfloat16")
    score_texts(model, tokenizer, TEXTS)
    assert (model.training, torch.is_grad_enabled(), model.dtype) == (True, gradients, torch.float32)
    assert model.lm_head.forward == forward
    model.eval()


def test_parts_that_were_frozen_stay_frozen(tokenizer) -> None:
    model = tiny_gpt2().train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    score_texts(model, tokenizer, ["text"])
    assert [module.training for module in model.modules()] == before


def test_the_model_is_left_as_it_was_by_an_error_too(tokenizer, monkeypatch) -> None:
    model = tiny_gpt2().train()
    monkeypatch.setattr("ppl_assets.likelihood.passes.nll_of_rows", None)
    with pytest.raises(TypeError):
        score_texts(model, tokenizer, ["text"])
    assert "forward" not in vars(model.lm_head)
    assert model.training


def test_the_model_is_left_as_it_was_by_an_error_of_the_caller(model, tokenizer) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_texts(model, tokenizer, TEXTS, token_budget=64, progress=interrupt)
    # Even while the error's traceback is still held.
    assert "forward" not in vars(model.lm_head)
    assert not torch.is_inference_mode_enabled()


def test_float16_weights_are_refused_unless_float16_is_asked_for(tokenizer) -> None:
    half = tiny_gpt2().half()
    with pytest.raises(InputError, match="float16"):
        score_texts(half, tokenizer, ["text"])
    assert score_texts(half, tokenizer, ["text"], dtype="float16").status.tolist() == [Status.ok]


def test_progress_counts_tokens_to_the_end(model, tokenizer) -> None:
    seen: list[Progress] = []
    scores = score_texts(model, tokenizer, TEXTS, token_budget=64, progress=seen.append)
    assert len(seen) > 2
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (scores.tokens.sum(), scores.tokens.sum(), "tokens")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype: found 'int8'"),
        ({"too_long": "drop"}, "too_long: found 'drop'"),
        ({"window_overlap": 256}, "window_overlap: found 256"),
        ({"prefix_id": 999}, "token id 999 found, expected below 260"),
        ({"token_budget": 0}, "token_budget: found 0"),
        ({"max_context": 0}, "max_context: found 0"),
    ],
)
def test_unusable_options_are_named(model, tokenizer, options, message) -> None:
    with pytest.raises(InputError, match=message):
        score_texts(model, tokenizer, ["text"], **options)


def test_a_tokenizer_of_another_model_is_named(model) -> None:
    other = tokenizers.Tokenizer(models.WordLevel({"river": 300, "[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="token id 300 found, expected below 260"):
        score_texts(model, other, ["river"])


def _reference(model, ids: list[int]) -> float:
    """The published script on one text: mean cross-entropy of the tokens after the first, times all tokens."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits.double()
    return float(torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(ids[1:]))) * len(ids)


@pytest.mark.parametrize("adds_bos", [False, True])
def test_reference_compat_reproduces_both_first_token_conventions(model, adds_bos) -> None:
    raw = byte_tokenizer()
    if adds_bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", START)])
    texts = ["some text", "", "a", "longer text with more tokens", "\ud800"]
    scores = score_texts(model, PreTrainedTokenizerFast(tokenizer_object=raw), texts, reference_compat=True)
    for i in (0, 3) if not adds_bos else (0, 2, 3):
        ids = raw.encode(texts[i]).ids
        np.testing.assert_allclose(scores.nll[i], _reference(model, ids), rtol=RTOL)
        assert scores.tokens[i] == len(ids)
    assert scores.status.tolist() == ["ok", "empty", "ok" if adds_bos else "non_finite", "ok", "tokenizer_lossy"]
    assert np.isnan(scores.nll).tolist() == [False, False, not adds_bos, False, True]


def test_reference_and_our_definition_differ_by_one_token_in_n_with_bos(model) -> None:
    raw = byte_tokenizer()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", START)])
    text = "ten tokens"
    ours = score_texts(model, raw, [text]).nll[0]
    np.testing.assert_allclose(score_texts(model, raw, [text], reference_compat=True).nll[0], ours * 11 / 10, rtol=1e-6)


def test_a_model_without_a_stated_context_takes_any_length(tokenizer) -> None:
    config = MambaConfig(vocab_size=260, hidden_size=16, num_hidden_layers=1, state_size=4, bos_token_id=START)
    model = MambaForCausalLM(config).eval()
    assert context_length(model) is None
    assert score_texts(model, tokenizer, ["w" * 3000]).status.tolist() == ["ok"]


@pytest.mark.parametrize(("longest", "context"), [(20, 20), (300, 333)])
def test_in_bf16_batches_share_widths_and_losses_and_context_stay_as_they_are(longest, context) -> None:
    """A context that is no multiple of the step must not be left; what is added must not be counted."""
    model, tokenizer = tiny_gpt2(context=context).bfloat16(), byte_tokenizer()
    generator = np.random.default_rng(0)
    texts = [text_of_bytes(int(size), generator) for size in [longest, 1, *generator.integers(1, longest, 40)]]
    alone = [score_texts(model, tokenizer, [text]) for text in texts]
    widths: set[int] = set()
    model.transformer.register_forward_pre_hook(lambda _, args: widths.add(args[0].shape[1]))
    together = score_texts(model, tokenizer, texts, token_budget=2 * longest)
    # 8 is the width of the probe for the output layer.
    assert all(width % 16 == 0 for width in widths - {8, context})
    assert set(together.status) == {"ok"}
    np.testing.assert_allclose(together.nll, [float(each.nll[0]) for each in alone], rtol=2e-3)
    expected = [sum(nll_by_loop(model.float(), tokenizer, text, prefix=256)) for text in texts]
    np.testing.assert_allclose(together.nll, expected, rtol=1e-2)
