"""What each domain's estimate hangs on: single families of models, single pages, pages that benchmarks are made of.

Quantities, for one target and the study's own estimator: the estimate without each family (`influence`), the estimates
of pages by themselves and from every other page, and the estimate without pages that share text with the target's
tasks. Pages are those that were sampled for scoring: what the rest of a domain holds is not known. A page of a few
hundred bytes is a noisy observation, so that agreement well below 1 is usual; domains are to be compared by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ppl_assets.estimation.evidence import Evidence, for_target, with_errors
from ppl_assets.estimation.influence import Influence, estimate_of, family_influence
from ppl_assets.likelihood.page_losses import PageLosses
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Target

_SCHEMA = TABLES["domain_audits"].polars_schema


def audit_rows(
    evidence: Evidence,
    errors: pl.DataFrame,
    scores: pl.DataFrame,
    *,
    targets: Mapping[str, Target],
    minimum_models: int,
    estimator: str,
    pages: PageLosses,
    overlaps: Mapping[str, np.ndarray],
    not_read: Mapping[str, list[str]],
) -> pl.DataFrame:
    """Rows of ``domain_audits``: of a domain with losses of too few models, nothing but that there is none.

    Args:
        evidence, errors, scores: losses of all models, rows of ``benchmark_errors`` and of ``benchmark_scores``.
        pages: losses of the models that were scored here, by page.
        overlaps: of each target, which pages share text with its tasks.
        not_read: of each target, the tasks with which no page could be compared.
    """
    frames = []
    for name in targets:
        influence = family_influence(
            evidence, scores, name=name, targets=targets, minimum_models=minimum_models, estimator=estimator
        )
        columns = _families(influence)
        if pages.pages:
            own = _scored_here(for_target(evidence, errors, name, minimum_models=minimum_models), pages)
            columns |= _pages(own, pages, estimator) | _overlap(own, pages, overlaps[name], estimator)
        unread = ", ".join(not_read[name]) or None
        fixed = {"target": name, "domain": influence.domains, "tasks_not_read": unread}
        known = {column: (columns | fixed).get(column) for column in _SCHEMA}
        audited = pl.DataFrame(known, schema_overrides=_SCHEMA, strict=False)
        frames.append(_every_domain(audited, name, evidence.domains))
    return pl.concat(frames).with_columns(pl.col(pl.Float64).fill_nan(None))


def _every_domain(audited: pl.DataFrame, target: str, domains: Sequence[str]) -> pl.DataFrame:
    """The same with a row for every domain, in their order."""
    every = pl.DataFrame({"target": target, "domain": domains})
    return every.join(audited.drop("target"), on="domain", how="left", maintain_order="left").select(audited.columns)


def page_estimates(
    evidence: Evidence, errors: pl.DataFrame, target: str, *, pages: PageLosses, estimator: str
) -> dict[str, float]:
    """The estimate of each scored page by itself; NaN where it has none."""
    estimate_P = _of_pages(_scored_here(with_errors(evidence, errors, target), pages), pages, estimator)
    return dict(zip(pages.pages, estimate_P.tolist(), strict=True))


def _of_pages(own: Evidence, pages: PageLosses, estimator: str) -> np.ndarray:
    bpb_MP = pages.bpb_MP[[pages.slugs.index(slug) for slug in own.slugs]]
    return estimate_of(replace(own, domains=pages.pages, bpb_MD=bpb_MP), estimator)


def _families(influence: Influence) -> dict[str, object]:
    strongest_D = influence.strongest_D
    known_D = strongest_D >= 0
    left_out_FD = np.where(known_D, influence.left_out_FD, 0.0)
    without_D = left_out_FD[np.maximum(strongest_D, 0), np.arange(len(strongest_D))]
    return {
        "estimate": influence.estimate_D,
        "strongest_family": [influence.families[family] if family >= 0 else None for family in strongest_D],
        "estimate_without_it": np.where(known_D, without_D, np.nan),
        "estimate_least": np.where(known_D, np.nanmin(left_out_FD, axis=0), np.nan),
        "estimate_greatest": np.where(known_D, np.nanmax(left_out_FD, axis=0), np.nan),
    }


def _scored_here(evidence: Evidence, pages: PageLosses) -> Evidence:
    """The models with losses by page, in the order of `pages`, with their errors."""
    place = {slug: row for row, slug in enumerate(evidence.slugs)}
    rows = [place[slug] for slug in pages.slugs if slug in place]
    return replace(
        evidence,
        slugs=tuple(evidence.slugs[row] for row in rows),
        families=tuple(evidence.families[row] for row in rows),
        params_M=evidence.params_M[rows],
        bpb_MD=evidence.bpb_MD[rows],
        error_M=evidence.error_M[rows],
    )


def _pages(own: Evidence, pages: PageLosses, estimator: str) -> dict[str, object]:
    """Agreement and spread of pages, and what their sampling adds to the error of the estimate."""
    estimate_P = _of_pages(own, pages, estimator)
    estimate_D = estimate_of(own, estimator)
    side_D = np.sign(estimate_D - np.nanmean(estimate_D))
    place = {name: index for index, name in enumerate(own.domains)}
    domain_P = np.array([place.get(name, -1) for name in pages.domain_P])
    agree_P = np.sign(estimate_P - np.nanmean(estimate_D)) == side_D[domain_P]
    odd_P = np.arange(len(pages.pages)) % 2 == 1
    halves = [_from_pages(own, pages, half_P, estimator) for half_P in (odd_P, ~odd_P)]
    inside = [np.flatnonzero((domain_P == index) & ~np.isnan(estimate_P)) for index in range(len(own.domains))]
    return {
        "pages": [len(rows) for rows in inside],
        "page_agreement": [float(agree_P[rows].mean()) if len(rows) else np.nan for rows in inside],
        "page_spread": [float(estimate_P[rows].std(ddof=1)) if len(rows) > 1 else np.nan for rows in inside],
        "page_stderr": np.abs(halves[0] - halves[1]) / 2,
    }


def _overlap(own: Evidence, pages: PageLosses, overlapping_P: np.ndarray, estimator: str) -> dict[str, object]:
    """Pages that share text with tasks, and the estimate without them."""
    bytes_P = pages.bytes_MP.max(axis=0)
    rows = pl.DataFrame({"domain": pages.domain_P, "bytes": bytes_P, "shared": overlapping_P})
    sums = rows.group_by("domain").agg(
        pages=pl.col("shared").sum(), share=(pl.col("bytes") * pl.col("shared")).sum() / pl.col("bytes").sum()
    )
    by_domain = pl.DataFrame({"domain": own.domains}).join(sums, on="domain", how="left", maintain_order="left")
    return {
        "overlapping_pages": by_domain["pages"].to_list(),
        "overlapping_share": by_domain["share"].to_list(),
        "estimate_without_overlap": _from_pages(own, pages, ~overlapping_P, estimator),
    }


def _from_pages(own: Evidence, pages: PageLosses, kept_P: np.ndarray, estimator: str) -> np.ndarray:
    """Estimates from a part of the pages; NaN for a domain of which no page is left."""
    rows = [pages.slugs.index(slug) for slug in own.slugs]
    return estimate_of(replace(own, bpb_MD=pages.bpb_of_domains(own.domains, kept_P)[rows]), estimator)
