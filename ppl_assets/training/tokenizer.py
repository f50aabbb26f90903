"""Byte-level BPE tokenizers, trained on the study's own pages.

Every text is representable (the 256 bytes are in the vocabulary) and decodes to itself: nothing is normalised, and a
special token spelled out in a page is ordinary text. What a merge is worth is counted over at most `SAMPLE_BYTES` of
text; whether another vocabulary size would serve the study better is not asked here.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
"""The only special token, entry 0: it stands before every page, as BOS and EOS."""

SAMPLE_BYTES = 8_000_000
"""Text that merges are counted on: some 1.5 s of one core, a hundred times what the rarest of 4,096 merges needs."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> "Tokenizer":
    """A byte-level BPE tokenizer of at most `vocabulary` entries (fewer where the texts have no further pair to merge).

    Depends on the set of texts alone, not on their order nor on the number of threads: the sample is taken in order of
    the texts' digests, pair counts are sums, and equal counts are broken by entry.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(texts), trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def save_tokenizer(tokenizer: "Tokenizer", folder: Path, *, context_tokens: int) -> None:
    """Write `tokenizer` so that ``AutoTokenizer`` loads it: BOS and EOS are declared, and added to no text."""
    as_transformers(tokenizer, context_tokens=context_tokens).save_pretrained(folder)


def as_transformers(tokenizer: "Tokenizer", *, context_tokens: int) -> Any:
    """The same tokenizer as a ``PreTrainedTokenizerFast``; encodes to the same ids."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        model_max_length=context_tokens,
    )


def _sample(texts: Iterable[str]) -> list[str]:
    """Texts in order of their digests, up to `SAMPLE_BYTES`; at least one."""
    ordered = sorted((hashlib.sha256(text.encode()).digest(), text) for text in texts)
    sample: list[str] = []
    taken = 0
    for _, text in ordered:
        if sample and taken >= SAMPLE_BYTES:
            break
        sample.append(text)
        taken += len(text.encode())
    return sample
