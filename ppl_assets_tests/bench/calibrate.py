"""Estimates against known truth: simulated worlds, and RegMix's random mixtures. Tables in Markdown on standard output.

Run: python -m ppl_assets_tests.bench.calibrate [--repeats 100] [--only regmix|recovery|errors|gate]

regmix: rank correlation of estimates with causal effects, per rule. recovery: share of the planted domains among those
that a rule puts on top. errors: false discovery rate at q = 0.1 and coverage of 90 % intervals. gate: how often it
says what.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import spearmanr as scipy_spearmanr

from ppl_assets.estimation import estimate_domains, signal_gate
from ppl_assets.estimation.domain_scores import centred_scores, cosine, ranks_of_target
from ppl_assets_tests.estimation.published import FOLDER, regmix
from ppl_assets_tests.estimation.rivals import RULES, Rule
from ppl_assets_tests.estimation.worlds import World

SIZES = (30, 90, 300)
LAWS = ("gaussian", "mixture")
LEVEL = 0.10  # nominal false discovery rate


def table(title: str, header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    """Write one Markdown table, row by row as they come."""
    sys.stdout.write(f"\n{title}\n\n| {' | '.join(header)} |\n|{' --- |' * len(header)}\n")
    for row in rows:
        cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()


def causal_agreement(rule: Rule) -> np.ndarray:
    """Rank correlation of a rule's estimates with the causal effects, for every RegMix loss as target."""
    truth = regmix()
    agreement = []
    for target in range(len(truth.domains)):
        others = np.delete(np.arange(len(truth.domains)), target)
        estimate = rule(truth.loss_MD[:, others], truth.loss_MD[:, target])
        agreement.append(scipy_spearmanr(estimate, truth.effect_DT[others, target]).statistic)
    return np.array(agreement)


def regmix_rows() -> Iterator[Sequence[object]]:
    """Every rule on RegMix."""
    for name, rule in RULES.items():
        agreement = causal_agreement(rule)
        yield name, float(agreement.mean()), float(agreement.min()), float(agreement.max())


def recovery_rows(repeats: int) -> Iterator[Sequence[object]]:
    """Every rule on complete worlds (regressions know no missing losses): planted share of the top."""
    worlds = [World(law=law, models=models, missing=0.0) for law in LAWS for models in SIZES]
    for name, rule in RULES.items():
        yield name, *(float(np.mean([_recovered(world, rule, seed) for seed in range(repeats)])) for world in worlds)


def _recovered(world: World, rule: Rule, seed: int) -> float:
    pool = world.draw(np.random.default_rng(seed))
    planted = pool.planted_D > 0
    top = np.argsort(-rule(pool.bpb_MD, pool.error_M))[: planted.sum()]
    return float(planted[top].mean())


def error_rows(repeats: int) -> Iterator[Sequence[object]]:
    """Per world: false discoveries among the calls at q = 0.1 with their standard error, power, interval coverage."""
    for law in LAWS:
        for models in SIZES:
            for signal in (0.0, 1.0):
                world = World(law=law, models=models, signal=signal)
                large = world.draw(np.random.default_rng(10_000), copies=9_000 // models)
                truth = cosine(centred_scores(large.bpb_MD, "gumbel"), ranks_of_target(large.bpb_MD, large.error_M))
                drawn = np.array([_errors(world, truth, seed) for seed in range(repeats)])
                false, power, covered = drawn.mean(axis=0)
                deviation = drawn[:, 0].std(ddof=1) / np.sqrt(repeats)
                yield law, models, signal, float(false), float(deviation), float(power), float(covered)


def _errors(world: World, truth: np.ndarray, seed: int) -> tuple[float, float, float]:
    pool = world.draw(np.random.default_rng(seed))
    found = estimate_domains(pool.bpb_MD, pool.error_M, families=pool.families, seed=seed, replicates=400)
    planted = (pool.planted_D > 0) & (world.signal > 0)
    called = found.q_value <= LEVEL
    false = (called & ~planted).sum() / max(called.sum(), 1)
    covered = ((found.ci_low <= truth) & (truth <= found.ci_high)).mean()
    return float(false), float((called & planted).sum() / max(planted.sum(), 1)), float(covered)


def gate_rows(repeats: int) -> Iterator[Sequence[object]]:
    """Verdicts in worlds without signal, with a signal spread over many kinds of text, and with few kinds of text."""
    worlds = {"null": {"signal": 0.0}, "spread": {"signal": 1.0}, "strong": {"signal": 2.0, "topics": 4, "own": 0.2}}
    for law in LAWS:
        for models in SIZES:
            for name, options in worlds.items():
                world = World(law=law, models=models, **options)
                gates = [_gate(world, seed) for seed in range(repeats)]
                said = [
                    sum(gate.verdict == verdict for gate in gates) / repeats
                    for verdict in ("select", "weak", "abstain")
                ]
                yield law, models, name, *said, float(np.mean([gate.reliability for gate in gates]))


def _gate(world: World, seed: int):
    pool = world.draw(np.random.default_rng(seed))
    return signal_gate(pool.bpb_MD, pool.error_M, families=pool.families, seed=seed)


def main() -> None:
    """Write the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--only", choices=("regmix", "recovery", "errors", "gate"))
    options = parser.parse_args()
    if options.only in (None, "regmix") and (FOLDER / "regmix").is_dir():
        table("RegMix", ("rule", "mean", "lowest", "highest"), regmix_rows())
    if options.only in (None, "recovery"):
        header = ("rule", *(f"{law} {models}" for law in LAWS for models in SIZES))
        table("Planted domains found", header, recovery_rows(options.repeats))
    if options.only in (None, "errors"):
        header = ("law", "models", "signal", "false discoveries", "their s.e.", "power", "coverage")
        table("Error rates", header, error_rows(options.repeats))
    if options.only in (None, "gate"):
        table(
            "Gate", ("law", "models", "world", "select", "weak", "abstain", "reliability"), gate_rows(options.repeats)
        )


if __name__ == "__main__":
    main()
