"""The engines that steps can run on, each for real on this machine, with the settings that docs/executors.md shows."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ppl_assets.orchestration.instance import HOME
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.kubernetes_api import Cluster, kubernetes_api
from ppl_assets_tests.reader import ROOT, blocks

PAGE = ROOT / "docs" / "executors.md"
SECONDS_TO_START = 600
SECONDS_TO_RUN = 1200

STUDY = """\
name: engines
corpus:
  source: {kind: python_packages, packages: [email, json]}
  splits:
    training: {share: 0.6, pages_per_domain: 10}
    scoring: {share: 0.2, pages_per_domain: 2}
    benchmark: {share: 0.2, pages_per_domain: 10}
  max_page_bytes: 5000
  chunk_tokens: 64
zoo:
  tokenizers: {tiny: {vocabulary: 300}}
  architectures: {llama: {kind: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32}}
  checkpoints: [1, 2]
  batch_sequences: 2
  sequence_tokens: 32
  runs:
    - {run: mail, family: mail, tokenizer: tiny, architecture: llama, mixture: {"email/*": 1}}
    - {run: json, family: json, tokenizer: tiny, architecture: llama, mixture: {"json/*": 1}}
benchmarks:
  build:
    - {task: continuation, pages: "*/code", form: continuation, items: 4, context_bytes: 100}
targets:
  code: {tasks: [{task: continuation, metric: bits_per_byte, kind: bpb}]}
mixture: {keep: 0.5}
"""
# One partition of each asset that runs models.
PARTITIONS = {"model_zoo": "json", "chunk_logliks": "mail-step1", "benchmark_scores": "mail-step2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A running engine: what the process of a run needs in its environment, and what the test wants to look at."""

    environment: dict[str, str]
    cluster: Cluster | None = None
    log: Path | None = None


def example(file: str) -> dict[str, Any]:
    """A YAML file as docs/executors.md shows it: the block whose first line names it."""
    (text,) = (block.text for block in blocks(PAGE) if block.text.startswith(f"# {file}"))
    return yaml.safe_load(text)


def commented_blocks() -> dict[str, dict[str, Any]]:
    """Blocks of the packaged dagster.yaml that are switched off, by what they set: its class, or else its key."""
    found: list[list[str]] = [[]]
    for line in (HOME / "dagster.yaml").read_text().splitlines():
        if line.startswith("#:"):
            found[-1].append(line.removeprefix("#:").removeprefix(" "))
        elif found[-1]:
            found.append([])
    parsed = [yaml.safe_load("\n".join(block)) for block in found if block]
    return {str(next(iter(each.values())).get("class", next(iter(each)))): each for each in parsed}


def write_home(folder: Path, *switched_on: dict[str, Any]) -> Path:
    """A Dagster home: the packaged dagster.yaml with the given blocks in it."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    settings = yaml.safe_load((HOME / "dagster.yaml").read_text())
    for block in switched_on:
        settings |= block
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return home


def environment(settings: Settings, engine: str, home: Path = HOME, config: Path | None = None) -> dict[str, str]:
    """The environment of everything that takes part in a run under an engine."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PPL_", "DAGSTER_"))}
    # Engines call `dagster` and `celery` by name, as from an activated environment.
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    own |= {
        "PPL_STATE_DIR": str(settings.state),
        "PPL_STUDY": settings.study,
        "PPL_DAGSTER_STORAGE": str(settings.state / "dagster"),
        "PPL_GPU_EXECUTOR": engine,
        "DAGSTER_HOME": str(home),
    }
    return own | ({"PPL_GPU_EXECUTOR_CONFIG": str(config)} if config else {})


def written(path: Path, content: dict[str, Any]) -> Path:
    """`content` as a YAML file."""
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def multiprocess(settings: Settings, folder: Path) -> Iterator[Engine]:
    """A process per step on this host."""
    yield Engine(environment=environment(settings, "multiprocess"))


@contextmanager
def celery(settings: Settings, folder: Path) -> Iterator[Engine]:
    """A worker of two processes that listens to the queue ``gpu`` alone; folders stand for the broker."""
    folders = {name: folder / name for name in ("in", "control", "results")}
    for each in folders.values():
        each.mkdir()
    transport = {
        "broker_transport_options": {
            "data_folder_in": str(folders["in"]),
            "data_folder_out": str(folders["in"]),
            "control_folder": str(folders["control"]),
        }
    }
    config, launcher = example("celery.yaml"), commented_blocks()["CeleryRunLauncher"]
    config["execution"]["config"] |= {
        "broker": "filesystem://",
        "backend": folders["results"].as_uri(),
        "config_source": transport,
    }
    launcher["run_launcher"]["config"] |= {"config_source": transport}
    home = write_home(folder, launcher)
    own = environment(settings, "celery", home, written(folder / "celery.yaml", config)) | {
        "PPL_CELERY_BROKER": "filesystem://",
        "PPL_CELERY_BACKEND": folders["results"].as_uri(),
    }
    log = folder / "worker.log"
    with _celery_worker(folder, own, queue="gpu", processes=2, log=log):
        yield Engine(environment=own, log=log)


