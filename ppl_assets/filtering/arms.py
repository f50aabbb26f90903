"""The ways to choose pages, as one kind of thing: a number for every page, larger is better, null where it may not be
chosen. All of them see the same pages and get the same budget.

What a method says of a page's text is computed once, when the page is read (`text_scores`); the rest follows from the
page's domain, its language or a random number of its own:

- ``ours``: the page filter. Where the mixture is the pool's own distribution, at random; where there is no filter for
  another reason, no page.
- ``ours_domains``: the mixture without a classifier: of each domain as many pages as its weight asks for, at random.
  Where the chosen domains hold less than the budget, the next best follow.
- ``uniform``: the pool as it is, at random.
- ``mean_loss``: domains by their mean bits per byte over the models, lowest first.
- ``perplexity_pruning``: domains by how near one model's bits per byte are to the pool's median (Marion et al.,
  arXiv 2309.04564, keep the middle), by tokens.
- ``dsir``, ``quality_classifier``: by likeness to a target's texts (`dsir`, `quality`).
- ``language``: pages of given languages, at random.
- ``rules``: pages that pass hand-written rules (`rules`), at random.

Losses are known of domains and not of pages: the two methods by loss therefore choose domains, and pages at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ppl_assets.errors import InputError, suggestion
from ppl_assets.study.schema import Arm, Study

# Methods that read text, by whether they need a target's own texts.
BY_TEXT: dict[Arm, bool] = {"ours": False, "quality_classifier": True, "dsir": True, "rules": False}
_HASH_SIZE = 2.0**63
# A number of the page's own, uniform from 0 to 1; independent of what the page says.
_AT_RANDOM = 1 - pl.col("order") / _HASH_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One arm for one target: `score` over the rows of ``page_scores``; `lacks` says why it may take no page."""

    target: str
    arm: Arm
    score: pl.Expr
    lacks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What arms by domain are made from.

    Attributes:
        mixture: rows of ``pretraining_mixture``.
        losses: rows of ``domain_logliks`` of the models that take part: slug, domain, bpb.
        pool_tokens: tokens of each domain that may be selected.
    """

    mixture: pl.DataFrame
    losses: pl.DataFrame
    pool_tokens: Mapping[str, int]


def text_score_name(arm: Arm, target: str) -> str:
    """What the score of a text arm for a target is called; rules are the same for all targets."""
    return arm if arm == "rules" else f"{arm}/{target}"


def choices(study: Study, names: Sequence[str], evidence: Evidence, budget: float) -> list[Choice]:
    """Every arm of the study for every target.

    Args:
        names: of the text scores, in their order in ``page_scores``.

    Raises:
        InputError: an arm lacks what it needs.
    """
    assert study.filter is not None
    return [
        _unfiltered(target, evidence)
        if arm == "ours" and text_score_name(arm, target) not in names
        else Choice(target=target, arm=arm, score=_score(study, arm, target, names, evidence, budget))
        for target in study.targets
        for arm in study.filter.arms
    ]


def _unfiltered(target: str, evidence: Evidence) -> Choice:
    """``ours`` for a target without a page filter: what the mixture is, or nothing at all."""
    decisions = evidence.mixture.filter(pl.col("target") == target)["decision"]
    if (decisions == "fallback").any():
        return Choice(target=target, arm="ours", score=_AT_RANDOM)
    lacks = "there is no page filter; table page_filters says why"
    return Choice(target=target, arm="ours", score=pl.lit(None, dtype=pl.Float64), lacks=lacks)


def _score(study: Study, arm: Arm, target: str, names: Sequence[str], evidence: Evidence, budget: float) -> pl.Expr:
    match arm:
        case "ours_domains":
            return _mixed(evidence, target, budget)
        case "mean_loss":
            return _by_domain(_negative(mean_losses(evidence.losses)))
        case "perplexity_pruning":
            return _by_domain(_negative(_from_the_middle(_reference(study, evidence.losses), evidence.pool_tokens)))
        case "language":
            return pl.when(pl.col("language").is_in(_languages(study, target))).then(_AT_RANDOM)
        case "rules":
            return pl.when(_of_text(names.index("rules")).is_not_null()).then(_AT_RANDOM)
        case "uniform":
            return _AT_RANDOM
    return _of_text(names.index(text_score_name(arm, target)))


def mean_losses(losses: pl.DataFrame) -> dict[str, float]:
    """Mean bits per byte over models, of the domains that every model has losses of."""
    models = losses["slug"].n_unique()
    known = losses.filter(pl.col("bpb").is_not_null()).group_by("domain").agg(pl.len(), pl.mean("bpb"))
    return dict(known.filter(pl.col("len") == models).select("domain", "bpb").iter_rows())


def _reference(study: Study, losses: pl.DataFrame) -> dict[str, float]:
    """Bits per byte of the model that prunes."""
    assert study.filter is not None
    slugs = sorted(set(losses["slug"]))
    slug = study.filter.reference_model or (slugs[0] if slugs else None)
    if slug not in slugs:
        raise InputError(
            f"study field filter.reference_model: no losses of {slug!r}{suggestion(str(slug), slugs)}; "
            "expected the slug of a model that takes part"
        )
    known = losses.filter((pl.col("slug") == slug) & pl.col("bpb").is_not_null())
    return dict(known.select("domain", "bpb").iter_rows())


def _from_the_middle(loss: Mapping[str, float], pool_tokens: Mapping[str, int]) -> dict[str, float]:
    """Distance of each domain's place in the pool, by loss, from the middle: 0 to 1/2."""
    domains = sorted((domain for domain in loss if domain in pool_tokens), key=lambda domain: (loss[domain], domain))
    tokens_D = np.array([pool_tokens[domain] for domain in domains], dtype=np.float64)
    middle_D = (np.cumsum(tokens_D) - tokens_D / 2) / max(tokens_D.sum(), 1)
    return dict(zip(domains, np.abs(middle_D - 0.5).tolist(), strict=True))


