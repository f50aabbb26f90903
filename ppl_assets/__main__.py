"""``python -m ppl_assets``: the command line."""

from ppl_assets.cli import main

main()
