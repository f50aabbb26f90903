"""The graph on real text: pages, models trained on the spot, lm-eval's tasks, losses, estimates, mixture."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import safetensors.torch

from ppl_assets.errors import InputError
from ppl_assets.orchestration.runner import run_stale
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.retired import Retirement
from ppl_assets.retirement import retire
from ppl_assets.settings import Settings
from ppl_assets_tests.orchestration.test_runner import (
    Silent,
    assert_same_tables,
    run,
    settings_of,
    tables_of,
)
from ppl_assets_tests.retirement.grep import contents
from ppl_assets_tests.studies import write_text_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study, run once undisturbed in two workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        settings = settings_of(write_text_study(tmp_path_factory.mktemp("text")))
        outcomes = run_stale(settings, select=None, display=Silent(), workers=2)
        assert [outcome.error for outcome in outcomes if outcome.error] == []
        yield settings


def test_every_model_is_scored_on_every_chunk_and_the_sums_are_those_of_its_chunks(finished):
    workspace = Workspace(finished)
    chunks = workspace.table("chunks")
    assert len(workspace.slugs()) == 12
    for slug in workspace.slugs():
        scored = workspace.lake.read("chunk_logliks", slug)
        assert set(scored["chunk_id"]) == set(chunks["chunk_id"])
        assert set(scored["status"]) == {"ok"}
        by_hand = (
            scored.join(chunks.select("chunk_id", "domain"), on="chunk_id")
            .group_by("domain")
            .agg(pl.sum("nll", "tokens", "bytes"), chunks=pl.len())
            .sort("domain")
        )
        stored = workspace.lake.read("domain_logliks", slug)
        assert stored["tokens"].to_list() == by_hand["tokens"].to_list()
        assert stored["bytes"].to_list() == by_hand["bytes"].to_list()
        # Sums of some hundred float64 in two orders.
        assert stored["nll"].to_list() == pytest.approx(by_hand["nll"].to_list(), rel=1e-12)
        assert stored["chunks_missing"].sum() == 0


def test_chunks_of_a_page_concatenate_to_it_and_splits_share_no_page(finished):
    workspace = Workspace(finished)
    scoring = workspace.lake.read("pages", "scoring")
    joined = workspace.table("chunks").sort("page_id", "position").group_by("page_id").agg(pl.col("text").str.join(""))
    pages = dict(scoring.select("page_id", "text").iter_rows())
    assert dict(joined.iter_rows()) == pages
    ids = [set(workspace.lake.read("pages", split)["page_id"]) for split in ("training", "scoring", "benchmark")]
    assert len(set.union(*ids)) == sum(len(part) for part in ids)


def test_a_model_trained_on_code_is_better_on_code_than_on_prose_next_to_one_trained_on_prose(finished):
    """The interaction, not the levels: forty steps are too few for a pool of one's own kind to win outright."""
    losses = Workspace(finished).by_model("domain_logliks")
    last = losses.filter(pl.col("slug").is_in(["code-step40", "prose-step40"]))
    mean = (
        last.with_columns(kind=pl.col("domain").str.split("/").list.last()).group_by("slug", "kind").agg(pl.mean("bpb"))
    )
    bpb = {(slug, kind): value for slug, kind, value in mean.iter_rows()}
    assert (
        bpb["code-step40", "code"] - bpb["code-step40", "prose"]
        < bpb["prose-step40", "code"] - bpb["prose-step40", "prose"]
    )


def test_killed_while_it_trains_and_scores_it_ends_in_the_same_tables(finished, tmp_path):
    study = write_text_study(tmp_path)
    settings = settings_of(study)
    command = [sys.executable, "-m", "ppl_assets", "run", "--study", str(study), "--state", str(settings.state)]
    for awaited in ("models/.*.tmp", "models/*", "lake/benchmark_scores/*", "lake/chunk_logliks/*"):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        _wait_for_another(process, settings.state, awaited)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert [outcome.error for outcome in run(settings, workers=2) if outcome.error] == []
    assert_same_tables(tables_of(settings), tables_of(finished))


