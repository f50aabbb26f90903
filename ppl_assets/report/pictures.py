"""Small PNG pictures for the metadata of assets: the page's charts at a fixed size, made without a browser."""

from typing import Any

import vl_convert

from ppl_assets.report.charts import (
    Spec,
    estimate_chart,
    heat_map,
    mixture_chart,
    rank_chart,
)
from ppl_assets.report.data import ReportData

WIDTH, ROWS = 400, 15


def png_plots(tables: ReportData) -> dict[str, bytes]:
    """PNG pictures by name, each below 100 kB: mixture, estimates and rank prediction of every target, and losses."""
    pictures: dict[str, bytes] = {}
    for target in tables.targets:
        rows = tables.domain_rows(target).head(ROWS)
        pictures[f"mixture: {target}"] = _png(mixture_chart(rows))
        pictures[f"estimates: {target}"] = _png(estimate_chart(rows))
        pictures[f"rank prediction: {target}"] = _png(rank_chart(tables, target))
    pictures["losses"] = _png(heat_map(tables, domains_shown=ROWS))
    return pictures


def _png(chart: Spec) -> bytes:
    """The chart on white."""
    fixed: dict[str, Any] = chart | {"width": WIDTH, "background": "white"}
    return vl_convert.vegalite_to_png(fixed, scale=1)
