"""Which pages a control trains on, and what names them: an edited text is another set of pages."""

from pathlib import Path

import pytest

from ppl_assets.corpus import text_digest
from ppl_assets.pilot.arms import Source, control_pages, drawn_pool
from ppl_assets.pilot.runs import ArmPages
from ppl_assets.retired import Retired
from ppl_assets_tests.filtering.selections import World, edit_pages, make_world, write_source, write_study

PILOT = "pilot: {controls: [positive, negative], seeds: [0], sizes: {tiny: {}}}\n"


@pytest.fixture
def world(tmp_path) -> World:
    return piloted_world(tmp_path)


def piloted_world(folder: Path) -> World:
    """The world of a study with an arm, two controls and a pilot."""
    write_source(folder)
    return make_world(folder, write_study(folder, arms=("uniform",), **{"policy:\n": PILOT + "policy:\n"}))


def source_of(world: World) -> Source:
    """Where a pilot of the world reads from, after the source is scored as it is now."""
    world.score(world.scoring(fingerprint=source_state(world.folder)))
    return Source(study=world.study, lake=world.lake, digests=world.folder / "digests", retired=Retired())


def pages_of(world: World, control: str) -> ArmPages:
    """What a control trains on."""
    source = source_of(world)
    with drawn_pool(source, world.tables, world.folder / "pilot") as (pool, budget):
        (found,) = control_pages(source, control, pool, budget=budget, tables=world.tables)
    return found


def source_state(folder: Path) -> str:
    """A fingerprint of the source, so that what was edited is scored again."""
    return text_digest("".join(path.read_text() for path in sorted(folder.glob("part-*.jsonl")))).hex()


def test_an_edited_text_of_the_same_length_is_another_set_of_pages(world):
    before = pages_of(world, "negative")
    texts = dict(before.texts())
    edit_pages(world.folder, {min(texts)})
    after = pages_of(world, "negative")
    assert dict(after.texts()) == texts | {min(texts): texts[min(texts)][::-1]}
    assert after.digest != before.digest


def test_the_positive_control_is_made_of_the_texts_that_the_study_names(world):
    found = pages_of(world, "positive")
    liked = world.folder / "liked.jsonl"
    assert len(dict(found.texts())) == len(liked.read_text().splitlines())
    liked.write_text("".join(liked.read_text().splitlines(keepends=True)[1:]))
    assert pages_of(world, "positive").digest != found.digest
