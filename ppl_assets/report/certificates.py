"""Everything that is known of one domain for one target, from its text to the decision: for people and for programs.

The facts stand in the order in which one follows from the other: domain, group, estimate, what the estimate hangs on,
models and tasks, the gate, the decision. Nothing is computed here but counts; a certificate is these facts about a
domain that a mixture trains on, with the provenance of the tables that they are from.
"""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from ppl_assets.mixture.counterfactuals import Decision, Grounds, decide_again, with_epochs
from ppl_assets.report.data import ReportData
from ppl_assets.schema import TABLES
from ppl_assets.study import Study

Facts = dict[str, Any]

TWO_EPOCHS = 2.0
_COLUMNS = tuple(TABLES["certificates"].by_name)


def domain_facts(data: ReportData, study: Study, target: str, domain: str) -> Facts:
    """The facts about a domain of the catalog, whether it is trained on or not."""
    own = (pl.col("target") == target) & (pl.col("domain") == domain)
    described = _row(data.domains.filter(pl.col("domain") == domain))
    estimates = data.correlation_estimates.filter(own, pl.col("estimator") == study.estimation.estimator)
    return {
        "target": target,
        "domain": described,
        "group": _group(data, target, described.get("domain_group")),
        "estimate": _row(estimates, "target", "domain"),
        "audit": _row(data.domain_audits.filter(own), "target", "domain"),
        "evidence": _evidence(data, study, target, domain),
        "gate": _row(data.signal_gate.filter(pl.col("target") == target), "target"),
        "decision": _row(data.pretraining_mixture.filter(own), "target", "domain", "kind"),
        "limits": data.shadow_prices.filter(pl.col("target") == target, pl.col("rule") == f"cap of {domain}")[
            "sentence"
        ].to_list(),
    }


def certificate_rows(data: ReportData, grounds: Grounds, provenance: Mapping[str, Any]) -> pl.DataFrame:
    """Rows of ``certificates``: the domains with a weight in the mixture of a target alone."""
    rows = []
    for target in data.targets:
        twice = decide_again(with_epochs(grounds, TWO_EPOCHS), target)
        own = data.pretraining_mixture.filter(pl.col("target") == target, pl.col("weight") > 0)
        for domain in own["domain"]:
            facts = domain_facts(data, grounds.study, target, domain)
            rows.append(_certified(facts, twice[domain], provenance))
    return pl.DataFrame(rows, schema=TABLES["certificates"].polars_schema)


def _certified(facts: Facts, twice: Decision, provenance: Mapping[str, Any]) -> Facts:
    text = json.dumps(
        facts | {"weight_at_two_epochs": twice.weight, "provenance": provenance}, sort_keys=True, default=str
    )
    known = {
        **facts["estimate"],
        **facts["decision"],
        "target": facts["target"],
        "domain": facts["domain"]["domain"],
        "license": facts["domain"]["license"],
        "verdict": facts["gate"]["verdict"],
        "weight_at_two_epochs": twice.weight,
        "estimate_without_family": facts["audit"].get("estimate_without_it"),
        "estimate_without_overlap": facts["audit"].get("estimate_without_overlap"),
        "certificate": text,
    }
    return {name: known.get(name) for name in _COLUMNS}


def _group(data: ReportData, target: str, group: str | None) -> Facts:
    """What the domains of a group have in common; empty where the domain has none."""
    if group is None:
        return {}
    inside = data.domain_rows(target).filter(pl.col("domain_group") == group)
    return {
        "group": group,
        "domains": inside.height,
        "mean_estimate": inside["estimate"].mean(),
        "weight": float(inside["weight"].sum()),
        "pool": float(inside["pool"].sum()) if inside["pool"].count() else None,
    }


def _evidence(data: ReportData, study: Study, target: str, domain: str) -> Facts:
    """Models and tasks behind the estimate, with the losses and errors of the models that are best on the domain."""
    losses = data.domain_logliks.filter(pl.col("domain") == domain, pl.col("bpb").is_not_null())
    models = data.models_of(target).join(losses.select("slug", "bpb"), on="slug").sort("bpb", "slug")
    return {
        "tasks": [f"{task.task} ({task.metric})" for task in study.targets[target].tasks],
        "models": models.height,
        "families": models["family"].n_unique(),
        "lowest_losses": models.head(3).select("slug", "family", "bpb", "error").to_dicts(),
        "highest_losses": models.tail(3).select("slug", "family", "bpb", "error").to_dicts(),
    }


def _row(rows: pl.DataFrame, *without: str) -> Facts:
    """The only row, as a mapping; empty where there is none."""
    return next(iter(rows.drop(without).to_dicts()), {})
