"""Layers that torch has no fused kernel for, in the manner of `torch.nn.GRU`, and the weights of those that it has.

Each takes ``(N, T, C)`` and a state, and gives what the layer above reads at every step, and the state after the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Steps(NamedTuple):
    """What a recurrent network does with a text, step by step; row t belongs to the step that reads x_t.

    Attributes:
        states: for each layer ``(N, T, H)``, the hidden state h_t.
        memories: for each layer ``(N, T, H)``, the memory c_t; for a cell without one, the hidden state itself.
        gates: for each layer the gates by name, ``(N, T, H)`` each; none for a tanh network.
        outputs: ``(N, T, P)``, the parameters of what comes next: logits of x_{t+1} for symbols.
    """

    states: list[Float[Tensor, "N T H"]]
    memories: list[Float[Tensor, "N T H"]]
    gates: list[dict[str, Float[Tensor, "N T H"]]]
    outputs: Float[Tensor, "N T P"]


class Weights(NamedTuple):
    """What one layer multiplies with: a block of H rows for every gate and for the candidate, in the order of torch."""

    of_input: Float[Tensor, "GH C"]
    of_state: Float[Tensor, "GH H"]
    input_bias: Float[Tensor, "GH"]
    state_bias: Float[Tensor, "GH"]

    def parts(self, x: Float[Tensor, "N C"], h: Float[Tensor, "N H"]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """``W x + b`` of each block, and ``U h + b`` of each block, all ``(N, H)``."""
        blocks = len(self.of_state) // h.shape[-1]
        return (
            F.linear(x, self.of_input, self.input_bias).chunk(blocks, dim=-1),
            F.linear(h, self.of_state, self.state_bias).chunk(blocks, dim=-1),
        )

    def sums(self, x: Float[Tensor, "N C"], h: Float[Tensor, "N H"]) -> list[Tensor]:
        """``W x + U h + b`` of each block."""
        return [of_input + of_state for of_input, of_state in zip(*self.parts(x, h), strict=True)]


def fused_weights(module: Any, layer: int) -> Weights:
    """The weights of a layer of `torch.nn.RNN`, `GRU` or `LSTM`, or of a module that names them in the same way."""
    return Weights(*(getattr(module, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))


class _Layers(nn.Module):
    """Layers on top of one another, with dropout between them."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.width, self.drop = width, nn.Dropout(dropout)

    def run(self, layer: int, code: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer: what the one above reads ``(N, T, width)``, and the state after the last step, each ``(N, H)``."""
        raise NotImplementedError

    def _stack(self, code: Tensor, states: Iterator[tuple[Tensor, ...] | None]) -> tuple[Tensor, tuple[Tensor, ...]]:
        last = []
        for layer, state in enumerate(states):
            code, after = self.run(layer, self.drop(code) if layer else code, state)
            last.append(after)
        return code, tuple(torch.stack(one) for one in zip(*last, strict=True))


class UpdateGateLayers(_Layers):
    """The layers of `UpdateGateRNN`.

    Only h feeds back, and it is that of a tanh network, so torch's fused module computes it. All gates follow at once,
    and the memory is a running average with one elementwise step for each token.
    """

    def __init__(self, num_inputs: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__(2 * hidden_dim, dropout)
        sizes = [num_inputs, *[2 * hidden_dim] * (num_layers - 1)]
        self.hidden_dim = hidden_dim
        self.candidates = nn.ModuleList(nn.RNN(size, hidden_dim, batch_first=True) for size in sizes)
        self.gates = nn.ModuleList(nn.Linear(size + hidden_dim, hidden_dim) for size in sizes)
        for gate in self.gates:  # as torch begins its recurrent layers
            for parameter in gate.parameters():
                nn.init.uniform_(parameter, -(hidden_dim**-0.5), hidden_dim**-0.5)

    def weights(self, layer: int) -> Weights:
        """Two blocks: the update gate and the candidate."""
        candidate, gate = fused_weights(self.candidates[layer], 0), dict(self.gates[layer].named_parameters())
        of_input, of_state = gate["weight"][:, : -self.hidden_dim], gate["weight"][:, -self.hidden_dim :]
        own = Weights(of_input, of_state, gate["bias"], torch.zeros_like(gate["bias"]))
        return Weights(*(torch.cat(pair) for pair in zip(own, candidate, strict=True)))

    def forward(
        self, code: Float[Tensor, "N T C"], state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Float[Tensor, "N T W"], tuple[Tensor, ...]]:
        states = [None] * len(self.gates) if state is None else zip(*state, strict=True)
        return self._stack(code, iter(states))

    def run(self, layer: int, code: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        exact: Any = self.gates[layer].weight  # in whose precision the state is, also where products are in half of it
        before, memory = state or 2 * (exact.new_zeros(len(code), self.hidden_dim),)
        h, _ = self.candidates[layer](code, before[None].contiguous())  # (N, T, H)
        h = h.to(exact.dtype)
        previous = torch.cat([before[:, None], h[:, :-1]], dim=1)
        gate = self.gates[layer](torch.cat([code, previous], dim=-1)).sigmoid().to(exact.dtype)
        memories = []
        for one, share in zip(h.unbind(dim=1), gate.unbind(dim=1), strict=True):
            memory = torch.lerp(memory, one, share)
            memories.append(memory)
        return torch.cat([torch.stack(memories, dim=1), h], dim=-1), (h[:, -1], memory)


class ResetFirstLayers(_Layers):
    """The layers of `GRU` with ``reset="before"``, the reset gate on the state itself: a loop, with torch's names."""

    def __init__(self, num_inputs: int, hidden_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__(hidden_dim, dropout)
        self.num_layers = num_layers
        for layer in range(num_layers):
            fused = nn.GRU(num_inputs if layer == 0 else hidden_dim, hidden_dim)
            for name, parameter in fused.named_parameters():
                self.register_parameter(name.replace("_l0", f"_l{layer}"), parameter)

    def weights(self, layer: int) -> Weights:
        """Three blocks: reset gate, one less the update gate, and candidate."""
        return fused_weights(self, layer)

    def forward(
        self, code: Float[Tensor, "N T C"], state: Tensor | None = None
    ) -> tuple[Float[Tensor, "N T W"], Tensor]:
        states = [None] * self.num_layers if state is None else [(one,) for one in state]
        hidden, (last,) = self._stack(code, iter(states))
        return hidden, last

    def run(self, layer: int, code: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        weights, size = self.weights(layer), self.width
        of_input = F.linear(code, weights.of_input, weights.input_bias + weights.state_bias)  # of all steps at once
        of_gates, of_candidate = weights.of_state[: 2 * size], weights.of_state[2 * size :]
        h, states = of_gates.new_zeros(len(code), size) if state is None else state[0], []
        for gates, candidate in zip(
            of_input[..., : 2 * size].unbind(dim=1), of_input[..., 2 * size :].unbind(dim=1), strict=True
        ):
            reset, keep = (gates + F.linear(h, of_gates)).sigmoid().to(h.dtype).chunk(2, dim=-1)
            h = torch.lerp((candidate + F.linear(reset * h, of_candidate)).tanh().to(h.dtype), h, keep)
            states.append(h)
        return torch.stack(states, dim=1), (h,)
