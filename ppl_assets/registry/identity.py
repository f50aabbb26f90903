"""What makes a local model the model it is: its files, hashed."""

import hashlib
import json
from pathlib import Path

from ppl_assets.warehouse import file_digest

# Everything that changes what a model answers: weights, configuration, tokenizer, and code that a folder may carry.
_IDENTITY_PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.py")


def local_revision(folder: Path, cache: Path) -> str | None:
    """Digest of a model folder's files; None where `folder` is not a folder (a repository id)."""
    if not folder.is_dir():
        return None
    files = sorted({file for pattern in _IDENTITY_PATTERNS for file in folder.glob(pattern)})
    digests = [(file.name, file_digest(file, cache)) for file in files]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:32]
