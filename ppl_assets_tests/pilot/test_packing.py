"""Packed sequences: nothing is left out, and arms read what they share in the same order."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.pilot.packing import PackedPages, Sequences, check_budget, epochs_needed, tokenize_pages
from ppl_assets.training.tokenizer import END_OF_TEXT, train_tokenizer
from ppl_assets_tests.pilot.worlds import page_texts


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(page_texts(200).values(), 300)


def packed(folder, tokenizer, pages) -> PackedPages:
    tokenize_pages(pages.items(), folder, tokenizer, start=0, identity=repr(sorted(pages)))
    return PackedPages(folder, where="arm")


def pages_in(ids: np.ndarray, tokenizer) -> list[str]:
    """The texts between start tokens."""
    cuts = [*np.flatnonzero(ids == 0), len(ids)]
    return [tokenizer.decode(ids[begin + 1 : end].tolist()) for begin, end in itertools.pairwise(cuts)]


def test_an_epoch_holds_every_page_once_and_the_next_one_in_another_order(tmp_path, tokenizer):
    pages = page_texts(60)
    found = packed(tmp_path / "tokens", tokenizer, pages)
    stream = found.stream(seed=0, epochs=2)
    assert len(stream) == 2 * found.tokens
    first = pages_in(stream.read(0, found.tokens), tokenizer)
    second = pages_in(stream.read(found.tokens, found.tokens), tokenizer)
    assert sorted(first) == sorted(second) == sorted(pages.values())
    assert first != second


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(1, 50), count=st.integers(1, 20))
def test_sequences_are_the_stream_cut_up_with_each_token_predicted_once(tmp_path, tokenizer, length, count):
    found = packed(tmp_path / "tokens", tokenizer, page_texts(60))
    stream = found.stream(seed=1, epochs=epochs_needed(tokens=found.tokens, budget=length * count))
    rows = list(map(Sequences(stream, length=length, count=count).__getitem__, range(count)))
    whole = stream.read(0, length * count + 1)
    np.testing.assert_array_equal(np.concatenate([row["input_ids"] for row in rows]), whole[:-1])
    np.testing.assert_array_equal(np.concatenate([row["shift_labels"] for row in rows]), whole[1:])


def test_arms_read_the_pages_that_they_share_in_the_same_order(tmp_path, tokenizer):
    one, other = page_texts(50), page_texts(50, first=25)
    orders = [
        pages_in(each.stream(seed=3, epochs=1).read(0, each.tokens), tokenizer)
        for each in (packed(tmp_path / "one", tokenizer, one), packed(tmp_path / "other", tokenizer, other))
    ]
    shared = {one[name] for name in one.keys() & other.keys()}
    # A text may stand for several pages; of those that stand for one the order is known.
    shared = {text for text in shared if all(order.count(text) == 1 for order in orders)}
    assert len(shared) > 10
    assert [text for text in orders[0] if text in shared] == [text for text in orders[1] if text in shared]


def test_the_order_depends_on_the_seed_and_not_on_how_pages_come(tmp_path, tokenizer):
    pages = page_texts(50)
    backwards = dict(reversed(pages.items()))
    one, other = packed(tmp_path / "one", tokenizer, pages), packed(tmp_path / "other", tokenizer, backwards)
    read = [each.stream(seed=seed, epochs=1).read(0, one.tokens) for each in (one, other) for seed in (0, 1)]
    np.testing.assert_array_equal(read[0], read[2])
    assert (read[0] != read[1]).any()


def test_special_tokens_spelled_out_and_empty_pages_are_ordinary_text(tmp_path, tokenizer):
    found = packed(tmp_path / "tokens", tokenizer, {"a": f"x{END_OF_TEXT}y", "b": "", "c": "\0"})
    ids = found.stream(seed=0, epochs=1).read(0, found.tokens)
    assert (ids == 0).sum() == 3
    assert sorted(pages_in(ids, tokenizer)) == ["", "\0", f"x{END_OF_TEXT}y"]


def test_pages_come_in_shards_that_stay_readable_as_parquet(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("ppl_assets.pilot.packing._PAGES_AT_ONCE", 16)
    found = packed(tmp_path / "tokens", tokenizer, page_texts(40))
    shards = sorted((tmp_path / "tokens").glob("*.parquet"))
    assert [pl.read_parquet(shard).height for shard in shards] == [16, 16, 8]
    assert sum(pl.read_parquet(shard)["tokens"].sum() for shard in shards) == found.tokens == len(found.ids)


def test_the_same_pages_are_tokenized_once_and_others_anew(tmp_path, tokenizer):
    packed(tmp_path / "tokens", tokenizer, page_texts(5))
    written = (tmp_path / "tokens" / "tokens.bin").stat().st_mtime_ns

    def never():
        raise AssertionError("read again")
        yield

    tokenize_pages(never(), tmp_path / "tokens", tokenizer, start=0, identity=repr(sorted(page_texts(5))))
    assert (tmp_path / "tokens" / "tokens.bin").stat().st_mtime_ns == written
    assert len(packed(tmp_path / "tokens", tokenizer, page_texts(6)).page_ids) == 6


def test_an_arm_without_pages_is_an_error(tmp_path, tokenizer):
    with pytest.raises(InputError, match="arm: found no page to train on"):
        packed(tmp_path / "tokens", tokenizer, {})


@pytest.mark.parametrize(("budget", "fits"), [(400, True), (401, False)])
def test_a_budget_repeats_pages_no_more_often_than_allowed(budget, fits):
    if fits:
        check_budget(tokens=100, budget=budget, max_epochs=4, where="arm")
        return
    with pytest.raises(InputError, match="arm: found 100 tokens of pages, expected at least 100 for a budget of 401"):
        check_budget(tokens=100, budget=budget, max_epochs=4, where="arm")
