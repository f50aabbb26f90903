"""Where a step's progress goes: to Dagster, throttled, and to the command line that started it, if one did."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from ppl_assets.progress import Progress, Report

# One event-log row each, and the event log is SQLite: a row every ten seconds is enough to follow a step.
_SECONDS_BETWEEN_EVENTS = 10.0


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Progress of one asset's step, as it travels to the command line."""

    asset: str
    partition: str | None
    progress: Progress


class _Listener:
    """The one listener of this process; a worker of the command line sets it."""

    send: Callable[[StepProgress], None] | None = None


def listen(send: Callable[[StepProgress], None] | None) -> None:
    """Send every progress of steps that run in this process to `send`."""
    _Listener.send = send


def report_to(context: dg.AssetExecutionContext, asset: str, partition: str | None) -> Report:
    """A progress callback for one step: observations in Dagster, and the command line's bars."""
    last = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        if _Listener.send is not None:
            _Listener.send(StepProgress(asset, partition, progress))
        if time.monotonic() - last < _SECONDS_BETWEEN_EVENTS:
            return
        last = time.monotonic()
        metadata = {"done": progress.done, f"{progress.unit}_per_second": progress.rate}
        if progress.total is not None and progress.remaining_seconds is not None:
            metadata |= {"total": progress.total, "remaining_seconds": progress.remaining_seconds}
        if progress.share_of_peak is not None:
            metadata["share_of_peak"] = progress.share_of_peak
        context.log_event(dg.AssetObservation(asset_key=asset, partition=partition, metadata=metadata))

    return report
