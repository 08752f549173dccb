"""The hidden states of an `HMMDecoder`: K abstract ones, or the positions of the source."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from probseq.models.encoder import Encoded
from probseq.models.jumps import Jumps
from probseq.ops.chain_conditional import Chain, JumpWindow, Memoryless, SharedMatrix
from probseq.ops.product_softmax import bounded, in_full

Reading = tuple[Tensor, ...]
"""What states make of the sources, whatever is written; every tensor has the sequences as its first axis."""


class States(nn.Module):
    """What a kind of states has to say; M components, each with parameters of its own.

    Attributes:
        num_components: M.
        only_end: whether the last position of a source emits the end symbol and no other.
    """

    num_components: int
    only_end: bool = False

    def read(self, encoded: Encoded) -> Reading:
        """What is the same at every step; it is computed once for a source."""
        raise NotImplementedError

    def scores(self, reading: Reading) -> Float[Tensor, "M #N K V"]:
        """How much each state calls for each symbol, whatever was written before."""
        raise NotImplementedError

    def chain(self, encoded: Encoded, reading: Reading, past: Float[Tensor, "N #T D"]) -> Chain:
        """The initial distribution and the transitions, with M chains side by side."""
        raise NotImplementedError


class LatentStates(States):
    r"""K states whose probabilities are functions of the summary h of the source.

    .. math::
        p(s_1 = k) \propto e^{\pi_k(h)}, \qquad p(s_t = k \mid s_{t-1} = j) \propto A_{jk} \, e^{\delta_k(h)}

    Scores further than 30 nats below the largest of their row count as 30 below, so that no belief can vanish.

    Args:
        num_states: K.
        num_components: M.
        num_symbols: V.
        hidden_dim: the size of the summary.
        order: 1, or 0 for states that do not depend on one another.
    """

    def __init__(self, num_states: int, num_components: int, num_symbols: int, hidden_dim: int, order: int) -> None:
        super().__init__()
        self.num_components, self.order = num_components, order
        self.table = nn.Parameter(torch.randn(num_components, num_states, num_symbols))
        self.initial = nn.Linear(hidden_dim, num_components * num_states)
        if order:
            self.transition = nn.Parameter(torch.randn(num_components, num_states, num_states))
            self.drive = nn.Linear(hidden_dim, num_components * num_states)

    def read(self, encoded: Encoded) -> Reading:
        layers = [self.initial, self.drive] if self.order else [self.initial]
        return tuple(bounded(layer(encoded.summary).unflatten(-1, (self.num_components, -1))) for layer in layers)

    def scores(self, reading: Reading) -> Float[Tensor, "M 1 K V"]:
        return self.table[:, None]

    def chain(self, encoded: Encoded, reading: Reading, past: Float[Tensor, "N #T D"]) -> Chain:
        initial = reading[0].log_softmax(dim=-1).transpose(0, 1)
        if not self.order:
            return Memoryless(initial[:, :, None])
        return SharedMatrix(initial, bounded(self.transition).log_softmax(dim=-1), reading[1].transpose(0, 1))


class AlignmentStates(States):
    r"""A state is a position of the source: what is written at a step is written because of what stands there.

    With a query :math:`q_t` made of the past outputs and the encoder's :math:`h_k`, order one walks by jumps,

    .. math::
        p(s_t = k \mid s_{t-1} = j, y_{<t}, x) \propto e^{J_{k-j} + J_{k-j}(h_j) + q_t^\top h_k / \sqrt E},

    for jumps k - j in the window, and order zero looks anywhere, :math:`p(s_t = k) \propto e^{q_t^\top h_k / \sqrt E}`.
    The first position is any one, with a bias towards the first ones; where no jump leads back, it is within the
    largest jump of the beginning. A walk that has to go on at every step stays at the last position, which the end
    symbol stands at, and writes nothing else there.

    Args:
        num_components: M.
        num_symbols: V.
        hidden_dim: E, the size of the encoder's outputs.
        past_dim: D, the size of what is known of the past outputs.
        order: 1 or 0.
        jumps: the window of jumps.
        dropout: the share of units dropped, in training.
    """

    def __init__(
        self,
        num_components: int,
        num_symbols: int,
        hidden_dim: int,
        past_dim: int,
        order: int,
        jumps: Jumps,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_components, self.order, self.jumps = num_components, order, jumps
        self.only_end = order == 1 and jumps.is_strict
        self.query = nn.Linear(past_dim, num_components * hidden_dim)
        self.mix, self.drop = nn.Linear(hidden_dim, hidden_dim), nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, num_components * num_symbols)
        if order:
            self.jump = nn.Linear(hidden_dim, num_components * jumps.size)
            self.start = nn.Parameter(torch.empty(num_components, jumps.highest))
            self._lean_forward()

    @torch.no_grad()
    def _lean_forward(self) -> None:
        """Before training a walk tends to begin at the beginning, and to go on by one position at a step.

        Each position further off is e times less probable, which any gradient can turn around.
        """
        jump = torch.arange(self.jumps.lowest, self.jumps.highest + 1)
        self.jump.bias.copy_(-(jump - 1.0).abs().repeat(self.num_components))
        self.start.copy_(torch.arange(self.jumps.highest, 0, -1))

    def read(self, encoded: Encoded) -> Reading:
        scores = self.head(self.drop(self.mix(encoded.outputs).tanh()))
        if not self.order:
            return (scores,)
        return scores, in_full(self.jump(encoded.outputs))

    def scores(self, reading: Reading) -> Float[Tensor, "M N S V"]:
        return by_component(reading[0], self.num_components)

    def chain(self, encoded: Encoded, reading: Reading, past: Float[Tensor, "N #T D"]) -> Chain:
        query = by_component(self.query(past), self.num_components)  # (M, N, T, E)
        drive = in_full(query @ encoded.outputs.mT) / math.sqrt(encoded.outputs.shape[-1])
        drive = drive.masked_fill(~encoded.mask[:, None], -torch.inf)
        if not self.order:
            return Memoryless(drive.log_softmax(dim=-1))
        jump = by_component(reading[1], self.num_components)  # (M, N, S, W)
        if self.only_end:
            jump = _staying(jump, encoded.mask)
        initial = self._start(drive[:, :, 0]).log_softmax(dim=-1)
        return JumpWindow(initial, jump, min(self.jumps.lowest, 0), drive)

    def _start(self, drive: Float[Tensor, "M N S"]) -> Float[Tensor, "M N S"]:
        size = drive.shape[-1]
        beyond = -torch.inf if self.jumps.lowest >= 0 else 0.0
        bias = torch.nn.functional.pad(self.start, (0, max(0, size - self.jumps.highest)), value=beyond)
        return drive + bias[:, None, :size]


def by_component(x: Float[Tensor, "N L MC"], num_components: int) -> Float[Tensor, "M N L C"]:
    """What a layer gives for each of M components."""
    return x.view(*x.shape[:2], num_components, -1).permute(2, 0, 1, 3)


def last_positions(mask: Bool[Tensor, "N S"]) -> Bool[Tensor, "N S"]:
    """Where the end symbol of each source stands."""
    return mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))


def _staying(jump: Float[Tensor, "M N S W"], mask: Bool[Tensor, "N S"]) -> Float[Tensor, "M N S _"]:
    """With the jumps from 0 on: no jump of 0, but from the last position."""
    last = last_positions(mask)
    stay = torch.zeros_like(jump[..., :1]).masked_fill(~last[..., None], -torch.inf)
    return torch.cat([stay, jump], dim=-1)
