"""Recurrent networks: the hidden state is computed."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from probseq.models.emissions import Emission
from probseq.models.network import Network, check_sizes

_ONE_HOT_SYMBOLS = 256  # a larger vocabulary is embedded: a one-hot input of that width would waste the product


class Recurrent(Network):
    r"""A recurrent layer (or several) between an input code and a distribution over what comes next.

    .. math::
        h_t = \mathrm{cell}(h_{t-1}, x_t), \qquad x_{t+1} \sim p(x \mid W_{hy} h_t + b_y)

    For symbols, p is the softmax of its outputs; for vectors, the outputs are the parameters of an emission family.

    Sequences are padded, not packed: torch's fused kernels take padded input, and what follows a sequence's end cannot
    reach back into it.

    Args:
        num_symbols: V, the size of the vocabulary, short for ``emission=Categorical(V)``.
        hidden_dim: H, units in each layer.
        num_layers: layers on top of one another.
        embed_dim: the size of a learned input code. Default: the one-hot code for vocabularies up to 256 symbols, else
            `hidden_dim`; for vectors, the vector itself.
        dropout: the share of units dropped between layers and before the output, in training.
        emission: the family of the observations, for example ``Gaussian(2)``.

    Raises:
        InputError: a size below 1, dropout outside [0, 1), neither or both of `num_symbols` and `emission`.

    Example:
        >>> from probseq import LSTM, emissions
        >>> LSTM(27, hidden_dim=8).emission.support, LSTM(hidden_dim=8, emission=emissions.Gaussian(2)).emission.support
        (('symbols', 27), ('reals', 2))
    """

    layer: ClassVar[Any]

    def __init__(
        self,
        num_symbols: int | None = None,
        hidden_dim: int = 128,
        num_layers: int = 1,
        embed_dim: int | None = None,
        dropout: float = 0.0,
        *,
        emission: Emission | None = None,
    ) -> None:
        super().__init__(num_symbols, emission, dropout)
        check_sizes(hidden_dim=hidden_dim, num_layers=num_layers, embed_dim=embed_dim or 1)
        self.hidden_dim, self.num_layers = hidden_dim, num_layers
        if embed_dim is None and self.num_symbols > _ONE_HOT_SYMBOLS:
            embed_dim = hidden_dim
        self.embed_dim = embed_dim
        self.embed = None if embed_dim is None else self.input_layer(embed_dim)
        between = dropout if num_layers > 1 else 0.0
        self.cells = self.layer(embed_dim or self.num_inputs, hidden_dim, num_layers, batch_first=True, dropout=between)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, self.emission.num_outputs)

    def config(self) -> dict[str, Any]:
        names = ("hidden_dim", "num_layers", "embed_dim", "dropout")
        return {"emission": self.emission.config(), **{name: getattr(self, name) for name in names}}

    def forward(self, inputs: Shaped[Tensor, "N T *C"], state: Any = None) -> tuple[Float[Tensor, "N T P"], Any]:
        code = inputs
        if self.embed is not None:
            code = self.embed(inputs)
        elif self.is_symbolic:
            code = F.one_hot(inputs, self.num_inputs).to(self.head.weight.dtype)
        hidden, state = self.cells(code, state)  # (N, T, H)
        outputs: Tensor = self.head(self.drop(hidden))
        return outputs, state


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
        num_symbols: int | None = None,
        hidden_dim: int = 128,
        num_layers: int = 1,
        embed_dim: int | None = None,
        dropout: float = 0.0,
        *,
        emission: Emission | None = None,
    ) -> None:
        super().__init__(num_symbols, hidden_dim, num_layers, embed_dim, dropout, emission=emission)
        with torch.no_grad():
            for layer in range(num_layers):
                bias = getattr(self.cells, f"bias_hh_l{layer}")
                bias[hidden_dim : 2 * hidden_dim] = 1.0  # torch orders the gates input, forget, cell, output
