"""Small PNG pictures for the metadata of assets: the page's charts at a fixed size, made without a browser."""

import struct
import zlib
from collections.abc import Iterator

import polars as pl
import vl_convert

from ppl_assets.report.charts import Spec, evidence_chart, heat_map, target_charts
from ppl_assets.report.data import ReportData
from ppl_assets.report.pilot import pilot_view

WIDTH, HEAT_ROWS = 400, 15
# What a target's charts are called, in the metadata of an asset as on the page.
NAMES = {
    "mixture": "mixture",
    "estimates": "estimates",
    "evidence": "evidence on its heaviest domain",
    "ranks": "rank prediction",
    "adjusted": "estimates given model size",
    "stability": "selection probability",
}

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_plots(tables: ReportData) -> dict[str, bytes]:
    """PNG pictures by name, each below 100 kB: see `shown_charts`."""
    return {name: _png(chart) for name, chart in shown_charts(tables).items()}


def shown_charts(tables: ReportData) -> dict[str, Spec]:
    """What is drawn, by name: the page's charts of every target and pilot, and the losses.

    None shows the name of a domain: as pixels, no retirement of the domain would find it again.
    """
    specs: dict[str, Spec] = {}
    for target in tables.targets:
        drawn = target_charts(tables, target)
        if "evidence" in drawn:
            drawn["evidence"] = _evidence(tables, target, drawn["evidence"]["params"][0]["value"])
        specs |= {f"{NAMES[name]}: {target}": _unnamed(chart) for name, chart in drawn.items()}
    for part in (pilot_view(tables) or {"parts": []})["parts"]:
        if "chart" in part:
            specs[f"pilot: {part['target']}, size {part['size']}"] = part["chart"]
    return specs | {"losses": _unnamed(heat_map(tables, domains_shown=HEAT_ROWS))}


def _evidence(tables: ReportData, target: str, domain: str) -> Spec:
    """The chart of one domain, with the losses that the page holds once for all charts."""
    losses = tables.domain_logliks.filter(pl.col("domain") == domain).select("slug", "domain", "bpb")
    return evidence_chart(tables, target, [domain]) | {"data": {"values": losses.to_dicts()}}


def _unnamed(chart: Spec) -> Spec:
    """The chart without names of domains on its axis, where it has such an axis."""
    rows = chart.get("encoding", {}).get("y", {})
    if rows.get("field") != "domain":
        return chart
    axis = {"title": "domains, the largest weights first", "labels": False, "ticks": False}
    return chart | {"encoding": chart["encoding"] | {"y": rows | {"axis": axis}}}


def _png(chart: Spec) -> bytes:
    """The chart on white."""
    return _compressed(vl_convert.vegalite_to_png(chart | {"width": WIDTH, "background": "white"}, scale=1))


def _compressed(png: bytes) -> bytes:
    """The same pixels with their data compressed again: vl-convert favours speed, at up to 7 times the size.

    A PNG file is a signature and chunks of length, name, data and checksum (ISO/IEC 15948).
    """
    chunks = list(_chunks(png))
    pixels = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
    kept = [(name, data) for name, data in chunks if name not in (b"IDAT", b"IEND")]
    parts = [*kept, (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and data of every chunk."""
    at = len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12
