"""Model folders: written whole or not at all, and recognised again by the fingerprint of what made them.

A folder holds what ``from_pretrained`` needs (config, weights as safetensors, tokenizer) and ``checkpoint.json``: the
fingerprint, and the row of table ``zoo_checkpoints`` that describes the folder.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ppl_assets.errors import InputError
from ppl_assets.processes import temporary_path

_RECORD = "checkpoint.json"
_WEIGHTS = "model.safetensors"


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends; on an error, `path` is untouched.

    A crash leaves at most temporary folders, which carry the process id in their names, and no folder at `path` in the
    moment between two renames.

    Raises:
        InputError: the disk is full or the folder not writable.
    """
    from safetensors import SafetensorError

    temporary, replaced = temporary_path(path), temporary_path(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
    except (OSError, SafetensorError) as error:
        found = f"cannot be written ({error})"
        raise InputError(f"{path}: {found}; expected a writable folder with space for a model") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write_record(folder: Path, row: dict[str, Any], *, fingerprint: str) -> dict[str, Any]:
    """Describe a model folder that is being written; returns `row` with the digest of the weights."""
    complete = row | {"weights_digest": _digest(folder)}
    (folder / _RECORD).write_text(json.dumps({"fingerprint": fingerprint, "row": complete}, indent=1))
    return complete


def read_record(folder: Path, *, fingerprint: str) -> dict[str, Any] | None:
    """The row of a complete model folder; None where it is missing, damaged or made from something else."""
    try:
        record = json.loads((folder / _RECORD).read_text())
        current = record["fingerprint"] == fingerprint and record["row"]["weights_digest"] == _digest(folder)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return record["row"] if current else None


def _digest(folder: Path) -> str:
    with (folder / _WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
