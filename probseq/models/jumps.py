"""`Jumps`: which jumps between positions of a source are possible, and where its ends cut them off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import ImpossibleError, InputError


@dataclass(frozen=True)
class Jumps:
    """Jumps from `lowest` to `highest`, W in all.

    Near the ends of a source some jumps would leave it. The positions from which the same ones would share a *set*, so
    there are as many sets as ways to be near an end, whatever the source's length. The first position of a path is
    within `highest` of the beginning, as if it were jumped to from before the source.

    Raises:
        InputError: a window without the jump to the next position.
    """

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        if not self.lowest <= 1 <= self.highest:
            raise InputError(
                f"jumps are ({self.lowest}, {self.highest}); expected the furthest ones back and forward, with the "
                "jump to the next position, 1, between them"
            )

    @classmethod
    def read(cls, jumps: Any, monotone: bool) -> Jumps:
        """The window that a user asked for; nothing jumps back where it is `monotone`.

        Raises:
            InputError: anything but two whole numbers around 1.
        """
        numbers = tuple(jumps) if isinstance(jumps, Iterable) else ()
        if len(numbers) != 2 or not all(isinstance(number, Integral) for number in numbers):
            raise InputError(f"jumps is {jumps!r}; expected two whole numbers, for example (-2, 3)")
        lowest, highest = map(int, numbers)
        return cls(max(lowest, 0) if monotone else lowest, highest)

    @property
    def size(self) -> int:
        """W."""
        return self.highest - self.lowest + 1

    @property
    def is_strict(self) -> bool:
        """True where every step moves on, so that nothing leads on from the last position."""
        return self.lowest == 1

    def check_end(self, end: int | None, num_symbols: int) -> int | None:
        """The number of the end symbol in the target, which the last position has to know where every step moves on.

        Raises:
            InputError: it is missing there, or it is not one of the target's symbols.
        """
        if self.is_strict and end is None:
            raise InputError(
                "where every step moves on, the last position emits the end symbol alone; give its id as end"
            )
        if end is not None and not 0 <= end < num_symbols:
            raise InputError(f"end is {end}; expected the id of a target symbol, 0 to {num_symbols - 1}")
        return end

    def check_possible(self, targets: Batch, source: Batch) -> None:
        """Raise `ImpossibleError` for a target that is longer than its source, where every step moves on."""
        if self.is_strict and (longer := targets.lengths > source.lengths).any():
            row = int(longer.nonzero()[0])
            raise ImpossibleError(
                int(targets.index[row]),
                f"a target of {int(targets.lengths[row])} symbols and a source of {int(source.lengths[row])}, ends "
                "included, which is impossible where every step moves on; let jumps begin at 0, or leave the pair out",
            )

    @property
    def allowed(self) -> Bool[Tensor, "C W"]:
        """Which jumps each set has, in the order of `sets`."""
        cut = torch.cartesian_prod(torch.arange(max(-self.lowest, 0) + 1), torch.arange(self.highest + 1))
        number = torch.arange(self.size)
        return (number >= cut[:, :1]) & (number < self.size - cut[:, 1:])

    @property
    def allowed_start(self) -> Bool[Tensor, "B B"]:
        """Which first positions a source of length 1, 2, ... has."""
        return torch.ones(self.highest, self.highest, dtype=torch.bool).tril()

    def sets(self, lengths: Int[Tensor, "N"], positions: Int[Tensor, "#N P"]) -> Int[Tensor, "N P"]:
        """The set of each of these positions of sources of these lengths; any set at padding."""
        left = (-self.lowest - positions).clamp(min=0)
        right = (self.highest - (lengths[:, None] - 1 - positions)).clamp(0, self.highest)
        return left * (self.highest + 1) + right
