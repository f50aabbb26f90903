"""A web UI on a state of its own, as tests and the script of the screenshots start it, and what a page asks of it."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ppl_assets.settings import Settings

SECONDS_TO_START = 300
SECONDS_TO_FINISH = 900


class Server:
    """A running web UI."""

    def __init__(self, port: int, process: subprocess.Popen) -> None:
        self.port, self.process = port, process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL query."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS_TO_START) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def wait(self) -> None:
        """Until the server answers and both code locations have loaded."""
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the web UI ended by itself"
            try:
                statuses = self.ask(
                    "{locationStatusesOrError {... on WorkspaceLocationStatusEntries {entries {loadStatus}}}}"
                )
                entries = statuses["locationStatusesOrError"]["entries"]
                if len(entries) == 2 and all(entry["loadStatus"] == "LOADED" for entry in entries):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            select_nothing_for_a_moment()
        raise AssertionError(f"the web UI did not load both locations in {SECONDS_TO_START} s")

    def launch_backfill(self, assets: list[str], partitions: list[str]) -> str:
        """Request partitions of assets, whatever code location they are in; returns the backfill."""
        launched = self.ask(
            "mutation($p: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $p) {__typename "
            "... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}",
            p={"assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": partitions, "tags": []},
        )["launchPartitionBackfill"]
        assert "backfillId" in launched, launched
        return launched["backfillId"]

    def finished_backfill(self, backfill: str) -> str:
        """How a backfill ended."""
        query = "query($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}"
        return self.await_answer(
            lambda: self.ask(query, id=backfill)["partitionBackfillOrError"]["status"],
            {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"},
        )

    def cancel_backfill(self, backfill: str) -> None:
        """Cancel it, as the button does: runs that wait are not started, those that run are stopped."""
        answer = self.ask("mutation($id: String!) {cancelPartitionBackfill(backfillId: $id) {__typename}}", id=backfill)
        assert answer["cancelPartitionBackfill"] == {"__typename": "CancelBackfillSuccess"}
        assert self.finished_backfill(backfill) == "CANCELED"

    def runs_of_backfill(self, backfill: str) -> list[dict[str, Any]]:
        """Its runs, with their tags by name."""
        found = self.ask(
            "query($f: RunsFilter!) {runsOrError(filter: $f) {... on Runs {results {runId status startTime endTime "
            "tags {key value} repositoryOrigin {repositoryLocationName}}}}}",
            f={"tags": [{"key": "dagster/backfill", "value": backfill}]},
        )["runsOrError"]["results"]
        return [run | {"tag": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def launch_run(
        self,
        location: str,
        assets: list[str],
        *,
        partition: str | None = None,
        checks: list[dict[str, Any]] | None = None,
    ) -> str:
        """Launch a run of assets, or of checks alone; returns its id."""
        selector = {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in assets],
            "assetCheckSelection": checks or [],
        }
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        launched = self.ask(
            "mutation($p: ExecutionParams!) {launchRun(executionParams: $p) {__typename "
            "... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}",
            p={"selector": selector, "executionMetadata": {"tags": tags}, "mode": "default"},
        )["launchRun"]
        assert "run" in launched, launched
        return launched["run"]["runId"]

    def start_sensor(self, location: str, name: str) -> None:
        """Switch a sensor on, as the button does."""
        selector = {"repositoryLocationName": location, "repositoryName": "__repository__", "sensorName": name}
        started = self.ask(
            "mutation($s: SensorSelector!) {startSensor(sensorSelector: $s) {__typename "
            "... on Sensor {sensorState {status}} ... on PythonError {message}}}",
            s=selector,
        )["startSensor"]
        assert started == {"__typename": "Sensor", "sensorState": {"status": "RUNNING"}}, started

    def terminate(self, run: str) -> None:
        """Cancel a run, as the button does."""
        answer = self.ask("mutation($id: String!) {terminateRun(runId: $id) {__typename}}", id=run)["terminateRun"]
        assert answer == {"__typename": "TerminateRunSuccess"}

    def status(self, run: str) -> str:
        return self.ask("query($id: ID!) {runOrError(runId: $id) {... on Run {status}}}", id=run)["runOrError"][
            "status"
        ]

    def await_status(self, run: str, statuses: set[str]) -> str:
        """The first of these statuses that a run is found in."""
        return self.await_answer(lambda: self.status(run), statuses)

    @staticmethod
    def await_answer(look: Callable[[], str], wanted: set[str]) -> str:
        """The first of the wanted answers that a look finds."""
        deadline, seen = time.monotonic() + SECONDS_TO_FINISH, ""
        while time.monotonic() < deadline:
            seen = look()
            if seen in wanted:
                return seen
            select_nothing_for_a_moment()
        raise AssertionError(f"still {seen} after {SECONDS_TO_FINISH} s, expected one of {sorted(wanted)}")


def select_nothing_for_a_moment() -> None:
    """Leave the processor to the server between two questions."""
    select.select([], [], [], 0.5)


@contextmanager
def serving(settings: Settings, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """`ppl-assets ui` on a state, loaded, in an environment (None: this process's, without what a user may have set).

    All of its processes end with the block.
    """
    port = free_port()
    command = [sys.executable, "-m", "ppl_assets", "ui", "--port", str(port)]
    command += ["--study", settings.study, "--state", str(settings.state)]
    if environment is None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PPL_", "DAGSTER_"))}
    # Steps of tiny models next to each other: one thread each is fastest.
    environment = environment | {"OMP_NUM_THREADS": "1", "DAGSTER_MULTIPROCESS_EXECUTOR_MAX_CONCURRENT": "1"}
    with (settings.state.parent / "ui.log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
        try:
            running = Server(port, process)
            running.wait()
            yield running
        finally:
            # Where a test has ended the UI, what it had started is there or is not.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=SECONDS_TO_START)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
