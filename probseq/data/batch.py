"""`Batch`, the padded tensors that a model sees."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Identity:
    """What batches of the same sequences, made again, have in common."""


@dataclass(frozen=True)
class Batch:
    """Padded tensors on one device: what a model sees.

    Attributes:
        values: ``(N, T)`` int64 symbols or ``(N, T, D)`` floats, padded on the right (with 0). A symbol that was not
            observed is -1, an entry of a vector that was not observed is NaN.
        lengths: ``(N,)`` int64, the real length of each row, at least 1.
        weights: ``(N,)`` float64, how often each row counts (1 unless the data set says otherwise).
        index: ``(N,)`` int64, the row of the data set that each row came from.
        source: the batch that a conditional model conditions on, row by row, or None.
        states: ``(N, T)`` int64, the hidden states that are known, -1 where unknown and at padding; None where none is.
        vocabulary: the digest of the vocabulary that the symbols are of, or None where it is not known.
        identity: whoever makes the same batch again may hand it on, so that what is known of it is found again.
    """

    values: Tensor
    lengths: Tensor
    weights: Tensor
    index: Tensor
    source: Batch | None = None
    states: Tensor | None = None
    vocabulary: str | None = None
    identity: Identity = field(default_factory=Identity, repr=False, compare=False)

    @property
    def mask(self) -> Tensor:
        """``(N, T)`` bool, True at real tokens."""
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        return steps < self.lengths[:, None]

    @property
    def observed(self) -> Tensor:
        """``(N, T)`` bool, True at real tokens of which at least one entry was observed."""
        seen = ~self.values.isnan().all(-1) if self.values.ndim == 3 else self.values >= 0
        return self.mask & seen

    @property
    def num_tokens(self) -> int:
        """The number of real tokens, observed or not."""
        return int(self.lengths.sum())

    def take(self, rows: Tensor | slice) -> Batch:
        """Some of the sequences, with their sources, and no more padding than they need."""
        lengths = self.lengths[rows]
        steps = int(lengths.max())
        return replace(
            self,
            values=self.values[rows, :steps],
            lengths=lengths,
            weights=self.weights[rows],
            index=self.index[rows],
            source=None if self.source is None else self.source.take(rows),
            states=None if self.states is None else self.states[rows, :steps],
            identity=Identity(),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            values=self.values.to(device),
            lengths=self.lengths.to(device),
            weights=self.weights.to(device),
            index=self.index.to(device),
            source=None if self.source is None else self.source.to(device),
            states=None if self.states is None else self.states.to(device),
        )


def row_groups(
    lengths: NDArray[np.int64], rows: NDArray[np.int64], max_tokens: int, batch_size: int
) -> list[NDArray[np.int64]]:
    """The rows of each batch, in the order given.

    Args:
        lengths: of these rows.
        rows: of a data set.
        max_tokens: padded tokens in one batch, at most; a longer sequence gets a batch of its own.
        batch_size: sequences in one batch, at most.
    """
    groups, begin, longest = [], 0, 0
    for end, length in enumerate(lengths):
        longest = max(longest, int(length))
        size = end - begin + 1
        if size > 1 and (size * longest > max_tokens or size > batch_size):
            groups.append(rows[begin:end])
            begin, longest = end, int(length)
    return [*groups, rows[begin:]] if len(rows) else []
