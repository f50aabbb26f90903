"""Models from a hub: a real client against a small server on loopback that speaks the hub's protocol."""

from pathlib import Path

import pytest

from ppl_assets.errors import InputError
from ppl_assets.likelihood import load_model, score_texts
from ppl_assets.registry.hub import pinned_commit
from ppl_assets_tests.registry.hub import COMMIT, point_client_at, serve_hub, tiny_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def hub(model_folder, monkeypatch, tmp_path):
    """The server, with the client pointed at it; it knows ``maker/tiny`` with the branch ``main``."""
    with serve_hub("maker/tiny", model_folder, revision="main") as server:
        point_client_at(server, monkeypatch, tmp_path / "cache")
        yield server


def test_a_branch_is_pinned_to_its_commit_and_a_commit_is_not_asked_about(hub):
    assert pinned_commit("tiny", "maker/tiny", "main") == COMMIT
    hub.shutdown()
    assert pinned_commit("tiny", "maker/tiny", COMMIT) == COMMIT


def test_a_revision_that_the_hub_does_not_have_is_told_with_the_model(hub):
    with pytest.raises(InputError, match=r"model 'tiny': the hub does not say which commit 'v9' of 'maker/tiny' is"):
        pinned_commit("tiny", "maker/tiny", "v9")


def test_without_a_hub_a_branch_is_refused_and_the_remedy_named():
    with pytest.raises(InputError, match=r"expected a reachable hub, or a commit as revision"):
        pinned_commit("tiny", "maker/tiny", "main")


def test_a_pinned_model_is_downloaded_and_scores_as_the_folder_it_was_served_from(hub, model_folder, monkeypatch):
    served = load_model("maker/tiny", revision=COMMIT)
    local = load_model(model_folder)
    texts = ["some text", "of it"]
    ours = [score_texts(loaded.model, loaded.tokenizer, texts).nll.tolist() for loaded in (served, local)]
    assert ours[0] == ours[1]
