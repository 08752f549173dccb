"""`Conditional`: networks that compute ``p(y_t | y_<t, x)``, R of them behind the likelihood contract."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.models.base import State
from probseq.models.given import ConditionalModel, Given, given_source, take_rows
from probseq.models.network import Network, check_sizes
from probseq.models.network_model import NetworkModel

__all__ = ["Conditional", "ConditionalNetwork", "Given", "given_source", "take_rows"]


class ConditionalNetwork(Network):
    r"""What `Conditional` asks of a network: :math:`p(y_t \mid y_{<t}, x)`, all at once and step by step.

    A subclass writes the four methods below and `config`. Every tensor in its state has the sequences as its first
    axis, so that rows can be repeated and put in another order (`take_rows`).

    Args:
        num_source_symbols: how many symbols the source x is of.
        num_symbols: V, how many the target y is of, the end symbol among them.
        dropout: the share of units dropped in training.

    Raises:
        InputError: no symbols, or dropout outside [0, 1).
    """

    is_conditional: ClassVar[bool] = True

    def __init__(self, num_source_symbols: int, num_symbols: int, dropout: float = 0.0) -> None:
        check_sizes(num_source_symbols=num_source_symbols, num_symbols=num_symbols)
        super().__init__(num_symbols, dropout=dropout)
        self.num_source_symbols = num_source_symbols

    def config(self) -> dict[str, Any]:
        """Plain values (JSON) of the constructor; a subclass adds its own."""
        names = ("num_source_symbols", "num_symbols", "dropout")
        return {name: getattr(self, name) for name in names}

    def token_log_prob(self, batch: Batch) -> Float[Tensor, "N T"]:
        """``log p(y_t | y_<t, x)`` in nats; 0 at padding. The batch has been checked, and has a source."""
        raise NotImplementedError

    def check_possible(self, batch: Batch) -> None:
        """Raise `ImpossibleError` for a pair that no parameters make possible; most networks know of none."""

    def initial_state(self, source: Batch) -> State:
        """What is known before the first symbol; each source is encoded once, here."""
        raise NotImplementedError

    def next_log_prob(self, state: State) -> Float[Tensor, "N V"]:
        """The log-probability of every next symbol, in nats."""
        raise NotImplementedError

    def advance(self, state: State, values: Int[Tensor, "N"]) -> State:
        """The state after these symbols."""
        raise NotImplementedError


class Conditional(ConditionalModel, NetworkModel):
    r"""R networks of one architecture, each a model of targets y given their sources x by the chain rule.

    .. math::
        p(y_1, \ldots, y_T \mid x) = \prod_t p(y_t \mid y_1, \ldots, y_{t-1}, x)

    The sources are the ``source`` of a data set. Sources and targets end with the end symbol, which is scored like any
    other symbol, so that the probabilities of all targets that end sum to 1. Of one source, or of one for each
    sequence, `given` makes a model of sequences like any other, which can be sampled and searched.

    Args:
        nets: R networks with the same configuration.

    Raises:
        InputError: no networks, something that is not a conditional network, or networks of different configurations.

    Example:
        >>> from probseq import Conditional, Seq2Seq, Sequences
        >>> model = Conditional.from_seed(lambda: Seq2Seq(5, 3, hidden_dim=8), num_restarts=2, seed=0)
        >>> data = Sequences.from_list([[0, 1, 2]], source=Sequences.from_list([[3, 0, 4]]))
        >>> model.token_log_prob(data.batch()).shape
        torch.Size([2, 1, 3])
    """

    nets: list[ConditionalNetwork]
    is_conditional: ClassVar[bool] = True
    example: ClassVar[str] = "ps.Seq2Seq(27, 40)"

    @property
    def num_source_symbols(self) -> int:  # type: ignore[override]
        """How many symbols the source is of."""
        return self.nets[0].num_source_symbols

    def check_possible(self, batch: Batch) -> None:
        self.nets[0].check_possible(batch)

    def state_given(self, source: Batch) -> list[State]:
        return [net.initial_state(source) for net in self.nets]

    def next_log_prob(self, state: list[State]) -> Float[Tensor, "R N V"]:
        return torch.stack([net.next_log_prob(one) for net, one in zip(self.nets, state, strict=True)])

    def advance(self, state: list[State], values: Int[Tensor, "N"]) -> list[State]:
        return [net.advance(one, values) for net, one in zip(self.nets, state, strict=True)]

    def take_rows(self, state: list[State], rows: Int[Tensor, "M"]) -> list[State]:
        taken: list[State] = take_rows(state, rows)
        return taken
