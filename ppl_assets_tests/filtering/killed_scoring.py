"""What the kill test runs: scoring of a study's source into its lake, by the command line of this module."""

import sys
from pathlib import Path

from ppl_assets.filtering import page_scores
from ppl_assets_tests.filtering.selections import make_world, write_study

# Shards small enough that a source of some hundred pages has many.
SHARD_PAGES = 10


def main() -> None:
    """Score the source in a folder in so many processes; what there is of a world already is made again."""
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    world = make_world(folder, write_study(folder, arms=("uniform", "dsir", "rules")))
    world.score(world.scoring(), processes=processes)


if __name__ in ("__main__", "__mp_main__"):  # this process, and those that it starts
    page_scores.SHARD_PAGES = SHARD_PAGES

if __name__ == "__main__":
    main()
