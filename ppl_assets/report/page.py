"""The report as one HTML file that needs no network: text, tables and interactive charts.

The page is a Jinja template with autoescaping; charts are JSON that the embedded Vega libraries draw. A content
security policy forbids the page to load anything, so that it stays as offline as it says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ppl_assets.report import charts, wording
from ppl_assets.report.costs import costs
from ppl_assets.report.data import GROUPINGS, ReportData
from ppl_assets.report.pilot import pilot_answers
from ppl_assets.report.risks import INSEPARABLE, Risk, risks
from ppl_assets.report.sections import shown_sections
from ppl_assets.report.together import mixture_views

# More rows than people read; all of them are in the published table.
TABLE_ROWS = 50
ANSWER_DOMAINS, ANSWER_RISKS, AUDITED_DOMAINS = 5, 3, 12

FORMATS = {
    "share": wording.share,
    "gain": wording.gain,
    "points": wording.points,
    "correlation": wording.correlation,
    "plain": wording.plain,
    "probability": wording.probability,
    "count": wording.count,
    "power": wording.power,
}

HEADLINES = {
    "select": "The evidence carries a choice.",
    "weak": "There is some evidence, but not enough to rely on.",
    "abstain": "The evidence carries no choice.",
}


def render(tables: ReportData) -> str:
    """The report as HTML: the answer, the mixture, the evidence, the risks, the provenance.

    The same tables give the same text, byte for byte.
    """
    views = [_target_view(tables, target) for target in tables.targets]
    shown = sorted({domain for view in views for domain in view.evidence_domains})
    environment = Environment(
        loader=PackageLoader("ppl_assets.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.globals |= {"number": _number, "derived": _derived, "listing": wording.listing}
    return environment.get_template("report.html").render(
        sections=shown_sections(tables),
        views=views,
        mixtures=mixture_views(tables),
        heat_map=charts.heat_map(tables),
        costs=costs(tables),
        separability=tables.separability(),
        inseparable=INSEPARABLE,
        losses=charts.losses(tables, shown),
        models=tables.models,
        domains=tables.domains,
        provenance=_provenance(tables.provenance),
        study=_study_name(tables.provenance),
        libraries=Markup(_libraries()),
        adjusted=tables.adjusted(),
        answer_risks=ANSWER_RISKS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """What the template shows of one target."""

    number: int
    target: str
    verdict: str
    headline: str
    gate: Mapping[str, Any] | None
    estimator: str | None
    rows: list[dict[str, Any]]
    others: int
    others_weight: float
    chosen: list[dict[str, Any]]
    decisions: list[tuple[str, int]]
    mixture_estimate: float | None
    pool_estimate: float | None
    pool_known: bool
    pilots: list[dict[str, Any]]
    risks: list[Risk]
    audits: list[dict[str, Any]]
    groups: list[tuple[str, list[dict[str, Any]]]]
    predictions: list[tuple[str, float | None]]
    evidence_domains: list[str]
    lowest_listed: bool
    charts: Mapping[str, charts.Spec]


def _target_view(data: ReportData, target: str) -> TargetView:
    """Everything the template needs for a target."""
    frame = data.domain_rows(target)
    gate = data.verdict(target)
    verdict = gate["verdict"] if gate else "no verdict"
    falls_back = bool((frame["decision"] == "fallback").any())
    evidence, drawn = charts.evidence_domains(frame), charts.target_charts(data, target)
    groups = [(word, _group_rows(frame, column)) for column, word in GROUPINGS.items() if column in frame.columns]
    groups = [(word, rows) for word, rows in groups if len(rows) > 1]
    for word, rows in groups:
        drawn[word] = charts.group_chart(pl.DataFrame(rows), word)
    return TargetView(
        number=data.targets.index(target),
        target=target,
        verdict=verdict,
        headline=_headline(verdict, falls_back=falls_back),
        gate=gate,
        estimator=data.estimator(target),
        rows=frame.head(TABLE_ROWS).to_dicts(),
        others=max(frame.height - TABLE_ROWS, 0),
        others_weight=float(frame[TABLE_ROWS:]["weight"].sum()),
        chosen=frame.filter(pl.col("weight") > 0).head(ANSWER_DOMAINS).to_dicts(),
        decisions=sorted(frame["decision"].value_counts().iter_rows()),
        mixture_estimate=_mean_estimate(frame, "weight"),
        pool_estimate=_mean_estimate(frame, "pool"),
        pool_known=frame["pool"].count() > 0,
        pilots=pilot_answers(data, target),
        risks=risks(data, target),
        audits=_audits(data, target, frame),
        groups=groups,
        predictions=data.predictions(target),
        evidence_domains=evidence,
        lowest_listed=len(evidence) == charts.EVIDENCE_DOMAINS,
        charts=drawn,
    )


def _audits(data: ReportData, target: str, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Audits of the domains with the largest weights."""
    shown = frame.filter(pl.col("weight") > 0).head(AUDITED_DOMAINS).select("domain")
    own = data.domain_audits.filter(pl.col("target") == target)
    return shown.join(own, on="domain", how="inner", maintain_order="left").to_dicts()


