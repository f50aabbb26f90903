"""What enters an estimate: domains with losses of too few models stay out, and change nothing for the others."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.estimation.evidence import Evidence, errors_by_target, for_target
from ppl_assets.estimation.tables import estimate_rows, gate_rows, kind_rows, prediction_rows
from ppl_assets.mixture.decision import Candidates, mix
from ppl_assets.mixture.objective import Objective
from ppl_assets.study.schema import Target, TargetTask

MODELS, DOMAINS = 36, 20
KNOWN = tuple(f"d{index:02d}" for index in range(DOMAINS))
# Between the names of the others, so that whatever leaves them out has to keep places apart.
FEW = ("d03-of-four-models", "d07-of-four-models")


def whole() -> Evidence:
    """Two domains of one topic, which is half of the error; the gate selects."""
    rng = np.random.default_rng(0)
    ability, topic = rng.normal(size=(2, MODELS))
    bpb_MD = 2 + 0.1 * (ability[:, None] + 0.5 * rng.normal(size=(MODELS, DOMAINS)))
    bpb_MD[:, :2] += 0.15 * topic[:, None]
    return Evidence(
        slugs=tuple(f"m{index:02d}" for index in range(MODELS)),
        families=tuple(f"f{index // 2:02d}" for index in range(MODELS)),
        kinds=tuple("public" if index < 24 else "probe" for index in range(MODELS)),
        params_M=np.full(MODELS, np.nan),
        domains=KNOWN,
        groups=("",) * DOMAINS,
        bpb_MD=bpb_MD,
        error_M=ability + topic + 0.3 * rng.normal(size=MODELS),
    )


def with_few(evidence: Evidence) -> Evidence:
    """Two domains more, known to the two best and the two worst models, in the order of their errors."""
    order = np.argsort(evidence.error_M)
    few_MD = np.full((MODELS, len(FEW)), np.nan)
    few_MD[order[[0, 1, -2, -1]]] = np.array([1.0, 1.1, 2.0, 2.1])[:, None]
    domains = (*evidence.domains, *FEW)
    place_D = np.argsort(domains)
    return replace(
        evidence,
        domains=tuple(domains[place] for place in place_D),
        groups=("",) * len(domains),
        bpb_MD=np.hstack([evidence.bpb_MD, few_MD])[:, place_D],
    )


def errors_of(evidence: Evidence) -> pl.DataFrame:
    return pl.DataFrame({"slug": evidence.slugs, "target": "t", "error": evidence.error_M})


def estimates_of(evidence: Evidence, estimator: str = "gls") -> pl.DataFrame:
    return estimate_rows(
        evidence,
        errors_of(evidence),
        targets=["t"],
        minimum_models=10,
        estimator=estimator,
        seed=0,
        replicates=50,
        level=0.9,
        top_share=0.1,
    )


@pytest.mark.parametrize("estimator", ["gls", "kendall"])
def test_a_domain_that_four_models_know_is_counted_and_has_no_estimate_and_the_others_keep_theirs(estimator):
    """Its correlation would be near 1, larger than any other, whatever its text is."""
    evidence = whole()
    found = estimates_of(with_few(evidence), estimator)
    few = found.filter(pl.col("domain").is_in(FEW))
    assert few.select("estimator", "domain").sort(pl.all()).rows() == sorted(
        (name, domain) for name in {estimator, "spearmanr"} for domain in FEW
    )
    assert set(few["models"]) == {4}
    assert few.drop("target", "estimator", "domain", "models").select(pl.all().is_null().all()).row(0) == (True,) * 13
    assert found.filter(pl.col("domain").is_in(KNOWN)).equals(estimates_of(evidence, estimator))
    assert found["domain"].to_list() == 2 * sorted((*KNOWN, *FEW))


def test_a_mixture_leaves_out_the_domain_that_four_models_know():
    rows = estimates_of(with_few(whole())).filter(estimator="gls")
    few_D = rows["domain"].is_in(FEW)
    mixture = mix(
        Candidates(
            domains=rows["domain"].to_list(),
            estimate_D=rows["estimate"].fill_null(np.nan).to_numpy(),
            stderr_D=rows["stderr"].fill_null(np.nan).to_numpy(),
            cap_D=np.full(rows.height, 0.25),
            pool_D=np.ones(rows.height),
        ),
        budget=1000,
        objective=Objective(lower_confidence=1.0),
    )
    assert (mixture.weight_D[few_D.to_numpy()] == 0).all()
    assert {reason for reason, few in zip(mixture.reason_D, few_D, strict=True) if few} == {
        "Excluded: no estimate could be made for it."
    }


def test_the_gate_and_predictions_are_those_of_the_domains_that_enough_models_know():
    evidence, more = whole(), with_few(whole())
    plain = gate_rows(evidence, errors_of(evidence), targets=["t"], minimum_models=10, seed=0)
    assert plain["verdict"].to_list() == ["select"]
    assert gate_rows(more, errors_of(more), targets=["t"], minimum_models=10, seed=0).equals(plain)
    kept, of_all = (
        prediction_rows(each, errors_of(each), targets=["t"], minimum_models=10, top_share=0.1)
        for each in (evidence, more)
    )
    assert of_all.equals(kept)
    kept, of_all = (
        kind_rows(each, errors_of(each), targets=["t"], minimum_models=10, estimator="gls", top_share=0.1)
        for each in (evidence, more)
    )
    assert kept.height == 3 * DOMAINS
    assert of_all.equals(kept)


def test_models_count_where_they_have_an_error_and_of_one_family_they_are_not_enough():
    evidence = whole()
    bpb_MD = evidence.bpb_MD.copy()
    bpb_MD[10:, 0] = np.nan
    bpb_MD[11:, 1] = np.nan
    bpb_MD[:24, 2] = np.nan
    lineage = replace(evidence, bpb_MD=bpb_MD, families=(*evidence.families[:24], *("probe",) * 12))
    errors = errors_of(evidence).filter(pl.col("slug") != "m00")
    assert for_target(lineage, errors, "t", minimum_models=10).domains == KNOWN[1:2] + KNOWN[3:]
    assert for_target(lineage, errors, "t", minimum_models=9).domains == KNOWN[:2] + KNOWN[3:]


def test_a_target_that_no_domain_can_be_judged_for_is_refused():
    evidence = whole()
    torn = replace(evidence, bpb_MD=np.where((np.arange(MODELS) // 9 == 0)[:, None], evidence.bpb_MD, np.nan))
    said = (
        "target 't': no domain has losses of at least 10 models of 2 families that have an error "
        r"\(study field estimation.minimum_models\); found at most 9 models"
    )
    with pytest.raises(InputError, match=said):
        for_target(torn, errors_of(torn), "t", minimum_models=10)
    scores = pl.DataFrame({"slug": torn.slugs, "task": "t", "metric": "m", "value": torn.error_M})
    targets = {"t": Target(tasks=(TargetTask(task="t", metric="m", kind="bpb"),))}
    with pytest.raises(InputError, match=said):
        errors_by_target(targets, scores, torn, minimum_models=10, missing=())
