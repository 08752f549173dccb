r"""A hidden Markov model of symbols from the moments of three neighbors, without a search.

Given the state in the middle, the symbols :math:`x_1, x_2, x_3` of a triple are independent. Let
:math:`U \Sigma W^\top` be the K largest singular values and vectors of the joint table :math:`P_{13}` of the outer
two. For any weights :math:`\eta` of the middle symbol,

.. math::
    U^\top \, \mathbb{E}[\eta(x_2) \, x_1 x_3^\top] \, W \, \Sigma^{-1}
    = S \; \mathrm{diag}_k \left( \sum_v \eta_v \, p(v \mid s_2 = k) \right) \; S^{-1},

and S does not depend on :math:`\eta`. So an eigendecomposition for one random :math:`\eta` gives S, and S gives the
emission probabilities of every symbol. With these, the joint table of neighbors gives the transitions.

Reference:
    A. Anandkumar, D. Hsu, S. M. Kakade (2012), "A method of moments for mixture models and hidden Markov models".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, sparray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DIRECTIONS = 20  # random weights of the middle symbol; those that tell the states apart best are used
_OVERSAMPLING = 20  # random directions beyond K that find the range of the joint table
_POWER_STEPS = 4


class Triples(NamedTuple):
    """Every distinct triple of neighbors, and how often it occurs."""

    symbols: tuple[Ints, Ints, Ints]
    probs: Floats
    num_triples: int


class RankError(Exception):
    """The moments do not determine that many states; the message is a clause that says why."""


def spectral(triples: Triples, num_symbols: int, num_states: int, rng: np.random.Generator) -> tuple[Floats, ...]:
    """The parameters ``initial (K,)``, ``transition (K, K)`` and ``emission (K, V)`` that fit the moments.

    The initial probabilities are those of the states in the long run. Estimates below zero become zero. The error
    shrinks with the number of triples, as long as the model is right and its states differ.

    Raises:
        RankError: more states than symbols, no triples, a singular value no larger than chance would make it, or
            eigenvalues that are complex or coincide.
    """
    if num_states > num_symbols:
        raise RankError(f"there are {num_states} states and only {num_symbols} symbols")
    if triples.num_triples == 0:
        raise RankError("no three neighbors were observed")
    left, right = _whitened_range(triples, num_symbols, num_states, rng)
    emission = _emission(triples, left, right, rng)
    pairs = _joint(triples, 0, 1, num_symbols)
    inverse = np.linalg.pinv(emission)  # (V, K)
    states = (inverse.T @ (pairs @ inverse)).clip(min=0)  # (K, K): p(s_1, s_2)
    initial = states.sum(axis=1)
    if not (initial > 0).all():
        raise RankError("a state has no mass")
    return initial / initial.sum(), states / initial[:, None], emission


def _joint(triples: Triples, row: int, column: int, num_symbols: int) -> sparray:
    where = (triples.symbols[row], triples.symbols[column])
    return coo_array((triples.probs, where), shape=(num_symbols, num_symbols)).tocsr()


def _whitened_range(
    triples: Triples, num_symbols: int, num_states: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    r"""``(V, K)`` each: the singular vectors U and :math:`W \Sigma^{-1}` of the joint table of outer symbols.

    The range is found by power steps on a random projection: N. Halko, P. G. Martinsson, J. A. Tropp (2011),
    "Finding structure with randomness". It is exact where the projection is as wide as the table.
    """
    outer = _joint(triples, 0, 2, num_symbols)
    basis = rng.standard_normal((num_symbols, min(num_symbols, num_states + _OVERSAMPLING)))
    for _ in range(_POWER_STEPS):
        basis = np.linalg.qr(outer @ (outer.T @ basis))[0]
    rotation, scale, transposed = np.linalg.svd((outer.T @ basis).T, full_matrices=False)
    # Sampling changes a joint table by about the square root of its largest row (or column) sum over their number.
    largest = max(outer.sum(axis=0).max(), outer.sum(axis=1).max())
    noise = 2 * np.sqrt(largest / triples.num_triples)
    if scale[num_states - 1] <= noise:
        rank = int((scale > noise).sum())
        raise RankError(f"the moments show {rank} state{'s' * (rank != 1)} beyond chance, fewer than {num_states}")
    return basis @ rotation[:, :num_states], transposed[:num_states].T / scale[:num_states]


def _emission(triples: Triples, left: Floats, right: Floats, rng: np.random.Generator) -> Floats:
    """``(K, V)``: the emission probabilities, from the eigenvectors that all middle symbols share."""
    first, middle, last = triples.symbols
    vectors = _eigenvectors(triples, left, right, rng)
    inner = left @ np.linalg.inv(vectors).T  # (V, K)
    outer = right @ vectors
    terms = triples.probs[:, None] * inner[first] * outer[last]  # (M, K)
    emission = np.stack([np.bincount(middle, one, minlength=len(left)) for one in terms.T]).clip(min=0)
    probs: Floats = emission / emission.sum(axis=1, keepdims=True)
    return probs


def _eigenvectors(triples: Triples, left: Floats, right: Floats, rng: np.random.Generator) -> Floats:
    first, middle, last = triples.symbols
    best, widest = None, 0.0
    for _ in range(_DIRECTIONS):
        direction = rng.standard_normal(left.shape[1])
        weights = triples.probs * (left @ direction)[middle]
        values, vectors = np.linalg.eig((left[first] * weights[:, None]).T @ right[last])
        if np.isrealobj(values):
            gap = np.diff(np.sort(values)).min(initial=np.inf) / np.linalg.norm(direction)
            if gap > widest:
                best, widest = vectors, gap
    if best is None:
        raise RankError("the eigenvalues of its moments are complex or coincide")
    return best
