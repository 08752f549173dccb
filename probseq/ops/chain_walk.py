"""The recursion of `probseq.ops.chain` for one sequence at a time, compiled for a CPU.

For few or long sequences, and for chains with a transition matrix of their own at each step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from probseq.ops.chain_shared import CHUNK, compiled, least

_FEW = 8  # below this many states, plain loops beat loops over rows


class _Space(NamedTuple):
    """Working space of one job; see `chain_lanes`."""

    slots: Any  # (span + 1, K)
    push: Any  # (CHUNK, K)
    inverse: Any  # (span,)
    later: Any  # (K,)


@compiled
def walk(chain, first, last, span, scores, backward, totals):  # type: ignore[no-untyped-def]
    """Sequences `first` to `last`, one after the other."""
    states, dtype = chain.b.shape[1], chain.b.dtype
    space = _Space(
        np.empty((span + 1, states), dtype), np.empty((CHUNK, states), dtype), np.empty(span, dtype),
        np.empty(states, dtype),
    )  # fmt: skip
    slots = space.slots
    for i in range(first, last):
        steps = chain.n[i]
        count = (steps + span - 1) // span
        borders = np.empty((count if backward else 1, states), dtype)
        slots[0] = 0
        for s in range(count):
            if backward:
                borders[s] = slots[0]
            scores.ll[i] += _forward(chain, i, s * span, min(s * span + span, steps), space, scores.tokens)
            if s < count - 1:
                slots[0] = slots[span]
        if not backward or scores.ll[i] == -np.inf:
            continue
        space.later[:] = 0
        for s in range(count - 1, -1, -1):
            stop = min(s * span + span, steps)
            if s < count - 1:  # only the last span is still here
                slots[0] = borders[s]
                _forward(chain, i, s * span, stop, space, scores.tokens)
            _backward(chain, i, s * span, stop, space, totals)


@compiled
def _forward(chain, i, start, stop, space, tokens):  # type: ignore[no-untyped-def]
    """Fill the slots of a span; returns its part of the log-likelihood."""
    a, b, slots, step = chain.a, chain.b, space.slots, chain.step
    states, dtype = b.shape[1], b.dtype
    floor, zero, one, prior = least(dtype), dtype.type(0), dtype.type(1), np.empty(states, dtype)
    total, product = 0.0, 1.0
    for t in range(start, stop):
        symbol, slot = chain.x[i, t], t - start
        matrix = step[i, t] if len(step) else 0
        if t == 0:
            for k in range(states):
                prior[k] = chain.pi[min(i, len(chain.pi) - 1), k]
        elif states < _FEW:
            for k in range(states):
                sum_ = zero
                for j in range(states):
                    sum_ += slots[slot, j] * a[matrix, j, k]
                prior[k] = sum_
        else:
            _predict(slots[slot], a[matrix], prior)
        c = zero
        for k in range(states):
            prior[k] = prior[k] * b[symbol, k] if prior[k] > floor else zero
            c += prior[k]
        c = c if c > floor else zero
        r = one / c if c > floor else zero
        for k in range(states):
            u = prior[k] * r
            slots[slot + 1, k] = u if u > floor else zero
        space.inverse[slot] = r
        if tokens.size:
            tokens[i, t] = np.log(np.float64(c)) + chain.shift[symbol]
        if 1e-30 < c < 1e30:  # a product of eight of them stays in the range of a float
            product *= c
        else:
            total += np.log(np.float64(c))
        total += chain.shift[symbol]
        if t % 8 == 7:
            total += np.log(product)
            product = 1.0
    return total + np.log(product)


@compiled
def _backward(chain, i, start, stop, space, totals):  # type: ignore[no-untyped-def]
    a, b, slots, push, later, step = chain.a, chain.b, space.slots, space.push, space.later, chain.step
    states, zero = b.shape[1], b.dtype.type(0)
    for t in range(stop - 1, start - 1, -1):
        symbol, slot, r = chain.x[i, t], t - start, space.inverse[t - start]
        place, matrix = slot % CHUNK, step[i, t] if len(step) else 0
        h = chain.g[i, min(t, chain.g.shape[1] - 1)]
        for k in range(states):
            h -= later[k] * slots[slot + 1, k]
        for k in range(states):
            adjoint = later[k] + h if slots[slot + 1, k] > 0 else zero
            totals.log_b[symbol, k] += adjoint * slots[slot + 1, k]
            push[place, k] = adjoint * b[symbol, k] * r
        if t == 0:
            for k in range(states):
                totals.pi[min(i, len(totals.pi) - 1), k] += push[place, k]
        elif states < _FEW:
            for j in range(states):
                sum_, before = zero, slots[slot, j]
                for k in range(states):
                    sum_ += a[matrix, j, k] * push[place, k]
                    totals.a[matrix, j, k] += before * push[place, k]
                later[j] = sum_
        else:
            _return(a[matrix], push[place], later)
            if len(step):
                _add_pairs(slots, slot, push, place, 1, totals.a[matrix])
        if states >= _FEW and not len(step) and place == 0:
            _add_pairs(slots, slot, push, 0, min(CHUNK, stop - t), totals.a[0])


@compiled
def _predict(belief, a, prior):  # type: ignore[no-untyped-def]
    """``prior[k] = sum_j belief[j] a[j, k]``, four terms at a time."""
    prior[:] = 0
    j = 0
    while j + 4 <= len(a):
        v0, v1, v2, v3 = belief[j], belief[j + 1], belief[j + 2], belief[j + 3]
        a0, a1, a2, a3 = a[j], a[j + 1], a[j + 2], a[j + 3]
        for k in range(len(prior)):
            prior[k] += v0 * a0[k] + v1 * a1[k] + v2 * a2[k] + v3 * a3[k]
        j += 4
    while j < len(a):
        v0, a0 = belief[j], a[j]
        for k in range(len(prior)):
            prior[k] += v0 * a0[k]
        j += 1


@compiled
def _return(a, push, later):  # type: ignore[no-untyped-def]
    """``later[j] = sum_k a[j, k] push[k]``, four sums at a time."""
    j = 0
    while j + 4 <= len(a):
        a0, a1, a2, a3 = a[j], a[j + 1], a[j + 2], a[j + 3]
        s0 = s1 = s2 = s3 = a.dtype.type(0)
        for k in range(len(push)):
            s0 += a0[k] * push[k]
            s1 += a1[k] * push[k]
            s2 += a2[k] * push[k]
            s3 += a3[k] * push[k]
        later[j], later[j + 1], later[j + 2], later[j + 3] = s0, s1, s2, s3
        j += 4
    while j < len(a):
        a0, s0 = a[j], a.dtype.type(0)
        for k in range(len(push)):
            s0 += a0[k] * push[k]
        later[j] = s0
        j += 1


@compiled
def _add_pairs(slots, slot, push, place, count, d_a):  # type: ignore[no-untyped-def]
    """``d_a[j, k] += sum_q slots[slot + q, j] push[place + q, k]`` for q < count, four terms at a time."""
    q = 0
    while q + 4 <= count:
        b0, b1, b2, b3 = slots[slot + q], slots[slot + q + 1], slots[slot + q + 2], slots[slot + q + 3]
        p0, p1, p2, p3 = push[place + q], push[place + q + 1], push[place + q + 2], push[place + q + 3]
        for j in range(len(d_a)):
            row, v0, v1, v2, v3 = d_a[j], b0[j], b1[j], b2[j], b3[j]
            for k in range(len(row)):
                row[k] += v0 * p0[k] + v1 * p1[k] + v2 * p2[k] + v3 * p3[k]
        q += 4
    while q < count:
        b0, p0 = slots[slot + q], push[place + q]
        for j in range(len(d_a)):
            row, v0 = d_a[j], b0[j]
            for k in range(len(row)):
                row[k] += v0 * p0[k]
        q += 1


@compiled
def beliefs(chain, first, last, before, after):  # type: ignore[no-untyped-def]
    """Fill ``p(s_t | x_<t)`` and ``p(s_t | x_<=t)`` for sequences `first` to `last`.

    Both are (N, T, K), or (N, 1, K) where only the last one is wanted.
    """
    pi, b = chain.pi, chain.b
    floor, zero, one = least(b.dtype), b.dtype.type(0), b.dtype.type(1)
    for i in range(first, last):
        belief = after[i, 0]
        for t in range(chain.n[i]):
            prior, row = before[i, min(t, before.shape[1] - 1)], b[chain.x[i, t]]
            if t == 0:
                prior[:] = pi[min(i, len(pi) - 1)]
            else:
                _predict(belief, chain.a[chain.step[i, t] if len(chain.step) else 0], prior)
            belief = after[i, min(t, after.shape[1] - 1)]
            c = zero
            for k in range(len(row)):
                belief[k] = prior[k] * row[k] if prior[k] > floor else zero
                c += belief[k]
            r = one / c if c > floor else zero
            for k in range(len(row)):
                belief[k] *= r
