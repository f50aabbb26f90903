"""A model that hangs in a real step: stopped at its time limit, while another is scored and the fan-in is made."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ppl_assets.orchestration.workspace import Workspace
from ppl_assets_tests.faults.invariants import assert_nothing_is_half_written
from ppl_assets_tests.orchestration.test_runner import run, settings_of
from ppl_assets_tests.scored_study import MODELS, add_model, write_scored_study

pytestmark = pytest.mark.slow

CODE = '''\
"""A model whose forward pass never ends."""
import threading
from transformers import GPT2LMHeadModel

class Hanging(GPT2LMHeadModel):
    def forward(self, *_, **__):
        threading.Event().wait()
'''


def add_hanging_model(study: Path) -> None:
    """A model with code of its own, which the study allows."""
    add_model(study, "hanging")
    folder = study.parent / "hanging"
    (folder / "hanging.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "hanging.Hanging"}}
    (folder / "config.json").write_text(json.dumps(config))
    study.write_text(study.read_text().replace("source: hanging}", "source: hanging, trust_remote_code: true}"))


def test_a_model_that_hangs_is_stopped_at_its_time_limit_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    study = write_scored_study(tmp_path, known="")
    began = time.monotonic()
    assert not any(outcome.error for outcome in run(settings_of(study), workers=2))
    # Twice as long as everything for four models: on a machine however busy, more than a partition of one takes.
    seconds = 2 * round(time.monotonic() - began)
    add_hanging_model(study)
    add_model(study, "other")
    settings = replace(settings_of(study), partition_seconds=seconds)
    outcomes = {str(outcome.task): outcome for outcome in run(settings, workers=2)}
    hanging = {"chunk_logliks[hanging]", "benchmark_scores[hanging]"}
    said = f"was stopped after {seconds} s, the time limit of a partition"
    failed = {name: outcome.error for name, outcome in outcomes.items() if outcome.error}
    assert failed == {name: f"{name}: {said}" for name in hanging}
    assert "domain_logliks[hanging]" not in outcomes, "what needs it waits"
    assert {"chunk_logliks[other]", "benchmark_scores[other]", "correlation_estimates"} <= outcomes.keys()
    assert set(Workspace(settings).present("domain_logliks")) == {*MODELS, "other"}
    assert_nothing_is_half_written(settings)
