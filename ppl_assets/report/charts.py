"""Charts as Vega-Lite specifications: plain dictionaries, the same ones for the page and for the pictures.

The text of axes and grids has no colour here: the page's style sheet colours it for light and dark. Values come from
the tables unchanged, so that a tooltip shows what the table holds.
"""

from typing import Any

import polars as pl

from ppl_assets.report.data import ReportData

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

# Colours that keep apart on white and on black and for readers with red-green blindness (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, GREY = "#3b82c4", "#d9822b", "#2a9d75", "#8a8f98"
FAMILY_COLOURS = [BLUE, ORANGE, GREEN, "#b565a7", "#c8a415", "#5fb4e0", "#c4513b", "#6b6ecf", GREY]
DECISION_COLOURS = {
    "selected": BLUE,
    "partial": "#7fb0dc",
    "not selected": GREY,
    "excluded": "#c4513b",
    "fallback": ORANGE,
}

DOMAINS_SHOWN = 20
EVIDENCE_DOMAINS = 1000  # their losses for a hundred models take 2 MB of the page
HEAT_DOMAINS = 40
OTHER = "other families"


def target_charts(data: ReportData, target: str) -> dict[str, Spec]:
    """The charts of a target's domains and models that its tables have numbers for, in the order of the page."""
    rows = data.domain_rows(target)
    drawn = {"mixture": mixture_chart(rows), "estimates": estimate_chart(rows)}
    if domains := evidence_domains(rows):
        drawn["evidence"] = evidence_chart(data, target, domains)
    if data.has_predicted_ranks(target):
        drawn["ranks"] = rank_chart(data, target)
    if "given_size" in rows.columns and rows["given_size"].count():
        drawn["adjusted"] = adjusted_chart(rows)
    if rows["selection_probability"].count():
        drawn["stability"] = stability_chart(rows)
    return drawn


def mixture_chart(rows: pl.DataFrame) -> Spec:
    """Bars of the weights, a hollow point for the share of the pool, a tick for the cap."""
    shown = rows.head(DOMAINS_SHOWN).select("domain", "weight", "cap", "pool", "tokens", "decision", "reason")
    scale = {"domain": [0, 1.08 * (_largest(shown, "weight", "pool") or 1.0)]}
    x = {"type": "quantitative", "scale": scale, "axis": {"format": ".1~%", "tickCount": 5, "title": "share"}}
    tooltip = [_tip("domain", "nominal"), *[_tip(name, "quantitative") for name in ("weight", "pool", "cap", "tokens")]]
    tooltip += [_tip("decision", "nominal"), _tip("reason", "nominal")]
    return _chart(
        "Share of the mixture per domain, next to its share of the pool and its cap",
        shown,
        height=_height(shown.height, 18),
        layer=_with_values(
            shown,
            [
                {
                    "mark": {"type": "bar", "height": {"band": 0.7}},
                    "encoding": {"x": {"field": "weight", **x}, "color": _decisions(shown), "tooltip": tooltip},
                },
                {
                    "mark": {"type": "tick", "clip": True, "thickness": 2, "size": 14, "color": "#c4513b"},
                    "encoding": {"x": {"field": "cap", **x}, "tooltip": tooltip},
                },
                {
                    "mark": {
                        "type": "point",
                        "shape": "diamond",
                        "size": 60,
                        "color": ORANGE,
                        "strokeWidth": 2.5,
                        "filled": False,
                    },
                    "encoding": {"x": {"field": "pool", **x}, "tooltip": tooltip},
                },
            ],
        ),
        encoding={"y": _domains()},
    )


