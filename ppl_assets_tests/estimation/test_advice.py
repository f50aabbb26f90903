"""Targets that cannot be told apart, contrasts, what a candidate adds, probes as study snippets, estimates by kind."""

import json
from itertools import chain

import numpy as np
import polars as pl
import pytest
import scipy.stats
import yaml

import ppl_assets.estimation as ours
from ppl_assets.errors import InputError
from ppl_assets.estimation.advice import (
    NEW_FAMILY,
    PROBES,
    candidate_rows,
    pair_rows,
    patterns_of,
    proposal_rows,
)
from ppl_assets.estimation.evidence import Evidence, errors_by_target
from ppl_assets.estimation.tables import kind_rows
from ppl_assets.study.schema import Target, TargetTask, ZooRun
from ppl_assets.training.data import texts_by_pattern
from ppl_assets_tests.estimation.worlds import TwinWorld

TARGETS = ["zero", "one"]
TASK = {name: (TargetTask(task=name, metric="m", kind="bpb"),) for name in TARGETS}
CONTRAST = {"zero": Target(tasks=TASK["zero"], contrast_to=("one",)), "one": Target(tasks=TASK["one"])}


def evidence_of(bpb: np.ndarray, families: list[str], kinds: list[str]) -> Evidence:
    """Domains ``site-<n>/g<kind>``: ten sites with ten kinds of text each."""
    return Evidence(
        slugs=tuple(f"m{k:03d}" for k in range(len(bpb))),
        families=tuple(families),
        kinds=tuple(kinds),
        params_M=np.full(len(bpb), np.nan),
        domains=tuple(f"site-{d // 10}/g{d % 10}" for d in range(100)),
        groups=tuple(f"g{d % 10}" for d in range(100)),
        bpb_MD=bpb,
        error_M=np.full(len(bpb), np.nan),
    )


def error_rows(evidence: Evidence, errors: np.ndarray) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame({"slug": evidence.slugs, "target": name, "error": errors[:, t]}) for t, name in enumerate(TARGETS)
    )


@pytest.fixture(scope="module")
def public() -> tuple[Evidence, pl.DataFrame]:
    """A pool that learned kinds 0 and 1 together, and errors on the two."""
    bpb, errors, families = TwinWorld().public(np.random.default_rng(0))
    evidence = evidence_of(bpb, families, ["public"] * len(bpb))
    return evidence, error_rows(evidence, errors)


def test_a_pair_that_goes_together_is_named(public):
    _, errors = public
    (row,) = pair_rows(errors, TARGETS).to_dicts()
    wide = errors.pivot("target", index="slug", values="error")
    assert row["rho"] == pytest.approx(scipy.stats.spearmanr(wide["zero"], wide["one"]).statistic, abs=1e-12)
    assert (row["target"], row["other"], row["models"], row["separable"]) == ("zero", "one", 40, False)
    shuffled = errors.filter(pl.col("target") == "one").with_columns(pl.col("error").shuffle(seed=0))
    apart = pl.concat([errors.filter(pl.col("target") == "zero"), shuffled])
    assert pair_rows(apart, TARGETS)["separable"].to_list() == [True]
    assert pair_rows(errors, ["zero"]).is_empty()


def test_one_more_model_adds_most_in_a_new_family(public):
    evidence, errors = public
    rows = candidate_rows(evidence, errors, TARGETS)
    assert rows.height == 2 * 21
    for target in TARGETS:
        own = rows.filter(pl.col("target") == target)
        gain = dict(own.select("family", "gain").iter_rows())
        assert max(gain, key=gain.get) == NEW_FAMILY
        assert 0 < gain[NEW_FAMILY] <= 1
        error = errors.filter(pl.col("target") == target)["error"].to_numpy()
        before = ours.effective_models(error, families=evidence.families)
        # Kish's size with twenty families of two and the same intraclass correlation, before and after.
        rho = 40 / before - 1
        assert gain[NEW_FAMILY] == pytest.approx(41 / (1 + (81 / 41 - 1) * rho) - before, abs=1e-9)
        assert gain["public0"] == pytest.approx(41 / (1 + (85 / 41 - 1) * rho) - before, abs=1e-9)


def test_probes_are_proposed_where_targets_cannot_be_told_apart_and_the_zoo_accepts_them(public):
    evidence, errors = public
    rows = proposal_rows(evidence, errors, TARGETS, zoo=None, seed=0)
    assert rows["place"].to_list() == [*range(1, PROBES + 1)]
    assert "zero and one cannot be told apart" in rows["reason"][0]
    pages = pl.DataFrame({"page_id": evidence.domains, "domain": evidence.domains, "text": evidence.domains})
    for snippet, mixture in rows.select("snippet", "mixture").iter_rows():
        (run,) = (ZooRun(**entry) for entry in yaml.safe_load(snippet))
        share = json.loads(mixture)
        assert sum(run.mixture.values()) == pytest.approx(sum(share.values()), abs=0.01) == pytest.approx(1, abs=0.01)
        assert run.mixture == pytest.approx({f"site-*/{group}": part for group, part in share.items()}, abs=1e-3)
        texts = texts_by_pattern(pages, [*run.mixture], where=run.run)
        assert sorted(chain.from_iterable(texts.values())) == sorted(evidence.domains)
    # The first ones take apart what always came together.
    first = [json.loads(mixture) for mixture in rows["mixture"][:4]]
    assert any(abs(np.log(share["g0"] / share["g1"])) > 2 for share in first)


