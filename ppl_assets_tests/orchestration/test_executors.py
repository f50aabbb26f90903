"""The executor of the GPU code location: chosen by name, with settings from a file, or refused with a reason."""

import json
import subprocess
import sys

import dagster as dg
import pytest

from ppl_assets import gpu_definitions
from ppl_assets.errors import InputError
from ppl_assets.orchestration.executors import gpu_executor


@pytest.mark.parametrize("name", ["in_process", "multiprocess"])
def test_the_variable_names_it(name, monkeypatch):
    monkeypatch.setenv("PPL_GPU_EXECUTOR", name)
    assert gpu_executor().name == name


def test_without_the_variable_each_step_has_a_process_that_is_forked_off_a_server():
    assert gpu_executor().name == dg.multiprocess_executor.name
    resolved = gpu_executor().apply_config_mapping({"config": {}})
    assert resolved.value["config"]["start_method"] == {"forkserver": {"preload_modules": ["dagster"]}}


def test_the_server_that_steps_are_forked_off_has_one_thread():
    """What polars or BLAS would have started in it would be missing in the steps."""
    code = "import dagster, dagster._core.executor.multiprocess, os; print(len(os.listdir('/proc/self/task')))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "1"


def test_a_name_that_is_none_is_told_with_the_nearest_one(monkeypatch):
    monkeypatch.setenv("PPL_GPU_EXECUTOR", "multiproces")
    with pytest.raises(InputError, match=r"PPL_GPU_EXECUTOR: found 'multiproces', expected one of .*'multiprocess'"):
        gpu_executor()


@pytest.mark.parametrize(
    ("name", "module"), [("k8s", "dagster_k8s"), ("celery", "dagster_celery"), ("ray", "dagster_ray")]
)
def test_an_engine_that_is_not_installed_is_told_with_its_extra(name, module, monkeypatch):
    monkeypatch.setenv("PPL_GPU_EXECUTOR", name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"found '{name}', but {module} is not installed.*ppl-assets\[{name}\]"):
        gpu_executor()


def test_its_settings_come_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "executor.yaml"
    path.write_text("execution: {config: {max_concurrent: 3}}")
    monkeypatch.setenv("PPL_GPU_EXECUTOR_CONFIG", str(path))
    resolved = gpu_executor().apply_config_mapping({"config": {}})
    assert resolved.value["config"]["max_concurrent"] == 3


@pytest.mark.parametrize(
    "content", [None, "execution: {", "executor: {}", "execution: {config: 3}", "execution:\n  - config"]
)
def test_a_file_without_settings_is_refused_by_name(content, tmp_path, monkeypatch):
    path = tmp_path / "executor.yaml"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("PPL_GPU_EXECUTOR_CONFIG", str(path))
    with pytest.raises(InputError, match=r"executor\.yaml"):
        gpu_executor()


def test_every_gpu_asset_carries_the_tags_of_every_engine():
    for asset in gpu_definitions.ASSETS:
        tags = {name: _parsed(value) for name, value in asset.op.tags.items()}
        assert tags["dagster-k8s/config"] == {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}
        assert tags["dagster-celery/queue"] == "gpu"
        assert tags["dagster-ray/config"] == {"num_gpus": 1}


def _parsed(value: object) -> object:
    """A tag as the engine reads it: Dagster keeps what is no text as JSON."""
    try:
        return json.loads(str(value))
    except ValueError:
        return value
