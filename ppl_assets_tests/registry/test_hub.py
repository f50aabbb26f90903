"""Models from a hub: a real client against a small server on loopback that speaks the hub's protocol."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import transformers

from ppl_assets.errors import InputError
from ppl_assets.likelihood import load_model, score_texts
from ppl_assets.registry.hub import pinned_commit
from ppl_assets.training import train_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A tiny Llama with a tokenizer, as ``save_pretrained`` writes it."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(["some text to learn from, and some more of it"], 300), bos_token="<|bos|>"
    )
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(model_folder, monkeypatch, tmp_path):
    """The server's address, with the client pointed at it; it knows ``maker/tiny`` with the branch ``main``."""

    class Hub(BaseHTTPRequestHandler):
        def _answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_GET(self) -> None:
            files = sorted(path.name for path in model_folder.iterdir())
            if self.path.split("?")[0] in (f"/api/models/maker/tiny/revision/{name}" for name in ("main", COMMIT)):
                siblings = [{"rfilename": name} for name in files]
                info = {"id": "maker/tiny", "modelId": "maker/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}
                self._answer(200, json.dumps(info).encode(), Content_Type="application/json")
            elif self.path.startswith(f"/api/models/maker/tiny/tree/{COMMIT}"):
                sizes = {path.name: path.stat().st_size for path in model_folder.iterdir()}
                tree = [{"type": "file", "path": name, "size": sizes[name], "oid": name} for name in files]
                self._answer(200, json.dumps(tree).encode(), Content_Type="application/json")
            elif self.path.startswith((f"/maker/tiny/resolve/{COMMIT}/", "/maker/tiny/resolve/main/")):
                content = (model_folder / self.path.rpartition("/")[2]).read_bytes()
                self._answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)
            else:
                self._answer(404, b"{}", X_Error_Code="RevisionNotFound")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


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
