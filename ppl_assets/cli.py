"""The command line. Exit code 0: done; 1: something failed; 2: bad input, told as a sentence."""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ppl_assets.display import display_for, error_console, output_console
from ppl_assets.errors import InputError, suggestion
from ppl_assets.export import FORMATS, export_mixture
from ppl_assets.settings import STATE_VARIABLE, STUDY_VARIABLE, TIME_LIMIT_VARIABLE, Settings

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(
    name="ppl-assets",
    help="Choose pretraining data with evidence from public models, and say so when there is none.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
import_app = typer.Typer(help="Take in losses or scores that were computed elsewhere.", no_args_is_help=True)
models_app = typer.Typer(help="Look at the models of the study, add one, retire one.", no_args_is_help=True)
export_app = typer.Typer(help="Write a target's mixture as a file that a trainer reads, or losses for another site.")
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")
app.add_typer(models_app, name="models")

State = Annotated[
    Path | None, typer.Option("--state", envvar=STATE_VARIABLE, help="Folder of everything that is stored.")
]
StudyName = Annotated[
    str | None, typer.Option("--study", envvar=STUDY_VARIABLE, help="Study file, or an embedded study (demo, paper).")
]
Select = Annotated[
    list[str] | None, typer.Option("--select", help="Asset to bring up to date, with all that it needs; repeatable.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit", envvar=TIME_LIMIT_VARIABLE, help="Hours that one partition may take before it is stopped; 24."
    ),
]

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2

# What the demo trains of its pilot: enough for an answer, and short enough for a first look.
DEMO_ARMS = ("ours", "uniform")


def main() -> None:
    """Entry point: bad input becomes a sentence on standard error and exit code 2."""
    try:
        app()
    except InputError as error:
        error_console().print(f"ppl-assets: {error}")
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        error_console().print("ppl-assets: cancelled; what was finished is kept, and the next run goes on from there")
        sys.exit(EXIT_FAILED)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write study.yaml into.")],
    template: Annotated[str, typer.Option("--from", help="Embedded study to start from: demo or paper.")] = "demo",
) -> None:
    """Write a commented study.yaml that runs as it is."""
    from ppl_assets.study import EMBEDDED, embedded_text
    from ppl_assets.warehouse import replace_file

    if template not in EMBEDDED:
        raise InputError(f"--from: found {template!r}, expected one of {EMBEDDED}{suggestion(template, EMBEDDED)}")
    path = folder / "study.yaml"
    if path.exists():
        raise InputError(f"{path}: exists already; choose another folder, or delete it first")
    replace_file(path, embedded_text(template))
    Console().print(f"{path}\nRun it with: ppl-assets run --study {path} --state {folder / '.ppl'}", soft_wrap=True)


@app.command()
def run(study: StudyName = None, state: State = None, select: Select = None, time_limit: TimeLimit = None) -> None:
    """Materialize what is missing or stale, and print what came of it."""
    _run(Settings.from_environment(state=state, study=study, time_limit=time_limit), select)


@app.command()
def demo(state: State = None) -> None:
    """Run the embedded demo study: models trained on the spot on text of installed packages, and a small pilot."""
    _run(Settings.from_environment(state=state, study="demo"), None, pilot_arms=DEMO_ARMS)


def _run(settings: Settings, select: list[str] | None, *, pilot_arms: tuple[str, ...] | None = None) -> None:
    from ppl_assets.orchestration.runner import run_stale
    from ppl_assets.orchestration.workspace import Workspace

    console = output_console()
    with display_for(console) as display:
        outcomes = run_stale(settings, select=select, display=display, pilot_arms=pilot_arms)
    if not outcomes:
        console.print("Everything is current.")
    failures = [outcome for outcome in outcomes if outcome.error]
    if not select:
        _summarize(settings, console)
    elif "pilot_comparison" in select:
        _show_pilot(Workspace(settings).table("pilot_comparison"), console)
    for outcome in failures:
        error_console().print(f"ppl-assets: {outcome.error}")
    if failures:
        sys.exit(EXIT_BAD_INPUT if all(outcome.bad_input for outcome in failures) else EXIT_FAILED)


