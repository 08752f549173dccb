r"""Distributions over symbols that are products of two factors: what a state says and what the past says.

With scores :math:`a_k(v)` of K states and :math:`b_t(v)` of T steps,

.. math::
    p_t(v \mid k) = \frac{e^{a_k(v) + b_t(v)}}{z_t(k)}, \qquad z_t(k) = \sum_v e^{b_t(v)} \, e^{a_k(v)},

so that all T K normalizers are one product of matrices, and nothing of size (T, K, V) is ever built. Scores are
bounded: what is more than 30 nats below the largest counts as 30 below. So no sum of theirs can vanish, in single
precision either.

Reference:
    G. E. Hinton (2002), "Training products of experts by minimizing contrastive divergence".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

BOUND = 30.0


def in_full(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Single precision for what a network computed in half of it: sums of probabilities need more digits."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def bounded(scores: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
    """Scores with a largest of 0, and none below -30."""
    scores = in_full(scores)
    return (scores - scores.amax(dim=-1, keepdim=True)).clamp(min=-BOUND)


def log_prob(
    of_states: Float[Tensor, "C #N K V"], of_past: Float[Tensor, "C #N #T V"], values: Int[Tensor, "N T"]
) -> Float[Tensor, "C N T K"]:
    """``log p_t(y_t | k)`` in nats.

    Args:
        of_states: scores of every state, for all sequences or for each.
        of_past: scores of every step, or the same for all steps.
        values: the symbols y.
    """
    a, b = bounded(of_states), bounded(of_past)
    own = F.one_hot(values, a.shape[-1]).to(a)  # (N, T, V); products pick entries, and their adjoint needs no scatter
    with torch.autocast(a.device.type, enabled=False):
        return _product(own[None], a.mT) + (own * b).sum(dim=-1, keepdim=True) - _log_normalizers(a, b)


def predictive(
    of_states: Float[Tensor, "C #N K V"], of_past: Float[Tensor, "C #N T V"], log_belief: Float[Tensor, "C N T K"]
) -> Float[Tensor, "C N T V"]:
    """``log sum_k p(k) p_t(v | k)`` in nats for every symbol v, with the logarithms of p(k)."""
    a, b = bounded(of_states), bounded(of_past)
    weights = log_belief - _log_normalizers(a, b)
    top = weights.amax(dim=-1, keepdim=True)
    top = top.masked_fill(top.isneginf(), 0.0)
    return _product((weights - top).exp(), a.exp()).log() + top + b


def _log_normalizers(a: Float[Tensor, "C #N K V"], b: Float[Tensor, "C #N #T V"]) -> Float[Tensor, "C N #T K"]:
    return _product(b.exp(), a.exp().mT).log()


def _product(rows: Float[Tensor, "#C #N T P"], matrix: Float[Tensor, "C #N P Q"]) -> Float[Tensor, "C N T Q"]:
    """A product of matrices for every sequence, or one for all where they share the second factor."""
    if matrix.shape[1] > 1:
        return rows @ matrix
    together = rows.flatten(1, 2) @ matrix[:, 0]
    return together.view(len(together), *rows.shape[1:3], -1)
