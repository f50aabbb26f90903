"""All runs of one arm: every size, target and seed trained, measured, and told in the room's tables.

Where an arm chooses the same pages for several targets (`uniform` does), they share a run: it would be the same. A run
that is finished is neither trained nor measured again, so an arm that fails goes on from there.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.likelihood import load_model, start_token, tokenizer_fingerprint
from ppl_assets.likelihood.tokenization import raw_tokenizer, without_limits
from ppl_assets.meter import Clock, total_time
from ppl_assets.model_files import weights_digest
from ppl_assets.pilot.measuring import domain_losses, overall_bpb, read_measured, task_scores, write_measured
from ppl_assets.pilot.packing import tokenize_pages
from ppl_assets.pilot.training import Run, check, finished, train
from ppl_assets.progress import Progress, Report
from ppl_assets.schema import TABLES
from ppl_assets.study import Study
from ppl_assets.study.schema import PilotSize
from ppl_assets.training.tokenizer import as_transformers

_TABLES = ("pilot_runs", "pilot_domains", "pilot_curves")
# What is known of a training, besides its curve, and stands among the metrics.
_FACTS = {
    "loss": "training_loss",
    "params": "params",
    "tokens": "tokens",
    "unique_tokens": "unique_tokens",
    "epochs": "epochs",
    "flops": "flops",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPages:
    """Pages that an arm trains on for some targets, with all seeds or (a control) with one.

    `digest` identifies the set of pages; `texts` yields their ids and texts, in any order.
    """

    targets: tuple[str, ...]
    digest: str
    texts: Callable[[], Iterator[tuple[str, str]]]
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all arms of a pilot share: held-out chunks, the tokenizer, tasks, and where files go.

    `tokenizer` is a `tokenizers.Tokenizer` for sizes that no model gives one, or None where there is no such size;
    `identity` is a hash of what models are measured on.
    """

    study: Study
    pilot: str
    chunks: pl.DataFrame
    tokenizer: Any
    task_folders: Sequence[Path]
    token_folder: Path
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """What an arm's runs gave, as tables by name, and what they took: `meter.total_time` of training and measuring.

    A run counts whole, whenever it was trained: the work of earlier steps, and of sittings that were interrupted.
    """

    tables: dict[str, pl.DataFrame]
    spent: dict[str, Any]


def run_arm(
    arm: str,
    pages: Sequence[ArmPages],
    setting: Setting,
    folder: Path,
    *,
    device: str = "cpu",
    progress: Report | None = None,
) -> ArmResult:
    """Rows of ``pilot_runs``, ``pilot_domains`` and ``pilot_curves`` of one arm; models stay in `folder`.

    On a GPU, runs are trained on the one that is current, and `device` names it for measuring.

    Raises:
        InputError: an arm without pages, a budget that repeats them too often, a loss that is not finite, a task that
            fails. What was trained and measured before is kept.
    """
    pilot = setting.study.pilot
    assert pilot is not None, "the study states no pilot"
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    used, readings = set[Path](), list[dict[str, Any]]()
    runs = list(_runs(arm, pages, setting, folder))
    track = _Track(runs=len(runs), progress=progress)
    for size_name, chosen, run, place in runs:
        facts = train(run, place, progress=track.within)
        measured = _measure(run, chosen.targets, setting, place, device)
        track.finished(facts["tokens"])
        used.add(place)
        readings += [*facts["spent"], measured["spent"]]
        for target in chosen.targets:
            key = {"arm": arm, "target": target, "size": size_name, "seed": run.seed}
            training = [{"metric": f"training/{name}", "value": float(facts[of])} for name, of in _FACTS.items()]
            empty = {"stderr": None, "samples": None, "run": run.identity, "pilot": setting.pilot}
            held_out = {"metric": "held_out/bpb", "value": overall_bpb(measured["domains"])}
            for row in [*measured["tasks"][target], held_out, *training]:
                rows["pilot_runs"].append({**empty, **key, **row})
            rows["pilot_domains"] += [{**key, **row} for row in measured["domains"]]
            rows["pilot_curves"] += [{**key, **point} for point in facts["curve"]]
    _remove_others(folder, used)
    tables = {name: pl.DataFrame(found, schema=TABLES[name].polars_schema) for name, found in rows.items()}
    return ArmResult(tables=tables, spent=total_time(readings))


def grouped(pages: Iterable[ArmPages]) -> list[ArmPages]:
    """Pages that are the same for several targets, put together."""
    found: dict[tuple[str, int | None], ArmPages] = {}
    for each in pages:
        key = (each.digest, each.seed)
        targets = (*(found[key].targets if key in found else ()), *each.targets)
        found[key] = ArmPages(targets=targets, digest=each.digest, texts=each.texts, seed=each.seed)
    return list(found.values())


