"""Tiny pools for tests: a model trains in a fraction of a second."""

import sys
from pathlib import Path
from typing import Any

import polars as pl

from ppl_assets.progress import Progress
from ppl_assets.study.schema import Architecture, Zoo, ZooRun, ZooTokenizer
from ppl_assets.training import train as module
from ppl_assets.training import train_run
from ppl_assets.training.checkpoints import write_record


def page_row(domain: str, index: int, text: str, split: str = "training") -> dict[str, Any]:
    return {
        "page_id": f"{domain}:{index}",
        "domain": domain,
        "split": split,
        "bytes": len(text.encode()),
        "tokens": len(text) // 4,
        "text": text,
    }


PAGES = pl.DataFrame(
    [page_row("a/code", index, f"for i in range({index}):\n    print(i * {index})\n" * 4) for index in range(12)]
    + [page_row("a/prose", index, f"There are {index} ways to say that it rains. " * 4) for index in range(12)]
    + [page_row("a/code", 100, "scoring only", "scoring"), page_row("b/code", 0, "held out only", "benchmark")]
)

RUN = ZooRun(
    run="tiny", family="tiny", tokenizer="small", architecture="llama", mixture={"*/code": 1.0, "*/prose": 1.0}
)


def tiny_zoo(run: ZooRun = RUN, **changes: Any) -> Zoo:
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 48}
    fields: dict[str, Any] = {
        "tokenizers": {"small": ZooTokenizer(vocabulary=300)},
        "architectures": {
            "llama": Architecture(kind="llama", **shape),
            "gpt_neox": Architecture(kind="gpt_neox", **shape),
        },
        "runs": (run,),
        "checkpoints": (2, 5),
        "batch_sequences": 4,
        "sequence_tokens": 24,
        "context_tokens": 256,
    }
    return Zoo(**(fields | changes))


def train(destination: Path, *, run: ZooRun = RUN, pages: pl.DataFrame = PAGES, fingerprint: str = "f", **changes: Any):
    """Rows of the run's checkpoints, and the steps that were trained for them."""
    steps: list[Progress] = []
    zoo = tiny_zoo(run, **changes)
    rows = train_run(run, zoo, pages, destination, fingerprint=fingerprint, progress=steps.append)
    return rows, [step.done for step in steps]


def train_until_killed(destination: Path) -> None:
    """A run that stops for ever while its third checkpoint is half written, and says so on standard output."""
    written = 0

    def hang_at_third(*arguments: Any, **options: Any) -> dict[str, Any]:
        nonlocal written
        written += 1
        if written == 3:
            sys.stdout.write("half written\n")
            sys.stdout.flush()
            sys.stdin.read()
        return write_record(*arguments, **options)

    module.write_record = hang_at_third
    train(destination, checkpoints=(1, 2, 3, 4))


if __name__ == "__main__":
    train_until_killed(Path(sys.argv[1]))
