"""`Stacked`: models whose restarts are the first axis of every parameter, and can be taken out and put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from probseq.models.base import Model

S = TypeVar("S", bound="Stacked")


class Stacked(Model):
    """A model of R restarts in one set of tensors; the constructor takes how many, as `num_restarts`.

    Attributes:
        numbers: of the restarts, on which their starting points and their randomness depend.
    """

    numbers: list[int]

    def select(self: S, restart: int) -> S:
        return self.take([self.check_restart(restart)])

    def take(self: S, restarts: Sequence[int]) -> S:
        """A copy with these restarts, in this order."""
        rows, stacked = torch.as_tensor(restarts, device=self.device), dict(self.named_parameters())
        new: Any = type(self).from_config({**self.config(), "num_restarts": len(restarts)}).to(self.device)
        state = self.state_dict()
        parts = {name: value[rows] if name in stacked else value.clone() for name, value in state.items()}
        new.load_state_dict(parts, assign=True)  # in their precision, which may be another than that of the beginning
        new.numbers = [self.numbers[r] for r in restarts]
        new.vocabulary, new.source_vocabulary = self.vocabulary, self.source_vocabulary
        taken: S = new.train(self.training)
        return taken

    def put(self: S, restarts: Sequence[int], other: S) -> None:
        """Overwrite these restarts with those of `other`."""
        rows, given = torch.as_tensor(restarts, device=self.device), dict(other.named_parameters())
        for name, value in self.named_parameters():
            value.data[rows] = given[name].data
