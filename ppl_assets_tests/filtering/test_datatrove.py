"""A datatrove pipeline decides as the local path does, page by page, from the filter's folder alone."""

import json

import polars as pl
import pytest

from ppl_assets.errors import InputError
from ppl_assets.filtering import load
from ppl_assets.filtering.artifact import read_card, write_card
from ppl_assets_tests.filtering.selections import make_world, write_source, write_study

STRANGE = [
    "",
    "\0\0 NUL \0 theorem",
    "integral\ntheorem\r\nsecond line\x85third\u2028fourth",
    "__label__include __label__exclude </s> gossip",
    "🦕 emoji 👩‍👩‍👧 celebrity",
    "naïve cafe\u0301 ﬁnance",
    "integral " * 20_000,
]

# datatrove's own temporary file handles and its logging.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datatrove")
    write_source(folder)
    strange = [
        {"id": f"strange-{number}", "site": f"site{number}.org", "language": "en", "license": "open", "text": text}
        for number, text in enumerate(STRANGE)
    ]
    (folder / "part-9.jsonl").write_text("".join(json.dumps(row) + "\n" for row in strange))
    return make_world(folder, write_study(folder, arms=("ours",)))


def kept_by_datatrove(world, folder, **options) -> dict[str, float]:
    """Ids and scores of the pages that a pipeline of two tasks keeps."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter

    from ppl_assets.filtering.datatrove_filter import PageFilter, executor

    pipeline = [
        JsonlReader(str(world.folder), glob_pattern="part-*.jsonl"),
        PageFilter(world.folder / "filters" / "good", batch_size=7, **options),
        ParquetWriter(str(folder / "kept"), expand_metadata=True),
    ]
    executor("local", pipeline, tasks=2, workers=1, logging_dir=str(folder / "logs")).run()
    rows = pl.concat([pl.read_parquet(path).select("id", "score") for path in (folder / "kept").glob("*.parquet")])
    assert rows["id"].n_unique() == rows.height
    return dict(rows.iter_rows())


def test_both_paths_keep_the_same_pages_with_the_same_scores(world, tmp_path):
    pages = [
        json.loads(line) for path in sorted(world.folder.glob("part-*.jsonl")) for line in path.read_text().splitlines()
    ]
    page_filter = load(world.folder / "filters" / "good")
    texts = [page["text"] for page in pages]
    # Readers of datatrove pass over empty texts.
    keep = {
        page["id"]: score
        for page, score, kept in zip(pages, page_filter.score(texts), page_filter.keep(texts), strict=True)
        if kept and page["text"]
    }
    assert 0 < len(keep) < len(pages)
    assert kept_by_datatrove(world, tmp_path) == keep


def test_with_the_threshold_of_a_selection_it_keeps_what_is_selected(world, tmp_path):
    how = world.scoring()
    row = world.select(world.score(how), how)["selections"].row(0, named=True)
    kept = kept_by_datatrove(world, tmp_path, threshold=row["threshold"])
    selected = dict(world.selected().select("page_id", "score").iter_rows())
    # What the pipeline keeps besides is set aside, denied, a repetition or too short: for the study to say.
    scores = world.lake.read_partitions("page_scores", world.lake.partitions("page_scores"))
    pool = set(scores.filter(pl.col("split") == "training")["page_id"])
    assert {name: score for name, score in kept.items() if name in selected} == selected
    assert len(selected) == row["pages"]
    assert len(pool & set(kept)) < len(selected) * 1.5


def test_a_filter_without_threshold_and_an_unknown_executor_are_refused(world, tmp_path):
    from ppl_assets.filtering.datatrove_filter import PageFilter, executor

    card = read_card(world.folder / "filters" / "good")
    write_card(tmp_path, type(card)(**{name: getattr(card, name) for name in card.__slots__} | {"threshold": None}))
    with pytest.raises(InputError, match="its card has no threshold"):
        PageFilter(tmp_path)
    assert PageFilter(tmp_path, threshold=0.5).threshold == 0.5
    with pytest.raises(InputError, match="found 'spark', expected one of local, slurm, ray"):
        executor("spark", [])


def test_the_executors_for_clusters_take_the_same_pipeline(world, tmp_path):
    from ppl_assets.filtering.datatrove_filter import PageFilter, executor

    pipeline = [PageFilter(world.folder / "filters" / "good")]
    slurm = executor(
        "slurm", pipeline, tasks=3, time="1:00:00", partition="cpu", logging_dir=str(tmp_path / "slurm"), workers=2
    )
    assert (slurm.tasks, slurm.partition, slurm.pipeline) == (3, "cpu", pipeline)
    ray = executor("ray", pipeline, tasks=3, logging_dir=str(tmp_path / "ray"))
    assert (ray.tasks, ray.pipeline) == (3, pipeline)
