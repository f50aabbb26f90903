"""Estimates against known truth: simulated worlds, and RegMix's random mixtures. Tables in Markdown on standard output.

Run: python -m ppl_assets_tests.bench.calibrate [--repeats 100] [--first 0] [--sizes 30 90 300]
    [--only regmix|fewer|recovery|other|errors|pages|gate|probes]

regmix: rank correlation of estimates with causal effects, per rule; fewer: the same with some of its models. recovery:
share of the planted domains among those that a rule puts on top; other: the same in harder and easier worlds. errors:
false discovery rate at q = 0.1 and coverage of 90 % intervals; pages: coverage where losses come from pages. gate: how
often it says what. probes: how many until two targets that a public pool cannot tell apart have their own kind of text
on top.

Draws have the seeds `first`, `first` + 1, ... Rules were chosen on seeds from 1,000 to 8,999.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import spearmanr as scipy_spearmanr

from ppl_assets.estimation import GateVerdict, estimate_by_kind, estimate_domains, propose_probes, signal_gate
from ppl_assets.estimation.domain_scores import point_estimate
from ppl_assets.estimation.probe_design import sharp_mixtures
from ppl_assets_tests.estimation.published import FOLDER, regmix
from ppl_assets_tests.estimation.rivals import RULES, WITH_GAPS, Rule
from ppl_assets_tests.estimation.worlds import PagedWorld, TwinWorld, World

SIZES = (30, 90, 300)
LAWS = ("gaussian", "mixture")
MOST_PROBES = 20
PROBE_ARMS = ("designed", "random", "random, as sharp")
LEVEL = 0.10  # nominal false discovery rate
FEWER = (60, 128, 256)  # models of RegMix
# Spread of the pages of a domain (.5 is half the range of domains), pages of a domain, deviation of log spread.
PAGED = ((0.0, 5, 0.0), (0.25, 5, 0.0), (0.5, 5, 0.0), (0.5, 12, 0.0), (0.5, 2, 0.0), (0.25, 5, 0.7), (0.5, 5, 0.7))
OTHER = {
    "no gaps, 2,000 domains, 90": {"missing": 0.0, "domains": 2000},
    "30 % gaps, 30": {"missing": 0.3, "models": 30},
    "30 % gaps, 90": {"missing": 0.3},
    "half the signal, 30": {"signal": 0.5, "models": 30},
    "half the signal, 90": {"signal": 0.5},
    "no topics, 90": {"topics": 200},
    "strong, 30": {"signal": 2.0, "topics": 4, "own": 0.2, "models": 30},
    "strong, 90": {"signal": 2.0, "topics": 4, "own": 0.2},
}


def table(title: str, header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    """Write one Markdown table, row by row as they come."""
    sys.stdout.write(f"\n{title}\n\n| {' | '.join(header)} |\n|{' --- |' * len(header)}\n")
    for row in rows:
        cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()


def causal_agreement(rule: Rule, rows: np.ndarray | None = None) -> np.ndarray:
    """Rank correlation of a rule's estimates with the causal effects, for every RegMix loss as target.

    Estimates from the models in `rows` (all by default); effects always from all.
    """
    truth = regmix()
    loss_MD = truth.loss_MD if rows is None else truth.loss_MD[rows]
    agreement = []
    for target in range(len(truth.domains)):
        others = np.delete(np.arange(len(truth.domains)), target)
        estimate = rule(loss_MD[:, others], loss_MD[:, target])
        agreement.append(scipy_spearmanr(estimate, truth.effect_DT[others, target]).statistic)
    return np.array(agreement)


def regmix_rows() -> Iterator[Sequence[object]]:
    """Every rule on RegMix."""
    for name, rule in RULES.items():
        agreement = causal_agreement(rule)
        yield name, float(agreement.mean()), float(agreement.min()), float(agreement.max())


def fewer_rows(seeds: range) -> Iterator[Sequence[object]]:
    """Rules on RegMix with some of its models: mean, and difference from Spearman with a standard error over draws."""
    draws = {size: [np.random.default_rng(seed).permutation(512)[:size] for seed in seeds] for size in FEWER}
    plain = {size: [causal_agreement(RULES["Spearman"], rows).mean() for rows in draws[size]] for size in FEWER}
    for name in (
        "GLS (default)",
        "Spearman",
        "Gumbel scores",
        "log rank (Savage)",
        "ridge on normal scores, penalty 4",
    ):
        found = {size: [causal_agreement(RULES[name], rows).mean() for rows in draws[size]] for size in FEWER}
        yield name, *(_gain(np.array(found[size]), np.array(plain[size])) for size in FEWER)


def _gain(found: np.ndarray, plain: np.ndarray) -> str:
    """Mean, and difference from plain Spearman plus or minus its standard error over the same draws."""
    difference = found - plain
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return f"{found.mean():.3f} ({difference.mean():+.3f} ± {error:.3f})"


def recovery_rows(worlds: Sequence[dict], seeds: range, names: Sequence[str]) -> Iterator[Sequence[object]]:
    """Planted share of the top by rule, and its difference from Spearman's with a standard error."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for options in worlds:
        draws = np.array([_recovered(World(seed=seed, **options), seed, names) for seed in seeds])
        for name, column in zip(names, draws.T, strict=True):
            found[name].append(column)
    plain = found["Spearman"]
    for name in names:
        yield name, *(_gain(column, spearman) for column, spearman in zip(found[name], plain, strict=True))


