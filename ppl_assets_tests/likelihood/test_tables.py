"""Rows of chunk_logliks: scored once per text, and known again whatever sample the text is in."""

import json
import shutil

import polars as pl
import pytest
import transformers

from ppl_assets.likelihood import LoadedModel, score_texts
from ppl_assets.likelihood.loading import load_model
from ppl_assets.likelihood.tables import chunk_rows, known_rows, self_test_sample
from ppl_assets.warehouse import Lake
from ppl_assets_tests.likelihood.tiny import byte_tokenizer, tiny_gpt2

TEXTS = [f"{number} green bottles hanging on the wall " * (1 + number % 5) for number in range(40)]


def chunks_of(texts: list[str], *, page: str = "page") -> pl.DataFrame:
    return pl.DataFrame({"chunk_id": [f"{page}#{i}" for i in range(len(texts))], "text": texts})


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = tiny_gpt2()
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer()).save_pretrained(folder)
    return LoadedModel(model, byte_tokenizer(), folder)


@pytest.fixture
def score(loaded, tmp_path):
    def rows_of(chunks: pl.DataFrame, digest: str = "as now", model: LoadedModel = loaded) -> pl.DataFrame:
        return chunk_rows(
            "tiny",
            chunks,
            model,
            sample=self_test_sample(chunks),
            scoring_digest=digest,
            token_folder=tmp_path / "tokens",
            shard_folder=tmp_path / "shards",
            token_budget=None,
            too_long="windows",
            max_context=None,
            progress=lambda progress: None,
        )

    return rows_of


def test_rows_are_the_scores_of_the_texts_and_equal_texts_are_scored_once(loaded, score):
    texts = [*TEXTS, TEXTS[3], TEXTS[3]]
    rows = score(chunks_of(texts)).sort(pl.col("chunk_id").str.split("#").list.last().cast(pl.Int64))
    expected = score_texts(loaded.model, loaded.tokenizer, texts)
    assert rows["nll"].to_numpy() == pytest.approx(expected.nll, rel=1e-6)
    assert rows["tokens"].to_list() == expected.tokens.tolist()
    assert rows.filter(pl.col("chunk_id").is_in(["page#3", "page#40", "page#41"]))["nll"].n_unique() == 1


def test_shards_that_a_killed_run_left_are_not_those_of_the_same_weights_under_another_configuration(
    loaded, score, tmp_path
):
    score(chunks_of(TEXTS), "before")
    assert list((tmp_path / "shards").glob("*/*.npz"))
    shutil.copytree(loaded.folder, tmp_path / "repaired")
    config = tmp_path / "repaired" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"activation_function": "relu"}))
    repaired = LoadedModel(load_model(tmp_path / "repaired").model, byte_tokenizer(), tmp_path / "repaired")
    rows = score(chunks_of(TEXTS), "after", repaired).sort(pl.col("chunk_id").str.slice(5).cast(pl.Int64))
    expected = score_texts(repaired.model, repaired.tokenizer, TEXTS)
    assert rows["nll"].to_numpy() == pytest.approx(expected.nll, rel=1e-6)


def test_a_text_that_was_scored_is_known_under_another_chunk_id_and_a_new_one_is_not(score, tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = score(chunks_of(TEXTS))
    lake.write("chunk_logliks", rows, fingerprint="then", partition="tiny")
    now = chunks_of(["a new text", *TEXTS[::-2], TEXTS[1]], page="elsewhere")
    known = known_rows(lake, "tiny", now, "as now")
    by_text = dict(zip(TEXTS, rows.sort(pl.col("chunk_id").str.slice(5).cast(pl.Int64))["nll"], strict=True))
    expected = {row["chunk_id"]: by_text[row["text"]] for row in now.iter_rows(named=True) if row["text"] in by_text}
    assert dict(known.select("chunk_id", "nll").iter_rows()) == expected
    assert set(now["chunk_id"]) - set(known["chunk_id"]) == {"elsewhere#0"}


@pytest.mark.parametrize("case", ["another scoring", "another model", "refused", "tampered", "truncated", "older"])
def test_rows_that_would_not_be_what_scoring_gives_now_are_not_known(score, tmp_path, case):
    lake = Lake(tmp_path / "lake")
    chunks = chunks_of(TEXTS)
    rows = score(chunks)
    if case == "refused":
        rows = rows.with_columns(status=pl.lit("refused"), nll=None, nll_first=None)
    footer = lake.write("chunk_logliks", rows, fingerprint="then", partition="tiny")
    path = lake.path("chunk_logliks", "tiny")
    if case == "tampered":
        stored = pl.read_parquet_metadata(path)["ppl_assets"]
        pl.read_parquet(path).with_columns(nll=pl.lit(1.0)).write_parquet(path, metadata={"ppl_assets": stored})
    if case == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if case == "older":
        stored = pl.read_parquet_metadata(path)["ppl_assets"]
        pl.read_parquet(path).drop("scoring_digest").write_parquet(path, metadata={"ppl_assets": stored})
    assert footer.data_version
    slug, digest = ("other" if case == "another model" else "tiny"), ("new" if case == "another scoring" else "as now")
    assert known_rows(lake, slug, chunks, digest).is_empty()
    assert known_rows(lake, slug, chunks, digest).columns == rows.columns


def test_progress_says_which_share_of_the_matrix_peak_is_used(loaded, tmp_path):
    seen = []
    chunks = chunks_of(TEXTS)
    chunk_rows(
        "tiny",
        chunks,
        loaded,
        sample=self_test_sample(chunks),
        scoring_digest="as now",
        token_folder=tmp_path / "tokens",
        shard_folder=tmp_path / "shards",
        token_budget=None,
        too_long="windows",
        max_context=None,
        progress=seen.append,
    )
    assert seen[-1].done == seen[-1].total == sum(len(text.encode()) for text in TEXTS)
    assert all(0 < progress.share_of_peak < 1 for progress in seen)
