"""Recurrent networks: the hidden state is computed.

Every cell is stated twice: as a formula for one step, which returns its gates (`Recurrent.steps`), and as the fused
module that training uses. The tests hold one against the other.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from probseq.errors import unknown
from probseq.models.emissions import Emission
from probseq.models.network import Network, check_sizes
from probseq.models.recurrent_layers import ResetFirstLayers, Steps, UpdateGateLayers, Weights, fused_weights

_ONE_HOT_SYMBOLS = 256  # a larger vocabulary is embedded: a one-hot input of that width would waste the product

CellState = tuple[Tensor, ...]
"""``(h,)``, or ``(h, c)`` where there is a memory of its own; each ``(N, H)``."""

Gates = dict[str, Tensor]
"""A gate's values, 0 (shut) to 1 (open), by name."""


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

    has_memory: ClassVar[bool] = False
    cells: Any

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
        check_sizes(hidden_dim=hidden_dim, num_layers=num_layers, embed_dim=1 if embed_dim is None else embed_dim)
        self.hidden_dim, self.num_layers = hidden_dim, num_layers
        if embed_dim is None and self.num_symbols > _ONE_HOT_SYMBOLS:
            embed_dim = hidden_dim
        self.embed_dim = embed_dim
        self.embed = None if embed_dim is None else self.input_layer(embed_dim)
        self.cells = self.build_cells(embed_dim or self.num_inputs, dropout if num_layers > 1 else 0.0)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(getattr(self.cells, "width", hidden_dim), self.emission.num_outputs)

    def build_cells(self, num_inputs: int, dropout: float) -> nn.Module:
        """The fused module: ``(N, T, C)`` and a state to what the output layer reads, and the next state."""
        raise NotImplementedError

    def step(self, weights: Weights, x: Tensor, state: CellState) -> tuple[CellState, Gates]:
        """One step of one layer, as a formula.

        Args:
            weights: of the layer, see `weights`.
            x: ``(N, C)``, what the layer reads.
            state: before the step.

        Returns:
            The state after the step, and the gates ``(N, H)``.
        """
        raise NotImplementedError

    def weights(self, layer: int) -> Weights:
        """What a layer multiplies with, in blocks of H rows."""
        return fused_weights(self.cells, layer)

    def above(self, state: CellState) -> Float[Tensor, "N W"]:
        """What the next layer, or the output, reads of a state."""
        return state[0]

    def config(self) -> dict[str, Any]:
        names = ("hidden_dim", "num_layers", "embed_dim", "dropout")
        return {"emission": self.emission.config(), **{name: getattr(self, name) for name in names}}

    def code(self, inputs: Shaped[Tensor, "N T *C"]) -> Float[Tensor, "N T E"]:
        """The input code: learned, one-hot, or the vector itself."""
        if self.embed is not None:
            learned: Tensor = self.embed(inputs)
            return learned
        return F.one_hot(inputs, self.num_inputs).to(self.head.weight.dtype) if self.is_symbolic else inputs

    def forward(self, inputs: Shaped[Tensor, "N T *C"], state: Any = None) -> tuple[Float[Tensor, "N T P"], Any]:
        hidden, state = self.cells(self.code(inputs), state)  # (N, T, W)
        outputs: Tensor = self.head(self.drop(hidden))
        return outputs, state

    def steps(self, values: Shaped[Tensor, "N T *D"]) -> Steps:
        """The formula, step by step: states and gates for any text. No dropout; gradients flow.

        Args:
            values: sequences of equal length, as the values of a `Batch`. The network reads them from the beginning.

        Raises:
            InputError: something else, or sequences of no length.
        """
        self.check_values(values)
        inputs = torch.cat([self.begin(len(values)), self.read(values)], dim=1)
        rows, states, gates = list(self.code(inputs).unbind(dim=1)), [], []
        for layer in range(self.num_layers):
            course, opened = self._unroll(self.weights(layer), rows)
            rows = [self.above(state) for state in course]
            states.append(_stacked(course))
            gates.append({name: torch.stack([one[name] for one in opened[1:]], dim=1) for name in opened[0]})
        hidden, memories = [one[0] for one in states], [one[-1] for one in states]
        return Steps(hidden, memories, gates, self.head(torch.stack(rows[1:], dim=1)))

    def _unroll(self, weights: Weights, rows: list[Tensor]) -> tuple[list[CellState], list[Gates]]:
        """One layer over all its inputs."""
        state: CellState = (1 + self.has_memory) * (rows[0].new_zeros(len(rows[0]), self.hidden_dim),)
        course, opened = [], []
        for x in rows:
            state, gates = self.step(weights, x, state)
            course.append(state)
            opened.append(gates)
        return course, opened


