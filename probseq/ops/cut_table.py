r"""One table of probabilities of which some entries may be out of reach: what is left is normalized.

With weights :math:`J` and the set :math:`c` of entries within reach, entry d has probability
:math:`J_d / Z_c`, where :math:`Z_c = \sum_{d \in c} J_d`. So jumps have one table in the middle of a sequence and at
its ends.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_SMALLEST = 1e-12  # where a weight that was 0 begins, if it has counts


def cut_log_probs(logits: Float[Tensor, "R W"], allowed: Bool[Tensor, "C W"]) -> Float[Tensor, "R C W"]:
    """Logarithms of the probabilities, for each set of entries within reach.

    If all of those have weight 0, they are equally likely; a set of none has no probabilities, -inf throughout.

    Args:
        logits: logarithms of the weights.
        allowed: which entries each of the C sets has.
    """
    cut = logits[:, None].masked_fill(~allowed, -torch.inf)
    even = torch.zeros_like(cut).masked_fill(~allowed & allowed.any(dim=-1, keepdim=True), -torch.inf)
    weightless = (cut == -torch.inf).all(dim=-1, keepdim=True)
    return torch.where(weightless, even, cut).log_softmax(dim=-1).masked_fill(~allowed, -torch.inf)


def fit_cut_table(
    counts: Float[Tensor, "R C W"],
    logits: Float[Tensor, "R W"],
    allowed: Bool[Tensor, "C W"],
    excess: float,
    num_rounds: int = 10,
) -> Float[Tensor, "R W"]:
    r"""Logits under which the counts are more probable, never less; where nothing was cut, the most probable ones.

    .. math::
        \max_J \sum_c \sum_{d \in c} n_{cd} \log \frac{J_d}{Z_c(J)} + e \sum_d \log \frac{J_d}{\sum_b J_b}

    has no closed form, as the sums differ from set to set. At the present weights
    :math:`\log Z_c \le \log Z_c^\text{old} + Z_c / Z_c^\text{old} - 1`, and the bound that this gives has one:
    :math:`J_d = n_d / \sum_{c \ni d} (n_c / Z_c^\text{old})`.

    Args:
        counts: of each entry in each set.
        logits: the present ones.
        allowed: which entries each set has.
        excess: e, what a Dirichlet prior on the whole table adds: its concentration less 1.
        num_rounds: how often the bound is maximized.

    Reference:
        D. R. Hunter (2004), "MM algorithms for generalized Bradley-Terry models".
    """
    own = counts.sum(dim=1) + excess  # (R, W)
    size, reach = logits.shape[-1], allowed.to(counts.dtype)
    weights = logits.softmax(dim=-1).clamp(min=_SMALLEST).where(own > 0, 0.0)
    for _ in range(num_rounds):
        sums = weights @ reach.mT  # (R, C)
        rates = (counts.sum(dim=-1) / sums.where(sums > 0, 1.0)) @ reach + excess * size / weights.sum(-1, keepdim=True)
        weights = torch.where(rates > 0, own / rates.where(rates > 0, 1.0), weights)
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return torch.where(own.sum(dim=-1, keepdim=True) > 0, weights.log(), logits)
