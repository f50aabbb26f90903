"""The classifier: no page can end its line or label itself, and the same input gives the same model and scores."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.errors import InputError
from ppl_assets.filtering import Classifier, ClassifierSettings, Normalization, train_classifier
from ppl_assets.filtering.fasttext_file import read_model
from ppl_assets.filtering.fasttext_process import train_in_process
from ppl_assets.filtering.ngrams import deciding, influences
from ppl_assets_tests.filtering.worlds import BAD, GOOD, NASTY, drawn_text, labelled_pages

SMALL = ClassifierSettings(dimension=8, buckets=5000, min_count=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    pages = labelled_pages()
    path = tmp_path_factory.mktemp("model") / "model.bin"
    texts, labels = pages["text"].to_list(), pages["label"].to_numpy()
    return train_classifier(texts, labels, path, settings=SMALL, normalization=Normalization())


def test_a_signal_behind_the_first_newline_is_learned_and_seen(tmp_path):
    """The reference implementation trains on first lines alone and is at chance here (.488)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400).astype(float)
    texts = [f"{drawn_text(rng, ('the',), 5)}\n{drawn_text(rng, GOOD if label else BAD)}" for label in labels]
    model = train_classifier(
        texts[:200], labels[:200], tmp_path / "m.bin", settings=SMALL, normalization=Normalization()
    )
    accuracy = ((model.score(texts[200:]) > 0.5) == labels[200:]).mean()
    assert accuracy >= 0.99


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_any_text_has_a_score(trained, text):
    score = trained.score([text, "plain"])
    assert np.isfinite(score).all()
    assert ((score >= 0) & (score <= 1)).all()
    # Nothing of a text spills over to its neighbour.
    assert score[1] == trained.score(["plain"])[0]


def test_labels_inside_texts_change_neither_the_labels_nor_the_pages_of_training(tmp_path, monkeypatch):
    """Every text holds the opposite of its own label, the end of a sentence and newlines, in front of its signal."""
    pages = labelled_pages()
    labels = pages["label"].to_numpy()
    poison = {1.0: "__label__exclude\n</s> ", 0.0: "x\n__label__include </s> "}
    texts = [poison[label] * 3 + text for label, text in zip(labels, pages["text"], strict=True)]
    written = {}
    monkeypatch.setattr(
        "ppl_assets.filtering.classifier.train_in_process",
        lambda file, model, options: written.update(b=file.read_bytes()),
    )
    monkeypatch.setattr(Classifier, "load", lambda path, normalization: None)
    train_classifier(texts, labels, tmp_path / "m.bin", settings=SMALL, normalization=Normalization())
    lines = written["b"].decode().removesuffix("\n").split("\n")
    assert len(lines) == len(texts)
    assert sorted(line.split(" ")[0] for line in lines) == sorted(
        "__label__include" if label else "__label__exclude" for label in labels
    )
    assert all(line.count("__label__") == 1 and "</s>" not in line.split() for line in lines)


def test_a_model_trained_on_poisoned_texts_still_finds_the_signal(tmp_path):
    pages = labelled_pages()
    labels = pages["label"].to_numpy()
    texts = [
        f"__label__{'exclude' if label else 'include'}\n</s>\x00 {text}"
        for label, text in zip(labels, pages["text"], strict=True)
    ]
    model = train_classifier(texts, labels, tmp_path / "m.bin", settings=SMALL, normalization=Normalization())
    fresh = labelled_pages(seed=1)
    assert ((model.score(fresh["text"].to_list()) > 0.5) == fresh["label"].to_numpy()).mean() >= 0.99


@given(st.text(max_size=200))
def test_a_line_is_one_line_and_normalising_it_again_changes_nothing(text):
    for settings in (Normalization(), Normalization(unicode_form="NFKC", lowercase=True)):
        line = settings.line(text)
        assert line.endswith(b"\n")
        body = line[:-1]
        assert not any(byte < 0x20 or byte == 0x7F for byte in body)
        assert b"__label__" not in body
        assert b"</s>" not in body
        decoded = body.decode("utf-8")
        assert len(decoded.splitlines()) <= 1
        # A second pass may still shorten a marker that the first one left behind, never find a new line or label.
        assert settings.line(decoded).count(b"\n") == 1


