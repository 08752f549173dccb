"""One row for each emission family: how to build it, with and without a prior, and data that it could have made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import probseq as ps
from probseq.models.emissions import Bernoulli, Categorical, Emission, Gaussian, GaussianMixture, Poisson

SYMBOLS = 4


@dataclass(frozen=True)
class Family:
    """A family under the laws.

    Attributes:
        name: shown by pytest.
        build: number of dimensions (ignored for symbols) -> the family.
        prior: options that make a prior.
        per_state, shared: free parameters for D = 3.
    """

    name: str
    build: Callable[..., Emission]
    prior: dict[str, float]
    per_state: int
    shared: int = 0

    @property
    def symbolic(self) -> bool:
        return self.build is _categorical

    def values(self, rng: np.random.Generator, *shape: int, num_dims: int = 3) -> np.ndarray:
        """Observations ``(*shape)`` or ``(*shape, D)`` that look nothing like the model."""
        kind = self.build(num_dims).support[0]
        if kind == "symbols":
            return rng.integers(0, SYMBOLS, size=shape)
        if kind == "binary":
            return rng.integers(0, 2, size=(*shape, num_dims)).astype(float)
        if kind == "counts":
            return rng.poisson(rng.choice([1.0, 6.0], size=(*shape, 1)), size=(*shape, num_dims)).astype(float)
        mix = rng.normal(size=(num_dims, num_dims))
        return 5 + rng.choice([-2.0, 3.0], size=(*shape, 1)) + rng.normal(size=(*shape, num_dims)) @ mix

    def data(self, seed: int = 0, missing: float = 0.0, lengths: tuple[int, ...] = (9, 1, 6), **options: Any) -> Any:
        """Ragged sequences, of which a part of the entries is missing."""
        rng = np.random.default_rng(seed)
        rows = [self.values(rng, length, **options) for length in lengths]
        if not missing:
            return ps.Sequences.from_list(rows)
        if self.symbolic:
            return ps.Sequences.from_list(rows, missing=[rng.random(len(row)) < missing for row in rows])
        for row in rows:
            row[rng.random(row.shape) < missing] = np.nan
        rows[0][0], rows[0][1:2, 1:] = np.nan, np.nan  # one step as a whole, one but for one entry
        return ps.Sequences.from_list(rows)

    def bank(self, data: Any = None, restarts: int = 2, states: int = 3, seed: int = 0, **options: Any) -> Any:
        """A bank in float64 with parameters that are not degenerate, at the data's location and scale."""
        bank = self.build(3, **options).build(restarts, states)
        if data is not None:
            bank.observe(data)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in bank.parameters():
                parameter += 0.5 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        return bank


def _categorical(num_dims: int = 0, **options: Any) -> Emission:
    return Categorical(SYMBOLS, **options)


def _gaussian(covariance: str) -> Callable[..., Emission]:
    return lambda num_dims, **options: Gaussian(num_dims, covariance, **options)


STRENGTHS = {"mean_strength": 0.7, "covariance_strength": 2.5}

FAMILIES = [
    Family("categorical", _categorical, {"concentration": 1.5}, 3),
    Family("bernoulli", Bernoulli, {"concentration": 1.5}, 3),
    Family("poisson", Poisson, {"prior_shape": 2.0, "prior_rate": 0.5}, 3),
    Family("diag", _gaussian("diag"), STRENGTHS, 6),
    Family("full", _gaussian("full"), STRENGTHS, 9),
    Family("tied", _gaussian("tied"), STRENGTHS, 3, 6),
    Family("spherical", _gaussian("spherical"), STRENGTHS, 4),
    Family(
        "mixture",
        lambda num_dims, **options: GaussianMixture(num_dims, 2, **options),
        {**STRENGTHS, "weight_concentration": 1.5},
        13,
    ),
]


def tabulate(bank: Emission, batch: ps.Batch) -> Tensor:
    """``(R, N, T, K)``: the log-probability of every token in every state, through the bank's table and index."""
    return bank.log_table(batch)[:, bank.index(batch)]


def directly(bank: Emission, batch: ps.Batch) -> Tensor:
    """The same, through `log_prob` of the bank's parameters."""
    raw = {name: value[:, None, None] for name, value in bank.raw.items()}
    return bank.log_prob(raw, batch.values[None, :, :, None])


def responsibilities(bank: Emission, batch: ps.Batch, seed: int = 0) -> Tensor:
    """``(R, M, K)``: made-up expected counts for the rows of the bank's table."""
    generator = torch.Generator().manual_seed(seed)
    restarts, rows, states = bank.log_table(batch).shape
    shares = torch.rand(restarts, *batch.mask.shape, states, generator=generator, dtype=torch.float64)
    weighted = shares * (batch.mask * batch.weights[:, None])[..., None]
    counts = torch.zeros(restarts, rows, states, dtype=torch.float64)
    return counts.index_add_(1, bank.index(batch).flatten(), weighted.flatten(1, 2))


def objective(bank: Emission, counts: Tensor, batch: ps.Batch) -> Tensor:
    """``(R,)``: the log-probability of the data, counted as often as each state has them, and of the parameters."""
    table = bank.log_table(batch)
    return torch.where(counts > 0, counts * table, 0.0).sum((1, 2)) + bank.log_prior()
