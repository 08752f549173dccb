"""Distributions of parameters: tables of probabilities with zeros, covariances by their factor, and what is near zero.

All have a support that Pyro knows how to map from unconstrained numbers, so that they serve priors, guides and NUTS.

A concentration far below 1 draws numbers that are too small for a float, and its density is largest there. So a draw
carries its logarithm, and a density of that very tensor is computed from it: the number may be rounded up to the
smallest float, its density is not.
"""

from __future__ import annotations

import math
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints

from probseq.models.emissions import dense


def log_gamma_draws(shapes: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Logarithms of standard Gamma draws with these shapes, differentiable in them.

    A draw with shape a below 1 is one with shape a + 1 times :math:`u^{1/a}`, with u uniform: in logarithms nothing
    underflows.

    Reference:
        G. Marsaglia, W. W. Tsang (2000), "A simple method for generating gamma variables".
    """
    small = shapes < 1
    scale = torch.empty_like(shapes).exponential_(generator=generator)  # that is -log(u)
    draws = torch._standard_gamma(shapes + small, generator=generator)
    return draws.log() - torch.where(small, scale / shapes, 0.0)


def _with_log(log_value: Tensor, log_rest: Tensor | None = None) -> Tensor:
    """The number itself, which carries its logarithm; of a Beta draw also that of its distance from 1."""
    floats = torch.finfo(log_value.dtype)
    value: Any = log_value.exp().clamp(min=floats.tiny)
    if log_rest is not None:
        value = value.clamp(max=1 - floats.eps / 2)
        value.log_rest = log_rest
    value.log_value = log_value
    return cast(Tensor, value)


def log_of(value: Tensor, mask: Tensor | None = None) -> Tensor:
    """The logarithm of a draw, also where the draw itself had to be rounded; 0 where a mask is False."""
    carried: Tensor | None = getattr(value, "log_value", None)
    if mask is None:
        return value.log() if carried is None else carried
    return value.where(mask, 1.0).log() if carried is None else carried.where(mask, 0.0)


def log_rest_of(value: Tensor) -> Tensor:
    """The logarithm of 1 less a draw."""
    carried: Tensor | None = getattr(value, "log_rest", None)
    return (-value).log1p() if carried is None else carried


class Beta(dist.Beta):  # type: ignore[misc]
    """Pyro's, with draws and densities in logarithms."""

    def from_log_gammas(self, ones: Tensor, zeros: Tensor) -> Tensor:
        """A draw, from logarithms of draws of standard Gamma distributions with the two concentrations."""
        total = torch.logaddexp(ones, zeros)
        return _with_log(ones - total, zeros - total)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.from_log_gammas(
            log_gamma_draws(self.concentration1.expand(shape)), log_gamma_draws(self.concentration0.expand(shape))
        )

    def log_prob(self, value: Tensor) -> Tensor:
        ones, zeros = self.concentration1, self.concentration0
        norm = (ones + zeros).lgamma() - ones.lgamma() - zeros.lgamma()
        total: Tensor = (ones - 1) * log_of(value) + (zeros - 1) * log_rest_of(value) + norm
        return total


class Gamma(dist.Gamma):  # type: ignore[misc]
    """Pyro's, with draws and densities in logarithms."""

    def from_log_gammas(self, draws: Tensor) -> Tensor:
        """A draw, from logarithms of draws of the standard Gamma distribution with this concentration."""
        return _with_log(draws - self.rate.log())

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.from_log_gammas(log_gamma_draws(self.concentration.expand(self._extended_shape(sample_shape))))

    def log_prob(self, value: Tensor) -> Tensor:
        norm = self.concentration * self.rate.log() - self.concentration.lgamma()
        total: Tensor = (self.concentration - 1) * log_of(value) - self.rate * value + norm
        return total


class TableSupport(constraints.Constraint):
    """Tables ``(K,)`` or ``(J, K)`` of probabilities, whose rows sum to 1 and are 0 where `mask` is False."""

    def __init__(self, mask: Tensor) -> None:
        self.mask, self.event_dim = mask, mask.ndim  # type: ignore[misc]
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        sums = (value.sum(-1) - 1).abs() < 1e-6
        fits = ((value >= 0) & (self.mask | (value == 0))).all(-1) & sums
        return fits.flatten(-self.event_dim + 1).all(-1) if self.event_dim > 1 else fits


class LogRatios(Transform):
    r"""Unconstrained numbers ``(*B, F)`` to tables: :math:`z_k = \log (p_k / p_\text{ref})` for every free entry.

    The reference of a row is the last entry that its mask allows, so F counts the allowed entries less one for each
    row. The Jacobian of a row's free probabilities is the product of all its probabilities.
    """

    bijective = True
    domain = constraints.real_vector

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask, self.codomain = mask, TableSupport(mask)  # type: ignore[misc]
        place = torch.arange(mask.shape[-1], device=mask.device).expand_as(mask)
        self.reference = torch.where(mask, place, -1).amax(dim=-1, keepdim=True)
        self.free = mask & (place != self.reference)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogRatios) and torch.equal(self.mask, other.mask)

    def _call(self, x: Tensor) -> Tensor:
        logits = x.new_zeros(*x.shape[:-1], *self.mask.shape).masked_fill(~self.mask, -torch.inf)
        logits[..., self.free] = x
        return logits.softmax(dim=-1)

    def _inverse(self, y: Tensor) -> Tensor:
        reference = y.gather(-1, self.reference.expand(*y.shape[:-1], 1))
        ratios = torch.where(self.free, y, 1.0).log() - reference.log()
        return ratios[..., self.free]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(self.mask, y, 1.0).log().flatten(-self.mask.ndim).sum(-1)

    def forward_shape(self, shape: Any) -> torch.Size:
        return torch.Size((*shape[:-1], *self.mask.shape))

    def inverse_shape(self, shape: Any) -> torch.Size:
        return torch.Size((*shape[: len(shape) - self.mask.ndim], int(self.free.sum())))


