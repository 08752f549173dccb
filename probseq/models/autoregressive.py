"""`Autoregressive`: networks that compute ``p(x_t | x_<t)``, R of them behind the likelihood contract."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from probseq.errors import InputError
from probseq.models.network import Network
from probseq.models.network_model import NetworkModel

__all__ = ["Autoregressive", "Network"]

NetworkState = list[tuple[Tensor, Any]]
"""For each network: its outputs ``(N, 1, P)`` for the next observation, and its own state."""


class Autoregressive(NetworkModel):
    r"""R networks of one architecture, each a model of sequences by the chain rule.

    .. math::
        p(x_1, \ldots, x_T) = \prod_t p(x_t \mid \theta_t), \qquad
        \theta_t = \mathrm{net}(\text{begin}, x_1, \ldots, x_{t-1})

    Here :math:`\theta_t` are the parameters of the network's emission family: the logits of a softmax for symbols,
    means and scales for real vectors. The networks are plain modules in a loop: on a CPU torch's fused kernels beat any
    batched rewrite.

    A network reads every observation, so none may be missing; an HMM integrates over those that are.

    Args:
        nets: R networks with the same configuration.

    Raises:
        InputError: no networks, something that is not a network, or networks of different configurations.

    Example:
        >>> from probseq import LSTM, Autoregressive, Sequences
        >>> model = Autoregressive.from_seed(lambda: LSTM(27, hidden_dim=8), num_restarts=3, seed=0)
        >>> model.token_log_prob(Sequences.from_list([[0, 1, 2]]).batch()).shape
        torch.Size([3, 1, 3])
    """

    nets: list[Network]
    example: ClassVar[str] = "ps.LSTM(27)"

    def initial_state(self, num_sequences: int) -> NetworkState:
        return [net(net.begin(num_sequences)) for net in self.nets]

    def next_log_prob(self, state: NetworkState) -> Float[Tensor, "R N V"]:
        if not self.num_symbols:
            raise InputError("only a model of symbols has a probability for each next symbol; draw with draw_next")
        return torch.stack([outputs[:, -1].log_softmax(dim=-1) for outputs, _ in state])

    def draw_next(self, state: NetworkState, generator: torch.Generator | None = None) -> Shaped[Tensor, "N *D"]:
        self.check_single()
        return self.nets[0].draw(state[0][0][:, -1], generator)

    def advance(self, state: NetworkState, values: Shaped[Tensor, "N *D"]) -> NetworkState:
        return [net(net.read(values[:, None]), memory) for net, (_, memory) in zip(self.nets, state, strict=True)]

    def state_after(self, values: Shaped[Tensor, "N T *D"]) -> NetworkState:
        """Every network reads all at once, or where no gradient is wanted, in pieces, so that memory does not grow."""
        after = []
        for net in self.nets:
            inputs, memory = torch.cat([net.begin(len(values)), net.read(values)], dim=1), None
            piece = inputs.shape[1] if torch.is_grad_enabled() else net.piece(len(inputs))
            for begin in range(0, inputs.shape[1], piece):
                outputs, memory = net(inputs[:, begin : begin + piece], memory)
            after.append((outputs[:, -1:], memory))
        return after
