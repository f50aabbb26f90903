"""SHA-256 of files, remembered: an unchanged file of many gigabytes is read once.

A file counts as unchanged while size, modification time in nanoseconds and inode are those of the last reading, as in
version control's index. What the digest is of is content alone; times never enter it.
"""

import hashlib
import json
from pathlib import Path

from ppl_assets.warehouse.files import replace_file


def file_digest(path: Path, cache: Path) -> str:
    """Hex SHA-256 of a file's content; `cache` is the folder of remembered digests."""
    status = path.stat()
    name = str(path.absolute())
    stamp = [name, status.st_size, status.st_mtime_ns, status.st_ino]
    entry = cache / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    if entry.is_file():
        remembered = json.loads(entry.read_text())
        if remembered["stamp"] == stamp:
            return str(remembered["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    replace_file(entry, json.dumps({"stamp": stamp, "sha256": digest}))
    return digest
