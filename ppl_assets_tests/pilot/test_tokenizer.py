"""The pilot's tokenizer is made of pages that are drawn for it alone, once for all arms."""

import polars as pl
import pytest

from ppl_assets.pilot.arms import drawn_pool
from ppl_assets.pilot.tokenizer import drawn_pages, trained_tokenizer, trains_tokenizer
from ppl_assets_tests.filtering.selections import World, edit_pages
from ppl_assets_tests.pilot.studies import study
from ppl_assets_tests.pilot.test_arms import piloted_world, source_of


@pytest.fixture
def world(tmp_path) -> World:
    return piloted_world(tmp_path)


def tokenizer_of(world: World) -> str:
    """The tokenizer of the world's pilot, in full."""
    source = source_of(world)
    with drawn_pool(source, world.tables, world.folder / "pilot") as (pool, _):
        return trained_tokenizer(source, pool, world.folder / "pilot" / "tokenizer.json").to_str()


def test_an_arm_at_random_has_no_more_of_the_tokenizers_pages_than_the_pool_has(world):
    """Of `uniform`, some 60 pages, all were among those that the corpus samples first."""
    source = source_of(world)
    how = world.scoring(fingerprint="for the selection")
    world.select(world.score(how), how)
    with drawn_pool(source, world.tables, world.folder / "pilot") as (pool, _):
        drawn = drawn_pages(world.study, pool)
        pages = pl.concat(pool.pages(shard) for shard in pool.shards)
    own = world.selected().filter(arm="uniform")["page_id"]
    shares = [names.is_in(drawn["page_id"].implode()).mean() for names in (own, pages["page_id"])]
    assert shares[0] == pytest.approx(shares[1], abs=0.15)
    sampled = world.lake.read("pages", "training")["page_id"]
    assert own.is_in(sampled.implode()).mean() > shares[0] + 0.2, "what the arm would have had of the corpus's sample"


def test_every_domain_gives_as_many_pages_as_are_sampled_for_training_or_all_that_it_has(world):
    source = source_of(world)
    with drawn_pool(source, world.tables, world.folder / "pilot") as (pool, _):
        drawn = drawn_pages(world.study, pool)
        pages = pl.concat(pool.pages(shard) for shard in pool.shards)
    domains = dict(pages.group_by("domain").len().iter_rows())
    taken = drawn.join(pages, on="page_id").group_by("domain").len()
    assert dict(taken.iter_rows()) == {domain: min(12, count) for domain, count in domains.items()}


def test_it_is_trained_once_and_again_when_a_page_of_it_is_edited(world, monkeypatch):
    first = tokenizer_of(world)
    with monkeypatch.context() as patch:
        patch.setattr("ppl_assets.pilot.tokenizer.train_tokenizer", lambda *_: pytest.fail("trained again"))
        assert tokenizer_of(world) == first
    edit_pages(world.folder, {f"site5-{number}" for number in range(40)})
    assert tokenizer_of(world) != first


@pytest.mark.parametrize(
    ("pilot", "trains"),
    [
        ("sizes: {tiny: {}}", True),
        ("sizes: {tiny: {}}, tokenizer: model", False),
        ("sizes: {tiny: {start: model}}", False),
        ("sizes: {tiny: {start: model}, other: {}}", True),
    ],
)
def test_it_is_trained_where_no_model_gives_one(pilot, trains):
    stated = study(f"pilot: {{{pilot}}}\n").pilot
    assert stated is not None
    assert trains_tokenizer(stated) is trains
