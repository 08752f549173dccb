"""Tables of log-densities and sums of statistics, for many rows in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from probseq.models.emissions.base import Emission

BLOCK = 2**18
"""Numbers in an intermediate tensor: what stays in a processor's cache."""


class Table(torch.autograd.Function):
    r"""The log-density of every row under every state, with the gradient by Fisher's identity.

    .. math::
        \nabla_\theta \sum_{mk} G_{mk} \log p(x_m \mid \theta_k)
        = \nabla_\theta \, \mathrm{E}\left[\sum_{mk} G_{mk} \log p(x_m, h_m \mid \theta_k)\right]

    with h what is missing or hidden in an observation, distributed as the present parameters say. The right side
    depends on the data through their sufficient statistics with weights G alone, so the backward pass costs what an
    M-step's statistics cost, and nothing of size (R, M, K, D) is kept for it.
    """

    @staticmethod
    def forward(ctx: Any, emission: Emission, values: Tensor, names: tuple[str, ...], *parameters: Tensor) -> Tensor:
        ctx.emission, ctx.names = emission, names
        ctx.save_for_backward(values, *parameters)
        return emission.table(dict(zip(names, parameters, strict=True)), values)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, *parameters = ctx.saved_tensors
        statistics = ctx.emission.collect(dict(zip(ctx.names, parameters, strict=True)), grad, values)
        with torch.enable_grad():
            raw = {n: p.detach().requires_grad_() for n, p in zip(ctx.names, parameters, strict=True)}
            expected = ctx.emission.expected_log_prob(raw, statistics).sum()
            return None, None, None, *torch.autograd.grad(expected, list(raw.values()))


def blocks(num_rows: int, numbers_per_row: int) -> Iterator[slice]:
    """Consecutive rows, so many at a time that they hold about ``BLOCK`` numbers."""
    size = max(64, BLOCK // max(1, numbers_per_row))
    return (slice(begin, begin + size) for begin in range(0, num_rows, size))


def weighted_sums(
    counts: Float[Tensor, "R M K"], values: Float[Tensor, "M D"], features: Callable[[Tensor], Tensor], size: int
) -> Float[Tensor, "R K Q"]:
    """``sum_m counts[r, m, k] features(x_m)`` in float64, with `features` from ``(m, D)`` to ``(m, Q)``, Q = `size`."""
    total = counts.new_zeros(counts.shape[0], counts.shape[2], size, dtype=torch.float64)
    for rows in blocks(len(values), counts.shape[0] * counts.shape[2] + size):
        total += counts[:, rows].double().mT @ features(values[rows])
    return total


def observed(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values with 0 in place of NaN, and 1 for what is there and 0 for what is not."""
    missing = values.isnan()
    return values.masked_fill(missing, 0.0), (~missing).to(values.dtype)


def linear(values: Float[Tensor, "M D"], coefficients: Float[Tensor, "R K D"]) -> Float[Tensor, "R M K"]:
    """Products of non-negative values and coefficients, summed over D, where 0 times minus infinity is 0."""
    x = values.to(coefficients.dtype)
    impossible = coefficients.isneginf()
    out = x @ coefficients.masked_fill(impossible, 0.0).mT
    if impossible.any():
        out = out.masked_fill(x @ impossible.to(x.dtype).mT > 0, -torch.inf)
    return out
