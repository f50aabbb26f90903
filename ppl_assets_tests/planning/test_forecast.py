"""Forecasts against arithmetic made by hand, and against what the embedded studies state."""

import pytest

from ppl_assets.errors import InputError
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.planning.devices import device_named
from ppl_assets.planning.forecast import EVALUATION, SCORING, TRAINING, Situation, plan, questions_of
from ppl_assets.planning.plan_text import duration, plan_lines
from ppl_assets.planning.rehearsal import Line, rehearse
from ppl_assets.planning.situation import plan_of, situation_of, text_of
from ppl_assets.planning.text import expected_text, sampled_text, stored_text
from ppl_assets.retired import Retired
from ppl_assets.settings import Settings
from ppl_assets.study import load_study
from ppl_assets.training.train import build_model, parameters_of
from ppl_assets_tests.studies import write_text_study


@pytest.fixture
def paper(tmp_path) -> Workspace:
    return Workspace(Settings(state=tmp_path / "state", study="paper"))


def test_the_papers_scoring_takes_some_160_hours_of_an_h200(paper):
    """0.72 million chunks, 370 million tokens and 315 billion parameters in sum, at 400 TFLOP/s: 160 hours."""
    found = plan_of(paper, "h200")
    assert 80 < found.seconds(SCORING) / 3600 < 320
    assert sum(item.asset == SCORING for item in found.items) == 90
    text = "\n".join(plan_lines(found, workers=2))
    for stated in ("9,841 domains of 25 pages", "40% of the 989 TFLOP/s", "do not state their parameters", "no price"):
        assert stated in text
    assert not (paper.settings.state).exists()


def test_operations_are_parameters_times_tokens(paper):
    situation = Situation(study=paper.study, params={"small": 1e9, "unknown": None, "large": 3e9}, done={})
    text = expected_text(paper.study)
    found = plan(situation, text, device_named("h100"), {})
    scoring = {item.partition: item for item in found.items if item.asset == SCORING}
    assert text.tokens == 9841 * 25 * 1500
    assert scoring["small"].flops == 2 * 1e9 * text.tokens
    assert scoring["unknown"].flops == 2 * 2e9 * text.tokens  # the median of the others
    assert scoring["large"].seconds == pytest.approx(2 * 3e9 * text.tokens / (0.4 * 989e12), rel=1e-12)


def test_what_is_done_is_paid_for_and_not_planned_again(paper):
    params = {"one": 1e9, "two": 1e9}
    situation = Situation(study=paper.study, params=params, done={(SCORING, "one"): 90.0})
    found = plan(situation, expected_text(paper.study), device_named("h200"), {})
    to_do = [item.partition for item in found.items if item.asset == SCORING and not item.done]
    assert to_do == ["two"]
    assert "scoring: 1 of 2 to do" in (text := "\n".join(plan_lines(found, workers=1)))
    assert "paid for already: 90 s" in text


@pytest.mark.parametrize(("items", "limit", "asked"), [(5000, None, 5000), (5000, 5000, 5000), (5000, 100, 100)])
def test_all_questions_of_a_built_task_are_asked_up_to_the_limit(items, limit, asked):
    """2,000 stands for tasks whose questions nobody has counted."""
    study = load_study("demo")
    built = tuple(task.model_copy(update={"items": items}) for task in study.benchmarks.build)
    benchmarks = study.benchmarks.model_copy(update={"build": built, "limit": limit})
    questions, tokens = questions_of(study.model_copy(update={"benchmarks": benchmarks}))
    assert questions == asked * len(built)
    fewer, their_tokens = questions_of(study)
    assert tokens / questions == pytest.approx(their_tokens / fewer, rel=1e-12)


def test_hours_have_the_studys_price(paper):
    prices = paper.study.prices.model_copy(update={"gpu_hour": 4.0, "currency": "EUR"})
    study = paper.study.model_copy(update={"prices": prices})
    found = plan(Situation(study=study, params={"one": 7e9}, done={}), expected_text(study), device_named("h200"), {})
    assert found.cost(7200) == 8.0
    assert "EUR" in "\n".join(plan_lines(found, workers=1))


def test_imported_models_cost_nothing(import_study, tmp_path):
    workspace = Workspace(Settings(state=tmp_path / "state", study=str(import_study)))
    situation = situation_of(workspace)
    assert plan(situation, text_of(workspace), device_named("h100"), {}).items == ()


def test_a_source_that_nobody_can_size_is_told_with_the_remedy(paper):
    corpus = paper.study.corpus.model_copy(update={"expected": None})
    with pytest.raises(InputError, match=r"expected its size in corpus\.expected"):
        expected_text(paper.study.model_copy(update={"corpus": corpus}))
    with pytest.raises(InputError, match="did you mean 'h100'"):
        device_named("h1000")


def test_parameters_are_those_of_the_model_that_would_be_built():
    study = load_study("demo")
    for architecture in study.zoo.architectures.values():
        built = build_model(architecture, vocabulary=1024, context_tokens=256)
        assert parameters_of(architecture, vocabulary=1024, context_tokens=256) == sum(
            parameter.numel() for parameter in built.parameters()
        )


def test_a_line_goes_through_both_measurements_and_never_falls():
    line = Line.through((2, 5.0), (6, 7.0))
    assert (line.fixed, line.each) == (4.0, 0.5)
    assert (line.at(2), line.at(6)) == (5.0, 7.0)
    noisy = Line.through((2, 5.0), (6, 4.0))
    assert noisy.each == 0.0


def test_a_pool_is_rehearsed_on_the_text_that_a_run_would_sample(tmp_path):
    study = load_study(str(write_text_study(tmp_path)))
    text = sampled_text(study, Retired())
    again = stored_text(text.rows, text.pages)
    assert (again.chunks, again.tokens) == (text.chunks, text.tokens) == (text.rows.height, text.rows["tokens"].sum())
    rehearsed = rehearse(study, text.pages, text.rows, processes=2)
    (kind,) = rehearsed.values()
    assert list(rehearsed) == [("tiny", "llama")]
    assert kind.evaluation.at(10) > 0
    assert kind.training.at(40) > 0
    # 400 entries make tokens of one to two bytes; a reference token is four.
    assert 1.5 < kind.tokens_per_reference < 4
    params = dict.fromkeys(study.zoo_slugs(), 100_000.0)
    found = plan(Situation(study=study, params=params, done={}), text, device_named("here"), rehearsed)
    assert found.seconds(TRAINING) == pytest.approx(4 * kind.training.at(40), rel=1e-12)
    assert found.seconds(SCORING) == pytest.approx(12 * kind.scoring.at(text.tokens), rel=1e-12)
    assert found.seconds(EVALUATION) == pytest.approx(12 * kind.evaluation.at(24), rel=1e-12)


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (600, "10.0 min"), (7300, "2.0 h"), (4.5e6, "1,250.0 h")]
)
def test_durations_are_worded(seconds, text):
    assert duration(seconds) == text
