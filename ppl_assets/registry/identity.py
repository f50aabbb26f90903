"""What makes a local model the model it is: its files, hashed; and what its weights say of themselves.

Source of the header layout: the safetensors format specification (8 bytes little-endian header length, JSON header,
data).
"""

import hashlib
import json
import math
from pathlib import Path

from ppl_assets.errors import InputError
from ppl_assets.warehouse import file_digest

# Everything that changes what a model answers: weights, configuration, tokenizer, and code that a folder may carry.
_IDENTITY_PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt", "*.py")


def local_revision(folder: Path, cache: Path) -> str | None:
    """Digest of a model folder's files; None where `folder` is not a folder (a repository id)."""
    if not folder.is_dir():
        return None
    files = sorted({file for pattern in _IDENTITY_PATTERNS for file in folder.glob(pattern)})
    return _combined([(file.name, file_digest(file, cache)) for file in files])


def weights_digest(folder: Path, cache: Path) -> str:
    """Digest of a model folder's weights alone: equal for the same weights under two names.

    Raises:
        InputError: the folder holds no weights.
    """
    return _combined([(file.name, file_digest(file, cache)) for file in _weights(folder)])


def count_parameters(folder: Path) -> int:
    """Parameters in a folder's weights, read from the headers alone; tied weights count once.

    Raises:
        InputError: no weights, or a file shorter than its header says.
    """
    return sum(_count_in(file) for file in _weights(folder))


def _weights(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no weights; expected at least one .safetensors file")
    return files


def _count_in(file: Path) -> int:
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_length = int.from_bytes(stream.read(8), "little")
        header = stream.read(header_length) if header_length <= size else b""
    if len(header) != header_length or not header:
        raise InputError(f"{file}: truncated: {size:,} bytes are fewer than its header takes")
    tensors = {name: tensor for name, tensor in json.loads(header).items() if name != "__metadata__"}
    expected = 8 + header_length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    if size != expected:
        raise InputError(f"{file}: truncated or damaged: found {size:,} bytes, its header says {expected:,}")
    return sum(math.prod(tensor["shape"]) for tensor in tensors.values())


def _combined(digests: list[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:32]