def estimate_chart(rows: pl.DataFrame) -> Spec:
    """Estimates with intervals, in the order of `mixture_chart`."""
    columns = ["domain", "estimate", "ci_low", "ci_high", "q_value", "selection_probability", "decision"]
    shown = rows.head(DOMAINS_SHOWN).select(columns)
    tooltip = [_tip("domain", "nominal"), *[_tip(name, "quantitative") for name in columns[1:-1]]]
    x = {"type": "quantitative", "scale": {"zero": False}, "axis": {"tickCount": 6}, "title": "estimate"}
    return _chart(
        "Estimate of each domain with its interval",
        shown,
        height=_height(shown.height, 18),
        layer=_with_values(
            shown,
            [
                {
                    "mark": {"type": "rule", "strokeWidth": 2, "color": GREY},
                    "encoding": {"x": {"field": "ci_low", **x}, "x2": {"field": "ci_high"}, "tooltip": tooltip},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                    "encoding": {"x": {"field": "estimate", **x}, "color": _decisions(shown), "tooltip": tooltip},
                },
            ],
        ),
        encoding={"y": _domains()},
    )


def group_chart(groups: pl.DataFrame, word: str) -> Spec:
    """Mixture against pool per group; `groups` has columns group, weight, pool."""
    long = groups.unpivot(["weight", "pool"], index="group", variable_name="of", value_name="share").with_columns(
        pl.col("of").replace({"weight": "mixture"})
    )
    return _chart(
        f"Share of the mixture and of the pool per {word}",
        long,
        height=_height(groups.height, 28),
        mark={"type": "bar"},
        encoding={
            "y": {"field": "group", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 130}},
            "yOffset": {"field": "of", "sort": ["mixture", "pool"]},
            "x": {
                "field": "share",
                "type": "quantitative",
                "axis": {"format": ".1~%", "tickCount": 5},
                "title": "share",
            },
            "color": {
                "field": "of",
                "type": "nominal",
                "scale": {"domain": ["mixture", "pool"], "range": [BLUE, ORANGE]},
                "legend": _LEGEND | {"title": None},
            },
            "tooltip": [_tip("group", "nominal"), _tip("of", "nominal"), _tip("share", "quantitative")],
        },
    )


def evidence_domains(rows: pl.DataFrame) -> list[str]:
    """Domains whose models are shown one by one: those with the largest weights and, last, the three lowest estimates;
    all where they are few."""
    known = rows.filter(pl.col("estimate").is_not_null())
    if known.height < EVIDENCE_DOMAINS:
        return known["domain"].to_list()
    top = known.head(EVIDENCE_DOMAINS - 3)["domain"].to_list()
    low = known.filter(~pl.col("domain").is_in(top)).sort("estimate", "domain")["domain"].to_list()[:3]
    return top + low


def evidence_chart(data: ReportData, target: str, domains: list[str]) -> Spec:
    """Error against bits per byte over models, for the domain chosen in a list.

    The losses are not part of the specification: the page holds them once, as the data set `losses`.
    """
    models = _family_column(data, data.models_of(target)).select("slug", "family", "shown_family", "params", "error")
    tooltip = [_tip("slug", "nominal"), _tip("family", "nominal"), _tip("domain", "nominal")]
    tooltip += [_tip("bpb", "quantitative"), _tip("error", "quantitative"), _tip("params", "quantitative")]
    return _chart(
        f"Error on {target} against bits per byte on the chosen domain, one point per model",
        models,
        height=320,
        data={"name": "losses"},
        datasets={"models": _rows(models)},
        params=[
            {
                "name": "domain",
                "value": domains[0],
                "bind": {"input": "select", "options": domains, "name": "Domain"},
            }
        ],
        transform=[
            {"filter": "datum.domain === domain"},
            {
                "lookup": "slug",
                "from": {
                    "data": {"name": "models"},
                    "key": "slug",
                    "fields": ["family", "shown_family", "params", "error"],
                },
            },
            {"filter": "isValid(datum.error) && isValid(datum.bpb)"},
        ],
        mark={"type": "point", "filled": True, "size": 60, "opacity": 0.85},
        encoding={
            "x": {
                "field": "bpb",
                "type": "quantitative",
                "scale": {"zero": False},
                "axis": {"tickCount": 6},
                "title": "bits per byte",
            },
            "y": {
                "field": "error",
                "type": "quantitative",
                "scale": _error_scale(models),
                "title": f"error on {target}",
            },
            "color": _families(models),
            "tooltip": tooltip,
        },
    )


