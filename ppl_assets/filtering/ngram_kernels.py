"""Compiled loops over the bytes of lines: words and n-grams, hashed as fastText hashes them (dictionary.cc).

Importing this module loads numba, so the rest of the room imports it inside functions. Compiled code is kept on disk
(``cache=True``). Axis letters: B bytes of lines, V words of the vocabulary, C their bytes, S slots of the table of
words, R rows of the model (words, then buckets), L lines, H words of a line.
"""

import numba
import numpy as np

_NEWLINE, _SPACE = 0x0A, 0x20
_HASH_START, _HASH_FACTOR = np.uint32(2166136261), np.uint32(16777619)
_NGRAM_FACTOR = np.uint64(116049371)


@numba.njit(cache=True, nogil=True)
def word_hash(word_C: np.ndarray) -> np.uint32:
    """FNV-1a with signed bytes, as fastText's `Dictionary::hash`."""
    value = _HASH_START
    for byte in word_C:
        value = _with_byte(value, byte)
    return value


@numba.njit(cache=True, nogil=True)
def _with_byte(value: np.uint32, byte: np.uint8) -> np.uint32:
    return np.uint32((value ^ np.uint32(np.int8(byte))) * _HASH_FACTOR)


@numba.njit(cache=True, nogil=True)
def ngram_bucket(hash_H: np.ndarray, buckets: int) -> np.int64:
    """The bucket of a run of words, given their hashes, as fastText's `addWordNgrams` finds it."""
    value = np.uint64(0)
    for each in hash_H:
        value = _with_word(value, each)
    return np.int64(value % np.uint64(buckets))


@numba.njit(cache=True, nogil=True)
def _with_word(value: np.uint64, hashed: np.uint32) -> np.uint64:
    # fastText keeps hashes of words as signed integers of 32 bits, and widens them with their sign.
    return value * _NGRAM_FACTOR + np.uint64(np.int64(np.int32(hashed)))


@numba.njit(cache=True, nogil=True)
def word_table(letter_C: np.ndarray, start_V: np.ndarray, n_slots: int) -> tuple[np.ndarray, np.ndarray]:
    """A table from hashes to the numbers of words (-1: none), by open addressing; and the words' hashes.

    Args:
        letter_C: bytes of all words, one after the other.
        start_V: where each begins, and where the last one ends.
        n_slots: a power of two above the number of words.
    """
    hash_V = np.empty(len(start_V) - 1, np.uint32)
    word_S = np.full(n_slots, -1, np.int32)
    for word in range(len(hash_V)):
        hash_V[word] = word_hash(letter_C[start_V[word] : start_V[word + 1]])
        slot = np.int64(hash_V[word]) & (n_slots - 1)
        while word_S[slot] >= 0:
            slot = (slot + 1) & (n_slots - 1)
        word_S[slot] = word
    return word_S, hash_V


@numba.njit(cache=True, nogil=True)
def _number(
    byte_B: np.ndarray,
    start: int,
    end: int,
    value: np.uint32,
    letter_C: np.ndarray,
    start_V: np.ndarray,
    hash_V: np.ndarray,
    word_S: np.ndarray,
) -> np.int64:
    """The number of the word between two places, whose hash is `value`; -1 where it is not in the vocabulary."""
    slot = np.int64(value) & (len(word_S) - 1)
    while word_S[slot] >= 0:
        word = np.int64(word_S[slot])
        shift = start_V[word] - start
        if hash_V[word] == value and start_V[word + 1] - shift == end:
            place = start
            while place < end and byte_B[place] == letter_C[place + shift]:
                place += 1
            if place == end:
                return word
        slot = (slot + 1) & (len(word_S) - 1)
    return np.int64(-1)


@numba.njit(cache=True, nogil=True)
def line_means(
    line_B: np.ndarray,
    end_C: np.ndarray,
    letter_C: np.ndarray,
    start_V: np.ndarray,
    hash_V: np.ndarray,
    word_S: np.ndarray,
    weight_R: np.ndarray,
    word_ngrams: int,
    mean_L: np.ndarray,
) -> None:
    """Write the mean weight of each line's known words and of all its n-grams into `mean_L`; 0 where it has none.

    Args:
        line_B: lines of words between spaces, each with a newline at its end.
        end_C: the word that a newline counts as.
        letter_C, start_V, hash_V, word_S: the vocabulary, as `word_table` takes and gives it.
        weight_R: one number per word of the vocabulary and per bucket.
        word_ngrams: words of the longest n-gram.
    """
    buckets = np.uint64(len(weight_R) - len(hash_V))
    end_hash = word_hash(end_C)
    end = _number(end_C, 0, len(end_C), end_hash, letter_C, start_V, hash_V, word_S)
    hash_H = np.empty(len(line_B) // 2 + 2, np.uint32)
    line, n_words, start, value = 0, 0, 0, _HASH_START
    total, count = 0.0, 0
    for place in range(len(line_B)):
        byte = line_B[place]
        if byte != _SPACE and byte != _NEWLINE:
            value = _with_byte(value, byte)
            continue
        if place > start:
            number = _number(line_B, start, place, value, letter_C, start_V, hash_V, word_S)
            if number >= 0:
                total += weight_R[number]
                count += 1
            hash_H[n_words] = value
            n_words += 1
        start, value = place + 1, _HASH_START
        if byte != _NEWLINE:
            continue
        if end >= 0:
            total += weight_R[end]
            count += 1
        hash_H[n_words] = end_hash
        n_words += 1
        for first in range(n_words - 1):
            run = _with_word(np.uint64(0), hash_H[first])
            for last in range(first + 1, min(first + word_ngrams, n_words)):
                run = _with_word(run, hash_H[last])
                total += weight_R[len(hash_V) + np.int64(run % buckets)]
                count += 1
        mean_L[line] = total / count if count else 0.0
        line, n_words, total, count = line + 1, 0, 0.0, 0
