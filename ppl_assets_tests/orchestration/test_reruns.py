"""What each change of a study makes anew, run by run: all that it must, and nothing else.

On text, models and tasks that are scored for real (`scored_study`), so slow: `make test-faults` runs it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from ppl_assets.orchestration import provenance
from ppl_assets.orchestration.provenance import RECIPES
from ppl_assets.orchestration.whole_graph import upstream_of
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import ran_without_error, run, settings_of
from ppl_assets_tests.scored_study import MODELS, write_model, write_scored_study, write_scores

pytestmark = pytest.mark.slow

# What follows when a model's losses or errors change, or there is another set of models: at least the first two, and
# what is behind them unless the estimates come out the same.
FIRST = {"benchmark_errors", "correlation_estimates"}
DECISION = {asset for asset in RECIPES if FIRST & {asset, *upstream_of(asset)}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = settings_of(write_scored_study(tmp_path_factory.mktemp("finished")))
        assert reran(settings)
        yield settings


def reran(settings: Settings) -> set[str]:
    """What a run made, in worker processes as for a user: with so few models numpy warns of constant ranks."""
    outcomes = run(settings, workers=2)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return {str(outcome.task) for outcome in outcomes}


def assert_ran(ran: set[str], expected: set[str]) -> None:
    """Exactly what is expected, and of what the decision leads to as much as it changes."""
    assert expected <= ran
    assert ran - expected <= (DECISION if expected & FIRST else set())


@pytest.fixture
def settings(finished, tmp_path) -> Settings:
    """The study and what was computed of it, at a place of their own: the models' folders did not move."""
    shutil.copytree(finished.state, tmp_path / "state")
    return Settings(state=tmp_path / "state", study=finished.study)


def partitions(asset: str, models: tuple[str, ...] = MODELS) -> set[str]:
    return {f"{asset}[{slug}]" for slug in models}


def replace(before: str, after: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        study = folder / "study.yaml"
        assert before in study.read_text()
        study.write_text(study.read_text().replace(before, after))

    return change


def another_revision(folder: Path) -> None:
    write_model(folder / "beta", seed=7)


def another_tokenizer(folder: Path) -> None:
    """The same model under a tokenizer that knows one token more."""
    path = folder / "beta" / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.save(str(path))


CHANGES = {
    "a model's revision": (
        another_revision,
        {"model_registry"}
        | partitions("chunk_logliks", ("beta",))
        | partitions("domain_logliks", ("beta",))
        | partitions("benchmark_scores", ("beta",))
        | FIRST,
    ),
    # No text has the token: losses and scores come out the same, and only what reads the chunks' rows sees the change.
    "a model's tokenizer": (
        another_tokenizer,
        {"model_registry", "correlation_estimates"}
        | partitions("chunk_logliks", ("beta",))
        | partitions("domain_logliks", ("beta",))
        | partitions("benchmark_scores", ("beta",)),
    ),
    "the corpus sample": (
        replace("pages_per_domain: 4}", "pages_per_domain: 3}"),
        {"domain_catalog", "corpus_pages", "corpus_chunks", "benchmark_tasks"}
        | partitions("chunk_logliks")
        | partitions("domain_logliks")
        | FIRST,
    ),
    "a benchmark": (
        replace("items: 6", "items: 5"),
        {"benchmark_tasks"} | partitions("benchmark_scores") | FIRST,
    ),
    "a scoring setting": (
        replace("mixture: {keep: 0.5}", "mixture: {keep: 0.5}\nscoring: {max_context: 32}"),
        partitions("chunk_logliks") | partitions("domain_logliks") | FIRST,
    ),
    "nothing that counts": (replace("name: scored", "# A comment.\nname: scored"), set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_exactly_what_depends_on_it(finished, tmp_path, name):
    change, expected = CHANGES[name]
    folder = Path(finished.study).parent
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("state"))
    state = tmp_path / "state"
    shutil.copytree(finished.state, state)
    settings = Settings(state=state, study=finished.study)
    try:
        change(folder)
        assert_ran(reran(settings), expected)
        assert reran(settings) == set()
    finally:
        shutil.copytree(kept, folder, dirs_exist_ok=True)


def test_scoring_code_that_gives_the_same_numbers_is_run_again_and_stops_there(settings, monkeypatch):
    # In this process, where the change is seen. The chunks' rows say by which code they were scored: what reads them
    # runs as well, comes out the same, and nothing is decided anew.
    monkeypatch.setattr(provenance, "_SCORING_CODE", "next")
    read_chunks = {"correlation_estimates", "domain_audits"}
    assert set(ran_without_error(settings)) == partitions("chunk_logliks") | partitions("domain_logliks") | read_chunks


def test_a_model_that_leaves_and_comes_back_is_scored_anew(finished, settings):
    folder = Path(finished.study).parent
    study = folder / "study.yaml"
    with_all = study.read_text()
    (line,) = (line for line in with_all.splitlines(keepends=True) if "slug: delta" in line)
    try:
        study.write_text(with_all.replace(line, ""))
        # Its imported scores leave as well: with them it would stay, as an imported model.
        write_scores(folder, tuple(slug for slug in MODELS if slug != "delta"))
        assert_ran(reran(settings), {"imported_scores", "model_registry"} | FIRST)
        for table in ("chunk_logliks", "domain_logliks", "benchmark_scores"):
            assert "delta" not in Workspace(settings).lake.partitions(table)
    finally:
        study.write_text(with_all)
        write_scores(folder, MODELS)
    anew = {f"{asset}[delta]" for asset in ("chunk_logliks", "domain_logliks", "benchmark_scores")}
    assert_ran(reran(settings), {"imported_scores", "model_registry"} | anew | FIRST)
    footer = Workspace(settings).lake.footer("chunk_logliks", "delta")
    assert footer is not None
    assert footer.cost["tokens"] > 0, "scored, not resurrected"
