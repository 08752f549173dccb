"""The structure of a hidden Markov model: which steps are possible, and which states share an emission.

A mask is a bool array, True where a probability may be above zero. What a mask forbids stays at zero in every fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from probseq.errors import InputError
from probseq.types import Array


def left_to_right(num_states: int, max_jump: int | None = None) -> Bool[Tensor, "K K"]:
    """A state may stay or move on to a higher one, by at most `max_jump` states (default: any number).

    Example:
        >>> left_to_right(3, max_jump=1).int().tolist()
        [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    """
    jump = _jumps(num_states)
    return (jump >= 0) & (jump <= (num_states if max_jump is None else max_jump))


def banded(num_states: int, width: int) -> Bool[Tensor, "K K"]:
    """A state may move by at most `width` states, up or down.

    Example:
        >>> banded(3, 1).int().tolist()
        [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    """
    return _jumps(num_states).abs() <= width


def first_state(num_states: int) -> Bool[Tensor, "K"]:
    """Every sequence begins in state 0: the initial mask that goes with `left_to_right`."""
    return torch.arange(num_states) == 0


def check_mask(name: str, mask: Array | None, shape: tuple[int, ...]) -> Bool[Tensor, "*_"]:
    """The mask as a bool tensor; everything is allowed where it is None.

    Raises:
        InputError: another shape, or a row that forbids every state.
    """
    if mask is None:
        return torch.ones(shape, dtype=torch.bool)
    allowed = torch.as_tensor(mask).bool().cpu()
    if tuple(allowed.shape) != shape:
        raise InputError(f"{name}_mask has shape {tuple(allowed.shape)}; expected {shape}")
    if not allowed.any(dim=-1).all():
        raise InputError(f"{name}_mask has a row without any True; expected at least one state that can be reached")
    return allowed


def check_groups(groups: Sequence[int] | None, num_states: int) -> Int[Tensor, "K"]:
    """Which emission distribution each state has: ``0 .. K - 1`` where None.

    Raises:
        InputError: not one number for each state, or numbers that leave one out.
    """
    result = torch.arange(num_states) if groups is None else torch.as_tensor(groups, dtype=torch.int64)
    used = torch.unique(result)
    if result.shape != (num_states,) or not torch.equal(used, torch.arange(len(used))):
        raise InputError(
            f"emission_groups is {result.tolist()}; expected {num_states} numbers, one for each state, "
            "that use all of 0, 1, ... up to the largest"
        )
    return result


def _jumps(num_states: int) -> Tensor:
    state = torch.arange(num_states)
    return state - state[:, None]
