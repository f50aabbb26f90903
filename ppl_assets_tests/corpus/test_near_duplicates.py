import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.corpus.near_duplicates import jaccard, near_duplicates, shingles

WORDS = st.lists(st.sampled_from(["red", "Green", "blau", "grün", "x1"]), max_size=40)


@cache
def grams(text):
    """The oracle: word 5-grams as tuples of strings."""
    words = re.findall(r"\w+", text.casefold())
    length = min(5, len(words))
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)} if words else set()


def similarity(a, b):
    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


def greedy(texts, threshold):
    """The oracle: every pair compared."""
    kept, gone = [], []
    for number, text in enumerate(texts):
        alike = [(other, similarity(text, texts[other])) for other in kept if grams(text)]
        alike = [(other, value) for other, value in alike if value >= threshold]
        if alike:
            gone.append((number, *alike[0]))
        elif grams(text):
            kept.append(number)
    return gone


def text_of(seed):
    """300 random words."""
    return [f"w{word}" for word in np.random.default_rng(seed).integers(0, 5000, 300)]


def copies(seed, n_copies, n_changes):
    """Copies of one text, each with words of its own at random places."""
    rng = np.random.default_rng(1000 + seed)
    for copy in range(n_copies):
        words = text_of(seed)
        for place in rng.choice(len(words), n_changes, replace=False):
            words[place] = f"c{copy}{place}"
        yield " ".join(words)


@given(a=WORDS, b=WORDS)
def test_hashed_shingles_have_the_similarity_of_word_5_grams(a, b):
    first, second = ("; ".join(words) + "." for words in (a, b))
    hashed = shingles(first), shingles(second)
    assert [len(found) for found in hashed] == [len(grams(first)), len(grams(second))]
    if a and b:
        assert jaccard(*hashed) == similarity(first, second)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_what_is_dropped_is_what_comparing_every_pair_drops(threshold):
    # 1 to 30 changed words of 300 give similarities from 0.94 down to 0.2: on both sides of every threshold.
    texts = [
        text for seed, changes in enumerate([1, 2, 3, 5, 8, 12, 16, 20, 30] * 3) for text in copies(seed, 4, changes)
    ]
    order = np.random.default_rng(0).permutation(len(texts))
    texts = [texts[number] for number in order]
    expected = greedy(texts, threshold)
    assert near_duplicates(texts, threshold) == expected
    assert 0 < len(expected) < 81


def test_likely_candidates_that_are_not_alike_enough_stay():
    # Similarity just below the threshold: nearly sure to meet in a bucket, and not to be dropped.
    texts = [text for seed in range(30) for text in copies(seed, 2, 4)]
    values = [similarity(*texts[number : number + 2]) for number in range(0, len(texts), 2)]
    threshold = max(values) + 1e-9
    assert min(values) > 0.75
    assert near_duplicates(texts, threshold) == []


def test_the_first_of_several_stays_and_a_chain_is_not_followed():
    base = text_of(0)
    near, far = list(base), list(base)
    near[10], far[10], far[150] = "other", "other", "another"
    texts = [" ".join(words) for words in (base, near, far)]
    threshold = similarity(texts[1], texts[2])  # the ends of the chain are less alike than its links
    assert similarity(texts[0], texts[2]) < threshold
    assert [(goes, stays) for goes, stays, _ in near_duplicates(texts, threshold)] == [(1, 0)]
    assert [(goes, stays) for goes, stays, _ in near_duplicates(texts[::-1], threshold)] == [(1, 0)]


def test_only_case_and_punctuation_apart_is_the_same_and_texts_without_words_are_not_alike():
    assert near_duplicates(["One two, three.", "one TWO three", "...", "!!!", "", ""], 1.0) == [(1, 0, 1.0)]


@pytest.mark.parametrize("threshold", [0.01, 0.3, 1.0])
def test_any_threshold_finds_equal_sets(threshold):
    assert near_duplicates(["a b c d e f g", "A b c d e f g!"], threshold) == [(1, 0, 1.0)]


UNSPACED = {
    "Chinese": "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生",
    "Japanese": "いろはにほへとちりぬるをわかよたれそつねならむアイウエオカキクケコサシスセソ日本語々",
    "Thai": "กขคฆงจฉชซญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหอฮะาิีึืุูเแโใไ่้",
    "Lao": "ກຂຄງຈສຊຍດຕຖທນບປຜຝພຟມຢຣລວຫອຮະາິີຶືຸູເແໂໃໄ່້",
    "Khmer": "កខគឃងចឆជឈញដឋឌឍណតថទធនបផពភមយរលវសហឡអាិីឹឺុូួើ្",
    "Burmese": "ကခဂဃငစဆဇဈညဋဌဍဎဏတထဒဓနပဖဗဘမယရလဝသဟဠအါာိီုူေဲ်ြ",
}


@pytest.mark.parametrize("letters", UNSPACED.values(), ids=UNSPACED)
def test_text_without_spaces_between_words_is_compared_by_its_characters(letters):
    rng = np.random.default_rng(0)
    page = rng.choice(list(letters), 400).tolist()
    edited = list(page)
    edited[40::80] = ["x"] * 5
    characters = [{tuple(text[start : start + 5]) for start in range(396)} for text in (page, edited)]
    alike = len(characters[0] & characters[1]) / len(characters[0] | characters[1])
    # Sentences of 20, the only places at which such text is cut otherwise: nearly all differ from the edited ones'.
    texts = ["。".join("".join(text[start : start + 20]) for start in range(0, 400, 20)) for text in (page, edited)]
    assert 0.8 < alike < 0.95
    assert near_duplicates(texts, 0.8) == [(1, 0, pytest.approx(alike))]
    assert near_duplicates([texts[0], "".join(rng.choice(list(letters), 400))], 0.3) == []


def test_in_a_mixed_run_each_part_is_cut_as_its_script_is():
    assert shingles("Die GPT2模型abc很好 5G").tolist() == shingles("die gpt2 模 型 ABC 很 好 5g").tolist()
    assert len(shingles("gpt2模型abc很好")) == 2


def test_text_of_other_scripts_has_the_hashes_that_it_always_had():
    # Computed before scripts were told apart.
    hashes = [5944316374613832578, 16037533698831125761, 16786750252472804074, 18210698211445253162]
    assert shingles("Ein naïver Ωmega-Test: 한국어 단어, привет_мир 123").tolist() == hashes
