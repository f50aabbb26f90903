"""What could be wrong with a target's mixture, read off the tables: one measured number and one sentence each.

Thresholds are conventions and stand beside their reason. It does not know licences in law, text of the benchmarks in
pages that were not sampled, or what training on the mixture brings: a pilot shows that.
"""

from dataclasses import dataclass

import polars as pl

from ppl_assets.report.data import GROUPINGS, ReportData
from ppl_assets.report.wording import correlation, plain, probability, share

# Asymptotic intervals over fewer than about 20 clusters are too narrow (Cameron, Gelbach, Miller, Review of Economics
# and Statistics 90, 2008).
FEW_MODELS = 20.0
LOW_RELIABILITY = 0.5  # half of the variance of the estimates is noise
SIGNIFICANT = 0.05
FALSE_DISCOVERIES = 0.1  # a tenth of the domains called different from the pool may not be
UNSTABLE = 0.5  # selected in fewer than half of the half-samples of families
LARGE_PART = 0.1  # of the mixture
ONE_DOMAIN = 0.2  # of the mixture in a single domain
INSEPARABLE = 0.95  # less than a tenth of the variance of ranks is the target's own
SHIFT = 0.1  # of the mixture on other groups than the pool
LENGTH = 1.5  # times the pool's mean page, or less than one over it
DISAGREEING = 0.5  # of a domain's pages on the other side of the mean domain
CHANGED = 0.1  # of a correlation: more than an interval's typical half-width over a hundred models is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """One thing to look at: its measure as text, whether it is beyond its threshold, and what that means."""

    name: str
    measure: str
    flagged: bool
    sentence: str


def risks(data: ReportData, target: str) -> list[Risk]:
    """All risks that the tables allow to measure for a target, those beyond their thresholds first."""
    found = [*_evidence(data, target), *_mixture(data, target), *_audited(data, target), *_coverage(data)]
    nearest = data.nearest_target(target)
    if nearest is not None:
        found.append(_separability(*nearest))
    return sorted(found, key=lambda risk: not risk.flagged)


def _evidence(data: ReportData, target: str) -> list[Risk]:
    """From the gate: are there enough models, and do they agree?"""
    gate = data.verdict(target)
    if gate is None:
        return []
    effective, reliability = gate["effective_models"], gate["reliability"]
    different, gain = gate["heterogeneity_p"], gate["delta_r2"]
    return [
        Risk(
            name="Independent models",
            measure=plain(effective),
            flagged=effective < FEW_MODELS,
            sentence="Models of one family say nearly the same. With few independent ones, intervals are too narrow.",
        ),
        Risk(
            name="Agreement between halves of the families",
            measure=correlation(reliability),
            flagged=reliability is None or reliability < LOW_RELIABILITY,
            sentence="Where halves of the model families disagree, other models would have chosen other domains.",
        ),
        Risk(
            name="Differences between domains, p",
            measure=probability(different),
            flagged=different is None or different > SIGNIFICANT,
            sentence="Where all domains correlate alike, choosing between them is chance.",
        ),
        Risk(
            name="Gain over mean loss in predicting held-out families, R²",
            measure=correlation(gain),
            flagged=gain is None or gain <= 0,
            sentence="Without a gain, the choice knows no more than that better models have lower losses everywhere.",
        ),
    ]


def _mixture(data: ReportData, target: str) -> list[Risk]:
    """From the mixture: is it spread, sure, stable, licensed, and like the pool?"""
    rows = data.domain_rows(target)
    if (rows["decision"] == "fallback").any():
        return [_licences(rows)]
    largest = rows.row(0, named=True)
    unsure = _weight(rows, pl.col("q_value").is_null() | (pl.col("q_value") > FALSE_DISCOVERIES))
    unstable = _weight(rows, pl.col("selection_probability").is_null() | (pl.col("selection_probability") < UNSTABLE))
    return [
        Risk(
            name="Largest domain",
            measure=share(largest["weight"]),
            flagged=largest["weight"] > ONE_DOMAIN,
            sentence=f"{largest['domain']} has the largest share: its faults become the model's.",
        ),
        Risk(
            name=f"Mixture in domains not told from the pool (q > {FALSE_DISCOVERIES:g})",
            measure=share(unsure),
            flagged=unsure > LARGE_PART,
            sentence="These domains rank high, but by no more than noise could explain.",
        ),
        Risk(
            name="Mixture in domains that half of the families would not select",
            measure=share(unstable),
            flagged=unstable > LARGE_PART,
            sentence="Other models of the same kind would often have left these domains out.",
        ),
        *[_shift(rows, column, word) for column, word in GROUPINGS.items() if _comparable(rows, column)],
        *_length(data, rows),
        *_policy(rows),
        _licences(rows),
    ]


def _length(data: ReportData, rows: pl.DataFrame) -> list[Risk]:
    """Mean page of the mixture over that of the pool, in reference tokens; where pages are counted."""
    pages = rows.join(data.domains.select("domain", "pages"), on="domain", how="left").filter(
        pl.col("pages") > 0, pl.col("pool") > 0
    )
    if pages.is_empty() or not pages["weight"].sum():
        return []
    # Tokens over pages: a share of the tokens is that share of the pages, each of the domain's mean length.
    tokens_per_page = pl.col("pool_tokens") / pl.col("pages")
    mixture, pool = (
        pages.select(pl.col(share).sum() / (pl.col(share) / tokens_per_page).sum()).item()
        for share in ("weight", "pool")
    )
    ratio = mixture / pool
    return [
        Risk(
            name="Mean page of the mixture, times the pool's",
            measure=plain(ratio),
            flagged=not 1 / LENGTH <= ratio <= LENGTH,
            sentence="Longer or shorter pages are another kind of text, whatever they are about.",
        )
    ]


