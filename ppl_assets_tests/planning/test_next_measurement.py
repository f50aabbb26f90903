"""What to measure next: parts of the uncertainty against arithmetic by hand, and the order that follows from them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from ppl_assets.estimation import effective_models
from ppl_assets.estimation.evidence import Evidence
from ppl_assets.planning.candidates import effort_of, public_candidates
from ppl_assets.planning.next_measurement import Candidate, Effort, measurement_rows, variance_parts
from ppl_assets.study import Study

MODELS, DOMAINS, FAMILIES = 18, 6, 6
STUDY = Study.model_validate(
    {
        "name": "next",
        "targets": {"t": {"tasks": ({"task": "task", "metric": "m", "kind": "bpb"},)}},
        "estimation": {"estimator": "spearmanr"},
        "mixture": {"keep": 0.5},
    }
)
EFFORT = Effort(scoring_tokens=1e6, question_tokens=1e5, params_of_all=18e9, probe_params=1e6, probe_tokens=1e9)


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    ability = rng.normal(size=MODELS)
    return Evidence(
        slugs=tuple(f"m{index:02d}" for index in range(MODELS)),
        families=tuple(f"f{index % FAMILIES}" for index in range(MODELS)),
        kinds=("public",) * MODELS,
        params_M=np.full(MODELS, 1e9),
        domains=tuple(f"d{index}" for index in range(DOMAINS)),
        groups=("a", "a", "a", "b", "b", "b"),
        bpb_MD=1 - 0.1 * ability[:, None] + 0.05 * rng.normal(size=(MODELS, DOMAINS)),
        error_M=-ability + 0.3 * rng.normal(size=MODELS),
    )


def tables(evidence: Evidence, *, stderr: float | None, page_stderr: float | None):
    scores = pl.DataFrame(
        {"slug": evidence.slugs, "task": "task", "metric": "m", "value": evidence.error_M, "stderr": [stderr] * MODELS},
        schema_overrides={"stderr": pl.Float64},
    )
    errors = scores.select("slug", target=pl.lit("t"), error="value")
    audits = pl.DataFrame(
        {"target": "t", "domain": evidence.domains, "page_stderr": [page_stderr] * DOMAINS},
        schema_overrides={"page_stderr": pl.Float64},
    )
    return errors, scores, audits


def rows_of(evidence, candidates=(), effort=EFFORT, **noise) -> list[dict]:
    errors, scores, audits = tables(evidence, **noise)
    return measurement_rows(STUDY, evidence, errors, scores, audits, candidates=candidates, effort=effort).to_dicts()


def test_the_part_of_the_models_is_the_jackknife_over_families_of_differences_between_domains(evidence):
    _, scores, audits = tables(evidence, stderr=None, page_stderr=None)
    found = variance_parts(STUDY, evidence, evidence, scores, audits, target="t")
    left_out = []
    for family in sorted(set(evidence.families)):
        kept = [index for index, name in enumerate(evidence.families) if name != family]
        rho = [spearmanr(evidence.bpb_MD[kept, d], evidence.error_M[kept]).statistic for d in range(DOMAINS)]
        left_out.append(np.array(rho) - np.mean(rho))
    variance = (FAMILIES - 1) ** 2 / FAMILIES * np.var(left_out, axis=0, ddof=1)
    assert found["models"] == pytest.approx(variance.mean(), rel=1e-12)
    assert (found["pages"], found["questions"]) == (0.0, 0.0)


def test_noisier_questions_and_pages_are_a_larger_part(evidence):
    parts = []
    for scale in (0.01, 0.3):
        _, scores, audits = tables(evidence, stderr=scale, page_stderr=scale)
        parts.append(variance_parts(STUDY, evidence, evidence, scores, audits, target="t"))
    assert parts[1]["questions"] > 10 * parts[0]["questions"] >= 0
    assert [part["pages"] for part in parts] == pytest.approx([0.01**2, 0.3**2], rel=1e-12)


def test_models_so_few_that_none_can_be_left_out_say_nothing_of_what_another_would_steady(evidence):
    few = replace(
        evidence,
        slugs=evidence.slugs[:3],
        families=evidence.families[:3],
        kinds=evidence.kinds[:3],
        params_M=evidence.params_M[:3],
        bpb_MD=evidence.bpb_MD[:3],
        error_M=evidence.error_M[:3],
    )
    errors, scores, audits = (frame.head(3) for frame in tables(evidence, stderr=0.1, page_stderr=0.1))
    three = STUDY.model_copy(update={"estimation": STUDY.estimation.model_copy(update={"minimum_models": 3})})
    assert np.isnan(variance_parts(three, few, few, scores, audits, target="t")["models"])
    assert measurement_rows(three, few, errors, scores, audits, candidates=(), effort=EFFORT).is_empty()


def test_a_model_takes_away_what_the_effective_number_of_models_says(evidence):
    candidates = [
        Candidate(name="new/one", family="new", params=1e9),
        Candidate(name="f/more", family="f0", params=1e9),
    ]
    found = {row["measurement"]: row for row in rows_of(evidence, candidates, stderr=None, page_stderr=None)}
    before = effective_models(evidence.error_M, families=evidence.families)
    new, more = found["score new/one (new)"], found["score f/more (f0)"]
    assert 0 <= more["shrinks"] <= new["shrinks"] < 1 / before
    assert new["flops"] == 2 * 1e9 * 1.1e6


def test_the_best_comes_first_and_of_two_alike_the_cheaper_is_better(evidence):
    candidates = [
        Candidate(name="new/small", family="a", params=1e8),
        Candidate(name="new/large", family="b", params=1e10),
    ]
    rows = rows_of(evidence, candidates, stderr=0.2, page_stderr=0.1)
    assert [row["place"] for row in rows] == list(range(1, len(rows) + 1))
    worth = [row["shrinks"] / row["flops"] for row in rows]
    assert worth == sorted(worth, reverse=True)
    place = {row["measurement"]: row["place"] for row in rows}
    assert place["score new/small (a)"] < place["score new/large (b)"]
    assert {row["kind"] for row in rows} == {"model", "probe", "pages", "questions"}


def test_where_the_operations_of_one_measurement_are_unknown_all_are_compared_by_what_they_take_away(evidence):
    """Imported losses: nobody knows what scoring a model takes, though training a probe can be counted."""
    family_M = np.random.default_rng(1).normal(size=FAMILIES)[np.arange(MODELS) % FAMILIES]
    evidence = replace(evidence, error_M=family_M + 0.8 * evidence.error_M)
    effort = replace(EFFORT, scoring_tokens=0.0, question_tokens=0.0)
    candidates = [
        Candidate(name="new/one", family="new", params=7e10),
        Candidate(name="f/more", family="f0", params=1e8),
    ]
    rows = rows_of(evidence, candidates, effort, stderr=None, page_stderr=None)
    assert [row["flops"] is None for row in rows if row["kind"] == "model"] == [True, True]
    assert [row["measurement"].split(" on ")[0] for row in rows] == [
        "score new/one (new)",
        "train and score a probe",
        "score f/more (f0)",
    ]
    assert rows[0]["shrinks"] == rows[1]["shrinks"] > 1.1 * rows[2]["shrinks"] > 0


def test_the_noise_of_a_perplexity_is_that_of_its_logarithm(evidence):
    """A standard error of a tenth of each perplexity, and of .1 of each logarithm; one model is far worse than all."""
    logs = 3 + 1.5 * np.abs(evidence.error_M)
    logs[0] = 13.0
    parts = []
    for kind, values, stderr in (("perplexity", np.exp(logs), 0.1 * np.exp(logs)), ("bpb", logs, np.full(MODELS, 0.1))):
        targets = {"t": {"tasks": ({"task": "task", "metric": "m", "kind": kind},), "allow_reversed": True}}
        study = Study.model_validate(STUDY.model_dump() | {"targets": targets})
        scores = pl.DataFrame(
            {"slug": evidence.slugs, "task": "task", "metric": "m", "value": values, "stderr": stderr}
        )
        own = replace(evidence, error_M=logs)
        audits = tables(evidence, stderr=None, page_stderr=None)[2]
        parts.append(variance_parts(study, evidence, own, scores, audits, target="t")["questions"])
    assert parts[0] > 0
    assert parts[0] == pytest.approx(parts[1], rel=1e-9)


def test_where_pages_are_the_noise_more_pages_take_half_of_it_away(evidence):
    rows = rows_of(evidence, stderr=None, page_stderr=10.0)
    pages = next(row for row in rows if row["kind"] == "pages")
    assert pages["shrinks"] == pytest.approx(0.5, abs=0.01)
    assert pages["flops"] == 2 * 18e9 * 1e6


def test_public_candidates_are_those_that_the_study_does_not_have():
    have = pl.DataFrame({"slug": ["eleutherai-pythia-160m", "other"], "source": ["x", "facebook/opt-2.7b"]})
    names = {candidate.name for candidate in public_candidates(have)}
    assert "EleutherAI/pythia-410m" in names
    assert not {"EleutherAI/pythia-160m", "facebook/opt-2.7b"} & names


def test_imported_losses_cost_nothing_that_could_be_counted():
    models = pl.DataFrame({"params": [None, 5]}, schema={"params": pl.Int64})
    effort = effort_of(STUDY, models, pl.DataFrame({"tokens": []}, schema={"tokens": pl.Int64}))
    assert (effort.scoring_tokens, effort.question_tokens) == (0.0, 0.0)
