from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ppl_assets.corpus import chunk_page, chunk_pages
from ppl_assets.corpus.chunking import ByteCounter, FileCounter, reference_counter
from ppl_assets.schema import TABLES
from ppl_assets_tests.corpus.builders import any_study

REAL = Path(__file__).parents[3] / "shared/data/tokenizers/gptneox.json"
TRAINING = [
    "The quick brown fox jumps over the lazy dog. " * 3,
    "def f(x):\n    return x + 1\n",
    "grüne Äpfel\r\n",
    "x" * 64,
] * 4
# Emoji with joiners and skin tones, combining marks, line ends of every kind, long runs, scripts without spaces.
PIECES = st.sampled_from(
    [
        "word ",
        "x",
        "\n",
        "\r\n",
        "\t",
        " " * 9,
        "e\u0301",
        "👩🏽‍💻",
        "🌱",
        "漢字かな",
        "\u2028",
        "\x00",
        "ﬁ",
        "def f(x):",
        "ß",
        "\ufeff",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join)


def byte_level():
    """Byte-level BPE, as most models have it: several tokens may share one character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def metaspace():
    """As SentencePiece models are converted: normalised text, a space in front, bytes for what is unknown."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefgx", "▁x", "xx", "xxxx", "xxxxxxxx"]
    vocabulary = {piece: rank for rank, piece in enumerate(pieces)}
    merges = [("▁", "x"), ("x", "x"), ("xx", "xx"), ("xxxx", "xxxx")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def lossy():
    """Normalises text away: most characters and all spaces are no part of any token."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Replace(Regex("[^a-z ]"), "")])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.fixture(scope="module", params=["bytes 1", "bytes 4", "byte level", "metaspace", "lossy"])
def counter(request, tmp_path_factory):
    if request.param.startswith("bytes"):
        return ByteCounter(int(request.param.split()[1]))
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    {"byte level": byte_level, "metaspace": metaspace, "lossy": lossy}[request.param]().save(str(path))
    return FileCounter(path)


def check(text, max_tokens, counter):
    """The properties: bytes are conserved, no chunk is empty, none too long unless it is a single character."""
    chunks = chunk_page(text, max_tokens, counter)
    assert b"".join(chunk.encode() for chunk in chunks) == text.encode()
    assert all(chunks)
    for chunk, tokens in zip(chunks, counter.count(chunks), strict=True):
        assert tokens <= max_tokens or len(chunk) == 1
    return chunks


@settings(deadline=None)
@given(text=TEXTS, max_tokens=st.integers(1, 40))
def test_chunks_concatenate_to_the_page_and_none_is_too_long(counter, text, max_tokens):
    check(text, max_tokens, counter)


def test_a_line_of_a_megabyte_without_a_space_is_cut_in_time_that_grows_with_its_length(counter):
    check("x" * 1_000_000, 4096, counter)


def test_a_page_that_fits_is_one_chunk_and_no_text_is_none(counter):
    text = "The quick brown fox"
    assert chunk_page(text, counter.count([text])[0], counter) == [text]
    assert chunk_page("", 5, counter) == []


@pytest.fixture(scope="module")
def real_counter():
    if not REAL.is_file():
        pytest.skip("the tokenizer of GPT-NeoX is not at hand")
    return FileCounter(REAL)


@settings(deadline=None)
@given(text=TEXTS, max_tokens=st.integers(1, 40))
def test_the_properties_hold_for_a_tokenizer_of_the_wild(real_counter, text, max_tokens):
    check(text, max_tokens, real_counter)


def test_chunks_of_a_tokenizer_end_where_its_tokens_do(tmp_path):
    byte_level().save(str(tmp_path / "t.json"))
    text = TRAINING[0]
    ends = {end for _, end in byte_level().encode(text).offsets}
    chunks = chunk_page(text, 7, FileCounter(tmp_path / "t.json"))
    lengths = [sum(map(len, chunks[: number + 1])) for number in range(len(chunks))]
    assert set(lengths) <= ends
    assert FileCounter(tmp_path / "t.json").count(chunks[:-1]) == [7] * (len(chunks) - 1)


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("aaaa bbbb cccc", ["aaaa ", "bbbb ", "cccc"]),
        ("one\ntwo\nthree\n", ["one\ntwo\n", "three\n"]),
        ("a\nbcdefghijk", ["a\nbcdefg", "hijk"]),
        ("abcdefghijkl", ["abcdefgh", "ijkl"]),
        ("abc\tdef ghijkl", ["abc\tdef ", "ghijkl"]),
        ("abcdefgé", ["abcdefg", "é"]),
        ("ééééé", ["éééé", "é"]),
        ("🌱🌱🌱", ["🌱🌱", "🌱"]),
    ],
)
def test_without_a_tokenizer_lines_then_words_stay_whole_where_half_a_chunk_is_left(text, chunks):
    assert chunk_page(text, 2, ByteCounter(4)) == chunks


def test_a_character_longer_than_a_chunk_stays_whole():
    assert chunk_page("a🌱b", 1, ByteCounter(2)) == ["a", "🌱", "b"]


@given(text=st.text(), size=st.integers(1, 9))
def test_bytes_that_are_left_over_are_one_more_token(text, size):
    (tokens,) = ByteCounter(size).count([text])
    assert size * (tokens - 1) < len(text.encode()) <= size * tokens or (tokens == 0 and not text)


def test_the_table_has_the_chunks_of_the_scoring_pages_only():
    rows = [("p1", "a.org", split, 30, 8, f"{split} words. " * 3) for split in ("training", "scoring", "benchmark")]
    pages = pl.DataFrame(rows, schema=TABLES["pages"].polars_schema, orient="row")
    reports = []
    chunks = chunk_pages(pages, any_study(chunk_tokens=4), progress=reports.append)
    assert chunks.schema == TABLES["chunks"].polars_schema
    assert chunks["text"].to_list() == ["scoring words. "] * 3
    assert chunks["chunk_id"].to_list() == ["p1#0", "p1#1", "p1#2"]
    assert chunks.select("page_id", "domain", "bytes", "tokens").unique().rows() == [("p1", "a.org", 15, 4)]
    assert [(report.done, report.total) for report in reports] == [(1, 1)]
    assert chunk_pages(pages.clear(), any_study()).schema == TABLES["chunks"].polars_schema


def test_the_studys_reference_token_is_a_file_or_a_number_of_bytes(tmp_path):
    byte_level().save(str(tmp_path / "t.json"))
    study = any_study(reference_tokenizer={"file": "t.json"}).model_copy(update={"folder": tmp_path})
    text = "The quick brown fox"
    assert reference_counter(study).count([text]) == [len(byte_level().encode(text).ids)]
    assert reference_counter(any_study(reference_tokenizer={"bytes_per_token": 3})).count([text]) == [7]
