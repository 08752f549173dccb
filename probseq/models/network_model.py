"""`NetworkModel`: R networks of one architecture behind the likelihood contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, unknown
from probseq.models import emissions
from probseq.models.base import Model, restart_seed
from probseq.models.emissions import Emission
from probseq.models.network import Network
from probseq.types import TokenLogProb

M = TypeVar("M", bound="NetworkModel")


class NetworkModel(Model):
    """What `Autoregressive` and `Conditional` have in common.

    The networks are plain modules in a loop: on a CPU torch's fused kernels beat any batched rewrite. A network reads
    every observation, so none may be missing; an HMM integrates over those that are.

    Args:
        nets: R networks with the same configuration.

    Raises:
        InputError: no networks, something that is not a network of the right kind, or networks of different
            configurations.
    """

    is_conditional: ClassVar[bool] = False
    example: ClassVar[str]

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        if not nets:
            raise InputError(f"{type(self).__name__} needs at least one network; received none")
        for net in nets:
            if not isinstance(net, Network) or net.is_conditional != self.is_conditional:
                belongs = f"; {wrapped(net)}" if isinstance(net, Network) else ""
                raise InputError(f"received {type(net).__name__}; expected a network such as {self.example}{belongs}")
        self.nets: list[Any] = nn.ModuleList(nets)  # type: ignore[assignment]
        first = self.nets[0]
        if any(type(net) is not type(first) or net.config() != first.config() for net in self.nets):
            raise InputError("the networks differ in kind or size; restarts of one model must be alike")
        self.num_restarts = len(nets)
        self.training = first.training  # so that a selected restart is in the mode of the whole

    @property
    def emission(self) -> Emission:  # type: ignore[override]
        """The head of the first network: all are of one family."""
        emission: Emission = self.nets[0].emission
        return emission

    @classmethod
    def from_seed(cls: type[M], factory: Callable[[], Network], num_restarts: int = 1, seed: int = 0) -> M:
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
    def from_config(cls: type[M], config: dict[str, Any]) -> M:
        from probseq.models import NETWORKS

        arguments = dict(config["network"])
        name = arguments.pop("kind")
        if name not in NETWORKS:
            raise unknown("network", name, NETWORKS)
        if isinstance(arguments.get("emission"), dict):
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
        return torch.stack([net.token_log_prob(batch) for net in self.nets])

    def select(self: M, restart: int) -> M:
        """The model with that network only; the network is shared, not copied."""
        lone = type(self)([self.nets[self.check_restart(restart)]])
        lone.vocabulary, lone.source_vocabulary = self.vocabulary, self.source_vocabulary
        return lone


def wrapped(net: Network) -> str:
    """In words, which model a network goes into."""
    name, model = type(net).__name__, "Conditional" if net.is_conditional else "Autoregressive"
    return f"a network is fitted with fit_gradient, as ps.{model}.from_seed(lambda: ps.{name}(...))"
