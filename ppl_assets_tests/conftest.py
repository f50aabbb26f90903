"""What every test shares: Dagster without telemetry, a state of its own, and a study that runs in seconds."""

import os
from pathlib import Path

import hypothesis
import pytest

from ppl_assets_tests.studies import write_import_study

# Read when huggingface_hub is imported, which test modules do: no test waits for a hub that it cannot reach.
os.environ["HF_HUB_OFFLINE"] = "1"
# No test measures time, and no example is slow for a reason of its own on a busy machine.
hypothesis.settings.register_profile("without a clock", deadline=None)
hypothesis.settings.load_profile("without a clock")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No test sees this machine's study, state or Dagster home."""
    for variable in ("PPL_STATE_DIR", "PPL_STUDY", "DAGSTER_HOME", "PPL_GPU_EXECUTOR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def import_study(tmp_path) -> Path:
    """A study file of imported losses and scores: 12 models in 6 families, 8 domains, 2 targets."""
    return write_import_study(tmp_path)
