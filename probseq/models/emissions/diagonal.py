r"""Normal distributions with independent entries: :math:`\sum_d \log \mathcal{N}(x_d; \mu_d, \sigma_d^2)`.

Statistics are, for every entry, the observed weight, and the first and second moments around a center.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from probseq.models.emissions.table import blocks, observed, weighted_sums

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Prior(NamedTuple):
    """Pseudo-observations of means and variances, in units of the data, and the smallest variance in these units."""

    mean_strength: float
    covariance_strength: float
    floor: float
    scale: Float[Tensor, "D"]


def log_prob(mean: Tensor, log_scale: Tensor, values: Tensor) -> Tensor:
    """``(*B)`` from ``(*B, D)``; entries that are NaN are left out."""
    there = ~values.isnan()
    # The difference in the precision of the data; the mean has that of the parameters, with float32 seven digits.
    z = (torch.where(there, values, 0.0) - mean).to(mean.dtype) * (-log_scale).exp()
    return torch.where(there, -0.5 * z.square() - log_scale - HALF_LOG_2PI, 0.0).sum(dim=-1)


def columns(
    mean: Float[Tensor, "R K D"], log_scale: Float[Tensor, "R K D"], values: Float[Tensor, "m D"]
) -> Float[Tensor, "R K m"]:
    """`log_prob` of every row under every distribution; the long axis is the last one, for speed.

    Entries are added one at a time: as fast as expanding the square into matrix products while D is small, and without
    the digits that those lose where a state is narrow and far from the center.
    """
    missing = bool(values.isnan().any())
    x, there = observed(values.T.contiguous())
    there = there.to(mean.dtype)
    total = -(log_scale + HALF_LOG_2PI) @ there
    precision = (-log_scale).exp()[..., None]
    for d in range(len(x)):
        z = (x[d] - mean[:, :, d, None]).to(mean.dtype).mul_(precision[:, :, d])
        total.addcmul_(z, z * there[d] if missing else z, value=-0.5)
    return total


def table(
    mean: Float[Tensor, "R K D"], log_scale: Float[Tensor, "R K D"], values: Float[Tensor, "M D"]
) -> Float[Tensor, "R M K"]:
    """The same, transposed, for any number of rows."""
    out = mean.new_empty(mean.shape[0], len(values), mean.shape[1])
    for rows in blocks(len(values), mean.shape[0] * mean.shape[1]):
        out[:, rows] = columns(mean, log_scale, values[rows]).mT
    return out


def features(values: Float[Tensor, "m D"], center: Float[Tensor, "D"]) -> Float[Tensor, "m Q"]:
    """For every row: which entries are there, the entries less `center`, and their squares."""
    x, there = observed(values.double() - center)
    return torch.cat([there, x, x * x], dim=-1)


def collect(
    counts: Float[Tensor, "R M K"],
    values: Float[Tensor, "M D"],
    center: Float[Tensor, "D"],
    mean: Tensor | None = None,
    log_scale: Tensor | None = None,
) -> Float[Tensor, "R K Q"]:
    """Weights, sums and sums of squares of ``x - center``, each ``(R, K, D)``, one after another."""
    return weighted_sums(counts, values, lambda x: features(x, center), 3 * values.shape[1])


def expected_log_prob(mean: Tensor, log_scale: Tensor, statistics: Tensor) -> Tensor:
    """``(*B)``: the sum of log-densities; `mean` is relative to the center."""
    weight, first, second = statistics.chunk(3, dim=-1)
    squares = second - 2 * first * mean + weight * mean.square()
    terms = -0.5 * squares * (-2 * log_scale).exp() - weight * (log_scale + HALF_LOG_2PI)
    return terms.sum(dim=-1)


def log_prior(mean: Tensor, log_scale: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """The part of the means and that of the variances, ``(*B)`` each."""
    precision = (-2 * log_scale).exp()
    of_mean = -0.5 * prior.mean_strength * mean.square() * precision
    of_variance = -0.5 * prior.covariance_strength * (2 * log_scale + prior.scale.square() * precision)
    return of_mean.sum(dim=-1), of_variance.sum(dim=-1)


def mode(statistics: Tensor, prior: Prior, pooled: bool = False) -> tuple[Tensor, Tensor]:
    """Means, relative to the center, and log-standard deviations at their posterior mode; NaN where nothing is known.

    Args:
        statistics: ``(*B, 3 D)``.
        prior: strengths and floor.
        pooled: one variance for all entries of a vector.
    """
    weight, first, second = statistics.chunk(3, dim=-1)
    mean = first / (weight + prior.mean_strength)
    squares = (second - first * mean.nan_to_num()).clamp(min=0.0) + prior.covariance_strength * prior.scale.square()
    weight, floor = weight + prior.covariance_strength, prior.floor * prior.scale.square()
    if pooled:
        squares, weight, floor = squares.sum(-1, True), weight.sum(-1, True), floor.mean(-1, True)
    return mean, 0.5 * torch.maximum(squares / weight, floor).log()
