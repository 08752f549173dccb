r"""Variational inference where a Markov chain of classes decides whether a word comes from the document's topics.

Class 0 emits from the topics, the others from distributions of their own. With a document's topic probabilities held at
:math:`\bar\theta_k = \exp E[\log \theta_k]` under :math:`\text{Dirichlet}(\gamma)`, class 0 emits word w with
:math:`\sum_k \bar\theta_k B_{kw}`, and the document is a hidden Markov chain, in which inference is exact. So a step is
a pass of that chain, and then, with :math:`n_w` the expected number of times that word w came from class 0,

.. math::
    \gamma_k \leftarrow \alpha_k + \bar\theta_k \sum_w n_w \frac{B_{kw}}{\sum_j \bar\theta_j B_{jw}}

The bound of a document is the chain's log-likelihood minus the divergence of its posterior from its prior. No step
lowers it.

Reference:
    T. L. Griffiths, M. Steyvers, D. M. Blei, J. B. Tenenbaum (2004), "Integrating topics and syntax".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.ops import chain
from probseq.ops.divergences import dirichlet_divergence
from probseq.ops.topics import log_dirichlet

_CELLS = 2**23  # numbers in the largest tensor of one pass over documents


class Tables(NamedTuple):
    """What words come from, for one restart: probabilities, or ``exp E[log p]`` where they are uncertain."""

    words: Float[Tensor, "J V"]  # topics first, then the classes but 0
    initial: Float[Tensor, "C"]
    transition: Float[Tensor, "C C"]
    alpha: Float[Tensor, "K"]


class Posterior(NamedTuple):
    """What `infer` finds in N documents; all but the first two are sums, which add up over documents."""

    gamma: Float[Tensor, "N K"]
    bound: Float[Tensor, "N"]  # a lower bound on log p(x), in nats
    words: Float[Tensor, "J V"]  # expected number of times that each word came from each topic or class, weighted
    initial: Float[Tensor, "C"]  # ... that a document began in each class
    transition: Float[Tensor, "C C"]  # ... that each class followed each


def infer(
    values: Int[Tensor, "N T"],
    lengths: Int[Tensor, "N"],
    tables: Tables,
    gamma: Float[Tensor, "N K"],
    weights: Float[Tensor, "N"],
    num_steps: int,
) -> Posterior:
    """Coordinate ascent in every document, some documents at a time.

    Args:
        values: words; what follows the end of a document may be anything.
        lengths: of the documents.
        tables: what words come from.
        gamma: where to begin.
        weights: how often each document counts in the sums.
        num_steps: steps of each document's posterior.
    """
    size = max(1, _CELLS // (len(tables.words) * values.shape[1]))
    batches = zip(*(torch.split(part, size) for part in (values, lengths, gamma, weights)), strict=True)
    fields = list(zip(*(_infer(x, n, g, w, tables, num_steps) for x, n, g, w in batches), strict=True))
    return Posterior(*map(torch.cat, fields[:2]), *(torch.stack(field).sum(dim=0) for field in fields[2:]))


def _infer(
    values: Tensor, lengths: Tensor, gamma: Tensor, weights: Tensor, tables: Tables, num_steps: int
) -> Posterior:
    document, word, index = _pairs(values, lengths, tables.words.shape[1])
    rows, size, alpha = tables.words.T[word], tables.alpha.shape[0], tables.alpha  # (P, J)
    for step in range(num_steps + 1):
        last = step == num_steps
        theta = log_dirichlet(gamma[None])[0][0].exp()  # (N, K)
        prob = torch.einsum("pk,pk->p", theta[document], rows[:, :size])
        potentials = chain.Potentials(
            tables.initial[None, None],
            tables.transition[None, None],
            torch.cat([prob[:, None], rows[:, size:]], dim=1).log()[None],
            index,
            lengths,
        )
        found = chain.expected_counts(potentials, weights if last else torch.ones_like(weights))
        ratio = torch.where(prob > 0, found.emission[0, :, 0] / prob, 0.0)
        if not last:
            counts = torch.zeros_like(gamma).index_add_(0, document, rows[:, :size] * ratio[:, None])
            gamma = alpha + theta * counts
    shares = torch.cat([theta[document] * rows[:, :size] * ratio[:, None], found.emission[0, :, 1:]], dim=1)
    words = torch.zeros_like(tables.words.T).index_add_(0, word, shares).T
    bound = found.log_likelihood[0] - dirichlet_divergence(gamma, alpha)
    return Posterior(gamma, bound, words, found.initial[0, 0], found.transition[0, 0])


def _pairs(values: Tensor, lengths: Tensor, num_words: int) -> tuple[Tensor, Tensor, Tensor]:
    """Document and word of each distinct pair, and the pair of every token."""
    mask = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
    rows = torch.arange(len(values), device=values.device)[:, None]
    codes, inverse = torch.unique((rows * num_words + values)[mask], return_inverse=True)
    index = torch.zeros_like(values)
    index[mask] = inverse
    return codes // num_words, codes % num_words, index
