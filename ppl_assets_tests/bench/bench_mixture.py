"""Time of the projections over the number of domains, next to the published package: one line of JSON per case.

Run: python -m ppl_assets_tests.bench.bench_mixture [--domains 10000000]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import perplexity_correlations.projection as published

from ppl_assets.mixture import integer_tokens, l2, linear
from ppl_assets.mixture.projection import relative_entropy

PROJECTIONS: dict[str, Callable] = {
    "linear": linear,
    "l2": l2,
    "relative_entropy": relative_entropy,
    "published linear": published.linear,
    "published l2": published.l2,
}


def cases(n_domains: int) -> dict[str, np.ndarray]:
    """Estimates without ties, with many, and all equal."""
    estimate = np.random.default_rng(0).normal(size=n_domains)
    return {"distinct": estimate, "tied": estimate.round(1), "equal": np.full(n_domains, 0.3)}


def main() -> None:
    """Measure every projection on every case, and the rounding to whole tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, default=10_000_000)
    n_domains = parser.parse_args().domains
    tau = np.random.default_rng(1).lognormal(size=n_domains)
    tau *= 10 / tau.sum()  # a filter that keeps a tenth
    for case, estimate in cases(n_domains).items():
        for name, projection in PROJECTIONS.items():
            begin = time.perf_counter()
            weights = projection(estimate, tau)
            row = {"what": name, "case": case, "domains": n_domains, "seconds": time.perf_counter() - begin}
            row["sum error"] = float(abs(np.asarray(weights, dtype=np.longdouble).sum() - 1))
            sys.stdout.write(json.dumps(row) + "\n")
    begin = time.perf_counter()
    integer_tokens(linear(estimate, tau), 10**12)
    row = {"what": "linear, then whole tokens", "domains": n_domains, "seconds": time.perf_counter() - begin}
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