def _recovered(world: World, seed: int, names: Sequence[str]) -> list[float]:
    pool = world.draw(np.random.default_rng(seed))
    planted = pool.planted_D > 0
    tops = (np.argsort(-RULES[name](pool.bpb_MD, pool.error_M))[: planted.sum()] for name in names)
    return [float(planted[top].mean()) for top in tops]


def error_rows(sizes: Sequence[int], seeds: range) -> Iterator[Sequence[object]]:
    """Per world: false discoveries among the calls at q = 0.1, power, interval coverage; standard errors over draws.

    An interval is to cover the mean estimate of other pools of the same size.
    """
    for law in LAWS:
        for models in sizes:
            for signal in (0.0, 1.0):
                world = World(law=law, models=models, signal=signal)
                others = (world.draw(np.random.default_rng(50_000 + seed)) for seed in range(200))
                truth = np.mean([point_estimate(pool.bpb_MD, pool.error_M, "gls") for pool in others], axis=0)
                drawn = np.array([_errors(world, truth, seed) for seed in seeds])
                false, power, covered = drawn.mean(axis=0).tolist()
                false_se, _, covered_se = (drawn.std(axis=0, ddof=1) / np.sqrt(len(seeds))).tolist()
                yield law, models, signal, false, false_se, power, covered, covered_se


def _errors(world: World, truth: np.ndarray, seed: int) -> tuple[float, float, float]:
    pool = world.draw(np.random.default_rng(seed))
    found = estimate_domains(pool.bpb_MD, pool.error_M, families=pool.families, seed=seed, replicates=300)
    planted = (pool.planted_D > 0) & (world.signal > 0)
    called = found.q_value <= LEVEL
    false = (called & ~planted).sum() / max(called.sum(), 1)
    covered = ((found.ci_low <= truth) & (truth <= found.ci_high)).mean()
    return float(false), float((called & planted).sum() / max(planted.sum(), 1)), float(covered)


