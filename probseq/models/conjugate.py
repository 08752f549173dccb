r"""Posteriors of the emission families that have a conjugate prior: what variational Bayes needs of them.

A posterior is the mean parameters, which are those of the bank, and a strength: how many observations it rests on, the
prior's own included. The prior says as much as c observations at the location and scale of the data:

===================  ====================================================================================
`Categorical`        Dirichlet with concentration c on every symbol
`Bernoulli`          Beta(c, c)
`Poisson`            Gamma with shape c m and rate c, where m is the data's mean
`Gaussian`, diag     normal-gamma: c observations of the mean and c of the variance, for each entry
`Gaussian`, full     normal-Wishart: c observations of the mean, D - 1 + c degrees of freedom
===================  ====================================================================================

Reference:
    M. J. Beal (2003), "Variational algorithms for approximate Bayesian inference";
    C. M. Bishop (2006), "Pattern recognition and machine learning".
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from probseq.models.emissions.table import linear, observed
from probseq.ops.divergences import dirichlet_divergence, expected_log_probs, gamma_divergence, multidigamma

_FLOOR = 1e-14  # of variances, in units of the data's: the prior keeps them above 0, and this is rounding


class Posterior:
    """The posterior of a bank of G emission distributions with R restarts.

    Attributes:
        bank: its parameters are the posterior mean.
        concentration: c, the strength of the prior.
        prior_strength: that strength in the unit of `strength`.
        num_strengths: Q, strengths of one distribution: one, or one for each dimension.
    """

    bank: Any
    prior_strength: float
    num_strengths: int = 1

    def __init__(self, bank: Emission, concentration: float) -> None:
        self.bank, self.concentration = bank, concentration
        self.prior_strength = concentration

    def strength(self, statistics: Float[Tensor, "R G P"]) -> Float[Tensor, "R G Q"]:
        """The strength of the posterior given these statistics."""
        raise NotImplementedError

    def m_step(self, statistics: Float[Tensor, "R G P"]) -> None:
        """Set the bank to the posterior mean given these statistics: its own mode, if its prior is put accordingly."""
        self.bank.m_step(statistics)

    def log_table(self, strength: Float[Tensor, "R G Q"], batch: Batch) -> Float[Tensor, "R M G"]:
        """``E log p(x)``, expected over the posterior; the rows are those of the bank's own table."""
        raise NotImplementedError

    def divergence(self, strength: Float[Tensor, "R G Q"]) -> Float[Tensor, "R G"]:
        """``KL(posterior || prior)`` in nats."""
        raise NotImplementedError


class CategoricalPosterior(Posterior):
    """Dirichlet."""

    bank: Categorical

    def __init__(self, bank: Categorical, concentration: float) -> None:
        super().__init__(bank, concentration)
        self.prior_strength = bank.num_symbols * concentration
        bank.concentration = 1 + concentration

    def strength(self, statistics: Tensor) -> Tensor:
        return statistics.sum(-1, keepdim=True) + self.prior_strength

    def log_table(self, strength: Tensor, batch: Batch) -> Tensor:
        table = expected_log_probs(strength * self.bank.probs).mT
        return torch.cat([table, torch.zeros_like(table[:, :1])], dim=1) if (batch.values < 0).any() else table

    def divergence(self, strength: Tensor) -> Tensor:
        counts = strength * self.bank.probs
        return dirichlet_divergence(counts, torch.full_like(counts, self.concentration))


class BernoulliPosterior(Posterior):
    """A Beta for each dimension."""

    bank: Bernoulli

    def __init__(self, bank: Bernoulli, concentration: float) -> None:
        super().__init__(bank, concentration)
        self.prior_strength, self.num_strengths = 2 * concentration, bank.num_dims
        bank.concentration = 1 + concentration

    def strength(self, statistics: Tensor) -> Tensor:
        ones, zeros = statistics.chunk(2, dim=-1)
        return ones + zeros + self.prior_strength

    def _counts(self, strength: Tensor) -> Tensor:
        """``(R, G, D, 2)``: of ones and of zeros."""
        logits = self.bank.logits
        return strength[..., None] * torch.stack([logits, -logits], dim=-1).sigmoid()

    def log_table(self, strength: Tensor, batch: Batch) -> Tensor:
        x, there = observed(batch.values.flatten(0, 1))
        of_one, of_zero = expected_log_probs(self._counts(strength)).unbind(-1)
        return linear(x, of_one) + linear(there - x, of_zero)

    def divergence(self, strength: Tensor) -> Tensor:
        counts = self._counts(strength)
        return dirichlet_divergence(counts, torch.full_like(counts, self.concentration)).sum(dim=-1)


class PoissonPosterior(Posterior):
    """A Gamma for each dimension; the strength is its rate."""

    bank: Poisson

    def __init__(self, bank: Poisson, concentration: float) -> None:
        super().__init__(bank, concentration)
        self.num_strengths = bank.num_dims
        bank.prior_shape, bank.prior_rate = 1 + concentration, concentration  # for starting points

    def strength(self, statistics: Tensor) -> Tensor:
        return statistics.chunk(2, dim=-1)[0] + self.concentration

    def m_step(self, statistics: Tensor) -> None:
        weight, total = statistics.chunk(2, dim=-1)
        shape = total + self.concentration * self.bank.location
        self.bank.log_rate.copy_(shape.log() - (weight + self.concentration).log())

    def log_table(self, strength: Tensor, batch: Batch) -> Tensor:
        x, there = observed(batch.values.flatten(0, 1))
        rate = self.bank.rates
        factorials = (x + 1).lgamma().sum(dim=-1, keepdim=True)
        return linear(x, (strength * rate).digamma() - strength.log()) - linear(there, rate) - factorials.to(rate.dtype)

    def divergence(self, strength: Tensor) -> Tensor:
        prior = self.concentration * self.bank.location, torch.full_like(strength, self.concentration)
        return gamma_divergence(strength * self.bank.rates, strength, *prior).sum(dim=-1)


