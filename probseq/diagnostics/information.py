"""How a hidden Markov chain forgets, and the mutual information that is in data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.sequences import Sequences, check_sequences
from probseq.diagnostics.fading import Fading, Floats
from probseq.errors import InputError, check_whole
from probseq.models.markov import MarkovModel


def chain_eigenvalues(model: MarkovModel) -> NDArray[np.complex128]:
    """``(R, K)`` the eigenvalues of the transition matrix of every restart, the largest modulus (1) first."""
    found = torch.linalg.eigvals(_transition(model)).cpu().numpy()
    return np.take_along_axis(found, np.argsort(-np.abs(found), axis=1, kind="stable"), axis=1)


def second_eigenvalue(model: MarkovModel) -> Floats:
    r"""``(R,)`` the modulus of the second largest eigenvalue of the transition matrix: how slowly the chain forgets.

    The distance of the state's distribution from the stationary one falls like :math:`|\lambda_2|^k` in k steps,
    whatever the state was; 1 is a chain that never forgets (it has parts, or a period), 0 one without a memory.
    """
    found = chain_eigenvalues(model)
    return np.abs(found[:, 1]) if found.shape[1] > 1 else np.zeros(len(found))


def chain_information(model: MarkovModel, distances: Iterable[int]) -> Fading:
    r"""The mutual information of two symbols at each distance, in nats, under a stationary hidden Markov model.

    .. math::
        p(x_t = v, x_{t+k} = w) = \sum_{ij} \pi_i \, b_i(v) \, (A^k)_{ij} \, b_j(w)

    Args:
        model: of symbols; a row of `values` for each restart.
        distances: each 1 or more.
    """
    steps = _distances(distances)
    if not model.num_symbols:
        raise InputError("mutual information is counted of symbols, and the model is of vectors")
    transition = _transition(model)
    emission, stationary = _emission(model), _stationary(transition)
    rows = []
    for k in steps:
        joint = stationary[:, :, None] * torch.linalg.matrix_power(transition, int(k))  # (R, K, K)
        rows.append(_information(torch.einsum("rkv,rkl,rlw->rvw", emission, joint, emission)))
    return Fading("mutual information (nats)", steps, torch.stack(rows, dim=1).cpu().numpy(), "stochastic")


def mutual_information(data: Sequences, distances: Iterable[int]) -> Fading:
    """The mutual information of two symbols at each distance, in nats, as counted in data.

    Pairs lie inside sequences, and count as often as their sequence has weight; one with a missing symbol does not
    count. Counts overestimate; the leading term of that (Miller and Madow) is taken off, so that what is nothing comes
    out around 0, on both sides of it.

    Args:
        data: symbols.
        distances: each 1 or more, and shorter than the longest sequence.

    Reference:
        G. A. Miller (1955), "Note on the bias of information estimates".
    """
    check_sequences(data, "data")
    if not data.is_symbolic:
        raise InputError("mutual information is counted of symbols, and the data are vectors; round or bin them")
    steps, weights = _distances(distances), np.repeat(data.weights, data.lengths)
    rows = []
    for k in steps:
        inside = np.flatnonzero(np.repeat(data.offsets[1:], data.lengths) - np.arange(data.num_tokens) > k)
        if not len(inside):
            raise InputError(f"no sequence has two symbols at distance {k}; the longest has {data.lengths.max()}")
        pairs = np.stack([data.values[inside], data.values[inside + k]]).astype(np.int64)
        seen = (pairs >= 0).all(axis=0) & (weights[inside] > 0)
        if not seen.any():
            raise InputError(f"no two symbols at distance {k} are both there; all such pairs have a missing one")
        first, second = pairs[:, seen]
        rows.append(_counted_information(first, second, weights[inside][seen]))
    return Fading("mutual information (nats)", steps, np.array([rows]), "baseline")


def _information(joint: Tensor) -> Tensor:
    """``(...)`` the mutual information in nats of joint distributions ``(..., V, W)``."""
    independent = joint.sum(dim=-1, keepdim=True) * joint.sum(dim=-2, keepdim=True)
    return (torch.xlogy(joint, joint) - torch.xlogy(joint, independent)).sum(dim=(-2, -1))


def _counted_information(first: NDArray[np.int64], second: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    """Of weighted pairs; only pairs that occur are counted, because a table of V x V may not fit into memory."""
    size = int(second.max()) + 1
    pairs, which = np.unique(first * size + second, return_inverse=True)
    joint, total = np.bincount(which, weights), weights.sum()
    rows, columns = np.bincount(first, weights), np.bincount(second, weights)
    plain = joint @ np.log(joint * total / (rows[pairs // size] * columns[pairs % size])) / total
    kinds = len(pairs) - np.count_nonzero(rows) - np.count_nonzero(columns) + 1
    return float(plain - kinds / (2 * total))


def _distances(distances: Iterable[int]) -> NDArray[np.int64]:
    if not isinstance(distances, Iterable):
        raise InputError(f"distances is {distances!r}; expected several, for example range(1, 50)")
    return np.array([check_whole("a distance", one) for one in distances], dtype=np.int64)


def _transition(model: Any) -> Tensor:
    if not hasattr(model, "transition") or model.transition.ndim != 3:
        raise InputError(f"expected a hidden Markov model with one transition matrix; received {type(model).__name__}")
    return _normalized(model.transition)


def _emission(model: Any) -> Tensor:
    """``(R, K, V)`` the probability of each symbol in each state."""
    symbols = Sequences.from_list([[v] for v in range(model.num_symbols)]).batch(device=model.device)
    potentials = model.potentials(symbols)
    table: Tensor = potentials.log_emission[:, potentials.index[:, 0]]  # (R, V, K)
    return _normalized(table.transpose(1, 2).exp())


def _normalized(rows: Tensor) -> Tensor:
    """In double precision, so that what is far away and small is not rounding."""
    rows = rows.detach().double()
    return rows / rows.sum(dim=-1, keepdim=True)


def _stationary(transition: Tensor) -> Tensor:
    """``(R, K)`` the distribution that a step leaves as it is; averaged over where a chain in parts began."""
    size = transition.shape[-1]
    lazy = (transition + torch.eye(size, dtype=transition.dtype, device=transition.device)) / 2  # has no period
    for _ in range(40):  # a trillion steps; rows are normalized again, or rounding would add up
        lazy = _normalized(lazy @ lazy)
    return lazy.mean(dim=1)
