"""The tokenizer is lossless, depends on the set of texts alone, and is the one that AutoTokenizer loads back."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from ppl_assets.training import tokenizer as module
from ppl_assets.training.tokenizer import END_OF_TEXT, save_tokenizer, train_tokenizer

TEXTS = [f"def f{index}(value): return value + {index}  # adds {index}\n" * (1 + index % 3) for index in range(40)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 320)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_every_text_decodes_to_itself(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_special_token_spelled_out_in_a_page_is_ordinary_text(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(f"a{END_OF_TEXT}b")
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert 0 not in encoded.ids
    assert tokenizer.decode(encoded.ids) == f"a{END_OF_TEXT}b"


def test_the_vocabulary_has_the_size_asked_for_and_all_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 320
    assert len(train_tokenizer(["a"], 4096).get_vocab()) == 257  # one special token, 256 bytes, nothing to merge


def test_the_first_merge_is_the_most_frequent_pair() -> None:
    # Pairs never cross words; the words are split by hand here. Ties: none, by construction.
    text = "abcab abcab abab ab xyz"
    words = re.findall(r" ?\S+", text)
    pairs = Counter(word[place : place + 2] for word in words for place in range(len(word) - 1))
    merged = set(train_tokenizer([text], 258).get_vocab()) - set(train_tokenizer([text], 257).get_vocab())
    assert merged == {pairs.most_common(1)[0][0]} == {"ab"}


@given(st.permutations(TEXTS))
@settings(max_examples=5, deadline=None)
def test_the_order_of_texts_does_not_matter(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert train_tokenizer(texts, 320).to_str() == tokenizer.to_str()


def test_the_number_of_threads_does_not_matter(tokenizer: Tokenizer) -> None:
    code = (
        "import sys; from ppl_assets.training.tokenizer import train_tokenizer;"
        "from ppl_assets_tests.training.test_tokenizer import TEXTS;"
        "sys.stdout.write(train_tokenizer(TEXTS, 320).to_str())"
    )
    for threads in ("1", "3"):
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert done.stdout.decode() == tokenizer.to_str()


def test_a_sample_of_many_texts_does_not_depend_on_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_BYTES", 300)
    whole = train_tokenizer(TEXTS, 300)
    assert train_tokenizer(reversed(TEXTS), 300).to_str() == whole.to_str()
    in_order = sorted(TEXTS, key=lambda text: hashlib.sha256(text.encode()).digest())
    assert train_tokenizer(in_order[20:], 300).to_str() != whole.to_str()
    assert train_tokenizer(in_order[:20], 300).to_str() == whole.to_str()


def test_auto_tokenizer_loads_the_same_tokenizer_back(tokenizer: Tokenizer, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer, folder, context_tokens=77)
    loaded = AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, "", " ", "\n\n  x", "naïve 漢字 🙂", f"x{END_OF_TEXT}y", "a\u0301 'll don't 1234"]:
        assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
        assert loaded(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text).ids
        assert loaded.decode(tokenizer.encode(text).ids) == text
    assert (loaded.bos_token, loaded.bos_token_id, loaded.eos_token_id) == (END_OF_TEXT, 0, 0)
    assert loaded.model_max_length == 77
    assert loaded.vocab_size == tokenizer.get_vocab_size()