def _wait_for_another(process: subprocess.Popen, state: Path, pattern: str) -> None:
    """Until one more path than at first matches, or the process has ended."""
    before, deadline = set(state.glob(pattern)), time.monotonic() + 600
    while process.poll() is None and not set(state.glob(pattern)) - before:
        assert time.monotonic() < deadline, f"no new {pattern}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)  # looking on must not take the time of what is looked at


@pytest.mark.parametrize(("pages", "share_scored"), [(1, 0.0), (3, 0.6)], ids=["shrinks", "grows"])
def test_a_sample_that_shrinks_costs_no_scoring_and_one_that_grows_its_new_texts(
    finished, tmp_path, pages, share_scored
):
    state = tmp_path / "state"
    shutil.copytree(finished.state, state)
    study = write_text_study(tmp_path)
    study.write_text(study.read_text().replace("pages_per_domain: 2}", f"pages_per_domain: {pages}}}"))
    outcomes = run(Settings(state=state, study=str(study)), ["domain_logliks"])
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    before, after = Workspace(finished), Workspace(Settings(state=state, study=str(study)))
    for slug in after.slugs():
        rows, footer = after.lake.read("chunk_logliks", slug), after.lake.footer("chunk_logliks", slug)
        assert set(rows["chunk_id"]) == set(after.table("chunks")["chunk_id"])
        kept = rows.join(before.lake.read("chunk_logliks", slug), on="chunk_id", suffix="_before")
        assert kept.height > 0
        assert kept["nll"].equals(kept["nll_before"])
        known = set(before.lake.read("chunk_logliks", slug)["text_digest"])
        new = rows.filter(~pl.col("text_digest").is_in(known))
        assert footer is not None
        assert footer.cost["tokens"] == new["tokens"].sum()
        # One page of a domain more is less than half of three, exact shares depend on the installed packages.
        assert (new.height > 0) == (share_scored > 0)
        assert new["tokens"].sum() <= share_scored * rows["tokens"].sum()


def test_a_model_with_broken_weights_is_listed_and_the_others_are_used(finished, tmp_path):
    """A good and a broken folder are added to the finished study: only their partitions and the fan-in run."""
    state = tmp_path / "state"
    shutil.copytree(finished.state, state)
    good, broken = tmp_path / "good", tmp_path / "broken"
    for folder, factor in ((good, 1.5), (broken, float("nan"))):
        shutil.copytree(finished.state / "models" / "code-step40", folder)
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        changed = {name: tensor * factor for name, tensor in weights.items()}
        safetensors.torch.save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    study = write_text_study(tmp_path)
    study.write_text(
        study.read_text()
        + "models: [{slug: good, family: ours, source: good}, {slug: broken, family: ours, source: broken}]\n"
    )
    outcomes = run(Settings(state=state, study=str(study)))
    failed = {str(outcome.task): outcome for outcome in outcomes if outcome.error}
    assert set(failed) == {"benchmark_scores[broken]", "chunk_logliks[broken]"}
    assert "holds NaN or infinity" in (failed["chunk_logliks[broken]"].error or "")
    assert all(outcome.bad_input for outcome in failed.values())
    per_model = {str(outcome.task) for outcome in outcomes if outcome.task.partition and not outcome.error}
    assert per_model == {"benchmark_scores[good]", "chunk_logliks[good]", "domain_logliks[good]"}
    errors = Workspace(Settings(state=state, study=str(study))).table("benchmark_errors")
    assert "good" in errors["slug"]
    assert "broken" not in errors["slug"]


