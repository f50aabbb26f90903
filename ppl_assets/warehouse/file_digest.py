"""What a file's content says (its SHA-256, above all), remembered: an unchanged file of many gigabytes is read once.

A file counts as unchanged while size, modification time in nanoseconds and inode are those of the last reading, as in
version control's index. What the digest is of is content alone; times never enter it.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppl_assets.errors import InputError
from ppl_assets.warehouse.files import replace_file


def file_digest(path: Path, cache: Path) -> str:
    """Hex SHA-256 of a file's content; `cache` is the folder of remembered digests."""

    def read() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    status = path.stat()
    stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
    return str(remembered(str(path.absolute()), stamp, cache, read))


def remembered(question: str, stamp: object, cache: Path, find: Callable[[], Any]) -> Any:
    """The answer to a question about something that is unchanged while its `stamp` is; asked once for each stamp.

    Args:
        find: returns the answer, something that JSON can hold.
    """
    entry, now = cache / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json", repr(stamp)
    try:
        known = json.loads(entry.read_text())
        if known["stamp"] == now:
            return known["answer"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # not asked before, or the cache itself is damaged
    answer = find()
    # A disk that is full or read-only: found anew the next time, so that one can still look at what is there.
    with contextlib.suppress(InputError):
        replace_file(entry, json.dumps({"question": question, "stamp": now, "answer": answer}))
    return answer