# Where the shortcuts of a line part ways: letters of Latin-1, marks to compose, punctuation that shares their bytes.
LETTERS = "ae\n\x00\x7f\x85\xa0\xa9\xadÄéâþ\u0300\u0301\u0323\u0344\u2000\u2019\u2028\u2029\u212b\u3000한\ud800😀"
PIECES = [*LETTERS, "__label__", "_", "</s>", "<"]


@given(
    st.one_of(st.lists(st.sampled_from(PIECES)).map("".join), st.text(max_size=60)),
    st.sampled_from(["NFC", "NFKC", "none"]),
)
def test_a_line_is_what_its_rules_say_character_by_character(text, form):
    formed = text if form == "none" else unicodedata.normalize(form, text)
    separators = [*range(0x20), *range(0x7F, 0xA1), 0x2028, 0x2029]
    spaced = formed.translate(dict.fromkeys(separators, " "))
    expected = spaced.replace("__label__", "__label ").replace("</s>", "< /s>")
    assert Normalization(unicode_form=form).line(text) == expected.encode("utf-8", "replace") + b"\n"


def test_latin_1_is_in_the_normal_form_that_it_is_taken_to_be_in():
    letters = [chr(code) for code in range(256)]
    assert all(unicodedata.normalize("NFC", one + other) == one + other for one in letters for other in letters)


def test_a_text_has_the_same_score_among_many_as_alone(trained):
    rng = np.random.default_rng(0)
    texts = [drawn_text(rng, GOOD + BAD, 5) for _ in range(150)]
    assert trained.score(texts).tolist() == [trained.score([text])[0] for text in texts]
    assert trained.score([]).tolist() == []


def test_composed_and_decomposed_letters_are_one_text_and_case_is_kept_unless_told():
    assert Normalization().line("é") == Normalization().line(unicodedata.normalize("NFD", "é"))
    assert Normalization(unicode_form="none").line("é") != Normalization(unicode_form="none").line("e\u0301")
    assert Normalization().line("A") != Normalization().line("a")
    assert Normalization(lowercase=True).line("ÄA") == Normalization(lowercase=True).line("äa")


def test_training_twice_gives_the_same_file_whatever_ran_before(tmp_path):
    """In one process it does not: fastText leaves nine tenths of its matrix as it finds the memory."""
    pages = labelled_pages(sites=4)
    texts, labels = pages["text"].to_list(), pages["label"].to_numpy()
    files = []
    for name in ("a.bin", "b.bin"):
        train_classifier(texts, labels, tmp_path / name, settings=SMALL, normalization=Normalization())
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.bin"]


