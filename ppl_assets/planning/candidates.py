"""Who could be asked next, and what asking takes: the public models of the embedded study, and the effort so far."""

import polars as pl

from ppl_assets.planning.forecast import questions_of
from ppl_assets.planning.next_measurement import Candidate, Effort
from ppl_assets.study import Study, load_study


def public_candidates(registered: pl.DataFrame) -> list[Candidate]:
    """Models of the paper's study, with stated parameters, that are not in the registry by slug or repository."""
    known = set(registered["slug"]) | set(registered["source"])
    return [
        Candidate(name=model.source, family=model.family, params=float(model.params))
        for model in load_study("paper").models
        if model.params and model.slug not in known and model.source not in known
    ]


def effort_of(study: Study, models: pl.DataFrame, chunks: pl.DataFrame) -> Effort:
    """Tokens that a model is asked for, and sizes; a probe is one of the study's own pool, else one of its proxies."""
    zoo, other = study.zoo, study.alternatives
    params = models["params"].drop_nulls().to_list()
    _, question_tokens = questions_of(study)
    asked = study.corpus is not None
    return Effort(
        scoring_tokens=float(chunks["tokens"].sum()) if asked else 0.0,
        question_tokens=question_tokens if asked else 0.0,
        params_of_all=float(sum(params)),
        probe_params=float(sorted(params)[len(params) // 2]) if zoo and params else float(other.proxy_params),
        probe_tokens=float(
            zoo.checkpoints[-1] * zoo.batch_sequences * zoo.sequence_tokens if zoo else other.proxy_tokens
        ),
    )
