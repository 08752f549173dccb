"""Generated languages that need memory: balanced brackets, and number agreement over a distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probseq.data.corpus import Corpus
from probseq.data.generated import check_uncut, known_corpus
from probseq.data.preparation import Preparation
from probseq.data.sequences import Sequences
from probseq.errors import InputError

_MAX_DEPTH = 4
_BRACKETS = "( [ ) ]"  # opening brackets first: kind k opens with id k and closes with id 2 + k
BRACKET_KINDS = 2

_NOUNS = ("dog", "cat", "bird", "child")
_VERBS = ("sleeps", "runs", "waits", "sings")
_PREPOSITIONS = ("near", "behind", "beside")
_MORE = 0.6  # probability of another phrase between subject and verb, while the sentence may still grow
# First ids; the plural of a noun or verb is one after its singular.
_THE, _NOUN, FIRST_VERB, FIRST_PREPOSITION = 0, 1, 9, 17
_WORDS = " ".join(
    ["the", *(f"{one} {one}s" for one in ("dog", "cat", "bird")), "child children"]
    + [f"{one} {one[:-1]}" for one in _VERBS]
    + list(_PREPOSITIONS)
)


def brackets(preparation: Preparation, num_sequences: int = 10_000, length: int = 32) -> Corpus:
    """Balanced brackets of two kinds, nested at most four deep, every sequence exactly `length` long.

    At each place an opening bracket is possible if the depth and the places left allow it, a closing one if something
    is open. If both are possible each has probability 1/2; the kind of an opening bracket has probability 1/2; the
    kind of a closing one is given. The entropy of a sequence is a sum over places and depths, and exact.

    Raises:
        InputError: an odd `length`, or one below 2.
    """
    if length < 2 or length % 2:
        raise InputError(f"length of balanced brackets is {length}; expected an even number, 2 or more")
    check_uncut(preparation, length, "brackets")
    return known_corpus(
        _draw_brackets(num_sequences, length, preparation.seed),
        lambda data: _bracket_log_prob(data, length),
        preparation,
        name="brackets",
        symbols=_BRACKETS,
        description=f"Balanced brackets of two kinds, nested at most {_MAX_DEPTH} deep.",
        entropy_rate=_bracket_entropy(length) / length,
        parameters={"max_depth": _MAX_DEPTH, "length": length},
    )


def _open_prob(depth: NDArray[np.int64], left: int) -> NDArray[np.float64]:
    """The probability that the next of `left` brackets opens, at each depth."""
    can_open = (depth < _MAX_DEPTH) & (depth + 1 <= left - 1)
    return np.where(can_open, np.where(depth > 0, 0.5, 1.0), 0.0)


def _draw_brackets(num_sequences: int, length: int, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    rows = np.arange(num_sequences)
    stack = np.zeros((num_sequences, _MAX_DEPTH + 1), dtype=np.int64)
    depth = np.zeros(num_sequences, dtype=np.int64)
    symbols = np.empty((num_sequences, length), dtype=np.uint8)
    for t in range(length):
        opens = rng.random(num_sequences) < _open_prob(depth, length - t)
        kind = np.where(opens, rng.integers(BRACKET_KINDS, size=num_sequences), stack[rows, depth])
        symbols[:, t] = np.where(opens, kind, BRACKET_KINDS + kind)
        depth += np.where(opens, 1, -1)
        stack[rows[opens], depth[opens]] = kind[opens]
    return Sequences.from_list(symbols)


def _bracket_log_prob(data: Sequences, length: int) -> NDArray[np.float64]:
    fits = data.lengths == length
    log_prob = np.where(fits, 0.0, -np.inf)
    if not fits.any():
        return log_prob
    symbols = np.asarray(data.values[data.offsets[:-1][fits][:, None] + np.arange(length)], dtype=np.int64)
    rows = np.arange(len(symbols))
    stack = np.zeros((len(symbols), _MAX_DEPTH + 2), dtype=np.int64)
    depth = np.zeros(len(symbols), dtype=np.int64)
    total = np.zeros(len(symbols))
    for t in range(length):
        opens = symbols[:, t] < BRACKET_KINDS
        prob = _open_prob(depth, length - t)
        matches = stack[rows, depth] == symbols[:, t] - BRACKET_KINDS
        step = np.where(opens, prob / BRACKET_KINDS, (1 - prob) * matches * (depth > 0))
        with np.errstate(divide="ignore"):
            total += np.log(step)
        depth = np.clip(depth + np.where(opens, 1, -1), 0, _MAX_DEPTH + 1)  # impossible ones only have to stay in range
        stack[rows[opens], depth[opens]] = symbols[opens, t]
    log_prob[fits] = total
    return log_prob


def _bracket_entropy(length: int) -> float:
    """``sum_t sum_d p(depth_t = d) H(next | d, t)`` in nats."""
    depths = np.arange(_MAX_DEPTH + 1)
    at_depth = (depths == 0).astype(np.float64)
    entropy = 0.0
    for t in range(length):
        prob = _open_prob(depths, length - t)
        choice = np.where((prob > 0) & (prob < 1), np.log(2), 0.0)
        entropy += float(at_depth @ (choice + prob * np.log(BRACKET_KINDS)))
        up, down = at_depth * prob, at_depth * (1 - prob)
        at_depth = np.append(0.0, up[:-1]) + np.append(down[1:], 0.0)
    return entropy


def agreement(preparation: Preparation, num_sequences: int = 10_000, length: int = 18) -> Corpus:
    """Sentences such as ``the dogs near the child behind the cat sleep``: the verb agrees with the first noun.

    After each noun, another phrase (preposition, the, noun) follows with probability 0.6 while at most `length` tokens
    allow it, else the verb, which ends the sentence. Nouns (four), their numbers, prepositions (three) and verbs (four)
    are uniform; only the verb's number is given. So everything that costs bits is drawn in the open, and a model that
    remembers the subject's number over the distance saves exactly ``log 2`` nats a sentence.

    Raises:
        InputError: a `length` below 3.
    """
    if length < 3:
        raise InputError(f"length of an agreement sentence is {length}; expected 3 tokens or more")
    most = (length - 3) // 3
    check_uncut(preparation, 3 + 3 * most, "agreement")
    shares = np.array([_MORE**k * (1 - _MORE if k < most else 1) for k in range(most + 1)])  # of k phrases
    log_probs = np.array([_sentence_log_prob(k, most) for k in range(most + 1)])
    mean_length = float(shares @ (3 + 3 * np.arange(most + 1)))
    return known_corpus(
        _draw_sentences(num_sequences, shares, preparation.seed),
        lambda data: _agreement_log_prob(data, log_probs),
        preparation,
        name="agreement",
        symbols=_WORDS,
        description="Sentences whose verb agrees in number with a subject up to several phrases before it.",
        entropy_rate=-float(shares @ log_probs) / mean_length,
        parameters={"more": _MORE, "max_phrases": most, "mean_length": mean_length},
    )


def _sentence_log_prob(phrases: int, most: int) -> float:
    """``log p`` of any grammatical sentence with that many phrases; it does not depend on the words."""
    noun = -np.log(2 * len(_NOUNS))
    growth = phrases * np.log(_MORE) + (np.log(1 - _MORE) if phrases < most else 0.0)
    return float(growth + (phrases + 1) * noun - phrases * np.log(len(_PREPOSITIONS)) - np.log(len(_VERBS)))


def _draw_sentences(num_sequences: int, shares: NDArray[np.float64], seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    most = len(shares) - 1
    phrases = (rng.random(num_sequences)[:, None] >= shares.cumsum()[:-1]).sum(axis=1)
    nouns = rng.integers(2 * len(_NOUNS), size=(num_sequences, most + 1))
    tokens = np.empty((num_sequences, most + 1, 3), dtype=np.uint8)  # (preposition, the, noun) for subject and phrases
    tokens[:, :, 0] = FIRST_PREPOSITION + rng.integers(len(_PREPOSITIONS), size=(num_sequences, most + 1))
    tokens[:, :, 1] = _THE
    tokens[:, :, 2] = _NOUN + nouns
    verbs = FIRST_VERB + 2 * rng.integers(len(_VERBS), size=num_sequences) + nouns[:, 0] % 2
    flat = np.concatenate([tokens.reshape(num_sequences, -1)[:, 1:], np.zeros((num_sequences, 1), np.uint8)], axis=1)
    lengths = 3 + 3 * phrases
    flat[np.arange(num_sequences), lengths - 1] = verbs
    return Sequences(flat[np.arange(flat.shape[1]) < lengths[:, None]], np.cumsum([0, *lengths]))


def _agreement_log_prob(data: Sequences, log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    log_prob = np.full(len(data), -np.inf)
    for phrases, value in enumerate(log_probs):
        rows = np.flatnonzero(data.lengths == 3 + 3 * phrases)
        if len(rows) == 0:
            continue
        symbols = np.asarray(data.values[data.offsets[rows][:, None] + np.arange(3 + 3 * phrases)], dtype=np.int64)
        the, noun, third = symbols[:, 0::3], symbols[:, 1::3], symbols[:, 2::3]
        verb = third[:, -1]
        fits = (the == _THE).all(axis=1) & ((noun >= _NOUN) & (noun < FIRST_VERB)).all(axis=1)
        fits &= (third[:, :-1] >= FIRST_PREPOSITION).all(axis=1) & (verb >= FIRST_VERB) & (verb < FIRST_PREPOSITION)
        fits &= (verb - FIRST_VERB) % 2 == (noun[:, 0] - _NOUN) % 2
        log_prob[rows[fits]] = value
    return log_prob
