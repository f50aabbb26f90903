"""One pilot run: a model trained on an arm's pages by ``transformers.Trainer``, to be interrupted at any moment.

What a run's weights depend on stands in `Run` and is hashed into its `identity`: a finished run is never trained again,
an interrupted one goes on from its last whole checkpoint. On a CPU the run has one thread and is the same bit for bit,
interrupted or not; on a GPU kernels may add in another order. Losses are nats per token.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_assets.errors import InputError
from ppl_assets.likelihood import load_model
from ppl_assets.meter import Clock
from ppl_assets.pilot.packing import PackedPages, Sequences, check_budget, epochs_needed
from ppl_assets.progress import Progress, Report
from ppl_assets.study.schema import PilotSize
from ppl_assets.training.checkpoints import read_record, replacing_folder, write_record
from ppl_assets.training.train import build_model, one_thread, without_bars
from ppl_assets.warehouse import replace_file

if TYPE_CHECKING:
    import torch

# Bump it when the same run would get other weights.
_TRAINING_CODE = "1"
# Points of a loss curve.
_CURVE_POINTS = 50
# Rows of the embedding come in multiples of so many, as Pythia's do; matrix products of odd sizes are slow on a GPU.
_ROWS_MULTIPLE = 64
_WHOLE = "whole.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run: what is trained, on which pages, in which order.

    `tokens` is a folder that `packing.tokenize_pages` wrote and `pages` the identity of what it holds; `start` is the
    model that training continues from, `start_digest` the digest of its weights. `where` names the run in errors.
    """

    where: str
    size: PilotSize
    tokens: Path
    pages: str
    tokenizer: Any
    seed: int
    max_epochs: float
    start: Path | None = None
    start_digest: str | None = None

    @property
    def identity(self) -> str:
        """Hash of everything that the weights depend on, machine and library versions apart."""
        settings = self.size.model_dump(
            mode="json", exclude={"preset", "start", "checkpoint_steps", "device_sequences"}
        )
        parts = [_TRAINING_CODE, settings, self.pages, self.seed, self.start_digest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def train(run: Run, folder: Path, *, progress: Report | None = None) -> dict[str, Any]:
    """Train `run` and leave its model in `folder`/model; returns what is known of it.

    Keys: params, tokens (trained on), unique_tokens (of the pages), epochs, training_loss (mean of the last points of
    the curve), flops, curve: dicts of step, tokens, loss and tokens_per_second (None before an interruption), and
    spent: a reading of the clock for each sitting, an interrupted one up to the checkpoint from which it went on.

    Raises:
        InputError: no page, more epochs than allowed, a loss or gradient that is not finite (the last good checkpoint
            is kept, and named), or a disk that is full.
    """
    record = finished(run, folder)
    if record is not None:
        return record
    clock, pages, budget = Clock(), check(run), run.size.trained_tokens
    checkpoints = folder / f"checkpoints-{run.identity}"
    last = _last_whole(checkpoints)
    earlier = json.loads((last / _WHOLE).read_text())["spent"] if last else []

    def spent() -> list[dict[str, Any]]:
        return [*earlier, clock.read(_device())]

    with one_thread(seed=run.seed), without_bars():
        trainer = _trainer(run, pages, budget, checkpoints, _watch(run, checkpoints, spent, progress))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    row = _facts(trainer, pages, budget)
    with replacing_folder(folder / "model") as temporary, without_bars():
        trainer.save_model(str(temporary))
        run.tokenizer.save_pretrained(temporary)
        (temporary / "training_args.bin").unlink(missing_ok=True)  # a pickle, with paths of this machine
        row = write_record(temporary, row | {"spent": spent()}, fingerprint=run.identity)
    for checkpoints in folder.glob("checkpoints-*"):
        shutil.rmtree(checkpoints)
    return row


def finished(run: Run, folder: Path) -> dict[str, Any] | None:
    """What is known of a run that is finished; None where it is not.

    Raises:
        InputError: it repeated its pages more often than is allowed by now.
    """
    facts = read_record(folder / "model", fingerprint=run.identity)
    if facts is not None:
        _check_budget(run, facts["unique_tokens"])
    return facts


def check(run: Run) -> PackedPages:
    """The pages of a run.

    Raises:
        InputError: there are none, or not enough for the budget at the epochs allowed.
    """
    pages = PackedPages(run.tokens, where=run.where)
    _check_budget(run, pages.tokens)
    return pages


def _check_budget(run: Run, tokens: int) -> None:
    check_budget(tokens=tokens, budget=run.size.trained_tokens, max_epochs=run.max_epochs, where=run.where)


def initial_model(run: Run) -> Any:
    """The model that a run starts from: random weights of its seed, or those of its checkpoint, in float32."""
    if run.start is not None:
        return load_model(run.start, dtype="float32").model.train()
    import torch

    torch.manual_seed(run.seed)
    return build_model(
        run.size.architecture,
        vocabulary=-(-len(run.tokenizer) // _ROWS_MULTIPLE) * _ROWS_MULTIPLE,
        context_tokens=run.size.context_tokens,
        tie_embeddings=run.size.architecture.tie_embeddings,
    )


def _trainer(run: Run, pages: PackedPages, budget: int, checkpoints: Path, watch: Any) -> Any:
    from transformers import Trainer
    from transformers.trainer_callback import PrinterCallback

    size = run.size
    sequences = Sequences(
        pages.stream(seed=run.seed, epochs=epochs_needed(tokens=pages.tokens, budget=budget)),
        length=size.context_tokens,
        count=size.steps * size.batch_sequences,
    )

    class Guarded(Trainer):
        """Stops at the first loss that is not finite, before it can spoil a checkpoint."""

        def training_step(self, *arguments: Any, **options: Any) -> "torch.Tensor":
            loss = super().training_step(*arguments, **options)
            _require_finite(run, checkpoints, self.state.global_step + 1, "loss", float(loss))
            return loss

    trainer = Guarded(
        model=initial_model(run),
        args=_arguments(size, checkpoints, seed=run.seed),
        train_dataset=sequences,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(size: PilotSize, checkpoints: Path, *, seed: int) -> Any:
    """The training as transformers takes it; steps are whole batches of the budget, in the order of the sequences."""
    from transformers import TrainingArguments

    at_once = size.device_sequences or size.batch_sequences
    points = max(1, size.steps // _CURVE_POINTS)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=size.steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=size.batch_sequences // at_once,
        learning_rate=size.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(0.1 * size.steps),
        weight_decay=size.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=size.dtype == "bfloat16",
        use_cpu=_device() == "cpu",
        seed=seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        logging_steps=points,
        logging_nan_inf_filter=False,  # ours stops instead
        # A multiple of the points of the curve, whose means would otherwise depend on where a run was interrupted.
        save_steps=-(-size.checkpoint_steps // points) * points,
        save_total_limit=2,  # while one is written, the one before is whole
        report_to="none",
        disable_tqdm=True,
    )
    # Trainer would spread one run over all GPUs that it sees; here each arm takes one.
    arguments._n_gpu = 1
    return arguments


def _device() -> str:
    """What runs are trained on."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _watch(run: Run, checkpoints: Path, spent: Callable[[], list[dict[str, Any]]], progress: Report | None) -> Any:
    """Progress, throughput, whole checkpoints with the time that they took, and finite gradients."""
    import torch
    from transformers import TrainerCallback

    tokens_per_step = run.size.batch_sequences * run.size.context_tokens

    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.rates: dict[int, float] = {}

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began, self.first = time.monotonic(), state.global_step
            self.logged = (self.began, self.first)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(gradients))
            _require_finite(run, checkpoints, state.global_step + 1, "gradient norm", norm)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if progress:
                seconds = time.monotonic() - self.began
                done = (state.global_step - self.first) * tokens_per_step
                left = (state.max_steps - self.first) * tokens_per_step
                progress(Progress(done=done, total=left, unit="tokens", seconds=seconds))

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now, (before, step) = time.monotonic(), self.logged
            if state.global_step > step:
                self.rates[state.global_step] = (state.global_step - step) * tokens_per_step / (now - before)
                self.logged = (now, state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            whole = {"step": state.global_step, "spent": spent()}
            replace_file(checkpoints / f"checkpoint-{state.global_step}" / _WHOLE, json.dumps(whole))

    watch = Watch()
    watch.rates = {}
    return watch


def _last_whole(checkpoints: Path) -> Path | None:
    """The latest checkpoint that was written to its end; what a killed process left half-written is deleted."""
    found = {}
    for path in checkpoints.glob("checkpoint-*"):
        if (path / _WHOLE).is_file():
            found[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path)
    return found[max(found)] if found else None


def _require_finite(run: Run, checkpoints: Path, step: int, what: str, value: float) -> None:
    if math.isfinite(value):
        return
    kept = _last_whole(checkpoints)
    raise InputError(
        f"{run.where}, step {step} of {run.size.steps}: found {what} {value}, expected a finite number; "
        f"{f'the last good checkpoint is {kept}' if kept else 'there is no checkpoint yet'}; lower the size's "
        f"learning_rate ({run.size.learning_rate:g})"
    )


def _facts(trainer: Any, pages: PackedPages, budget: int) -> dict[str, Any]:
    params = sum(parameter.numel() for parameter in trainer.model.parameters())
    rates = next(callback.rates for callback in trainer.callback_handler.callbacks if hasattr(callback, "rates"))
    per_step = budget // trainer.args.max_steps
    curve = [
        {
            "step": entry["step"],
            "tokens": entry["step"] * per_step,
            "loss": entry["loss"],
            "tokens_per_second": rates.get(entry["step"]),
        }
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    last = [point["loss"] for point in curve[-5:]]
    return {
        "params": params,
        "tokens": budget,
        "unique_tokens": pages.tokens,
        "epochs": budget / pages.tokens,
        "training_loss": math.fsum(last) / len(last),
        # Forward and backward pass: 6 FLOPs per parameter and token (Kaplan et al., arXiv 2001.08361).
        "flops": 6.0 * params * budget,
        "curve": curve,
    }
