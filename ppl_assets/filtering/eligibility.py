"""Which pages of the source a filter may learn from and a selection may take.

Pages that the study sets aside for training where it does; else all that are no benchmark pages, which means those of
the scoring split. A page of the benchmark split is never eligible: the study's own tasks are made of such pages.
"""

from ppl_assets.corpus.sources import corpus_of
from ppl_assets.study.schema import Study


def eligible_split(study: Study) -> str:
    """The split whose pages are eligible."""
    return "training" if corpus_of(study).splits.training.share > 0 else "scoring"
