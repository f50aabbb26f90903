"""Texts that stand for a target, and pages that stand for the pool: what methods by likeness compare.

A target's texts are those that the study names for it; else the held-out pages that the study builds the target's tasks
from. Methods by likeness are given these: the page filter never sees them.
"""

import json
from fnmatch import fnmatchcase

import numpy as np
import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.study.schema import Study


def target_texts(study: Study, target: str, benchmark_pages: pl.DataFrame) -> list[str]:
    """The texts of a target.

    Args:
        benchmark_pages: rows of ``pages`` of the benchmark split.

    Raises:
        InputError: the study names no files and builds no task for the target, or a file is missing, empty or not what
            its name says.
    """
    assert study.filter is not None
    named = study.filter.target_texts.get(target)
    if named:
        return [text for name in named for text in _texts_of(study, name)]
    tasks = {task.task for task in study.targets[target].tasks}
    patterns = [built.pages for built in study.benchmarks.build if built.task in tasks]
    own = [any(fnmatchcase(domain, pattern) for pattern in patterns) for domain in benchmark_pages["domain"]]
    found = benchmark_pages.filter(pl.Series(own, dtype=pl.Boolean))["text"].to_list()
    if not found:
        raise InputError(
            f"study field filter.target_texts: no texts of {target!r} and no pages that its tasks are built from; "
            "expected files, or no arm that compares with a target's texts"
        )
    return found


def pool_weights(pages: pl.DataFrame, domains: pl.DataFrame) -> np.ndarray:
    """How often each sampled page counts, so that the sample has the pool's share of every domain.

    Args:
        pages: domain and tokens of sampled pages.
        domains: the table ``domains``.
    """
    held = dict(domains.select("domain", "tokens").iter_rows())
    of_domain = pages["domain"].replace_strict(held, default=None, return_dtype=pl.Float64)
    sampled = pages.select(pl.sum("tokens").over("domain"))["tokens"]
    return (of_domain.fill_null(sampled.cast(pl.Float64)) / sampled).to_numpy()


def _texts_of(study: Study, name: str) -> list[str]:
    """The texts of one file: of a JSONL file the values of the key ``text``, else the file as one text."""
    path = study.path(name)
    where = f"study field filter.target_texts: {path}"
    if not path.is_file():
        raise InputError(f"{where}: no such file")
    try:
        content = path.read_text(encoding="utf-8")
        lines = [line for line in content.splitlines() if line.strip()] if path.suffix == ".jsonl" else []
        texts = [json.loads(line)["text"] for line in lines] or [content]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: expected UTF-8 text, or JSONL with the key 'text' ({error})") from error
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"{where}: found an empty text, expected text")
    return texts
