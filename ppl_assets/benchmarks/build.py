"""Tasks made from held-out pages, as lm-eval files: given a text, what comes next?

An item is a window of a page: a context of at most so many bytes, and its continuation of exactly so many. A task of
form ``choice`` asks which of four continuations is the right one (accuracy; 0.25 by chance); the three wrong ones are
real continuations from other pages of the same domains, of the same length in bytes. The likeliest option decides
(``acc``), or the one that the context makes more likely by most (``acc_mutual_info``): small models are at chance by
the first, since options differ more in how common their words are than a short context tells (measured: 0.29 and 0.23
for two models of a million parameters that the second tells apart as 0.69 and 0.42). A task of form ``continuation``
asks what the right one costs: bits per byte of the continuation, its context given.

Windows are cut where a word begins, behind a character that is no space, where every common tokenizer cuts as well:
so no token straddles context and continuation. What such a task says about abilities other than modelling the pages'
kind of text is not known.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ppl_assets.benchmarks.overlap import overlapping
from ppl_assets.errors import InputError
from ppl_assets.study.schema import BuiltTask
from ppl_assets.warehouse import replace_file

OPTIONS = 4
# A window may begin up to so many bytes later than planned, to find a place where a word begins.
_SLACK_BYTES = 64
# Candidates per item wanted: some are dropped for overlaps, and wrong options are drawn from all that remain.
_CANDIDATES_PER_ITEM = 4
_HELPERS = "local_items.py"


@dataclass(frozen=True, slots=True)
class Item:
    """A context and how its page goes on."""

    page_id: str
    domain: str
    context: str
    continuation: str


def build_task(task: BuiltTask, pages: pl.DataFrame, destination: Path, *, seed: int) -> dict[str, Any]:
    """Write an lm-eval task into the folder `destination`: ``<task>.yaml``, ``<task>.jsonl`` and a shared Python file.

    `pages` is table ``pages`` with all its splits: items come from the benchmark split, and none shares 64 consecutive
    bytes with a page of another split. The files depend on the task, the set of pages and the seed, not on the pages'
    order nor on where they are written. Returns a row of table ``benchmark_tasks``, and under ``dropped`` how many
    candidate items were left out for an overlap.

    Raises:
        InputError: no benchmark pages match, or too few pages or items; `destination` cannot be written.
    """
    held_out = _held_out(task, pages)
    candidates = _candidates(task, held_out, seed)
    others = pages.filter(pl.col("split") != "benchmark")["text"]
    seen = overlapping([item.context + item.continuation for item in candidates], others)
    clean = [item for item, is_seen in zip(candidates, seen, strict=True) if not is_seen]
    dropped = int(seen.sum())
    items = _enough(task, clean, held_out.height, dropped)
    lines = _choices(items, clean, _rng(seed, task.task)) if task.form == "choice" else map(_continuation, items)
    files = {
        f"{task.task}.jsonl": "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
        _HELPERS: (Path(__file__).parent / "lm_eval_helpers.py").read_text(encoding="utf-8"),
        f"{task.task}.yaml": _yaml(task),
    }
    for name, content in files.items():
        replace_file(destination / name, content)
    return {
        "task": task.task,
        "form": task.form,
        "items": len(items),
        "pages": len({item.page_id for item in items}),
        "digest": hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        "dropped": dropped,
    }


def windows(
    text: bytes, *, context_bytes: int, continuation_bytes: int, start: int = 0
) -> Iterator[tuple[bytes, bytes]]:
    """Disjoint (context, continuation) pairs of a UTF-8 text, from byte `start` on; both are valid UTF-8.

    Each continuation has exactly `continuation_bytes`, and begins with the space before a word where there is one
    within 64 bytes, else at any character. A context has `context_bytes`, or up to three fewer, not to split a
    character.
    """
    data = np.frombuffer(text, dtype=np.uint8)
    boundary = np.append((data & 0xC0) != 0x80, True)
    space = np.isin(data, np.frombuffer(b" \t\n\r\v\f", dtype=np.uint8))
    word = np.zeros(len(data) + 1, dtype=bool)
    word[1:-2] = ~space[:-2] & (data[1:-1] == 0x20) & ~space[2:]
    usable = boundary[:-continuation_bytes] & boundary[continuation_bytes:]
    while start + context_bytes + continuation_bytes <= len(data):
        first = start + context_bytes
        places = slice(first, first + _SLACK_BYTES)
        found = np.flatnonzero(usable[places] & word[: len(usable)][places])
        if not found.size:
            found = np.flatnonzero(usable[places])
        if not found.size:
            start += _SLACK_BYTES
            continue
        cut = first + int(found[0])
        begin = cut - context_bytes + int(np.argmax(boundary[cut - context_bytes : cut + 1]))
        yield text[begin:cut], text[cut : cut + continuation_bytes]
        start = cut + continuation_bytes


def _held_out(task: BuiltTask, pages: pl.DataFrame) -> pl.DataFrame:
    """Benchmark pages of the task's domains, in order of page id."""
    benchmark = pages.filter(pl.col("split") == "benchmark")
    domains = benchmark["domain"].unique().sort().to_list()
    matching = [domain for domain in domains if fnmatchcase(domain, task.pages)]
    if not matching:
        some = ", ".join(domains[:5]) or "none at all"
        raise InputError(
            f"task {task.task!r}: pattern {task.pages!r} matches no domain with benchmark pages; found {len(domains)} "
            f"domains: {some}{', ...' if len(domains) > 5 else ''}"
        )
    return benchmark.filter(pl.col("domain").is_in(matching)).sort("page_id")


