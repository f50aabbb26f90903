"""What the choice of pages adds: against pages drawn anew, to families drawn anew, and where it must be nothing."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.estimation import SampledPages, estimate_domains
from ppl_assets.estimation.domain_scores import fisher, point_estimate
from ppl_assets.estimation.evidence import Evidence, for_target, with_pages
from ppl_assets.estimation.page_sampling import page_variance, resampled_variance
from ppl_assets.likelihood.page_losses import NO_PAGES, PageLosses
from ppl_assets_tests.estimation.worlds import PagedWorld


def added(world: PagedWorld, seed: int) -> np.ndarray:
    bpb, error, families, pages = world.draw(np.random.default_rng(seed), models=np.random.default_rng(0))
    family = np.unique(families, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    return page_variance(pages, bpb, error, family_M=family, estimator="gls", rng=rng).fisher_D


def test_the_variance_over_pages_is_that_over_pages_drawn_anew():
    world = PagedWorld(domains=10, common=0.3, alone=0.2)
    draws = [world.draw(np.random.default_rng(seed), models=np.random.default_rng(0)) for seed in range(300)]
    truth = np.var([fisher(point_estimate(bpb, error, "spearman")) for bpb, error, *_ in draws], axis=0, ddof=1)
    together = np.zeros(60, int)
    found = [
        resampled_variance(pages, bpb, error, row_M=together, estimator="spearman", rng=np.random.default_rng(seed))[1]
        for seed, (bpb, error, _, pages) in enumerate(draws[:8])
    ]
    # Five pages: the bootstrap is good to first order, and eight samples of pages leave about 10 % of chance. Without
    # the factor n / (n - 1) it would be 0.65 of the truth, in standard errors of one page too many 1.6.
    assert 0.75 < np.mean(found) / truth.mean() < 1.25


def test_noise_of_one_model_alone_is_the_families_business():
    common, alone = added(PagedWorld(domains=20), 1), added(PagedWorld(domains=20, common=0.0, alone=1.0), 1)
    assert alone.mean() < 0.1 * common.mean()


def test_intervals_with_pages_are_wider_and_say_by_how_much():
    bpb, error, families, pages = PagedWorld(domains=20).draw(np.random.default_rng(3))
    plain = estimate_domains(bpb, error, families=families, replicates=200)
    paged = estimate_domains(bpb, error, families=families, replicates=200, pages=pages)
    assert np.isnan(plain.page_stderr).all()
    np.testing.assert_array_equal(paged.estimate, plain.estimate)
    np.testing.assert_allclose(paged.stderr**2, plain.stderr**2 + paged.page_stderr**2, rtol=1e-9)
    assert (paged.ci_low <= plain.ci_low).all()
    assert (paged.ci_high - paged.ci_low).mean() > 1.1 * (plain.ci_high - plain.ci_low).mean()
    order = np.random.default_rng(4).permutation(len(error))
    moved = estimate_domains(
        bpb[order],
        error[order],
        families=[families[k] for k in order],
        replicates=200,
        pages=pages.of_models(order),
    )
    np.testing.assert_array_equal(moved.page_stderr, paged.page_stderr)


def test_pages_of_no_domain_are_taken_to_differ_less_than_those_of_a_domain_do_on_average():
    bpb, error, families, pages = PagedWorld(domains=20).draw(np.random.default_rng(8))
    paged = estimate_domains(bpb, error, families=families, replicates=20, pages=pages)
    variance = paged.page_stderr**2
    # Those below the average are at it, and the average of what was there before is below that of what came out.
    np.testing.assert_allclose(np.sort(variance)[:8], variance.min(), rtol=1e-12)
    assert variance.max() > 1.5 * variance.min() > 0


def test_intervals_over_pages_cover_what_other_pools_on_other_pages_give_on_average():
    world = PagedWorld(domains=20)
    draws = [world.draw(np.random.default_rng(10_000 + seed)) for seed in range(150)]
    truth = np.mean([point_estimate(bpb, error, "gls") for bpb, error, *_ in draws], axis=0)
    covered = {False: [], True: []}
    for seed in range(12):
        bpb, error, families, pages = world.draw(np.random.default_rng(seed))
        for with_them, shares in covered.items():
            given = pages if with_them else None
            found = estimate_domains(bpb, error, families=families, replicates=200, pages=given)
            shares.append(((found.ci_low <= truth) & (truth <= found.ci_high)).mean())
    # 90 % intervals; the standard error of twelve draws is .015. Over families alone they cover half.
    assert np.mean(covered[False]) < 0.65
    assert 0.85 < np.mean(covered[True]) < 0.96


def test_one_page_has_the_average_of_others_and_an_imported_domain_adds_nothing():
    bpb, error, families, pages = PagedWorld(domains=6).draw(np.random.default_rng(5))
    first = SampledPages(
        nats_MP=pages.nats_MP[:, [0, *range(5, 25)]],
        bytes_MP=pages.bytes_MP[:, [0, *range(5, 25)]],
        domain_P=pages.domain_P[[0, *range(5, 25)]],
    )
    found = estimate_domains(bpb, error, families=families, replicates=50, pages=first)
    assert found.page_stderr[5] == 0
    single = 5 * found.page_stderr[1:5] ** 2
    assert found.page_stderr[0] ** 2 >= single.min() > 0
    alone = SampledPages(nats_MP=pages.nats_MP[:, ::5], bytes_MP=pages.bytes_MP[:, ::5], domain_P=np.arange(6))
    nothing_known = estimate_domains(bpb, error, families=families, replicates=50, pages=alone)
    assert (nothing_known.page_stderr == 0).all()


def test_pages_that_do_not_fit_are_refused():
    bpb, error, families, pages = PagedWorld(domains=4).draw(np.random.default_rng(6))
    for wrong, said in (
        (dataclasses.replace(pages, domain_P=pages.domain_P[::-1]), "out of order"),
        (dataclasses.replace(pages, domain_P=pages.domain_P + 1), "not among 4"),
        (pages.of_models(range(5)), "shape"),
    ):
        with pytest.raises(InputError, match=said):
            estimate_domains(bpb, error, families=families, replicates=2, pages=wrong)


def test_pages_are_put_in_the_order_of_the_evidence_and_a_model_without_any_has_none():
    bpb, error, families, pages = PagedWorld(domains=3, families=4).draw(np.random.default_rng(7))
    slugs = [f"m{k:02d}" for k in range(12)]
    evidence = Evidence(
        slugs=tuple(slugs),
        families=tuple(families),
        kinds=("public",) * 12,
        params_M=np.full(12, np.nan),
        domains=("d0", "d1", "d2"),
        groups=("",) * 3,
        bpb_MD=bpb,
        error_M=error,
    )
    assert with_pages(evidence, NO_PAGES).pages is None
    others = {"slugs": ("other",), "nll_MP": np.ones((1, 1)), "bytes_MP": np.ones((1, 1))}
    assert with_pages(evidence, PageLosses(pages=("p0",), domain_P=("d0",), **others)).pages is None
    order, models = np.random.default_rng(0).permutation(15), np.array([5, 0, 11])
    losses = PageLosses(
        slugs=tuple(slugs[m] for m in models),
        pages=(*(f"p{p}" for p in order), "elsewhere"),
        domain_P=(*(f"d{pages.domain_P[p]}" for p in order), "denied"),
        nll_MP=np.pad(pages.nats_MP[models][:, order], ((0, 0), (0, 1))),
        bytes_MP=np.pad(pages.bytes_MP[models][:, order], ((0, 0), (0, 1))),
    )
    found = with_pages(evidence, losses).pages
    np.testing.assert_array_equal(found.domain_P, pages.domain_P)
    sums = [values.reshape(12, 3, 5).sum(axis=2) for values in (found.nats_MP, found.bytes_MP)]
    np.testing.assert_allclose(sums[0][models] / (np.log(2) * sums[1][models]), bpb[models], rtol=1e-12)
    assert not sums[1][np.setdiff1d(np.arange(12), models)].any()
    errors = pl.DataFrame({"slug": slugs[3:], "target": "t", "error": error[3:]})
    own = for_target(with_pages(evidence, losses), errors, "t", minimum_models=3)
    np.testing.assert_array_equal(own.pages.nats_MP, found.nats_MP[3:])
    few = dataclasses.replace(evidence, bpb_MD=np.where(np.arange(12)[:, None] < [0, 11, 0], np.nan, bpb))
    own = for_target(with_pages(few, losses), errors, "t", minimum_models=3)
    assert own.domains == ("d0", "d2")
    np.testing.assert_array_equal(own.pages.nats_MP, np.delete(found.nats_MP[3:], np.s_[5:10], axis=1))
    np.testing.assert_array_equal(own.pages.domain_P, np.repeat([0, 1], 5))
    own.pages.check(9, 2)
