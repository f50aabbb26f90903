"""Pictures for metadata and the summary on a terminal."""

import io
import struct
from xml.etree import ElementTree

import polars as pl
import pytest
import vl_convert
from rich.console import Console

from ppl_assets.report import png_plots, summary_tables
from ppl_assets.report.pictures import shown_charts
from ppl_assets_tests.report.worlds import PUBLISHED, drawn_world, published_world


def printed(table, width=160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


def assert_small_png(picture: bytes) -> None:
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) < 100_000
    width, height = struct.unpack(">II", picture[16:24])
    assert width > 200
    assert height > 80


def test_every_target_gets_small_pictures():
    world = drawn_world(targets=("qa", "code"))
    pictures = png_plots(world)
    kinds = ("mixture", "estimates", "evidence on its heaviest domain", "rank prediction", "selection probability")
    assert set(pictures) == {"losses"} | {f"{kind}: {target}" for kind in kinds for target in ("qa", "code")}
    for picture in pictures.values():
        assert_small_png(picture)


def test_no_picture_writes_the_name_of_a_domain():
    world = drawn_world(targets=("qa", "code"))
    for name, chart in shown_charts(world).items():
        svg = ElementTree.fromstring(vl_convert.vegalite_to_svg(chart))
        written = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
        assert len(written) >= 5, name
        assert not [text for text in written for domain in world.domains["domain"] if domain in (text or "")], name


def test_the_evidence_is_drawn_with_every_model_that_has_it():
    world = drawn_world(targets=("qa",))
    points = shown_charts(world)["evidence on its heaviest domain: qa"]["data"]["values"]
    heaviest = world.domain_rows("qa")["domain"][0]
    losses = world.domain_logliks.filter(domain=heaviest)
    assert {row["slug"]: row["bpb"] for row in points} == dict(losses.select("slug", "bpb").iter_rows())


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published losses are not at hand")
def test_pictures_of_ninety_models_are_small_too():
    world = published_world()
    mixture = world.pretraining_mixture.filter(pl.col("target") == "arc_easy")
    for picture in png_plots(type(world)(**one_target(world, mixture))).values():
        assert_small_png(picture)


def one_target(world, mixture) -> dict:
    """The fields of a world with another mixture."""
    fields = {name: getattr(world, name) for name in type(world).__dataclass_fields__}
    return fields | {"pretraining_mixture": mixture}


def test_the_summary_shows_the_largest_weights_with_estimate_interval_and_verdict():
    world = drawn_world(targets=("qa",))
    (table,) = summary_tables(world)
    text = printed(table)
    rows = world.domain_rows("qa").head(10)
    lines = [line for line in text.splitlines() if ".org" in line]
    assert len(lines) == 10
    for line, row in zip(lines, rows.iter_rows(named=True), strict=True):
        for part in (row["domain"], f"{row['estimate']:+.2f}", f"{row['ci_low']:+.2f} to {row['ci_high']:+.2f}"):
            assert part in line
        assert row["decision"] in line
    assert "qa: select" in text
    assert "Made up for qa" in text
    assert "20 others" in text


def test_names_that_look_like_rich_markup_stay_text():
    world = drawn_world(domains=["[red]one[/red]", "[/]", "two.org"], targets=("[bold]qa",))
    text = printed(summary_tables(world)[0])
    assert "[red]one[/red]" in text
    assert "[/]" in text
    assert "[bold]qa: select" in text


def test_a_combined_mixture_that_is_to_be_used_is_summed_up_last():
    tables = summary_tables(drawn_world(targets=("qa", "code"), combine=("mean",)))
    assert [table.title for table in tables] == [
        "qa: select",
        "code: abstain",
        "mean: of all targets, the mixture to use",
    ]
