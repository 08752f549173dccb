r"""Paths of the chains in `probseq.ops.chain_conditional`: the most probable one, and draws; in double precision.

Memory is O(N T K): where a window leads to a state, only the states in it are compared.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.ops.chain_conditional import Chain, JumpWindow, Memoryless, SharedMatrix, filtered, predicted
from probseq.ops.conditional_recursion import at, windows

_BYTES = 64 * 2**20  # what the comparison of all pairs of states may hold at once


def viterbi(
    chain: Chain, log_emission: Float[Tensor, "C N T K"], lengths: Int[Tensor, "N"]
) -> tuple[Int[Tensor, "C N T"], Float[Tensor, "C N"]]:
    r"""The most probable path of each sequence, :math:`\arg\max_s p(s, y \mid x)`, and its ``log p(s, y | x)`` in nats.

    Returns:
        Paths, -1 at padding and throughout if y is impossible, and log-probabilities, -inf for these.

    Reference:
        A. J. Viterbi (1967), "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm".
    """
    chain, emission = _double(chain), log_emission.detach().double()
    links, best, origins = _Links(chain), predicted(chain, None) + emission[:, :, 0], []
    for t in range(1, emission.shape[2]):
        value, origin = links.best(best, t)
        running = (lengths > t)[:, None]
        best = torch.where(running, value + emission[:, :, t], best)
        origins.append(torch.where(running, origin, torch.arange(best.shape[-1], device=best.device)))
    log_prob, state = best.max(dim=-1)
    paths = [state]
    for origin in reversed(origins):
        paths.append(origin.gather(-1, paths[-1][..., None])[..., 0])
    return _masked(torch.stack(paths[::-1], dim=-1), lengths, log_prob > -torch.inf), log_prob


def sample_paths(
    chain: Chain,
    log_emission: Float[Tensor, "C N T K"],
    lengths: Int[Tensor, "N"],
    num_draws: int = 1,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "C N D T"]:
    """Draws of each path from ``p(s | y, x)``; -1 at padding, and throughout if y is impossible.

    Reference:
        S. Frühwirth-Schnatter (1994), "Data augmentation and dynamic linear models" (forward filtering, backward
        sampling).
    """
    chain, emission = _double(chain), log_emission.detach().double()
    links, beliefs = _Links(chain), filtered(chain, emission, lengths)
    last = beliefs[:, torch.arange(len(lengths), device=lengths.device), lengths - 1]  # (C, N, K)
    possible = (last > -torch.inf).any(dim=-1)
    state = _draw(last[:, :, None].expand(-1, -1, num_draws, -1), generator)
    paths = [state]
    for t in range(emission.shape[2] - 1, 0, -1):
        log_weights, first = links.origins(beliefs[:, :, t - 1], state, t)
        before = (_draw(log_weights, generator) + first).clamp(min=0)
        state = torch.where((lengths > t)[:, None], before, state)
        paths.append(state)
    return _masked(torch.stack(paths[::-1], dim=-1), lengths[:, None], possible[..., None])


class _Links:
    """The transitions of a chain, made ready once for all steps."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        if isinstance(chain, Memoryless):
            return
        self.log_scale, self.weights = chain.log_scale, chain.weights
        self.last = chain.first + self.weights.shape[-1] - 1 if isinstance(chain, JumpWindow) else 0

    def best(self, log_prob: Float[Tensor, "C N K"], t: int) -> tuple[Float[Tensor, "C N K"], Int[Tensor, "C N K"]]:
        """For each state the largest ``log_prob_j + log p(s_t | s_{t-1} = j)``, and its j."""
        if isinstance(self.chain, Memoryless):
            value, origin = log_prob.max(dim=-1, keepdim=True)
            return value + at(self.chain.log_prior, t), origin.expand_as(log_prob)
        x = log_prob + at(self.log_scale, t)
        if isinstance(self.chain, JumpWindow):
            value, place = self._into(x).max(dim=-1)
            origin = torch.arange(x.shape[-1], device=x.device) - self.last + place
        else:
            size = max(1, _BYTES // (8 * self.weights.numel()))
            parts = [(rows[:, :, None] + self.weights.mT[:, None]).max(dim=-1) for rows in torch.split(x, size, dim=1)]
            value, origin = (torch.cat(one, dim=1) for one in zip(*parts, strict=True))
        return value + at(self.chain.drive, t), origin.clamp(0, x.shape[-1] - 1)

    def origins(
        self, belief: Float[Tensor, "C N K"], state: Int[Tensor, "C N D"], t: int
    ) -> tuple[Float[Tensor, "C N D J"], Int[Tensor, "C N D"] | int]:
        """How probable the states before `state` are, up to a factor, and the number of the first of them."""
        if isinstance(self.chain, Memoryless):
            return belief[:, :, None].expand(-1, -1, state.shape[-1], -1), 0
        x = belief + at(self.log_scale, t)
        if isinstance(self.chain, SharedMatrix):
            into = self.weights.mT.gather(1, state.flatten(1)[..., None].expand(-1, -1, x.shape[-1]))
            return x[:, :, None] + into.view(*state.shape, -1), 0
        shares = self._into(x)
        return shares.gather(2, state[..., None].expand(-1, -1, -1, shares.shape[-1])), state - self.last

    def _into(self, x: Float[Tensor, "C N K"]) -> Float[Tensor, "C N K W"]:
        """What leads to each position, from the first in the window to the last."""
        return windows(x, self.last, self.weights.shape[-1] - 1 - self.last) + self.weights


def _draw(log_weights: Float[Tensor, "*B J"], generator: torch.Generator | None) -> Int[Tensor, "*B"]:
    """One index of each row, by its weight; any where none is possible."""
    possible = (log_weights > -torch.inf).any(dim=-1, keepdim=True)
    probs = log_weights.masked_fill(~possible, 0.0).softmax(dim=-1)
    return torch.multinomial(probs.flatten(0, -2), 1, generator=generator).view(log_weights.shape[:-1])


def _masked(paths: Int[Tensor, "*B T"], lengths: Tensor, possible: Tensor) -> Int[Tensor, "*B T"]:
    real = torch.arange(paths.shape[-1], device=paths.device) < lengths[..., None]
    return paths.masked_fill(~(real & possible[..., None]), -1)


def _double(chain: Chain) -> Chain:
    kind: Any = type(chain)
    parts = (getattr(chain, field.name) for field in fields(chain))
    double: Chain = kind(*(part.detach().double() if isinstance(part, Tensor) else part for part in parts))
    return double
