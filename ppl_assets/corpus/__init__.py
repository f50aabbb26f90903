"""The corpus: source -> domains -> pages -> chunks.

A page is one document: a row of a file or dataset, or the prose or the code of one Python file. A domain is the source
of text that a page belongs to: the value of a column, the registered domain of its URL, or a package and kind. Each
page falls into one split by a seeded hash of its id; N pages of each domain and split are sampled, in an order that
depends on nothing but names and the seed. What a domain holds is counted over the whole source, and what is left out is
counted by reason.
"""

from ppl_assets.corpus.catalog import Catalog, catalog
from ppl_assets.corpus.chunking import TokenCounter, chunk_page, chunk_pages, reference_counter
from ppl_assets.corpus.fingerprint import source_fingerprint
from ppl_assets.corpus.pages import Page, Rejection
from ppl_assets.corpus.parts import read_part, source_parts
from ppl_assets.corpus.policy import decide_policy
from ppl_assets.corpus.sampling import SampledPages, collect
from ppl_assets.corpus.sources import read_pages
from ppl_assets.corpus.splits import text_digest

__all__ = [
    "Catalog",
    "Page",
    "Rejection",
    "SampledPages",
    "TokenCounter",
    "catalog",
    "chunk_page",
    "chunk_pages",
    "collect",
    "decide_policy",
    "read_pages",
    "read_part",
    "reference_counter",
    "source_fingerprint",
    "source_parts",
    "text_digest",
]
