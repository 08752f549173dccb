"""Generated tasks of memory: a string to be copied after a delay, and the parity of bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probseq.data.corpus import Corpus
from probseq.data.generated import check_uncut, known_corpus
from probseq.data.preparation import Preparation
from probseq.data.sequences import Sequences
from probseq.errors import InputError

COPY_LENGTH = 3  # letters to be copied
COPY_LETTERS = 4
_WAIT, _RECALL = COPY_LETTERS, COPY_LETTERS + 1  # ids; letters are 0 to 3
_EQUALS, EVEN = 2, 3  # ids; bits are 0 and 1, odd is one after even


def copy(preparation: Preparation, num_sequences: int = 10_000, length: int = 32) -> Corpus:
    """Three letters, a delay, a mark, and the same three letters: ``b d a . . . . ? b d a``.

    Letters (four kinds) and the length of the delay, from 0 to what `length` allows, are uniform; the copy is given.
    Every symbol of the copy lies as far from its original as there are letters, dots and marks between.

    Raises:
        InputError: a `length` below 7.
    """
    most = length - 2 * COPY_LENGTH - 1
    if most < 0:
        raise InputError(f"length of a copy task is {length}; expected {2 * COPY_LENGTH + 1} or more")
    check_uncut(preparation, length, "copy")
    entropy = COPY_LENGTH * np.log(COPY_LETTERS) + np.log(most + 1)
    return known_corpus(
        _draw_copies(num_sequences, most, preparation.seed),
        lambda data: np.where(_are_copies(data, most), -entropy, -np.inf),
        preparation,
        name="copy",
        symbols="a b c d . ?",
        description="Three letters that come again after a delay.",
        entropy_rate=float(entropy / (2 * COPY_LENGTH + 1 + most / 2)),
        parameters={"max_delay": most, "letters": COPY_LENGTH},
    )


def _draw_copies(num_sequences: int, most: int, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    letters = rng.integers(COPY_LETTERS, size=(num_sequences, COPY_LENGTH))
    delays = rng.integers(most + 1, size=num_sequences)
    rows = [
        np.concatenate([word, np.full(delay, _WAIT), [_RECALL], word]).astype(np.uint8)
        for word, delay in zip(letters, delays, strict=True)
    ]
    return Sequences.from_list(rows)


def _are_copies(data: Sequences, most: int) -> NDArray[np.bool_]:
    def is_copy(row: NDArray[np.int64]) -> bool:
        word, delay = row[:COPY_LENGTH], len(row) - 2 * COPY_LENGTH - 1
        expected = np.concatenate([word, np.full(max(delay, 0), _WAIT), [_RECALL], word])
        return 0 <= delay <= most and bool((word < COPY_LETTERS).all()) and np.array_equal(row, expected)

    return np.array([is_copy(row) for row in data])


def parity(preparation: Preparation, num_sequences: int = 10_000, length: int = 24) -> Corpus:
    """Bits, a mark, and whether the number of ones was even or odd: ``1 0 1 1 = odd``.

    The number of bits is uniform from 1 to ``length - 2``, the bits are uniform, and the answer is given. It takes one
    bit of memory, changed at every 1: a single bit that was overlooked is as bad as all of them.

    Raises:
        InputError: a `length` below 3.
    """
    most = length - 2
    if most < 1:
        raise InputError(f"length of a parity task is {length}; expected 3 or more")
    check_uncut(preparation, length, "parity")
    return known_corpus(
        _draw_parities(num_sequences, most, preparation.seed),
        lambda data: _parity_log_prob(data, most),
        preparation,
        name="parity",
        symbols="0 1 = even odd",
        description="Bits, and whether the number of ones is even.",
        entropy_rate=float(((most + 1) / 2 * np.log(2) + np.log(most)) / ((most + 1) / 2 + 2)),
        parameters={"max_bits": most},
    )


def _draw_parities(num_sequences: int, most: int, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, size=num_sequences)
    bits = [rng.integers(2, size=size) for size in sizes]
    return Sequences.from_list([np.append(one, [_EQUALS, EVEN + one.sum() % 2]).astype(np.uint8) for one in bits])


def _parity_log_prob(data: Sequences, most: int) -> NDArray[np.float64]:
    log_prob = np.full(len(data), -np.inf)
    for i, row in enumerate(data):
        bits, rest = row[:-2].astype(np.int64), row[-2:].tolist()
        if 1 <= len(bits) <= most and (bits < _EQUALS).all() and rest == [_EQUALS, EVEN + bits.sum() % 2]:
            log_prob[i] = -len(bits) * np.log(2) - np.log(most)
    return log_prob