def rank_chart(data: ReportData, target: str) -> Spec:
    """Predicted against actual rank of every model, predicted without its family; the line is a perfect prediction."""
    ranks = data.rank_prediction.filter((pl.col("target") == target) & pl.col("predicted_rank").is_not_null())
    ranks = ranks.select("slug", "held_out_family", "predicted_rank", "actual_rank", "error")
    last = _largest(ranks, "actual_rank", "predicted_rank")
    axis = {"type": "quantitative", "scale": {"domain": [0, last + 1], "nice": False}}
    named = _family_column(data, ranks.rename({"held_out_family": "family"}))
    return _chart(
        f"Predicted against actual rank of models on {target}",
        named,
        height=320,
        layer=[
            {
                "data": {"values": [{"at": 0}, {"at": last + 1}]},
                "mark": {"type": "line", "color": GREY, "strokeDash": [4, 4]},
                "encoding": {"x": {"field": "at", **axis}, "y": {"field": "at", **axis}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.85},
                "encoding": {
                    "x": {"field": "predicted_rank", **axis, "title": "predicted rank (1 is best)"},
                    "y": {"field": "actual_rank", **axis, "title": "actual rank"},
                    "color": _families(named),
                    "tooltip": [
                        _tip("slug", "nominal"),
                        _tip("family", "nominal"),
                        _tip("predicted_rank", "quantitative"),
                        _tip("actual_rank", "quantitative"),
                        _tip("error", "quantitative"),
                    ],
                },
            },
        ],
    )


def heat_map(data: ReportData, *, domains_shown: int = HEAT_DOMAINS) -> Spec:
    """Bits per byte of models on domains, each domain against its median model; best models first.

    Shown are the domains with the largest weights over targets.
    """
    weights = data.pretraining_mixture.group_by("domain").agg(pl.col("weight").max(), pl.col("estimate").max())
    domains = weights.sort(["weight", "estimate", "domain"], descending=[True, True, False], nulls_last=True)
    shown = domains.head(domains_shown)["domain"].to_list()
    cells = (
        data.domain_logliks.filter(pl.col("domain").is_in(shown) & pl.col("bpb").is_not_null())
        .select("slug", "domain", "bpb")
        .with_columns(against_median=pl.col("bpb") - pl.col("bpb").median().over("domain"))
    )
    models = (
        cells.group_by("slug").agg(pl.col("against_median").mean()).sort("against_median", "slug")["slug"].to_list()
    )
    reach = float(cells["against_median"].abs().quantile(0.95) or 0.0) or 1.0
    return _chart(
        "Bits per byte of every model on the domains with the largest weights, against the domain's median model",
        cells,
        height=_height(len(shown), 13),
        mark={"type": "rect"},
        encoding={
            "y": {"field": "domain", "type": "nominal", "sort": shown, "title": None, "axis": {"labelLimit": 130}},
            "x": {
                "field": "slug",
                "type": "nominal",
                "sort": models,
                "title": "models, the lowest losses first",
                "axis": {"labels": False, "ticks": False},
            },
            "color": {
                "field": "against_median",
                "type": "quantitative",
                "scale": {"domain": [-reach, 0, reach], "range": ["#2166ac", "#f2f2f2", "#b2552b"], "clamp": True},
                "legend": _LEGEND | {"title": "bits per byte against the median model", "gradientLength": 160},
            },
            "tooltip": [_tip("slug", "nominal"), _tip("domain", "nominal"), _tip("bpb", "quantitative")],
        },
    )


def losses(data: ReportData, domains: list[str]) -> dict[str, Any]:
    """The data set `losses` as the page holds it: slugs, and of each domain its bits per byte in their order.

    The page's script makes rows (slug, domain, bpb) of it; as rows it would be four times as long.
    """
    shown = data.domain_logliks.filter(pl.col("domain").is_in(domains)).select("slug", "domain", "bpb")
    slugs = shown["slug"].unique().sort().to_list()
    places = pl.DataFrame({"slug": slugs})
    by_domain = {
        str(name): places.join(rows, on="slug", how="left", maintain_order="left")["bpb"].to_list()
        for (name,), rows in shown.group_by("domain")
    }
    return {"slugs": slugs, "domains": dict(sorted(by_domain.items()))}


