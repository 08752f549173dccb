"""The one legend of axis letters, and the aliases built on it.

==== =====================================================================
R    restarts: runs of one model from different starting points, always first
N    sequences
T    time: positions in a sequence
K    states or topics
V    symbols of the vocabulary
D    dimensions of a real-valued observation
H    hidden units
S    steps of an inference run; of conditional models, positions in the source
M    rows of an emission table (V for symbols, N * T for vectors)
==== =====================================================================

Log-probabilities are natural logarithms (nats) everywhere inside the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Array: TypeAlias = Tensor | np.ndarray | Sequence[Any]
"""What a user may give for a tensor: a tensor, an array, or nested lists."""

Likelihood: TypeAlias = Literal["exact", "lower bound", "estimate"]
"""What a log-likelihood number is; it travels with the number into every table."""

Values: TypeAlias = Shaped[Tensor, "N T *D"]
"""Symbols ``(N, T)`` or real vectors ``(N, T, D)``, padded on the right."""

Lengths: TypeAlias = Int[Tensor, "N"]
TokenLogProb: TypeAlias = Float[Tensor, "R N T"]
"""``log p(x_t | x_<t)`` in nats; 0 at padding."""