def _stacked(course: list[CellState]) -> list[Float[Tensor, "N T H"]]:
    """Each part of the state over time, without the step that reads the begin symbol."""
    return [torch.stack(part, dim=1) for part in zip(*course[1:], strict=True)]


class RNN(Recurrent):
    r"""The tanh network, :math:`h_t = \tanh(W_{hx} x_t + W_{hh} h_{t-1} + b_h)`. It has no gate.

    Reference:
        J. L. Elman (1990), "Finding structure in time".
    """

    def build_cells(self, num_inputs: int, dropout: float) -> nn.Module:
        return nn.RNN(num_inputs, self.hidden_dim, self.num_layers, batch_first=True, dropout=dropout)

    def step(self, weights: Weights, x: Tensor, state: CellState) -> tuple[CellState, Gates]:
        (h,) = state
        (candidate,) = weights.sums(x, h)
        return (candidate.tanh(),), {}


class UpdateGateRNN(Recurrent):
    r"""A tanh network with a memory, and one gate that says how much of the memory is written anew.

    .. math::
        G_t &= \sigma(W_{ux} x_t + W_{uh} h_{t-1} + b_u) \\
        h_t &= \tanh(W_{hx} x_t + W_{hh} h_{t-1} + b_h) \\
        c_t &= (1 - G_t) \, c_{t-1} + G_t \, h_t, \qquad x_{t+1} \sim p(x \mid W_y [c_t, h_t] + b_y)

    The products with a gate are entry by entry. The prediction, and the layer above, read c_t together with h_t. The
    memory does not feed back into h, so what was stored stays as it is until a gate opens, and its gradient is the
    product of the shares :math:`1 - G` alone.
    """

    has_memory = True

    def build_cells(self, num_inputs: int, dropout: float) -> nn.Module:
        return UpdateGateLayers(num_inputs, self.hidden_dim, self.num_layers, dropout)

    def weights(self, layer: int) -> Weights:
        """Two blocks: update gate and candidate."""
        weights: Weights = self.cells.weights(layer)
        return weights

    def above(self, state: CellState) -> Float[Tensor, "N W"]:
        h, c = state
        return torch.cat([c, h], dim=-1)

    def step(self, weights: Weights, x: Tensor, state: CellState) -> tuple[CellState, Gates]:
        h, c = state
        update, candidate = weights.sums(x, h)
        gate, h = update.sigmoid(), candidate.tanh()
        return (h, (1 - gate) * c + gate * h), {"update": gate}


