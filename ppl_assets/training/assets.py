"""Asset of the training room: the pool of models that a study trains itself."""

import dagster as dg

from ppl_assets.orchestration.executors import GPU_OPTIONS
from ppl_assets.orchestration.step import Step, WorkspaceResource, asset_options
from ppl_assets.processes import alone
from ppl_assets.training.train import train_run

# Forward and backward pass: 6 FLOPs per parameter and token (Kaplan et al., arXiv 2001.08361).
_FLOPS_PER_PARAMETER = 6


@dg.asset(
    **asset_options("model_zoo", group="models", kinds={"torch", "transformers"}),
    deps=["corpus_pages"],
    **GPU_OPTIONS,
)
def model_zoo(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:
    """The checkpoints of one training run, each a model folder; the run states mixture, tokenizer, size and seed."""
    step = Step(context, workspace)
    study, settings = step.workspace.study, step.workspace.settings
    assert study.zoo is not None, "the asset applies to studies that train a pool"
    run = next(each for each in study.zoo.runs if each.run == step.key)
    # A second run of the same partition waits, and finds the checkpoints.
    with alone(settings.locks / f"model_zoo-{step.key}"):
        rows = train_run(
            run,
            study.zoo,
            step.workspace.lake.read("pages", "training"),
            settings.models,
            fingerprint=step.fingerprint,
            progress=step.report(),
        )
    last = rows.sort("step").row(-1, named=True)
    return step.publish(
        {"zoo_checkpoints": rows},
        metadata={"training loss": last["training_loss"], "parameters": last["params"]},
        tokens=last["tokens"],
        flops=float(_FLOPS_PER_PARAMETER * last["params"] * last["tokens"]),
    )
