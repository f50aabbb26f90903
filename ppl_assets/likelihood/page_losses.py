"""What each page costs each model: the step between chunks and domains, made when it is asked for and not stored.

Axes: M models, P pages, D domains. Sums, never means of means: a domain's bits per byte over some of its pages is the
sum of their nats over the sum of their bytes, as over all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.warehouse import Lake, run_sql


@dataclass(frozen=True, kw_only=True, eq=False)
class PageLosses:
    """Nats and bytes of M models on P pages, in the order of their domains; 0 bytes where nothing is usable."""

    slugs: tuple[str, ...]
    pages: tuple[str, ...]
    domain_P: tuple[str, ...]
    nll_MP: np.ndarray
    bytes_MP: np.ndarray

    @property
    def bpb_MP(self) -> np.ndarray:
        """Bits per byte of every page; NaN where nothing is usable."""
        return _bits_per_byte(self.nll_MP, self.bytes_MP)

    def bpb_of_domains(self, domains: Sequence[str], kept_P: np.ndarray) -> np.ndarray:
        """Bits per byte of M models on `domains` over the pages that are kept; NaN where no page of a domain is."""
        place = {name: index for index, name in enumerate(domains)}
        rows = [index for index, name in enumerate(self.domain_P) if kept_P[index] and name in place]
        member_PD = np.zeros((len(self.pages), len(domains)))
        member_PD[rows, [place[self.domain_P[row]] for row in rows]] = 1.0
        return _bits_per_byte(self.nll_MP @ member_PD, self.bytes_MP @ member_PD)


NO_PAGES = PageLosses(slugs=(), pages=(), domain_P=(), nll_MP=np.empty((0, 0)), bytes_MP=np.empty((0, 0)))
"""Of a study without text."""


def page_losses(lake: Lake, slugs: Sequence[str]) -> PageLosses:
    """The losses of models that were scored here, page by page."""
    if not slugs:
        return NO_PAGES
    found = [
        run_sql(lake, "page_losses", partitions={"chunk_logliks": [slug]}, parameters={"slug": slug}) for slug in slugs
    ]
    return PageLosses(
        slugs=tuple(slugs),
        pages=tuple(found[0]["page_id"]),
        domain_P=tuple(found[0]["domain"]),
        nll_MP=np.array([rows["nll"].fill_null(0.0).to_numpy() for rows in found]),
        bytes_MP=np.array([rows["bytes"].fill_null(0).to_numpy() for rows in found], dtype=np.float64),
    )


def scoring_texts(lake: Lake, pages: PageLosses) -> list[str]:
    """The texts of the pages, in their order."""
    if not pages.pages:
        return []
    texts = dict(lake.read("pages", "scoring").select("page_id", "text").iter_rows())
    return [texts[page] for page in pages.pages]


def _bits_per_byte(nll: np.ndarray, n_bytes: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n_bytes > 0, nll / (math.log(2) * n_bytes), np.nan)
