"""What to measure next: how much each further measurement would steady the choice, and what it takes.

Quantity: the variance of differences between domains' estimates (a choice rests on nothing else), in three parts that
are taken to be independent: the models at hand (leaving out one family at a time), the pages sampled (estimates from
every other page) and the questions asked (errors drawn anew within their standard errors). One more model leaves of the
first part what the effective number of models says, twice the pages or questions half of theirs. A probe counts as one
more family: that a designed mixture moves the differences more than that is not counted. A rough guide to order, not a
forecast of intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.estimation import effective_models, gain_of_candidate, propose_probes
from ppl_assets.estimation.evidence import Evidence, for_target
from ppl_assets.estimation.influence import estimate_of, family_influence
from ppl_assets.schema import TABLES
from ppl_assets.study import Study

_FORWARD, _TRAINING = 2, 6
_DRAWS = 20
_PUBLIC_SHOWN = 3
_NEW_FAMILY = "a family that the pool does not have"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A public model that could be scored next."""

    name: str
    family: str
    params: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What was asked so far of each model, in tokens: texts to score and questions; 0 where nothing was run here."""

    scoring_tokens: float
    question_tokens: float
    params_of_all: float
    probe_params: float
    probe_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One row, before it has its place."""

    measurement: str
    kind: str
    shrinks: float
    flops: float | None


def measurement_rows(
    study: Study,
    evidence: Evidence,
    errors: pl.DataFrame,
    scores: pl.DataFrame,
    audits: pl.DataFrame,
    *,
    candidates: Sequence[Candidate],
    effort: Effort,
) -> pl.DataFrame:
    """Rows of ``next_measurements``, best first per target; none for a target whose models' part is unknown."""
    frames = [TABLES["next_measurements"].polars_schema.to_frame()]
    for name in study.targets:
        own = for_target(evidence, errors, name, minimum_models=study.estimation.minimum_models)
        noise = variance_parts(study, evidence, own, scores, audits, target=name)
        if np.isnan(noise["models"]):
            continue
        found = [
            *_models(own, noise, candidates, effort),
            *_probe(own, noise, effort, seed=study.seed),
            *_more(noise, effort),
        ]
        worth = _worth if all(each.flops for each in found) else _shrinks
        ranked = sorted(found, key=lambda each: (-worth(each), each.measurement))
        rows = [
            {"target": name, "measurement": each.measurement, "kind": each.kind, "shrinks": each.shrinks}
            | {"flops": each.flops, "place": place}
            for place, each in enumerate(ranked, start=1)
        ]
        frames.append(pl.DataFrame(rows, schema=TABLES["next_measurements"].polars_schema))
    return pl.concat(frames)


def variance_parts(
    study: Study, evidence: Evidence, own: Evidence, scores: pl.DataFrame, audits: pl.DataFrame, *, target: str
) -> Mapping[str, float]:
    """Variance of differences between estimates by what causes it: models, pages, questions.

    That of models is NaN where they are so few that none of their families can be left out.
    """
    influence = family_influence(
        evidence,
        scores,
        name=target,
        targets=study.targets,
        minimum_models=study.estimation.minimum_models,
        estimator=study.estimation.estimator,
    )
    left_out = _contrasts(influence.left_out_FD)
    page_stderr = audits.filter(pl.col("target") == target)["page_stderr"].drop_nulls().to_numpy()
    return {
        "models": _jackknife_variance(left_out) if len(left_out) else float("nan"),
        "pages": float((page_stderr**2).mean()) if len(page_stderr) else 0.0,
        "questions": _question_noise(study, own, scores, target),
    }


def _jackknife_variance(left_out_FD: np.ndarray) -> float:
    """Mean over domains of the jackknife variance over families."""
    n_families = len(left_out_FD)
    squares_FD = (left_out_FD - np.nanmean(left_out_FD, axis=0)) ** 2
    return float(np.nanmean((n_families - 1) / n_families * np.nansum(squares_FD, axis=0)))


def _contrasts(estimate_RD: np.ndarray) -> np.ndarray:
    """Estimates less their mean over domains: what an error common to all domains cannot move."""
    known = estimate_RD[~np.isnan(estimate_RD).all(axis=1)]
    return known - np.nanmean(known, axis=1, keepdims=True)


