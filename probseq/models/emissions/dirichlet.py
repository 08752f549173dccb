"""The symmetric Dirichlet prior: what it may be, its density and its posterior mode."""

from __future__ import annotations

from torch import Tensor

from probseq.errors import InputError


def check_concentration(what: str, value: float) -> float:
    """`value` if it is a usable Dirichlet concentration.

    Raises:
        InputError: it is below 1 or not finite.
    """
    if not 1.0 <= value < float("inf"):
        raise InputError(
            f"{what} concentration is {value}; expected 1 (maximum likelihood) or more (a prior that smooths)"
        )
    return float(value)


def log_dirichlet(probs: Tensor, concentration: float) -> Tensor:
    """``sum (a - 1) log p`` over the last axis; 0 when a is 1, also where p is 0."""
    if concentration == 1:
        return probs.new_zeros(probs.shape[:-1])
    return (concentration - 1) * probs.log().sum(dim=-1)


def dirichlet_mode(counts: Tensor, concentration: float) -> Tensor:
    """Rows of counts to probabilities ``(n + a - 1) / sum``; NaN where a row has no counts, and so says nothing."""
    raised = counts + (concentration - 1)
    return raised / raised.sum(dim=-1, keepdim=True)
