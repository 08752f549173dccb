"""Divergences between distributions of parameters, and the expectations that go with them, in closed form (nats)."""

from __future__ import annotations

import torch
from torch import Tensor


def expected_log_probs(counts: Tensor) -> Tensor:
    """``E log p`` under Dirichlets with these concentrations along the last axis; minus infinity where one is 0."""
    result: Tensor = counts.digamma() - counts.sum(-1, keepdim=True).digamma()
    return result


def log_normalizer(counts: Tensor, there: Tensor | None = None) -> Tensor:
    """``sum_k log Gamma(c_k) - log Gamma(sum_k c_k)`` of Dirichlets along the last axis, over what is `there`."""
    if there is not None:
        return counts.where(there, 1.0).lgamma().sum(-1) - (counts * there).sum(-1).lgamma()
    result: Tensor = counts.lgamma().sum(-1) - counts.sum(-1).lgamma()
    return result


def dirichlet_divergence(counts: Tensor, prior: Tensor, known: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """``KL(Dirichlet(counts) || Dirichlet(prior))`` along the last axis; entries whose prior is 0 are not there.

    Args:
        counts: parameters of the one.
        prior: those of the other.
        known: ``E log p`` under `counts` and their `log_normalizer`, where these are known and all entries are there.
    """
    there = prior > 0
    expected, normalizer = known or (expected_log_probs(counts), log_normalizer(counts, there))
    change = (counts.where(there, 1.0) - prior.where(there, 1.0)) * expected.where(there, 0.0)
    return log_normalizer(prior, there) - normalizer + change.sum(-1)


def gamma_divergence(shape: Tensor, rate: Tensor, prior_shape: Tensor, prior_rate: Tensor) -> Tensor:
    """``KL(Gamma(shape, rate) || Gamma(prior_shape, prior_rate))``."""
    return (
        (shape - prior_shape) * shape.digamma()
        - shape.lgamma()
        + prior_shape.lgamma()
        + prior_shape * (rate / prior_rate).log()
        + shape * (prior_rate / rate - 1)
    )


def multidigamma(x: Tensor, size: int) -> Tensor:
    """The derivative of the logarithm of the multivariate gamma function."""
    return torch.stack([(x - i / 2).digamma() for i in range(size)]).sum(dim=0)
