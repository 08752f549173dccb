"""Slow and obvious: sums over every sequence, and over every path of states."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

import probseq as ps


def all_sequences(num_symbols: int, length: int) -> ps.Sequences:
    """Every sequence of that length."""
    return ps.Sequences.from_list(list(itertools.product(range(num_symbols), repeat=length)))


def total_log_prob(model, data: ps.Sequences) -> Tensor:
    """``(R, N)`` log p(x)."""
    return model.token_log_prob(data.batch()).sum(dim=-1)


def hmm_joint(initial: Tensor, transition: Tensor, emission: Tensor, x: list[int]) -> dict[tuple[int, ...], Tensor]:
    """p(path, x) for every path, of one HMM with parameters (K,), (K, K), (K, V)."""
    joint = {}
    for path in itertools.product(range(len(initial)), repeat=len(x)):
        p = initial[path[0]] * emission[path[0], x[0]]
        for t in range(1, len(x)):
            p = p * transition[path[t - 1], path[t]] * emission[path[t], x[t]]
        joint[path] = p
    return joint


def hmm_log_prob(model: ps.HMM, restart: int, x: list[int]) -> Tensor:
    """log p(x) by summing over all paths."""
    joint = hmm_joint(model.initial[restart], model.transition[restart], model.emission.probs[restart], x)
    return torch.stack(list(joint.values())).sum().log()
