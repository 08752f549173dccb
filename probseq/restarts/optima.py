"""How many different optima hidden Markov models have ended in, and whether they see the same states in the data."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.sequences import Sequences
from probseq.models.alignment import align
from probseq.models.hmm import HMM


@torch.no_grad()
def parameter_distances(model: HMM, reference: HMM) -> Float[Tensor, "R"]:
    """How far each restart is from a reference after alignment: the largest distance of any of its distributions.

    These are the emission distributions (Hellinger) and the initial distribution and the rows of transitions (total
    variation); all are between 0 and 1. Of an `InputHMM` they are those without inputs.

    Args:
        model: R restarts.
        reference: a model with one restart.

    Returns:
        ``(R,)``; NaN where parameters are not finite.
    """
    order = align(model, reference)
    rows = torch.arange(len(order), device=order.device)[:, None]
    groups = model.groups
    emission = model.emission.distances(reference.emission.raw, model.emission.raw)  # (R, G, G)
    of_emission = emission[rows, groups, groups[order]]
    of_initial = 0.5 * (model.initial[rows, order] - reference.initial).abs().sum(-1)
    transition = model.transition[rows[:, None], order[:, :, None], order[:, None, :]]
    of_rows = 0.5 * (transition - reference.transition).abs().sum(-1)
    return torch.cat([of_emission, of_rows, of_initial[:, None]], dim=1).amax(dim=1)


def distinct_optima(
    model: HMM, nats_per_token: NDArray[np.float64], tolerance: float, parameter_tolerance: float
) -> NDArray[np.int64]:
    """Which optimum each restart has found, ``(R,)``: 0 is the one with the best value, -1 a restart that failed.

    Two restarts are joined where their values differ by `tolerance` at most and their aligned parameters by
    `parameter_tolerance` at most; an optimum is everything that is joined, directly or through others (single linkage).
    """
    order = [int(r) for r in np.argsort(nats_per_token, kind="stable") if np.isfinite(nats_per_token[r])]
    cluster = {r: r for r in order}
    for r in order:
        near = np.abs(nats_per_token - nats_per_token[r]) <= tolerance
        others = [q for q in order if near[q] and cluster[q] != cluster[r]]
        if not others:
            continue
        apart = parameter_distances(model.take(others), model.select(r)).tolist()
        joined = {cluster[q] for q, distance in zip(others, apart, strict=True) if distance <= parameter_tolerance}
        cluster = {q: cluster[r] if c in joined else c for q, c in cluster.items()}
    names = {c: i for i, c in enumerate(dict.fromkeys(cluster[r] for r in order))}
    return np.array([names[cluster[r]] if r in cluster else -1 for r in range(len(nats_per_token))])


@torch.no_grad()
def path_agreement(model: HMM, data: Sequences, max_tokens: int = 2**14) -> Float[NDArray[np.float64], "R R"]:
    """The share of tokens that two restarts give the same state on their most probable paths, ``(R, R)``.

    Args:
        model: R restarts whose states have the same names: permute it first.
        data: the sequences; a sequence of weight w counts as w. One that is impossible agrees with no other.
        max_tokens: padded tokens in one batch, at most.
    """
    same = torch.zeros(model.num_restarts, model.num_restarts, dtype=torch.float64)
    total = 0.0
    for batch in data.batches(max_tokens, device=model.device):
        inside = torch.arange(batch.values.shape[1], device=model.device) < batch.lengths[:, None]
        weights = batch.weights.double()[:, None].expand(inside.shape)[inside]  # (tokens,)
        paths = model.viterbi(batch)[:, inside]  # (R, tokens)
        for k in range(model.num_states):
            here = (paths == k).double()
            same += (here * weights @ here.mT).cpu()
        total += float(weights.sum())
    return (same / total).numpy()
