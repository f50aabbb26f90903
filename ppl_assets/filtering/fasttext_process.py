"""One training of fastText in a process of its own: ``python -m ppl_assets.filtering.fasttext_process '<json>'``.

fastText 0.9.2 fills only a tenth of its input matrix per thread and leaves the rest as it finds the memory
(densematrix.cc, uniform): with one thread, the one count that gives the same model twice, nine tenths start as whatever
lay there. That is another model each time, or NaN. In this process all memory that glibc hands out is zero. Drop this
module when fastText fills its matrix.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ppl_assets.errors import InputError

# mallopt(3): what is allocated is filled with the complement of this byte. Not what comes from the cache of each
# thread, so there must be none: a small vocabulary without word pairs has a matrix of its size.
_ZEROED_MEMORY = {"MALLOC_PERTURB_": "255", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


def train_in_process(training: Path, model: Path, options: dict[str, Any]) -> None:
    """Train on a file of labelled lines and write the model.

    Raises:
        InputError: the training diverged, or fastText refused its input; with fastText's own words.
    """
    request = json.dumps({"input": str(training), "model": str(model), "options": options})
    command = [sys.executable, "-m", __name__, request]
    finished = subprocess.run(command, env=os.environ | _ZEROED_MEMORY, capture_output=True, text=True)
    if finished.returncode == 0:
        return
    lines = finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"]
    if "NaN" in lines[-1]:
        rate = options["lr"]
        raise InputError(f"page filter: fastText diverged at filter.learning_rate {rate:g}; expected a lower one")
    raise InputError(f"page filter: fastText could not train: {lines[-1]}")


def main() -> None:
    """Train as the first argument says."""
    import fasttext

    request = json.loads(sys.argv[1])
    fasttext.train_supervised(request["input"], **request["options"]).save_model(request["model"])


if __name__ == "__main__":
    main()
