"""Pairs drawn from a known transducer: a hidden Markov chain of positions in the source, and a table of spellings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probseq.data.corpus import Corpus
from probseq.data.preparation import Preparation
from probseq.data.sequences import Sequences
from probseq.data.transductions import pairs_corpus
from probseq.data.vocabulary import END, Vocabulary

Array = NDArray[np.float64]

NUM_CLASSES = 3  # letters of the source come in turns from three classes, so that neighbors share no target symbol
_LETTERS, _SYMBOLS = 3, 4  # of each class, in the source and in the target
_SPELLING = (0.6, 0.25, 0.1, 0.05)
JUMPS = (0.2, 0.6, 0.2)
"""Odds to stay at a source position, to go to the next one, and to skip one."""


def emission() -> Array:
    """``(10, 13)``: ``p(y | source letter)``. The last row and column are those of ``<end>``."""
    num_letters, num_symbols = NUM_CLASSES * _LETTERS, NUM_CLASSES * _SYMBOLS
    table = np.zeros((num_letters + 1, num_symbols + 1))
    for letter in range(num_letters):
        kind, shift = divmod(letter, _LETTERS)
        table[letter, kind * _SYMBOLS : (kind + 1) * _SYMBOLS] = np.roll(_SPELLING, shift)
    table[-1, -1] = 1.0
    return table


def jump_probs(length: int) -> Array:
    """``(S + 1, S)``: where to go from before the first of S positions (row 0), and from each of them.

    The odds are `JUMPS`, of the jumps that stay inside; at the last position, which is ``<end>``, nothing follows.
    """
    begin, end = np.arange(-1, length)[:, None], np.arange(length)
    step = end - begin
    odds = np.where((step >= 0) & (step < len(JUMPS)), np.array(JUMPS)[np.clip(step, 0, len(JUMPS) - 1)], 0.0)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def transducer(preparation: Preparation, num_sequences: int = 10_000, length: int = 8) -> Corpus:
    """A transliteration by a known hidden Markov chain, with the entropy of a target given its source in closed form.

    A source has 1 to `length` letters and ``<end>``. The state is a position in it: the chain begins before the source
    and at every step stays, goes to the next position or skips one, at odds `JUMPS` among what is inside. Each state
    emits a symbol by the table of its letter; ``<end>`` emits ``<end>``, and the target is over::

        p(y | x) = sum_s prod_t J(s_t - s_{t-1}) / Z(s_{t-1}) p(y_t | x_{s_t})

    The letters of a source come in turns from three classes, whose tables share no symbol. So no two positions within
    reach emit the same one, and once a target is seen its path is known, though a model has to find out. Therefore
    ``H(y | x) = H(y, s | x)``, a sum over positions of expected visits times the entropies of letter and jump.
    """
    rng = np.random.default_rng(preparation.seed)
    letters, symbols = "abcdefghi", "ABCDEFGHIJKL"
    entropy, tokens = np.mean([_entropy_and_length(size) for size in range(1, length + 1)], axis=0)
    return pairs_corpus(
        _draw_targets(rng, _draw_sources(rng, num_sequences, length)),
        transducer_log_prob,
        preparation,
        name="transducer",
        description="A transliteration by a known HMM transducer.",
        vocabulary=Vocabulary((*symbols, END), "symbol"),
        sources=Vocabulary((*letters, END), "symbol"),
        entropy_rate=float(entropy / tokens),
        parameters={"emission": emission(), "jumps": np.array(JUMPS)},
    )


def _draw_sources(rng: np.random.Generator, num_sequences: int, length: int) -> Sequences:
    rows = []
    for size in rng.integers(1, length + 1, size=num_sequences).tolist():
        kinds = (rng.integers(NUM_CLASSES) + np.arange(size)) % NUM_CLASSES
        rows.append(np.append(kinds * _LETTERS + rng.integers(_LETTERS, size=size), NUM_CLASSES * _LETTERS))
    return Sequences.from_list(rows)


def _draw_targets(rng: np.random.Generator, sources: Sequences) -> Sequences:
    """A target for each source; the position moves until it is the last one."""
    spelling = emission().cumsum(axis=1)
    moves = {size: jump_probs(size).cumsum(axis=1) for size in set(sources.lengths.tolist())}
    targets = []
    for source in sources:
        move, position, target = moves[len(source)], -1, []
        while position < len(source) - 1:
            jump, letter = rng.random(2)
            position = int((move[position + 1, :-1] <= jump).sum())
            target.append(int((spelling[source[position], :-1] <= letter).sum()))
        targets.append(target)
    return Sequences.from_list(targets, source=sources)


def transducer_log_prob(data: Sequences) -> Array:
    """``(N,)``: ``log p(y | x)`` of each target given its source, by the scaled forward recursion over positions."""
    assert data.source is not None  # these data are pairs
    table, moves = emission(), {size: jump_probs(size) for size in set(data.source.lengths.tolist())}
    pairs = zip(data.source, data, strict=True)
    return np.array([_log_prob(moves[len(x)], table[x][:, y]) for x, y in pairs])


def _log_prob(moves: Array, likelihood: Array) -> float:
    """Of one target, with ``(S, T)`` likelihoods."""
    likelihood[:-1, -1] = 0.0  # a target that does not end at the last position is none
    predicted, total = moves[0], 0.0
    for column in likelihood.T:
        joint = predicted * column
        scale = joint.sum()
        if scale == 0:
            return -np.inf
        total += np.log(scale)
        predicted = joint[:-1] / scale @ moves[1:-1]
    return float(total)


def _entropy_and_length(size: int) -> tuple[float, float]:
    """Of targets of a source of `size` letters: the entropy in nats, and the expected number of tokens."""
    probs = jump_probs(size + 1)
    inner = probs[1:-1, :-1]  # from letter to letter
    visits = np.linalg.solve((np.eye(size) - inner).T, probs[0, :-1])
    jumps = np.array([_entropy(row) for row in probs[:-1]])
    return jumps[0] + float(visits @ (jumps[1:] + _entropy(np.array(_SPELLING)))), float(visits.sum()) + 1


def _entropy(probs: Array) -> float:
    return -float((probs[probs > 0] * np.log(probs[probs > 0])).sum())