def _question_noise(study: Study, own: Evidence, scores: pl.DataFrame, target: str) -> float:
    """Variance of differences when every error is drawn anew within its standard error; 0 where none is stated."""
    stated = study.targets[target].tasks
    tasks = pl.DataFrame([task.model_dump(include={"task", "metric", "kind"}) for task in stated])
    rows = scores.join(tasks, on=["task", "metric"]).filter(pl.col("stderr").is_not_null())
    if rows.is_empty():
        return 0.0
    # The error of a perplexity is its logarithm, whose standard error is the relative one.
    logarithm = pl.col("kind") == "perplexity"
    value = pl.when(logarithm).then(pl.col("value").log()).otherwise(pl.col("value"))
    stderr = pl.when(logarithm).then(pl.col("stderr") / pl.col("value")).otherwise(pl.col("stderr"))
    # Tasks enter standardised: a standard error counts in units of its task's spread over models.
    in_spreads = rows.select("slug", noise=stderr / value.std().over("task", "metric"))
    relative = in_spreads.group_by("slug").agg(pl.col("noise").pow(2).sum().sqrt() / len(stated))
    noise = dict(relative.iter_rows())
    scale_M = own.error_M.std() * np.array([noise.get(slug) or 0.0 for slug in own.slugs])
    rng = np.random.default_rng(study.seed)
    drawn = [
        estimate_of(_with_error(own, own.error_M + scale_M * rng.normal(size=len(scale_M))), study.estimation.estimator)
        for _ in range(_DRAWS)
    ]
    return float(np.nanmean(np.nanvar(_contrasts(np.stack(drawn)), axis=0, ddof=1)))


def _with_error(own: Evidence, error_M: np.ndarray) -> Evidence:
    return replace(own, error_M=error_M)


def _models(
    own: Evidence, noise: Mapping[str, float], candidates: Sequence[Candidate], effort: Effort
) -> list[Measurement]:
    """The public models that are worth most, one of each family."""
    tokens = effort.scoring_tokens + effort.question_tokens
    found: dict[str, Measurement] = {}
    for candidate in candidates:
        flops = _FORWARD * candidate.params * tokens if tokens else None
        each = Measurement(
            measurement=f"score {candidate.name} ({candidate.family})",
            kind="model",
            shrinks=_by_models(own, noise, candidate.family),
            flops=flops,
        )
        if candidate.family not in found or _worth(each) > _worth(found[candidate.family]):
            found[candidate.family] = each
    return sorted(found.values(), key=_worth, reverse=True)[:_PUBLIC_SHOWN]


def _probe(own: Evidence, noise: Mapping[str, float], effort: Effort, *, seed: int) -> list[Measurement]:
    """One small model on the mixture of groups that tells most; none where domains have no two groups."""
    try:
        design = propose_probes(own.bpb_MD, families=own.families, groups=own.groups, probes=1, seed=seed)
    except InputError:
        return []
    largest = sorted(zip(design.groups, design.shares[0], strict=True), key=lambda pair: -pair[1])
    mixture = ", ".join(f"{part:.0%} {group or 'ungrouped'}" for group, part in largest[:3])
    own_tokens = _FORWARD * (effort.scoring_tokens + effort.question_tokens)
    return [
        Measurement(
            measurement=f"train and score a probe on {mixture}",
            kind="probe",
            shrinks=_by_models(own, noise, _NEW_FAMILY),
            flops=effort.probe_params * (_TRAINING * effort.probe_tokens + own_tokens),
        )
    ]


def _more(noise: Mapping[str, float], effort: Effort) -> list[Measurement]:
    """Twice the pages, twice the questions, of every model at hand."""
    total = sum(noise.values())
    options = (
        ("pages", "sample twice the pages and score every model on the new ones", effort.scoring_tokens),
        ("questions", "ask every model twice the questions", effort.question_tokens),
    )
    return [
        Measurement(
            measurement=words,
            kind=kind,
            shrinks=noise[kind] / 2 / total if total else 0.0,
            flops=_FORWARD * effort.params_of_all * tokens,
        )
        for kind, words, tokens in options
        if tokens and noise[kind]
    ]


def _by_models(own: Evidence, noise: Mapping[str, float], family: str) -> float:
    """Share of all variance that one more model of a family takes away."""
    before = effective_models(own.error_M, families=own.families)
    gain = max(gain_of_candidate(own.error_M, families=own.families, candidate=family), 0.0)
    total = sum(noise.values())
    return noise["models"] * gain / (before + gain) / total if total else 0.0


def _worth(each: Measurement) -> float:
    """Variance taken away per operation; where operations are unknown, per measurement."""
    return each.shrinks / each.flops if each.flops else each.shrinks


def _shrinks(each: Measurement) -> float:
    """Variance taken away per measurement: what compares measurements where the operations of one are unknown."""
    return each.shrinks
