"""Real vectors whose distribution in one state has several humps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.errors import InputError, check_whole
from probseq.models.emissions import diagonal
from probseq.models.emissions.base import weight_of_log
from probseq.models.emissions.dirichlet import check_concentration, dirichlet_mode, log_dirichlet
from probseq.models.emissions.reals import VARIANCE_FLOOR, Reals, finite_numbers
from probseq.models.emissions.table import blocks
from probseq.types import Array


class GaussianMixture(Reals):
    r"""Mixtures of C normal distributions with independent entries:

    .. math::
        p(x_t \mid s_t = k) = \sum_c w_{kc} \prod_d \mathcal{N}(x_d; \mu_{kcd}, \sigma_{kcd}^2)

    Args:
        num_dims: D, the size of a vector.
        num_components: C, of each state.
        weight_concentration: of the Dirichlet prior on the weights of a state's components; 1 is maximum likelihood.
        mean_strength: of the prior on the means, in observations at the data's location; 0 is maximum likelihood.
        covariance_strength: of the prior on the variances, in observations with the data's variances.
        variance_floor: the smallest variance, as a part of the data's variance of the same entry.

    The parameters are ``weight_logits`` ``(C,)``, ``mean`` and ``log_scale`` ``(C, D)``. Neutral means lie apart,
    because components that are alike stay alike.

    Raises:
        InputError: sizes, strengths or a floor that cannot be.
    """

    weight_logits: nn.Parameter
    mean: nn.Parameter
    log_scale: nn.Parameter

    def __init__(
        self,
        num_dims: int,
        num_components: int,
        weight_concentration: float = 1.0,
        mean_strength: float = 0.0,
        covariance_strength: float = 0.0,
        variance_floor: float = VARIANCE_FLOOR,
    ) -> None:
        super().__init__(num_dims, mean_strength, covariance_strength, variance_floor)
        num_components = check_whole("num_components", num_components)
        self.num_components = num_components
        self.weight_concentration = check_concentration("weight", weight_concentration)
        size = (num_components, num_dims)
        self.shapes = {"weight_logits": (num_components,), "mean": size, "log_scale": size}

    @classmethod
    def from_parameters(cls, weights: Array, means: Array, variances: Array, **prior: float) -> GaussianMixture:
        """A bank with one restart.

        Args:
            weights: ``(K, C)``, rows sum to 1.
            means: ``(K, C, D)``.
            variances: ``(K, C, D)``.
            prior: as for the family itself; relative to location and scale of all components taken together, until
                a fit has seen data. Before that, no given variance is below the floor.

        Raises:
            InputError: shapes that do not fit, weights that are no probabilities, variances that are not positive.
        """
        given = {"weights": weights, "means": means, "variances": variances}
        weight, mean, variance = (finite_numbers(*one) for one in given.items())
        if mean.ndim != 3 or variance.shape != mean.shape or weight.shape != mean.shape[:2]:
            raise InputError(
                f"weights have shape {tuple(weight.shape)}, means {tuple(mean.shape)} and variances "
                f"{tuple(variance.shape)}; expected (K, C), (K, C, D) and (K, C, D)"
            )
        if not ((weight >= 0).all() and torch.allclose(weight.sum(-1), weight.new_ones(()), atol=1e-6)):
            raise InputError("weights have a row that is not a probability vector; expected entries >= 0 with sum 1")
        if not ((variance > 0) & variance.isfinite()).all():
            raise InputError("variances have to be positive; received one that is not")
        new = cls(mean.shape[2], mean.shape[1], **prior).double()
        new._place_given(mean.flatten(0, 1), variance.mean((0, 1)), torch.diag_embed(variance.sqrt()).flatten(0, 1))
        bank = new.build(1, len(mean))
        bank._set(weight_logits=weight.log()[None], mean=mean[None], log_scale=0.5 * variance.log()[None])
        return bank

    def config(self) -> dict[str, Any]:
        return {
            "family": "GaussianMixture",
            "num_dims": self.num_dims,
            "num_components": self.num_components,
            "weight_concentration": self.weight_concentration,
            **self._prior_config(),
        }

    @property
    def weights(self) -> Float[Tensor, "R K C"]:
        """``(R, K, C)``: the probability of each component in each state."""
        return self.weight_logits.softmax(dim=-1)

    @property
    def means(self) -> Float[Tensor, "R K C D"]:
        """``(R, K, C, D)``: the mean of each component."""
        return self.raw["mean"]

    @property
    def variances(self) -> Float[Tensor, "R K C D"]:
        """``(R, K, C, D)``: the variances of each component."""
        return (2 * self.raw["log_scale"]).exp()

    def _num_free(self, name: str) -> int:
        return super()._num_free(name) - (name == "weight_logits")

    def neutral(self) -> dict[str, Tensor]:
        return self._scaled({name: self.scale.new_zeros(shape) for name, shape in self.shapes.items()})

    def _scaled(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        apart = _spread(self.num_components, self.num_dims).to(self.scale)
        return {
            "weight_logits": raw["weight_logits"],
            "mean": self.location + self.scale * (apart + raw["mean"]),
            "log_scale": self.scale.log() + raw["log_scale"],
        }

    def constrain(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**raw, "log_scale": raw["log_scale"].clamp(min=self._log_floor)}

    # One distribution

    def log_prob(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        of_component = diagonal.log_prob(raw["mean"], raw["log_scale"], values[..., None, :])
        return (raw["weight_logits"].log_softmax(dim=-1) + of_component).logsumexp(dim=-1)

    def draw(self, raw: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        weights = raw["weight_logits"].softmax(dim=-1)
        component = torch.multinomial(weights.reshape(-1, self.num_components), 1, generator=generator)
        place = component.view(*weights.shape[:-1], 1, 1).expand(*weights.shape[:-1], 1, self.num_dims)
        mean, log_scale = (raw[name].gather(-2, place)[..., 0, :] for name in ("mean", "log_scale"))
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + log_scale.exp() * noise

    def moments(self, raw: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        weights = raw["weight_logits"].softmax(dim=-1)[..., None]
        mean = (weights * raw["mean"]).sum(dim=-2)
        around = (raw["mean"] - mean[..., None, :]).square() + (2 * raw["log_scale"]).exp()
        return mean, (weights * around).sum(dim=-2)

    def cdf(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        z = (values[..., None, :] - raw["mean"]) * (-raw["log_scale"]).exp()
        below: Tensor = torch.special.ndtr(z)
        return (raw["weight_logits"].softmax(dim=-1)[..., None] * below).sum(dim=-2)

    def log_affinity(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
        r"""The cosine of the angle between two densities, :math:`\log (\int p q / \sqrt{\int p^2 \int q^2})`.

        The integral of the square root of a mixture has no closed form.
        """
        return _log_overlap(first, second) - 0.5 * (_log_overlap(first, first) + _log_overlap(second, second))

    # A bank

    def _joint(self, raw: Mapping[str, Tensor], values: Tensor) -> Float[Tensor, "R K C m"]:
        """Log-density of every row together with each component."""
        of_component = diagonal.columns(raw["mean"].flatten(1, 2), raw["log_scale"].flatten(1, 2), values)
        of_component = torch.unflatten(of_component, 1, raw["weight_logits"].shape[1:])
        return of_component + raw["weight_logits"].log_softmax(dim=-1)[..., None]

    def table(self, raw: Mapping[str, Tensor], values: Float[Tensor, "M D"]) -> Float[Tensor, "R M K"]:
        parts = blocks(len(values), raw["weight_logits"].numel())
        return torch.cat([self._joint(raw, values[rows]).logsumexp(dim=2).mT for rows in parts], dim=1)

    def collect(
        self, raw: Mapping[str, Tensor], counts: Float[Tensor, "R M K"], values: Float[Tensor, "M D"]
    ) -> Float[Tensor, "R K Q"]:
        """For every component its weight, then what `diagonal.collect` gives, ``(R, K, C (1 + 3 D))``."""
        size = 1 + 3 * self.num_dims
        total = self.location.new_zeros(*raw["weight_logits"].shape, size, dtype=torch.float64)
        for rows in blocks(len(values), raw["weight_logits"].numel()):
            x = values[rows]
            shares = counts[:, rows].mT[:, :, None] * self._joint(raw, x).softmax(dim=2)  # (R, K, C, m)
            there = (~x.isnan()).any(dim=-1, keepdim=True)
            total += shares.double() @ torch.cat([there, diagonal.features(x, self.location)], dim=-1)
        return total.flatten(2)

    def _components(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """The weight of every component ``(R, K, C)``, and its statistics ``(R, K, C, 3 D)``."""
        parts = torch.unflatten(statistics, -1, (self.num_components, -1))
        weight, moments = torch.split(parts, [1, 3 * self.num_dims], dim=-1)
        return weight[..., 0], moments

    def expected_log_prob(self, raw: Mapping[str, Tensor], statistics: Float[Tensor, "R K Q"]) -> Float[Tensor, "R"]:
        """The sum of log-densities of observations together with the components that they came from."""
        weight, moments = self._components(statistics)
        log_weights = raw["weight_logits"].log_softmax(dim=-1)
        of_weights = torch.where(weight != 0, weight * log_weights, 0.0)
        of_moments = diagonal.expected_log_prob(raw["mean"] - self.location, raw["log_scale"], moments)
        return (of_weights + of_moments).sum((-2, -1))

    @torch.no_grad()
    def m_step(self, statistics: Float[Tensor, "R K Q"]) -> None:
        weight, moments = self._components(statistics)
        mean, log_scale = diagonal.mode(moments, self._prior(torch.float64))
        weights = dirichlet_mode(weight, self.weight_concentration)
        self._set(weight_logits=weights.log(), mean=self.location + mean, log_scale=log_scale)

    @torch.no_grad()
    def scatter(self, generator: torch.Generator) -> None:
        mean, variance = (one[..., None, :].expand_as(self.mean) for one in self.moments(self.raw))
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64).to(mean)
        weights = torch.zeros_like(self.weight_logits)
        self._set(weight_logits=weights, mean=mean + variance.sqrt() * noise, log_scale=0.5 * variance.log())

    def weight(self, name: str, value: Tensor) -> Tensor:
        if name == "weight_logits":
            return weight_of_log(value.log_softmax(dim=-1))
        return super().weight(name, value)

    def log_prior(self) -> Float[Tensor, "R"]:
        raw = self.raw
        prior = self._prior(self.scale.dtype)
        of_mean, of_variance = diagonal.log_prior(raw["mean"] - self.location, raw["log_scale"], prior)
        of_weights = log_dirichlet(self.weights, self.weight_concentration).sum(-1)
        return of_weights + (of_mean + of_variance).sum((-2, -1))


def _log_overlap(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
    r"""``(*B)``: :math:`\log \int p q`, from every pair of components."""
    one, other = ({name: value.double() for name, value in raw.items()} for raw in (first, second))
    scale = 0.5 * torch.logaddexp(2 * one["log_scale"][..., :, None, :], 2 * other["log_scale"][..., None, :, :])
    of_pairs = diagonal.log_prob(one["mean"][..., :, None, :], scale, other["mean"][..., None, :, :])
    weights = [raw["weight_logits"].log_softmax(dim=-1) for raw in (one, other)]
    return (of_pairs + weights[0][..., None] + weights[1][..., None, :]).logsumexp(dim=(-2, -1))


def _spread(num: int, num_dims: int) -> Tensor:
    """``(num, D)`` points that are spread like a normal distribution, the first one in the middle, none drawn.

    Reference:
        M. Roberts (2018), "The unreasonable effectiveness of quasirandom sequences".
    """
    ratio = 2.0
    for _ in range(50):  # the root of x^(D + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (num_dims + 1))
    step = (-math.log(ratio) * torch.arange(1, num_dims + 1, dtype=torch.float64)).exp()
    points: Tensor = torch.special.ndtri((0.5 + torch.arange(num)[:, None] * step) % 1)
    return points
