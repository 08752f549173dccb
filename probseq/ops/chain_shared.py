"""What the compiled loops `chain_lanes`, `chain_rows` and `chain_walk` share: their arguments, and how terms add up."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

CHUNK = 16  # steps whose pair counts are added together
compiled = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}
)  # no flag that assumes finite numbers: 0 and -inf are ordinary here


class Chain(NamedTuple):
    """One restart and the sequences, as arrays.

    In `chain_walk` the arrays with an axis for steps are sequence-major; else they are time-major, and sequences are
    sorted by falling length, so that those still running at a step are the first ``m``.
    """

    pi: Any  # (1, K) or (N, K)
    a: Any  # (L, K, K)
    b: Any  # (M, K), the emission table, each row lowered by its shift
    shift: Any  # (M,), float64
    x: Any  # (N, T), rows of b
    n: Any  # (N,), lengths
    g: Any  # (N, T) or (N, 1), weights on log c_t
    step: Any  # (N, T), rows of a, or (0, 0); for `chain_walk` only


class Scores(NamedTuple):
    """What every pass fills."""

    ll: Any  # (N,), log p(x), float64, 0 before
    tokens: Any  # (N, T), log p(x_t | x_<t), or (1, 0) if they are not wanted


class Totals(NamedTuple):
    """What a pass that comes back adds to: gradients with respect to pi, a, and the logarithm of b."""

    pi: Any
    a: Any
    log_b: Any


@compiled
def least(dtype):  # type: ignore[no-untyped-def]
    """The smallest number whose sums have all their digits; what is below counts as 0."""
    return dtype.type(np.finfo(dtype).tiny / np.finfo(dtype).eps)


@compiled
def score(c, symbols, shift, ll, product, tokens):  # type: ignore[no-untyped-def]
    """Add ``log c`` and the shifts to `ll`, by way of products where these cannot leave the range of a float."""
    if len(tokens):
        for i in range(len(c)):
            tokens[i] = np.log(np.float64(c[i])) + shift[symbols[i]]
            ll[i] += tokens[i]
        return
    extreme = 0
    for i in range(len(c)):
        extreme += (c[i] < 1e-30) | (c[i] > 1e30)
    for i in range(len(c)):
        ll[i] += shift[symbols[i]]
    if extreme:
        for i in range(len(c)):
            ll[i] += np.log(np.float64(c[i]))
    else:
        for i in range(len(c)):
            product[i] *= c[i]


@compiled
def flush(ll, product):  # type: ignore[no-untyped-def]
    """Add the logarithms of the products to `ll`; due after eight steps."""
    for i in range(len(product)):
        ll[i] += np.log(product[i])
        product[i] = 1