def _policy(rows: pl.DataFrame) -> list[Risk]:
    """Domains that rules took out; told, not judged."""
    removed = rows.filter((pl.col("decision") == "excluded") & pl.col("reason").str.contains("policy"))
    if removed.is_empty():
        return []
    return [
        Risk(
            name="Domains removed by policy",
            measure=f"{removed.height:,}",
            flagged=False,
            sentence="Rules of the study leave them out, each with its reason, owner and date.",
        )
    ]


def _audited(data: ReportData, target: str) -> list[Risk]:
    """From the audit: does the mixture hang on one family, on pages that disagree, or on the benchmarks' own text?"""
    rows = data.domain_rows(target)
    audits = data.domain_audits.filter(pl.col("target") == target)
    if audits.is_empty() or (rows["decision"] == "fallback").any():
        return []
    audits = audits.rename({"estimate": "audited"})
    chosen = rows.filter(pl.col("weight") > 0).join(audits, on=["target", "domain"], how="left")
    moved = _weight(chosen, (pl.col("estimate_without_it") - pl.col("audited")).abs() > CHANGED)
    found = [
        Risk(
            name=f"Mixture in domains whose estimate one family moves by more than {CHANGED:g}",
            measure=share(moved),
            flagged=moved > LARGE_PART,
            sentence="Without that family of models the choice could be another; the table below names it.",
        )
    ]
    return found + _audited_pages(chosen) if chosen["pages"].count() else found


def _audited_pages(chosen: pl.DataFrame) -> list[Risk]:
    """What the pages of the chosen domains say, where their text is at hand."""
    torn = _weight(chosen, pl.col("page_agreement") < DISAGREEING)
    overlapping = chosen.select((pl.col("weight") * pl.col("overlapping_share").fill_null(0.0)).sum()).item()
    changed = _weight(chosen, (pl.col("estimate_without_overlap") - pl.col("audited")).abs() > CHANGED)
    found = [
        Risk(
            name="Mixture in domains most of whose pages disagree with them",
            measure=share(torn),
            flagged=torn > LARGE_PART,
            sentence="Such a domain is several; a page filter, or finer domains, would choose better.",
        ),
        Risk(
            name="Sampled text that shares 64 bytes with the target's tasks",
            measure=share(overlapping),
            flagged=overlapping > 0.01 or changed > 0,
            sentence=f"Without such pages the estimate changes by more than {CHANGED:g} for {share(changed)} of the "
            "mixture.",
        ),
    ]
    for unread in chosen["tasks_not_read"].drop_nulls()[:1]:
        found.append(
            Risk(
                name="Tasks whose text could not be compared",
                measure=str(len(unread.split(", "))),
                flagged=True,
                sentence=f"Overlap with {unread} is unknown: their data was not at hand.",
            )
        )
    return found


def _licences(rows: pl.DataFrame) -> Risk:
    unknown = _weight(rows, pl.col("license").is_null())
    return Risk(
        name="Mixture without a stated licence",
        measure=share(unknown),
        flagged=unknown > LARGE_PART,
        sentence="Nobody has said that this text may be used.",
    )


def _shift(rows: pl.DataFrame, column: str, word: str) -> Risk:
    """Total variation distance between mixture and pool over groups: the share that would have to move."""
    moved = rows.group_by(column).agg(pl.col("weight", "pool").sum())
    distance = float((moved["weight"] - moved["pool"]).abs().sum()) / 2
    most = moved.with_columns(up=pl.col("weight") - pl.col("pool")).sort("up", column, descending=[True, False]).row(0)
    return Risk(
        name=f"Shift between {word}s",
        measure=share(distance),
        flagged=distance > SHIFT,
        sentence=f"This much of the mixture moved, most of it to {word} {most[0] or 'not stated'}.",
    )


def _comparable(rows: pl.DataFrame, column: str) -> bool:
    """Whether a grouping has at least two groups and the pool's sizes are known."""
    return column in rows.columns and rows[column].n_unique() > 1 and rows["pool"].count() > 0


def _separability(other: str, value: float) -> Risk:
    return Risk(
        name="Closest other target, correlation of errors",
        measure=correlation(value),
        flagged=value > INSEPARABLE,
        sentence=f"These models cannot tell the target from {other}: what helps one is taken to help the other.",
    )


def _coverage(data: ReportData) -> list[Risk]:
    """From the losses: how much of the sampled text has none."""
    chunks = data.domain_logliks.select(pl.col("chunks", "chunks_missing").sum())
    scored, missing = chunks.row(0)
    if not (scored or 0) + (missing or 0):
        return []
    part = missing / (scored + missing)
    return [
        Risk(
            name="Chunks without a loss",
            measure=share(part),
            flagged=part > 0.01,
            sentence="Where text is missing for some models, domains are compared on different text.",
        )
    ]


def _weight(rows: pl.DataFrame, condition: pl.Expr) -> float:
    """Share of the mixture in domains that fulfil a condition."""
    return float(rows.filter(condition)["weight"].sum())
