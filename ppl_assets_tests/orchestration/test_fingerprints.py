"""What an asset is computed from is in its fingerprint, down to the content of files that a study only names."""

from pathlib import Path

import polars as pl
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from ppl_assets.corpus import reference_counter
from ppl_assets.orchestration.provenance import fingerprint, page_scoring, scoring_digest
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.schema import TABLES
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.scored_study import write_scored_study
from ppl_assets_tests.studies import write_text_study


def write_tokenizer(path: Path, *, characters: bool) -> None:
    """Words are tokens, or single characters are."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    by_character = pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    tokenizer.pre_tokenizer = by_character if characters else pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


@pytest.fixture
def counted(tmp_path, monkeypatch) -> Settings:
    """A study whose reference tokens are those of a file beside it: words."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    study = write_scored_study(tmp_path, ("alpha",), known="")
    unit = "  chunk_tokens: 64\n  reference_tokenizer: {file: unit.json}\n"
    study.write_text(study.read_text().replace("  chunk_tokens: 64\n", unit))
    write_tokenizer(tmp_path / "unit.json", characters=False)
    return settings_of(study)


def test_another_reference_tokenizer_in_the_same_file_cuts_other_chunks_and_counts_other_tokens(counted, tmp_path):
    run(counted, select=["corpus_chunks"])
    before = Workspace(counted)
    pages, domains = page_scoring(before, []), before.table("domains")
    write_tokenizer(tmp_path / "unit.json", characters=True)
    assert [outcome.error for outcome in run(counted, select=["corpus_chunks"])] == [None] * 3
    after = Workspace(counted)
    chunks = after.table("chunks")
    assert max(reference_counter(after.study).count(chunks["text"].to_list())) <= 64
    assert after.table("domains")["tokens"].sum() > 2 * domains["tokens"].sum()
    assert page_scoring(after, []) != pages


def test_the_name_of_the_reference_tokenizers_file_decides_nothing(counted, tmp_path):
    before = fingerprint(Workspace(counted), "corpus_chunks")
    (tmp_path / "unit.json").rename(tmp_path / "renamed.json")
    study = Path(counted.study)
    study.write_text(study.read_text().replace("unit.json", "renamed.json"))
    assert fingerprint(Workspace(counted), "corpus_chunks") == before


def test_the_context_of_the_pool_is_part_of_its_models_whatever_their_weights(tmp_path):
    study = write_text_study(tmp_path)
    settings = settings_of(study)
    lineage = {"family": "f", "run": "r", "kind": "probe", "status": "ready", "weights_digest": "d"}
    rows = [{"slug": "code-step4", "source": "zoo"} | lineage, {"slug": "far", "source": "maker/far"} | lineage]
    Workspace(settings).lake.write("models", pl.DataFrame(rows, schema=TABLES["models"].polars_schema), fingerprint="f")

    def stated() -> tuple[str, ...]:
        opened = Workspace(settings)
        return (
            scoring_digest(opened, "code-step4"),
            fingerprint(opened, "benchmark_scores", "code-step4"),
            scoring_digest(opened, "far"),
        )

    before = stated()
    study.write_text(study.read_text().replace("zoo:\n", "zoo:\n  context_tokens: 32\n"))
    after = stated()
    assert [now == then for now, then in zip(after, before, strict=True)] == [False, False, True]
