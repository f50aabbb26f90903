"""Small PNG pictures for the metadata of assets: the page's charts at a fixed size, made without a browser."""

import struct
import zlib
from collections.abc import Iterator

import vl_convert

from ppl_assets.report.charts import Spec, estimate_chart, heat_map, mixture_chart, rank_chart
from ppl_assets.report.data import ReportData

WIDTH, ROWS = 400, 15

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_plots(tables: ReportData) -> dict[str, bytes]:
    """PNG pictures by name, each below 100 kB: mixture, estimates and rank prediction of every target, and losses."""
    pictures: dict[str, bytes] = {}
    for target in tables.targets:
        rows = tables.domain_rows(target).head(ROWS)
        pictures[f"mixture: {target}"] = _png(mixture_chart(rows))
        pictures[f"estimates: {target}"] = _png(estimate_chart(rows))
    pictures["losses"] = _png(heat_map(tables, domains_shown=ROWS))
    return pictures | rank_plots(tables)


def rank_plots(tables: ReportData) -> dict[str, bytes]:
    """The pictures that name no domain: predicted against actual rank of models, for every target."""
    return {
        f"rank prediction: {target}": _png(rank_chart(tables, target))
        for target in tables.targets
        if tables.has_predicted_ranks(target)
    }


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
