"""How the quality of a model changes with the length of the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probseq.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LengthBins:
    """Neighboring source lengths, put together until each bin holds enough pairs.

    Attributes:
        first, last: ``(B,)`` the shortest and the longest source length of each bin.
        bin_of: ``(N,)`` the bin of each pair.
    """

    first: Ints
    last: Ints
    bin_of: Ints

    @property
    def labels(self) -> list[str]:
        """``5`` for a single length, ``12–14`` for several."""
        return [f"{a}" if a == b else f"{a}–{b}" for a, b in zip(self.first, self.last, strict=True)]

    def ratio(self, numerator: Floats, denominator: Floats) -> Floats:
        """``(B,)``: the sum of `numerator` over the pairs of each bin, divided by that of `denominator`."""
        sums = [np.bincount(self.bin_of, weights=one, minlength=len(self.first)) for one in (numerator, denominator)]
        return np.asarray(sums[0] / sums[1])


def length_bins(lengths: Ints, min_pairs: int = 30) -> LengthBins:
    """Bins of source lengths, from short to long; what is left over at the end joins the last bin.

    Args:
        lengths: ``(N,)`` of the sources.
        min_pairs: that a bin holds at least, where there are so many.

    Raises:
        InputError: no pairs.

    Example:
        >>> length_bins(np.array([3, 3, 4, 5, 6, 9]), min_pairs=2).labels
        ['3', '4–5', '6–9']
    """
    if not len(lengths):
        raise InputError("received no lengths; expected that of at least one source")
    present, counts = np.unique(lengths, return_counts=True)
    ends, held = [], 0
    for i, count in enumerate(counts):
        held += int(count)
        if held >= min_pairs:
            ends.append(i)
            held = 0
    if held or not ends:
        ends = [*ends[:-1], len(present) - 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    bin_of = np.searchsorted(present[ends], lengths)
    return LengthBins(present[starts], present[ends], bin_of)