@biject_to.register(TableSupport)  # type: ignore[no-untyped-call, untyped-decorator]
def _to_table(support: TableSupport) -> Transform:
    return LogRatios(support.mask)


class DirichletTable(TorchDistribution):  # type: ignore[misc]
    """Independent Dirichlet distributions of the rows of a table, each over the entries that a mask allows.

    Args:
        concentration: ``(*B, K)`` or ``(*B, J, K)``; what stands at forbidden entries does not matter.
        mask: ``(K,)`` or ``(J, K)`` bool, at least one True in each row. Default: all, and rows of the last axis.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, concentration: Tensor, mask: Tensor) -> None:
        self.mask, self.concentration = mask, concentration.where(mask, 1.0)
        shape = concentration.shape
        super().__init__(shape[: -mask.ndim], shape[-mask.ndim :], validate_args=False)

    @property
    def support(self) -> TableSupport:
        return TableSupport(self.mask)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DirichletTable:
        return DirichletTable(self.concentration.expand(*batch_shape, *self.event_shape), self.mask)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.from_log_gammas(log_gamma_draws(self.concentration.expand(self._extended_shape(sample_shape))))

    def from_log_gammas(self, draws: Tensor) -> Tensor:
        """A draw, from logarithms of draws of standard Gamma distributions with these concentrations."""
        shares = draws.masked_fill(~self.mask, -torch.inf).log_softmax(dim=-1)
        value: Any = _with_log(shares) * self.mask
        value.log_value = shares
        return cast(Tensor, value)

    def log_prob(self, value: Tensor) -> Tensor:
        logs = log_of(value, self.mask)
        terms = (self.concentration - 1) * logs - self.concentration.lgamma() * self.mask
        total = terms.sum(dim=-1) + (self.concentration * self.mask).sum(dim=-1).lgamma()
        return total.flatten(-self.mask.ndim + 1).sum(-1) if self.mask.ndim > 1 else total


class InverseWishartFactor(TorchDistribution):  # type: ignore[misc]
    r"""The packed Cholesky factor L of :math:`\Sigma = L L^\top \sim \mathrm{IW}(\nu, \Psi)`; any numbers are one.

    The numbers are those of `probseq.models.emissions.dense`: the lower triangle, with the logarithm of its diagonal.

    Args:
        degrees: ``(*B)``, :math:`\nu > D - 1`.
        scale_tril: ``(*B, D, D)``, the lower Cholesky factor of :math:`\Psi`.

    Reference:
        M. S. Bartlett (1933), "On the theory of statistical regression".
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, degrees: Tensor, scale_tril: Tensor) -> None:
        self.degrees, self.scale_tril, self.size = degrees, scale_tril, scale_tril.shape[-1]
        event = torch.Size((dense.packed_size(self.size),))
        super().__init__(scale_tril.shape[:-2], event, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> InverseWishartFactor:
        tril = self.scale_tril.expand(*batch_shape, self.size, self.size)
        return InverseWishartFactor(self.degrees.expand(batch_shape), tril)

    @property
    def halves(self) -> Tensor:
        """``(*B, D)``: half the degrees of freedom of the squared diagonal of Bartlett's factor."""
        return 0.5 * (self.degrees[..., None] - torch.arange(self.size, device=self.degrees.device).flip(0))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = (*sample_shape, *self.batch_shape)
        normals = torch.randn(*shape, self.size, self.size, dtype=self.degrees.dtype, device=self.degrees.device)
        return self.from_standard(log_gamma_draws(self.halves.expand(*shape, -1)), normals)

    def from_standard(self, log_gammas: Tensor, normals: Tensor) -> Tensor:
        """A draw, from standard normal draws ``(*B, D, D)`` and logarithms of Gamma draws ``(*B, D)``.

        An upper-triangular Bartlett factor U of the precision makes :math:`T U^{-\\top}` lower-triangular.
        """
        gammas = log_gammas.exp().clamp(min=torch.finfo(log_gammas.dtype).tiny)
        upper = normals.triu(1) + torch.diag_embed((2 * gammas).sqrt())
        return dense.pack(torch.linalg.solve_triangular(upper, self.scale_tril.mT, upper=True).mT)

    def log_prob(self, value: Tensor) -> Tensor:
        tril = dense.unpack(value, self.size)
        log_diagonal = tril.diagonal(dim1=-2, dim2=-1).log()
        log_scale = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        ratio = torch.linalg.solve_triangular(tril, self.scale_tril.expand_as(tril), upper=False)
        # From Sigma to L, and on to the logarithm of its diagonal: D + 1 - i of the nu + D + 1 powers are taken back.
        powers = torch.arange(self.size, device=value.device) + self.degrees[..., None]
        total: Tensor = (
            self.degrees * log_scale
            - torch.special.multigammaln(self.degrees / 2, self.size)
            - self.size * (0.5 * self.degrees - 1) * math.log(2)
            - 0.5 * ratio.square().sum((-2, -1))
            - (powers * log_diagonal).sum(-1)
        )
        return total
