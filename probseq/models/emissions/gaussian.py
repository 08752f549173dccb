"""Real vectors."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.errors import InputError, unknown
from probseq.models.emissions import dense, diagonal
from probseq.models.emissions.reals import VARIANCE_FLOOR, Reals, finite_numbers
from probseq.types import Array

COVARIANCES = ("diag", "full", "tied", "spherical")
_DENSE_FLOOR = 1e-8  # eigenvalues below it are known to less than 8 digits, too few to tell whether EM climbs


class Gaussian(Reals):
    r"""Real vectors: :math:`p(x_t \mid s_t = k) = \mathcal{N}(x_t; \mu_k, \Sigma_k)`.

    Args:
        num_dims: D, the size of a vector.
        covariance: ``"diag"`` (independent entries), ``"full"`` (any covariance), ``"tied"`` (any, the same for all
            states) or ``"spherical"`` (one variance for all entries).
        mean_strength: of the prior on the means, in observations at the data's location; 0 is maximum likelihood.
        covariance_strength: of the prior on the covariances, in observations with the data's variances.
        variance_floor: the smallest variance, as a part of the data's variance of the same entry (and in every
            direction). Without it the likelihood has no maximum: a state could shrink onto one observation. Default:
            1e-12, and 1e-8 for ``"full"`` and ``"tied"``, whose rounding errors are larger.

    The parameters are ``mean`` ``(D,)`` and the logarithm of standard deviations, ``log_scale`` (``(D,)``, or ``(1,)``
    where spherical); for ``"full"`` and ``"tied"`` they are ``mean`` and ``packed_tril``, the lower triangle of the
    Cholesky factor row by row, with the logarithm of its diagonal.

    The prior of a state is normal-inverse-gamma (or normal-inverse-Wishart), up to a constant

    .. math::
        -\tfrac{\kappa}{2} (\mu_k - m)^\top \Sigma_k^{-1} (\mu_k - m)
        - \tfrac{\nu}{2} \left( \log |\Sigma_k| + \mathrm{tr}(\Sigma_k^{-1} S) \right)

    with strengths :math:`\kappa, \nu`, location m and variances S of the data that `observe` has seen.

    Raises:
        InputError: sizes, strengths or a floor that cannot be, or an unknown kind of covariance.

    Example:
        >>> from probseq import emissions
        >>> bank = emissions.Gaussian.from_parameters([[0.0], [4.0]], [[1.0], [2.0]])
        >>> bank.means.shape, bank.num_parameters
        (torch.Size([1, 2, 1]), 4)
    """

    mean: nn.Parameter

    def __init__(
        self,
        num_dims: int,
        covariance: str = "diag",
        mean_strength: float = 0.0,
        covariance_strength: float = 0.0,
        variance_floor: float | None = None,
    ) -> None:
        if covariance not in COVARIANCES:
            raise unknown("covariance", covariance, COVARIANCES)
        is_dense = covariance in ("full", "tied")
        floor = variance_floor if variance_floor is not None else _DENSE_FLOOR if is_dense else VARIANCE_FLOOR
        super().__init__(num_dims, mean_strength, covariance_strength, floor)
        self.covariance, self._is_dense = covariance, is_dense
        if self._is_dense:
            self.shapes = {"mean": (num_dims,), "packed_tril": (dense.packed_size(num_dims),)}
        else:
            self.shapes = {"mean": (num_dims,), "log_scale": (num_dims if covariance == "diag" else 1,)}
        if covariance == "tied":
            self.shared = frozenset({"packed_tril"})
            self.packed_tril = nn.Parameter(self.neutral()["packed_tril"])

    @classmethod
    def from_parameters(cls, means: Array, covariances: Array, covariance: str = "diag", **prior: float) -> Gaussian:
        """A bank with one restart.

        Args:
            means: ``(K, D)``.
            covariances: variances ``(K, D)`` for ``"diag"`` and ``(K,)`` for ``"spherical"``; matrices ``(K, D, D)``
                for ``"full"`` and ``(D, D)`` for ``"tied"``.
            covariance: the kind.
            prior: strengths and floor, as for the family itself; relative to location and scale of the K states taken
                together, until a fit has seen data. Before that, no given covariance is below the floor.

        Raises:
            InputError: shapes that do not fit, or covariances that are not positive definite.
        """
        mean = finite_numbers("means", means)
        spread = finite_numbers("covariances", covariances)
        if mean.ndim != 2:
            raise InputError(f"means have shape {tuple(mean.shape)}; expected (K, D)")
        states, dims = mean.shape
        new = cls(dims, covariance, **prior)
        expected = {"diag": (states, dims), "spherical": (states,), "tied": (dims, dims)}.get(
            covariance, (states, dims, dims)
        )
        if spread.shape != expected:
            raise InputError(
                f"{covariance} covariances of {states} states and {dims} dimensions have shape {tuple(spread.shape)}; "
                f"expected {expected}; name their kind by covariance='full', 'tied', 'diag' or 'spherical'"
            )
        factor, variances = _given_factor(spread, covariance, dims)
        named = new._named(factor)
        new.double()._place_given(mean, variances, new.scale_tril(named).flatten(0, 1))
        bank = new.build(1, states)
        bank._set(mean=mean[None], **named)
        return bank

    def config(self) -> dict[str, Any]:
        return {"family": "Gaussian", "num_dims": self.num_dims, "covariance": self.covariance, **self._prior_config()}

    @property
    def means(self) -> Float[Tensor, "R K D"]:
        """``(R, K, D)``: the mean of each state."""
        return self.raw["mean"]

    @property
    def covariances(self) -> Float[Tensor, "R K D D"]:
        """``(R, K, D, D)``: the covariance matrix of each state, whatever its kind."""
        tril = self.scale_tril(self.raw)
        return tril @ tril.mT

    def scale_tril(self, raw: Mapping[str, Tensor]) -> Tensor:
        """``(*B, D, D)``: the lower Cholesky factor of the covariance."""
        factor = self._factor(raw)
        return factor if self._is_dense else torch.diag_embed(factor.exp())

    @property
    def _algebra(self) -> ModuleType:
        return dense if self._is_dense else diagonal

    def _factor(self, raw: Mapping[str, Tensor]) -> Tensor:
        """What the algebra takes: log-standard deviations ``(*B, D)``, or Cholesky factors ``(*B, D, D)``."""
        if self._is_dense:
            return dense.unpack(raw["packed_tril"], self.num_dims)
        return raw["log_scale"].expand(*raw["log_scale"].shape[:-1], self.num_dims)

    # One distribution

    def log_prob(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        result: Tensor = self._algebra.log_prob(raw["mean"], self._factor(raw), values)
        return result

    def draw(self, raw: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        mean = raw["mean"]
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + (self.scale_tril(raw) @ noise[..., None])[..., 0]

    def moments(self, raw: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return raw["mean"], self.scale_tril(raw).square().sum(dim=-1)

    def cdf(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        mean, variance = self.moments(raw)
        result: Tensor = torch.special.ndtr((values - mean) / variance.sqrt())
        return result

    def neutral(self) -> dict[str, Tensor]:
        return self._scaled({name: self.scale.new_zeros(shape) for name, shape in self.shapes.items()})

    def _scaled(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        new = {"mean": self.location + self.scale * raw["mean"]}
        if "log_scale" in raw:
            new["log_scale"] = self._joint(self.scale.log()) + raw["log_scale"]
        if "packed_tril" in raw:
            row, column = dense.places(self.num_dims, self.scale.device)
            unit, log_unit = self.scale[row], self.scale.log()[row]
            new["packed_tril"] = torch.where(row == column, log_unit + raw["packed_tril"], unit * raw["packed_tril"])
        return new

    def constrain(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._is_dense:
            return {**raw, "log_scale": raw["log_scale"].clamp(min=self._joint(self._log_floor))}
        # A covariance that is nowhere below the floor has a Cholesky factor whose diagonal is not below it either.
        row, column = dense.places(self.num_dims, self.scale.device)
        floor = torch.where(row == column, self._log_floor[row], -torch.inf)
        return {**raw, "packed_tril": raw["packed_tril"].clamp(min=floor)}

    def _joint(self, log_scale: Tensor) -> Tensor:
        """One standard deviation for all entries ``(1,)`` where spherical: that of the mean variance."""
        if self.covariance != "spherical":
            return log_scale
        return 0.5 * (2 * log_scale).exp().mean(dim=-1, keepdim=True).log()

    def log_affinity(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
        own = [self.scale_tril(raw).double() for raw in (first, second)]
        middle = torch.linalg.cholesky(0.5 * (own[0] @ own[0].mT + own[1] @ own[1].mT))
        log_scales = [tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) for tril in (*own, middle)]
        apart = (first["mean"].double() - second["mean"].double())[..., None]
        apart = torch.linalg.solve_triangular(middle, apart.expand(*middle.shape[:-1], 1), upper=False)[..., 0]
        result: Tensor = 0.5 * (log_scales[0] + log_scales[1]) - log_scales[2] - 0.125 * apart.square().sum(dim=-1)
        return result

    # A bank

    def table(self, raw: Mapping[str, Tensor], values: Float[Tensor, "M D"]) -> Float[Tensor, "R M K"]:
        result: Tensor = self._algebra.table(raw["mean"], self._factor(raw), values)
        return result

    def collect(
        self, raw: Mapping[str, Tensor], counts: Float[Tensor, "R M K"], values: Float[Tensor, "M D"]
    ) -> Float[Tensor, "R K Q"]:
        result: Tensor = self._algebra.collect(counts, values, self.location, raw["mean"], self._factor(raw))
        return result

    def expected_log_prob(self, raw: Mapping[str, Tensor], statistics: Float[Tensor, "R K Q"]) -> Float[Tensor, "R"]:
        mean = raw["mean"] - self.location
        result: Tensor = self._algebra.expected_log_prob(mean, self._factor(raw), statistics)
        return result.sum(dim=-1)

    @torch.no_grad()
    def m_step(self, statistics: Float[Tensor, "R K Q"]) -> None:
        mean, factor = self._algebra.mode(
            statistics, self._prior(torch.float64), self.covariance in ("tied", "spherical")
        )
        self._set(mean=self.location + mean, **self._named(factor))

    @torch.no_grad()
    def project(self) -> None:
        if not self._is_dense:
            return super().project()
        # The floor is on eigenvalues, of which the diagonal of a Cholesky factor knows only a part.
        tril = dense.unpack(self.packed_tril.double(), self.num_dims)
        self._set(packed_tril=dense.pack(dense.bounded_tril(tril, self._prior(torch.float64))))

    def _named(self, factor: Tensor) -> dict[str, Tensor]:
        return {"packed_tril": dense.pack(factor)} if self._is_dense else {"log_scale": factor}

    def weight(self, name: str, value: Tensor) -> Tensor:
        if name != "packed_tril":
            return super().weight(name, value)
        row, column = dense.places(self.num_dims, self.scale.device)
        return torch.where(row == column, torch.ones_like(value), self.scale[row] ** -2)

    def log_prior(self) -> Float[Tensor, "R"]:
        raw = self.raw
        of_mean, of_covariance = self._algebra.log_prior(
            raw["mean"] - self.location, self._factor(raw), self._prior(self.scale.dtype)
        )
        counted = of_covariance[:, :1] if self.shared else of_covariance
        result: Tensor = of_mean.sum(dim=-1) + counted.sum(dim=-1)
        return result


def _given_factor(covariances: Tensor, kind: str, num_dims: int) -> tuple[Tensor, Tensor]:
    """What the algebra takes, from covariances of that kind; and the mean variance of each entry, ``(D,)``.

    Raises:
        InputError: they are not positive definite.
    """
    if kind in ("diag", "spherical"):
        ok = bool(((covariances > 0) & covariances.isfinite()).all())
        table = covariances if kind == "diag" else covariances[:, None]
        factor, variances = 0.5 * table.log(), table.mean(0).expand(num_dims)
    else:
        factor, failed = torch.linalg.cholesky_ex(covariances)
        ok = bool((failed == 0).all() and torch.allclose(covariances, covariances.mT))
        variances = covariances.diagonal(dim1=-2, dim2=-1).reshape(-1, num_dims).mean(0)
    if not ok:
        raise InputError(f"{kind} covariances have to be positive (definite and symmetric); received one that is not")
    return factor[None] if kind != "tied" else factor[None, None], variances