def test_a_retired_domain_leaves_no_trace_in_any_table_or_artefact(finished, tmp_path):
    """Grep every file for its names and for lines that only its pages have: found before, gone after."""
    settings = _with_a_public_model(finished, tmp_path)
    state = settings.state
    (settings.shards / "public").mkdir(parents=True)
    (settings.shards / "public" / "left.npz").write_bytes(b"scores of a run that was killed")
    names, lines = (b"jinja2/code", b"jinja2/prose"), _lines_of(settings, "jinja2/")
    before = _places(settings, (*names, *lines))
    assert {"lake/pages", "lake/chunks", "lake/pretraining_mixture", "tasks", "dagster", "report.html"} <= before
    assert {"warehouse.duckdb", "lake/page_scores", "lake/selected_pages", "selection"} <= before

    _is_refused_while_text_is_left(settings, max(lines, key=len))
    signed = _retired(settings)

    assert not list(settings.retiring.iterdir()), "what was searched for names the domain's pages"
    assert _places(settings, (*names, *lines)) == {"retired.json"}
    assert signed.domains == ("jinja2/code", "jinja2/prose")
    assert signed.signed_off is not None
    assert set(signed.signed_off["models_trained_anew"]) == set(Workspace(settings).study.zoo_slugs())
    left = [sentence for sentence in signed.signed_off["not_covered"] if sentence.startswith("models/")]
    assert [sentence.partition(":")[0] for sentence in left] == [
        f"models/{run}-step{step}" for run in ("even", "rich") for step in (16, 4, 40)
    ]
    assert signed.signed_off["searched_for"]["runs_of_64_bytes_of_text"] > 10_000
    files = {path.relative_to(state).as_posix() for path in state.rglob("*") if path.is_file()}
    searched = {place["file"] for place in signed.signed_off["artefacts"]}
    assert {name for name in files if not name.startswith("lake/")} == searched | {"retired.json"}
    workspace = Workspace(settings)
    footer = workspace.lake.footer("chunk_logliks", "public")
    assert footer is not None
    assert footer.cost["tokens"] == 0, "a model that did not change is not asked again what other domains cost it"
    domains = {name for name in Workspace(finished).table("domains")["domain"] if not name.startswith("jinja2/")}
    assert set(workspace.table("pretraining_mixture")["domain"]) == domains
    assert run(settings) == []


def _with_a_public_model(finished: Settings, folder: Path) -> Settings:
    """The study with two of its four training runs, which are enough, and a model that it did not train; run."""
    shutil.copytree(finished.state, folder / "state")
    shutil.copytree(finished.state / "models" / "code-step40", folder / "public")
    study = write_text_study(folder)
    text = "".join(
        line for line in study.read_text().splitlines(True) if "run: even" not in line and "run: rich" not in line
    )
    text = text.replace("estimation: {", "estimation: {minimum_models: 3, ")
    study.write_text(text + "models: [{slug: public, family: theirs, source: public}]\n")
    # Under other weights than the zoo's, or it would count as a duplicate.
    _scale_weights(folder / "public" / "model.safetensors", 1.5)
    settings = Settings(state=folder / "state", study=str(study))
    assert [outcome.error for outcome in run(settings) if outcome.error] == []
    return settings


def _retired(settings: Settings) -> Retirement:
    return retire(settings, "jinja2/*", reason="a letter", owner="legal", display=Silent(), workers=1)


def _is_refused_while_text_is_left(settings: Settings, line: bytes) -> None:
    """Twice: by the second time all that the note could be recognised by is deleted from the tables."""
    note = settings.state / "note.txt"
    note.write_bytes(line * 2)
    for _ in range(2):
        with pytest.raises(InputError, match=r"not signed off: traces are left in note\.txt"):
            _retired(settings)
    note.unlink()


def _scale_weights(path: Path, factor: float) -> None:
    weights = {name: tensor * factor for name, tensor in safetensors.torch.load_file(path).items()}
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})


def _lines_of(settings: Settings, domain: str) -> list[bytes]:
    """Long lines of the sampled pages of a domain that no page of another has."""
    pages = Workspace(settings).lake.read_partitions("pages", ("training", "scoring", "benchmark"))
    own = pl.col("domain").str.starts_with(domain)
    lines = {line for text in pages.filter(own)["text"] for line in text.splitlines() if len(line) > 30}
    others = "\n".join(pages.filter(~own)["text"])
    return [line.encode() for line in sorted(lines) if line not in others]


def _places(settings: Settings, needles: tuple[bytes, ...]) -> set[str]:
    """Where any of the needles stands: the table, or the first part of the file's path."""
    found = {
        name.removesuffix(", decoded")
        for name, data in contents(settings.state)
        if any(map(data.__contains__, needles))
    }
    return {"/".join(name.split("/")[:2]) if name.startswith("lake/") else name.split("/")[0] for name in found}