def adjusted_chart(rows: pl.DataFrame) -> Spec:
    """Each domain's estimate against its estimate among models of equal size; on the line, size explains nothing."""
    known = rows.filter(pl.col("estimate").is_not_null() & pl.col("given_size").is_not_null())
    shown = known.select("domain", "estimate", "given_size", "weight", "decision")
    ends = [value for column in ("estimate", "given_size") for value in shown[column]]
    scale = {"scale": {"zero": False, "nice": True}, "type": "quantitative", "axis": {"tickCount": 6}}
    line = {"values": [{"at": min(ends)}, {"at": max(ends)}]}
    tooltip = [
        _tip("domain", "nominal"),
        *[_tip(name, "quantitative") for name in ("estimate", "given_size", "weight")],
    ]
    return _chart(
        "Estimate of each domain against its estimate given model size",
        shown,
        height=300,
        layer=[
            {
                "data": line,
                "mark": {"type": "line", "color": GREY, "strokeDash": [4, 4]},
                "encoding": {"x": {"field": "at", **scale}, "y": {"field": "at", **scale}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 0.8},
                "encoding": {
                    "x": {"field": "estimate", **scale, "title": "estimate"},
                    "y": {"field": "given_size", **scale, "title": "estimate given size"},
                    "color": _decisions(shown),
                    "tooltip": tooltip,
                },
            },
        ],
    )


def stability_chart(rows: pl.DataFrame) -> Spec:
    """In how many half-samples of families each domain is selected, against its estimate."""
    known = rows.filter(pl.col("estimate").is_not_null() & pl.col("selection_probability").is_not_null())
    shown = known.select("domain", "estimate", "selection_probability", "weight", "decision")
    names = ("estimate", "selection_probability", "weight")
    return _chart(
        "Selection probability of each domain against its estimate",
        shown,
        height=300,
        mark={"type": "point", "filled": True, "size": 45, "opacity": 0.8},
        encoding={
            "x": {
                "field": "estimate",
                "type": "quantitative",
                "scale": {"zero": False},
                "axis": {"tickCount": 6},
                "title": "estimate",
            },
            "y": {
                "field": "selection_probability",
                "type": "quantitative",
                "scale": {"domain": [0, 1]},
                "axis": {"format": ".0%", "tickCount": 5},
                "title": "selected in half-samples",
            },
            "color": _decisions(shown),
            "tooltip": [_tip("domain", "nominal"), *[_tip(name, "quantitative") for name in names]],
        },
    )


def pilot_chart(arms: list[dict[str, Any]], measure: str) -> Spec:
    """Each arm's gain over uniform with its interval; left of the line at zero the arm is worse.

    Args:
        arms: rows of `pilot_comparison` that have a gain, in the order of the chart.
    """
    columns = ["arm", "gain", "ci_low", "ci_high", "verdict"]
    shown = pl.DataFrame([{name: row[name] for name in columns} for row in arms])
    # Not of the whole chart: the line at zero would then have a row of its own.
    y = {"field": "arm", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 130}}
    x = {"type": "quantitative", "axis": {"tickCount": 6}, "title": "gain over uniform, per cent"}
    tooltip = [_tip(name, "nominal") for name in ("arm", "verdict")]
    tooltip += [_tip(name, "quantitative") for name in ("gain", "ci_low", "ci_high")]
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "color": GREY},
            "encoding": {"y": y, "x": {"field": "ci_low", **x}, "x2": {"field": "ci_high"}, "tooltip": tooltip},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1, "color": BLUE},
            "encoding": {"y": y, "x": {"field": "gain", **x}, "tooltip": tooltip},
        },
    ]
    zero: Spec = {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "color": ORANGE, "strokeDash": [4, 4]},
        "encoding": {"x": {"field": "zero", **x}},
    }
    return _chart(
        f"Gain of each way to choose over uniform in {measure}, with its interval",
        shown,
        height=_height(shown.height, 28),
        layer=[*_with_values(shown, layers), zero],
    )


