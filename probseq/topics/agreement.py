"""Which topics every restart finds, and which are luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from probseq.errors import InputError, check_whole
from probseq.ops.alignment import match
from probseq.topics.words import empty_topics, top_words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME = 0.5
"""The share of the top words in common from which two topics are called the same."""

_FEW = 5  # of so many words of the vocabulary one at most is a top word


@dataclass(frozen=True)
class TopicAgreement:
    """The topics of all restarts beside those of one of them.

    Attributes:
        restart: the restart whose topics the others are held against.
        permutations: ``(R, K)``: which topic of each restart stands in the place of each topic of that one.
        cosine: ``(R, K)``: the cosine of the two distributions of words.
        overlap: ``(R, K)``: the share of the top words, by relevance, that the two have in common; 0 where one of them
            is empty (see `probseq.topics.words.empty_topics`).
        num_words: how many top words.
        chance: the overlap of unrelated topics, in whole words on average.
    """

    restart: int
    permutations: Ints
    cosine: Floats
    overlap: Floats
    num_words: int
    chance: float

    @property
    def num_others(self) -> int:
        """R - 1."""
        return len(self.overlap) - 1

    @property
    def found(self) -> Ints:
        """``(K,)``: in how many of the other restarts a topic is there again: half of its top words, or more.

        Words that unrelated topics have in common do not count. Of fewer than 30 words in all it says little.
        """
        beyond = (self.overlap - self.chance) / (1 - self.chance)
        return np.asarray((np.delete(beyond, self.restart, axis=0) >= SAME - 1e-9).sum(axis=0))

    @property
    def mean_overlap(self) -> Floats:
        """``(K,)``: the overlap on average over the other restarts; NaN where there is none."""
        if not self.num_others:
            return np.full(self.overlap.shape[1], np.nan)
        return np.asarray(np.delete(self.overlap, self.restart, axis=0).mean(axis=0))


def topic_agreement(
    model: Any, restart: int = 0, num_words: int = 20, shares: ArrayLike | None = None, without: Sequence[int] = ()
) -> TopicAgreement:
    r"""Align the topics of all restarts with those of one, and say how far each is there again.

    The topics of a restart are given the places in which they resemble most: the permutation with the smallest sum of
    Hellinger distances :math:`1 - \sum_v \sqrt{p_v q_v}` (Hungarian method).

    Args:
        model: R restarts of a model with topics, such as `probseq.LDA`.
        restart: the one that is read.
        num_words: top words by relevance, whose overlap is counted; a fifth of all words, where those are fewer.
        shares: ``(R, K)`` the share of each topic among all words, for relevance. Default: those of alpha.
        without: ids that are not ranked; see `top_words`.

    Raises:
        InputError: a model without topics, no such restart, fewer than one word, shares that do not fit.
    """
    if not hasattr(model, "topics"):
        raise InputError(f"received a {type(model).__name__}, which has no topics; expected an LDA")
    model.check_restart(restart)
    num_words = min(check_whole("num_words", num_words), max(1, model.num_symbols // _FEW))
    probs = model.topics.detach().double().cpu()  # (R, K, V)
    common = np.asarray(model.alpha.detach().double().cpu() if shares is None else shares)
    if len(common) != len(probs):
        raise InputError(f"shares have shape {common.shape}; expected {len(probs)} rows, one for each restart")
    roots = probs.sqrt()
    order = match(1 - torch.einsum("kv,rjv->rkj", roots[restart], roots)).numpy()
    places = np.arange(len(probs))[:, None]
    unit = probs / probs.norm(dim=-1, keepdim=True)
    cosine = torch.einsum("kv,rkv->rk", unit[restart], unit[places, order]).numpy()
    ranked = [top_words(t, num_words, shares=s, without=without) for t, s in zip(probs.numpy(), common, strict=True)]
    words = np.array(ranked)[places, order]
    overlap = np.array([[len(np.intersect1d(a, b)) for a, b in zip(words[restart], one, strict=True)] for one in words])
    empty = empty_topics(probs.numpy())
    overlap[empty[restart] | empty[places, order]] = 0
    chance = round(num_words**2 / max(model.num_symbols, 2)) / num_words
    return TopicAgreement(restart, order, cosine, overlap / num_words, num_words, chance)
