r"""Normal distributions with a covariance matrix :math:`\Sigma = L L^\top`, L lower-triangular.

L is kept as the numbers of its lower triangle, row by row, with the logarithm of its diagonal: any numbers are a
covariance. Statistics are the weight, the sum and the sum of outer products around a center.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probseq.models.emissions.diagonal import HALF_LOG_2PI, Prior
from probseq.models.emissions.table import blocks, observed, weighted_sums


def packed_size(num_dims: int) -> int:
    """How many numbers a lower triangle has."""
    return num_dims * (num_dims + 1) // 2


def places(num_dims: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of each of them."""
    row, column = torch.tril_indices(num_dims, num_dims, device=device)
    return row, column


def unpack(packed: Tensor, num_dims: int) -> Tensor:
    """``(*B, D (D + 1) / 2)`` to L ``(*B, D, D)``."""
    row, column = places(num_dims, packed.device)
    on_diagonal = row == column
    # Only the diagonal is exponentiated: a large number off it would overflow, and its masked gradient be NaN.
    numbers = torch.where(on_diagonal, packed.masked_fill(~on_diagonal, 0.0).exp(), packed)
    out = packed.new_zeros(*packed.shape[:-1], num_dims, num_dims)
    out[..., row, column] = numbers
    return out


def pack(tril: Tensor) -> Tensor:
    """The inverse of `unpack`."""
    row, column = places(tril.shape[-1], tril.device)
    numbers = tril[..., row, column]
    return torch.where(row == column, numbers.abs().log(), numbers)


def masked_tril(tril: Tensor, there: Tensor) -> Tensor:
    """The Cholesky factor of the covariance of the entries that are `there` ``(*B, D)``; the identity elsewhere."""
    keep = there.to(torch.float64)
    wide = tril.double()
    covariance = wide @ wide.mT * keep[..., None] * keep[..., None, :] + torch.diag_embed(1 - keep)
    factor: Tensor = torch.linalg.cholesky(covariance)
    return factor.to(tril.dtype)


def log_prob(mean: Tensor, tril: Tensor, values: Tensor) -> Tensor:
    """``(*B)`` from ``(*B, D)``; entries that are NaN are integrated out."""
    missing = values.isnan()
    if missing.any():
        tril = masked_tril(tril, ~missing)
    difference = (values.masked_fill(missing, 0.0) - mean).masked_fill(missing, 0.0).to(mean.dtype)
    z = torch.linalg.solve_triangular(tril, difference[..., None], upper=False)[..., 0]
    log_scale = tril.diagonal(dim1=-2, dim2=-1).log()  # 0 where an entry is missing
    number = (~missing).sum(dim=-1, dtype=mean.dtype)
    result: Tensor = -0.5 * z.square().sum(dim=-1) - log_scale.sum(dim=-1) - HALF_LOG_2PI * number
    return result


def patterns(values: Float[Tensor, "M D"]) -> Iterator[tuple[Bool[Tensor, "D"], Int[Tensor, "U"] | slice]]:
    """For every set of entries that some rows have: that set, and these rows. Rows without any entry are left out."""
    there = ~values.isnan()
    if there.all():
        yield there.new_ones(there.shape[1]), slice(None)
        return
    some = there.any(dim=-1).nonzero()[:, 0]
    kind = torch.zeros_like(some)
    for part in torch.split(there[some], 31, dim=1):  # 31 entries at a time make one number
        bits = 2 ** torch.arange(part.shape[1], device=part.device)
        kind = torch.unique(kind * 2**31 + (part * bits).sum(dim=-1), return_inverse=True)[1]
    for rows in torch.split(some[kind.argsort(stable=True)], kind.bincount().tolist()):
        yield there[rows[0]], rows


def table(
    mean: Float[Tensor, "R K D"], tril: Float[Tensor, "R K D D"], values: Float[Tensor, "M D"]
) -> Float[Tensor, "R M K"]:
    """`log_prob` of every row under every distribution."""
    out = mean.new_zeros(mean.shape[0], len(values), mean.shape[1])
    for there, rows in patterns(values):
        out[:, rows] = _of_pattern(mean, tril, values[rows], there)
    return out


def _of_pattern(mean: Tensor, tril: Tensor, values: Tensor, there: Tensor) -> Tensor:
    """`table` of rows that have the same entries: one inverse for each distribution, then products of matrices."""
    factor = tril if there.all() else masked_tril(tril, there)
    known = torch.diag(there.to(tril.dtype))
    whiten = torch.linalg.solve_triangular(factor, known.expand_as(tril), upper=False)
    log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, True)  # 0 where an entry is missing
    out = mean.new_empty(mean.shape[0], len(values), mean.shape[1])
    for rows in blocks(len(values), mean.numel()):
        x, _ = observed(values[rows].T.contiguous())
        z = whiten @ (x - mean[..., None]).to(mean.dtype)  # (R, K, D, m)
        out[:, rows] = (-0.5 * z.square_().sum(dim=2) - log_scale - HALF_LOG_2PI * int(there.sum())).mT
    return out


def collect(
    counts: Float[Tensor, "R M K"],
    values: Float[Tensor, "M D"],
    center: Float[Tensor, "D"],
    mean: Float[Tensor, "R K D"],
    tril: Float[Tensor, "R K D D"],
) -> Float[Tensor, "R K Q"]:
    """Weights, sums and sums of outer products of ``x - center``; entries that are missing have their expectation."""
    size = values.shape[1]

    def features(x: Tensor) -> Tensor:
        x, _ = observed(x.double() - center)
        return torch.cat([torch.ones_like(x[:, :1]), x, (x[:, :, None] * x[:, None, :]).flatten(1)], dim=-1)

    total = counts.new_zeros(counts.shape[0], counts.shape[2], 1 + size + size**2, dtype=torch.float64)
    for there, rows in patterns(values):
        sums = weighted_sums(counts[:, rows], values[rows], features, total.shape[-1])
        total += sums if there.all() else _expect(sums, there, (mean - center).double(), tril.double())
    return total