@pytest.mark.parametrize("words", [3, 40, 900])
def test_what_fasttext_leaves_unfilled_starts_at_zero_whatever_the_size(tmp_path, words):
    """Without word pairs the matrix is as small as the vocabulary; it then came from memory that was used before."""
    single = ClassifierSettings(word_ngrams=1, min_count=1, min_steps=1, epochs=1, learning_rate=1e-9)
    texts = [" ".join(f"w{number}" for number in range(words))] * 2
    labels = np.array([0.0, 1.0])
    train_classifier(texts, labels, tmp_path / "m.bin", settings=single, normalization=Normalization())
    matrix_WF = read_model(tmp_path / "m.bin").input_RF
    assert matrix_WF.shape == (words + 1, single.dimension), "and the end of a line"
    # A step of 1e-9 moves nothing further than itself.
    assert np.abs(matrix_WF[-(-len(matrix_WF) // 10) :]).max() < 1e-9
    assert np.abs(matrix_WF[0]).max() > 1e-3, "the tenth that it fills is drawn at random"


def test_soft_labels_are_sampled_in_proportion(tmp_path, monkeypatch):
    counts: dict[str, int] = {}

    def count(file, model, options):
        assert options["epoch"] == 1
        for line in file.read_text().splitlines():
            label, page = line.split(" ")
            counts[page] = counts.get(page, 0) + (label == "__label__include")

    monkeypatch.setattr("ppl_assets.filtering.classifier.train_in_process", count)
    monkeypatch.setattr(Classifier, "load", lambda path, normalization: None)
    assert SMALL.epochs_for(2000) == 5
    labels = np.array([0.0, 0.2, 0.5, 1.0] * 500)
    texts = [f"p{number}" for number in range(len(labels))]
    train_classifier(texts, labels, tmp_path / "m.bin", settings=SMALL, normalization=Normalization())
    times = np.array([counts[text] for text in texts]).reshape(-1, 4)
    assert (times[:, 0] == 0).all()
    assert (times[:, 3] == 5).all()
    assert (times[:, 1] == 1).all()  # a fifth of five epochs
    assert set(times[:, 2]) == {2, 3}
    # 500 fair choices of 2 or 3: a mean outside 2.4 to 2.6 has a chance below 1e-5.
    assert 2.4 < times[:, 2].mean() < 2.6


@pytest.mark.parametrize("doubt", [0.0, 0.3])
def test_a_word_of_one_page_is_left_out_with_soft_labels_too(tmp_path, doubt):
    """Of soft labels a page is written many times, and with it all of its words."""
    texts = ["once common good", "common good", "common bad", "common bad"]
    labels = np.array([1.0, 1.0, doubt, 0.0])
    settings = replace(SMALL, min_count=2)
    model = train_classifier(texts, labels, tmp_path / "m.bin", settings=settings, normalization=Normalization())
    assert sorted(model.model.words) == [b"</s>", b"bad", b"common", b"good"]


@pytest.mark.parametrize("word_ngrams", [1, 2, 3])
def test_influences_sum_to_the_mean_logit_and_name_the_signal(tmp_path, word_ngrams):
    pages, fresh = labelled_pages(), labelled_pages(seed=2)["text"].to_list()
    settings = replace(SMALL, word_ngrams=word_ngrams)
    texts, labels = pages["text"].to_list(), pages["label"].to_numpy()
    model = train_classifier(texts, labels, tmp_path / "m.bin", settings=settings, normalization=Normalization())
    found = influences(model, [*fresh, *NASTY.values()])
    assert sum(found.values()) == pytest.approx(model.logits([*fresh, *NASTY.values()]).mean(), abs=1e-9)
    assert max(len(ngram.split(" ")) for ngram in found) == word_ngrams
    top = deciding(influences(model, fresh), 2)
    assert {ngram for ngram, value in top.items() if value > 0} == set(GOOD)
    assert {ngram for ngram, value in top.items() if value < 0} == set(BAD)


@pytest.mark.parametrize(
    "labels", [np.zeros(3), np.ones(3), np.array([0, 1, 2.0]), np.array([0, 1, np.nan]), np.zeros(0)]
)
def test_labels_that_teach_nothing_are_refused(tmp_path, labels):
    with pytest.raises(InputError, match="page filter: found"):
        train_classifier(["a"] * len(labels), labels, tmp_path / "m.bin", settings=SMALL, normalization=Normalization())


def test_a_model_of_other_labels_is_refused(tmp_path):
    (tmp_path / "t.txt").write_text("__label__a x\n__label__b y\n")
    # Not smaller: what fastText leaves unfilled is zero in large allocations alone (`fasttext_process`).
    options = {"lr": 0.1, "dim": 8, "bucket": 5000, "wordNgrams": 2, "thread": 1, "verbose": 0, "minCount": 1}
    train_in_process(tmp_path / "t.txt", tmp_path / "m.bin", options)
    with pytest.raises(InputError, match="include and exclude"):
        Classifier.load(tmp_path / "m.bin", Normalization())
    (tmp_path / "bad.bin").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"bad\.bin"):
        Classifier.load(tmp_path / "bad.bin", Normalization())
    with pytest.raises(InputError, match="no such file"):
        Classifier.load(tmp_path / "none.bin", Normalization())
