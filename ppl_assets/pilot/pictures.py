"""Loss and throughput over training as one small picture, for the metadata of an asset."""

import base64
from typing import Any

import polars as pl

_POINTS = 2000  # more than a picture of this width can show
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def curve_picture(curves: pl.DataFrame) -> str:
    """Rows of ``pilot_curves`` as Markdown with an embedded PNG: loss above, tokens per second below."""
    import vl_convert

    rows = curves.gather_every(max(1, curves.height // _POINTS))
    picture = vl_convert.vegalite_to_png(_chart(rows), scale=1)
    return f"![loss and throughput of each run](data:image/png;base64,{base64.b64encode(picture).decode()})"


def _chart(rows: pl.DataFrame) -> dict[str, Any]:
    run = pl.concat_str([pl.col(name).cast(pl.String) for name in ("target", "size", "seed")], separator=" ")
    values = rows.select("tokens", "loss", "tokens_per_second", run=run).to_dicts()
    return {
        "$schema": _SCHEMA,
        "background": "white",
        "data": {"values": values},
        "vconcat": [_panel("loss", "loss, nats per token"), _panel("tokens_per_second", "tokens per second")],
    }


def _panel(field: str, title: str) -> dict[str, Any]:
    return {
        "width": 400,
        "height": 140,
        "mark": {"type": "line", "strokeWidth": 1},
        "encoding": {
            "x": {"field": "tokens", "type": "quantitative", "title": "tokens"},
            "y": {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}},
            "color": {"field": "run", "type": "nominal"},
        },
    }
