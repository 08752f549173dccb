"""Matrix products of probabilities that may be too small for a float."""

from __future__ import annotations

import torch
from torch import Tensor


def log_product(log_a: Tensor, log_b: Tensor) -> Tensor:
    r""":math:`\log \sum_k a_{nk} b_{km}` from the logarithms of both factors.

    A plain product of matrices, and sums in log space for the entries that underflow there.

    Args:
        log_a: ``(..., N, K)``.
        log_b: ``(..., K, M)``, with the same leading axes; probabilities, so at most 0.

    Returns:
        ``(..., N, M)``, -inf where no term of a sum is possible.
    """
    top = log_a.detach().amax(dim=-1, keepdim=True)
    top = top.masked_fill(top == -torch.inf, 0.0)
    product = (log_a - top).exp() @ log_b.exp()
    numbers = torch.finfo(product.dtype)
    low = product < numbers.tiny / numbers.eps  # sums below it lack digits
    none = product == 0  # where the logarithm would have an infinite gradient
    result = product.masked_fill(none, 1.0).log().masked_fill(none, -torch.inf) + top
    if low.any() and (low := low & _possible(log_a, log_b)).any():
        *lead, n, m = low.nonzero(as_tuple=True)
        result[low] = (log_a[(*lead, n)] + log_b.transpose(-1, -2)[(*lead, m)]).logsumexp(dim=-1)
    return result


def _possible(log_a: Tensor, log_b: Tensor) -> Tensor:
    one, other = ((x > -torch.inf).to(x.dtype) for x in (log_a, log_b))
    return one @ other > 0
