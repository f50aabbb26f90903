"""The picture of a training, as Dagster shows it."""

import base64
import struct

import polars as pl

from ppl_assets.pilot.pictures import curve_picture
from ppl_assets.schema import TABLES


def test_curves_are_a_small_png_whatever_their_length_and_where_throughput_is_unknown():
    rows = [
        {"arm": "ours", "target": target, "size": "tiny", "seed": seed, "step": step, "tokens": 2048 * step}
        | {"loss": 6.0 / (1 + 0.01 * step), "tokens_per_second": None if step < 20 else 1e4}
        for target in ("code", "prose")
        for seed in range(3)
        for step in range(1000)
    ]
    text = curve_picture(pl.DataFrame(rows, schema=TABLES["pilot_curves"].polars_schema))
    picture = base64.b64decode(text.partition("base64,")[2].removesuffix(")"))
    assert struct.unpack(">II", picture[16:24])[0] > 400
    assert len(text) < 100_000
