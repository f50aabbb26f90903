"""What the choice of pages adds to the uncertainty of an estimate: the second way of a two-way bootstrap.

A domain's loss comes from some of its pages. Other pages would have given other losses, to all models at once, and
resampling families cannot show that. Variance of an estimate over families and pages, both random (Cameron, Gelbach,
Miller, J. Bus. Econ. Stat. 29, 2011; Owen, Ann. Appl. Stat. 1, 2007): that over families, plus that over pages, less
what both contain, the noise of a page for one family. Here is the last difference,

    var(pages drawn for all families together) - var(pages drawn for each family by itself),

on Fisher's z, not below 0. It is less than the variance over pages where families are few: what a page does to one
family is in the variance over families already. A domain of n pages has n / (n - 1) of it, since that many draws
understate a variance. A handful of pages that happen to agree says little, so that pages of no domain are taken to
differ less than pages of a domain do on average, and a domain of one page has the average.

Axes: M models, P pages, D domains. Losses enter as nats and bytes, so that a domain's bits per byte stay those of its
pages together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppl_assets.errors import InputError
from ppl_assets.estimation.domain_scores import fisher, point_estimate
from ppl_assets.estimation.scores import Estimator

REPLICATES = 100  # a standard error of 7 % for a standard deviation that is one part of the whole


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledPages:
    """Losses by page, pages of one domain next to each other.

    `nats_MP`, `bytes_MP`: 0 where a model lacks a page. `domain_P`: column of the page's domain in the losses by
    domain, ascending. Where a model has no page of a domain (its loss was imported) the loss is the same in every
    sample.
    """

    nats_MP: np.ndarray
    bytes_MP: np.ndarray
    domain_P: np.ndarray

    def of_models(self, rows: Sequence[int] | np.ndarray) -> "SampledPages":
        """The same for some models, or for all in another order."""
        return SampledPages(nats_MP=self.nats_MP[rows], bytes_MP=self.bytes_MP[rows], domain_P=self.domain_P)

    def of_domains(self, columns: np.ndarray) -> "SampledPages":
        """The same for some of the domains, by ascending column, which are numbered anew."""
        kept_P = np.isin(self.domain_P, columns)
        return SampledPages(
            nats_MP=self.nats_MP[:, kept_P],
            bytes_MP=self.bytes_MP[:, kept_P],
            domain_P=np.searchsorted(columns, self.domain_P[kept_P]),
        )

    def check(self, n_models: int, n_domains: int) -> None:
        """Raise `InputError` where this does not belong to that many models and domains."""
        shape = (n_models, len(self.domain_P))
        if self.nats_MP.shape != shape or self.bytes_MP.shape != shape:
            raise InputError(
                f"pages: found nats of shape {self.nats_MP.shape} and bytes of {self.bytes_MP.shape}, expected {shape}"
            )
        ordered = (np.diff(self.domain_P, prepend=0, append=n_domains - 1) >= 0).all()
        if not ordered:
            raise InputError(f"pages: found domains out of order or not among {n_domains}, expected ascending columns")


@dataclass(frozen=True, kw_only=True, eq=False)
class PageVariance:
    """What the choice of pages adds per domain: to the variance of the estimate and to that of its z, and how many
    degrees of freedom are behind it."""

    plain_D: np.ndarray
    fisher_D: np.ndarray
    freedom_D: np.ndarray


def page_variance(
    pages: SampledPages,
    bpb_MD: np.ndarray,
    error_M: np.ndarray,
    *,
    family_M: np.ndarray,
    estimator: Estimator,
    rng: np.random.Generator,
) -> PageVariance:
    """Variance that the choice of pages adds, per domain."""
    together, apart = (
        resampled_variance(pages, bpb_MD, error_M, row_M=row_M, estimator=estimator, rng=rng)
        for row_M in (np.zeros_like(family_M), family_M)
    )
    pages_D = np.bincount(pages.domain_P, minlength=bpb_MD.shape[1])
    plain_D, fisher_D = (
        _at_least_average(np.maximum(whole_D - own_D, 0), pages_D)
        for whole_D, own_D in zip(together, apart, strict=True)
    )
    return PageVariance(plain_D=plain_D, fisher_D=fisher_D, freedom_D=_freedom(pages_D))


def _freedom(pages_D: np.ndarray) -> np.ndarray:
    """Degrees of freedom behind such a variance: one more than a domain's own pages have, for the average is known
    better than they are (chosen by coverage, docs/estimation.md); of a single page or none, as many as on average."""
    several_D = pages_D > 1
    return np.where(several_D, pages_D, pages_D[several_D].mean() if several_D.any() else 1)


def _at_least_average(variance_D: np.ndarray, pages_D: np.ndarray) -> np.ndarray:
    """Variances of means of pages, none below what the average variance of a single page gives; 0 without pages."""
    several_D = pages_D > 1
    if not several_D.any():
        return variance_D
    average = (variance_D * pages_D)[several_D].mean()
    return np.where(pages_D > 0, np.maximum(variance_D, average / np.maximum(pages_D, 1)), 0)


def resampled_variance(
    pages: SampledPages,
    bpb_MD: np.ndarray,
    error_M: np.ndarray,
    *,
    row_M: np.ndarray,
    estimator: Estimator,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the estimate and of its z over pages drawn anew, together for the models of each number in `row_M`.

    0 where a domain has one page or none.
    """
    first_B = np.flatnonzero(np.diff(pages.domain_P, prepend=-1))
    count_B = np.diff(first_B, append=len(pages.domain_P))
    rho_RD = [point_estimate(_redrawn(pages, bpb_MD, row_M, rng), error_M, estimator) for _ in range(REPLICATES)]
    plain_D, fisher_D = _variances(rho_RD)
    factor_D = np.zeros(bpb_MD.shape[1])
    factor_D[pages.domain_P[first_B]] = np.where(count_B > 1, count_B / np.maximum(count_B - 1, 1), 0)
    return factor_D * plain_D, factor_D * fisher_D


