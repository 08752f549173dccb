"""Hypothesis strategies: tiny hidden Markov models and ragged data."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

import probseq as ps


@st.composite
def chains(draw, max_states: int = 3, max_symbols: int = 3, max_restarts: int = 3):
    """An HMM with random parameters, some of them exactly zero, and ragged data that it can score."""
    states, symbols = draw(st.integers(1, max_states)), draw(st.integers(1, max_symbols))
    restarts, seed = draw(st.integers(1, max_restarts)), draw(st.integers(0, 2**16))
    model = ps.HMM(states, ps.emissions.Categorical(symbols), num_restarts=restarts, seed=seed)
    if states > 1 and draw(st.booleans()):  # a transition that cannot happen
        with torch.no_grad():
            model.log_transition[:, 0, 0] = -torch.inf
    rows = st.lists(st.integers(0, symbols - 1), min_size=1, max_size=5)
    data = draw(st.lists(rows, min_size=1, max_size=4))
    weights = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=len(data), max_size=len(data)))
    return model, ps.Sequences.from_list(data, weights=weights)
