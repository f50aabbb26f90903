"""What a person sees while the graph runs: bars on a terminal, plain lines elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ppl_assets.orchestration.progress_reports import StepProgress
from ppl_assets.orchestration.runner import Display, Outcome, Task
from ppl_assets.progress import Progress

_SECONDS_BETWEEN_LINES = 5.0
_LOG_WIDTH = 120


def display_for(console: Console) -> "BarDisplay | LineDisplay":
    """Bars where the console is a terminal, lines in a log."""
    return BarDisplay(console) if console.is_terminal else LineDisplay(console)


class LineDisplay(Display):
    """One line per finished task, and one every few seconds for those at work."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[tuple[str, str | None], float] = {}
        self._left = 0

    def __enter__(self) -> "LineDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def level(self, tasks: list[Task]) -> None:
        """Count what is to do."""
        self._left = len(tasks)

    def progress(self, update: StepProgress) -> None:
        """Say how far a task is, seldom enough to be read."""
        key = (update.asset, update.partition)
        now = time.monotonic()
        if now - self._last.setdefault(key, now) < _SECONDS_BETWEEN_LINES:
            return
        self._last[key] = now
        self._console.print(f"  {_name(update)}: {_how_far(update)}", highlight=False, markup=False, soft_wrap=True)

    def finished(self, outcome: Outcome) -> None:
        """Say that a task ended, and how."""
        self._left -= 1
        left = f", {self._left} more in this step" if self._left else ""
        word = "FAILED" if outcome.error else "done"
        line = f"{outcome.task}: {word} in {outcome.seconds:.1f} s{left}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class BarDisplay(Display):
    """A bar for the level of the graph, and one for every task that reports progress."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._level: TaskID | None = None
        self._tasks: dict[tuple[str, str | None], TaskID] = {}

    def __enter__(self) -> "BarDisplay":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def level(self, tasks: list[Task]) -> None:
        """Show one bar for all tasks of the level."""
        names = ", ".join(dict.fromkeys(task.asset for task in tasks))
        self._level = self._bars.add_task(names, total=len(tasks), rate="")

    def progress(self, update: StepProgress) -> None:
        """Move the bar of a task."""
        key = (update.asset, update.partition)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(f"  {_name(update)}", total=update.progress.total, rate="")
        progress = update.progress
        self._bars.update(self._tasks[key], completed=progress.done, total=progress.total, rate=_rate(progress))

    def finished(self, outcome: Outcome) -> None:
        """Take a task's bar away and move the level's."""
        bar = self._tasks.pop((outcome.task.asset, outcome.task.partition), None)
        if bar is not None:
            self._bars.remove_task(bar)
        if self._level is not None:
            self._bars.advance(self._level)


def output_console() -> Console:
    """Where results go; a log or a pipe gets lines wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=_LOG_WIDTH)


def error_console() -> Console:
    """Where errors go."""
    return Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)


def _name(update: StepProgress) -> str:
    return update.asset if update.partition is None else f"{update.asset}[{update.partition}]"


def _how_far(update: StepProgress) -> str:
    progress = update.progress
    total = f" of {progress.total:,}" if progress.total is not None else ""
    left = progress.remaining_seconds
    remaining = f", {left:.0f} s left" if left is not None else ""
    return f"{progress.done:,}{total} {progress.unit}, {_rate(progress)}{remaining}"


def _rate(progress: Progress) -> str:
    share = f" ({progress.share_of_peak:.0%} of peak)" if progress.share_of_peak is not None else ""
    return f"{progress.rate:,.0f} {progress.unit}/s{share}"