_LEGEND: Spec = {
    "orient": "bottom",
    "columns": {"expr": "width < 340 ? 2 : 3"},
    "symbolLimit": 9,
    "labelLimit": 110,
    "titleLimit": 300,
}


def _chart(description: str, frame: pl.DataFrame, **parts: Any) -> Spec:
    """A specification that fills its place; `data` is the frame unless given."""
    spec: Spec = {"$schema": SCHEMA, "description": description, "width": "container", "background": None}
    spec |= {"autosize": {"type": "fit-x", "contains": "padding"}, "data": {"values": _rows(frame)}}
    spec["config"] = {
        "view": {"stroke": None},
        "font": "system-ui, sans-serif",
        "axis": {"labelFontSize": 11},
        "axisX": {"labelOverlap": "greedy", "labelSeparation": 4},  # narrow screens
    }
    return spec | parts


def _with_values(frame: pl.DataFrame, layers: list[Spec]) -> list[Spec]:
    """The layers that have something to draw, or the last one: an empty one is a picture without a name to a reader."""
    return [layer for layer in layers if frame[layer["encoding"]["x"]["field"]].count()] or layers[-1:]


def _error_scale(models: pl.DataFrame) -> Spec:
    """Logarithmic where errors span two decades, as perplexities do."""
    errors = models["error"].drop_nulls().to_list()
    wide = bool(errors) and min(errors) > 0 and max(errors) > 100 * min(errors)
    return {"type": "log"} if wide else {"zero": False}


def _height(rows: int, step: int) -> int:
    """Pixels for as many rows; Vega-Lite cannot fit a width to its place and derive a height from steps at once."""
    return max(rows, 1) * step


def _largest(frame: pl.DataFrame, *columns: str) -> float:
    """The largest number in some columns; 0 where they are empty."""
    return max((value for column in columns for value in frame[column].drop_nulls()), default=0.0)


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dicts()


def _tip(name: str, kind: str) -> Spec:
    """A tooltip line; numbers with six significant digits."""
    return {"field": name, "type": kind, "title": name.replace("_", " ")} | (
        {"format": ".6~g"} if kind == "quantitative" else {}
    )


def _domains() -> Spec:
    return {"field": "domain", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 130}}


def _decisions(shown: pl.DataFrame) -> Spec:
    """Colour by decision, only those that occur."""
    present = [name for name in DECISION_COLOURS if name in set(shown["decision"])]
    scale = {"domain": present, "range": [DECISION_COLOURS[name] for name in present]}
    return {"field": "decision", "type": "nominal", "scale": scale, "legend": _LEGEND | {"title": None}}


def _family_column(data: ReportData, frame: pl.DataFrame) -> pl.DataFrame:
    """Adds `shown_family`: the families with the most models keep their name, the others are put together."""
    sizes = data.models["family"].value_counts().sort(["count", "family"], descending=[True, False])["family"].to_list()
    room = len(FAMILY_COLOURS)
    kept = sizes if len(sizes) <= room else sizes[: room - 1]
    named = pl.when(pl.col("family").is_in(kept)).then(pl.col("family")).otherwise(pl.lit(OTHER))
    return frame.with_columns(shown_family=named)


def _families(frame: pl.DataFrame) -> Spec:
    """Colour by family, the collected rest in grey."""
    names = sorted(set(frame["shown_family"]) - {OTHER}) + [OTHER] * (OTHER in set(frame["shown_family"]))
    colours = FAMILY_COLOURS[: len(names)]
    if OTHER in names:
        colours[-1] = GREY
    scale = {"domain": names, "range": colours}
    return {"field": "shown_family", "type": "nominal", "scale": scale, "legend": _LEGEND | {"title": "family"}}