def _languages(study: Study, target: str) -> tuple[str, ...]:
    assert study.filter is not None
    if target not in study.filter.languages:
        raise InputError(f"study field filter.languages: nothing for {target!r}, expected the languages that are kept")
    return study.filter.languages[target]


def _mixed(evidence: Evidence, target: str, budget: float) -> pl.Expr:
    """Between 0 and 1 in chosen domains, below 0 in the others, and null where the mixture may not choose.

    A page is in the first share u of its domain's pages, at random. Where the domain is to give the share s, the score
    is 1 / (1 + u / s), so that pages with u below s come before 1/2 and every domain reaches that point together.
    """
    rows = evidence.mixture.filter((pl.col("target") == target) & (pl.col("decision") != "excluded"))
    held = pl.col("domain").replace_strict(dict(evidence.pool_tokens), default=None, return_dtype=pl.Float64)
    rows = rows.with_columns(share=pl.col("weight") * budget / held).filter(pl.col("share").is_not_null())
    chosen = rows.filter(pl.col("weight") > 0)
    # Domains without an estimate come last.
    rest = rows.filter(pl.col("weight") == 0).sort("estimate", "domain", descending=[True, False], nulls_last=True)
    share = _by_domain(dict(chosen.select("domain", "share").iter_rows()))
    place = _by_domain({domain: float(number) for number, domain in enumerate(rest["domain"], start=1)})
    passed = 1 - _AT_RANDOM
    return pl.coalesce(1 / (1 + passed / share), -place - passed)


def _of_text(place: int) -> pl.Expr:
    return pl.col("scores").list.get(place).fill_nan(None)


def _by_domain(values: Mapping[str, float]) -> pl.Expr:
    if not values:
        return pl.lit(None, dtype=pl.Float64)
    return pl.col("domain").replace_strict(dict(values), default=None, return_dtype=pl.Float64)


def _negative(values: Mapping[str, float]) -> dict[str, float]:
    return {domain: -value for domain, value in values.items()}