def _show_pilot(comparison: "pl.DataFrame", console: Console) -> None:
    from ppl_assets.pilot.terminal import summary_tables

    for table in summary_tables(comparison):
        console.print(table)


def _summarize(settings: Settings, console: Console) -> None:
    from ppl_assets.orchestration.workspace import Workspace
    from ppl_assets.report import summary_tables
    from ppl_assets.report.tables import report_data

    workspace = Workspace(settings)
    if not workspace.lake.exists("pretraining_mixture"):
        return
    data = report_data(workspace)
    for table in summary_tables(data):
        console.print(table)
    _show_pilot(data.pilot_comparison, console)
    for path in (settings.warehouse_file, settings.report_file):
        if path.is_file():
            console.print(str(path), soft_wrap=True, highlight=False)


@app.command()
def ui(
    study: StudyName = None,
    state: State = None,
    port: Annotated[int, typer.Option(help="Port on localhost.")] = 3000,
) -> None:
    """Open the Dagster web UI and daemon on the same state."""
    from ppl_assets.orchestration.instance import (
        WORKSPACE_FILE,
        fail_abandoned_runs,
        open_instance,
        prepare,
        sync_partitions,
    )
    from ppl_assets.orchestration.workspace import Workspace

    settings = Settings.from_environment(state=state, study=study)
    prepare(settings)
    with open_instance() as instance:
        fail_abandoned_runs(instance)
        sync_partitions(instance, Workspace(settings))
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(WORKSPACE_FILE), "-h", "127.0.0.1", "-p", str(port)]
    os.execv(sys.executable, command)


@app.command()
def status(study: StudyName = None, state: State = None) -> None:
    """Say what is current, stale, failed or missing, per asset and model."""
    from ppl_assets.orchestration.instance import open_instance, prepare
    from ppl_assets.orchestration.status import STATES, partition_states
    from ppl_assets.orchestration.workspace import Workspace

    settings = Settings.from_environment(state=state, study=study)
    prepare(settings)
    with open_instance() as instance:
        states = partition_states(Workspace(settings), instance)
    table = Table("asset", *STATES, "which are not current")
    for asset in dict.fromkeys(each.asset for each in states):
        own = [each for each in states if each.asset == asset]
        counts = Counter(each.state for each in own)
        behind = [f"{each.partition} ({each.state})" for each in own if each.partition and each.state != "current"]
        table.add_row(asset, *(str(counts[name]) for name in STATES), ", ".join(behind))
    Console().print(table)


@app.command()
def report(study: StudyName = None, state: State = None) -> None:
    """Bring the report up to date and print its path."""
    settings = Settings.from_environment(state=state, study=study)
    _run(settings, ["selection_report"])
    Console().print(str(settings.report_file), soft_wrap=True, highlight=False)


