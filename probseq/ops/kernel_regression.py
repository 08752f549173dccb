r"""Averages with weights that fall with distance: kernel density, and Nadaraya-Watson regression.

With the Gaussian kernel :math:`K_b(u) = \exp(-|u|^2 / 2 b^2)` of bandwidth b, a query q, keys :math:`k_i` and values
:math:`v_i`,

.. math::
    \hat p(q) = \frac1M \sum_i \frac{K_b(q - k_i)}{(2 \pi b^2)^{D/2}}, \qquad
    \hat v(q) = \sum_i \alpha_i(q) \, v_i, \qquad \alpha_i(q) = \frac{K_b(q - k_i)}{\sum_j K_b(q - k_j)}

Because :math:`-|q - k|^2 = 2 q \cdot k - |q|^2 - |k|^2`, and what all keys share cancels, the weights of keys of equal
norm are :math:`\mathrm{softmax}(q \cdot k_i / b^2)`: softmax attention is this estimator, with
:math:`b^2 = \sqrt D` where products are divided by :math:`\sqrt D`.

Reference:
    E. A. Nadaraya (1964), "On estimating regression"; G. S. Watson (1964), "Smooth regression analysis"; Y.-H. H. Tsai
    et al. (2019), "Transformer dissection: a unified understanding of transformer's attention via the lens of kernel".
"""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from torch import Tensor

from probseq.errors import InputError


def kernel_weights(
    queries: Float[Tensor, "*B Q D"],
    keys: Float[Tensor, "*B M D"],
    bandwidth: float,
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "*B Q M"]:
    """The weights of Nadaraya-Watson regression: they are positive, and sum to 1 over the keys.

    Args:
        queries: ``(..., Q, D)``, where an average is wanted.
        keys: ``(..., M, D)``, where values are known.
        bandwidth: b, in the unit of the keys.
        mask: ``(..., Q, M)``, True where a query may look; at least one key each. Default: everywhere.

    Raises:
        InputError: a bandwidth that is not positive, keys of another size, or a query that may look nowhere.
    """
    return _log_kernel(queries, keys, bandwidth, mask).softmax(dim=-1)


def nadaraya_watson(
    queries: Float[Tensor, "*B Q D"],
    keys: Float[Tensor, "*B M D"],
    values: Float[Tensor, "*B M E"],
    bandwidth: float,
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "*B Q E"]:
    """The weighted average of the values at every query; arguments as for `kernel_weights`.

    Args:
        queries: ``(..., Q, D)``.
        keys: ``(..., M, D)``.
        values: ``(..., M, E)``, what is averaged.
        bandwidth: wide gives the mean of all values, narrow the value of the nearest key.
        mask: ``(..., Q, M)``.

    Raises:
        InputError: as for `kernel_weights`, or not one value for each key.

    Example:
        >>> from torch import tensor
        >>> x = tensor([[0.0], [1.0], [2.0]])
        >>> round(nadaraya_watson(tensor([[1.0]]), x, 10 * x, bandwidth=0.5).item(), 4)
        10.0
    """
    if values.shape[-2] != keys.shape[-2]:
        raise InputError(f"received {keys.shape[-2]} keys and {values.shape[-2]} values; expected one value for each")
    return kernel_weights(queries, keys, bandwidth, mask) @ values


def log_density(
    queries: Float[Tensor, "*B Q D"], points: Float[Tensor, "*B M D"], bandwidth: float
) -> Float[Tensor, "*B Q"]:
    """The logarithm of the kernel density estimate at every query, in nats.

    Args:
        queries: ``(..., Q, D)``.
        points: ``(..., M, D)``, draws of the distribution.
        bandwidth: b.

    Raises:
        InputError: as for `kernel_weights`.
    """
    num, dims = points.shape[-2:]
    constant = math.log(num) + dims / 2 * math.log(2 * math.pi * bandwidth**2) if bandwidth > 0 else 0.0
    return _log_kernel(queries, points, bandwidth).logsumexp(dim=-1) - constant


def _log_kernel(queries: Tensor, keys: Tensor, bandwidth: float, mask: Tensor | None = None) -> Tensor:
    """``-|q - k|^2 / 2 b^2``, ``(..., Q, M)``; -inf where the mask says no."""
    if not 0 < bandwidth < math.inf:
        raise InputError(f"bandwidth is {bandwidth}; expected a positive number")
    if queries.shape[-1] != keys.shape[-1]:
        raise InputError(f"queries have {queries.shape[-1]} numbers and keys {keys.shape[-1]}; expected the same")
    log_kernel = -(queries[..., :, None, :] - keys[..., None, :, :]).square().sum(dim=-1) / (2 * bandwidth**2)
    if mask is None:
        return log_kernel
    if not mask.any(dim=-1).all():
        raise InputError("mask leaves a query no key; expected at least one True in each row")
    return log_kernel.masked_fill(~mask, -math.inf)
