"""Which topics every restart finds, and which are luck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.errors import InputError, check_whole
from probseq.ops.alignment import match
from probseq.topics.words import top_words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME = 0.5
"""The share of the top words in common from which two topics are called the same."""


@dataclass(frozen=True)
class TopicAgreement:
    """The topics of all restarts beside those of one of them.

    Attributes:
        restart: the restart whose topics the others are held against.
        permutations: ``(R, K)``: which topic of each restart stands in the place of each topic of that one.
        cosine: ``(R, K)``: the cosine of the two distributions of words.
        overlap: ``(R, K)``: the share of the top words, by relevance, that the two have in common.
        num_words: how many top words.
    """

    restart: int
    permutations: Ints
    cosine: Floats
    overlap: Floats
    num_words: int

    @property
    def num_others(self) -> int:
        """R - 1."""
        return len(self.overlap) - 1

    @property
    def found(self) -> Ints:
        """``(K,)``: in how many of the other restarts a topic is there again: half of its top words, or more."""
        return np.asarray((np.delete(self.overlap, self.restart, axis=0) >= SAME).sum(axis=0))

    @property
    def mean_overlap(self) -> Floats:
        """``(K,)``: the overlap on average over the other restarts; NaN where there is none."""
        if not self.num_others:
            return np.full(self.overlap.shape[1], np.nan)
        return np.asarray(np.delete(self.overlap, self.restart, axis=0).mean(axis=0))


def topic_agreement(model: Any, restart: int = 0, num_words: int = 20) -> TopicAgreement:
    r"""Align the topics of all restarts with those of one, and say how far each is there again.

    The topics of a restart are given the places in which they resemble most: the permutation with the smallest sum of
    Hellinger distances :math:`1 - \sum_v \sqrt{p_v q_v}` (Hungarian method).

    Args:
        model: R restarts of a model with topics, such as `probseq.LDA`.
        restart: the one that is read.
        num_words: top words by relevance, whose overlap is counted.

    Raises:
        InputError: a model without topics, no such restart, fewer than one word.
    """
    if not hasattr(model, "topics"):
        raise InputError(f"received a {type(model).__name__}, which has no topics; expected an LDA")
    model.check_restart(restart)
    check_whole("num_words", num_words)
    probs = model.topics.detach().double().cpu()  # (R, K, V)
    shares = (model.alpha / model.alpha.sum(dim=-1, keepdim=True)).detach().double().cpu().numpy()
    roots = probs.sqrt()
    order = match(1 - torch.einsum("kv,rjv->rkj", roots[restart], roots)).numpy()
    places = np.arange(len(probs))[:, None]
    unit = probs / probs.norm(dim=-1, keepdim=True)
    cosine = torch.einsum("kv,rkv->rk", unit[restart], unit[places, order]).numpy()
    words = np.array([top_words(t, num_words, shares=s) for t, s in zip(probs.numpy(), shares, strict=True)])[
        places, order
    ]
    overlap = np.array([[len(np.intersect1d(a, b)) for a, b in zip(words[restart], one, strict=True)] for one in words])
    return TopicAgreement(restart, order, cosine, overlap / words.shape[-1], words.shape[-1])