def _headline(verdict: str, *, falls_back: bool) -> str:
    """The verdict as a sentence, and what the mixture made of it."""
    sentence = HEADLINES.get(verdict, "No gate has looked at the evidence.")
    if falls_back:
        return f"{sentence} Train on the pool as it is."
    if verdict == "abstain":
        return f"{sentence} The study switched the gate off, so the mixture chooses nevertheless."
    if verdict == "weak":
        return f"{sentence} Test the mixture below in a pilot before you train on it."
    return f"{sentence} Train on the mixture below."


def _group_rows(frame: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """Mixture and pool per group, the largest first; at most 12, the rest together."""
    name = pl.col(column).fill_null("not stated").alias("group")
    pool = pl.col("pool").sum() if frame["pool"].count() else pl.lit(None, pl.Float64).first().alias("pool")
    sums = frame.group_by(name).agg(pl.col("weight").sum(), pool, domains=pl.len())
    ordered = sums.sort(["weight", "pool", "group"], descending=[True, True, False], nulls_last=True)
    top, rest = ordered[:12], ordered[12:]
    if rest.height:
        sum_of_rest = rest.select(pl.lit(f"{rest.height} others").alias("group"), pl.exclude("group").sum())
        top = pl.concat([top, sum_of_rest.cast(top.schema)])
    return top.to_dicts()


def _mean_estimate(frame: pl.DataFrame, column: str) -> float | None:
    """Mean of the estimates weighted by a share, over the domains that have both; None where nothing has."""
    known = frame.filter(pl.col("estimate").is_not_null() & (pl.col(column) > 0))
    if known.is_empty():
        return None
    return float(np.average(known["estimate"].to_numpy(), weights=known[column].to_numpy()))


def _number(value: Any, form: str, table: str, column: str, *key: str) -> Markup:
    """A number of a table as text, with its exact value and its place next to it."""
    return Markup('<data value="{}" data-form="{}" data-from="{}">{}</data>').format(
        "" if value is None else repr(value), form, json.dumps([table, column, *key]), FORMATS[form](value)
    )


def _derived(value: Any, form: str) -> Markup:
    """A number that the page counted or summed, with its exact value next to it."""
    return Markup('<data value="{}" data-form="{}">{}</data>').format(
        "" if value is None else repr(value), form, FORMATS[form](value)
    )


def _study_name(provenance: Mapping[str, Any]) -> str | None:
    """The study's name, given as a text or as the `name` of a mapping."""
    study = provenance.get("study")
    return study.get("name") if isinstance(study, Mapping) else study


def _provenance(values: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """One table per nested mapping, and one called `report` for what is not nested."""
    tables = [(name, _flat(value)) for name, value in values.items() if isinstance(value, Mapping)]
    single = [(name, str(value)) for name, value in values.items() if not isinstance(value, Mapping)]
    return [(name, pairs) for name, pairs in [("report", single), *tables] if pairs]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as pairs of a joined name and a text."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name} / ")
        else:
            pairs.append((f"{prefix}{name}", str(value)))
    return pairs


@cache
def _libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # the two texts that a script element cannot hold
    assert "</script" not in script.lower(), "the Vega libraries would end the script element that holds them"
    assert "<!--" not in script, "the Vega libraries would open a comment in the script element that holds them"
    return script
