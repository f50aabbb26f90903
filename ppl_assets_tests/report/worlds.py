"""Small worlds of tables for tests of the report: drawn at random with a seed, or from the published losses."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import rankdata

from ppl_assets.mixture import Candidates, Objective, availability_caps
from ppl_assets.mixture.changes import change_rows, mixture_before
from ppl_assets.mixture.every_mixture import Wanted, every_mixture
from ppl_assets.mixture.tables import gain_rows, mixture_rows, price_rows
from ppl_assets.report import ReportData
from ppl_assets.schema import TABLES

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "perplexity_correlations"

NOTHING = mixture_before(TABLES["mixture_changes"].polars_schema.to_frame(), same_inputs=False)
VERDICTS = ("select", "abstain", "weak")


def drawn_world(
    *,
    models: int = 24,
    domains: list[str] | None = None,
    targets: tuple[str, ...] = ("qa", "code"),
    combine: tuple[str, ...] = (),
):
    """Random losses in which one factor makes models good everywhere and each target likes some domains more."""
    rng = np.random.default_rng(0)
    domains = domains or [f"site{i}.org" for i in range(30)]
    ability = rng.normal(size=models)
    bpb_MD = 0.9 - 0.1 * ability[:, None] + 0.03 * rng.normal(size=(models, len(domains)))
    error_TM = np.array([0.5 - 0.1 * ability + 0.05 * rng.normal(size=models) for _ in targets])
    slugs = [f"model-{i}" for i in range(models)]
    families = [f"family {i % 6}" for i in range(models)]
    return world(bpb_MD, error_TM, slugs=slugs, families=families, domains=domains, targets=targets, combine=combine)


def published_world() -> ReportData:
    """The published losses of 90 models on 263 texts and their errors on nine tasks."""
    with (PUBLISHED / "bpb_by_text.csv").open() as file:
        header, *rows = csv.reader(file)
    bpb_MD = np.array([row[1:] for row in rows], dtype=float).T
    with (PUBLISHED / "error.csv").open() as file:
        error_header, *error_rows = csv.reader(file)
    place = {name: i for i, name in enumerate(error_header[1:])}
    columns = [place[name] for name in header[1:]]
    error_TM = np.array([row[1:] for row in error_rows], dtype=float)[:, columns]
    named = [name.strip("()").replace("'", "").split(", ") for name in header[1:]]
    slugs = [f"{i:02d} {name[1]}" for i, name in enumerate(named)]
    domains = [f"{i:03d} {row[0].strip()}" for i, row in enumerate(rows)]
    return world(
        bpb_MD,
        error_TM,
        slugs=slugs,
        families=[name[0] for name in named],
        domains=domains,
        targets=tuple(row[0] for row in error_rows),
    )


def world(bpb_MD, error_TM, *, slugs, families, domains, targets, combine=()) -> ReportData:
    """Tables for losses and errors: Spearman estimates with intervals by Fisher's z, and the linear mixtures.

    With combined mixtures there is a mixture before, too: the one for the estimates turned round.
    """
    rng = np.random.default_rng(1)
    n_models, n_domains = bpb_MD.shape
    tokens = rng.integers(10_000, 5_000_000, n_domains)
    budget = int(tokens.sum() // 8)
    estimates, gates, ranks = [], [], []
    by_target, verdicts = {}, {}
    for t, target in enumerate(targets):
        rho = np.array([np.corrcoef(rankdata(error_TM[t]), rankdata(column))[0, 1] for column in bpb_MD.T])
        z, width = np.arctanh(rho), 1.96 / np.sqrt(n_models - 3)
        estimates.append(
            pl.DataFrame(
                {
                    "target": [target] * n_domains,
                    "estimator": ["spearmanr"] * n_domains,
                    "domain": domains,
                    "estimate": rho,
                    "stderr": (1 - rho**2) / np.sqrt(n_models - 3),
                    "ci_low": np.tanh(z - width),
                    "ci_high": np.tanh(z + width),
                    "q_value": rng.uniform(0, 0.3, n_domains),
                    "selection_probability": rng.uniform(0, 1, n_domains),
                    "models": [n_models] * n_domains,
                }
            )
        )
        verdict = VERDICTS[t % len(VERDICTS)]
        verdicts[target] = verdict
        by_target[target] = Candidates(
            domains=domains,
            estimate_D=rho,
            cap_D=availability_caps(tokens, budget=budget),
            pool_D=tokens,
            excluded={domains[-1]: "policy: licence not stated (legal, 2026-11-01)"},
        )
        gates.append((target, verdict, f"Made up for {target}: <b>{verdict}</b>.", 17.3 + t, 0.41, 0.02 * t, 0.013 * t))
        actual = rankdata(error_TM[t])
        predicted = rankdata(actual + rng.normal(size=n_models) * n_models / 8)
        ranks.append(
            pl.DataFrame(
                {
                    "target": [target] * n_models,
                    "slug": slugs,
                    "error": error_TM[t],
                    "predicted_rank": predicted,
                    "actual_rank": actual,
                    "held_out_family": families,
                }
            )
        )
    wanted = Wanted(
        by_target=by_target,
        verdicts=verdicts,
        budget=budget,
        objective=Objective(safety_margin=0.1 if combine else 0.0),
        combine=combine,
        front_points=4,
        previous={},
    )
    turned = {target: replace(one, estimate_D=-one.estimate_D) for target, one in by_target.items()}
    before = NOTHING
    if combine:
        before = mixture_before(changes_of(replace(wanted, by_target=turned), NOTHING), same_inputs=False)
    made = every_mixture(wanted)
    return ReportData(
        models=models_table(slugs, families),
        domains=domains_table(domains, tokens),
        benchmark_errors=pl.DataFrame(
            {"slug": slugs * len(targets), "target": np.repeat(targets, n_models), "error": error_TM.ravel()}
        ),
        domain_logliks=logliks_table(bpb_MD, slugs, domains),
        correlation_estimates=pl.concat(estimates),
        signal_gate=pl.DataFrame(
            gates,
            orient="row",
            schema=[
                "target",
                "verdict",
                "reason",
                "effective_models",
                "reliability",
                "heterogeneity_p",
                "delta_r2",
            ],
        ),
        rank_prediction=pl.concat(ranks),
        pretraining_mixture=mixture_rows(made, used="mean"),
        mixture_gains=gain_rows(wanted, made),
        shadow_prices=price_rows(made),
        mixture_changes=changes_of(wanted, before),
        provenance={"study": "a world", "versions": {"ppl_assets": "0"}, "fingerprints": {"qa": "sha256:<abc>"}},
    )


def changes_of(wanted: Wanted, before: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``mixture_changes`` for the mixtures of a world."""
    return change_rows(mixture_rows(every_mixture(wanted), used=None).filter(pl.col("kind") != "pareto"), before)


