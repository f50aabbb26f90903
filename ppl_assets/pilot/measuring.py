"""What a pilot's model can do: lm-eval on its target's tasks, and bits per byte of every domain's scoring pages.

Both come from the rooms that measure the study's other models, so that a pilot's number means what theirs does. Scoring
and benchmark pages are no training pages of any arm.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ppl_assets.benchmarks import check_scores, evaluate
from ppl_assets.errors import InputError
from ppl_assets.likelihood import LoadedModel, load_or_tokenize, score_tokens, start_token
from ppl_assets.progress import Report
from ppl_assets.study import Study
from ppl_assets.warehouse import replace_file

_FILE = "measured.json"


def task_scores(
    loaded: LoadedModel, study: Study, target: str, folders: Iterable[Path], *, progress: Report | None = None
) -> list[dict[str, Any]]:
    """Metric, value, stderr and samples of every task of a target.

    Raises:
        InputError: a task that does not exist, fails, or does not report the metric that the target uses.
    """
    stated = study.targets[target]
    tasks = [task.task for task in stated.tasks]
    try:
        scores = evaluate(
            loaded,
            tasks,
            task_folders=folders,
            limit=study.benchmarks.limit,
            batch_size=study.benchmarks.batch_size,
            progress=progress,
        )
    except InputError:
        raise
    # A task runs code of its own; whatever that raises, the sentence says which tasks they were.
    except Exception as error:
        raise InputError(
            f"target {target!r}: a task among {', '.join(tasks)} failed: {type(error).__name__}: {error}"
        ) from error
    check_scores(scores, {target: stated})
    return [
        {"metric": f"{row['task']}/{row['metric']}", **{name: row[name] for name in ("value", "stderr", "samples")}}
        for row in scores.to_dicts()
    ]


def domain_losses(loaded: LoadedModel, chunks: pl.DataFrame, token_folder: Path) -> list[dict[str, Any]]:
    """Domain, nll, bytes and bpb of every domain of the table ``chunks``.

    Raises:
        InputError: a chunk has no number.
    """
    tokens = load_or_tokenize(token_folder, loaded.tokenizer, chunks["text"].to_list())
    scores = score_tokens(loaded.model, tokens, start_token(loaded.tokenizer, loaded.model))
    if scores.refusal or not np.isfinite(scores.nll).all():
        raise InputError(
            f"held-out pages: {scores.refusal or 'a chunk without a loss'}; expected a number of each chunk"
        )
    rows = chunks.select("domain", nll=pl.Series(scores.nll), bytes=pl.Series(scores.bytes))
    summed = rows.group_by("domain").agg(pl.sum("nll"), pl.sum("bytes")).sort("domain")
    return summed.with_columns(bpb=pl.col("nll") / (math.log(2) * pl.col("bytes"))).to_dicts()


def overall_bpb(domains: Sequence[dict[str, Any]]) -> float:
    """Bits per byte of all held-out pages together."""
    nats, n_bytes = (math.fsum(row[name] for row in domains) for name in ("nll", "bytes"))
    return nats / (math.log(2) * n_bytes)


def read_measured(folder: Path, *, identity: str) -> dict[str, Any] | None:
    """What was measured of a run before, on the same things; None where there is nothing."""
    path = folder / _FILE
    content = json.loads(path.read_text()) if path.is_file() else {}
    return content["measured"] if content.get("identity") == identity else None


def write_measured(folder: Path, measured: dict[str, Any], *, identity: str) -> None:
    """Keep what was measured, so that it is not measured again."""
    replace_file(folder / _FILE, json.dumps({"identity": identity, "measured": measured}))
