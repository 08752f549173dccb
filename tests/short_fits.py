"""Fits of a dozen steps."""

import numpy as np

import probseq as ps

SHORT = {"num_steps": 12, "batch_size": 6, "learning_rate": 0.02, "warmup_steps": 3, "eval_every": 4}


def counting(num=24, seed=0, longest=12):
    rng = np.random.default_rng(seed)
    rows = [np.cumsum(rng.choice([1, 2], p=[0.9, 0.1], size=rng.integers(4, longest))) % 4 for _ in range(num)]
    return ps.Sequences.from_list(rows, weights=rng.choice([1.0, 2.0], size=num))


def gru(restarts=2, **options):
    return ps.Autoregressive.from_seed(lambda: ps.GRU(4, hidden_dim=8, **options), restarts)