def _redrawn(pages: SampledPages, bpb_MD: np.ndarray, row_M: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bits per byte by domain over pages drawn with replacement, anew for the models of every number in `row_M`."""
    first_B = np.flatnonzero(np.diff(pages.domain_P, prepend=-1))
    count_B = np.diff(first_B, append=len(pages.domain_P))
    first_P, count_P = np.repeat(first_B, count_B), np.repeat(count_B, count_B)
    sampled = bpb_MD.copy()
    sampled_B = pages.domain_P[first_B]
    for row in range(row_M.max() + 1):
        models = np.flatnonzero(row_M == row)
        drawn_P = first_P + (rng.random(len(first_P)) * count_P).astype(int)
        weight_P = np.bincount(drawn_P, minlength=len(first_P))
        nats, size = (
            np.add.reduceat(values[models] * weight_P, first_B, axis=1) for values in (pages.nats_MP, pages.bytes_MP)
        )
        scored = np.add.reduceat(pages.bytes_MP[models], first_B, axis=1) > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            # 0 / 0 where a model has none of the pages drawn: then it lacks the domain.
            drawn = nats / (np.log(2) * size)
        sampled[np.ix_(models, sampled_B)] = np.where(scored, drawn, bpb_MD[np.ix_(models, sampled_B)])
    return sampled


def _variances(estimates: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of estimates and of their z, over the replicates in which a domain has one; 0 where fewer than two do."""
    rho_RD = np.array(estimates)
    known_RD = ~np.isnan(rho_RD)
    n_D = known_RD.sum(axis=0)
    found = []
    for values_RD in (rho_RD, fisher(rho_RD)):
        mean_D = np.where(known_RD, values_RD, 0).sum(axis=0) / np.maximum(n_D, 1)
        found.append(np.where(known_RD, (values_RD - mean_D) ** 2, 0).sum(axis=0) / np.maximum(n_D - 1, 1))
    return found[0], found[1]
