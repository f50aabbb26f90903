"""A checksum inside the file that it is of, so that a file stays one file: SHA-256 with its own place filled by zeros.

A Parquet file ends with its footer, the footer's length and a magic word. Among the footer's texts is our JSON with
the key ``checksum``; a value of the same length can be put there without moving a byte. A checksum of bytes, not of
rows: it needs no library that could write the same rows otherwise tomorrow.
"""

import hashlib

PLACE = "0" * 64
_KEY = b'"checksum": "'
# Length of the footer, four bytes, and the magic word.
_TAIL = 8


def stated(end: bytes, begin: bytes) -> str | None:
    """The JSON object around the checksum in a file's end, which begins with `begin`; None where there is none.

    Found as text, since a library that parses the footer of a damaged file may end the process.
    """
    place = _place(memoryview(end))
    if place is None:
        return None
    start, stop = end.rfind(begin, 0, place.start), end.find(b"}", place.stop)
    return end[start : stop + 1].decode(errors="replace") if 0 <= start < stop else None


def seal(content: memoryview) -> str:
    """Put the checksum into a file's content, where `PLACE` stands as checksum; returns it."""
    place = _place(content)
    assert place is not None
    assert bytes(content[place]) == PLACE.encode()
    checksum = hashlib.sha256(content).hexdigest()
    content[place] = checksum.encode()
    return checksum


def is_whole(content: bytes) -> bool:
    """Whether the content of a file is what was sealed."""
    view = memoryview(bytearray(content))
    place = _place(view)
    if place is None:
        return False
    checksum = bytes(view[place])
    view[place] = PLACE.encode()
    return hashlib.sha256(view).hexdigest().encode() == checksum


def _place(content: memoryview) -> slice | None:
    """Where the checksum stands."""
    length = int.from_bytes(content[-_TAIL : -_TAIL // 2], "little")
    begin = max(0, len(content) - _TAIL - length)
    at = bytes(content[begin:]).rfind(_KEY)
    start = begin + at + len(_KEY)
    return slice(start, start + len(PLACE)) if at >= 0 and start + len(PLACE) <= len(content) else None
