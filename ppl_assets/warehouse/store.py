"""Where the lake's files lie: a local folder, or a bucket behind a URL such as ``s3://bucket/prefix``.

Both hold files by name, ``/`` between folders, and replace one whole or not at all: a folder by renaming, a bucket by
one PUT, of which nothing is seen before all of it has arrived.
"""

import io
import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Protocol

from ppl_assets.errors import InputError
from ppl_assets.warehouse.files import replace_file

# Holds the footer of nearly every part; a longer one costs a second request.
_TAIL_BYTES = 1 << 16
# A Parquet file ends with the length of its footer, 4 bytes, and 4 bytes that say that it is one.
_PARQUET_END = 8


class Store(Protocol):
    """Files by name."""

    def locate(self, name: str) -> Path | str:
        """Where a file lies, for people and error messages."""

    def names(self, folder: str) -> list[str]:
        """Names of all files below a folder."""

    def stamp(self, name: str) -> object | None:
        """Something that is equal while a file has not been replaced; None where there is none."""

    def open(self, name: str) -> Path | io.BytesIO:
        """What a file can be read from; FileNotFoundError, here or there, where there is none."""

    def read_tail(self, name: str) -> bytes:
        """The end of a Parquet file, with its footer; FileNotFoundError where there is none."""

    def read(self, name: str) -> bytes:
        """A file's content."""

    def replace(self, name: str, content: bytes | memoryview) -> None:
        """Put a file in place; InputError where the store does not take it, and what stood there is untouched."""

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens where there is none."""


def store_at(root: Path | str) -> Store:
    """The store of a folder, or of a URL.

    Raises:
        InputError: the URL is of no kind that is known, or the extra that reads it is not installed.
    """
    return Folder(root) if isinstance(root, Path) else Bucket(root)


class Folder:
    """A folder of the file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def locate(self, name: str) -> Path:
        """Its path."""
        return self._root / name

    def names(self, folder: str) -> list[str]:
        """Names of all files below a folder, unfinished ones left out."""
        files = (path for path in (self._root / folder).rglob("*") if path.is_file() and path.suffix != ".tmp")
        return [path.relative_to(self._root).as_posix() for path in files]

    def stamp(self, name: str) -> object | None:
        """Inode, time and size."""
        try:
            status = self.locate(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (status.st_ino, status.st_mtime_ns, status.st_size) if S_ISREG(status.st_mode) else None

    def open(self, name: str) -> Path:
        """Its path."""
        return self.locate(name)

    def read_tail(self, name: str) -> bytes:
        """The end of a Parquet file."""
        with self.locate(name).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _PARQUET_END))
            needed = int.from_bytes(file.read(4), "little") + _PARQUET_END
            file.seek(max(0, size - needed))
            return file.read()

    def read(self, name: str) -> bytes:
        """A file's content."""
        return self.locate(name).read_bytes()

    def replace(self, name: str, content: bytes | memoryview) -> None:
        """Write to a temporary name and rename."""
        replace_file(self.locate(name), content)

    def remove(self, name: str) -> None:
        """Delete a file, and its folder where that is empty then."""
        path = self.locate(name)
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()


class Bucket:
    """A bucket of an object store, below a prefix; address and credentials come from the environment (``AWS_...``)."""

    def __init__(self, url: str) -> None:
        try:
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError as error:
            raise InputError(
                f"{url}: obstore is not installed; expected the extra: pip install 'ppl-assets[s3]'"
            ) from error
        self._url = url.rstrip("/")
        try:
            self._objects = from_url(self._url)
        except BaseError as error:
            raise InputError(f"{url}: {_sentence(error)}; expected a URL such as s3://bucket/prefix") from error

    def locate(self, name: str) -> str:
        """Its URL."""
        return f"{self._url}/{name}"

    def names(self, folder: str) -> list[str]:
        """Names of all objects below a prefix."""
        import obstore

        return [entry["path"] for entries in obstore.list(self._objects, folder) for entry in entries]

    def stamp(self, name: str) -> object | None:
        """The entity tag."""
        import obstore

        try:
            return obstore.head(self._objects, name)["e_tag"]
        except FileNotFoundError:
            return None

    def open(self, name: str) -> io.BytesIO:
        """Its content."""
        return io.BytesIO(self.read(name))

    def read_tail(self, name: str) -> bytes:
        """Its end, from which the footer is read as from the whole."""
        tail = self._suffix(name, _TAIL_BYTES)
        needed = int.from_bytes(tail[-_PARQUET_END:][:4], "little") + _PARQUET_END
        return tail if needed <= len(tail) else self._suffix(name, needed)

    def read(self, name: str) -> bytes:
        """An object's content."""
        import obstore

        return bytes(obstore.get(self._objects, name).bytes())

    def replace(self, name: str, content: bytes | memoryview) -> None:
        """One PUT: an upload in parts would leave them behind, and to be paid for, where it is broken off."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.put(self._objects, name, bytes(content), use_multipart=False)
        except (BaseError, OSError) as error:
            found = f"cannot be written ({_sentence(error)})"
            raise InputError(
                f"{self.locate(name)}: {found}; expected a bucket that takes {len(content):,} bytes"
            ) from error

    def remove(self, name: str) -> None:
        """Delete an object."""
        import obstore

        with suppress(FileNotFoundError):
            obstore.delete(self._objects, name)

    def _suffix(self, name: str, length: int) -> bytes:
        import obstore

        return bytes(obstore.get(self._objects, name, options={"range": {"suffix": length}}).bytes())


def _sentence(error: Exception) -> str:
    """What an error says, without the answer's markup and the library's own view of it."""
    return str(error).partition("\n")[0].partition(": <?xml")[0]
