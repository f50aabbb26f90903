"""The texts that benchmark tasks show a model: what a page must not hold if its loss is to say nothing of the answer.

Read through lm-eval, so that a task that the study builds, one of its own folders and a public one are read alike.
Where a task's data is not at hand (no network and no cache), its texts are unknown, which is said and not taken for
clean.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ppl_assets.benchmarks.evaluate import quiet, task_manager
from ppl_assets.errors import InputError


def task_texts(tasks: Iterable[str], folders: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Every question of the tasks with each answer that its task offers, and the names of tasks that cannot be read.

    A question without its choices would be as much of a leak, and is a part of each text.
    """
    texts: list[str] = []
    unread: list[str] = []
    for name in sorted(set(tasks)):
        try:
            texts += _texts(name, tuple(str(folder) for folder in folders))
        # Data sets come from files and hubs, and fail in as many ways; what they say is not ours to repair here.
        except (InputError, OSError, ValueError, RuntimeError, KeyError):
            unread.append(name)
    return texts, unread


def _texts(name: str, folders: tuple[str, ...]) -> list[str]:
    with quiet():
        tasks = task_manager([name], folders).load([name])["tasks"]
        return [text for task in tasks.values() for text in _of_task(task)]


def _of_task(task: Any) -> Iterator[str]:
    documents = task.test_docs() if task.has_test_docs() else task.validation_docs()
    for document in documents:
        offered = (
            task.doc_to_choice(document) if task.OUTPUT_TYPE == "multiple_choice" else task.doc_to_target(document)
        )
        answers = offered if isinstance(offered, list) else [offered]
        yield from (f"{task.doc_to_text(document)}{task.config.target_delimiter}{answer}" for answer in answers)
