"""A plan: every model-running part of a study with its operations, device hours and cost, done or to do.

FLOPs of a forward pass: 2 per parameter and token; of training: 6 (Kaplan et al., arXiv 2001.08361). Parameters are
those of the registry or of the study; a model whose size nobody states counts as the median of the others. A tokenizer
that is not at hand is taken to make as many tokens as the reference. Attention and padding are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ppl_assets.errors import InputError
from ppl_assets.planning.devices import Device
from ppl_assets.planning.rehearsal import Kind, Rehearsed, kind_of
from ppl_assets.planning.text import TextSize
from ppl_assets.study import Study
from ppl_assets.study.schema import ZooRun, checkpoint_slug

SCORING, EVALUATION, TRAINING = "chunk_logliks", "benchmark_scores", "model_zoo"
_FORWARD, _TRAINING_FLOPS = 2, 6
# Of a public task that nobody has read yet: options per question and tokens per option, few-shot examples included.
REQUESTS_PER_QUESTION, TOKENS_PER_REQUEST, QUESTIONS_PER_TASK = 4, 150, 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One partition: what it takes in all, and whether that is done. `seconds` are seconds of one device."""

    asset: str
    partition: str
    params: float | None
    tokens: float
    flops: float
    seconds: float
    done: bool
    paid_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """All items in the order of the graph, with the sentences that their numbers rest on."""

    items: tuple[Item, ...]
    chunks: int
    device: Device
    price_per_hour: float
    currency: str
    assumptions: tuple[str, ...]

    def seconds(self, asset: str | None = None, *, done: bool = False) -> float:
        """Device seconds to do, or forecast of what is done, of one asset or of all."""
        return sum(item.seconds for item in self.items if item.done == done and asset in (None, item.asset))

    def cost(self, seconds: float) -> float | None:
        """Money for device seconds; None where the study states no price."""
        return seconds / 3600 * self.price_per_hour if self.price_per_hour else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Situation:
    """What a plan starts from: the study, the models by slug with their parameters where known, and what is done."""

    study: Study
    params: Mapping[str, float | None]
    done: Mapping[tuple[str, str], float]
    """Device seconds paid for every current partition, by asset and partition."""

    imported: Sequence[str] = ()
    """Models of which only losses and scores were imported: nothing is run for them."""


def plan(situation: Situation, text: TextSize | None, device: Device, rehearsed: Mapping[Kind, Rehearsed]) -> Plan:
    """The forecast of a study on a device.

    Args:
        text: what models are scored on; None where the study has no text.
        rehearsed: what the study's own pool takes on this machine; empty for another device.
    """
    study, typical = situation.study, _typical(situation.params)
    own = (
        {checkpoint_slug(run.run, step): run for run in _runs(study) for step in study.zoo.checkpoints}
        if study.zoo
        else {}
    )
    scored = [slug for slug in situation.params if slug not in situation.imported]
    items = [_training(situation, run, device, rehearsed) for run in _runs(study)]
    questions, asked = questions_of(study)
    for slug in scored:
        params = situation.params[slug] or typical
        measured = rehearsed.get(kind_of(own[slug])) if slug in own else None
        if text is not None:
            items.append(_scoring(situation, slug, params, text, device, measured))
        if questions:
            items.append(_evaluation(situation, slug, params, questions, asked, device, measured))
    prices = study.prices
    return Plan(
        items=tuple(items),
        chunks=text.chunks if text else 0,
        device=device,
        price_per_hour=prices.gpu_hour if device.is_gpu else prices.cpu_hour,
        currency=prices.currency,
        assumptions=tuple(_assumptions(situation, text, device, rehearsed, typical)),
    )


def _training(situation: Situation, run: ZooRun, device: Device, rehearsed: Mapping[Kind, Rehearsed]) -> Item:
    zoo = situation.study.zoo
    assert zoo is not None
    params = situation.params.get(checkpoint_slug(run.run, zoo.checkpoints[-1])) or 0.0
    tokens = zoo.checkpoints[-1] * zoo.batch_sequences * zoo.sequence_tokens
    flops = _TRAINING_FLOPS * params * tokens
    measured = rehearsed.get(kind_of(run))
    seconds = measured.training.at(zoo.checkpoints[-1]) if measured else flops / device.flops_per_second
    return _item(situation, TRAINING, run.run, params, tokens, flops, seconds)


