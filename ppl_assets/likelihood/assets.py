"""Assets of the likelihood room: what each chunk, and then each domain, costs each model."""

import contextlib
import shutil
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.hardware import claimed_device
from ppl_assets.likelihood.cost import forward_flops_per_token
from ppl_assets.likelihood.loading import load_model, prefetch_model
from ppl_assets.likelihood.tables import chunk_rows, domain_rows, known_rows, self_test_sample
from ppl_assets.orchestration.executors import GPU_OPTIONS
from ppl_assets.orchestration.provenance import is_current, partitions, scoring_digest
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.orchestration.workspace import Workspace
from ppl_assets.processes import alone, is_held
from ppl_assets.registry import model_source


@dg.asset(
    **asset_options("chunk_logliks", group="likelihood", kinds={"torch", "polars"}),
    deps=["corpus_chunks", "model_registry"],
    **GPU_OPTIONS,
)
def chunk_logliks(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What each chunk of text costs one model, in nats, with a status for every chunk."""
    step = Step(context, workspace)
    # A second run of the same model waits, finds all of its losses known, and scores nothing.
    with alone(_lock(step.workspace, step.key)):
        return _published(step)


def _published(step: Step) -> dg.MaterializeResult:
    """Score what is not known of the step's model, and publish all."""
    opened = step.workspace
    chunks, digest = opened.lake.read("chunks"), scoring_digest(opened, step.key)
    known = known_rows(opened.lake, step.key, chunks, digest)
    left = chunks.join(known, on="chunk_id", how="anti", maintain_order="left")
    if left.is_empty():
        return step.publish({"chunk_logliks": known}, metadata=_described(known, scored=0), tokens=0, flops=0.0)
    with claimed_device() as device:
        rows, flops_per_token = _scored(step, left, sample=self_test_sample(chunks), digest=digest, device=device)
    tokens = int(rows["tokens"].sum())
    both = pl.concat([known, rows])
    result = step.publish(
        {"chunk_logliks": both},
        metadata=_described(both, scored=rows.height),
        tokens=tokens,
        flops=float(flops_per_token * tokens),
        device=device,
    )
    shutil.rmtree(_shards(step))
    return result


def _scored(
    step: Step, chunks: pl.DataFrame, *, sample: list[str], digest: str, device: str
) -> tuple[pl.DataFrame, float]:
    """Rows of the chunks, and the FLOPs per token that they took; the model has left the device afterwards."""
    opened, scoring = step.workspace, step.workspace.study.scoring
    source = model_source(opened.study, opened.settings.models, opened.model(step.key), device=device)
    loaded = load_model(
        source.location,
        revision=source.revision,
        dtype=scoring.dtype,
        device=source.device,
        trust_remote_code=source.trust_remote_code,
    )
    prefetch_next(Workspace(opened.settings), step.key)
    rows = chunk_rows(
        step.key,
        chunks,
        loaded,
        sample=sample,
        scoring_digest=digest,
        token_folder=opened.settings.tokens,
        shard_folder=_shards(step),
        token_budget=scoring.token_budget,
        too_long=scoring.too_long,
        max_context=scoring.max_context,
        progress=step.report(),
    )
    return rows, forward_flops_per_token(loaded.model)


def prefetch_next(workspace: Workspace, slug: str) -> threading.Thread:
    """Bring the files of the model that will be scored after `slug` close, in a thread that ends with the process."""

    def prefetch() -> None:
        after = (each for each in partitions(workspace, "chunk_logliks") if each is not None and each > slug)
        # What another process is at is being read already.
        free = (each for each in after if not is_held(_lock(workspace, each)))
        following = next((each for each in free if not is_current(workspace, "chunk_logliks", each)), None)
        if following is None:
            return
        source = model_source(workspace.study, workspace.settings.models, workspace.model(following), device="cpu")
        # What is wrong with it is said when its turn comes.
        with contextlib.suppress(InputError):
            prefetch_model(source.location, revision=source.revision)

    thread = threading.Thread(target=prefetch, name="prefetch", daemon=True)
    thread.start()
    return thread


def _lock(workspace: Workspace, slug: str) -> Path:
    """Held by who scores the model."""
    return workspace.settings.locks / f"chunk_logliks-{slug}"


def _shards(step: Step) -> Path:
    """Where the finished shards of a model are kept until its rows are stored."""
    return step.workspace.settings.shards / step.key


def _described(rows: pl.DataFrame, *, scored: int) -> dict[str, Any]:
    statuses = dict(rows["status"].value_counts().iter_rows())
    return {"statuses": statuses, "chunks scored": scored, "chunks known before": rows.height - scored}


@dg.asset(
    **asset_options("domain_logliks", group="likelihood", kinds={"duckdb"}),
    deps=["chunk_logliks", "corpus_chunks", "imported_bpb", "model_registry"],
)
def domain_logliks(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What each domain costs one model: sums over its chunks, and bits per byte."""
    step = Step(context, workspace)
    rows = domain_rows(step.workspace.lake, step.key, scored=step.workspace.scores_text(step.key))
    return step.publish({"domain_logliks": rows}, metadata={"dagster/column_lineage": _column_lineage()})


def _column_lineage() -> dg.TableColumnLineage:
    """Which columns the SQL reads for which."""

    def from_chunks(*columns: str) -> list[dg.TableColumnDep]:
        return [dg.TableColumnDep("chunk_logliks", column) for column in columns]

    domain = [dg.TableColumnDep("corpus_chunks", "domain")]
    return dg.TableColumnLineage(
        {
            "slug": from_chunks("slug"),
            "domain": domain,
            "nll": from_chunks("nll", "status"),
            "tokens": from_chunks("tokens", "status"),
            "bytes": from_chunks("bytes", "status"),
            "chunks": from_chunks("chunk_id", "status"),
            "chunks_missing": from_chunks("chunk_id", "status"),
            "bpb": from_chunks("nll", "bytes", "status"),
        }
    )
