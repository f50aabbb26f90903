"""What the task files beside this one need of Python: reading their items, and the cost of a continuation.

Copied into the folder of built tasks, so that the folder works with any lm-eval: ``lm_eval --include_path FOLDER``.
"""

import json
from pathlib import Path
from typing import Any


def read_items(file: str, **_: Any) -> dict[str, Any]:
    """The split ``test``: one item per line of `file`, which lies beside this module."""
    import datasets

    with (Path(__file__).parent / file).open(encoding="utf-8") as lines:
        return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}


def continuation_cost(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, tuple[float, int]]:
    """Log-likelihood (nats) and UTF-8 bytes of one continuation; lm-eval sums both and divides."""
    ((loglikelihood, _),) = results
    return {"bits_per_byte": (loglikelihood, len(doc["continuation"].encode()))}
