"""What operations cost besides the work: estimating anew, loading the graph, requesting and running many partitions.

    python -m ppl_assets_tests.bench.bench_operations [--domains 10000] [--targets 1] [--partitions 150] [--rounds 3]

Estimating anew: a study of 90 imported models, to which one after the other is added; seconds of each step of
the fan-in, in a worker process, Dagster's run around it included. Loading: a fresh interpreter that imports both code
locations and resolves their graphs. Partitions: tiny models in the real web UI with its daemon and the multiprocess
executor, two runs at a time and one slot for models; one backfill of them all, of which the first `--finished` are
waited for and the rest is cancelled. Writes docs/results/operations.json and .md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

from ppl_assets.orchestration.instance import open_instance, prepare
from ppl_assets.orchestration.runner import run_stale
from ppl_assets.orchestration.status import partition_states
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import Silent, settings_of
from ppl_assets_tests.scored_study import write_scored_study
from ppl_assets_tests.studies import write_many_models
from ppl_assets_tests.web_ui import Server, select_nothing_for_a_moment, serving

RESULTS = Path("docs/results")
MODELS = 90
AIMS = {
    "estimating anew": ("correlation_estimates", 15.0),
    "loading the graph": ("seconds", 3.0),
    "requesting a backfill": ("answered", 10.0),
    "overhead per partition": ("overhead", 6.0),
}
LOAD = """
from ppl_assets import definitions, gpu_definitions
for location in (definitions, gpu_definitions):
    location.defs.resolve_implicit_global_asset_job_def()
"""


def estimating_anew(domains: int, targets: int, rounds: int) -> dict[str, Any]:
    """Seconds of each step that follows an added model; medians over rounds."""
    with tempfile.TemporaryDirectory() as name:
        samples: list[dict[str, float]] = []
        for added in range(rounds + 1):
            settings = settings_of(write_many_models(Path(name), models=MODELS + added, domains=domains, tasks=targets))
            outcomes = run_stale(settings, select=["correlation_estimates", "signal_gate"], display=Silent())
            failed = [outcome.error for outcome in outcomes if outcome.error]
            assert failed == []
            samples.append({outcome.task.asset: outcome.seconds for outcome in outcomes})
    later = samples[1:]
    return {asset: median(sample[asset] for sample in later) for asset in later[0]}


def loading_the_graph(rounds: int) -> dict[str, float]:
    """Seconds of a fresh process that loads both code locations, and processor seconds, as medians."""
    wall, processor = [], []
    for _ in range(rounds + 1):
        before, began = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", LOAD], check=True)
        after = os.times()
        wall.append(time.perf_counter() - began)
        processor.append(after.children_user - before.children_user + after.children_system - before.children_system)
    # The first one may have to write bytecode.
    return {"seconds": median(wall[1:]), "processor seconds": median(processor[1:])}


def many_partitions(partitions: int, finished: int) -> dict[str, dict[str, float]]:
    """A backfill of tiny models under the web UI: what its request and each of its partitions cost besides the work."""
    with tempfile.TemporaryDirectory() as name:
        models = tuple(f"model-{number:03d}" for number in range(partitions))
        settings = settings_of(write_scored_study(Path(name) / "study", models))
        # One worker: the pool of models has one slot, as with one GPU.
        run_stale(settings, select=["corpus_chunks", "model_registry"], display=Silent(), workers=1)
        prepare(settings)
        began = time.perf_counter()
        with open_instance() as instance:
            states = partition_states(Workspace(settings), instance)
        looked = time.perf_counter() - began
        assert sum(each.partition is not None for each in states) == 3 * partitions
        with serving(settings) as server:
            began = time.perf_counter()
            backfill = server.launch_backfill(["chunk_logliks"], list(models))
            answered = time.perf_counter() - began
            queued = _seconds_until(server, backfill, lambda runs: len(runs) == partitions, began)
            _seconds_until(server, backfill, lambda runs: len(_ended(runs)) >= finished, began)
            runs = _ended(server.runs_of_backfill(backfill))
            server.cancel_backfill(backfill)
        assert {run["status"] for run in runs} == {"SUCCESS"}
        return {
            "status of all partitions": {"seconds": looked},
            "requesting a backfill": {"answered": answered, "all runs queued": queued},
            "overhead per partition": _overhead(settings, runs),
        }


def _seconds_until(server: Server, backfill: str, reached: Any, began: float) -> float:
    while not reached(server.runs_of_backfill(backfill)):
        select_nothing_for_a_moment()
    return time.perf_counter() - began


def _ended(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((run for run in runs if run["endTime"]), key=lambda run: run["endTime"])


def _overhead(settings: Settings, runs: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds from one finished partition to the next, less its own work, while one after the other has the only slot.

    The first runs, which find the code servers cold, are left out.
    """
    lake = Workspace(settings).lake
    own = {run["runId"]: lake.footer("chunk_logliks", run["tag"]["dagster/partition"]).cost["seconds"] for run in runs}
    cold = len(runs) // 4
    warm = runs[cold:]
    work = mean(own[run["runId"]] for run in warm)
    apart = (warm[-1]["endTime"] - runs[cold - 1]["endTime"]) / len(warm)
    return {"overhead": apart - work, "own work": work}


def machine() -> dict[str, Any]:
    """What figures depend on."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "cpu": cpu.split(": ")[1],
        "cores": os.cpu_count(),
        "load average before": os.getloadavg()[0],
        "python": platform.python_version(),
        "dagster": version("dagster"),
    }


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Operations: what they cost besides the work", ""]
    lines += [
        "Written by `python -m ppl_assets_tests.bench.bench_operations`, whose docstring says how it measures.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in results["machine"].items()]
    lines += [f"- {name}: {value}" for name, value in results["sizes"].items()]
    lines += ["", "| what | seconds | aim |", "| --- | --- | --- |"]
    for what, figures in results["found"].items():
        wanted, aim = AIMS.get(what, ("", 0.0))
        for name, value in figures.items():
            stated = f"at most {aim:g}" if name == wanted else ""
            lines.append(f"| {what}: {name} | {value:.3g} | {stated} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the results, from the repository's root."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=int, default=10_000)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=150)
    parser.add_argument("--finished", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    before = machine()
    found = {"estimating anew": estimating_anew(options.domains, options.targets, options.rounds)}
    found |= {"loading the graph": loading_the_graph(options.rounds)}
    found |= many_partitions(options.partitions, options.finished)
    sizes = {
        "models x domains x targets": f"{MODELS} + 1 x {options.domains:,} x {options.targets}",
        "partitions": options.partitions,
        "rounds": options.rounds,
    }
    results = {"machine": before | {"load average after": os.getloadavg()[0]}, "sizes": sizes, "found": found}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "operations.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.results / "operations.md").write_text(page(results))


if __name__ == "__main__":
    main()
