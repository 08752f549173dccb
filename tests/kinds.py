"""Observations of every kind that models score: all that there are, for sums over them, and data with structure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributions as dist
from torch import Tensor

import probseq as ps


@dataclass(frozen=True)
class Kind:
    """One kind of observation.

    Attributes:
        support: as models say it.
        truth: what symbols 0, 1 and 2 emit; the structured data are drawn from it.
        axis: every symbol or number that an entry may be, or so many that the others do not matter.
        spacing: what each stands for in a sum: 1, or the distance between the numbers.
        length: of the longest sequences of which all are tried.
        outside: observations that are refused, each with the sentence.
    """

    support: tuple[str, int]
    truth: dist.Distribution
    axis: Tensor
    spacing: float
    length: int
    outside: tuple[tuple[object, str], ...]

    @property
    def symbolic(self) -> bool:
        return self.support[0] == "symbols"

    @property
    def points(self) -> Tensor:
        """``(M,)`` or ``(M, D)``: every observation."""
        return (
            self.axis
            if self.symbolic
            else torch.cartesian_prod(*[self.axis] * self.support[1]).view(-1, self.support[1])
        )

    @property
    def cell(self) -> float:
        """What a point stands for in a sum."""
        return 1.0 if self.symbolic else self.spacing ** self.support[1]

    def all_sequences(self, length: int) -> ps.Sequences:
        """Every sequence of that length."""
        rows = np.array(list(itertools.product(range(len(self.points)), repeat=length)))
        return ps.Sequences.from_list(self.points.numpy()[rows])

    def completed(self, x: np.ndarray, step: int) -> ps.Sequences:
        """A sequence with every observation there is at one step; one after the end makes it longer."""
        return ps.Sequences.from_list([np.concatenate([x[:step], p[None], x[step + 1 :]]) for p in self.points.numpy()])

    def gaps(self, x: np.ndarray, step: int) -> Iterator[tuple[ps.Sequences, ps.Sequences, float]]:
        """A sequence in which a step, or part of one, is missing; all it may be; what each stands for in a sum."""
        missing = np.arange(len(x)) == step
        yield ps.Sequences.from_list([x], missing=[missing]), self.completed(x, step), self.cell
        if not self.symbolic and self.support[1] > 1:
            part = np.zeros_like(x, dtype=bool)
            part[step, 0] = True
            filled = [np.where(part, float(value), x) for value in self.axis]
            yield ps.Sequences.from_list([np.where(part, np.nan, x)]), ps.Sequences.from_list(filled), self.spacing

    def structured(self, num: int, seed: int, length: int = 24) -> ps.Sequences:
        """What hidden symbols emit that mostly count up modulo 3: who ignores the order sees nothing in them."""
        steps = np.random.default_rng(seed).choice([1, 2], p=[0.97, 0.03], size=(num, length))
        return self.emitted(np.cumsum(steps, axis=1) % 3, seed)

    def emitted(self, rows: list[list[int]] | np.ndarray, seed: int = 0) -> ps.Sequences:
        """What these hidden symbols emit."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            draws = [self.truth.sample((len(row),))[torch.arange(len(row)), torch.as_tensor(row)] for row in rows]
        return ps.Sequences.from_list([one.long().numpy() if self.symbolic else one.numpy() for one in draws])

    def ragged(self) -> ps.Sequences:
        """Five sequences of different lengths."""
        return self.emitted([[0, 1, 2, 1, 0, 2], [2], [1, 1], [0, 0, 1, 2, 2, 2, 1, 0, 1], [2, 0, 1]])

    def nats_without_order(self, data: ps.Sequences) -> float:
        """Nats per token of the best model that ignores the order."""
        return -float((self.truth.log_prob(torch.from_numpy(data.values)[:, None]).logsumexp(-1) - np.log(3)).mean())


def _vectors(values: list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


_SYMBOLS = [0, 1, 1]
_LONE = (np.zeros((3, 3)), r"vectors \(N, T, [12]\).*received .*3\)")

SYMBOLS = Kind(
    ("symbols", 3),
    dist.Categorical(torch.eye(3, dtype=torch.float64), validate_args=False),
    torch.arange(3),
    1.0,
    4,
    (([0, 3], r"symbol 3 .*3 symbols.*encode"), (np.zeros((4, 2)), "symbols")),
)
BINARY = Kind(
    ("binary", 2),
    dist.Independent(dist.Bernoulli(_vectors([[0.05, 0.05], [0.05, 0.95], [0.95, 0.95]])), 1),
    _vectors([0, 1]),
    1.0,
    4,
    (([[0.0, 1.0], [0.5, 1.0]], r"0\.5.*expected"), (_SYMBOLS, "vectors"), _LONE),
)
COUNTS = Kind(
    ("counts", 1),
    dist.Independent(dist.Poisson(_vectors([[0.5], [4.0], [9.0]])), 1),
    torch.arange(60, dtype=torch.float64),
    1.0,
    2,
    (([[2.0], [1.5]], r"1\.5.*expected"), ([[2.0], [-1.0]], r"-1.*expected"), (_SYMBOLS, "vectors"), _LONE),
)
REALS = Kind(
    ("reals", 1),
    dist.Independent(dist.Normal(_vectors([[-1.0], [0.2], [1.2]]), 0.3), 1),
    torch.arange(-11, 11, 0.2, dtype=torch.float64),
    0.2,
    2,
    ((_SYMBOLS, "vectors"), _LONE),
)
PLANE = Kind(
    ("reals", 2),
    dist.Independent(dist.Normal(_vectors([[-1.0, 0.0], [0.0, 0.9], [1.0, -0.5]]), 0.3), 1),
    torch.arange(-9, 9, 0.25, dtype=torch.float64),
    0.25,
    1,
    ((_SYMBOLS, "vectors"), _LONE),
)