def _expect(sums: Tensor, there: Tensor, mean: Tensor, tril: Tensor) -> Tensor:
    r"""Sums of rows whose entries are 0 where they are missing, to sums in which these have their expectation.

    Given the entries o that are there, the row is :math:`A x + b` in expectation, with
    :math:`A = \Sigma_{\cdot o} \Sigma_{oo}^{-1}` and :math:`b = \mu - A \mu`, and it varies by
    :math:`C = \Sigma - A \Sigma_{o \cdot}`. So the sums change as moments do under an affine map.
    """
    weight, first, second = unflatten(sums, there.numel())
    covariance = tril @ tril.mT
    gain = torch.cholesky_solve(covariance * there[:, None], masked_tril(tril, there)).mT * there  # A
    residual = covariance - gain @ covariance
    rest = mean - (gain @ mean[..., None])[..., 0]  # b
    moved = (gain @ first[..., None])[..., 0]
    cross = moved[..., :, None] * rest[..., None, :]
    new_second = (
        gain @ second @ gain.mT
        + cross
        + cross.mT
        + weight[..., None, None] * (rest[..., :, None] * rest[..., None, :] + residual)
    )
    return torch.cat([weight[..., None], moved + weight[..., None] * rest, new_second.flatten(-2)], dim=-1)


def unflatten(statistics: Tensor, num_dims: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weight ``(*B)``, first ``(*B, D)`` and second moments ``(*B, D, D)``."""
    weight, first, second = torch.split(statistics, [1, num_dims, num_dims**2], dim=-1)
    return weight[..., 0], first, torch.unflatten(second, -1, (num_dims, num_dims))


def expected_log_prob(mean: Tensor, tril: Tensor, statistics: Tensor) -> Tensor:
    """``(*B)``: the sum of log-densities; `mean` is relative to the center."""
    weight, first, second = unflatten(statistics, mean.shape[-1])
    cross = first[..., :, None] * mean[..., None, :]
    scatter = second - cross - cross.mT + weight[..., None, None] * (mean[..., :, None] * mean[..., None, :])
    distance = torch.cholesky_solve(scatter, tril).diagonal(dim1=-2, dim2=-1).sum(-1)
    log_scale = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * distance - weight * (log_scale + mean.shape[-1] * HALF_LOG_2PI)


def log_prior(mean: Tensor, tril: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """The part of the means and that of the covariances, ``(*B)`` each."""
    z = torch.linalg.solve_triangular(tril, mean[..., None], upper=False)
    trace = torch.linalg.solve_triangular(tril, torch.diag(prior.scale).expand_as(tril), upper=False)
    log_scale = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    of_covariance = -0.5 * prior.covariance_strength * (2 * log_scale + trace.square().sum((-2, -1)))
    return -0.5 * prior.mean_strength * z.square().sum((-2, -1)), of_covariance


def mode(statistics: Float[Tensor, "R K Q"], prior: Prior, pooled: bool = False) -> tuple[Tensor, Tensor]:
    """Means, relative to the center, and Cholesky factors at their posterior mode; NaN where nothing is known.

    Args:
        statistics: ``(R, K, 1 + D + D D)``.
        prior: strengths and floor.
        pooled: one covariance for all states, ``(R, 1, D, D)``.
    """
    weight, first, second = unflatten(statistics, len(prior.scale))
    mean = first / (weight + prior.mean_strength)[..., None]
    known = mean.nan_to_num()
    strength = (weight + prior.mean_strength)[..., None, None]
    squares = second - strength * known[..., :, None] * known[..., None, :]
    if pooled:
        squares, weight = squares.sum(1, True), weight.sum(1, True)
    squares = squares + prior.covariance_strength * torch.diag(prior.scale.square())
    covariance = squares / (weight + prior.covariance_strength)[..., None, None]
    return mean, _nearest_tril(covariance, prior)


def bounded_tril(tril: Float[Tensor, "R K D D"], prior: Prior) -> Float[Tensor, "R K D D"]:
    """The nearest allowed Cholesky factors of covariances that are somewhere below the floor; NaN for all others."""
    standard = tril / prior.scale[:, None]
    low = torch.linalg.eigvalsh(standard @ standard.mT)[..., :1, None] < prior.floor
    return torch.where(low, _nearest_tril(tril @ tril.mT, prior), torch.nan)


def _nearest_tril(covariance: Tensor, prior: Prior) -> Tensor:
    r"""The Cholesky factor of the most likely covariance that is nowhere below the floor.

    In units of the data's scale, eigenvalues below the floor are put there. Among all :math:`\Sigma \succeq f S` this
    maximizes :math:`-\log |\Sigma| - \mathrm{tr}(\Sigma^{-1} C)`, because the maximum has the eigenvectors of C.
    """
    known = covariance.isfinite().all(-1, True).all(-2, True)
    standard = covariance / (prior.scale[:, None] * prior.scale)
    values, vectors = torch.linalg.eigh(torch.where(known, standard, 0.0))
    bounded = vectors * values.clamp(min=prior.floor).unsqueeze(-2) @ vectors.mT
    factor = prior.scale[:, None] * torch.linalg.cholesky(bounded)
    return torch.where(known, factor, torch.nan)
