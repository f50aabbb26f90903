"""What the report is made from: the published tables and where they come from.

It knows no state folder and no database: whoever calls has read the tables.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ppl_assets.errors import InputError
from ppl_assets.schema import TABLES
from ppl_assets.study.schema import Alternatives, Prices

# Attributes of a domain by which mixture and pool are compared, where the corpus states them.
GROUPINGS = {"domain_group": "group", "language": "language", "license": "licence", "maker": "maker"}

# Estimates that hold something fixed, and ranks that other ways of predicting give, where the tables have them.
ADJUSTED = {"given_size": "given size", "given_mean_loss": "given mean loss"}
PREDICTORS = {
    "predicted_rank": "losses on the domains",
    "mean_loss_rank": "mean loss",
    "size_rank": "model size",
    "pca_rank": "first principal component of losses",
}

_UNCERTAINTY = ("stderr", "ci_low", "ci_high", "q_value", "selection_probability", "models")

COLUMNS: dict[str, tuple[str, ...]] = {
    "models": ("slug", "family", "run", "kind", "source", "revision", "params", "license", "status"),
    "domains": ("domain", "pages", "bytes", "tokens", "language", "license", "policy", "policy_reason"),
    "benchmark_errors": ("slug", "target", "error"),
    "domain_logliks": ("slug", "domain", "nll", "tokens", "bytes", "chunks", "chunks_missing", "bpb"),
    "correlation_estimates": (
        "target",
        "estimator",
        "domain",
        "estimate",
        "stderr",
        "ci_low",
        "ci_high",
        "q_value",
        "selection_probability",
        "models",
    ),
    "signal_gate": (
        "target",
        "verdict",
        "reason",
        "effective_models",
        "reliability",
        "heterogeneity_p",
        "delta_r2",
    ),
    "rank_prediction": ("target", "slug", "error", "predicted_rank", "actual_rank", "held_out_family"),
    "pretraining_mixture": (
        "target",
        "domain",
        "weight",
        "cap",
        "estimate",
        "tokens",
        "decision",
        "reason",
        "kind",
        "used",
    ),
    "mixture_gains": ("mixture", "kind", "target", "target_weight", "gain"),
    "shadow_prices": ("target", "rule", "price", "sentence"),
    "mixture_changes": ("target", "domain", "change", "weight_before", "weight_after", "why"),
}

# Tables whose section is left out where they have no row, as where a study does without what makes them: each is also a
# field of `ReportData`, empty by default.
OPTIONAL = (
    "cost_ledger",
    "domain_audits",
    "next_measurements",
    "filter_metrics",
    "selections",
    "selection_shifts",
    "preregistration",
    "pilot_comparison",
    "pilot_harm",
)


def _no_rows(table: str) -> Callable[[], pl.DataFrame]:
    return TABLES[table].polars_schema.to_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The published tables, each with at least its public columns; further columns are used where they are known."""

    models: pl.DataFrame
    domains: pl.DataFrame
    benchmark_errors: pl.DataFrame
    domain_logliks: pl.DataFrame
    correlation_estimates: pl.DataFrame
    signal_gate: pl.DataFrame
    rank_prediction: pl.DataFrame
    pretraining_mixture: pl.DataFrame
    mixture_gains: pl.DataFrame
    shadow_prices: pl.DataFrame
    mixture_changes: pl.DataFrame
    cost_ledger: pl.DataFrame = field(default_factory=_no_rows("cost_ledger"))
    domain_audits: pl.DataFrame = field(default_factory=_no_rows("domain_audits"))
    next_measurements: pl.DataFrame = field(default_factory=_no_rows("next_measurements"))
    preregistration: pl.DataFrame = field(default_factory=_no_rows("preregistration"))
    pilot_comparison: pl.DataFrame = field(default_factory=_no_rows("pilot_comparison"))
    pilot_harm: pl.DataFrame = field(default_factory=_no_rows("pilot_harm"))
    prices: Prices = field(default_factory=Prices)
    alternatives: Alternatives = field(default_factory=Alternatives)
    filter_metrics: pl.DataFrame = field(default_factory=_no_rows("filter_metrics"))
    selections: pl.DataFrame = field(default_factory=_no_rows("selections"))
    selection_shifts: pl.DataFrame = field(default_factory=_no_rows("selection_shifts"))
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Study, versions, fingerprints: any nesting of mappings down to text and numbers."""

    def __post_init__(self) -> None:
        """Refuse tables without their public columns; make every NaN a null, which is what pages can show."""
        for table, columns in COLUMNS.items():
            frame = getattr(self, table)
            missing = [column for column in columns if column not in frame.columns]
            if missing:
                raise InputError(f"table {table} has no column {missing[0]!r}: expected {', '.join(columns)}")
            object.__setattr__(self, table, frame.fill_nan(None))

    @property
    def targets(self) -> list[str]:
        """Targets that have a mixture, in the order of the table; mixtures of several targets are none."""
        single = self.pretraining_mixture.filter(pl.col("kind") == "target")
        return single["target"].unique(maintain_order=True).to_list()

    @property
    def used(self) -> str | None:
        """The mixture that the study says to train on; None where it does not say."""
        return next(iter(self.pretraining_mixture.filter(pl.col("used"))["target"]), None)

    def verdict(self, target: str) -> dict[str, Any] | None:
        """The gate's row of a target; None where the gate did not look at it."""
        return next(iter(self.signal_gate.filter(pl.col("target") == target).to_dicts()), None)

    def estimator(self, target: str) -> str | None:
        """The estimator whose estimates the mixture rests on: the one whose numbers stand in it."""
        mixed = self.pretraining_mixture.filter(pl.col("target") == target).select("domain", used="estimate")
        estimates = self.correlation_estimates.filter(pl.col("target") == target)
        agreement = (
            estimates.join(mixed, on="domain")
            .group_by("estimator", maintain_order=True)
            .agg(same=(pl.col("estimate") == pl.col("used")).sum())
            .sort("same", descending=True, maintain_order=True)
        )
        return agreement["estimator"][0] if agreement.height else None

    def domain_rows(self, target: str) -> pl.DataFrame:
        """One row per domain of a target's mixture, the largest weight first, then the largest estimate.

        Columns of `pretraining_mixture`, of its estimator in `correlation_estimates`, of `domains`, and `pool`: the
        share of the pool among domains that may be used, null for the others and where no size is known.
        """
        estimates = self.correlation_estimates.filter(
            (pl.col("target") == target) & pl.col("estimator").eq_missing(pl.lit(self.estimator(target), pl.String))
        )
        known = [name for name in (*ADJUSTED, *_UNCERTAINTY) if name in estimates.columns]
        estimates = estimates.select("domain", *known)
        groupings = [column for column in GROUPINGS if column in self.domains.columns]
        held = self.domains.select("domain", pl.col("tokens").alias("pool_tokens"), *groupings)
        usable = pl.when(pl.col("decision") != "excluded").then(pl.col("pool_tokens"))
        return (
            self.pretraining_mixture.filter(pl.col("target") == target)
            .join(estimates, on="domain", how="left")
            .join(held, on="domain", how="left")
            .with_columns(pool=pl.when(usable.sum() > 0).then(usable / usable.sum()))
            .sort(["weight", "estimate", "domain"], descending=[True, True, False], nulls_last=True)
        )

    def adjusted(self) -> dict[str, str]:
        """Adjusted estimates that the tables have: column and what people call it."""
        return {name: word for name, word in ADJUSTED.items() if name in self.correlation_estimates.columns}

    def has_predicted_ranks(self, target: str) -> bool:
        """Whether any model's rank could be predicted without its family."""
        own = self.rank_prediction.filter(pl.col("target") == target)
        return own["predicted_rank"].count() > 0

    def predictions(self, target: str) -> list[tuple[str, float | None]]:
        """How well each way of predicting ranks held-out models: Spearman's correlation with the actual rank."""
        ranks = self.rank_prediction.filter(pl.col("target") == target)
        found = []
        for column, word in PREDICTORS.items():
            if column in ranks.columns and ranks[column].count() > 1:
                known = ranks.filter(pl.col(column).is_not_null())
                value = known.select(pl.corr(column, "actual_rank", method="spearman")).item()
                found.append((word, None if value is None or math.isnan(value) else value))
        return found

    def separability(self) -> dict[str, dict[str, float | None]]:
        """Spearman's correlation of the errors of every two targets over the models that have both; empty for one."""
        errors = self.benchmark_errors.pivot("target", index="slug", values="error")
        names = [name for name in self.targets if name in errors.columns]
        if len(names) < 2:
            return {}
        return {one: {other: _spearman(errors, one, other) for other in names} for one in names}

    def nearest_target(self, target: str) -> tuple[str, float] | None:
        """The other target whose errors over models correlate most with this one's; None without another."""
        row = self.separability().get(target, {})
        others = [(name, value) for name, value in row.items() if name != target and value is not None]
        return max(others, key=lambda pair: pair[1], default=None)

    def models_of(self, target: str) -> pl.DataFrame:
        """One row per model with an error on a target: slug, family, params, error; the best first."""
        return (
            self.benchmark_errors.filter(pl.col("target") == target)
            .join(self.models.select("slug", "family", "params"), on="slug", how="left")
            .sort("error", "slug", nulls_last=True)
        )


def _spearman(frame: pl.DataFrame, one: str, other: str) -> float | None:
    """Rank correlation of two columns over the rows that have both; None where it is not defined."""
    if one == other:
        return 1.0
    both = frame.filter(pl.col(one).is_not_null() & pl.col(other).is_not_null())
    value = both.select(pl.corr(one, other, method="spearman")).item() if both.height > 1 else None
    return None if value is None or math.isnan(value) else value
