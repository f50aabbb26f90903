"""Texts to token ids, once per distinct tokenizer, with the bytes that each text and its first token pay for.

Ids are those of the text alone: no BOS or EOS is added, and the names of special tokens inside a text are ordinary
text, so that no text can inject a control token and BOS is never scored. Bytes are UTF-8 bytes of the text itself,
never of decoded tokens (SentencePiece adds a space that no text holds).

Does not know: models. Which token stands before a text is asked of tokenizer and model together (`start_token`).
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_assets.errors import InputError

if TYPE_CHECKING:
    import tokenizers

# Raised whenever `tokenize` would store other numbers for the same tokenizer and text.
TOKENIZATION_VERSION = 1
# Texts per call into the Rust tokenizer: bounds the memory of its Encoding objects, large enough to use all threads.
TEXTS_PER_CALL = 1024
# What numpy raises on a .npz that is missing, cut off or altered: it is a zip archive with a checksum per array.
DAMAGED_NPZ = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, RuntimeError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedTexts:
    """N texts as token ids, flat: text i owns ``ids[offsets[i]:offsets[i + 1]]``.

    Attributes:
        ids: int32 [tokens of all texts].
        offsets: int64 [N + 1], ascending from 0.
        bytes: int64 [N], UTF-8 bytes of the text.
        bytes_first: int64 [N], UTF-8 bytes that the first token covers; 0 where there is none.
        lossy: bool [N], True where decoding the ids does not give the text back.
        fingerprint: `tokenizer_fingerprint` of the tokenizer that made the ids.
    """

    ids: np.ndarray
    offsets: np.ndarray
    bytes: np.ndarray
    bytes_first: np.ndarray
    lossy: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.bytes)

    @property
    def tokens(self) -> np.ndarray:
        """int64 [N]: tokens of each text."""
        return np.diff(self.offsets)

    def select(self, index: np.ndarray) -> "TokenizedTexts":
        """The texts at the positions `index`, in that order."""
        parts = [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in index]
        return TokenizedTexts(
            ids=np.concatenate([np.empty(0, np.int32), *parts]),
            offsets=np.concatenate([[0], np.cumsum(self.tokens[index])]).astype(np.int64),
            bytes=self.bytes[index],
            bytes_first=self.bytes_first[index],
            lossy=self.lossy[index],
            fingerprint=self.fingerprint,
        )

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz to `path`, which appears whole or not at all."""
        from ppl_assets.warehouse import replacing_file  # what only scores needs no library of tables

        with replacing_file(path) as file:
            np.savez(
                file,
                ids=self.ids,
                offsets=self.offsets,
                bytes=self.bytes,
                bytes_first=self.bytes_first,
                lossy=self.lossy,
                fingerprint=np.array(self.fingerprint),
            )

    @classmethod
    def load(cls, path: Path) -> "TokenizedTexts":
        """Read what `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(**{**arrays, "fingerprint": str(arrays["fingerprint"])})


def raw_tokenizer(tokenizer: Any) -> "tokenizers.Tokenizer":
    """The `tokenizers.Tokenizer` that `tokenizer` is, or is backed by.

    Raises:
        InputError: `tokenizer` is neither a `tokenizers.Tokenizer` nor a transformers tokenizer backed by one.
    """
    import tokenizers

    raw = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(raw, tokenizers.Tokenizer):
        raise InputError(
            f"tokenizer: found {type(tokenizer).__name__}, which no `tokenizers.Tokenizer` stands behind; "
            "expected a transformers PreTrainedTokenizerFast or a tokenizers.Tokenizer"
        )
    return raw


def without_limits(serialized: str) -> "tokenizers.Tokenizer":
    """The tokenizer of a tokenizer.json's content, neither truncating nor padding: files on the hub carry both."""
    import tokenizers

    raw = tokenizers.Tokenizer.from_str(serialized)
    raw.no_truncation()
    raw.no_padding()
    return raw


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 (hex) of everything that decides the ids `tokenize` gives: models that share it share their token files.

    The post-processor (which adds BOS and EOS), truncation and padding play no part, so they are left out.
    """
    return _prepared(raw_tokenizer(tokenizer).to_str()).fingerprint


def tokenize(tokenizer: Any, texts: Sequence[str]) -> TokenizedTexts:
    """Token ids, byte counts and round-trip verdict of each text, in input order.

    A text with lone surrogates has no UTF-8 form and hence no tokens: it is marked lossy, its bytes counted as if each
    surrogate were encoded (3 bytes). So is a text that the tokenizer fails on.

    Raises:
        InputError: the tokenizer is of an unsupported kind, or an element of `texts` is not a str.
    """
    if isinstance(texts, str):
        raise InputError(f"texts: found one str of {len(texts)} characters, expected a sequence of them")
    texts = list(texts)
    prepared = _prepared(raw_tokenizer(tokenizer).to_str())
    raw = prepared.raw
    ids: list[np.ndarray] = [np.empty(0, np.int32)]
    n_tokens, n_bytes, n_bytes_first, lossy = (np.zeros(len(texts), np.int64) for _ in range(4))
    for start in range(0, len(texts), TEXTS_PER_CALL):
        batch = [_utf8_or_none(text, start + i) for i, text in enumerate(texts[start : start + TEXTS_PER_CALL])]
        batch, encodings = _encoded(raw, batch)
        decoded = raw.decode_batch([e.ids for e in encodings], skip_special_tokens=False)
        for i, (text, encoding, back) in enumerate(zip(batch, encodings, decoded, strict=True), start):
            ids.append(np.asarray(encoding.ids, np.int32))
            n_tokens[i] = len(encoding)
            n_bytes[i] = len(texts[i].encode("utf-8", "surrogatepass"))
            lossy[i] = text is None or back != text
            if text and len(encoding):
                by_name = not lossy[i] and encoding.ids[0] in prepared.byte_level_ids
                n_bytes_first[i] = _first_token_bytes(raw, text, encoding, by_name)
    return TokenizedTexts(
        ids=np.concatenate(ids),
        offsets=np.concatenate([[0], np.cumsum(n_tokens)]).astype(np.int64),
        bytes=n_bytes,
        bytes_first=n_bytes_first,
        lossy=lossy.astype(bool),
        fingerprint=prepared.fingerprint,
    )


def from_ids(rows: Sequence[np.ndarray]) -> TokenizedTexts:
    """Rows of ids that no text stands behind (0 bytes)."""
    zeros = np.zeros(len(rows), np.int64)
    return TokenizedTexts(
        ids=np.concatenate([np.empty(0, np.int32), *rows]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        bytes=zeros,
        bytes_first=zeros,
        lossy=zeros.astype(bool),
        fingerprint="",
    )


def load_or_tokenize(folder: Path, tokenizer: Any, texts: Sequence[str]) -> TokenizedTexts:
    """`tokenize`, kept in `folder` under the digest of tokenizer and texts, so that it happens once for all models."""
    digest = hashlib.sha256(tokenizer_fingerprint(tokenizer).encode())
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    path = folder / f"{digest.hexdigest()}.npz"
    try:
        return TokenizedTexts.load(path)
    except DAMAGED_NPZ:
        tokenize(tokenizer, texts).save(path)
    return TokenizedTexts.load(path)


def start_token(tokenizer: Any, model: Any = None) -> int:
    """The id that stands before every text and is never scored: BOS, or EOS where there is no BOS.

    Asked in this order: a transformers tokenizer's own BOS and EOS, the first token that the tokenizer puts before an
    empty text by itself, the model config's BOS and EOS.

    Raises:
        InputError: none of them is set.
    """
    candidates = [getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None)]
    if hasattr(tokenizer, "backend_tokenizer") or type(tokenizer).__module__.startswith("tokenizers"):
        added = getattr(tokenizer, "backend_tokenizer", tokenizer).encode("", add_special_tokens=True).ids
        candidates += added[:1]
    config = getattr(model, "config", None)
    for source in (config, config.get_text_config() if config is not None else None):
        candidates += [getattr(source, "bos_token_id", None), getattr(source, "eos_token_id", None)]
    for candidate in candidates:
        # Some configs list several EOS tokens; the first is the document's end.
        first = candidate[0] if isinstance(candidate, list) and candidate else candidate
        if isinstance(first, int) and first >= 0:
            return first
    raise InputError(
        "tokenizer: no BOS and no EOS token is set in tokenizer or model config; expected one of them, "
        "because the first token of a text is scored given it (pass prefix_id to name the token)"
    )


def _encoded(raw: "tokenizers.Tokenizer", batch: list[str | None]) -> tuple[list[str | None], list[Any]]:
    """The batch with None for each text that the tokenizer fails on, and the encodings of all; None has no token."""
    try:
        return batch, raw.encode_batch([text or "" for text in batch], add_special_tokens=False)
    # Rust's errors arrive as bare Exception, for a whole batch: such as a word model that meets its first unknown word.
    except Exception:  # noqa: BLE001
        kept = [text if text is not None and _can_encode(raw, text) else None for text in batch]
    return kept, raw.encode_batch([text or "" for text in kept], add_special_tokens=False)


def _can_encode(raw: "tokenizers.Tokenizer", text: str) -> bool:
    try:
        raw.encode(text, add_special_tokens=False)
    except Exception:  # noqa: BLE001 (as above)
        return False
    return True


def _utf8_or_none(text: object, row: int) -> str | None:
    if not isinstance(text, str):
        raise InputError(f"texts[{row}]: found {type(text).__name__}, expected str")
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What `tokenize` needs of a tokenizer; `byte_level_ids` are those named by one character per byte."""

    raw: "tokenizers.Tokenizer"
    byte_level_ids: frozenset[int]
    fingerprint: str


