"""Time and size of the report of a finished state: all that `selection_report` does, in a process of its own.

Run: python -m ppl_assets_tests.bench.bench_report --study STUDY --state STATE [--rounds 5]

A round begins with an interpreter that has loaded nothing: it opens the workspace, reads every table, renders the page
and draws the pictures. Printed are medians over rounds by the clock and of the processor, and the size of the page. The
state is read and nothing in it is written.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ppl_assets.settings import Settings


def build(settings: Settings) -> dict[str, float]:
    """The report once: bytes of the page and of all pictures, processor seconds of this process since it began."""
    from ppl_assets.orchestration.workspace import Workspace
    from ppl_assets.report import png_plots, render
    from ppl_assets.report.tables import report_data

    data = report_data(Workspace(settings))
    page, pictures = render(data).encode(), png_plots(data)
    return {
        "page": len(page),
        "pictures": sum(map(len, pictures.values())),
        "pictures drawn": len(pictures),
        "processor": time.process_time(),
    }


def measured(settings: Settings) -> dict[str, float]:
    """`build` in a new process, with its wall time, start included."""
    where = ["--study", settings.study, "--state", str(settings.state)]
    began = time.monotonic()
    command = [sys.executable, "-m", "ppl_assets_tests.bench.bench_report", *where, "--child"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {**found, "wall": time.monotonic() - began}


def main() -> None:
    """Medians over rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    settings = Settings(state=options.state.absolute(), study=options.study)
    if options.child:
        sys.stdout.write(json.dumps(build(settings)))
        return
    rounds = [measured(settings) for _ in range(options.rounds)]
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    sys.stdout.write(
        f"page {median['page'] / 1e6:.2f} MB; {median['pictures drawn']:.0f} pictures of "
        f"{median['pictures'] / 1e6:.2f} MB together; {median['wall']:.1f} s by the clock, "
        f"{median['processor']:.1f} s of the processor; load average {os.getloadavg()[0]:.1f}\n"
    )


if __name__ == "__main__":
    main()
