"""The web UI and its daemon under an engine, asked for a backfill as its page asks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppl_assets_tests.orchestration.engines import SECONDS_TO_RUN, SECONDS_TO_START, Engine
from ppl_assets_tests.web_ui import Server, free_port, select_nothing_for_a_moment


class BackfillServer(Server):
    """A running web UI that is asked for backfills."""

    def backfill(self, asset: str, partitions: list[str]) -> str:
        """Request partitions of an asset and wait; the status that the backfill ends with."""
        names = ", ".join(f'"{partition}"' for partition in partitions)
        launched = self.ask(
            f'mutation {{launchPartitionBackfill(backfillParams: {{assetSelection: [{{path: ["{asset}"]}}], '
            f"partitionNames: [{names}], fromFailure: false}}) {{"
            "__typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}"
        )["launchPartitionBackfill"]
        assert "backfillId" in launched, launched
        deadline = time.monotonic() + SECONDS_TO_RUN
        while time.monotonic() < deadline:
            query = f'{{partitionBackfillOrError(backfillId: "{launched["backfillId"]}") '
            status = self.ask(query + "{... on PartitionBackfill {status}}}")["partitionBackfillOrError"]["status"]
            if status not in ("REQUESTED", "CANCELING"):
                return str(status)
            select_nothing_for_a_moment()
        raise AssertionError(f"the backfill did not end in {SECONDS_TO_RUN} s")


@contextmanager
def web_ui(engine: Engine, log: Path) -> Iterator[BackfillServer]:
    """`ppl-assets ui` in an engine's environment."""
    port = free_port()
    command = [sys.executable, "-m", "ppl_assets", "ui", "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=engine.environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        server = BackfillServer(port, process)
        server.wait()
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=SECONDS_TO_START)
