"""Topics, ragged documents drawn from them, and what their probability is by enumeration."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from probseq.ops import topics
from probseq.ops.topic_likelihood import exact_token_log_prob


class Case(NamedTuple):
    topics: torch.Tensor  # (R, K, V)
    alpha: torch.Tensor  # (R, K)
    values: torch.Tensor  # (N, T)
    observed: torch.Tensor  # (N, T)

    @property
    def documents(self):
        return topics.documents(self.values, self.observed, self.topics.shape[2])

    @property
    def weight(self):
        return self.topics.transpose(1, 2).contiguous()

    @property
    def exact(self):
        return exact_token_log_prob(self.values, self.observed, self.topics, self.alpha).sum(dim=-1)


def draw_case(seed=0, restarts=2, num_topics=3, num_words=6, num=5, length=12, alpha=0.5, gaps=True):
    """Random topics, ragged documents drawn from them, and some words that were not observed."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(num_words, 0.3), (restarts, num_topics))
    prior = alpha * rng.uniform(0.5, 1.5, (restarts, num_topics))
    theta = rng.dirichlet(prior[0], num)
    values = np.array(
        [[rng.choice(num_words, p=row @ table[0] / (row @ table[0]).sum()) for _ in range(length)] for row in theta]
    )
    observed = np.arange(length) < rng.integers(1, length + 1, num)[:, None]
    if gaps:
        observed[:, 1:] &= rng.random((num, length - 1)) < 0.9
    return Case(*(torch.from_numpy(x) for x in (table, prior, values, observed)))


@st.composite
def cases(draw):
    return draw_case(
        draw(st.integers(0, 2**16)),
        num_topics=draw(st.integers(1, 3)),
        num_words=draw(st.integers(2, 5)),
        num=draw(st.integers(1, 4)),
        length=draw(st.integers(1, 6)),
        alpha=draw(st.sampled_from([0.05, 0.5, 3.0])),
    )


def enumerated(case, r, i):
    """log p(x): the sum over the topic of every word."""
    words, alpha = case.values[i][case.observed[i]].tolist(), case.alpha[r].tolist()
    total = 0.0
    for z in itertools.product(range(len(alpha)), repeat=len(words)):
        p, counts = 1.0, list(alpha)
        for k, word in zip(z, words, strict=True):
            p *= counts[k] / sum(counts) * case.topics[r, k, word].item()
            counts[k] += 1
        total += p
    return math.log(total)