class GRU(Recurrent):
    r"""The gated recurrent unit: an update gate and a reset gate.

    .. math::
        R_t &= \sigma(W_{rx} x_t + W_{rh} h_{t-1} + b_r), \qquad G_t = \sigma(W_{ux} x_t + W_{uh} h_{t-1} + b_u) \\
        \tilde h_t &= \tanh(W_{hx} x_t + R_t (W_{hh} h_{t-1} + b_{hh}) + b_h) \\
        h_t &= (1 - G_t) \, h_{t-1} + G_t \, \tilde h_t

    This is the cell that torch has a fused module for; torch stores :math:`1 - G_t`, so its weights of that block have
    the other sign. With ``reset="before"`` the reset gate is on the state itself, as in the first publication and in
    most lectures, :math:`\tilde h_t = \tanh(W_{hx} x_t + W_{hh} (R_t h_{t-1}) + b_h)`, at the price of a slower loop.

    Args:
        num_symbols, hidden_dim, num_layers, embed_dim, dropout, emission: as for `Recurrent`.
        reset: ``"after"`` or ``"before"`` the product with :math:`W_{hh}`.

    Raises:
        InputError: another `reset`; and as for `Recurrent`.

    Reference:
        K. Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder for statistical machine
        translation".
    """

    def __init__(
        self,
        num_symbols: int | None = None,
        hidden_dim: int = 128,
        num_layers: int = 1,
        embed_dim: int | None = None,
        dropout: float = 0.0,
        *,
        emission: Emission | None = None,
        reset: str = "after",
    ) -> None:
        if reset not in ("after", "before"):
            raise unknown("reset", reset, ("after", "before"))
        self.reset = reset  # before the cells are built
        super().__init__(num_symbols, hidden_dim, num_layers, embed_dim, dropout, emission=emission)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "reset": self.reset}

    def build_cells(self, num_inputs: int, dropout: float) -> nn.Module:
        if self.reset == "before":
            return ResetFirstLayers(num_inputs, self.hidden_dim, self.num_layers, dropout)
        return nn.GRU(num_inputs, self.hidden_dim, self.num_layers, batch_first=True, dropout=dropout)

    def step(self, weights: Weights, x: Tensor, state: CellState) -> tuple[CellState, Gates]:
        (h,) = state
        (reset_x, keep_x, candidate_x), (reset_h, keep_h, candidate_h) = weights.parts(x, h)
        reset, update = (reset_x + reset_h).sigmoid(), 1 - (keep_x + keep_h).sigmoid()
        if self.reset == "before":
            *_, candidate_h = weights.parts(x, reset * h)[1]
            candidate = (candidate_x + candidate_h).tanh()
        else:
            candidate = (candidate_x + reset * candidate_h).tanh()
        return ((1 - update) * h + update * candidate,), {"update": update, "reset": reset}


class LSTM(Recurrent):
    r"""Long short-term memory: a memory with forget and include gates, and an output gate between it and the state.

    .. math::
        F_t, I_t, O_t &= \sigma(W_{\cdot x} x_t + W_{\cdot h} h_{t-1} + b_\cdot) \\
        c_t &= F_t \, c_{t-1} + I_t \tanh(W_{cx} x_t + W_{ch} h_{t-1} + b_c), \qquad h_t = O_t \tanh(c_t)

    The forget gate starts open (bias 1).

    Reference:
        S. Hochreiter, J. Schmidhuber (1997), "Long short-term memory"; F. A. Gers, J. Schmidhuber, F. Cummins (2000),
        "Learning to forget: continual prediction with LSTM".
    """

    has_memory = True

    def build_cells(self, num_inputs: int, dropout: float) -> nn.Module:
        cells = nn.LSTM(num_inputs, self.hidden_dim, self.num_layers, batch_first=True, dropout=dropout)
        for layer in range(self.num_layers):
            bias = getattr(cells, f"bias_hh_l{layer}")
            bias.data[self.hidden_dim : 2 * self.hidden_dim] = 1.0  # torch's order: include, forget, candidate, output
        return cells

    def step(self, weights: Weights, x: Tensor, state: CellState) -> tuple[CellState, Gates]:
        h, c = state
        include, forget, candidate, output = weights.sums(x, h)
        gates = {"forget": forget.sigmoid(), "include": include.sigmoid(), "output": output.sigmoid()}
        c = gates["forget"] * c + gates["include"] * candidate.tanh()
        return (gates["output"] * c.tanh(), c), gates