def _scoring(
    situation: Situation, slug: str, params: float, text: TextSize, device: Device, measured: Rehearsed | None
) -> Item:
    tokens = text.tokens * (measured.tokens_per_reference if measured else 1.0)
    flops = _FORWARD * params * tokens
    seconds = measured.scoring.at(text.tokens) if measured else flops / device.flops_per_second
    return _item(situation, SCORING, slug, params, tokens, flops, seconds)


def _evaluation(
    situation: Situation,
    slug: str,
    params: float,
    questions: int,
    tokens: float,
    device: Device,
    measured: Rehearsed | None,
) -> Item:
    flops = _FORWARD * params * tokens
    seconds = measured.evaluation.at(questions) if measured else flops / device.flops_per_second
    return _item(situation, EVALUATION, slug, params, tokens, flops, seconds)


def _item(
    situation: Situation, asset: str, partition: str, params: float, tokens: float, flops: float, seconds: float
) -> Item:
    key = (asset, partition)
    return Item(
        asset=asset,
        partition=partition,
        params=params,
        tokens=tokens,
        flops=flops,
        seconds=seconds,
        done=key in situation.done,
        paid_seconds=situation.done.get(key, 0.0),
    )


def questions_of(study: Study) -> tuple[int, float]:
    """Questions of all tasks of the targets, and the tokens that asking them takes."""
    built = {task.task: task for task in study.benchmarks.build}
    limit = study.benchmarks.limit
    questions, tokens = 0, 0.0
    for name in sorted({task.task for target in study.targets.values() for task in target.tasks}):
        own = built.get(name)
        there = own.items if own else QUESTIONS_PER_TASK
        asked = min(there, limit or there)
        questions += asked
        if own is None:
            tokens += asked * REQUESTS_PER_QUESTION * TOKENS_PER_REQUEST
            continue
        per_option = (own.context_bytes + own.continuation_bytes) / _bytes_per_token(study)
        tokens += asked * (REQUESTS_PER_QUESTION if own.form == "choice" else 1) * per_option
    return questions, tokens


def _bytes_per_token(study: Study) -> float:
    return study.corpus.reference_tokenizer.bytes_per_token if study.corpus else 4.0


def _typical(params: Mapping[str, float | None]) -> float:
    known = [value for value in params.values() if value]
    if params and not known:
        raise InputError("study field models: no model states its params; expected them for at least one, to plan with")
    return median(known) if known else 0.0


def _runs(study: Study) -> Sequence[ZooRun]:
    return study.zoo.runs if study.zoo else ()


def _assumptions(
    situation: Situation,
    text: TextSize | None,
    device: Device,
    rehearsed: Mapping[Kind, Rehearsed],
    typical: float,
) -> list[str]:
    study = situation.study
    sentences = [f"Rate: {device.basis}."]
    if rehearsed:
        sentences.append(
            f"The study's own pool was trained, scored and evaluated for a moment on this machine ({len(rehearsed)} "
            "kinds of model); its times are processor seconds of one thread, not taken from the rate."
        )
    if text is not None:
        sentences.append(f"Text: {text.chunks:,} chunks, {text.tokens:,} reference tokens; {text.basis}.")
        if not rehearsed:
            sentences.append("A model makes as many tokens of a text as the reference.")
    unknown = [slug for slug, params in situation.params.items() if not params and slug not in situation.imported]
    if unknown:
        sentences.append(
            f"{len(unknown)} models do not state their parameters and count as {typical / 1e9:.2g} billion, the median "
            f"of the others: {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}."
        )
    public = {task.task for target in study.targets.values() for task in target.tasks}
    public -= {task.task for task in study.benchmarks.build}
    if public and len(situation.imported) < len(situation.params):
        sentences.append(
            f"{len(public)} tasks are not read here: each counts as {QUESTIONS_PER_TASK:,} questions, or the study's "
            f"limit, of {REQUESTS_PER_QUESTION} requests of {TOKENS_PER_REQUEST} tokens."
        )
    if situation.imported:
        sentences.append(f"{len(situation.imported)} models were imported: nothing is run for them.")
    sentences.append("Downloading, loading from disk and what needs no model are not counted.")
    return sentences
