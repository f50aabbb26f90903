"""Which executor runs the GPU code location, and what takes its assets to a GPU under any of them.

``PPL_GPU_EXECUTOR`` names the executor, ``PPL_GPU_EXECUTOR_CONFIG`` a YAML file with its settings under
``execution: config:``, the form that Dagster's launchpad and ``dagster-celery worker start`` read as well. Engines that
are extras are imported when they are chosen.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from ppl_assets.errors import InputError, suggestion
from ppl_assets.settings import EXECUTOR_CONFIG_VARIABLE, EXECUTOR_VARIABLE, Settings

# One GPU per step. Each engine reads its own tag and passes over the others; in the processes of one host the pool
# alone limits, and `claimed_device` (hardware.py) shares out.
GPU_OPTIONS: dict[str, Any] = {
    "pool": "gpu",
    "op_tags": {
        "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
        "dagster-celery/queue": "gpu",
        "dagster-ray/config": {"num_gpus": 1},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine:
    """Where an executor is defined, the extra that installs it, and its settings where none are given."""

    module: str
    name: str
    extra: str = ""
    config: dict[str, Any] | None = None


_ENGINES = {
    "in_process": _Engine(module="dagster", name="in_process_executor"),
    # Forked off a server that has imported Dagster and no more, a step ends as soon as its work does. A spawned one
    # first takes torch and transformers apart, module by module: a second and a half of a processor.
    "multiprocess": _Engine(
        module="dagster",
        name="multiprocess_executor",
        config={"start_method": {"forkserver": {"preload_modules": ["dagster"]}}},
    ),
    "k8s": _Engine(module="dagster_k8s", name="k8s_job_executor", extra="k8s"),
    "celery": _Engine(module="dagster_celery", name="celery_executor", extra="celery"),
    # Unset, its section would be an error; empty, the address is that of RAY_ADDRESS.
    "ray": _Engine(module="dagster_ray", name="ray_executor", extra="ray", config={"ray": {}}),
}


def gpu_executor() -> dg.ExecutorDefinition:
    """The executor that ``PPL_GPU_EXECUTOR`` names; ``multiprocess`` by default, a fresh process per step.

    Raises:
        InputError: the variable names no executor or one that is not installed, or its settings cannot be read.
    """
    settings = Settings.from_environment()
    if settings.gpu_executor not in _ENGINES:
        raise InputError(
            f"{EXECUTOR_VARIABLE}: found {settings.gpu_executor!r}, expected one of {sorted(_ENGINES)}"
            f"{suggestion(settings.gpu_executor, _ENGINES)}"
        )
    engine = _ENGINES[settings.gpu_executor]
    config = engine.config if settings.gpu_executor_config is None else _read(settings.gpu_executor_config)
    executor: dg.ExecutorDefinition = getattr(_import(settings.gpu_executor, engine), engine.name)
    return executor if config is None else executor.configured(config)


def _import(chosen: str, engine: _Engine) -> Any:
    try:
        return importlib.import_module(engine.module)
    except ImportError as error:
        raise InputError(
            f"{EXECUTOR_VARIABLE}: found {chosen!r}, but {error.name or engine.module} is not installed; "
            f"expected the extra: pip install 'ppl-assets[{engine.extra}]'"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))["execution"]["config"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(
            f"{EXECUTOR_CONFIG_VARIABLE}: {path} cannot be read ({error}); "
            "expected a YAML file with the executor's settings under execution: config:"
        ) from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: found {config!r} under execution: config:, expected settings by name")
    return config
