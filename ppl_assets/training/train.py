"""Training of small causal language models: the pool of a study that has no public models to look at.

A run is one model trained on one mixture of domains; each of its checkpoints is a model of the pool. Losses are nats
per token. AdamW, 10 % linear warm-up, then a cosine to a tenth of the peak, gradients clipped to norm 1: settings that
work for models of this size, not the best ones for any of them. On one CPU thread a run is repeatable bit for bit;
across machines it is not, since matrix kernels differ.
"""

import hashlib
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.hardware import multiplies_bfloat16
from ppl_assets.progress import Progress, Report
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Architecture, Zoo, ZooRun, checkpoint_slug
from ppl_assets.training.checkpoints import read_record, replacing_folder, write_record
from ppl_assets.training.data import batches
from ppl_assets.training.tokenizer import save_tokenizer, train_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

# Rows of the output layer at once: logits of 512 x 4,096 stay in cache and below malloc's mmap threshold. Measured on
# one core (vocabulary 4,096, 32 x 128 tokens, bf16): 0.11 s a step against 0.25 s for all rows at once.
_HEAD_ROWS = 512
_RECENT_STEPS = 10
_ATTENTION = "ppl_float32_sdpa"
# Last layers of the residual branches, of Llama and of GPT-NeoX.
_RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "attention.dense.weight", "dense_4h_to_h.weight")


def train_run(
    run: ZooRun,
    zoo: Zoo,
    pages: pl.DataFrame,
    destination: Path,
    *,
    fingerprint: str,
    progress: Report | None = None,
) -> pl.DataFrame:
    """Train `run` on the training pages, save each checkpoint as ``<destination>/<slug>/``; one row per checkpoint.

    `pages` is table ``pages``; only its training split is read, in an order of its own. The rows are those of table
    ``zoo_checkpoints``. Where all checkpoints of the run are there, undamaged and with the same `fingerprint` (of
    everything that the run depends on), nothing is trained; otherwise the run starts from the beginning. Uses one
    thread: run one process per core.

    Raises:
        InputError: no training pages, a mixture pattern that matches none, a loss or gradient that is not finite, or
            `destination` cannot be written.
    """
    folders = [destination / checkpoint_slug(run.run, step) for step in zoo.checkpoints]
    rows = [read_record(folder, fingerprint=fingerprint) for folder in folders]
    if None in rows:
        training = pages.filter(pl.col("split") == "training")
        with one_thread(seed=_seed(run)):
            rows = list(_train(run, zoo, training, destination, fingerprint, progress))
    return pl.DataFrame(rows, schema=TABLES["zoo_checkpoints"].polars_schema)


