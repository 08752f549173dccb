"""`Network`: what `Autoregressive` asks of a network, and the ways in and out that all networks share."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole
from probseq.models import emissions
from probseq.models.emissions import Categorical, Emission
from probseq.models.emissions.reals import location_and_scale

_PIECE, _PIECE_TOKENS = 512, 2**14  # tokens of one sequence, and of all, that are in memory at once, about


class Network(nn.Module):
    r"""A state that is computed, and P outputs that an emission family turns into a distribution of what comes next.

    A subclass writes `forward` and `config`. What it reads at each step is the observation before:

    - a symbol, 0 to V - 1, or V for the begin symbol, which is only ever an input: it has no output;
    - or a vector of D + 1 numbers: the observation, and a flag that is 1 before the first one and else 0.

    Vectors come in any unit, and a network learns from numbers near 0 and 1. So before a fit `observe` looks at the
    training data once: from then on real vectors and counts are read as :math:`(x - m) / s`, with the mean m and the
    standard deviation s of every dimension, and outputs are read in units of the data as well: all 0 means the data's
    own location and scale (`Emission.split`). Both are fixed and affine. The density is that of the data in their own
    unit, exactly, whatever the constants; they are saved with the weights.

    Args:
        num_symbols: V, short for ``emission=Categorical(V)``.
        emission: the family of the observations; the network gets a head of its own.
        dropout: the share of units dropped in training.

    Raises:
        InputError: neither or both of `num_symbols` and `emission`, or dropout outside [0, 1).
    """

    is_conditional: ClassVar[bool] = False
    location: Tensor
    scale: Tensor
    observed: Tensor

    def __init__(self, num_symbols: int | None = None, emission: Emission | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise InputError(f"dropout is {dropout}; expected 0 or more and less than 1")
        self.emission, self.dropout = _head(num_symbols, emission), dropout
        kind, size = self.emission.support
        self.is_symbolic = kind == "symbols"
        self.num_inputs = size + 1  # one more for the begin symbol, or the flag
        if not self.is_symbolic:
            self.register_buffer("location", torch.zeros(size))
            self.register_buffer("scale", torch.ones(size))
            self.register_buffer("observed", torch.tensor(False))

    @property
    def num_symbols(self) -> int:
        """V for symbols, 0 for vectors."""
        return self.emission.num_symbols

    def forward(self, inputs: Shaped[Tensor, "N T *C"], state: Any = None) -> tuple[Float[Tensor, "N T P"], Any]:
        """The outputs for the observation that follows each input, and the state after the last input.

        Args:
            inputs: symbols ``(N, T)``, or vectors ``(N, T, D + 1)``.
            state: what an earlier call returned; None at the beginning.
        """
        raise NotImplementedError

    def token_log_prob(self, batch: Batch) -> Float[Tensor, "N T"]:
        """``log p(x_t | x_<t)`` in nats; 0 at padding. The values of the batch have been checked.

        Where no gradient is wanted, long sequences are read in pieces, and the state is carried from one to the next.
        """
        inputs = torch.cat([self.begin(len(batch.values)), self.read(batch.values[:, :-1])], dim=1)
        piece = inputs.shape[1] if torch.is_grad_enabled() else self.piece(len(inputs))
        state, terms = None, []
        for begin in range(0, inputs.shape[1], piece):
            outputs, state = self(inputs[:, begin : begin + piece], state)
            terms.append(self.log_prob(outputs, batch.values[:, begin : begin + piece]))
        return torch.cat(terms, dim=1).masked_fill(~batch.mask, 0.0)

    def piece(self, num_sequences: int) -> int:
        """How many tokens of so many sequences are read at once where sequences are long and memory counts."""
        return max(_PIECE, _PIECE_TOKENS // num_sequences)

    def config(self) -> dict[str, Any]:
        """Plain values (JSON) of the constructor."""
        raise NotImplementedError

    def input_layer(self, dim: int) -> nn.Embedding | nn.Linear:
        """A learned code of `dim` numbers for what the network reads."""
        return nn.Embedding(self.num_inputs, dim) if self.is_symbolic else nn.Linear(self.num_inputs, dim)

    # In

    @property
    def initialized(self) -> bool:
        """Whether `observe` has seen the data, or has no use for them."""
        return self.is_symbolic or bool(self.observed)

    @torch.no_grad()
    def observe(self, data: Sequences) -> None:
        """Fix the units that vectors are read in; of symbols, and after the first time, nothing."""
        if self.initialized:
            return
        if self.emission.support[0] != "binary":  # 0 and 1 are as they should be
            location, scale = location_and_scale(self.emission, data)
            self.location.copy_(location)
            self.scale.copy_(scale)
        self.emission.observe(data)
        self.observed.fill_(True)

    def begin(self, num_sequences: int) -> Shaped[Tensor, "N 1 *C"]:
        """What is read before the first observation."""
        if self.is_symbolic:
            return torch.full((num_sequences, 1), self.num_symbols, device=next(self.parameters()).device)
        return F.pad(self.scale.new_zeros(num_sequences, 1, self.num_inputs - 1), (0, 1), value=1.0)

    def read(self, values: Shaped[Tensor, "N T *D"]) -> Shaped[Tensor, "N T *C"]:
        """Observations as the network reads them."""
        if self.is_symbolic:
            return values
        return F.pad(((values - self.location) / self.scale).to(self.scale.dtype), (0, 1))

    def check_values(self, values: Tensor) -> None:
        """Raise `InputError` unless these are N sequences of one length, at least 1, as in the values of a `Batch`."""
        if not isinstance(values, Tensor) or values.ndim != 3 - self.is_symbolic or not values.numel():
            shape = "(N, T)" if self.is_symbolic else f"(N, T, {self.num_inputs - 1})"
            received = f"a {type(values).__name__}" if not isinstance(values, Tensor) else f"{tuple(values.shape)}"
            raise InputError(
                f"received {received}; expected the values of a batch, a tensor {shape} with T of 1 or more"
            )
        self.emission.check_values(values)
        if self.is_symbolic and (values < 0).any():
            raise InputError("a symbol is missing, and a network reads every one; leave that sequence out")

    # Out

    def log_prob(self, outputs: Float[Tensor, "*B P"], values: Shaped[Tensor, "..."]) -> Float[Tensor, "*B"]:
        """``log p(x)`` in nats of `values`, symbols ``(*B)`` or vectors ``(*B, D)``, under the outputs."""
        if self.is_symbolic:
            return -F.cross_entropy(outputs.flatten(0, -2), values.flatten(), reduction="none").view_as(values)
        return self.emission.log_prob(self._raw(outputs), values.double()).to(outputs.dtype)

    def draw(self, outputs: Float[Tensor, "*B P"], generator: torch.Generator | None = None) -> Shaped[Tensor, "..."]:
        """An observation from every distribution: symbols ``(*B)`` or vectors ``(*B, D)``."""
        return self.emission.draw(self._raw(outputs), generator)

    def _raw(self, outputs: Tensor) -> dict[str, Tensor]:
        """Parameters of the emission family, in double precision: far from 0, single precision hides the scale."""
        return {name: value.double() for name, value in self.emission.split(outputs.double()).items()}


def check_sizes(**sizes: int) -> None:
    """Raise `InputError` for a size that is no whole number, or below 1."""
    for name, size in sizes.items():
        check_whole(name, size)


def _head(num_symbols: int | None, emission: Emission | None) -> Emission:
    """A family of the network's own: what it holds belongs to this network, and to no other."""
    if emission is None and num_symbols is not None:
        return Categorical(num_symbols)
    if emission is not None and num_symbols is None:
        return emissions.from_config(emission.config())
    received = "neither" if emission is None else "both"
    raise InputError(f"received {received} of num_symbols and emission; expected one: LSTM(27), or a family")
