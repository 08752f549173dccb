"""`Encoder`: a recurrent network that reads the whole source."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.errors import InputError, unknown
from probseq.models.network import check_sizes

CELLS = ("lstm", "gru")


class Encoded(NamedTuple):
    """What an encoder makes of N sources.

    Attributes:
        outputs: ``(N, S, E)``, a vector for every position; 0 at padding.
        summary: ``(N, E)``, the whole source in one vector.
        mask: ``(N, S)``, True at real positions.
    """

    outputs: Float[Tensor, "N S E"]
    summary: Float[Tensor, "N E"]
    mask: Bool[Tensor, "N S"]


class Encoder(nn.Module):
    """A recurrent network over the source, in one direction or in two.

    Padding changes nothing: what follows the end of a source is read after it in either direction, and left out. The
    direction from the end turns every source around by itself.

    Args:
        num_source_symbols: how many symbols the source is of.
        embed_dim: the size of a symbol's code.
        hidden_dim: E, the size of what is given for a position; of two directions, each has half.
        cell: ``"lstm"`` or ``"gru"``.
        bidirectional: whether the source is read from its end too.
        num_layers: layers on top of one another; each reads both directions of the one below.
        dropout: the share of units dropped, of the codes and between layers, in training.

    Raises:
        InputError: a size below 1, an unknown cell, or an odd `hidden_dim` for two directions.
    """

    def __init__(
        self,
        num_source_symbols: int,
        embed_dim: int,
        hidden_dim: int,
        cell: str = "lstm",
        bidirectional: bool = True,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim, hidden_dim=hidden_dim, num_layers=num_layers)
        if bidirectional and hidden_dim % 2:
            raise InputError(f"hidden_dim is {hidden_dim}; expected an even number, for two directions")
        units = hidden_dim // 2 if bidirectional else hidden_dim
        sizes = [embed_dim, *[hidden_dim] * (num_layers - 1)]
        self.embed, self.drop = nn.Embedding(num_source_symbols, embed_dim), nn.Dropout(dropout)
        self.forwards = nn.ModuleList(recurrent_layer(cell, size, units) for size in sizes)
        self.backwards = nn.ModuleList(recurrent_layer(cell, size, units) for size in sizes if bidirectional)

    def forward(self, source: Batch) -> Encoded:
        """Read the sources, all at once."""
        mask, turned = source.mask, _turned(source)
        hidden = self.embed(source.values)
        for i, ahead in enumerate(self.forwards):
            hidden = self.drop(hidden)
            parts = [ahead(hidden)[0]]
            if self.backwards:
                parts.append(_take_steps(self.backwards[i](_take_steps(hidden, turned))[0], turned))
            hidden = torch.cat(parts, dim=-1)
        last = hidden[torch.arange(len(hidden), device=hidden.device), source.lengths - 1]
        first = hidden[:, 0]
        units = last.shape[-1] // 2
        summary = torch.cat([last[:, :units], first[:, units:]], dim=-1) if self.backwards else last
        return Encoded(hidden.masked_fill(~mask[..., None], 0.0), summary, mask)


def recurrent_layer(
    cell: str, num_inputs: int, hidden_dim: int, num_layers: int = 1, dropout: float = 0.0
) -> nn.RNNBase:
    """Torch's fused module, batch first; the forget gate of an LSTM starts open (bias 1).

    Raises:
        InputError: another cell than ``"lstm"`` and ``"gru"``.
    """
    if cell not in CELLS:
        raise unknown("cell", cell, CELLS)
    dropout = dropout if num_layers > 1 else 0.0  # torch drops between layers alone
    if cell == "gru":
        return nn.GRU(num_inputs, hidden_dim, num_layers, batch_first=True, dropout=dropout)
    layer = nn.LSTM(num_inputs, hidden_dim, num_layers, batch_first=True, dropout=dropout)
    for name, parameter in layer.named_parameters():
        if name.startswith("bias_hh"):
            parameter.data[hidden_dim : 2 * hidden_dim] = 1.0  # torch's order: include, forget, candidate, output
    return layer


def _turned(source: Batch) -> Int[Tensor, "N S"]:
    """Which step stands where once every source is turned around; padding stays where it is."""
    steps = torch.arange(source.values.shape[1], device=source.values.device)
    return torch.where(source.mask, source.lengths[:, None] - 1 - steps, steps)


def _take_steps(hidden: Float[Tensor, "N S C"], steps: Int[Tensor, "N S"]) -> Float[Tensor, "N S C"]:
    return hidden.gather(1, steps[..., None].expand(-1, -1, hidden.shape[-1]))
