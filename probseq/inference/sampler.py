"""The order in which a fit sees its data: a function of the seed, so that its position is two numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.models.base import restart_seed


class Sampler:
    """Batches without end, each pass over the data in a new order, sequences of like length together.

    Attributes:
        epoch: passes over the data that were finished.
        drawn: batches of the present pass that were drawn.
    """

    def __init__(self, data: Sequences, batch_size: int, seed: int, device: torch.device) -> None:
        self.data, self.batch_size, self.seed, self.device = data, batch_size, seed, device
        self.longest = int(data.extents.max())
        self.seek(0, 0)

    def seek(self, epoch: int, drawn: int) -> None:
        """Go on after the `drawn`-th batch of this pass."""
        self.epoch, self.drawn = epoch, drawn
        self._rest = islice(self._pass(), drawn, None)

    def first(self) -> Batch:
        """A batch to try something on; the position stays."""
        return next(self._pass())

    def _pass(self) -> Iterator[Batch]:
        return self.data.batches(
            self.batch_size * self.longest,
            batch_size=self.batch_size,
            shuffle=True,
            seed=restart_seed(self.seed, self.epoch),
            device=self.device,
        )

    def __next__(self) -> Batch:
        batch = next(self._rest, None)
        if batch is None:
            self.seek(self.epoch + 1, 0)
            batch = next(self._rest)
        self.drawn += 1
        return batch
