"""What a state's emission may know of the past outputs: nothing, the previous symbol, or all of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.errors import unknown
from probseq.models.encoder import recurrent_layer

EMISSIONS = ("state", "previous", "recurrent")

Memory = tuple[Tensor, ...]
"""The state of the cell, ``(N, H)`` each; the 1 where nothing is read, and nothing where all is in the last symbol."""


class Past(nn.Module):
    """A vector for every step that is made of the outputs before it: ``(N, T, D)``.

    - ``"state"``: a 1, whatever came before;
    - ``"previous"``: a code of y_{t-1};
    - ``"recurrent"``: the state of a recurrent network that has read y_1 to y_{t-1}, and begins with the source.

    Args:
        emission: which of these.
        num_symbols: V; the begin symbol is V.
        embed_dim: the size of a symbol's code.
        hidden_dim: units of the recurrent network, and numbers that a source is summed up in.
        cell: ``"lstm"`` or ``"gru"``.
        dropout: the share of units dropped, in training.

    Attributes:
        size: D.

    Raises:
        InputError: an unknown emission or cell.
    """

    def __init__(
        self, emission: str, num_symbols: int, embed_dim: int, hidden_dim: int, cell: str, dropout: float
    ) -> None:
        super().__init__()
        if emission not in EMISSIONS:
            raise unknown("emission", emission, EMISSIONS)
        self.size = {"state": 1, "previous": embed_dim, "recurrent": hidden_dim}[emission]
        self.embed = None if emission == "state" else nn.Embedding(num_symbols + 1, embed_dim)
        self.drop, self.is_lstm = nn.Dropout(dropout), cell == "lstm"
        self.cells = self.begins = None
        if emission == "recurrent":
            self.cells = recurrent_layer(cell, embed_dim, hidden_dim)
            self.begins = nn.Linear(hidden_dim, hidden_dim)

    def begin(self, summary: Float[Tensor, "N E"]) -> Memory:
        """The memory before anything was written."""
        if self.embed is None:
            return (torch.ones_like(summary[:, :1]),)
        if self.begins is None:
            return ()
        hidden = self.begins(summary).tanh()
        return (hidden, torch.zeros_like(hidden)) if self.is_lstm else (hidden,)

    def forward(self, inputs: Int[Tensor, "N T"], memory: Memory) -> tuple[Float[Tensor, "N #T D"], Memory]:
        """The vectors of the steps that follow these inputs, and the memory after them.

        Args:
            inputs: the symbols before each step, the begin symbol first.
            memory: what `begin` or an earlier call returned.
        """
        if self.embed is None:
            return memory[0][:, None], memory
        codes = self.drop(self.embed(inputs))
        if self.cells is None:
            return codes, memory
        before = tuple(part[None].contiguous() for part in memory)
        hidden, after = self.cells(codes, before if self.is_lstm else before[0])
        return hidden, tuple(part[0] for part in (after if self.is_lstm else (after,)))
