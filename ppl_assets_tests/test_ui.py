"""The web UI for real: its server and daemon on a state of their own, asked through GraphQL as the page asks."""

import shutil

import psutil
import pytest

from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.runner import run_stale
from ppl_assets.orchestration.whole_graph import upstream_of, whole_graph
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets_tests.faults.invariants import assert_nothing_is_half_written
from ppl_assets_tests.orchestration.test_runner import Silent, settings_of
from ppl_assets_tests.scored_study import MODELS, write_scored_study
from ppl_assets_tests.screenshots import take
from ppl_assets_tests.web_ui import serving

CHECK = {"assetKey": {"path": ["correlation_estimates"]}, "name": "models_are_current"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that has run once, with models in the GPU code location."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = settings_of(write_scored_study(tmp_path_factory.mktemp("ui")))
        outcomes = run_stale(settings, select=None, display=Silent())
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        yield settings


@pytest.fixture(scope="module")
def server(finished):
    """The UI on the finished study."""
    with serving(finished) as running:
        yield running


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
    assert sorted(data["partitionKeys"]) == sorted(MODELS)
    assert {each["partition"] for each in data["assetMaterializations"]} == set(data["partitionKeys"])
    labels = {entry["label"] for each in data["assetMaterializations"] for entry in each["metadataEntries"]}
    assert {"dagster/row_count", "fingerprint"} <= labels


def test_neither_telemetry_nor_the_sign_up_pop_up_is_on(server):
    assert server.ask("{shouldShowNux}") == {"shouldShowNux": False}
    info = server.ask("{instance {info}}")["instance"]["info"]
    assert "telemetry:\n  enabled: false" in info


def test_server_and_code_locations_listen_on_this_host_alone(server):
    """Web server, daemon and code servers, and all that they start."""
    family = [server.process, *psutil.Process(server.process.pid).children(recursive=True)]
    connections = [
        connection for process in family for connection in psutil.Process(process.pid).net_connections(kind="inet")
    ]
    listening = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.mark.slow
def test_a_backfill_across_both_code_locations_is_launched_and_succeeds(server, finished):
    selection = ["chunk_logliks", "domain_logliks"]
    backfill = server.launch_backfill(selection, ["alpha", "beta"])
    assert server.finished_backfill(backfill) == "COMPLETED_SUCCESS"
    runs = server.runs_of_backfill(backfill)
    assert {run["status"] for run in runs} == {"SUCCESS"}
    locations = {
        (run["repositoryOrigin"]["repositoryLocationName"], run["tag"]["dagster/partition"]): run for run in runs
    }
    assert set(locations) == {(place, slug) for place in ("ppl_assets", "ppl_assets_gpu") for slug in ("alpha", "beta")}
    for slug in ("alpha", "beta"):
        scored, summed = locations["ppl_assets_gpu", slug], locations["ppl_assets", slug]
        assert scored["endTime"] <= summed["startTime"], "a sum waits for what it sums"
        footer = Workspace(finished).lake.footer("chunk_logliks", slug)
        assert footer is not None
        assert footer.cost["run"] == scored["runId"]
        assert footer.cost["tokens"] == 0, "losses that are known are not computed again"
    assert_nothing_is_half_written(finished)


@pytest.mark.slow
def test_a_run_that_is_cancelled_stops_leaves_no_half_table_and_can_be_launched_again(server, finished):
    before = Workspace(finished).lake.footer("benchmark_scores", "gamma")
    run = server.launch_run("ppl_assets_gpu", ["benchmark_scores"], partition="gamma")
    server.await_status(run, {"STARTED"})
    server.terminate(run)
    assert server.await_status(run, {"CANCELED", "SUCCESS", "FAILURE"}) == "CANCELED"
    assert Workspace(finished).lake.footer("benchmark_scores", "gamma") == before
    assert_nothing_is_half_written(finished)
    again = server.launch_run("ppl_assets_gpu", ["benchmark_scores"], partition="gamma")
    assert server.await_status(again, {"CANCELED", "SUCCESS", "FAILURE"}) == "SUCCESS"


@pytest.mark.slow
def test_checks_run_and_say_what_is_current(server, finished):
    run = server.launch_run("ppl_assets", [], checks=[CHECK])
    assert server.await_status(run, {"SUCCESS", "FAILURE"}) == "SUCCESS"
    node = server.ask(
        '{assetNodeOrError(assetKey: {path: ["correlation_estimates"]}) {... on AssetNode {assetChecksOrError '
        "{... on AssetChecks {checks {name executionForLatestMaterialization {status runId evaluation {success "
        "description}}}}}}}}"
    )["assetNodeOrError"]
    (check,) = node["assetChecksOrError"]["checks"]
    execution = check["executionForLatestMaterialization"]
    assert (execution["runId"], execution["status"]) == (run, "SUCCEEDED")
    assert execution["evaluation"] == {"success": True, "description": "12 of 12 partitions by model are current."}


def test_metadata_and_column_lineage_of_a_partition_are_read(server):
    node = server.ask(
        '{assetNodeOrError(assetKey: {path: ["domain_logliks"]}) {... on AssetNode {assetMaterializations(partitions: '
        '["alpha"], limit: 1) {metadataEntries {label ... on IntMetadataEntry {intValue} ... on '
        "TableColumnLineageMetadataEntry {lineage {columnName columnDeps {assetKey {path} columnName}}}}}}}}"
    )["assetNodeOrError"]
    (materialization,) = node["assetMaterializations"]
    entries = {entry["label"]: entry for entry in materialization["metadataEntries"]}
    assert entries["dagster/row_count"]["intValue"] == 4
    lineage = {each["columnName"]: each["columnDeps"] for each in entries["dagster/column_lineage"]["lineage"]}
    assert {"assetKey": {"path": ["chunk_logliks"]}, "columnName": "nll"} in lineage["bpb"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium is installed")
def test_a_browser_shows_the_lineage_the_partitions_of_an_asset_and_the_report(server, finished, tmp_path):
    seen = take(server, finished.report_file, tmp_path)
    groups = {spec.group_name for spec in whole_graph().resolve_all_asset_specs()}
    assert groups
    assert all(group in seen["lineage"] for group in groups if group), "every group of assets is drawn"
    assert all(slug in seen["partitions"] for slug in MODELS)
    assert all(target in seen["report"] for target in Workspace(finished).study.targets)
    assert all((tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in seen)
