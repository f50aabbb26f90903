"""Time of the estimators next to the published package, one thread, in one run: one line of JSON per case.

Run: python -m ppl_assets_tests.bench.bench_estimation [--texts 1000000]

Seconds are CPU seconds of the best of three; ratios are the package's over ours. The package takes one target at a
time, so for many targets its time for one is multiplied. The large case scales the package from a tenth of the texts:
its time is linear in them and its temporaries would not leave room for ours.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import perplexity_correlations.estimation as published

import ppl_assets.estimation as ours

NAMES = ("sign", "sign_cdf", "sign_sign", "spearmanr")


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the fastest call after one to warm up (and compile)."""
    call()
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return best


def write(**row: object) -> None:
    """One line of JSON, numbers to three digits."""
    short = {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in row.items()}
    sys.stdout.write(json.dumps(short) + "\n")
    sys.stdout.flush()


def against_package(n_texts: int, dtype: type, targets: int, package_share: float) -> None:
    """Every shared estimator on 90 models, for one target and for many."""
    rng = np.random.default_rng(0)
    losses = rng.random((90, n_texts), dtype=np.float64).astype(dtype)
    errors = rng.random((90, targets))
    part = np.ascontiguousarray(losses[:, : int(n_texts * package_share)])
    for name in NAMES:
        theirs = seconds(lambda name=name: getattr(published, name)(part, errors[:, 0]), 1) / package_share
        one = seconds(lambda name=name: getattr(ours, name)(losses, errors[:, 0]))
        many = seconds(lambda name=name: getattr(ours, name)(losses, errors))
        write(
            what=name, texts=n_texts, dtype=np.dtype(dtype).name, package=theirs, ours=one, ratio=theirs / one,
            targets=targets, ours_many=many, ratio_many=targets * theirs / many,
        )  # fmt: skip


def inference(n_texts: int, targets: int) -> None:
    """Domain estimates with 1,000 bootstrap samples of families, and the gate, for every target."""
    rng = np.random.default_rng(1)
    losses, errors = rng.random((90, n_texts)), rng.random((90, targets))
    families = [f"f{k // 3}" for k in range(90)]
    ours.estimate_domains(losses[:, :50], errors[:, 0], families=families)
    for call in (ours.estimate_domains, ours.signal_gate):
        wall, cpu = time.perf_counter(), time.process_time()
        for error in errors.T:
            call(losses, error, families=families)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        write(what=call.__name__, texts=n_texts, targets=targets, wall_seconds=wall, cpu_seconds=cpu)


def main() -> None:
    """The paper's size, a million texts, and inference at the paper's size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1_000_000)
    n_texts = parser.parse_args().texts
    against_package(9_841, np.float64, 8, 1.0)
    inference(9_841, 8)
    against_package(n_texts, np.float32, 8, 0.1)
    write(what="peak memory", gigabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


if __name__ == "__main__":
    main()
