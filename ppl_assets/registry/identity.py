"""What makes a local model the model it is: its files, hashed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_assets.warehouse import file_digest

# Everything that changes what a model answers: weights, configuration, tokenizer, and code that a folder may carry.
_IDENTITY_PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.py")


def identity(model: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a row of ``models`` from the same model at other weights.

    Where digests say what the weights are, it does not matter where they lie.
    """
    named = ("slug", "revision", "weights_digest") if model["weights_digest"] else ("slug", "source", "revision")
    return {key: model[key] for key in named}


def local_revision(folder: Path, cache: Path) -> str | None:
    """Digest of a model folder's files; None where `folder` is not a folder (a repository id)."""
    if not folder.is_dir():
        return None
    files = sorted({file for pattern in _IDENTITY_PATTERNS for file in folder.glob(pattern)})
    digests = [(file.name, file_digest(file, cache)) for file in files]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:32]