def _runs(
    arm: str, pages: Sequence[ArmPages], setting: Setting, folder: Path
) -> Iterator[tuple[str, ArmPages, Run, Path]]:
    """Size, pages, run and folder of all that an arm trains; what is not trained yet is tokenized and checked."""
    pilot = setting.study.pilot
    assert pilot is not None
    for name, size in pilot.sizes.items():
        tokenizer, start = _tokenizer(setting, size, name)
        fingerprint = tokenizer_fingerprint(tokenizer)
        start_digest = weights_digest(start) if start else None
        for chosen in pages:
            identity = f"{chosen.digest}-{fingerprint[:16]}"
            where = f"pilot, arm {arm!r}, target {' and '.join(chosen.targets)}, size {name!r}"
            raw = without_limits(raw_tokenizer(tokenizer).to_str())
            raw.encode_special_tokens = True
            runs = [
                Run(
                    where=f"{where}, seed {seed}",
                    size=size,
                    tokens=folder / "tokens" / identity,
                    pages=identity,
                    tokenizer=tokenizer,
                    seed=seed,
                    max_epochs=pilot.max_epochs,
                    start=start,
                    start_digest=start_digest,
                )
                for seed in (pilot.seeds if chosen.seed is None else (chosen.seed,))
            ]
            places = [folder / name / chosen.digest / f"seed-{run.seed}" for run in runs]
            unfinished = [run for run, place in zip(runs, places, strict=True) if finished(run, place) is None]
            if unfinished:
                tokens = unfinished[0].tokens
                tokenize_pages(chosen.texts(), tokens, raw, start=start_token(tokenizer), identity=identity)
                check(unfinished[0])
            yield from ((name, chosen, run, place) for run, place in zip(runs, places, strict=True))


def _tokenizer(setting: Setting, size: PilotSize, name: str) -> tuple[Any, Path | None]:
    """The tokenizer of a size, and the model that it starts from."""
    study = setting.study
    assert study.pilot is not None
    if size.start is not None:
        start = study.path(size.start)
        return load_model(_folder(start, f"study field pilot.sizes.{name}.start")).tokenizer, start
    if study.pilot.tokenizer is not None:
        from transformers import AutoTokenizer

        folder = _folder(study.path(study.pilot.tokenizer), "study field pilot.tokenizer")
        return AutoTokenizer.from_pretrained(folder, local_files_only=True), None
    return as_transformers(setting.tokenizer, context_tokens=size.context_tokens), None


def _folder(path: Path, where: str) -> Path:
    if not path.is_dir():
        raise InputError(f"{where}: {path}: no such folder, expected that of a model")
    return path


def _measure(run: Run, targets: Sequence[str], setting: Setting, place: Path, device: str) -> dict[str, Any]:
    """Tasks by target, and domains, of a run's model, and the time that it took to measure them."""
    identity = hashlib.sha256(json.dumps([run.identity, setting.identity, targets]).encode()).hexdigest()
    known = read_measured(place, identity=identity)
    if known is not None:
        return known
    clock = Clock()
    loaded = load_model(place / "model", device=device)
    measured = {
        "tasks": {name: task_scores(loaded, setting.study, name, setting.task_folders) for name in targets},
        "domains": domain_losses(loaded, setting.chunks, setting.token_folder),
    }
    measured["spent"] = clock.read(device)
    write_measured(place, measured, identity=identity)
    return measured


class _Track:
    """Progress over all runs of an arm, in tokens."""

    def __init__(self, *, runs: int, progress: Report | None) -> None:
        self._runs, self._progress = runs, progress
        self._done, self._left, self._began = 0, runs, time.monotonic()

    def within(self, step: Progress) -> None:
        """A run went on."""
        if self._progress and step.total is not None:
            total = self._done + self._left * step.total
            seconds = time.monotonic() - self._began
            self._progress(Progress(done=self._done + step.done, total=total, unit="tokens", seconds=seconds))

    def finished(self, tokens: int) -> None:
        """A run ended."""
        self._done, self._left = self._done + tokens, self._left - 1


def _remove_others(folder: Path, used: set[Path]) -> None:
    """Delete tokens, and runs of pages that the arm no longer chooses."""
    shutil.rmtree(folder / "tokens", ignore_errors=True)
    for place in folder.glob("*/*/seed-*"):
        if place not in used:
            shutil.rmtree(place)
