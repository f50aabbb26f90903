"""The tokenizer that a pilot trains for all of its arms, on pages that are drawn for it alone.

Arms that choose at random take the pages of the pool in the order in which the corpus is sampled: what was sampled for
training is what `uniform` takes first. A tokenizer made of that would know the text of one arm best. Its pages are
therefore drawn in an order of their own, from all that any arm may select.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ppl_assets.corpus.sources import corpus_of
from ppl_assets.corpus.splits import seeded_hash
from ppl_assets.filtering.selection import Pool
from ppl_assets.pilot.arms import Source, listed_texts
from ppl_assets.pilot.packing import content_digest
from ppl_assets.study import Study
from ppl_assets.study.schema import Pilot
from ppl_assets.training.tokenizer import train_tokenizer
from ppl_assets.warehouse import replace_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PURPOSE = "pilot-tokenizer"


def trains_tokenizer(pilot: Pilot) -> bool:
    """Whether any of a pilot's models has a tokenizer that the pilot trains."""
    return pilot.tokenizer is None and any(size.start is None for size in pilot.sizes.values())


def trained_tokenizer(source: Source, pool: Pool, path: Path) -> "Tokenizer":
    """The tokenizer of a pilot; kept in `path`, and trained again where its pages or the vocabulary are others.

    Raises:
        InputError: a page is gone from the source or has another text.
    """
    from tokenizers import Tokenizer

    assert source.study.pilot is not None, "the study states no pilot"
    vocabulary, pages = source.study.pilot.vocabulary, drawn_pages(source.study, pool)
    identity = f"{content_digest(pages.select('page_id', 'digest').iter_rows())}-{vocabulary}"
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known.get("identity") != identity:
        texts = (text for _, text in listed_texts(source, pages))
        known = {"identity": identity, "tokenizer": train_tokenizer(texts, vocabulary).to_str()}
        replace_file(path, json.dumps(known))
    return Tokenizer.from_str(known["tokenizer"])


def drawn_pages(study: Study, pool: Pool) -> pl.DataFrame:
    """Page id, digest and shard of pages of the pool: of each domain as many as are sampled for training, at most."""
    limit = corpus_of(study).splits.training.pages_per_domain
    drawn = pl.DataFrame()
    for shard in pool.shards:
        pages = pool.pages(shard).select("page_id", "domain", "digest", shard=pl.lit(shard))
        places = [seeded_hash(page_id, study.seed, _PURPOSE) for page_id in pages["page_id"]]
        both = pl.concat([drawn, pages.with_columns(place=pl.Series(places, dtype=pl.Int64))], how="diagonal")
        drawn = both.sort("place", "page_id").group_by("domain", maintain_order=True).head(limit)
    return drawn.select("page_id", "digest", "shard")
