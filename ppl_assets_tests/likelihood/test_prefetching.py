"""While one model is scored, the files of the next one that is not current come from a hub on loopback."""

from pathlib import Path

import huggingface_hub.constants
import pytest

from ppl_assets.likelihood import assets
from ppl_assets.likelihood.assets import prefetch_next
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.processes import alone
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.registry.hub import COMMIT, point_client_at, serve_hub
from ppl_assets_tests.scored_study import MODELS, write_model, write_scored_study


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def workspace(tmp_path, cache, monkeypatch):
    """A registered study whose model `gamma` is on a hub that runs as long as the test does."""
    study = write_scored_study(tmp_path / "study")
    listed = study.read_text()
    assert "source: gamma" in listed
    study.write_text(listed.replace("source: gamma", f"source: maker/gamma, revision: {COMMIT}"))
    write_model(tmp_path / "served", seed=1)
    with serve_hub("maker/gamma", tmp_path / "served", revision="main") as server:
        point_client_at(server, monkeypatch, cache)
        settings = settings_of(study)
        assert [outcome.error for outcome in run(settings, ["model_registry"]) if outcome.error] == []
        yield Workspace(settings)


def fetched(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("models--maker--gamma/snapshots/*/*.safetensors"))


def test_the_next_model_that_is_not_current_is_downloaded(workspace, cache):
    prefetch_next(workspace, "delta").join()
    assert fetched(cache) == ["model.safetensors"]


@pytest.mark.parametrize("last", ["beta", "gamma"])
def test_no_model_is_downloaded_before_its_turn_or_again(workspace, cache, last):
    prefetch_next(workspace, last).join()
    assert fetched(cache) == []


def test_a_model_that_another_process_is_at_is_left_to_it(workspace, cache):
    with alone(workspace.settings.locks / "chunk_logliks-delta"):
        prefetch_next(workspace, "beta").join()
    assert fetched(cache) == ["model.safetensors"], "the one after it"


def test_what_is_wrong_with_the_next_model_is_left_to_its_own_turn(workspace, cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    prefetch_next(workspace, "delta").join()
    assert fetched(cache) == []


def test_every_model_that_is_scored_brings_the_next_one(workspace, monkeypatch):
    asked = []

    def remembering(opened, slug):
        asked.append(slug)
        return prefetch_next(opened, slug)

    monkeypatch.setattr(assets, "prefetch_next", remembering)
    assert "chunk_logliks[gamma]" in {str(outcome.task) for outcome in run(workspace.settings, ["chunk_logliks"])}
    assert asked == sorted(MODELS)
