"""Random numbers for compiled loops: a function of a key and a position, so that no result depends on who is first."""

from __future__ import annotations

import numpy as np

from probseq.ops.chain_shared import compiled

GOLDEN, FIRST, SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@compiled
def mix(x):  # type: ignore[no-untyped-def]
    """A bijection of 64 bits that leaves no pattern (the finalizer of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * FIRST
    x = (x ^ (x >> np.uint64(27))) * SECOND
    return x ^ (x >> np.uint64(31))


@compiled
def uniform(key, number):  # type: ignore[no-untyped-def]
    """Random number `number` of a key, in [0, 1)."""
    return np.float64(mix(key + np.uint64(number + 1) * GOLDEN) >> np.uint64(11)) * 2.0**-53


@compiled
def draw(p, rest):  # type: ignore[no-untyped-def]
    """The index in whose part of the sum of `p` the number `rest` falls: eight at a time, then one at a time."""
    size, k = len(p), 0
    while k + 8 < size:
        eight = (p[k] + p[k + 1] + p[k + 2] + p[k + 3]) + (p[k + 4] + p[k + 5] + p[k + 6] + p[k + 7])
        if rest < eight:
            break
        rest -= eight
        k += 8
    while k < size - 1 and not rest < p[k]:
        rest -= p[k]
        k += 1
    while k > 0 and p[k] == 0:  # rounding has led beyond the last possible one
        k -= 1
    return k
