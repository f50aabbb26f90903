"""A model hub on loopback: as much of the hub's protocol as its client asks for, and a tiny model to serve."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import transformers

from ppl_assets.training import train_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tiny_model(folder: Path) -> Path:
    """A tiny Llama with a tokenizer, as ``save_pretrained`` writes it."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(["some text to learn from, and some more of it"], 300), bos_token="<|bos|>"
    )
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def address_of(server: ThreadingHTTPServer) -> str:
    """What a client is pointed at."""
    return f"http://127.0.0.1:{server.server_port}"


def point_client_at(server: ThreadingHTTPServer, patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let the hub's client in this process ask `server`, and keep what it gets in `cache`."""
    constants, address = huggingface_hub.constants, address_of(server)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))


@contextlib.contextmanager
def serve_hub(repository: str, folder: Path, *, revision: str) -> Iterator[ThreadingHTTPServer]:
    """A running server that has one repository, `folder`, whose branch or tag `revision` is at `COMMIT`."""

    class Hub(BaseHTTPRequestHandler):
        def _answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_GET(self) -> None:
            files = sorted(folder.iterdir())
            api, resolved = f"/api/models/{repository}", f"/{repository}/resolve"
            if self.path.split("?")[0] in (f"{api}/revision/{name}" for name in (revision, COMMIT)):
                siblings = [{"rfilename": path.name} for path in files]
                info = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings, "tags": []}
                self._answer(200, json.dumps(info).encode(), Content_Type="application/json")
            elif self.path.startswith(f"{api}/tree/{COMMIT}"):
                tree = [
                    {"type": "file", "path": each.name, "size": each.stat().st_size, "oid": each.name} for each in files
                ]
                self._answer(200, json.dumps(tree).encode(), Content_Type="application/json")
            elif self.path.startswith((f"{resolved}/{COMMIT}/", f"{resolved}/{revision}/")):
                content = (folder / self.path.rpartition("/")[2]).read_bytes()
                self._answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)
            else:
                self._answer(404, b"{}", X_Error_Code="RevisionNotFound")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