def page_rows(seeds: range) -> Iterator[Sequence[object]]:
    """Per world of pages: coverage and width of intervals over families alone, and over families and pages.

    Covered is to be the mean estimate of other pools on other pages; last column: of the third of the domains whose
    pages differ most.
    """
    for spread, pages, unequal in PAGED:
        world = PagedWorld(common=spread, pages=pages, unequal=unequal)
        others = (world.draw(np.random.default_rng(1_000_000 + seed)) for seed in range(300))
        truth = np.mean([point_estimate(bpb_MD, error_M, "gls") for bpb_MD, error_M, *_ in others], axis=0)
        drawn = np.array([_covered(world, truth, seed) for seed in seeds])
        families, both, widths = np.swapaxes(drawn, 0, 1)
        error = both.mean(axis=1).std(ddof=1) / np.sqrt(len(seeds))
        most = both[:, np.argsort(world.common_D)[-world.domains // 3 :]] if unequal else np.array(np.nan)
        yield spread, pages, unequal, families.mean(), both.mean(), error, widths.mean(), most.mean()


def _covered(world: PagedWorld, truth: np.ndarray, seed: int) -> list[np.ndarray]:
    """Per domain: covered over families, covered over families and pages, how much wider the latter."""
    bpb_MD, error_M, families, pages = world.draw(np.random.default_rng(seed))
    plain, paged = (
        estimate_domains(bpb_MD, error_M, families=families, pages=given, seed=seed, replicates=300)
        for given in (None, pages)
    )
    covered = [(found.ci_low <= truth) & (truth <= found.ci_high) for found in (plain, paged)]
    return [*covered, (paged.ci_high - paged.ci_low) / (plain.ci_high - plain.ci_low)]


def gate_rows(sizes: Sequence[int], seeds: range) -> Iterator[Sequence[object]]:
    """Verdicts in worlds without signal, with errors that have nothing to do with losses, with a signal spread over
    many kinds of text, and with few kinds of text."""
    few = {"topics": 4, "own": 0.2}
    worlds = {"null": {"signal": 0.0}, "unrelated": few, "spread": {"signal": 1.0}, "strong": {"signal": 2.0, **few}}
    for law in LAWS:
        for models in sizes:
            for name, options in worlds.items():
                gates = [_gate(World(law=law, models=models, seed=seed, **options), seed, name) for seed in seeds]
                said = [
                    sum(gate.verdict == verdict for gate in gates) / len(seeds)
                    for verdict in ("select", "weak", "abstain")
                ]
                yield law, models, name, *said, float(np.mean([gate.reliability for gate in gates]))


def _gate(world: World, seed: int, name: str) -> GateVerdict:
    pool = world.draw(np.random.default_rng(seed))
    return signal_gate(
        pool.bpb_MD,
        unrelated_errors(pool.families, seed) if name == "unrelated" else pool.error_M,
        families=pool.families,
        seed=seed,
    )


def unrelated_errors(families: Sequence[str], seed: int) -> np.ndarray:
    """Errors that models of a family share for the most part and losses know nothing of."""
    rng = np.random.default_rng(seed + 1_000_000)
    family_M = np.unique(list(families), return_inverse=True)[1]
    return rng.normal(size=family_M.max() + 1)[family_M] + 0.5 * rng.normal(size=len(family_M))


def probe_rows(seeds: range) -> Iterator[Sequence[object]]:
    """Probes needed by how their mixtures come about: over all models together, and combined by kind; mean, quartiles,
    and what random ones need more than designed ones in the same worlds, with a standard error."""
    world = TwinWorld()
    for by_kind in (False, True):
        needed = {arm: np.array([probes_needed(world, arm, s, by_kind=by_kind) for s in seeds]) for arm in PROBE_ARMS}
        for arm, count in needed.items():
            more = count - needed["designed"]
            quartiles = " / ".join(f"{quartile:.0f}" for quartile in np.percentile(count, (25, 50, 75)))
            yield (
                "combined by kind" if by_kind else "all models", arm, float(count.mean()), quartiles,
                int((count > MOST_PROBES).sum()), f"{more.mean():+.2f} ± {more.std(ddof=1) / np.sqrt(len(more)):.2f}",
            )  # fmt: skip


def probes_needed(world: TwinWorld, arm: str, seed: int, *, by_kind: bool = False) -> int:
    """The fewest probes from which on, up to `MOST_PROBES`, nine tenths of the top tenth are of the right kind for both
    targets; `MOST_PROBES` + 1 where that many are too few."""
    pool = world.public(np.random.default_rng(seed))
    share_PK = _mixtures(world, arm, pool, np.random.default_rng(seed + 1_000_000))
    added = world.probes(share_PK, np.random.default_rng(seed + 2_000_000))
    least = 3 if by_kind else 1  # a kind of fewer models has no correlation
    for count in range(MOST_PROBES, least - 1, -1):
        bpb_MD, error_M2 = (np.vstack([old, new[:count]]) for old, new in zip(pool[:2], added[:2], strict=True))
        kinds = ["public"] * len(pool[0]) + ["probe"] * count
        for target in range(2):
            error_M = error_M2[:, target]
            if by_kind:
                families = [*pool[2], *added[2][:count]]
                estimate_D = estimate_by_kind(bpb_MD, error_M, kinds=kinds, families=families).combined
            else:
                estimate_D = point_estimate(bpb_MD, error_M, "gls")
            if (world.kind_D[np.argsort(-estimate_D)[: world.each]] == target).mean() < 0.9:
                return count + 1
    return least


def _mixtures(
    world: TwinWorld, arm: str, pool: tuple[np.ndarray, np.ndarray, list[str]], rng: np.random.Generator
) -> np.ndarray:
    """Mixtures of the probes: by the design, even over all mixtures, or drawn as those that the design chooses from."""
    if arm == "designed":
        groups = [f"g{kind:02d}" for kind in world.kind_D]
        return propose_probes(pool[0], families=pool[2], groups=groups, probes=MOST_PROBES).shares
    if arm == "random":
        return rng.dirichlet(np.ones(world.kinds), MOST_PROBES)
    return sharp_mixtures(world.kinds, MOST_PROBES, rng)


def main() -> None:
    """Write the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--only", choices=("regmix", "fewer", "recovery", "other", "errors", "pages", "gate", "probes"))
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.repeats)
    here = (FOLDER / "regmix").is_dir()
    if options.only in (None, "regmix") and here:
        table("RegMix", ("rule", "mean", "lowest", "highest"), regmix_rows())
    if options.only in (None, "fewer") and here:
        header = ("rule", *(f"{size} models" for size in FEWER))
        table("RegMix with fewer models", header, fewer_rows(seeds[: max(2, len(seeds) // 4)]))
    if options.only in (None, "recovery"):
        worlds = [{"law": law, "models": models, "missing": 0.0} for law in LAWS for models in options.sizes]
        header = ("rule", *(f"{world['law']} {world['models']}" for world in worlds))
        table("Planted domains found", header, recovery_rows(worlds, seeds, list(RULES)))
    if options.only in (None, "other"):
        table("In other worlds", ("rule", *OTHER), recovery_rows(list(OTHER.values()), seeds, WITH_GAPS))
    if options.only in (None, "errors"):
        header = ("law", "models", "signal", "false discoveries", "s.e.", "power", "coverage", "s.e.")
        table("Error rates", header, error_rows(options.sizes, seeds))
    if options.only in (None, "pages"):
        header = ("spread", "pages", "unequal", "families", "both", "s.e.", "times as wide", "most spread third")
        table("Coverage over pages", header, page_rows(seeds))
    if options.only in (None, "gate"):
        header = ("law", "models", "world", "select", "weak", "abstain", "reliability")
        table("Gate", header, gate_rows(options.sizes, seeds))
    if options.only in (None, "probes"):
        header = ("estimate", "mixtures", "probes", "quartiles", f"more than {MOST_PROBES}", "more than designed")
        table("Probes needed", header, probe_rows(seeds))


if __name__ == "__main__":
    main()
