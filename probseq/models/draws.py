"""Random tables of probabilities to start from, and the names of all starting points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Draw = Callable[[torch.Generator, int, int], Tensor]
"""A generator, a number of rows and their size in; rows of probabilities out."""


@contextmanager
def fixed_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own source of randomness, which Pyro draws from, begins at `seed`, and afterwards goes on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def draw_dirichlet(generator: torch.Generator, rows: int, size: int) -> Tensor:
    """Rows drawn uniformly from the simplex: normalised exponential variables."""
    draws = torch.empty(rows, size, dtype=torch.float64).exponential_(generator=generator)
    return draws / draws.sum(dim=-1, keepdim=True)


def draw_near_uniform(generator: torch.Generator, rows: int, size: int) -> Tensor:
    """Rows within 1 % of uniform: close to a saddle of the likelihood, where all states are alike."""
    draws = 1 + 0.01 * torch.rand(rows, size, dtype=torch.float64, generator=generator)
    return draws / draws.sum(dim=-1, keepdim=True)


DRAWS: dict[str, Draw] = {"dirichlet": draw_dirichlet, "near_uniform": draw_near_uniform}
"""Starts that need no data where the observations are symbols."""

START_NAMES = (*DRAWS, "unigram", "kmeans", "race", "spectral", "parameters")
"""How starting parameters are found, by name; those that look at data are in `probseq.inference.starts`."""
