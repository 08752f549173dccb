"""Hypothesis strategies: tiny hidden Markov models and ragged data."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from hypothesis import strategies as st

import probseq as ps

T = TypeVar("T")


def built(make: Callable[[], T]) -> T:
    """What `make` returns. The type checks of the tests draw from Python's random state, which strategies may not."""
    state = random.getstate()
    result = make()
    random.setstate(state)
    return result


@st.composite
def chains(draw, max_states: int = 3, max_symbols: int = 3, max_restarts: int = 3):
    """An HMM with random parameters, some of them exactly zero, and ragged data that it can score."""
    states, symbols = draw(st.integers(1, max_states)), draw(st.integers(1, max_symbols))
    restarts, seed = draw(st.integers(1, max_restarts)), draw(st.integers(0, 2**16))
    model = built(lambda: ps.HMM(states, ps.emissions.Categorical(symbols), num_restarts=restarts, seed=seed))
    if states > 1 and draw(st.booleans()):  # a transition that cannot happen
        with torch.no_grad():
            model.log_transition[:, 0, 0] = -torch.inf
    rows = st.lists(st.integers(0, symbols - 1), min_size=1, max_size=5)
    data = draw(st.lists(rows, min_size=1, max_size=4))
    weights = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=len(data), max_size=len(data)))
    return model, ps.Sequences.from_list(data, weights=weights)


FAMILIES = ("categorical", "bernoulli", "poisson", "diag", "full", "tied", "spherical", "mixture")
CONJUGATE = FAMILIES[:5]


def family(name: str, size: int, prior: bool) -> ps.emissions.Emission:
    """An emission family of this name with V or D = `size`, and a prior or none."""
    if name == "categorical":
        return ps.emissions.Categorical(size + 1, concentration=1.5 if prior else 1.0)
    if name == "bernoulli":
        return ps.emissions.Bernoulli(size, concentration=1.5 if prior else 1.0)
    if name == "poisson":
        return ps.emissions.Poisson(size, **({"prior_shape": 2.0, "prior_rate": 0.5} if prior else {}))
    strengths = {"mean_strength": 0.5, "covariance_strength": 0.5} if prior else {}
    if name == "mixture":
        return ps.emissions.GaussianMixture(size, 2, **strengths)
    return ps.emissions.Gaussian(size, covariance=name, **strengths)


def observations(name: str, size: int, rng: np.random.Generator, missing: bool, constant: bool) -> ps.Sequences:
    """One to four ragged sequences, weighted; entries and whole steps are missing if `missing`."""
    lengths = rng.integers(1, 8, rng.integers(1, 5))
    total = int(lengths.sum())
    kinds = {
        "categorical": lambda: rng.integers(0, size + 1, total),
        "bernoulli": lambda: rng.integers(0, 2, (total, size)).astype(float),
        "poisson": lambda: rng.poisson(2.0, (total, size)).astype(float),
    }
    values = kinds.get(name, lambda: rng.normal(3.0, 2.0, (total, size)))()
    if constant:
        values[:] = values[0]
    steps = rng.random(total) < 0.2 if missing else np.zeros(total, bool)
    steps[0] = False  # something is observed
    if missing and values.ndim == 2:
        values[1:][rng.random((total - 1, size)) < 0.2] = np.nan
    weights = rng.choice([0.5, 1.0, 3.0], len(lengths))
    return ps.Sequences(values, np.cumsum([0, *lengths]), weights=weights, missing=steps)


@st.composite
def problems(draw, families: tuple[str, ...] = FAMILIES, variational: bool = False):
    """A hidden Markov model of any family and structure with 1 or 2 restarts, and data that it can score."""
    name, size, states = draw(st.sampled_from(families)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    options = {
        "num_restarts": draw(st.integers(1, 2)),
        "seed": int(rng.integers(1000)),
        "sticky": draw(st.sampled_from([0.0, 2.0])),
    }
    if draw(st.booleans()):
        options["transition_mask"] = np.eye(states, dtype=bool) | (rng.random((states, states)) < 0.6)
    if states == 3 and draw(st.booleans()):
        options["emission_groups"] = [0, 1, 0]
    prior = draw(st.booleans())
    if variational:
        concentration = [float(c) for c in rng.choice([0.05, 1.0, 3.0], 3)]
        model = built(lambda: ps.VariationalHMM(states, family(name, size, prior=False), *concentration, **options))
    else:
        chain = {"initial_concentration": 1.3, "transition_concentration": 1.2} if prior else {}
        model = built(lambda: ps.HMM(states, family(name, size, prior), **chain, **options))
    return model, observations(name, size, rng, missing=draw(st.booleans()), constant=draw(st.booleans()))
