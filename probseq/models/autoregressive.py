"""`Autoregressive`: networks that compute ``p(x_t | x_<t)``, R of them behind the likelihood contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, unknown
from probseq.models import emissions
from probseq.models.base import Model, restart_seed
from probseq.models.emissions import Emission
from probseq.models.network import Network
from probseq.types import TokenLogProb

__all__ = ["Autoregressive", "Network", "net_token_log_prob"]

NetworkState = list[tuple[Tensor, Any]]
"""For each network: its outputs ``(N, 1, P)`` for the next observation, and its own state."""


class Autoregressive(Model):
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

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        if not nets:
            raise InputError("Autoregressive needs at least one network; received none")
        for net in nets:
            if not isinstance(net, Network):
                raise InputError(f"received {type(net).__name__}; expected a network such as ps.LSTM(27)")
        self.nets: list[Network] = nn.ModuleList(nets)  # type: ignore[assignment]
        first = self.nets[0]
        if any(type(net) is not type(first) or net.config() != first.config() for net in self.nets):
            raise InputError("the networks differ in kind or size; restarts of one model must be alike")
        self.num_restarts = len(nets)
        self.training = first.training  # so that a selected restart is in the mode of the whole

    @property
    def emission(self) -> Emission:  # type: ignore[override]
        """The head of the first network: all are of one family."""
        return self.nets[0].emission

    @classmethod
    def from_seed(cls, factory: Callable[[], Network], num_restarts: int = 1, seed: int = 0) -> Autoregressive:
        """Build R networks; the starting weights of restart r depend on ``(seed, r)`` alone.

        Raises:
            InputError: fewer than one restart.
        """
        if num_restarts < 1:
            raise InputError(f"num_restarts is {num_restarts}; expected 1 or more")
        nets = []
        with torch.random.fork_rng(devices=[]):
            for r in range(num_restarts):
                torch.manual_seed(restart_seed(seed, r))
                nets.append(factory())
        return cls(nets)

    def config(self) -> dict[str, Any]:
        network = {"kind": type(self.nets[0]).__name__, **self.nets[0].config()}
        return {"num_restarts": self.num_restarts, "network": network}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Autoregressive:
        from probseq.models import NETWORKS

        arguments = dict(config["network"])
        name = arguments.pop("kind")
        if name not in NETWORKS:
            raise unknown("network", name, NETWORKS)
        if "emission" in arguments:
            arguments["emission"] = emissions.from_config(arguments["emission"])
        kind = NETWORKS[name]
        return cls.from_seed(lambda: kind(**arguments), config["num_restarts"])

    @property
    def initialized(self) -> bool:
        """Whether `observe` has seen the data, or has no use for them."""
        return all(net.initialized for net in self.nets)

    def observe(self, data: Sequences) -> None:
        """Let every network fix the units that it reads vectors in; see `Network`. A fit does it first of all."""
        for net in self.nets:
            net.observe(data)

    def check_values(self, batch: Batch) -> None:
        super().check_values(batch)
        self.check_complete(batch)

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_values(batch)
        return torch.stack([net_token_log_prob(net, batch) for net in self.nets])

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

    def select(self, restart: int) -> Autoregressive:
        """The model with that network only; the network is shared, not copied."""
        lone = type(self)([self.nets[self.check_restart(restart)]])
        lone.vocabulary = self.vocabulary
        return lone


def net_token_log_prob(net: Network, batch: Batch) -> Float[Tensor, "N T"]:
    """``log p(x_t | x_<t)`` of one network; 0 at padding. The values of the batch have been checked.

    Where no gradient is wanted, long sequences are read in pieces, and the state is carried from one to the next.
    """
    inputs = torch.cat([net.begin(len(batch.values)), net.read(batch.values[:, :-1])], dim=1)
    piece = inputs.shape[1] if torch.is_grad_enabled() else net.piece(len(inputs))
    state, terms = None, []
    for begin in range(0, inputs.shape[1], piece):
        outputs, state = net(inputs[:, begin : begin + piece], state)
        terms.append(net.log_prob(outputs, batch.values[:, begin : begin + piece]))
    return torch.cat(terms, dim=1).masked_fill(~batch.mask, 0.0)
