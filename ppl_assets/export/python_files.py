"""Python files for libraries whose mixtures are code: Hugging Face datasets and litdata (LitGPT).

Names and paths enter as Python literals, so that no domain's name can be code.
"""

from ppl_assets.export.blend import Blend

# Suffixes of single data files, with the builder of ``datasets`` that reads them; any other path is a folder or a
# repository, which ``load_dataset`` looks into itself.
_BUILDERS = {
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".jsonl.zst": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".txt": "text",
}

_HUGGINGFACE = '''\
"""{origin}, for Hugging Face datasets: `load_mixture()` draws rows of all domains.

Probabilities are shares of tokens, and one draw is one row: tokenize and pack the rows to one length first, or domains
of long pages get more than their share.
"""

from datasets import interleave_datasets, load_dataset

# Domain, data, probability.
DOMAINS = (
{domains})


def load_mixture(*, split="train", streaming=True, seed={seed}):
    """The mixture as one dataset; it ends once every domain was read to its end, and repeats the others till then."""
    parts = [load_dataset({arguments}, split=split, streaming=streaming) for _, data, _ in DOMAINS]
    probabilities = [probability for _, _, probability in DOMAINS]
    return interleave_datasets(parts, probabilities=probabilities, seed=seed, stopping_strategy="all_exhausted")


if __name__ == "__main__":
    print(next(iter(load_mixture())))
'''

_LITGPT = '''\
"""{origin}, for litdata, as the data modules of LitGPT use it.

`train_dataset()` draws sequences of all domains from data that `litdata.optimize` wrote with a `TokensLoader`.
"""

from litdata import CombinedStreamingDataset, StreamingDataset, TokensLoader

# Domain, data, weight.
DOMAINS = (
{domains})


def train_dataset(*, sequence_tokens=2048, seed={seed}):
    """The mixture as one stream of sequences of `sequence_tokens` + 1 tokens; it ends when any domain is used up."""
    parts = [
        StreamingDataset(data, item_loader=TokensLoader(block_size=sequence_tokens + 1), shuffle=True, drop_last=True)
        for _, data, _ in DOMAINS
    ]
    weights = [weight for _, _, weight in DOMAINS]
    return CombinedStreamingDataset(parts, seed=seed, weights=weights, iterate_over_all=False)
'''


def as_huggingface(blend: Blend) -> str:
    """A Python file whose `load_mixture` calls ``datasets.interleave_datasets`` with the weights as probabilities.

    A path is a folder of data files or a repository, or one file by a known suffix (.jsonl, .parquet, ...).
    """
    path = blend.shares[0].path
    builder = next((builder for suffix, builder in _BUILDERS.items() if path.endswith(suffix)), None)
    arguments = f'"{builder}", data_files=data' if builder else "data"
    return _HUGGINGFACE.format(origin=_capital(blend), domains=_literals(blend), seed=blend.seed, arguments=arguments)


def as_litgpt(blend: Blend) -> str:
    """A Python file whose `train_dataset` is a ``litdata.CombinedStreamingDataset`` with the weights.

    Source: ``litdata.streaming.combined``, of litdata 0.2.76, and its use in LitGPT 0.5's ``litgpt.data.tinyllama``.
    """
    return _LITGPT.format(origin=_capital(blend), domains=_literals(blend), seed=blend.seed)


def _literals(blend: Blend) -> str:
    return "".join(f"    ({share.domain!r}, {share.path!r}, {share.weight!r}),\n" for share in blend.shares)


def _capital(blend: Blend) -> str:
    return blend.origin[0].upper() + blend.origin[1:]