@app.command()
def plan(
    device: Annotated[
        str, typer.Option(help="Device to plan for: here (this machine, measured), a100, h100, h200 or b200.")
    ] = "here",
    study: StudyName = None,
    state: State = None,
) -> None:
    """Say what a run would take before it runs: models, chunks, tokens, hours and cost; and what is paid for."""
    from ppl_assets.orchestration.runner import worker_count
    from ppl_assets.orchestration.workspace import Workspace
    from ppl_assets.planning.plan_text import plan_lines, plan_table
    from ppl_assets.planning.situation import plan_of

    os.environ.setdefault("TQDM_DISABLE", "1")  # as in workers: the libraries' own bars say nothing here
    planned = plan_of(Workspace(Settings.from_environment(state=state, study=study)), device)
    console = output_console()
    console.print(plan_table(planned))
    for line in plan_lines(planned, workers=worker_count()):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="Domain, or id of a sampled page.")],
    target: Annotated[str, typer.Option("--target", help="Target that is chosen for.")],
    without_family: Annotated[
        list[str] | None, typer.Option(help="Decide again without this family of models; repeatable.")
    ] = None,
    epochs: Annotated[
        list[float] | None, typer.Option(help="Decide again with every domain repeated so often; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all facts as JSON.")] = False,
    study: StudyName = None,
    state: State = None,
) -> None:
    """Say why a domain or page is trained on or is not, and what would have been decided otherwise."""
    import json

    from ppl_assets.orchestration.status import behind
    from ppl_assets.orchestration.workspace import Workspace
    from ppl_assets.report.explanation import explain as explained
    from ppl_assets.report.explanation_text import explanation_lines
    from ppl_assets.report.tables import sources

    workspace = Workspace(Settings.from_environment(state=state, study=study))
    facts = explained(sources(workspace), name, target, families=without_family or (), epochs=epochs or ())
    lines = [json.dumps(facts, indent=2, default=str)] if as_json else explanation_lines(facts)
    for line in lines:
        Console().print(line, soft_wrap=True, highlight=False, markup=False)
    if stale := behind(workspace, "pretraining_mixture"):
        error_console().print(
            f"ppl-assets: this is not up to date ({', '.join(stale)}); `ppl-assets run`, then ask again"
        )


@app.command("retire-domain")
def retire_domain(
    pattern: Annotated[str, typer.Argument(help="Domain, or a shell pattern such as '*.example.com'.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")],
    owner: Annotated[str | None, typer.Option("--owner", help="On whose word; default: who runs this.")] = None,
    study: StudyName = None,
    state: State = None,
) -> None:
    """Remove a domain for good: delete what is stored of it, compute everything anew without it, prove its absence."""
    import getpass

    from ppl_assets.retirement import retire

    settings, console = Settings.from_environment(state=state, study=study), output_console()
    with display_for(console) as display:
        signed = retire(settings, pattern, reason=reason, owner=owner or getpass.getuser(), display=display)
    console.print(
        f"{len(signed.domains)} domains are gone; signed off in {settings.retired_file}",
        soft_wrap=True,
        highlight=False,
    )


Out = Annotated[Path, typer.Option("--out", help="File to write; an existing one is replaced.")]


@export_app.command("losses")
def export_losses(out: Out, study: StudyName = None, state: State = None) -> None:
    """Write the losses of all models, without any text, as a file for `ppl-assets import bpb` elsewhere."""
    from ppl_assets.export.losses import export_losses as write
    from ppl_assets.orchestration.workspace import Workspace

    rows = write(Workspace(Settings.from_environment(state=state, study=study)), out)
    models, domains = rows["slug"].n_unique(), rows["domain"].n_unique()
    Console().print(f"{out}: losses of {models} models on {domains} domains", soft_wrap=True, highlight=False)


