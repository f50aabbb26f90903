"""Which executor runs the GPU code location: chosen by one environment variable."""

import os

import dagster as dg

from ppl_assets.errors import InputError, suggestion

EXECUTOR_VARIABLE = "PPL_GPU_EXECUTOR"


def gpu_executor() -> dg.ExecutorDefinition:
    """The executor that ``PPL_GPU_EXECUTOR`` names; ``multiprocess`` by default, a fresh process per step.

    Raises:
        InputError: the variable names no executor.
    """
    executors = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}
    name = os.environ.get(EXECUTOR_VARIABLE) or "multiprocess"
    if name not in executors:
        raise InputError(
            f"{EXECUTOR_VARIABLE}: found {name!r}, expected one of {sorted(executors)}{suggestion(name, executors)}"
        )
    return executors[name]
