"""Bytes are paid once under every tokenizer, control tokens never stand in a text, ids are kept for all models."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ppl_assets.errors import InputError
from ppl_assets.likelihood import TokenizedTexts, load_or_tokenize, score_texts, start_token, tokenize
from ppl_assets.likelihood.tokenization import tokenizer_fingerprint
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, nll_by_loop

REAL = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
NO_CONTROL = {"bos_token_id": None, "eos_token_id": None}
TEXTS = [
    "The river rises in the mountains, 1,204 m above the sea.",
    "  two spaces before, a tab\tinside and a newline\nafter\n",
    "Grüße aus Köln: naïve café, Ænima, 日本語, 🙂🙃",
    "def f(x):\n    return x ** 2  # square\n",
    "<s>not a control token</s> <|endoftext|> [CLS]",
    "a",
]


def _trained(model: object, trainer: object, *, metaspace: bool) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    if metaspace:
        # As SentencePiece models are converted: one space before the text, spaces spelt out.
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("▁?[^▁]+"), "isolated")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def byte_level_bpe() -> tokenizers.Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    return _trained(models.BPE(), trainer, metaspace=False)


def unigram() -> tokenizers.Tokenizer:
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    return _trained(models.Unigram(), trainer, metaspace=True)


def word_piece() -> tokenizers.Tokenizer:
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["<s>", "[UNK]"], show_progress=False)
    tokenizer = _trained(models.WordPiece(unk_token="[UNK]"), trainer, metaspace=True)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("##", ""), tokenizer.decoder])
    return tokenizer


def adds_bos_and_eos() -> tokenizers.Tokenizer:
    tokenizer = byte_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 256), ("</s>", 257)]
    )
    return tokenizer


def real(name: str) -> tokenizers.Tokenizer:
    file = REAL / f"{name}.json"
    if not file.exists():
        pytest.skip(f"{file} is absent: the real tokenizers are not part of the repository")
    return tokenizers.Tokenizer.from_file(str(file))


TOKENIZERS = {
    "gptneox": lambda: real("gptneox"),
    "starcoder": lambda: real("starcoder"),
    "byte-level BPE": byte_level_bpe,
    "unigram": unigram,
    "wordpiece": word_piece,
    "BOS and EOS by itself": adds_bos_and_eos,
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_each_byte_is_paid_once_and_the_start_token_never(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=8, n_layer=1, n_head=2, n_positions=128, **NO_CONTROL)
    ).eval()
    scores = score_texts(model, tokenizer, TEXTS, prefix_id=0)
    tokenizer.encode_special_tokens = True
    # The trained tokenizers spell every text, so whatever differs between them is no byte lost.
    assert scores.status.tolist() == ["ok"] * len(TEXTS)
    assert scores.bytes.tolist() == [len(text.encode()) for text in TEXTS]
    expected = [nll_by_loop(model, tokenizer, text, prefix=0) for text in TEXTS]
    assert scores.tokens.tolist() == [len(nll) for nll in expected]
    np.testing.assert_allclose(scores.nll, [sum(nll) for nll in expected], rtol=1e-5)
    np.testing.assert_allclose(scores.nll_first, [nll[0] for nll in expected], rtol=1e-5)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_first_token_and_the_others_share_the_bytes_of_the_text(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tokens = tokenize(tokenizer, TEXTS)
    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    for i, text in enumerate(TEXTS):
        first = tokenizer.id_to_token(int(tokens.ids[tokens.offsets[i]]))
        if name in ("unigram", "wordpiece"):
            assert first.startswith("▁")  # the space put before the text, which is no byte of it
            assert text.startswith(first[1:].replace("▁", " "))
            assert tokens.bytes_first[i] == len(first[1:].replace("▁", " ").encode())
        elif all(letter in byte_of for letter in first):
            assert text.encode().startswith(bytes(byte_of[letter] for letter in first))
            assert tokens.bytes_first[i] == len(first)
        else:
            # An added token (a run of spaces) is named by its own text.
            assert text.startswith(first)
            assert tokens.bytes_first[i] == len(first.encode())


def test_a_first_token_inside_a_character_pays_for_its_own_bytes_alone() -> None:
    assert tokenize(byte_tokenizer(), ["🙂"]).bytes_first.tolist() == [1]
    fallback = tokenizers.Tokenizer(
        models.BPE(
            {"<unk>": 0} | {f"<0x{b:02X}>": b + 1 for b in range(256)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    fallback.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokens = tokenize(fallback, ["🙂"])
    assert (tokens.bytes_first.tolist(), tokens.tokens.tolist(), tokens.lossy.tolist()) == ([1], [4], [False])


@given(texts=st.lists(st.text(max_size=40), max_size=8))
def test_any_text_survives_a_byte_level_tokenizer_with_one_token_per_byte(texts: list[str]) -> None:
    tokens = tokenize(byte_tokenizer(), texts)
    assert tokens.tokens.tolist() == tokens.bytes.tolist() == [len(text.encode()) for text in texts]
    assert not tokens.lossy.any()
    assert tokens.bytes_first.tolist() == [min(len(text), 1) for text in texts]


def test_what_a_tokenizer_loses_is_marked() -> None:
    lower = byte_tokenizer()
    lower.normalizer = normalizers.Lowercase()
    assert tokenize(lower, ["lower", "Upper"]).lossy.tolist() == [False, True]
    assert tokenize(unigram(), ["river", "ж"]).lossy.tolist() == [False, True]
    assert tokenize(word_piece(), ["river", "r" * 1000]).lossy.tolist() == [False, True]


def test_lone_surrogates_have_no_tokens_and_are_marked_lossy() -> None:
    tokens = tokenize(byte_tokenizer(), ["fine", "a\ud800b", "fine"])
    assert tokens.lossy.tolist() == [False, True, False]
    assert tokens.tokens.tolist() == [4, 0, 4]
    assert tokens.bytes.tolist() == [4, 5, 4]


def test_truncation_and_padding_in_a_tokenizer_file_do_not_reach_the_texts() -> None:
    cut = byte_tokenizer()
    cut.enable_truncation(4)
    cut.enable_padding(length=8)
    assert tokenize(cut, ["much longer than four"]).tokens.tolist() == [21]
    assert cut.truncation["max_length"] == 4  # the caller's tokenizer is left as it was
    assert tokenizer_fingerprint(cut) == tokenizer_fingerprint(byte_tokenizer())


def test_the_fingerprint_changes_with_the_ids_and_with_nothing_else() -> None:
    plain, wrapped = byte_tokenizer(), PreTrainedTokenizerFast(tokenizer_object=adds_bos_and_eos(), bos_token="<s>")
    assert tokenizer_fingerprint(plain) == tokenizer_fingerprint(wrapped)
    one_merge = json.loads(plain.to_str())
    one_merge["model"]["vocab"]["th"] = 258
    one_merge["model"]["merges"] = [["t", "h"]]
    merged = tokenizers.Tokenizer.from_str(json.dumps(one_merge))
    assert tokenizer_fingerprint(merged) != tokenizer_fingerprint(plain)
    added = byte_tokenizer()
    added.add_tokens(["the"])
    assert tokenizer_fingerprint(added) != tokenizer_fingerprint(plain)


def test_a_transformers_tokenizer_gives_the_ids_of_the_raw_one() -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=adds_bos_and_eos(), bos_token="<s>", eos_token="</s>")
    assert np.array_equal(tokenize(wrapped, TEXTS).ids, tokenize(byte_tokenizer(), TEXTS).ids)


def test_stored_tokens_are_read_back_as_they_were_and_made_once(tmp_path, monkeypatch) -> None:
    made = load_or_tokenize(tmp_path, byte_tokenizer(), TEXTS)
    monkeypatch.setattr("ppl_assets.likelihood.tokenization.tokenize", None)  # a second call would fail
    read = load_or_tokenize(tmp_path, byte_tokenizer(), TEXTS)
    for name in ("ids", "offsets", "bytes", "bytes_first", "lossy"):
        assert np.array_equal(getattr(made, name), getattr(read, name))
        assert getattr(made, name).dtype == getattr(read, name).dtype
    assert read.fingerprint == tokenizer_fingerprint(byte_tokenizer())
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]


def test_other_texts_or_another_order_are_stored_apart(tmp_path) -> None:
    load_or_tokenize(tmp_path, byte_tokenizer(), ["ab", "c"])
    assert load_or_tokenize(tmp_path, byte_tokenizer(), ["a", "bc"]).bytes.tolist() == [1, 2]
    assert load_or_tokenize(tmp_path, byte_tokenizer(), ["c", "ab"]).bytes.tolist() == [1, 2]
    assert len(list(tmp_path.iterdir())) == 3


def test_selected_texts_keep_their_ids() -> None:
    tokens = tokenize(byte_tokenizer(), ["abc", "", "de"])
    chosen = tokens.select(np.array([2, 0]))
    assert isinstance(chosen, TokenizedTexts)
    assert bytes(chosen.ids.astype(np.uint8).tolist()) == bytes([*tokens.ids[3:], *tokens.ids[:3]])
    assert chosen.offsets.tolist() == [0, 2, 5]


def test_the_start_token_is_bos_then_eos_then_what_the_tokenizer_adds_then_the_config() -> None:
    raw, config = (
        byte_tokenizer(),
        GPT2LMHeadModel(GPT2Config(n_embd=4, n_layer=1, n_head=1, vocab_size=9, **NO_CONTROL)),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    assert start_token(wrapped) == 256
    assert start_token(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")) == 257
    assert start_token(adds_bos_and_eos()) == 256
    config.config.bos_token_id, config.config.eos_token_id = None, [7, 8]
    assert start_token(raw, config) == 7
    with pytest.raises(InputError, match="no BOS and no EOS"):
        start_token(raw)


def test_what_is_no_tokenizer_or_no_text_is_named() -> None:
    with pytest.raises(InputError, match="found str"):
        tokenize("gpt2", ["text"])
    with pytest.raises(InputError, match="texts: found one str of 4 characters"):
        tokenize(byte_tokenizer(), "text")
    with pytest.raises(InputError, match=r"texts\[1\]: found int"):
        tokenize(byte_tokenizer(), ["text", 3])


def test_a_text_that_the_tokenizer_fails_on_is_lossy_and_the_others_are_not_held_up() -> None:
    """A word model without a token for unknown words raises for the whole batch at the first one that it meets."""
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({"known": 0, "words": 1, " ": 2}))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "isolated")
    raw.decoder = tokenizers.decoders.Fuse()
    with pytest.raises(Exception, match="Missing"):
        raw.encode_batch(["known words", "unknown"])
    tokens = tokenize(raw, ["known words", "unknown words", "words", ""])
    assert tokens.lossy.tolist() == [False, True, False, False]
    assert tokens.tokens.tolist() == [3, 0, 1, 0]
    assert tokens.bytes.tolist() == [11, 13, 5, 0]
