"""Which split a page falls into, and its place in the seeded order in which pages are sampled.

Both are hashes of names and the study's seed: they depend neither on the order of the source nor on what else is in it.
"""

import hashlib
from collections.abc import Callable

from ppl_assets.corpus.pages import Page
from ppl_assets.study.schema import Splits

# Of pages with the same or nearly the same text the first in this order is kept: text that models are scored or tested
# on must not be in what they were trained on, and scoring pages are the scarcest.
SPLIT_PRIORITY = ("scoring", "benchmark", "training")

_HASH_BITS = 63  # fits a signed 64-bit column


def split_function(splits: Splits, seed: int) -> Callable[[Page], str]:
    """The split of a page: a hash of its unit (the page itself, mostly), so that each gets its share."""
    shares = {name: getattr(splits, name).share for name in SPLIT_PRIORITY if getattr(splits, name).share > 0}

    def split(page: Page) -> str:
        place, end = seeded_hash(page.unit or page.page_id, seed, "split") / 2**_HASH_BITS, 0.0
        for name, share in shares.items():
            end += share
            if place < end:
                return name
        return name  # the shares' rounded sum may end just below a place near 1

    return split


def sampling_order(page_id: str, seed: int) -> int:
    """Of a domain's pages those with the smallest numbers are sampled."""
    return seeded_hash(page_id, seed, "sample")


def seeded_hash(name: str, seed: int, purpose: str) -> int:
    """A uniform number of 63 bits; other seeds and purposes give independent ones."""
    key = f"{purpose}:{seed}".encode()
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8, key=key).digest()) >> 1


def text_digest(text: str) -> bytes:
    """128 bits that tell texts apart: two different ones collide with a chance of 1e-19 in a billion pages."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
