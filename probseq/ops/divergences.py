"""Divergences between distributions of parameters, and the expectations that go with them, in closed form (nats)."""

from __future__ import annotations

import torch
from torch import Tensor


def expected_log_probs(counts: Tensor) -> Tensor:
    """``E log p`` under Dirichlets with these concentrations along the last axis; minus infinity where one is 0."""
    result: Tensor = counts.digamma() - counts.sum(-1, keepdim=True).digamma()
    return result


def dirichlet_divergence(counts: Tensor, prior: Tensor) -> Tensor:
    """``KL(Dirichlet(counts) || Dirichlet(prior))`` along the last axis; entries whose prior is 0 are not there."""
    there = prior > 0
    own, given = counts.where(there, 1.0), prior.where(there, 1.0)
    terms = given.lgamma() - own.lgamma() + (own - given) * expected_log_probs(counts).where(there, 0.0)
    return terms.sum(-1) + (counts * there).sum(-1).lgamma() - prior.sum(-1).lgamma()


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
