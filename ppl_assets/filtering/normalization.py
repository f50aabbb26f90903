"""A page's text as the one line that fastText reads: the same function when a filter is trained and when it serves.

fastText gives four byte sequences a meaning of their own. A newline ends a line, so that a page with newlines would be
trained on up to the first one only (as the reference implementation does) while all of it is scored. ``</s>`` ends a
line as well. A word that begins with ``__label__`` is a label. And NUL, like the other C0 controls, separates words for
one reader and not for the next. None of them is left in a line, so no page can end its line or label itself.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

UnicodeForm = Literal["NFC", "NFKC", "none"]

_CONTROLS_TO_SPACES = bytes(0x20 if code < 0x20 or code == 0x7F else code for code in range(256))
# U+0080 to U+00A0 in UTF-8: the C1 controls (U+0085 is a newline) and the no-break space.
_C1_CONTROLS = re.compile(rb"\xc2[\x80-\xa0]")
_LINE_SEPARATORS = re.compile(rb"\xe2\x80[\xa8\xa9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """How text becomes a line; stored with a filter, because a filter is worth nothing under another one.

    Case is kept unless `lowercase`; `unicode_form` is the normal form that text is brought to.
    """

    unicode_form: UnicodeForm = "NFC"
    lowercase: bool = False

    def line(self, text: str) -> bytes:
        """The text on one line of UTF-8, its end included; half of a surrogate pair becomes a question mark."""
        if self.lowercase:
            text = text.lower()
        # ASCII is in every normal form, and knowing that a text is ASCII costs nothing.
        if text.isascii():
            return _without_markers(text.encode("ascii"))
        # Latin-1 is in NFC and has no line separators; trying costs a tenth of looking at every character.
        latin_1 = _is_latin_1(text)
        if self.unicode_form == "NFKC" or (self.unicode_form == "NFC" and not latin_1):
            text = unicodedata.normalize(self.unicode_form, text)
        encoded = text.encode("utf-8", "replace")
        # One byte is found fifteen times as fast as several, and most texts lack one of those that it takes.
        if b"\xc2" in encoded:
            encoded = _C1_CONTROLS.sub(b" ", encoded)
        if not latin_1 and b"\xe2" in encoded and (b"\xa8" in encoded or b"\xa9" in encoded):
            encoded = _LINE_SEPARATORS.sub(b" ", encoded)
        return _without_markers(encoded)


def _is_latin_1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _without_markers(encoded: bytes) -> bytes:
    """No control character, nothing that fastText reads as a label or as the end of a line, and then its end."""
    spaced = encoded.translate(_CONTROLS_TO_SPACES)
    if b"_" in spaced and b"__label__" in spaced:
        spaced = spaced.replace(b"__label__", b"__label ")
    if b"<" in spaced and b"</s>" in spaced:
        spaced = spaced.replace(b"</s>", b"< /s>")
    return spaced + b"\n"
