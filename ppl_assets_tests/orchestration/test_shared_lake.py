"""The graph with its tables in a bucket: the same tables, and steps on hosts that share no disk."""

import uuid

import pytest

from ppl_assets.orchestration.provenance import is_current
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets.warehouse import published_tables
from ppl_assets_tests.orchestration.engines import Engine, environment, materialize
from ppl_assets_tests.orchestration.test_runner import assert_same_tables, run, settings_of, tables_of
from ppl_assets_tests.registry.hub import tiny_model
from ppl_assets_tests.studies import write_import_study
from ppl_assets_tests.warehouse.buckets import access, client, s3_server

pytestmark = pytest.mark.slow

STUDY = """\
name: shared
corpus:
  source: {kind: python_packages, packages: [email]}
  splits:
    training: {share: 0.6, pages_per_domain: 2}
    scoring: {share: 0.2, pages_per_domain: 2}
    benchmark: {share: 0.2, pages_per_domain: 2}
  max_page_bytes: 5000
  chunk_tokens: 64
models: [{slug: ours, family: ours, source: ours}]
targets:
  one: {tasks: [{task: piqa, metric: acc, kind: accuracy}]}
mixture: {keep: 0.5}
"""


@pytest.fixture
def url(monkeypatch):
    """A bucket's URL that leads to a server on loopback."""
    with s3_server() as address:
        client(address).create_bucket(Bucket="tables")
        for name, value in access(address).items():
            monkeypatch.setenv(name, value)
        yield f"s3://tables/{uuid.uuid4().hex}"


def succeeded(settings: Settings, select: list[str] | None = None) -> int:
    """How many runs it took to bring all up to date."""
    outcomes = run(settings, select)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return len(outcomes)


def test_the_whole_graph_gives_the_same_tables_in_a_bucket_as_in_a_folder(tmp_path, url):
    study = write_import_study(tmp_path)
    folder = settings_of(study, "one")
    bucket = Settings(state=tmp_path / "other", study=str(study), shared_lake=url)
    assert succeeded(bucket) == succeeded(folder) > 0
    assert_same_tables(tables_of(bucket), tables_of(folder))
    published = [published_tables(settings.warehouse_file) for settings in (bucket, folder)]
    assert_same_tables(*({name: rows for name, rows in each.items() if name != "cost_ledger"} for each in published))
    assert not (bucket.state / "lake").exists()
    assert succeeded(bucket) == 0
    Workspace(bucket).lake.remove("domain_logliks", "model-04")
    assert [str(outcome.task) for outcome in run(bucket)] == ["domain_logliks (1 imported models)"]


def test_a_host_that_shares_no_disk_scores_into_the_bucket(tmp_path, url):
    """Another state folder stands for another host; Dagster's storage, a server in earnest, is the one thing shared."""
    tiny_model(tmp_path / "ours")
    (tmp_path / "study.yaml").write_text(STUDY)
    here = Settings(state=tmp_path / "here", study=str(tmp_path / "study.yaml"), shared_lake=url)
    succeeded(here, ["corpus_chunks", "model_registry"])
    there = Settings(state=tmp_path / "there", study=here.study, shared_lake=url)
    own = environment(there, "multiprocess") | {
        "PPL_LAKE": url,
        "PPL_DAGSTER_STORAGE": str(here.state / "dagster"),
    }
    materialize(Engine(environment=own), {"chunk_logliks": "ours"}, tmp_path)
    assert is_current(Workspace(here), "chunk_logliks", "ours")
    scored = Workspace(here).lake.read("chunk_logliks", "ours")
    assert scored["chunk_id"].sort().equals(Workspace(here).table("chunks")["chunk_id"].sort())
    assert not (here.state / "lake").exists()
    assert not (there.state / "lake").exists()
