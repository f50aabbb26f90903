"""What estimates hang on: pages and overlaps, against sums made by hand."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from ppl_assets.estimation.audit import audit_rows, page_estimates
from ppl_assets.estimation.evidence import Evidence
from ppl_assets.likelihood.page_losses import NO_PAGES, PageLosses
from ppl_assets.study.schema import Target, TargetTask

MODELS, TARGET = 12, Target(tasks=(TargetTask(task="t", metric="m", kind="bpb"),))
DOMAINS = ("steady", "torn", "unlike")


@pytest.fixture
def pages() -> PageLosses:
    """Four pages a domain; of `torn`, two follow the error and two run against it."""
    rng = np.random.default_rng(0)
    error = np.arange(MODELS, dtype=float)
    follows = {"steady": (1, 1, 1, 1), "torn": (1, -1, 1, -1), "unlike": (-1, -1, -1, -1)}
    bpb = [1 + 0.02 * sign * error + 0.01 * rng.normal(size=MODELS) for name in DOMAINS for sign in follows[name]]
    size = rng.integers(300, 900, len(bpb)).astype(float)
    return PageLosses(
        slugs=tuple(f"m{index:02d}" for index in range(MODELS)),
        pages=tuple(f"{name}/{number}" for name in DOMAINS for number in range(4)),
        domain_P=tuple(name for name in DOMAINS for _ in range(4)),
        nll_MP=np.array(bpb).T * math.log(2) * size,
        bytes_MP=np.tile(size, (MODELS, 1)),
    )


def evidence_of(pages: PageLosses) -> Evidence:
    return Evidence(
        slugs=pages.slugs,
        families=tuple(f"f{index % 6}" for index in range(MODELS)),
        kinds=("public",) * MODELS,
        params_M=np.full(MODELS, np.nan),
        domains=DOMAINS,
        groups=("",) * 3,
        bpb_MD=pages.bpb_of_domains(DOMAINS, np.ones(len(pages.pages), dtype=bool)),
        error_M=np.full(MODELS, np.nan),
    )


def audited(
    pages: PageLosses,
    overlapping: np.ndarray,
    *,
    scored: PageLosses | None = None,
    evidence: Evidence | None = None,
) -> dict[str, dict]:
    evidence = evidence or evidence_of(pages)
    scores = pl.DataFrame({"slug": pages.slugs, "task": "t", "metric": "m", "value": np.arange(MODELS, dtype=float)})
    errors = scores.select("slug", target=pl.lit("t"), error="value")
    rows = audit_rows(
        evidence,
        errors,
        scores,
        targets={"t": TARGET},
        minimum_models=10,
        estimator="spearmanr",
        pages=pages if scored is None else scored,
        overlaps={"t": overlapping},
        not_read={"t": ["elsewhere"]},
    )
    return {row["domain"]: row for row in rows.iter_rows(named=True)}


def test_a_domain_is_the_sum_of_its_pages_not_their_mean(pages):
    kept = np.array([index != 2 for index in range(12)])
    by_hand = pages.nll_MP[:, [0, 1, 3]].sum(axis=1) / (math.log(2) * pages.bytes_MP[:, [0, 1, 3]].sum(axis=1))
    assert pages.bpb_of_domains(["steady"], kept)[:, 0] == pytest.approx(by_hand, rel=1e-12)


def test_pages_that_run_against_their_domain_are_counted(pages):
    found = audited(pages, np.zeros(12, dtype=bool))
    assert (found["steady"]["page_agreement"], found["unlike"]["page_agreement"]) == (1.0, 1.0)
    assert found["torn"]["page_agreement"] == 0.5
    assert found["torn"]["page_spread"] > 10 * found["steady"]["page_spread"]
    assert found["torn"]["page_stderr"] > found["steady"]["page_stderr"]
    assert {row["pages"] for row in found.values()} == {4}
    assert {row["tasks_not_read"] for row in found.values()} == {"elsewhere"}


def test_the_estimate_without_overlapping_pages_is_that_of_the_other_pages(pages):
    overlapping = np.array([name.startswith("torn") and index % 2 == 1 for index, name in enumerate(pages.pages)])
    found = audited(pages, overlapping)
    clean = [4, 6]
    bpb = pages.nll_MP[:, clean].sum(axis=1) / pages.bytes_MP[:, clean].sum(axis=1)
    assert found["torn"]["estimate_without_overlap"] == pytest.approx(
        spearmanr(bpb, np.arange(MODELS)).statistic, abs=1e-12
    )
    assert found["torn"]["estimate_without_overlap"] > found["torn"]["estimate"] + 0.05
    assert found["torn"]["overlapping_pages"] == 2
    assert found["torn"]["overlapping_share"] == pytest.approx(
        pages.bytes_MP[0, [5, 7]].sum() / pages.bytes_MP[0, 4:8].sum(), rel=1e-12
    )
    assert found["steady"]["estimate_without_overlap"] == found["steady"]["estimate"]
    assert found["steady"]["overlapping_pages"] == 0


def test_a_domain_of_nothing_but_overlapping_pages_has_no_estimate_without_them(pages):
    found = audited(pages, np.array([name == "unlike" for name in pages.domain_P]))
    assert found["unlike"]["estimate_without_overlap"] is None
    assert found["unlike"]["overlapping_share"] == 1.0


def test_without_text_only_families_are_told(pages):
    found = audited(pages, np.zeros(0, dtype=bool), scored=NO_PAGES)
    assert {row["pages"] for row in found.values()} == {None}
    assert {row["strongest_family"] for row in found.values()} <= {f"f{index}" for index in range(6)}
    assert all(
        row["estimate_least"] <= row["estimate_without_it"] <= row["estimate_greatest"] for row in found.values()
    )


def test_a_page_has_the_estimate_of_its_own_losses(pages):
    errors = pl.DataFrame({"slug": pages.slugs, "target": "t", "error": np.arange(MODELS, dtype=float)})
    found = page_estimates(evidence_of(pages), errors, "t", pages=pages, estimator="spearmanr")
    for index, page in enumerate(pages.pages):
        by_hand = spearmanr(pages.nll_MP[:, index] / pages.bytes_MP[:, index], np.arange(MODELS)).statistic
        assert found[page] == pytest.approx(by_hand, abs=1e-12)


def test_a_domain_with_losses_of_too_few_models_stands_without_an_audit_and_leaves_the_others_as_they_are(pages):
    """Nine of twelve models have a loss on it, and ten are needed."""
    evidence = evidence_of(pages)
    thin = replace(evidence, bpb_MD=np.where(np.arange(MODELS)[:, None] < [0, 3, 0], np.nan, evidence.bpb_MD))
    found = audited(pages, np.zeros(12, dtype=bool), evidence=thin)
    assert list(found) == list(DOMAINS)
    said = {name: value for name, value in found["torn"].items() if value is not None}
    assert said == {"target": "t", "domain": "torn"}
    without = replace(evidence, domains=("steady", "unlike"), groups=("",) * 2, bpb_MD=evidence.bpb_MD[:, [0, 2]])
    assert {name: row for name, row in found.items() if name != "torn"} == audited(
        pages, np.zeros(12, dtype=bool), evidence=without
    )
