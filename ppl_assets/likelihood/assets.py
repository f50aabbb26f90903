"""Assets of the likelihood room: what each chunk, and then each domain, costs each model."""

import shutil

import dagster as dg

from ppl_assets.likelihood.cost import forward_flops_per_token
from ppl_assets.likelihood.loading import load_model
from ppl_assets.likelihood.tables import chunk_rows, domain_rows
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.registry import model_source


@dg.asset(
    **asset_options("chunk_logliks", group="likelihood", kinds={"torch", "polars"}),
    deps=["corpus_chunks", "model_registry"],
    pool="gpu",
)
def chunk_logliks(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What each chunk of text costs one model, in nats, with a status for every chunk."""
    step = Step(context, workspace)
    opened, scoring = step.workspace, step.workspace.study.scoring
    source = model_source(opened.study, opened.settings.models, opened.model(step.key))
    loaded = load_model(
        source.location,
        revision=source.revision,
        dtype=scoring.dtype,
        device=source.device,
        trust_remote_code=source.trust_remote_code,
    )
    shards = opened.settings.state / "shards" / step.key
    rows = chunk_rows(
        step.key,
        opened.lake.read("chunks"),
        loaded,
        token_folder=opened.settings.state / "tokens",
        shard_folder=shards,
        token_budget=scoring.token_budget,
        too_long=scoring.too_long,
        progress=step.report(),
    )
    tokens = int(rows["tokens"].sum())
    result = step.publish(
        {"chunk_logliks": rows},
        metadata={"statuses": dict(rows["status"].value_counts().iter_rows())},
        tokens=tokens,
        flops=float(forward_flops_per_token(loaded.model) * tokens),
        device=source.device,
    )
    shutil.rmtree(shards)
    return result


@dg.asset(
    **asset_options("domain_logliks", group="likelihood", kinds={"duckdb"}),
    deps=["chunk_logliks", "corpus_chunks", "imported_bpb", "model_registry"],
)
def domain_logliks(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """What each domain costs one model: sums over its chunks, and bits per byte."""
    step = Step(context, workspace)
    rows = domain_rows(step.workspace.lake, step.key)
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
