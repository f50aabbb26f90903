"""The files of a model folder: whether all are there and whole, what their weights are, and how many.

Only safetensors count as weights, and only their headers and bytes are read: no model library is needed. Source of the
layout: the safetensors format specification (8 bytes of header length, little-endian; a JSON header; the data).
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from ppl_assets.errors import InputError

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer_config.json",
)
READ_BYTES = 1 << 24


def check_files(folder: Path, *, allow_pickle: bool = False) -> None:
    """Refuse a folder that lacks configuration, weights or tokenizer, or holds a truncated file.

    Raises:
        InputError: with the file or the kind of file, and what was expected.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: found no config.json, expected a model folder as `save_pretrained` writes it")
    files = sorted(folder.glob("*.safetensors"))
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if not files and not (pickles and allow_pickle):
        found = f"only pickled weights ({', '.join(pickles)})" if pickles else "no weights"
        raise InputError(f"{folder}: found {found}, expected *.safetensors")
    _shards(folder)
    for file in files:
        _read_header(file)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{folder}: found no tokenizer, expected tokenizer.json")


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of all tensors in `folder`'s safetensors.

    Independent of the model's name, of file names and of how the tensors are spread over files: the same weights under
    two names have the same digest, a changed revision has another.

    Raises:
        InputError: no safetensors, or a truncated file.
    """
    files = _loaded_files(folder)
    if not files:
        raise InputError(f"{folder}: found no *.safetensors, expected the weights of a model")
    entries = sorted(entry for file in files for entry in _tensor_digests(file))
    return hashlib.sha256(json.dumps(entries, separators=(",", ":")).encode()).hexdigest()


def count_parameters(folder: Path) -> int:
    """Parameters in a folder's weights, by their headers alone; tied weights count once."""
    headers = (_read_header(file)[0] for file in _loaded_files(folder))
    return sum(math.prod(tensor["shape"]) for header in headers for tensor in header.values())


def _loaded_files(folder: Path) -> list[Path]:
    """The safetensors that transformers loads, not a second copy beside them; all where it knows none of the names."""
    whole = folder / WEIGHTS
    return [whole] if whole.is_file() else _shards(folder) or sorted(folder.glob("*.safetensors"))


def _shards(folder: Path) -> list[Path]:
    """The files that the index of weights names; none where there is no index."""
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        return []
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # cut off, or no index
        raise InputError(f"{index}: found no index of weights ({error!r}); download it again") from error
    # Names and not paths: an index from a stranger leads nowhere but into its own folder.
    present = {file.name for file in folder.glob("*.safetensors")}
    missing = [str(name) for name in names if name not in present]
    if missing:
        raise InputError(f"{folder}: found no {', '.join(missing)}, expected by {WEIGHTS_INDEX}")
    return [folder / name for name in names]


def _tensor_digests(file: Path) -> list[tuple[str, str, list[int], str]]:
    header, start = _read_header(file)
    digests = []
    with file.open("rb") as stream:
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            stream.seek(start + begin)
            digest = hashlib.sha256()
            for left in range(end - begin, 0, -READ_BYTES):
                digest.update(stream.read(min(left, READ_BYTES)))
            digests.append((name, tensor["dtype"], tensor["shape"], digest.hexdigest()))
    return digests


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The tensors that a safetensors file announces, and where their bytes begin; refuses a file of another size."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 8 + length <= size else None
    except ValueError:  # neither UTF-8 nor JSON
        header = None
    if not isinstance(header, dict):
        raise InputError(
            f"{file}: found {size} bytes that are no safetensors file; it may be truncated: download it again"
        )
    header.pop("__metadata__", None)
    expected = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if size != expected:
        raise InputError(f"{file}: found {size} bytes, expected {expected} by its header; download it again")
    return header, 8 + length
