"""`Autoregressive`: networks that compute ``p(x_t | x_<t)``, R of them behind the likelihood contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.data.sequences import Batch
from probseq.errors import InputError, unknown
from probseq.models.base import Model, restart_seed
from probseq.types import TokenLogProb


class Network(nn.Module):
    """What `Autoregressive` asks of a network: a state that is computed, and logits of the next symbol.

    Inputs are symbols 0 to V - 1, and V for the begin symbol, which is only ever an input: it has no logit.
    """

    num_symbols: int
    dropout: float

    def forward(self, inputs: Int[Tensor, "N T"], state: Any = None) -> tuple[Float[Tensor, "N T V"], Any]:
        """Logits of the symbol that follows each input, and the state after the last input."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Plain values (JSON) of the constructor."""
        raise NotImplementedError


class Autoregressive(Model):
    r"""R networks of one architecture, each a model of sequences by the chain rule.

    .. math::
        p(x_1, \ldots, x_T) = \prod_t \mathrm{softmax}(\mathrm{net}(\text{begin}, x_1, \ldots, x_{t-1}))_{x_t}

    The networks are plain modules in a loop: on a CPU torch's fused kernels beat any batched rewrite.

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
        self.num_restarts, self.num_symbols = len(nets), first.num_symbols

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
        kind = NETWORKS[name]
        return cls.from_seed(lambda: kind(**arguments), config["num_restarts"])

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_symbols(batch.values)
        return torch.stack([net_token_log_prob(net, batch) for net in self.nets])

    def initial_state(self, num_sequences: int) -> list[tuple[Tensor, Any]]:
        """For each network: the logits of the next symbol, and the network's state."""
        begin = torch.full((num_sequences, 1), self.num_symbols, device=self.device)
        return [net(begin) for net in self.nets]

    def next_log_prob(self, state: list[tuple[Tensor, Any]]) -> Float[Tensor, "R N V"]:
        return torch.stack([logits[:, -1].log_softmax(dim=-1) for logits, _ in state])

    def advance(self, state: list[tuple[Tensor, Any]], symbols: Int[Tensor, "N"]) -> list[tuple[Tensor, Any]]:
        return [net(symbols[:, None], memory) for net, (_, memory) in zip(self.nets, state, strict=True)]

    def select(self, restart: int) -> Autoregressive:
        """The model with that network only; the network is shared, not copied."""
        return type(self)([self.nets[self.check_restart(restart)]])


def net_token_log_prob(net: Network, batch: Batch) -> Float[Tensor, "N T"]:
    """``log p(x_t | x_<t)`` of one network; 0 at padding."""
    begin = torch.full_like(batch.values[:, :1], net.num_symbols)
    inputs = torch.cat([begin, batch.values[:, :-1]], dim=1)
    logits, _ = net(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.values.flatten(), reduction="none")
    return -loss.view_as(batch.values).masked_fill(~batch.mask, 0.0)
