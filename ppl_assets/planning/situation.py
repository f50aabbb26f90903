"""Where a plan starts: what a study and its state folder say of models, of text, and of what is done already."""

from collections.abc import Mapping

from ppl_assets.orchestration.provenance import RECIPES, is_current, partitions
from ppl_assets.orchestration.runner import worker_count
from ppl_assets.orchestration.workspace import SPLITS, Workspace
from ppl_assets.planning.devices import device_named
from ppl_assets.planning.forecast import EVALUATION, SCORING, TRAINING, Plan, Situation, plan
from ppl_assets.planning.rehearsal import Kind, Rehearsed, rehearse
from ppl_assets.planning.text import TextSize, expected_text, is_local, sampled_text, stored_text
from ppl_assets.registry import only_imported
from ppl_assets.study import Study
from ppl_assets.study.schema import checkpoint_slug
from ppl_assets.training.train import parameters_of


def plan_of(workspace: Workspace, device: str) -> Plan:
    """The forecast for a workspace on a device; nothing is written.

    Raises:
        InputError: an unknown device, or a size that neither text nor study tells.
    """
    chosen, situation, text = device_named(device), situation_of(workspace), text_of(workspace)
    return plan(
        situation, text, chosen, _rehearsed(situation, text, on_cpu_here=device == "here" and not chosen.is_gpu)
    )


def situation_of(workspace: Workspace) -> Situation:
    """Models with their parameters, and the device seconds of what is current."""
    study = workspace.study
    params: dict[str, float | None] = {model.slug: model.params for model in study.models}
    params |= _of_pool(study)
    params |= dict(workspace.models().select("slug", "params").iter_rows())
    done: dict[tuple[str, str], float] = {}
    for asset in (TRAINING, SCORING, EVALUATION):
        if not RECIPES[asset].applies(workspace):
            continue
        for partition in partitions(workspace, asset):
            if partition is None or not is_current(workspace, asset, partition):
                continue
            footer = workspace.lake.footer(*RECIPES[asset].parts(partition)[0])
            spent = footer.cost if footer else {}
            done[asset, partition] = float(spent.get("device_seconds") or spent.get("seconds") or 0.0)
    imported = [slug for slug in params if only_imported(study, slug)]
    return Situation(study=study, params=params, done=done, imported=imported)


def text_of(workspace: Workspace) -> TextSize | None:
    """What models are asked: the chunks that are there, what the study expects, or a sample made for this."""
    study = workspace.study
    if study.corpus is None:
        return None
    if workspace.lake.exists("chunks"):
        return stored_text(workspace.table("chunks"), workspace.lake.read_partitions("pages", SPLITS))
    if study.corpus.expected is None and is_local(study):
        return sampled_text(study, workspace.retired)
    return expected_text(study)


def _of_pool(study: Study) -> Mapping[str, float | None]:
    """Parameters of the models that the study trains itself."""
    if study.zoo is None:
        return {}
    zoo = study.zoo
    return {
        checkpoint_slug(run.run, step): parameters_of(
            zoo.architectures[run.architecture],
            vocabulary=zoo.tokenizers[run.tokenizer].vocabulary,
            context_tokens=zoo.context_tokens,
        )
        for run in zoo.runs
        for step in zoo.checkpoints
    }


def _rehearsed(situation: Situation, text: TextSize | None, *, on_cpu_here: bool) -> dict[Kind, Rehearsed]:
    """Only where the pool is trained on this machine's processor and something of it is to do."""
    study = situation.study
    if study.zoo is None or text is None or text.rows.is_empty() or not on_cpu_here:
        return {}
    own = set(study.zoo_slugs())
    wanted = {(TRAINING, run.run) for run in study.zoo.runs} | {(SCORING, slug) for slug in own}
    if wanted | {(EVALUATION, slug) for slug in own} <= set(situation.done):
        return {}
    return rehearse(study, text.pages, text.rows, processes=worker_count())
