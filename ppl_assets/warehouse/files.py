"""Local files, replaced whole or not at all, and what killed writers left of them."""

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.processes import is_abandoned, temporary_path

# What a file system says when it is the user's to repair: full, over quota, read-only, not permitted, not a folder.
_USER_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


def replace_file(path: Path, content: bytes | memoryview | str) -> None:
    """Write `content` to `path` atomically.

    Raises:
        InputError: the disk is full or the folder not writable; what stood at `path` is untouched.
    """
    with replacing_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when the block ends: under a temporary name, synced, then renamed.

    Raises:
        InputError: the disk is full or the folder not writable; what stood at `path` is untouched.
    """
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in _USER_ERRNOS:
            found = f"cannot be written ({error.strerror})"
            raise InputError(f"{path}: {found}; expected a writable folder with space left") from error
        raise
    finally:
        if temporary.exists():
            temporary.unlink()


def replace_parquet(path: Path, rows: pl.DataFrame) -> None:
    """Write a plain Parquet file, whole or not at all."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    replace_file(path, buffer.getbuffer())


def remove_abandoned(root: Path) -> list[Path]:
    """Delete temporary files and folders whose writer is dead; returns what was deleted."""
    # Not `rglob`, which fails where another process deletes a folder meanwhile.
    found = (Path(folder, name) for folder, folders, files in os.walk(root) for name in (*folders, *files))
    abandoned = [path for path in found if is_abandoned(path)]
    for path in abandoned:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return abandoned
