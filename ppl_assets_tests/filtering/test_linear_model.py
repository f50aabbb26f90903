"""Scores from a model's file against fastText's own predict, for n-grams of every length and lines of every kind."""

from dataclasses import replace

import fasttext
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.filtering import Classifier, ClassifierSettings, Normalization, train_classifier
from ppl_assets.filtering.classifier import EXCLUDE, INCLUDE
from ppl_assets.filtering.fasttext_file import read_model
from ppl_assets.filtering.linear_model import END_OF_LINE, LinearModel
from ppl_assets.filtering.ngram_kernels import word_hash
from ppl_assets_tests.filtering.worlds import BAD, GOOD, NASTY, drawn_text

# Words of one length and one hash (FNV-1a); the first is in the vocabulary.
KNOWN, UNKNOWN = "declinate", "macallums"
LETTERS = "aäß語😀\x7f\xa0\u0301_ "
# What fastText adds to a probability (model.cc, std_log), and what its float32 sum of a line's rows is off, at most:
# so much, and so much more per byte.
ADDED, ROUNDING, DRIFT = 1e-5, 2e-6, 1e-9


def texts() -> list[str]:
    rng = np.random.default_rng(0)
    drawn = [drawn_text(rng, GOOD if number % 2 else BAD) for number in range(60)]
    foreign = ["".join(rng.choice(list(LETTERS), 60)) for _ in range(60)]
    known = [f"{KNOWN} " * 3 if number % 2 else "" for number in range(60)]
    return [f"{one}{two}\n{three}" for one, two, three in zip(known, drawn, foreign, strict=True)]


@pytest.fixture(scope="module", params=[(1, 1500), (2, 2500), (3, 3500), (8, 7000)], ids=lambda of: f"{of[0]} words")
def model_file(request, tmp_path_factory):
    """Not trained to the end, so that scores lie between 0 and 1."""
    path = tmp_path_factory.mktemp("model") / "model.bin"
    word_ngrams, steps = request.param
    settings = ClassifierSettings(
        dimension=8, buckets=300, min_count=1, word_ngrams=word_ngrams, min_steps=steps, learning_rate=0.5
    )
    train_classifier(texts(), np.arange(60) % 2.0, path, settings=settings, normalization=Normalization())
    return path


@pytest.fixture(scope="module")
def models(model_file):
    """Ours and fastText's own reading of one file."""
    return Classifier.load(model_file, Normalization()), fasttext.FastText._FastText(model_path=str(model_file))


def agrees(models: tuple[Classifier, fasttext.FastText._FastText], pages: list[str]) -> None:
    classifier, model = models
    lines = [classifier.normalization.line(text) for text in pages]
    named, probabilities = model.f.multilinePredict(lines, 2, 0.0, "strict")
    for line, score, logit, names, values in zip(
        lines, classifier.score(pages), classifier.logits(pages), named, probabilities, strict=True
    ):
        rounding = ROUNDING + DRIFT * len(line)
        found = dict(zip(names, values, strict=True))
        included, excluded = (found[label.decode()] - ADDED for label in (INCLUDE, EXCLUDE))
        assert score == pytest.approx(included, abs=rounding)
        assert 1 / (1 + np.exp(logit)) == pytest.approx(excluded, abs=rounding)


def test_scores_are_those_of_fasttext(models):
    scores = models[0].score(texts())
    assert 0.01 < scores.min() < 0.45 < 0.55 < scores.max() < 0.99, "a world in which scores differ"
    agrees(models, texts())


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_of_any_text(models, text):
    agrees(models, [text])


@given(st.lists(st.one_of(st.lists(st.sampled_from([*LETTERS, *GOOD, "w1", "w2 "])).map("".join), st.text())))
def test_of_many_texts_at_once(models, pages):
    agrees(models, pages)


def test_of_a_word_that_has_the_hash_of_a_known_one(models):
    assert len({word_hash(np.frombuffer(word.encode(), np.uint8)) for word in (KNOWN, UNKNOWN)}) == 1
    assert models[0].logits([KNOWN]) != models[0].logits([UNKNOWN])
    agrees(models, [KNOWN, UNKNOWN])


def test_words_are_numbered_as_fasttext_numbers_them(models):
    ours, theirs = models
    assert [word.decode() for word in ours.model.words] == theirs.words
    rows = theirs.get_input_matrix() @ np.subtract(
        *(theirs.get_output_matrix()[theirs.labels.index(label.decode())] for label in (INCLUDE, EXCLUDE))
    )
    np.testing.assert_allclose(ours.model.weight_R, rows, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("line", [b"no end", b"two\nends\n", b""])
def test_what_is_not_one_line_is_refused(models, line):
    with pytest.raises(InputError, match="newlines in 2 lines, expected one at the end of each"):
        models[0].model.logits([b"a line\n", line])


def test_a_model_without_the_end_of_a_line_gives_an_empty_text_no_evidence(model_file):
    """fastText then has no word to look at and says nothing."""
    model = read_model(model_file)
    words = [b"another word" if word == END_OF_LINE else word for word in model.words]
    known = LinearModel(replace(model, words=words), INCLUDE, EXCLUDE)
    assert known.logits([b"\n", b" \n"]).tolist() == [0.0, 0.0]
    assert known.logits([]).tolist() == []