# A third of a second for a vocabulary of 50,000: worth keeping where a notebook scores a few texts at a time.
@lru_cache(maxsize=4)
def _prepared(serialized: str) -> _Prepared:
    raw = without_limits(serialized)
    raw.encode_special_tokens = True
    description = json.loads(serialized)
    for without_effect in ("post_processor", "truncation", "padding"):
        description.pop(without_effect, None)
    description["ppl_assets"] = TOKENIZATION_VERSION
    canonical = json.dumps(description, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    byte_level_ids: frozenset[int] = frozenset()
    if '"ByteLevel"' in json.dumps([description["pre_tokenizer"], description["decoder"]]):
        # GPT-2's alphabet; added tokens are named by their text.
        byte_level_ids = (
            frozenset(raw.get_vocab(with_added_tokens=False).values()) - raw.get_added_tokens_decoder().keys()
        )
    return _Prepared(raw=raw, byte_level_ids=byte_level_ids, fingerprint=hashlib.sha256(canonical.encode()).hexdigest())


def _first_token_bytes(raw: "tokenizers.Tokenizer", text: str, encoding: Any, byte_level: bool) -> int:
    """UTF-8 bytes of `text` up to the end of its first token.

    A token that may end inside a character is measured by its name: a byte-level name has one character per byte, a
    byte-fallback name (``<0xE2>``) is one byte. Others are measured by what they decode to (SentencePiece's first space
    stands for no byte), and where the text was changed before, by the characters they came from.
    """
    name = encoding.tokens[0]
    if byte_level:
        prefix_space = name.startswith("Ġ") and not text.startswith(" ")
        return len(name) - prefix_space
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return 1
    decoded = raw.decode(encoding.ids[:1], skip_special_tokens=False)
    if text.startswith(decoded):
        return len(decoded.encode())
    span = encoding.token_to_chars(0)
    return len(text[: span[1]].encode()) if span else 0
