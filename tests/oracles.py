"""Slow and obvious: what a model says of sequences and next steps, and sums over every path of states."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

import probseq as ps


def total_log_prob(model, data: ps.Sequences) -> Tensor:
    """``(R, N)`` log p(x)."""
    with torch.no_grad():
        return model.token_log_prob(data.batch()).sum(dim=-1)


def monte_carlo_error(model, data: ps.Sequences) -> float:
    """The largest standard error of log p(x); 0 for a likelihood that is no estimate."""
    return model.estimate(data.batch()).standard_error.max().item() if model.likelihood == "estimate" else 0.0


def next_term(model, state, values: Tensor) -> Tensor:
    """``(R, N)`` ``log p(x_t | x_<t)`` of the next observation, from the state before it."""
    if model.num_symbols:
        return model.next_log_prob(state)[:, torch.arange(len(values)), values]
    if isinstance(model, ps.Autoregressive):
        return torch.stack([net.log_prob(out[:, -1], values) for net, (out, _) in zip(model.nets, state, strict=True)])
    raw = {name: value[:, None] for name, value in model.emission.raw.items()}  # (R, 1, K, ...)
    if isinstance(model, ps.PosteriorHMM):  # state (R, S, N, K), raw (R S, 1, K, ...)
        log_prob = model.emission.log_prob(raw, values[:, None]).unflatten(0, state.shape[:2])
        return (state + log_prob).logsumexp(dim=(1, 3))
    return (state + model.emission.log_prob(raw, values[:, None])).logsumexp(dim=-1)


def features(model, data: ps.Sequences) -> Tensor:
    """``(N, F)``: log p(x), every step, its square, and the products of neighbors; R = 1, equal lengths."""
    values = data.batch().values
    code = torch.nn.functional.one_hot(values, 3).double() if data.is_symbolic else values  # (N, T, D)
    neighbors = code[:, :-1, :, None] * code[:, 1:, None, :]
    parts = [total_log_prob(model, data)[0, :, None], code.flatten(1), code.flatten(1) ** 2, neighbors.flatten(1)]
    return torch.cat(parts, dim=1)


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
