"""What every source is turned into: pages, and rejections for what could not become one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One document of a domain.

    `unit` is what falls into a split as a whole: pages of one unit never end up in different splits. It is the page
    itself (None) except where a source cuts one original into several pages.
    """

    page_id: str
    domain: str
    text: str
    domain_group: str | None = None
    language: str | None = None
    license: str | None = None
    maker: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A row or file of the source that is no page: why, and how many UTF-8 bytes of text it held.

    `domain` is empty where the row had none.
    """

    page_id: str
    domain: str
    reason: str
    bytes: int


def text_rejection(text: str | None) -> tuple[str, int] | None:
    """Why a text cannot be a page (``null``, ``empty`` or ``not_utf8``) with its bytes; None where it can.

    JSON can spell half of a surrogate pair (``"\\ud800"``), which no UTF-8 text can hold.
    """
    if text is None:
        return "null", 0
    try:
        n_bytes = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return "not_utf8", len(text.encode("utf-8", "surrogatepass"))
    return None if text.strip() else ("empty", n_bytes)
