"""Vectors of counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole
from probseq.models.emissions.base import Emission, numbers, weight_of_log
from probseq.models.emissions.reals import location_and_scale
from probseq.models.emissions.table import linear, observed, weighted_sums
from probseq.types import Array


class Poisson(Emission):
    r"""Independent counts: :math:`p(x_t \mid s_t = k) = \prod_d \lambda_{kd}^{x_d} e^{-\lambda_{kd}} / x_d!`.

    Args:
        num_dims: D, the size of a vector.
        prior_shape: a of the Gamma prior :math:`\lambda^{a - 1} e^{-b \lambda}` on every rate; 1 or more.
        prior_rate: b of it, as if b observations had been seen. ``a = 1, b = 0`` is maximum likelihood.

    The parameters are ``log_rate`` ``(D,)``, in which minus infinity is a rate of 0: no count but 0 is possible.

    Raises:
        InputError: no dimensions, or a prior whose mode is not a rate.

    Example:
        >>> from probseq import emissions
        >>> emissions.Poisson.from_parameters([[4.0], [9.0]]).rates.round().tolist()
        [[[4.0], [9.0]]]
    """

    log_rate: nn.Parameter
    location: Tensor

    def __init__(self, num_dims: int = 1, prior_shape: float = 1.0, prior_rate: float = 0.0) -> None:
        super().__init__()
        num_dims = check_whole("num_dims", num_dims)
        if not (1.0 <= prior_shape < float("inf") and 0.0 <= prior_rate < float("inf")):
            raise InputError(
                f"prior_shape is {prior_shape} and prior_rate {prior_rate}; expected a shape of 1 or more and a "
                "rate of 0 or more (1 and 0 are maximum likelihood)"
            )
        self.num_dims, self.support = num_dims, ("counts", num_dims)
        self.prior_shape, self.prior_rate = float(prior_shape), float(prior_rate)
        self.shapes = {"log_rate": (num_dims,)}
        self.register_buffer("location", torch.ones(num_dims))

    @classmethod
    def from_parameters(cls, rates: Array, prior_shape: float = 1.0, prior_rate: float = 0.0) -> Poisson:
        """A bank with one restart and these rates ``(K, D)``.

        Raises:
            InputError: numbers that are not rates.
        """
        table = numbers(rates)
        if table.ndim != 2 or not ((table >= 0) & table.isfinite()).all():
            raise InputError(f"rates have shape {tuple(table.shape)}; expected rates (K, D) of 0 or more")
        bank = cls(table.shape[1], prior_shape, prior_rate).double()
        bank.log_rate = nn.Parameter(table.log()[None])
        return bank

    def config(self) -> dict[str, Any]:
        return {
            "family": "Poisson",
            "num_dims": self.num_dims,
            "prior_shape": self.prior_shape,
            "prior_rate": self.prior_rate,
        }

    @property
    def rates(self) -> Float[Tensor, "R K D"]:
        """``(R, K, D)``: the expected counts of each state."""
        return self.log_rate.exp()

    _expected = "counts 0, 1, 2, ..."

    def _possible(self, values: Tensor) -> Tensor:
        return (values >= 0) & values.isfinite() & (values == values.floor())

    def neutral(self) -> dict[str, Tensor]:
        return {"log_rate": self.location.log()}

    def _scaled(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"log_rate": self.location.log() + raw["log_rate"]}

    def _look(self, data: Sequences) -> None:
        """Remember the mean counts; where all are 0, any rate is as good a unit as another."""
        mean = location_and_scale(self, data)[0]
        self.location.copy_(torch.where(mean > 0, mean, 1.0))

    # One distribution

    def log_prob(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        log_rate, (x, there) = raw["log_rate"], observed(values)
        of_counts = torch.where(x > 0, x * log_rate, 0.0)  # 0 log 0 = 0
        return (of_counts - there * log_rate.exp() - log_factorial(x)).sum(dim=-1).to(log_rate.dtype)

    def draw(self, raw: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        return torch.poisson(raw["log_rate"].exp(), generator=generator)

    def moments(self, raw: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        rate = raw["log_rate"].exp()
        return rate, rate

    def cdf(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        rate, whole = raw["log_rate"].exp(), values.floor()
        return torch.where(whole < 0, 0.0, torch.special.gammaincc(whole.clamp(min=0) + 1, rate))

    def log_affinity(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
        apart = (first["log_rate"].double() / 2).exp() - (second["log_rate"].double() / 2).exp()
        return -0.5 * apart.square().sum(dim=-1)

    # A bank

    def table(self, raw: Mapping[str, Tensor], values: Float[Tensor, "M D"]) -> Float[Tensor, "R M K"]:
        log_rate, (x, there) = raw["log_rate"], observed(values)
        factorials = log_factorial(x).sum(dim=-1, keepdim=True)  # the same for all states
        return linear(x, log_rate) - linear(there, log_rate.exp()) - factorials.to(log_rate.dtype)

    def collect(
        self, raw: Mapping[str, Tensor], counts: Float[Tensor, "R M K"], values: Float[Tensor, "M D"]
    ) -> Float[Tensor, "R K Q"]:
        """Weights and sums of counts, each ``(R, K, D)``, one after another."""

        def features(x: Tensor) -> Tensor:
            x, there = observed(x)
            return torch.cat([there, x], dim=-1)

        return weighted_sums(counts, values, features, 2 * self.num_dims)

    def expected_log_prob(self, raw: Mapping[str, Tensor], statistics: Float[Tensor, "R K Q"]) -> Float[Tensor, "R"]:
        """The sum of log-densities but for the factorials, which depend on the data alone."""
        weight, total = statistics.chunk(2, dim=-1)
        of_counts = torch.where(total != 0, total * raw["log_rate"], 0.0)
        return (of_counts - weight * raw["log_rate"].exp()).sum((-2, -1))

    @torch.no_grad()
    def m_step(self, statistics: Float[Tensor, "R K Q"]) -> None:
        weight, total = statistics.chunk(2, dim=-1)
        rate = (total + (self.prior_shape - 1)) / (weight + self.prior_rate)
        known = (weight > 0) | ((rate > 0) & rate.isfinite())  # without data, a mode at 0 or infinity says nothing
        self._set(log_rate=torch.where(known, rate.log(), torch.nan))

    def weight(self, name: str, value: Tensor) -> Tensor:
        return weight_of_log(value)

    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the Gamma priors at the rates, without their constant."""
        terms = -self.prior_rate * self.rates
        if self.prior_shape > 1:
            terms = terms + (self.prior_shape - 1) * self.log_rate
        return terms.sum((-2, -1))


def log_factorial(counts: Tensor) -> Tensor:
    """``log x!``, looked up where the counts are so small that a table of all is short."""
    largest = int(counts.max()) if counts.numel() else 0
    if largest > counts.numel():
        return (counts + 1).lgamma()
    return torch.arange(1, largest + 2, dtype=counts.dtype, device=counts.device).lgamma()[counts.long()]
