"""Time of the projections over the number of domains, next to the published package, and of all mixtures of a study
with two targets, a floor and a previous mixture: one line of JSON per case.

Run: python -m ppl_assets_tests.bench.bench_mixture [--domains 10000000] [--combined 10000]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import perplexity_correlations.projection as published

from ppl_assets.mixture import Candidates, GroupBound, Objective, integer_tokens, l2, linear
from ppl_assets.mixture.every_mixture import Wanted, every_mixture
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


def study(n_domains: int, **settings: object) -> Wanted:
    """What a study with two targets asks for: all combinations, and a floor that binds."""
    rng = np.random.default_rng(2)
    cap = rng.lognormal(size=n_domains)
    cap *= 10 / cap.sum()
    labels = {"group": ["few" if i % 10 == 0 else "many" for i in range(n_domains)]}
    bound = GroupBound(attribute="group", label="few", floor=0.3)
    common = rng.normal(size=n_domains)
    by_target = {
        target: Candidates(
            domains=[f"d{i}" for i in range(n_domains)],
            estimate_D=0.2 * common + 0.1 * rng.normal(size=n_domains),
            cap_D=cap,
            pool_D=cap,
            stderr_D=np.full(n_domains, 0.05),
            labels=labels,
        )
        for target in ("one", "two")
    }
    previous = linear(common, cap)
    return Wanted(
        by_target=by_target,
        verdicts=dict.fromkeys(by_target),
        budget=10**12,
        objective=Objective(bounds=(bound,), **settings),
        combine=("mean", "max_min", "pareto"),
        previous=dict.fromkeys(("one", "two", "mean", "max_min"), previous),
    )


def main() -> None:
    """Measure every projection on every case, the rounding to whole tokens, and all mixtures of a study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, default=10_000_000)
    parser.add_argument("--combined", type=int, default=10_000, help="domains of the study")
    n_domains, n_combined = parser.parse_args().domains, parser.parse_args().combined
    for what, settings in (("free", {}), ("near the previous one", {"churn": 0.1, "hysteresis": 1.0})):
        wanted = study(n_combined, **settings)
        begin = time.perf_counter()
        made = every_mixture(wanted)
        seconds = time.perf_counter() - begin
        row = {"what": f"{len(made)} mixtures, {what}", "domains": n_combined, "seconds": seconds}
        sys.stdout.write(json.dumps(row) + "\n")
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
