"""One curve of how the past fades with distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fading:
    """What is left at each distance.

    Attributes:
        what: a few words, with the unit: what an axis is labeled with.
        distance: ``(L,)`` steps between the past and the present.
        values: ``(N, L)`` for each of N sequences; N is 1 where they were pooled.
        family: what it was measured on, which decides its color: a computed state (``"deterministic"``), a drawn one
            (``"stochastic"``), or data (``"baseline"``).
    """

    what: str
    distance: NDArray[np.int64]
    values: Floats
    family: Literal["deterministic", "stochastic", "baseline"] = "deterministic"

    @property
    def mean(self) -> Floats:
        """``(L,)`` the mean over sequences."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def factor(self) -> float:
        """By what one more step multiplies: the slope of a line through the logarithms of the positive means.

        Example:
            >>> import numpy as np
            >>> round(Fading("", np.arange(4), np.array([[8.0, 4.0, 2.0, 1.0]])).factor, 6)
            0.5
        """
        positive = self.mean > np.finfo(np.float64).tiny
        if positive.sum() < 2:
            return 0.0
        return float(np.exp(np.polyfit(self.distance[positive], np.log(self.mean[positive]), 1)[0]))