@export_app.callback(invoke_without_command=True)
def export(
    context: typer.Context,
    target: Annotated[str | None, typer.Option("--target", help="Target whose mixture is written.")] = None,
    format: Annotated[str | None, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; an existing one is replaced.")] = None,
    path_template: Annotated[
        str, typer.Option(help="Path of a domain's data, as the trainer will find it.")
    ] = "data/{domain}",
    study: StudyName = None,
    state: State = None,
) -> None:
    """Write a target's mixture as a file that a trainer reads; `losses` writes losses for another site instead."""
    if context.invoked_subcommand:
        return
    if target is None or format is None or out is None:
        options = {"--target": target, "--format": format, "--out": out}
        absent = next(name for name, value in options.items() if value is None)
        raise InputError(f"{absent}: missing; an export needs {', '.join(options)}")
    from ppl_assets.orchestration.status import behind
    from ppl_assets.orchestration.workspace import Workspace

    workspace = Workspace(Settings.from_environment(state=state, study=study))
    blend = export_mixture(workspace, target=target, format=format, out=out, template=path_template)
    Console().print(f"{out}: {len(blend.shares)} domains, {blend.origin}", soft_wrap=True, highlight=False)
    if stale := behind(workspace, "pretraining_mixture"):
        error_console().print(
            f"ppl-assets: the mixture is not up to date ({', '.join(stale)}); `ppl-assets run`, then export again"
        )


@models_app.command("list")
def models_list(study: StudyName = None, state: State = None) -> None:
    """Print the registered models with their lineage and status."""
    from ppl_assets.orchestration.workspace import Workspace

    workspace = Workspace(Settings.from_environment(state=state, study=study))
    columns = ("slug", "family", "run", "kind", "params", "status", "status_reason")
    table = Table(*columns, title=f"models of study {workspace.study.name}")
    for row in workspace.table("models").select(columns).iter_rows():
        table.add_row(*("" if value is None else str(value) for value in row))
    Console().print(table)


@models_app.command("add")
def models_add(
    slug: Annotated[str, typer.Argument(help="Key of the model, and its partition.")],
    family: Annotated[str, typer.Option(help="Models of one maker and recipe.")],
    source: Annotated[str, typer.Option(help="Folder relative to the study file, or Hugging Face repository.")],
    revision: Annotated[str | None, typer.Option(help="Pinned commit or tag of a repository.")] = None,
    run: Annotated[str | None, typer.Option(help="Training run whose checkpoints belong together.")] = None,
    kind: Annotated[str | None, typer.Option(help="public, or probe for one trained on a designed mixture.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    maker: Annotated[str | None, typer.Option(help="Organisation that trained it.")] = None,
    study: StudyName = None,
    state: State = None,
) -> None:
    """List one more model in the study file; the next run scores it and nothing else."""
    from ppl_assets.study import add_model

    settings = Settings.from_environment(state=state, study=study)
    fields = {"slug": slug, "family": family, "source": source, "revision": revision, "run": run}
    add_model(settings.study, fields | {"kind": kind, "license": license, "maker": maker})
    Console().print(f"{settings.study}: lists {slug}; `ppl-assets run` takes it into account.", soft_wrap=True)


@models_app.command("retire")
def models_retire(
    slug: Annotated[str, typer.Argument(help="Key of the model.")], study: StudyName = None, state: State = None
) -> None:
    """Take a model off the study file; the next run removes its partition and all of its rows."""
    from ppl_assets.study import retire_model

    settings = Settings.from_environment(state=state, study=study)
    retire_model(settings.study, slug)
    Console().print(f"{settings.study}: no longer lists {slug}; `ppl-assets run` removes it.", soft_wrap=True)


File = Annotated[Path, typer.Argument(help="Long CSV or Parquet, or a wide CSV whose headers are ('family', 'repo').")]


@import_app.command("bpb")
def import_bpb(file: File, study: StudyName = None, state: State = None) -> None:
    """Take in losses: columns slug, domain, bpb (and nll, tokens, bytes where known), or a wide CSV."""
    _import("bpb", file, Settings.from_environment(state=state, study=study))


@import_app.command("scores")
def import_scores(file: File, study: StudyName = None, state: State = None) -> None:
    """Take in scores: columns slug, task, metric, value (and stderr, samples where known), or a wide CSV."""
    _import("scores", file, Settings.from_environment(state=state, study=study))


def _import(kind: str, file: Path, settings: Settings) -> None:
    from ppl_assets.orchestration.instance import prepare
    from ppl_assets.orchestration.workspace import Workspace
    from ppl_assets.registry import take_in

    prepare(settings)
    copy = take_in(Workspace(settings).study, settings, "bpb" if kind == "bpb" else "scores", file)
    Console().print(f"Imported {file} as {copy}; `ppl-assets run` takes it into account.", soft_wrap=True)
