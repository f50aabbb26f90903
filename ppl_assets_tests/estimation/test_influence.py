"""Estimates with a family left out: what they would have been, computed without the code that is tested."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata, spearmanr

from ppl_assets.errors import InputError
from ppl_assets.estimation.evidence import Evidence
from ppl_assets.estimation.influence import Influence, family_influence, without_family
from ppl_assets.study.schema import Target, TargetTask

FAMILIES = ("a", "a", "a", "b", "b", "b", "c", "c", "d", "d")


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(3)
    return Evidence(
        slugs=tuple(f"m{index}" for index in range(len(FAMILIES))),
        families=FAMILIES,
        kinds=("public",) * len(FAMILIES),
        params_M=np.full(len(FAMILIES), np.nan),
        domains=("x", "y", "z"),
        groups=("", "", ""),
        bpb_MD=rng.normal(1, 0.1, (len(FAMILIES), 3)),
        error_M=np.full(len(FAMILIES), np.nan),
    )


def scores_of(evidence: Evidence, **tasks: np.ndarray) -> pl.DataFrame:
    rows = [
        {"slug": slug, "task": task, "metric": "m", "value": float(value)}
        for task, values in tasks.items()
        for slug, value in zip(evidence.slugs, values, strict=True)
    ]
    return pl.DataFrame(rows)


def target_of(*tasks: str) -> Target:
    return Target(tasks=tuple(TargetTask(task=task, metric="m", kind="bpb") for task in tasks))


def influence_of(evidence: Evidence, tasks: dict[str, np.ndarray], targets: dict[str, Target]) -> Influence:
    """Influence of families on the estimates of target `t`, by Spearman."""
    scores = scores_of(evidence, **tasks)
    return family_influence(evidence, scores, name="t", targets=targets, minimum_models=3, estimator="spearmanr")


def test_an_estimate_without_a_family_is_scipys_over_the_other_models(evidence):
    error = np.random.default_rng(4).normal(size=len(FAMILIES))
    found = influence_of(evidence, {"t": error}, {"t": target_of("t")})
    assert found.families == ("a", "b", "c", "d")
    for row, family in enumerate(found.families):
        kept = [index for index, name in enumerate(FAMILIES) if name != family]
        by_hand = [spearmanr(evidence.bpb_MD[kept, column], error[kept]).statistic for column in range(3)]
        assert found.left_out_FD[row] == pytest.approx(by_hand, abs=1e-12)
    change = np.abs(found.left_out_FD - found.estimate_D)
    assert list(found.strongest_D) == list(change.argmax(axis=0))


def test_errors_of_several_tasks_are_standardised_over_the_models_that_are_left(evidence):
    """An outlier in family a stretches one task's scale; without it the task counts as much as the other again."""
    rng = np.random.default_rng(5)
    one, two = rng.normal(size=(2, len(FAMILIES)))
    one[0] = 50.0
    found = influence_of(evidence, {"one": one, "two": two}, {"t": target_of("one", "two")})
    kept = np.array([family != "a" for family in FAMILIES])
    standard = [(task[kept] - task[kept].mean()) / task[kept].std() for task in (one, two)]
    expected = spearmanr(evidence.bpb_MD[kept, 1], sum(standard)).statistic
    assert found.left_out_FD[0, 1] == pytest.approx(expected, abs=1e-12)


def test_a_contrast_without_a_family_is_what_the_other_models_ranks_leave(evidence):
    """`t` less `u`, which is a contrast to `t` in its turn: taken out of `t` is what `u` was before."""
    tasks = dict(zip("tu", np.random.default_rng(9).normal(size=(2, len(FAMILIES))), strict=True))
    targets = {
        name: target_of(name).model_copy(update={"contrast_to": other})
        for name, other in {"t": ("u",), "u": ("t",)}.items()
    }
    found = influence_of(evidence, tasks, targets)
    for row, family in enumerate(found.families):
        kept = [index for index, name in enumerate(FAMILIES) if name != family]
        t, u = (rankdata(tasks[name][kept]) - (len(kept) + 1) / 2 for name in "tu")
        left = t - (t @ u) / (u @ u) * u
        by_hand = [spearmanr(evidence.bpb_MD[kept, column], left).statistic for column in range(3)]
        assert found.left_out_FD[row] == pytest.approx(by_hand, abs=1e-12)


def test_where_nothing_can_be_estimated_without_a_family_no_family_is_called_the_strongest(evidence):
    """All models but one family's have the same score: without that family the task no longer varies."""
    constant = np.where(np.array(FAMILIES) == "a", np.arange(len(FAMILIES), dtype=float), 0.5)
    other = np.random.default_rng(6).normal(size=len(FAMILIES))
    found = influence_of(evidence, {"one": constant, "two": other}, {"t": target_of("one", "two")})
    assert np.isnan(found.left_out_FD[0]).all()
    assert 0 not in found.strongest_D


def test_an_unknown_family_is_refused_with_those_that_exist(evidence):
    with pytest.raises(InputError, match="family 'e' has no model in this study; expected one of a, b, c, d"):
        without_family(evidence, "e")
