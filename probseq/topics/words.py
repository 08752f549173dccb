"""The words that say what a topic is about: by probability, by relevance, or by FREX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.errors import InputError, unknown

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEASURES = {"probability": 1.0, "relevance": 0.3, "frex": 0.5}
"""Ways to rank the words of a topic, and the weight that each has if none is given."""

_NOTHING = 1e-3  # nats between a topic and words that are all alike, where no word has gone to it
_SMALLEST = 1e-300  # what stands for a word that a topic never uses


def word_scores(
    topics: ArrayLike, by: str = "relevance", weight: float | None = None, shares: ArrayLike | None = None
) -> Floats:
    r"""How well each word stands for each topic; larger is better.

    With topics :math:`\phi`, shares :math:`\pi` and the overall frequency :math:`p(v) = \sum_k \pi_k \phi_{kv}`:

    - ``probability``: :math:`\phi_{kv}`. Words that are common in all topics come first.
    - ``relevance``: :math:`\lambda \log \phi_{kv} + (1 - \lambda) \log \left(\phi_{kv} / p(v)\right)`; at
      :math:`\lambda = 1` this is the probability, at 0 the lift, which rare words lead.
    - ``frex``: the harmonic mean of how frequent and how exclusive a word is, each as a share of the topic's words that
      are not above it: :math:`1 / \left(w / F_k(e_{kv}) + (1 - w) / F_k(\phi_{kv})\right)` with
      :math:`e_{kv} = \phi_{kv} / \sum_j \phi_{jv}` and the empirical distribution functions :math:`F_k`.

    Args:
        topics: ``(K, V)``, rows of probabilities.
        by: ``"probability"``, ``"relevance"`` or ``"frex"``.
        weight: :math:`\lambda` of relevance (0.3), or w of FREX (0.5): between 0 and 1.
        shares: ``(K,)`` the share of each topic among all words; only relevance asks. Default: all alike.

    Returns:
        ``(K, V)``.

    Raises:
        InputError: an unknown measure, a weight outside 0 to 1, topics or shares of a wrong shape.

    Reference:
        C. Sievert, K. Shirley (2014), "LDAvis: a method for visualizing and interpreting topics"; J. M. Bischof, E. M.
        Airoldi (2012), "Summarizing topical content with word frequency and exclusivity".

    Example:
        >>> topics = [[0.6, 0.4, 0.0], [0.6, 0.0, 0.4]]
        >>> word_scores(topics, "probability").argmax(axis=1).tolist(), word_scores(topics).argmax(axis=1).tolist()
        ([0, 0], [1, 2])
    """
    if by not in MEASURES:
        raise unknown("measure of words", by, MEASURES)
    probs = check_topics(topics)
    weight = MEASURES[by] if weight is None else weight
    if not 0 <= weight <= 1:
        raise InputError(f"weight is {weight}; expected a number from 0 to 1")
    if by == "probability":
        return probs
    if by == "frex":
        exclusive = probs / np.maximum(probs.sum(axis=0), _SMALLEST)
        return np.asarray(1 / (weight / _share_below(exclusive) + (1 - weight) / _share_below(probs)))
    overall = np.log(np.maximum(check_shares(shares, len(probs)) @ probs, _SMALLEST))
    return np.asarray(np.log(np.maximum(probs, _SMALLEST)) - (1 - weight) * overall)


def top_words(
    topics: ArrayLike,
    num_words: int = 10,
    by: str = "relevance",
    weight: float | None = None,
    shares: ArrayLike | None = None,
    without: Sequence[int] = (),
) -> Ints:
    """``(K, n)``: the ids of the n words that stand best for each topic, the best first; of equals the lower id.

    Args:
        topics, by, weight, shares: as for `word_scores`.
        num_words: n; all words where there are fewer.
        without: ids that are not ranked, such as that of ``<unk>``, which is many words.

    Raises:
        InputError: fewer than one word, or as for `word_scores`.
    """
    if num_words < 1:
        raise InputError(f"num_words is {num_words}; expected 1 or more")
    scores = word_scores(topics, by, weight, shares)
    kept = np.setdiff1d(np.arange(scores.shape[1]), without)
    return np.asarray(kept[np.argsort(-scores[:, kept], axis=1, kind="stable")[:, :num_words]])


def empty_topics(topics: ArrayLike) -> NDArray[np.bool_]:
    """``(..., K)``: the topics that no word has gone to, and that are still what the prior says: every word alike.

    Their words, and that other restarts have such topics too, say nothing. Where all are like that, none is left out.

    Args:
        topics: ``(..., K, V)``, rows of probabilities.

    Example:
        >>> empty_topics([[0.9, 0.1, 0.0], [1 / 3, 1 / 3, 1 / 3]]).tolist()
        [False, True]
    """
    probs = np.asarray(topics, dtype=np.float64)
    logs = np.log(probs * probs.shape[-1], out=np.zeros_like(probs), where=probs > 0)
    empty = (probs * logs).sum(axis=-1) < _NOTHING
    return np.asarray(empty & ~empty.all(axis=-1, keepdims=True))


def check_topics(topics: ArrayLike) -> Floats:
    """Topics as an array ``(K, V)``.

    Raises:
        InputError: another shape, or rows that are no distributions.
    """
    probs = np.asarray(topics, dtype=np.float64)
    if probs.ndim != 2 or not (probs >= 0).all() or not np.allclose(probs.sum(axis=1), 1, atol=1e-6):
        raise InputError(
            f"topics have shape {probs.shape}; expected (K, V) of one restart: rows of probabilities that sum to 1"
        )
    return probs


def check_shares(shares: ArrayLike | None, num_topics: int) -> Floats:
    """Shares as an array ``(K,)`` that sums to 1; all alike where there are none.

    Raises:
        InputError: another number of them, negative ones, or a sum of 0.
    """
    if shares is None:
        return np.full(num_topics, 1 / num_topics)
    given = np.asarray(shares, dtype=np.float64)
    if given.shape != (num_topics,) or not (given >= 0).all() or not 0 < given.sum() < np.inf:
        raise InputError(
            f"shares have shape {given.shape}; expected {num_topics} numbers, 0 or more, with a sum above 0"
        )
    return np.asarray(given / given.sum())


def _share_below(values: Floats) -> Floats:
    """For every entry of a row, the share of the row that is not larger."""
    ordered = np.sort(values, axis=1)
    ranks = [np.searchsorted(line, row, side="right") for line, row in zip(ordered, values, strict=True)]
    return np.asarray(np.array(ranks) / values.shape[1])
