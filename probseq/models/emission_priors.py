"""The conjugate priors of the emission families as sites of a Pyro program, one small class for each family.

A distribution over the parameters of a bank is given by a mean, in the bank's own parameters, and a strength: how many
observations it rests on. The prior is one of these, and so is every posterior of variational Bayes.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.models.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson, dense
from probseq.models.parameter_distributions import (
    Beta,
    DirichletTable,
    Gamma,
    InverseWishartFactor,
    TableSupport,
    log_of,
    log_rest_of,
)

Sites = dict[str, Tensor]
"""Values of the sites, ``(R, ...)``."""

REAL, POSITIVE, UNIT = (
    constraints.independent(support, 2)  # type: ignore[no-untyped-call]
    for support in (constraints.real, constraints.positive, constraints.unit_interval)
)


class EmissionPrior:
    """How one family's parameters are drawn, and what the draws mean for a bank.

    Attributes:
        per_number: what a concentration of 1 is in the unit of strengths.
        num_strengths: Q, strengths of one distribution: one, or one for each dimension.
    """

    def __init__(self, bank: Emission) -> None:
        self.size, self.device = bank.support[1], next(bank.parameters()).device
        self.per_number, self.num_strengths = 1, self.size

    def sample(self, mean: Mapping[str, Tensor], strength: Tensor) -> Sites:
        """The sites in Pyro's words, with this mean ``(R, G, ...)`` and strength ``(R, G, Q)``."""
        raise NotImplementedError

    def raw(self, sites: Sites) -> dict[str, Tensor]:
        """The bank's parameters at these sites."""
        raise NotImplementedError

    def sites(self, raw: Mapping[str, Tensor]) -> Sites:
        """The sites at these parameters of a bank."""
        raise NotImplementedError

    def supports(self, num_groups: int) -> dict[str, constraints.Constraint]:
        """Where the values of the sites lie."""
        raise NotImplementedError


class Symbols(EmissionPrior):
    """``probs``: Dirichlet."""

    def __init__(self, bank: Emission) -> None:
        super().__init__(bank)
        self.per_number, self.num_strengths = self.size, 1

    def sample(self, mean: Mapping[str, Tensor], strength: Tensor) -> Sites:
        counts = strength * mean["logits"].softmax(dim=-1)
        return {"probs": pyro.sample("probs", DirichletTable(counts, self._mask(counts.shape[1])))}

    def raw(self, sites: Sites) -> dict[str, Tensor]:
        return {"logits": log_of(sites["probs"])}

    def sites(self, raw: Mapping[str, Tensor]) -> Sites:
        return {"probs": raw["logits"].softmax(dim=-1)}

    def supports(self, num_groups: int) -> dict[str, constraints.Constraint]:
        return {"probs": TableSupport(self._mask(num_groups))}

    def _mask(self, num_groups: int) -> Tensor:
        return torch.ones(num_groups, self.size, dtype=torch.bool, device=self.device)


class Binary(EmissionPrior):
    """``probs``: Beta."""

    def __init__(self, bank: Emission) -> None:
        super().__init__(bank)
        self.per_number = 2

    def sample(self, mean: Mapping[str, Tensor], strength: Tensor) -> Sites:
        ones, zeros = strength * mean["logits"].sigmoid(), strength * (-mean["logits"]).sigmoid()
        return {"probs": pyro.sample("probs", Beta(ones, zeros).to_event(2))}

    def raw(self, sites: Sites) -> dict[str, Tensor]:
        return {"logits": log_of(sites["probs"]) - log_rest_of(sites["probs"])}

    def sites(self, raw: Mapping[str, Tensor]) -> Sites:
        return {"probs": raw["logits"].sigmoid()}

    def supports(self, num_groups: int) -> dict[str, constraints.Constraint]:
        return {"probs": UNIT}


class Counts(EmissionPrior):
    """``rates``: Gamma, with the strength as its rate."""

    def sample(self, mean: Mapping[str, Tensor], strength: Tensor) -> Sites:
        prior = Gamma(strength * mean["log_rate"].exp(), strength)
        return {"rates": pyro.sample("rates", prior.to_event(2))}

    def raw(self, sites: Sites) -> dict[str, Tensor]:
        return {"log_rate": log_of(sites["rates"])}

    def sites(self, raw: Mapping[str, Tensor]) -> Sites:
        return {"rates": raw["log_rate"].exp()}

    def supports(self, num_groups: int) -> dict[str, constraints.Constraint]:
        return {"rates": POSITIVE}


class Diagonal(EmissionPrior):
    """``precision``: Gamma; ``mean``: normal given the precision."""

    def sample(self, mean: Mapping[str, Tensor], strength: Tensor) -> Sites:
        variance = (2 * mean["log_scale"]).exp()
        precision = pyro.sample("precision", Gamma(strength / 2, strength / 2 * variance).to_event(2))
        given = dist.Normal(mean["mean"], (strength * precision).rsqrt())
        return {"precision": precision, "mean": pyro.sample("mean", given.to_event(2))}

    def raw(self, sites: Sites) -> dict[str, Tensor]:
        return {"mean": sites["mean"], "log_scale": -0.5 * sites["precision"].log()}

    def sites(self, raw: Mapping[str, Tensor]) -> Sites:
        return {"precision": (-2 * raw["log_scale"]).exp(), "mean": raw["mean"]}

    def supports(self, num_groups: int) -> dict[str, constraints.Constraint]:
        return {"precision": POSITIVE, "mean": REAL}


class Dense(EmissionPrior):
    """``packed_tril``: the factor of an inverse-Wishart covariance; ``mean``: normal given the covariance."""

    def __init__(self, bank: Emission) -> None:
        super().__init__(bank)
        self.num_strengths = 1

    def sample(self, mean: Mapping[str, Tensor], strength: Tensor) -> Sites:
        strength = strength[..., 0]
        degrees = strength + self.size - 1
        scale = degrees.sqrt()[..., None, None] * dense.unpack(mean["packed_tril"], self.size)
        packed = pyro.sample("packed_tril", InverseWishartFactor(degrees, scale).to_event(1))
        spread = dense.unpack(packed, self.size) / strength.sqrt()[..., None, None]
        given = dist.MultivariateNormal(mean["mean"], scale_tril=spread)
        return {"packed_tril": packed, "mean": pyro.sample("mean", given.to_event(1))}

    def raw(self, sites: Sites) -> dict[str, Tensor]:
        return {"mean": sites["mean"], "packed_tril": sites["packed_tril"]}

    def sites(self, raw: Mapping[str, Tensor]) -> Sites:
        return {"packed_tril": raw["packed_tril"], "mean": raw["mean"]}

    def supports(self, num_groups: int) -> dict[str, constraints.Constraint]:
        return {"packed_tril": REAL, "mean": REAL}


def emission_prior(bank: Emission) -> EmissionPrior | None:
    """The conjugate prior of this bank's family, or None where it has none."""
    kinds: dict[tuple[type[Emission], str], type[EmissionPrior]] = {
        (Categorical, ""): Symbols,
        (Bernoulli, ""): Binary,
        (Poisson, ""): Counts,
        (Gaussian, "diag"): Diagonal,
        (Gaussian, "full"): Dense,
    }
    kind = kinds.get((type(bank), getattr(bank, "covariance", "")))
    return None if kind is None else kind(bank)
