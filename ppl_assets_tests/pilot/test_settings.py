"""The pilot's part of the study: presets, defaults, and what is refused with a sentence."""

from pathlib import Path

import pytest
import torch

from ppl_assets.errors import InputError
from ppl_assets.study import parse_study
from ppl_assets.study.schema import PilotSize
from ppl_assets.training.train import build_model
from ppl_assets_tests.pilot.studies import STUDY, study


def test_the_preset_160m_is_pythia_160m_by_parameters_and_the_papers_training():
    size = PilotSize.model_validate({"preset": "160m"})
    with torch.device("meta"):
        model = build_model(size.architecture, vocabulary=50304, context_tokens=1024, tie_embeddings=False)
    # As EleutherAI states it: 162,322,944 parameters, of which 85,056,000 are no embeddings.
    assert sum(parameter.numel() for parameter in model.parameters()) == 162_322_944
    assert model.config.rope_parameters["partial_rotary_factor"] == 0.25
    assert model.config.use_parallel_residual
    assert size.context_tokens == 1024
    assert size.batch_sequences * size.context_tokens * size.steps == size.trained_tokens
    assert 0 <= 3_200_000_000 - size.trained_tokens < size.batch_sequences * size.context_tokens


def test_what_the_study_states_wins_over_the_preset():
    size = PilotSize.model_validate({"preset": "160m", "learning_rate": 1e-3})
    assert (size.learning_rate, size.batch_sequences) == (1e-3, 512)


def test_defaults_are_the_filters_arms_and_all_targets():
    assert study().pilot_arms == ["ours", "uniform", "dsir", "rules"]
    assert study().pilot_targets == ["code", "prose"]
    assert study("").pilot_arms == study("").pilot_targets == []


@pytest.mark.parametrize(
    ("pilot", "sentence"),
    [
        ("sizes: {tiny: {}}, arms: [ours, mean_loss, uniform]", "pilot.arms names 'mean_loss', expected one of"),
        ("sizes: {tiny: {}}, arms: [ours, dsir]", "pilot.arms lacks 'uniform'"),
        ("sizes: {tiny: {}}, targets: [maths]", "pilot.targets names 'maths'"),
        ("sizes: {tiny: {}}, seeds: [1, 1]", "duplicate seed 1"),
        ("sizes: {tiny: {}}, seeds: []", "seeds"),
        ("sizes: {}", "sizes"),
        ("sizes: {tiny: {preset: huge}}", "found 'huge', expected"),
        ("sizes: {tiny: {budget_tokens: 10}}", "budget_tokens 10 is below one step"),
        ("sizes: {tiny: {device_sequences: 3}}", "batch_sequences 4 is no multiple of device_sequences 3"),
        ("sizes: {tiny: {learning_rate: 0}}", "learning_rate"),
        ("sizes: {tiny: {tokens: 3}}", "tokens: unknown key"),
    ],
)
def test_a_pilot_that_cannot_be_is_refused_with_its_field(pilot, sentence):
    with pytest.raises(InputError, match=sentence.replace("[", r"\[")):
        study(f"pilot: {{{pilot}}}\n")


def test_a_pilot_needs_a_filter_training_pages_and_bpb_tasks_to_decide_on():
    pilot = "pilot: {sizes: {tiny: {}}, decide_on: bpb}\n"
    for before, after, sentence in (
        ("filter: {arms: [ours, uniform, dsir, rules]}\n", "", "a pilot needs a filter"),
        ("training: {share: 0.6", "benchmark: {share: 0.6", "training.share above 0: it is measured on scoring pages"),
        (
            "prose_cost, metric: bits_per_byte, kind: bpb",
            "prose_cost, metric: acc, kind: accuracy",
            "'prose' has no task",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            parse_study(STUDY.replace(before, after) + pilot, where="study", folder=Path())