def test_a_pool_that_suffices_and_domains_without_groups_get_no_proposal(public):
    rng = np.random.default_rng(1)
    evidence, errors = public
    separate = error_rows(evidence, rng.random((40, 2)))
    assert proposal_rows(evidence, separate, TARGETS, zoo=None, seed=0).is_empty()
    ungrouped = Evidence(**{**vars(evidence), "groups": ("",) * 100})
    assert proposal_rows(ungrouped, errors, TARGETS, zoo=None, seed=0).is_empty()


def test_a_group_is_one_pattern_where_it_can_be_and_its_domains_where_it_cannot():
    assert patterns_of({"a/code": "c", "b/code": "c", "a/prose": "p", "b/prose": "p"}) == {
        "c": {"*/code": 1.0},
        "p": {"*/prose": 1.0},
    }
    # "x1" would match what x1* means, and a bracket is no pattern.
    assert patterns_of({"x1": "g", "x1a": "h", "x[2]": "g"}) == {"g": {"x1": 0.5, "x[[]2]": 0.5}, "h": {"x1a": 1.0}}


def test_estimates_by_kind_are_those_of_the_kind_alone_and_combined_by_their_weights(public):
    evidence, errors = public
    assert kind_rows(evidence, errors, targets=TARGETS, minimum_models=3, estimator="gls", top_share=0.1).is_empty()
    bpb, error, families = TwinWorld().public(np.random.default_rng(0))
    share = ours.propose_probes(bpb, families=families, groups=evidence.groups, probes=6).shares
    probe_bpb, probe_error, probe_families = TwinWorld().probes(share, np.random.default_rng(1))
    both = evidence_of(
        np.vstack([bpb, probe_bpb]),
        [*families, *probe_families],
        ["public"] * 40 + ["probe"] * 6,
    )
    errors = error_rows(both, np.vstack([error, probe_error]))
    rows = kind_rows(both, errors, targets=TARGETS, minimum_models=3, estimator="gls", top_share=0.1)
    assert rows.height == 2 * 3 * 100
    own = rows.filter(pl.col("target") == "zero")
    by_kind = {kind: own.filter(pl.col("kind") == kind) for kind in ("public", "probe", "combined")}
    assert {kind: set(frame["models"]) for kind, frame in by_kind.items()} == {
        "public": {40},
        "probe": {6},
        "combined": {46},
    }
    # Through Fisher's z and back.
    np.testing.assert_allclose(by_kind["public"]["estimate"], ours.gls(bpb, error[:, 0]), rtol=0, atol=1e-12)
    weight = {kind: frame["weight"][0] for kind, frame in by_kind.items()}
    assert weight["public"] + weight["probe"] == pytest.approx(1)
    z = sum(weight[kind] * np.arctanh(by_kind[kind]["estimate"].to_numpy()) for kind in ("public", "probe"))
    np.testing.assert_allclose(by_kind["combined"]["estimate"], np.tanh(z), rtol=0, atol=1e-12)


def scores_of(values: dict[str, np.ndarray], slugs: tuple[str, ...]) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame({"slug": slugs, "task": task, "metric": "m", "value": column}) for task, column in values.items()
    )


def test_a_contrast_target_is_what_the_other_targets_leave(public):
    evidence, errors = public
    wide = errors.pivot("target", index="slug", values="error").sort("slug")
    scores = scores_of({name: wide[name].to_numpy() + 20 for name in TARGETS}, evidence.slugs)
    found = errors_by_target(CONTRAST, scores, evidence, minimum_models=3, missing=[])
    rank = {name: scipy.stats.rankdata(wide[name]) - 20.5 for name in TARGETS}
    slope = (rank["zero"] @ rank["one"]) / (rank["one"] @ rank["one"])
    left = found.filter(pl.col("target") == "zero").sort("slug")["error"]
    np.testing.assert_allclose(left, 2 * (rank["zero"] - slope * rank["one"]), rtol=0, atol=1e-9)
    kept = found.filter(pl.col("target") == "one").sort("slug")["error"]
    np.testing.assert_allclose(kept, wide["one"] + 20, rtol=0, atol=1e-12)


def test_a_contrast_keeps_the_models_that_have_both_and_refuses_too_few(public):
    evidence, errors = public
    values = errors.pivot("target", index="slug", values="error").sort("slug")
    scores = scores_of({name: values[name].to_numpy() + 20 for name in TARGETS}, evidence.slugs)
    scores = scores.filter((pl.col("task") == "zero") | pl.col("slug").is_in(evidence.slugs[:12]))
    found = errors_by_target(CONTRAST, scores, evidence, minimum_models=12, missing=[])
    assert found.filter(pl.col("target") == "zero")["slug"].to_list() == [*evidence.slugs[:12]]
    with pytest.raises(InputError, match="target 'one': 12 models"):
        errors_by_target(CONTRAST, scores, evidence, minimum_models=13, missing=[])