class DiagonalPosterior(Posterior):
    """A normal-gamma for each dimension; the strength is that of the mean and of the variance alike."""

    bank: Gaussian

    def __init__(self, bank: Gaussian, concentration: float) -> None:
        super().__init__(bank, concentration)
        self.num_strengths = bank.num_dims
        bank.mean_strength = bank.covariance_strength = concentration
        bank.variance_floor = _FLOOR

    def strength(self, statistics: Tensor) -> Tensor:
        return statistics.chunk(3, dim=-1)[0] + self.concentration

    def log_table(self, strength: Tensor, batch: Batch) -> Tensor:
        values = batch.values.flatten(0, 1)
        slack = 0.5 * ((strength / 2).digamma() - (strength / 2).log() - 1 / strength)
        return self.bank.table(self.bank.raw, values) + linear(observed(values)[1], slack)

    def divergence(self, strength: Tensor) -> Tensor:
        raw, bank, c = self.bank.raw, self.bank, self.concentration
        variance = (2 * raw["log_scale"]).exp()
        distance = (raw["mean"] - bank.location).square() / variance
        of_mean = 0.5 * (c / strength - 1 + (strength / c).log() + c * distance)
        of_precision = gamma_divergence(
            strength / 2, strength / 2 * variance, torch.full_like(strength, c / 2), c / 2 * bank.scale.square()
        )
        return (of_mean + of_precision).sum(dim=-1)


class DensePosterior(Posterior):
    """A normal-Wishart; the strength is that of the mean, and D - 1 more are the degrees of freedom."""

    bank: Gaussian

    def __init__(self, bank: Gaussian, concentration: float) -> None:
        super().__init__(bank, concentration)
        bank.mean_strength, bank.covariance_strength = concentration, bank.num_dims - 1 + concentration
        bank.variance_floor = _FLOOR

    def strength(self, statistics: Tensor) -> Tensor:
        return statistics[..., :1] + self.concentration

    def log_table(self, strength: Tensor, batch: Batch) -> Tensor:
        values, size = batch.values.flatten(0, 1), self.bank.num_dims
        half = (strength + size - 1) / 2
        slack = 0.5 * (multidigamma(half, size) - size * half.log() - size / strength)  # (R, G, 1)
        seen = (~values.isnan()).any(dim=-1, keepdim=True).to(slack.dtype)
        return self.bank.table(self.bank.raw, values) + linear(seen, slack)

    def divergence(self, strength: Tensor) -> Tensor:
        bank, c, size = self.bank, self.concentration, self.bank.num_dims
        tril, variances = bank.scale_tril(bank.raw), bank.scale.square()
        z = torch.linalg.solve_triangular(tril, (bank.means - bank.location)[..., None], upper=False)
        distance, strength = z.square().sum((-2, -1)), strength[..., 0]
        of_mean = 0.5 * (size * (c / strength - 1 + (strength / c).log()) + c * distance)
        ratio = torch.linalg.solve_triangular(tril, torch.diag(bank.scale).expand_as(tril), upper=False)
        log_ratio = 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) - variances.log().sum()
        degrees, prior = strength + size - 1, strength.new_tensor(c + size - 1)
        of_precision = (
            0.5 * prior * (size * (degrees / prior).log() + log_ratio + ratio.square().sum((-2, -1)))
            - 0.5 * size * degrees
            + torch.special.multigammaln(prior / 2, size)
            - torch.special.multigammaln(degrees / 2, size)
            + 0.5 * (degrees - prior) * multidigamma(degrees / 2, size)
        )
        total: Tensor = of_mean + of_precision
        return total


def posterior(bank: Emission, concentration: float) -> Posterior:
    """The posterior of this bank, whose prior it becomes.

    Raises:
        InputError: a family without a conjugate prior, or one with a prior of its own.
    """
    kinds: dict[tuple[type[Emission], str], type[Posterior]] = {
        (Categorical, ""): CategoricalPosterior,
        (Bernoulli, ""): BernoulliPosterior,
        (Poisson, ""): PoissonPosterior,
        (Gaussian, "diag"): DiagonalPosterior,
        (Gaussian, "full"): DensePosterior,
    }
    key = type(bank), getattr(bank, "covariance", "")
    if key not in kinds:
        raise InputError(
            f"variational Bayes knows no conjugate prior of {type(bank).__name__} {key[1]}".rstrip()
            + "; expected Categorical, Bernoulli, Poisson, or Gaussian with a covariance that is 'diag' or 'full'"
        )
    plain = {
        "concentration": 1.0,
        "prior_shape": 1.0,
        "prior_rate": 0.0,
        "mean_strength": 0.0,
        "covariance_strength": 0.0,
    }
    for name, value in plain.items():
        if (own := getattr(bank, name, value)) != value:
            raise InputError(
                f"the emission has a prior of its own, {name} {own:g}; leave it out and give emission_concentration"
            )
    return kinds[key](bank, concentration)
