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
_NO_LOSSES = pl.DataFrame(schema={"slug": pl.String, "bpb": pl.Float64})
_COLUMNS = tuple(TABLES["certificates"].by_name)


def domain_facts(data: ReportData, study: Study, target: str, domain: str) -> Facts:
    """The facts about a domain of the catalog, whether it is trained on or not."""
    return _TargetFacts(data, study, target).of(domain)


def certificate_rows(data: ReportData, grounds: Grounds, provenance: Mapping[str, Any]) -> pl.DataFrame:
    """Rows of ``certificates``: the domains with a weight in the mixture of a target alone."""
    rows = []
    for target in data.targets:
        facts = _TargetFacts(data, grounds.study, target)
        twice = decide_again(with_epochs(grounds, TWO_EPOCHS), target)
        own = data.pretraining_mixture.filter(pl.col("target") == target, pl.col("weight") > 0)
        rows += [_certified(facts.of(domain), twice[domain], provenance) for domain in own["domain"]]
    return pl.DataFrame(rows, schema=TABLES["certificates"].polars_schema)


class _TargetFacts:
    """What the tables hold about a target, by domain: looked up for each domain, there may be ten thousand."""

    def __init__(self, data: ReportData, study: Study, target: str) -> None:
        own, key = pl.col("target") == target, ("target", "domain")
        chosen = pl.col("estimator") == study.estimation.estimator
        self._target = target
        self._tasks = [f"{task.task} ({task.metric})" for task in study.targets[target].tasks]
        self._domains = _by_domain(data.domains)
        self._estimates = _by_domain(data.correlation_estimates.filter(own, chosen), *key)
        self._audits = _by_domain(data.domain_audits.filter(own), *key)
        self._decisions = _by_domain(data.pretraining_mixture.filter(own), *key, "kind")
        self._gate = next(iter(data.signal_gate.filter(own).drop("target").to_dicts()), {})
        self._limits = dict(data.shadow_prices.filter(own).select("rule", "sentence").iter_rows())
        known = data.domain_logliks.filter(pl.col("bpb").is_not_null()).select("slug", "domain", "bpb")
        self._losses = known.partition_by("domain", as_dict=True, include_key=False)
        self._models = data.models_of(target)
        self._groups = _by_group(data.domain_rows(target))

    def of(self, domain: str) -> Facts:
        """The facts about one domain, in the order in which one follows from the other."""
        described = self._domains.get(domain, {})
        limit = self._limits.get(f"cap of {domain}")
        return {
            "target": self._target,
            "domain": described,
            "group": self._groups.get(described.get("domain_group"), {}),
            "estimate": self._estimates.get(domain, {}),
            "audit": self._audits.get(domain, {}),
            "evidence": self._evidence(domain),
            "gate": self._gate,
            "decision": self._decisions.get(domain, {}),
            "limits": [limit] if limit else [],
        }

    def _evidence(self, domain: str) -> Facts:
        """Models and tasks behind the estimate, with losses and errors of the models that are best on the domain."""
        losses = self._losses.get((domain,), _NO_LOSSES)
        models = self._models.join(losses, on="slug").sort("bpb", "slug")
        return {
            "tasks": self._tasks,
            "models": models.height,
            "families": models["family"].n_unique(),
            "lowest_losses": models.head(3).select("slug", "family", "bpb", "error").to_dicts(),
            "highest_losses": models.tail(3).select("slug", "family", "bpb", "error").to_dicts(),
        }


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


def _by_group(rows: pl.DataFrame) -> dict[str | None, Facts]:
    """What the domains of each group have in common."""
    return {
        group: {
            "group": group,
            "domains": inside.height,
            "mean_estimate": inside["estimate"].mean(),
            "weight": float(inside["weight"].sum()),
            "pool": float(inside["pool"].sum()) if inside["pool"].count() else None,
        }
        for (group,), inside in rows.drop_nulls("domain_group").partition_by("domain_group", as_dict=True).items()
    }


def _by_domain(rows: pl.DataFrame, *without: str) -> dict[str, Facts]:
    """The row of each domain, as a mapping without some columns."""
    return dict(zip(rows["domain"], rows.drop(without).to_dicts(), strict=True))
