"""The web UI for real: its server and daemon on a state of their own, asked through GraphQL as the page asks."""

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

import pytest

from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.runner import run_stale
from ppl_assets.orchestration.whole_graph import upstream_of
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import Silent
from ppl_assets_tests.studies import write_import_study

SECONDS_TO_START = 180


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A running web UI."""

    def __init__(self, port: int, process: subprocess.Popen) -> None:
        self.port, self.process = port, process

    def ask(self, query: str) -> dict:
        """The data of a GraphQL query."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
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


def select_nothing_for_a_moment() -> None:
    """Leave the processor to the server between two questions."""
    select.select([], [], [], 0.5)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The UI on a finished study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        study = write_import_study(tmp_path_factory.mktemp("ui"))
        settings = Settings(state=study.parent / "state", study=str(study))
        run_stale(settings, select=None, display=Silent(), workers=1)
    port = free_port()
    command = [sys.executable, "-m", "ppl_assets", "ui", "--port", str(port)]
    command += ["--study", str(study), "--state", str(settings.state)]
    log = (study.parent / "ui.log").open("w")
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=_environment()
    )
    try:
        running = Server(port, process)
        running.wait()
        yield running
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        log.close()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PPL_", "DAGSTER_"))}


def test_both_code_locations_load_without_errors(server):
    entries = server.ask(
        "{workspaceOrError {... on Workspace {locationEntries {name locationOrLoadError "
        "{__typename ... on PythonError {message}}}}}}"
    )["workspaceOrError"]["locationEntries"]
    loaded = {entry["name"]: entry["locationOrLoadError"]["__typename"] for entry in entries}
    assert loaded == {"ppl_assets": "RepositoryLocation", "ppl_assets_gpu": "RepositoryLocation"}


def test_the_lineage_shows_every_asset_with_what_it_depends_on(server):
    nodes = server.ask("{assetNodes {assetKey {path} isMaterializable dependencyKeys {path} description}}")[
        "assetNodes"
    ]
    own = [node for node in nodes if node["isMaterializable"]]
    names = {node["assetKey"]["path"][0] for node in own}
    assert names == set(RECIPES)
    for node in own:
        name = node["assetKey"]["path"][0]
        direct = {key["path"][0] for key in node["dependencyKeys"]}
        assert direct <= upstream_of(name), name
        assert node["description"], name


def test_history_metadata_and_partitions_of_the_command_line_are_there(server):
    data = server.ask(
        '{assetNodeOrError(assetKey: {path: ["domain_logliks"]}) {... on AssetNode {partitionKeys '
        "assetMaterializations {runId partition metadataEntries {label}}}}}"
    )["assetNodeOrError"]
    assert len(data["partitionKeys"]) == 12
    assert {each["partition"] for each in data["assetMaterializations"]} == set(data["partitionKeys"])
    labels = {entry["label"] for each in data["assetMaterializations"] for entry in each["metadataEntries"]}
    assert {"dagster/row_count", "fingerprint"} <= labels


def test_neither_telemetry_nor_the_sign_up_pop_up_is_on(server):
    assert server.ask("{shouldShowNux}") == {"shouldShowNux": False}
    info = server.ask("{instance {info}}")["instance"]["info"]
    assert "telemetry:\n  enabled: false" in info
