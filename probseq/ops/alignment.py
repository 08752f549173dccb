"""The cheapest one-to-one assignment of states to states."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.errors import InputError


def match(cost: Float[Tensor, "R K K"]) -> Int[Tensor, "R K"]:
    r"""For every restart the permutation p with the smallest :math:`\sum_i c_{i, p_i}`, by the Hungarian method.

    Args:
        cost: ``(R, K, K)``: ``cost[r, i, j]`` is what it costs to put state j of restart r in place i.

    Returns:
        ``(R, K)``: ``p[r, i]`` is the state that comes to place i.

    Raises:
        InputError: costs that are not finite.

    Reference:
        H. W. Kuhn (1955), "The Hungarian method for the assignment problem".

    Example:
        >>> match(torch.tensor([[[3.0, 1.0], [1.0, 3.0]]]))
        tensor([[1, 0]])
    """
    from scipy.optimize import linear_sum_assignment

    if not cost.isfinite().all():
        raise InputError("the costs of an assignment hold a number that is not finite; expected finite numbers")
    table = cost.detach().cpu().numpy()
    found = np.array([linear_sum_assignment(one)[1] for one in table]).reshape(cost.shape[:2])
    return torch.from_numpy(found.astype(np.int64)).to(cost.device)