def models_table(slugs, families) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "slug": slugs,
            "family": families,
            "run": slugs,
            "kind": ["public"] * len(slugs),
            "source": slugs,
            "revision": ["main"] * len(slugs),
            "params": [1_000_000 * (i + 1) for i in range(len(slugs))],
            "license": ["apache-2.0"] * len(slugs),
            "status": ["ready"] * len(slugs),
        }
    )


def domains_table(domains, tokens) -> pl.DataFrame:
    n = len(domains)
    return pl.DataFrame(
        {
            "domain": domains,
            "domain_group": [("news", "forum", "docs")[i % 3] for i in range(n)],
            "pages": [25] * n,
            "bytes": tokens * 4,
            "tokens": tokens,
            "language": [("en", "de")[i % 2] for i in range(n)],
            "license": [None if i % 7 == 0 else "cc-by" for i in range(n)],
            "policy": ["allow"] * n,
            "policy_reason": [None] * n,
        },
        schema_overrides={"policy_reason": pl.String},
    )


def logliks_table(bpb_MD, slugs, domains) -> pl.DataFrame:
    n_models, n_domains = bpb_MD.shape
    cells = n_models * n_domains
    return pl.DataFrame(
        {
            "slug": np.repeat(slugs, n_domains),
            "domain": domains * n_models,
            "nll": bpb_MD.ravel() * 1000 * np.log(2),
            "tokens": [250] * cells,
            "bytes": [1000] * cells,
            "chunks": [4] * cells,
            "chunks_missing": [0] * cells,
            "bpb": bpb_MD.ravel(),
        }
    )
