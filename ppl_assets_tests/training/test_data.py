"""Batches follow the mixture, read every page once per round, and depend on the seed and the set of pages alone."""

from itertools import islice, pairwise
from math import sqrt

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

from ppl_assets.errors import InputError
from ppl_assets.training import data
from ppl_assets.training.data import batches, texts_by_pattern
from ppl_assets.training.tokenizer import train_tokenizer

PAGES = pl.DataFrame(
    [
        {"page_id": f"{domain}-{index}", "domain": domain, "text": f"{domain} {index} " + letter * (5 + 7 * index % 50)}
        for domain, letter in (("a/code", "A"), ("b/code", "B"), ("a/prose", "p"), ("b/prose", "q"))
        for index in range(20)
    ]
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(PAGES["text"], 300)


def drawn(tokenizer: Tokenizer, *, pages=PAGES, mixture=None, count=5, sequences=4, tokens=32, seed=0) -> np.ndarray:
    mixture = mixture or {"*/code": 1.0, "*/prose": 3.0}
    stream = batches(pages, mixture, tokenizer, sequences=sequences, tokens=tokens, seed=seed, where="run")
    return np.stack(list(islice(stream, count)))


def test_batches_have_the_shape_asked_for_and_ids_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    ids = drawn(tokenizer)
    assert ids.shape == (5, 4, 32)
    assert ids.dtype == np.int64
    assert 0 <= ids.min() < ids.max() < 300


def test_the_same_seed_gives_the_same_batches_whatever_the_order_of_pages_and_patterns(tokenizer: Tokenizer) -> None:
    expected = drawn(tokenizer)
    shuffled = PAGES.sample(fraction=1, shuffle=True, seed=5)
    assert np.array_equal(drawn(tokenizer, pages=shuffled), expected)
    assert np.array_equal(drawn(tokenizer, mixture={"*/prose": 3.0, "*/code": 1.0}), expected)
    assert np.array_equal(drawn(tokenizer, mixture={"*/prose": 0.75, "*/code": 0.25}), expected)
    assert not np.array_equal(drawn(tokenizer, seed=1), expected)


def test_the_share_of_a_pattern_is_its_weight(tokenizer: Tokenizer) -> None:
    ids = drawn(tokenizer, count=100, sequences=20, tokens=8).reshape(-1, 8)
    letters = [set(tokenizer.decode(list(row))) for row in ids]
    prose = [bool(found & set("pq")) for found in letters if bool(found & set("pq")) != bool(found & set("AB"))]
    assert len(prose) > 1000
    # Binomial with mean 0.75: four standard errors, so that a wrong share of 0.8 or 0.7 fails and a right one passes.
    assert abs(np.mean(prose) - 0.75) < 4 * sqrt(0.75 * 0.25 / len(prose))


def test_every_page_is_read_once_before_any_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Bytes only, and pages of three bytes: with the end-of-text token before it, a page is a row of four tokens.
    pages = pl.DataFrame([{"page_id": f"{index}", "domain": "a", "text": f"{index:03}"} for index in range(80)])
    tokenizer = train_tokenizer(pages["text"], 257)
    monkeypatch.setattr(data, "_BUFFER_ROWS", 16)
    rows = drawn(tokenizer, pages=pages, mixture={"a": 1.0}, count=160, sequences=1, tokens=4)[:, 0]
    read = [tokenizer.decode(list(row)) for row in rows]
    assert (rows[:, 0] == tokenizer.token_to_id("<|endoftext|>")).all()
    assert sorted(read[:80]) == sorted(read[80:]) == pages["text"].to_list()
    assert read[:80] != read[80:]


def test_neighbouring_rows_are_of_different_pages(tokenizer: Tokenizer) -> None:
    pages = pl.DataFrame(
        [{"page_id": f"{index}", "domain": "a", "text": chr(ord("A") + index) * 500} for index in range(20)]
    )
    rows = drawn(tokenizer, pages=pages, mixture={"a": 1.0}, count=1, sequences=200, tokens=8)[0]
    letters = [tokenizer.decode(list(row))[-1] for row in rows]
    same = np.mean([first == second for first, second in pairwise(letters)])
    assert same < 0.2  # one in twenty by chance; unshuffled, all but one in sixty


def test_a_long_page_has_its_share_of_each_batch_and_no_more(tokenizer: Tokenizer) -> None:
    texts = ["A" * 50_000, *("B" * 2000 for _ in range(25))]
    pages = pl.DataFrame([{"page_id": f"{index}", "domain": "a", "text": text} for index, text in enumerate(texts)])
    for rows in drawn(tokenizer, pages=pages, mixture={"a": 1.0}, count=3, sequences=100, tokens=8):
        share = np.mean([tokenizer.decode(list(row))[-1] == "A" for row in rows])
        assert 0.2 < share < 0.8  # half of all characters; read page by page it would be 0 or 1


def test_a_page_longer_than_a_sequence_is_cut_and_nothing_is_lost(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "_BUFFER_ROWS", 1)  # each time the page is read, its rows are given out
    page = pl.DataFrame([{"page_id": "x", "domain": "a", "text": "0123456789 " * 30}])
    stream = np.array([0, *tokenizer.encode(page["text"][0]).ids])
    for tokens in (2, 7, 16):
        count = len(stream) // tokens
        rows = drawn(tokenizer, pages=page, mixture={"a": 1.0}, count=count, sequences=1, tokens=tokens)[:, 0]
        expected = stream[: count * tokens].reshape(-1, tokens)
        assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))


def test_a_page_counts_for_every_pattern_that_matches_it() -> None:
    texts = texts_by_pattern(PAGES, ["a/*", "*/code", "*"], where="run")
    assert {pattern: len(found) for pattern, found in texts.items()} == {"a/*": 40, "*/code": 40, "*": 80}


@pytest.mark.parametrize("pages", [PAGES, PAGES.clear()])
def test_a_pattern_without_pages_is_an_error_that_says_what_there_is(tokenizer: Tokenizer, pages: pl.DataFrame) -> None:
    with pytest.raises(InputError, match=r"run: pattern 'c/\*' matches no domain with training pages; found") as error:
        drawn(tokenizer, pages=pages, mixture={"c/*": 1.0})
    assert ("a/code" in str(error.value)) == (pages.height > 0)
