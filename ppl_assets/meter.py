"""What a step takes: wall time, time of the device, most memory. Read from the operating system, not estimated.

Device seconds are the processor time of this process and of the processes that it waited for; on a GPU they are the
wall time, since the step holds the device for as long. The peak of memory is that of the process on a CPU, what it
held before the step included, and what tensors took on a GPU.
"""

import math
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # proc(5): writing 5 to clear_refs sets the peak of resident memory to what is resident now


class Clock:
    """Reads the time that was taken since it was made."""

    def __init__(self) -> None:
        self._began, self._processor = time.monotonic(), _processor_seconds()

    def read(self, device: str) -> dict[str, Any]:
        """Columns `seconds`, `device` and `device_seconds` of ``cost_ledger``."""
        seconds = time.monotonic() - self._began
        return {
            "seconds": seconds,
            "device": device.partition(":")[0],
            "device_seconds": _processor_seconds() - self._processor if device == "cpu" else seconds,
        }


class Meter:
    """Reads what was taken since it was made: time, and most memory."""

    def __init__(self) -> None:
        self._clock = Clock()
        _reset_peak()

    def read(self, device: str) -> dict[str, Any]:
        """Columns `seconds`, `device`, `device_seconds` and `peak_bytes` of ``cost_ledger``."""
        peak = _peak_resident() if device == "cpu" else _peak_on(device)
        return self._clock.read(device) | {"peak_bytes": peak}


def total_time(readings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Readings of clocks as one: sums, and the device on which most of the seconds were spent."""
    of_device: dict[str, float] = {}
    for reading in readings:
        of_device[reading["device"]] = of_device.get(reading["device"], 0.0) + reading["seconds"]
    return {
        "seconds": math.fsum(reading["seconds"] for reading in readings),
        "device": max(of_device, key=lambda name: of_device[name]),
        "device_seconds": math.fsum(reading["device_seconds"] for reading in readings),
    }


def _processor_seconds() -> float:
    user, system, of_children, system_of_children, _ = os.times()
    return user + system + of_children + system_of_children


def _reset_peak() -> None:
    """Where the kernel has no such file, the peak stays that of the whole process."""
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return


def _peak_resident() -> int:
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _peak_on(device: str) -> int:
    """Most bytes of tensors since the last reading."""
    import torch

    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return int(peak)