def build_model(
    architecture: Architecture, *, vocabulary: int, context_tokens: int, tie_embeddings: bool = True
) -> Any:
    """A causal language model with random weights (float32); input and output embeddings are tied unless said so.

    Weights have a standard deviation of 1 / sqrt(hidden size), and the last layer of each residual branch starts at
    zero (Zhang, Dauphin and Ma, arXiv 1901.09321). With transformers' defaults (0.02, no zeros) a Llama of this size
    learned nothing but token frequencies in its first hundred steps (measured).
    """
    import torch
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig

    shared = {
        "vocab_size": vocabulary,
        "hidden_size": architecture.hidden_size,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "intermediate_size": architecture.intermediate_size,
        "max_position_embeddings": context_tokens,
        "initializer_range": architecture.hidden_size**-0.5,
        "tie_word_embeddings": tie_embeddings,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    config = LlamaConfig(**shared) if architecture.kind == "llama" else GPTNeoXConfig(**shared)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(_RESIDUAL_OUTPUTS):
                weight.zero_()
    return model


def parameters_of(architecture: Architecture, *, vocabulary: int, context_tokens: int) -> int:
    """How many parameters `build_model` would make; nothing is allocated."""
    import torch

    with torch.device("meta"):
        model = build_model(architecture, vocabulary=vocabulary, context_tokens=context_tokens)
    return sum(parameter.numel() for parameter in model.parameters())


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the peak learning rate in `step` (from 0) of `steps`: 10 % linear warm-up, then a cosine to 0.1."""
    warmup = max(1, round(0.1 * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.55 + 0.45 * math.cos(math.pi * done)


def _train(
    run: ZooRun, zoo: Zoo, pages: pl.DataFrame, destination: Path, fingerprint: str, progress: Report | None
) -> Iterator[dict[str, Any]]:
    """Rows of the checkpoints, each after its folder is in place."""
    if pages.is_empty():
        raise InputError(f"zoo run {run.run!r}: found no training pages; check corpus.splits.training")
    tokenizer = train_tokenizer(pages["text"], zoo.tokenizers[run.tokenizer].vocabulary)
    model = build_model(
        zoo.architectures[run.architecture],
        vocabulary=tokenizer.get_vocab_size(),
        context_tokens=zoo.context_tokens,
    )
    stream = batches(
        pages,
        run.mixture,
        tokenizer,
        sequences=zoo.batch_sequences,
        tokens=zoo.sequence_tokens + 1,
        seed=_seed(run),
        where=f"zoo run {run.run!r}",
    )
    steps = zoo.checkpoints[-1]
    recent: deque[float] = deque(maxlen=_RECENT_STEPS)
    began = time.monotonic()
    for step, loss in enumerate(_losses(model, islice(stream, steps), zoo, run), 1):
        recent.append(loss)
        if step in zoo.checkpoints:
            row = _description(run, zoo, model, step) | {"training_loss": math.fsum(recent) / len(recent)}
            yield _save(model, tokenizer, destination / row["slug"], row, fingerprint=fingerprint)
        if progress:
            progress(Progress(done=step, total=steps, unit="steps", seconds=time.monotonic() - began))


def _losses(model: Any, stream: Iterator[np.ndarray], zoo: Zoo, run: ZooRun) -> Iterator[float]:
    """Train `model` on each batch (sequences, tokens + 1) in turn; the loss of each step, nats per token."""
    import torch

    _register_attention()
    model.set_attn_implementation(_ATTENTION)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=zoo.learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, zoo.checkpoints[-1])
    )
    model.train()
    dtype = forward_dtype(zoo)
    for step, batch in enumerate(stream, 1):
        loss = _backward(model, torch.from_numpy(batch), dtype=dtype)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise InputError(
                f"zoo run {run.run!r}, step {step}: found loss {loss} and gradient norm {norm}, expected finite "
                f"numbers; lower zoo.learning_rate ({zoo.learning_rate:g})"
            )
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss


def forward_dtype(zoo: Zoo) -> "torch.dtype":
    """The dtype that a zoo's forward passes run in on this machine."""
    import torch

    if zoo.dtype == "auto":
        return torch.bfloat16 if multiplies_bfloat16() else torch.float32
    return torch.bfloat16 if zoo.dtype == "bfloat16" else torch.float32


def _backward(model: Any, tokens: "torch.Tensor", *, dtype: "torch.dtype") -> float:
    """Add the gradient of the mean loss of predicting each next token; returns that loss, nats per token."""
    import torch
    from torch.nn.functional import cross_entropy

    def forward() -> Any:
        return torch.autocast("cpu", dtype, enabled=dtype != torch.float32)

    with forward():
        hidden = model.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state.flatten(0, 1)
    targets = tokens[:, 1:].flatten()
    # The output layer in blocks: each block's logits are gone before the next ones are made.
    output = hidden.detach().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for block, target in zip(output.split(_HEAD_ROWS), targets.split(_HEAD_ROWS), strict=True):
        with forward():
            logits = model.get_output_embeddings()(block)
        loss = cross_entropy(logits.float(), target, reduction="sum") / len(targets)
        loss.backward()
        total += loss.detach()
    hidden.backward(output.grad)
    return float(total)


def _register_attention() -> None:
    """Causal attention in float32 under autocast: its bf16 backward pass is three times slower on a CPU (measured)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers import AttentionInterface

    def attention(
        module: Any, query: Any, key: Any, value: Any, mask: Any, *, scaling: float, **_: Any
    ) -> tuple[Any, None]:
        # Sequences are full, so the causal mask is all there is to mask.
        with torch.autocast("cpu", enabled=False):
            mixed = scaled_dot_product_attention(
                query.float(), key.float(), value.float(), is_causal=True, scale=scaling
            )
        return mixed.transpose(1, 2).contiguous().to(value.dtype), None

    AttentionInterface.register(_ATTENTION, attention)


def _save(model: Any, tokenizer: "Tokenizer", folder: Path, row: dict[str, Any], *, fingerprint: str) -> dict[str, Any]:
    with replacing_folder(folder) as temporary, without_bars():
        model.save_pretrained(temporary)
        save_tokenizer(tokenizer, temporary, context_tokens=model.config.max_position_embeddings)
        return write_record(temporary, row, fingerprint=fingerprint)


def _description(run: ZooRun, zoo: Zoo, model: Any, step: int) -> dict[str, Any]:
    return {
        "run": run.run,
        "step": step,
        "slug": checkpoint_slug(run.run, step),
        "family": run.family,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": step * zoo.batch_sequences * zoo.sequence_tokens,
    }


def _seed(run: ZooRun) -> int:
    """Seed of a run's weights and batches: of its name too, so that no two runs start from the same weights."""
    return int.from_bytes(hashlib.sha256(f"{run.run}:{run.seed}".encode()).digest()[:4])


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bar of transformers for a file of a few megabytes."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@contextmanager
def one_thread(*, seed: int) -> Iterator[None]:
    """One torch thread and a seeded global generator; both as before afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