@contextmanager
def celery_with_runs(settings: Settings, folder: Path) -> Iterator[Engine]:
    """A worker for whole runs as well, which the launcher sends to the queue ``dagster``."""
    with (
        celery(settings, folder) as engine,
        _celery_worker(folder, engine.environment, queue="dagster", processes=1, log=folder / "runs.log"),
    ):
        yield engine


def _celery_worker(folder: Path, own: dict[str, str], *, queue: str, processes: int, log: Path):
    command = ["dagster-celery", "worker", "start", "-A", "dagster_celery.app", "-y", str(folder / "celery.yaml")]
    return _running([*command, "-q", queue, "-n", f"{queue}1", "--", "--concurrency", str(processes)], own, log)


_RAY = """
import ray, sys
cluster = ray.init(num_cpus=4, num_gpus=2, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=0,
                   log_to_driver=False, _temp_dir=sys.argv[1])
print(f"http://{cluster.dashboard_url}", flush=True)
sys.stdin.read()
ray.shutdown()
"""


@contextmanager
def ray(settings: Settings, folder: Path) -> Iterator[Engine]:
    """A cluster of this host that holds itself to have two GPUs."""
    config = example("ray.yaml")
    path = folder / "ray.yaml"
    home = write_home(folder, commented_blocks()["RayRunLauncher"])
    own = environment(settings, "ray", home, path) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(24),
        "RAY_USAGE_STATS_ENABLED": "0",
        # On a busy machine its half minute is not enough.
        "RAY_raylet_start_wait_time_s": str(SECONDS_TO_START),
    }
    # Its sockets need a short path.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short,
        (folder / "ray.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", _RAY, short],
            env=own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as head,
    ):
        try:
            address = head.stdout.readline().strip()
            assert address, (folder / "ray.log").read_text()
            config["execution"]["config"]["ray"]["address"] = address
            written(path, config)
            yield Engine(environment=own | {"PPL_RAY_ADDRESS": address})
        finally:
            head.communicate(timeout=SECONDS_TO_START)


@contextmanager
def k8s(settings: Settings, folder: Path) -> Iterator[Engine]:
    """A cluster on loopback whose pods are processes of this host."""
    launcher = commented_blocks()["K8sRunLauncher"]
    variables = ["PPL_STATE_DIR", "PPL_STUDY", "PPL_DAGSTER_STORAGE", "PPL_GPU_EXECUTOR", "PPL_GPU_EXECUTOR_CONFIG"]
    config = written(folder / "k8s.yaml", example("k8s.yaml"))
    home = folder / "home"
    own = environment(settings, "k8s", home=home, config=config) | {"HOSTNAME": "the-run-pod"}
    with kubernetes_api(folder, {name: own[name] for name in ("PATH", "PYTHONPATH") if name in own}) as (
        api,
        kubeconfig,
    ):
        launcher["run_launcher"]["config"] |= {
            "load_incluster_config": False,
            "kubeconfig_file": str(kubeconfig),
            "dagster_home": str(home),
            "env_vars": variables,
        }
        write_home(folder, launcher)
        yield Engine(environment=own, cluster=api)


ENGINES = {"multiprocess": multiprocess, "celery": celery, "ray": ray, "k8s": k8s}


def materialize(
    engine: Engine, partitions: dict[str, str], folder: Path, *, started: Callable[[], None] = lambda: None
) -> None:
    """One run per asset and partition, all started at once, as a backfill does; each must succeed.

    `started` is called when all have been started.
    """
    runs = {}
    for asset, partition in partitions.items():
        command = [sys.executable, "-W", "ignore", "-m", "dagster", "asset", "materialize", "--select", asset]
        command += ["--partition", partition, "-m", "ppl_assets.gpu_definitions"]
        with (folder / f"{asset}.log").open("w") as log:
            runs[asset] = subprocess.Popen(command, env=engine.environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        started()
        for asset, process in runs.items():
            code = process.wait(timeout=SECONDS_TO_RUN)
            assert code == 0, (folder / f"{asset}.log").read_text()
    finally:
        for process in runs.values():
            process.kill()
            process.wait()


@contextmanager
def _running(command: list[str], own: dict[str, str], log: Path) -> Iterator[None]:
    """A server and all that it starts, until the end of the block."""
    with log.open("w") as file:
        process = subprocess.Popen(command, env=own, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=SECONDS_TO_START)
