"""Which pages must stay on one side of a split: those of one site, and those that nearly repeat each other.

A site is the registered domain of a domain's name (``blog.example.co.uk`` and ``example.co.uk`` are one site), or what
stands before its first slash (the prose and the code of a package are one site). Sites that share near-duplicate pages
are tied together, so that no mirror of a training page is tested on.
"""

from collections.abc import Sequence

import numpy as np

from ppl_assets.corpus.near_duplicates import near_duplicate_pairs
from ppl_assets.corpus.rows import registered_domain
from ppl_assets.corpus.splits import seeded_hash


def site(domain: str) -> str:
    """The site that a domain belongs to."""
    host = domain.partition("/")[0]
    return (registered_domain(host) if "." in host else None) or host


def page_groups(domains: Sequence[str], texts: Sequence[str], similarity: float) -> list[int]:
    """The group of each page: two pages in different groups share neither a site nor a chain of near duplicates."""
    sites = {name: number for number, name in enumerate(dict.fromkeys(site(domain) for domain in domains))}
    site_of = [sites[site(domain)] for domain in domains]
    parent = list(range(len(sites)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for a, b in near_duplicate_pairs(texts, similarity):
        parent[root(site_of[a])] = root(site_of[b])
    return [root(number) for number in site_of]


def fold_assignment(
    group_P: Sequence[int], positive_P: np.ndarray, names: Sequence[str], *, folds: int, seed: int
) -> np.ndarray:
    """The fold of each page: groups stay whole, and folds get about as many pages to include and to exclude each.

    Groups are taken from the largest to the smallest and put where they leave the folds most even; equal ones in a
    seeded order of their first page's name (`names`), so that the order of the pages does not matter.
    """
    groups, group_index_P = np.unique(np.asarray(group_P), return_inverse=True)
    counts_GK = np.zeros((len(groups), 2))
    np.add.at(counts_GK, (group_index_P, positive_P.astype(int)), 1)
    share_GK = counts_GK / np.maximum(counts_GK.sum(axis=0), 1)
    first = {
        group: min(names[int(page)] for page in np.flatnonzero(group_index_P == group)) for group in range(len(groups))
    }
    order = sorted(first, key=lambda group: (-share_GK[group].max(), seeded_hash(first[group], seed, "fold")))
    folds = min(folds, len(groups))
    filled_FK = np.zeros((folds, 2))
    fold_G = np.empty(len(groups), dtype=np.int64)
    for group in order:
        # Squares punish the fullest fold: the sum is least where both kinds of page are spread evenly.
        growth_F = ((filled_FK + share_GK[group]) ** 2 - filled_FK**2).sum(axis=1)
        fold_G[group] = int(np.argmin(growth_F))
        filled_FK[fold_G[group]] += share_GK[group]
    return fold_G[group_index_P]
