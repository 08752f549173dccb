"""Binary vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from probseq.errors import InputError, check_whole
from probseq.models.emissions.base import Emission, numbers, weight_of_log
from probseq.models.emissions.dirichlet import check_concentration
from probseq.models.emissions.table import linear, observed, weighted_sums
from probseq.types import Array


class Bernoulli(Emission):
    r"""Binary vectors of independent entries: :math:`p(x \mid s = k) = \prod_d p_{kd}^{x_d} (1 - p_{kd})^{1 - x_d}`.

    Args:
        num_dims: D, the size of a vector.
        concentration: of the Beta prior with both parameters alike; 1 is maximum likelihood, and above 1 no probability
            becomes 0 or 1.

    The parameters are ``logits`` ``(D,)``, in which infinity is a probability of 0 or 1.

    Raises:
        InputError: no dimensions, or a concentration below 1.

    Example:
        >>> from probseq import emissions
        >>> emissions.Bernoulli.from_parameters([[0.5, 0.25]]).probs.tolist()
        [[[0.5, 0.25]]]
    """

    logits: nn.Parameter

    def __init__(self, num_dims: int, concentration: float = 1.0) -> None:
        super().__init__()
        num_dims = check_whole("num_dims", num_dims)
        self.num_dims, self.support = num_dims, ("binary", num_dims)
        self.concentration = check_concentration("emission", concentration)
        self.shapes = {"logits": (num_dims,)}

    @classmethod
    def from_parameters(cls, probs: Array, concentration: float = 1.0) -> Bernoulli:
        """A bank with one restart and these probabilities of a 1, ``(K, D)``.

        Raises:
            InputError: numbers that are not probabilities.
        """
        table = numbers(probs)
        if table.ndim != 2 or not ((table >= 0) & (table <= 1)).all():
            raise InputError(f"probs have shape {tuple(table.shape)}; expected probabilities (K, D) between 0 and 1")
        bank = cls(table.shape[1], concentration)
        bank.logits = nn.Parameter(table.logit()[None])
        return bank

    def config(self) -> dict[str, Any]:
        return {"family": "Bernoulli", "num_dims": self.num_dims, "concentration": self.concentration}

    @property
    def probs(self) -> Float[Tensor, "R K D"]:
        """``(R, K, D)``: the probability of a 1 in each state."""
        return self.logits.sigmoid()

    _expected = "0 or 1"

    def _possible(self, values: Tensor) -> Tensor:
        return (values == 0) | (values == 1)

    # One distribution

    def log_prob(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        logits = raw["logits"]
        of_one = torch.where(values == 1, F.logsigmoid(logits), 0.0)
        return (of_one + torch.where(values == 0, F.logsigmoid(-logits), 0.0)).sum(dim=-1)

    def draw(self, raw: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(raw["logits"].sigmoid(), generator=generator)

    def moments(self, raw: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        mean = raw["logits"].sigmoid()
        return mean, mean * (-raw["logits"]).sigmoid()

    def cdf(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        below_one = torch.where(values < 0, 0.0, (-raw["logits"]).sigmoid())
        return torch.where(values < 1, below_one, 1.0)

    def log_affinity(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
        one, other = first["logits"].double(), second["logits"].double()
        apart = (one.sigmoid().sqrt() - other.sigmoid().sqrt()) ** 2
        apart = apart + ((-one).sigmoid().sqrt() - (-other).sigmoid().sqrt()) ** 2
        return torch.log1p(-0.5 * apart.clamp(max=2)).sum(dim=-1)

    # A bank

    def table(self, raw: Mapping[str, Tensor], values: Float[Tensor, "M D"]) -> Float[Tensor, "R M K"]:
        x, there = observed(values)
        return linear(x, F.logsigmoid(raw["logits"])) + linear(there - x, F.logsigmoid(-raw["logits"]))

    def collect(
        self, raw: Mapping[str, Tensor], counts: Float[Tensor, "R M K"], values: Float[Tensor, "M D"]
    ) -> Float[Tensor, "R K Q"]:
        """Weights of ones and of zeros, each ``(R, K, D)``, one after another."""
        return weighted_sums(counts, values, lambda x: torch.cat([x == 1, x == 0], dim=-1).double(), 2 * self.num_dims)

    def expected_log_prob(self, raw: Mapping[str, Tensor], statistics: Float[Tensor, "R K Q"]) -> Float[Tensor, "R"]:
        ones, zeros = statistics.chunk(2, dim=-1)
        logits = raw["logits"]
        of_ones = torch.where(ones != 0, ones * F.logsigmoid(logits), 0.0)
        return (of_ones + torch.where(zeros != 0, zeros * F.logsigmoid(-logits), 0.0)).sum((-2, -1))

    @torch.no_grad()
    def m_step(self, statistics: Float[Tensor, "R K Q"]) -> None:
        ones, zeros = (statistics + (self.concentration - 1)).chunk(2, dim=-1)
        self._set(logits=ones.log() - zeros.log())  # NaN where both are 0

    def weight(self, name: str, value: Tensor) -> Tensor:
        """A probability that runs to 0 or to 1 counts less and less."""
        return weight_of_log(-value.abs())

    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the Beta priors at the probabilities, without their constant."""
        if self.concentration == 1:
            return self.logits.new_zeros(len(self.logits))
        terms = F.logsigmoid(self.logits) + F.logsigmoid(-self.logits)
        return (self.concentration - 1) * terms.sum((-2, -1))
