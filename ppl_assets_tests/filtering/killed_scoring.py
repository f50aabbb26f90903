"""What the kill test runs: scoring of a study's source into its lake, by the command line of this module.

``python -m ppl_assets_tests.filtering.killed_scoring FOLDER PROCESSES [SHARDS]``: with SHARDS, all processes end
without a word when one of them is about to put a shard in place and so many are there.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ppl_assets.filtering import page_scores
from ppl_assets_tests.filtering.selections import make_world, write_study

# Shards small enough that a source of some hundred pages has many.
SHARD_PAGES = 10


def main() -> None:
    """Score the source in a folder in so many processes; what there is of a world already is made again."""
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    world = make_world(folder, write_study(folder, arms=("uniform", "dsir", "rules")))
    world.score(world.scoring(), processes=processes)


def _die_at(scores: Path, shards: int) -> None:
    """Kill this process's group at the event that Python's `os.replace` raises before it renames."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "os.rename" or not Path(arguments[1]).is_relative_to(scores):
            return
        if len(list(scores.glob("*/part.parquet"))) >= shards:
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ in ("__main__", "__mp_main__"):  # this process, and those that it starts
    page_scores.SHARD_PAGES = SHARD_PAGES
    if len(sys.argv) > 3:
        _die_at(Path(sys.argv[1], "lake", "page_scores"), int(sys.argv[3]))

if __name__ == "__main__":
    main()
