"""Recurrent networks: the hidden state is computed."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.errors import InputError
from probseq.models.autoregressive import Network

_ONE_HOT_SYMBOLS = 256  # a larger vocabulary is embedded: a one-hot input of that width would waste the product


class Recurrent(Network):
    r"""A recurrent layer (or several) between an input code and a softmax over symbols.

    .. math::
        h_t = \mathrm{cell}(h_{t-1}, x_t), \qquad x_{t+1} \sim \mathrm{softmax}(W_{hy} h_t + b_y)

    Sequences are padded, not packed: torch's fused kernels take padded input, and what follows a sequence's end cannot
    reach back into it.

    Args:
        num_symbols: V, the size of the vocabulary.
        hidden_dim: H, units in each layer.
        num_layers: layers on top of one another.
        embed_dim: the size of a learned input code. Default: the one-hot code for vocabularies up to 256 symbols, else
            `hidden_dim`.
        dropout: the share of units dropped between layers and before the softmax, in training.

    Raises:
        InputError: a size below 1, or dropout outside [0, 1).
    """

    layer: ClassVar[Any]

    def __init__(
        self,
        num_symbols: int,
        hidden_dim: int = 128,
        num_layers: int = 1,
        embed_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(num_symbols=num_symbols, hidden_dim=hidden_dim, num_layers=num_layers, embed_dim=embed_dim or 1)
        check_dropout(dropout)
        self.num_symbols, self.hidden_dim, self.num_layers = num_symbols, hidden_dim, num_layers
        if embed_dim is None and num_symbols > _ONE_HOT_SYMBOLS:
            embed_dim = hidden_dim
        self.embed_dim, self.dropout = embed_dim, dropout
        self.embed = None if embed_dim is None else nn.Embedding(num_symbols + 1, embed_dim)
        between = dropout if num_layers > 1 else 0.0
        self.cells = self.layer(embed_dim or num_symbols + 1, hidden_dim, num_layers, batch_first=True, dropout=between)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, num_symbols)

    def config(self) -> dict[str, Any]:
        names = ("num_symbols", "hidden_dim", "num_layers", "embed_dim", "dropout")
        return {name: getattr(self, name) for name in names}

    def forward(self, inputs: Int[Tensor, "N T"], state: Any = None) -> tuple[Float[Tensor, "N T V"], Any]:
        if self.embed is None:
            code = F.one_hot(inputs, self.num_symbols + 1).to(self.head.weight.dtype)
        else:
            code = self.embed(inputs)
        hidden, state = self.cells(code, state)  # (N, T, H)
        logits: Tensor = self.head(self.drop(hidden))
        return logits, state


class RNN(Recurrent):
    r"""The tanh network, :math:`h_t = \tanh(W_{hh} h_{t-1} + W_{xh} x_t + b)`.

    Reference:
        J. L. Elman (1990), "Finding structure in time".
    """

    layer = nn.RNN


class GRU(Recurrent):
    """The gated recurrent unit: an update gate and a reset gate.

    Reference:
        K. Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical machine
        translation".
    """

    layer = nn.GRU


class LSTM(Recurrent):
    """Long short-term memory: a cell with forget, include and output gates. The forget gate starts open (bias 1).

    Reference:
        S. Hochreiter, J. Schmidhuber (1997), "Long short-term memory"; F. A. Gers, J. Schmidhuber, F. Cummins (2000),
        "Learning to forget: continual prediction with LSTM".
    """

    layer = nn.LSTM

    def __init__(
        self,
        num_symbols: int,
        hidden_dim: int = 128,
        num_layers: int = 1,
        embed_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_symbols, hidden_dim, num_layers, embed_dim, dropout)
        with torch.no_grad():
            for layer in range(num_layers):
                bias = getattr(self.cells, f"bias_hh_l{layer}")
                bias[hidden_dim : 2 * hidden_dim] = 1.0  # torch orders the gates input, forget, cell, output


def check_sizes(**sizes: int) -> None:
    """Raise `InputError` for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} is {size}; expected 1 or more")


def check_dropout(dropout: float) -> None:
    """Raise `InputError` for a dropout outside [0, 1)."""
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout is {dropout}; expected 0 or more and less than 1")
