"""What variational inference knows of the documents of a batch from one E-step to the next."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probseq.data.batch import Batch, Identity


class DocumentMemory:
    """Where the inference of each document has ended: the next E-step begins there, so that no bound falls.

    What an E-step finds counts once an M-step has followed it: one that is rejected leaves no trace. Whatever is lost,
    as in a copy, is found again by more steps.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Identity, tuple[Tensor, Tensor]] = WeakKeyDictionary()

    def begin(self, batch: Batch) -> Float[Tensor, "R N K"] | None:
        """Where to begin; None for a batch that is new."""
        known = self._known.get(batch.identity)
        return None if known is None else known[0]

    def note(self, batch: Batch, begun: Float[Tensor, "R N K"], found: Float[Tensor, "R N K"]) -> None:
        """Where an E-step has begun and ended."""
        self._known[batch.identity] = (begun, found)

    def accept(self, sound: Bool[Tensor, "R"]) -> None:
        """The last E-step of these restarts counts."""
        for one, (begun, found) in list(self._known.items()):
            self._known[one] = (torch.where(sound[:, None, None], found, begun), found)

    def take(self, rows: Tensor) -> DocumentMemory:
        """That of these restarts."""
        new = DocumentMemory()
        for one, known in self._known.items():
            new._known[one] = (known[0][rows], known[1][rows])
        return new

    def put(self, rows: Tensor, other: DocumentMemory) -> None:
        """Overwrite that of these restarts."""
        for one, (begun, _) in other._known.items():
            if one in self._known:
                self._known[one][0][rows] = begun

    def to(self, device: torch.device) -> None:
        """Follow the model to a device."""
        for one, (begun, found) in list(self._known.items()):
            self._known[one] = (begun.to(device), found.to(device))

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._known = WeakKeyDictionary()
