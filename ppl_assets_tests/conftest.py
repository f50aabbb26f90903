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
# Why a test may be skipped where the continuous integration runs (published data that is not ours to ship, a file
# system that cannot be made); any other reason fails it.
_EXPECTED_SKIPS = ("not at hand", "is absent", "not on this machine", "no published", "tmpfs cannot be mounted")
# What a user may have set.
_OF_A_USER = (
    "PPL_STATE_DIR",
    "PPL_STUDY",
    "PPL_LAKE",
    "PPL_GPU_EXECUTOR",
    "PPL_GPU_EXECUTOR_CONFIG",
    "DAGSTER_HOME",
)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """With CI set, a skip that nobody expected is a failure: a check that did not run has not passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if "CI" not in os.environ or reporter is None:
        return
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    unexpected = [reason for reason in reasons if not any(known in reason for known in _EXPECTED_SKIPS)]
    if unexpected:
        reporter.write_line(f"skipped without an expected reason: {unexpected[0]}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """What tests recorded beside passing, such as how many processes were killed."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties if report.when == "call" else ():
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No test sees this machine's study, state or Dagster home."""
    for variable in _OF_A_USER:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def import_study(tmp_path) -> Path:
    """A study file of imported losses and scores: 12 models in 6 families, 8 domains, 2 targets."""
    return write_import_study(tmp_path)