def _candidates(task: BuiltTask, pages: pl.DataFrame, seed: int) -> list[Item]:
    """Items in random order, first one of each page, then a second one of each, until there are enough to choose from.

    What a page contributes depends on its own text and id and on the seed alone. No continuation stands twice.
    """
    ranked = []
    for page_id, domain, text in pages.select("page_id", "domain", "text").iter_rows():
        rng = _rng(seed, task.task, page_id)
        start = int(rng.integers(_SLACK_BYTES))
        pairs = windows(
            text.encode(),
            context_bytes=task.context_bytes,
            continuation_bytes=task.continuation_bytes,
            start=start,
        )
        items = [Item(page_id, domain, context.decode(), continuation.decode()) for context, continuation in pairs]
        ranked += [(rank, rng.random(), items[index]) for rank, index in enumerate(rng.permutation(len(items)))]
    ranked.sort(key=lambda entry: (entry[0], entry[1], entry[2].page_id))
    distinct = {item.continuation: item for _, _, item in reversed(ranked)}
    kept = [item for _, _, item in ranked if distinct[item.continuation] is item and item.continuation.strip()]
    return kept[: _CANDIDATES_PER_ITEM * task.items]


def _enough(task: BuiltTask, clean: list[Item], pages: int, dropped: int) -> list[Item]:
    """The first items, as many as the task wants.

    Raises:
        InputError: too few items, or for a choice too few pages to take wrong options from.
    """
    found = f"{len(clean)} items in {pages} benchmark pages matching {task.pages!r} ({dropped} dropped for overlaps)"
    if len(clean) < task.items:
        raise InputError(
            f"task {task.task!r}: found {found}, expected {task.items}; hold out more pages "
            "(corpus.splits.benchmark), or ask for fewer items or fewer bytes"
        )
    sources = len({item.page_id for item in clean})
    if task.form == "choice" and sources < OPTIONS:
        raise InputError(
            f"task {task.task!r}: found items of {sources} benchmark pages matching {task.pages!r}, expected at least "
            f"{OPTIONS}, one per option"
        )
    return clean[: task.items]


def _choices(items: list[Item], pool: list[Item], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Lines of a choice task: wrong options come from other pages than the item, the right one's place is random."""
    for item in items:
        wrong: list[str] = []
        for index in rng.permutation(len(pool)):
            if pool[index].page_id != item.page_id:
                wrong.append(pool[index].continuation)
            if len(wrong) == OPTIONS - 1:
                break
        label = int(rng.integers(OPTIONS))
        choices = [*wrong[:label], item.continuation, *wrong[label:]]
        yield {"page_id": item.page_id, "context": item.context, "choices": choices, "label": label}


def _continuation(item: Item) -> dict[str, Any]:
    return {"page_id": item.page_id, "context": item.context, "continuation": item.continuation}


def _yaml(task: BuiltTask) -> str:
    """The task as lm-eval reads it; continuations carry their own space, so nothing is put before them."""
    if task.form == "choice":
        form = """\
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_bytes, aggregation: mean, higher_is_better: true}
  - {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}
"""
    else:
        form = f"""\
output_type: loglikelihood
doc_to_text: context
doc_to_target: continuation
process_results: !function {_HELPERS.removesuffix(".py")}.continuation_cost
metric_list:
  - {{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}}
"""
    return f"""\
task: {task.task}
custom_dataset: !function {_HELPERS.removesuffix(".py")}.read_items
dataset_kwargs: {{file: {task.task}.jsonl}}
test_split: test
target_delimiter: ""
{form}metadata: {{version: 1.0}}
"""


def _rng(*key: Any) -> np.random.Generator:
    """A generator that depends on `key` alone."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))
