import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl_assets.corpus import catalog, collect
from ppl_assets.corpus.splits import SPLIT_PRIORITY, sampling_order
from ppl_assets.errors import InputError
from ppl_assets.schema import TABLES
from ppl_assets_tests.corpus.builders import THREE_SPLITS, any_study, page

MANY = {name: {**split, "pages_per_domain": 100} for name, split in THREE_SPLITS.items()}
WORDS = [f"word{number}" for number in range(60)]


def variant(topic, change):
    """Texts of one topic are near duplicates (they share 51 of 61 word 5-grams), of different topics not at all."""
    words = [f"{topic}{word}" for word in WORDS]
    return " ".join([*words[:55], f"{topic}change{change}", *words[56:]])


def sampled(pages, study):
    return collect(pages, catalog(pages, study), study)


def test_sampled_pages_carry_their_texts_and_are_as_declared():
    pages = [page(f"p{number}", f"text é {number}", f"{number % 3}.org") for number in range(60)]
    study = any_study(splits=THREE_SPLITS)
    listed = catalog(pages, study)
    found = collect(iter(pages), listed, study)
    texts = {one.page_id: one.text for one in pages}
    assert found.pages.schema == TABLES["pages"].polars_schema
    assert found.near_duplicates.schema == TABLES["near_duplicates"].polars_schema
    assert found.rejections.schema == TABLES["page_rejections"].polars_schema
    assert found.pages["text"].to_list() == [texts[page_id] for page_id in found.pages["page_id"]]
    assert sorted(found.pages["page_id"]) == sorted(listed.sample["page_id"])
    assert (found.pages["bytes"] == found.pages["text"].str.len_bytes()).all()
    assert found.near_duplicates.is_empty()
    assert found.rejections.is_empty()


def test_of_near_duplicates_the_one_to_score_stays_then_the_one_to_test_then_the_first_sampled():
    pages = [page(f"p{topic}-{copy}", variant(topic, copy)) for topic in range(12) for copy in range(6)]
    study = any_study(splits=MANY)
    splits = dict(catalog(pages, study).sample.select("page_id", "split").rows())
    found = sampled(pages, study)

    def priority(page_id):
        return SPLIT_PRIORITY.index(splits[page_id]), sampling_order(page_id, 0)

    best = {min((f"p{topic}-{copy}" for copy in range(6)), key=priority) for topic in range(12)}
    assert set(found.pages["page_id"]) == best
    assert len({splits[page_id] for page_id in best}) > 1
    assert found.rejections.drop("bytes").rows() == [("a.org", "near_duplicate", 60, min(set(splits) - best))]
    across = found.near_duplicates.filter(pl.col("split") != pl.col("kept_split"))
    assert 0 < across.height < 60
    assert dict(found.near_duplicates.select("page_id", "split").rows()) == {
        page_id: split for page_id, split in splits.items() if page_id not in best
    }
    assert (found.near_duplicates["similarity"] >= 0.8).all()


def test_near_duplicates_are_found_across_domains():
    pages = [page("a", variant(0, 1), "a.org"), page("b", variant(0, 2), "b.org")]
    assert sampled(pages, any_study()).pages.height == 1


def test_the_studys_similarity_decides():
    pages = [page("a", variant(0, 1)), page("b", variant(0, 2))]
    assert sampled(pages, any_study(near_duplicate_similarity=0.8)).pages.height == 1
    assert sampled(pages, any_study(near_duplicate_similarity=0.9)).pages.height == 2


@settings(max_examples=30)
@given(data=st.data(), members=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2))
def test_the_order_of_the_source_changes_nothing(data, members):
    pages = [page(f"p{topic}-{copy}", variant(topic, copy), f"{copy % 2}.org") for topic, copy in sorted(members)]
    study = any_study(splits=MANY, min_pages=1)
    try:
        one = sampled(pages, study)
    except InputError:  # no scoring page among so few
        return
    other = sampled(data.draw(st.permutations(pages)), study)
    assert one.pages.equals(other.pages)
    assert one.rejections.equals(other.rejections)
    assert one.near_duplicates.equals(other.near_duplicates)


def test_of_two_pages_with_one_id_the_sampled_one_gives_its_text():
    pages = [page("x", "text one"), page("x", "text two"), page("x", "text one", "b.org")]
    texts = {sampled(order, any_study()).pages.row(0) for order in (pages, pages[::-1])}
    assert len(texts) == 1


@pytest.mark.parametrize("change", ["gone", "edited"])
def test_a_source_that_changed_between_the_passes_is_an_error(change):
    pages = [page("x", "text one"), page("y", "text two")]
    study = any_study()
    listed = catalog(pages, study)
    later = pages[:1] if change == "gone" else [pages[0], page("y", "text 2")]
    with pytest.raises(InputError, match=r"page 'y' of domain 'a\.org' is gone or has another text"):
        collect(later, listed, study)


def test_reading_ends_with_the_last_sampled_page():
    pages = [page("x", "text one"), page("y", "text two")]
    study = any_study()
    listed = catalog(pages, study)

    def stream():
        yield from pages
        raise AssertionError("read on")

    reports = []
    assert collect(stream(), listed, study, progress=reports.append).pages.height == 2
    assert [(report.done, report.total) for report in reports] == [(1, 2), (2, 2)]
