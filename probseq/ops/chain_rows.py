"""The recursion of `probseq.ops.chain` for many sequences and many states: a step is a matrix product (BLAS).

As `probseq.ops.chain_lanes`, with sequences as rows: the innermost loops run over states.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from probseq.ops.chain_shared import CHUNK, compiled, flush, least, score


class _Space(NamedTuple):
    """Working space of one job; see `chain_lanes`."""

    slots: Any  # ((span + 1) * width, K)
    push: Any  # (CHUNK * width, K)
    inverse: Any  # (span, width)
    prior: Any  # (width, K)
    later: Any  # (width, K)
    total: Any  # (width,)
    pairs: Any  # (K, K)


@compiled
def rows(chain, at, first, last, width, span, scores, backward, totals):  # type: ignore[no-untyped-def]
    """Sequences `first` to `last`, `width` at a time; `at` is the transition matrix, transposed."""
    states, dtype = len(at), at.dtype
    space = _Space(
        np.empty(((span + 1) * width, states), dtype),
        np.empty((CHUNK * width, states), dtype),
        np.empty((span, width), dtype),
        np.empty((width, states), dtype),
        np.empty((width, states), dtype),
        np.empty(width, dtype),
        np.empty((states, states), dtype),
    )
    for c0 in range(first, last, width):
        size, steps = min(width, last - c0), chain.n[c0]
        count = (steps + span - 1) // span
        borders = np.empty((count if backward else 1, width, states), dtype)
        space.slots[:width] = 0
        for s in range(count):
            if backward:
                borders[s] = space.slots[:width]
            _forward(chain, c0, size, s * span, min(s * span + span, steps), space, scores, True)
            if s < count - 1:
                space.slots[:width] = space.slots[span * width :]
        if not backward:
            continue
        space.later[:] = 0
        for s in range(count - 1, -1, -1):
            stop = min(s * span + span, steps)
            if s < count - 1:  # only the last span is still here
                space.slots[:width] = borders[s]
                _forward(chain, c0, size, s * span, stop, space, scores, False)
            _backward(chain, at, c0, size, s * span, stop, space, scores.ll, totals)


@compiled
def _forward(chain, c0, size, start, stop, space, scores, first_time):  # type: ignore[no-untyped-def]
    slots, prior, a = space.slots, space.prior, chain.a[0]
    width, dtype = len(prior), prior.dtype
    floor, zero, one = least(dtype), dtype.type(0), dtype.type(1)
    product, m = np.ones(width), size
    for t in range(start, stop):
        while chain.n[c0 + m - 1] <= t:
            m -= 1
        place, symbols = (t - start) * width, chain.x[t, c0 : c0 + m]
        if t == 0:
            for i in range(m):
                prior[i] = chain.pi[min(c0 + i, len(chain.pi) - 1)]
        else:
            np.dot(slots[place : place + m], a, out=prior[:m])
        for i in range(m):
            joint, row, belief = prior[i], chain.b[symbols[i]], slots[place + width + i]
            c = zero
            for k in range(len(joint)):
                u = joint[k] * row[k] if joint[k] > floor else zero
                joint[k] = u
                c += u
            c = c if c > floor else zero
            r = one / c if c > floor else zero
            for k in range(len(joint)):
                u = joint[k] * r
                belief[k] = u if u > floor else zero
            space.total[i], space.inverse[t - start, i] = c, r
        slots[place + width + m : place + 2 * width] = 0
        if first_time:
            tokens = scores.tokens[min(t, len(scores.tokens) - 1), c0 : c0 + m]
            score(space.total[:m], symbols, chain.shift, scores.ll[c0 : c0 + m], product, tokens)
            if t % 8 == 7 or t == stop - 1:
                flush(scores.ll[c0 : c0 + size], product[:size])


@compiled
def _backward(chain, at, c0, size, start, stop, space, ll, totals):  # type: ignore[no-untyped-def]
    slots, push, later = space.slots, space.push, space.later
    width, zero, m = len(later), later.dtype.type(0), 1
    for t in range(stop - 1, start - 1, -1):
        while m < size and chain.n[c0 + m] > t:
            m += 1
        weight = chain.g[min(t, len(chain.g) - 1)]
        slot, place = (t - start + 1) * width, (t - start) % CHUNK * width
        for i in range(m):
            symbol, r = chain.x[t, c0 + i], space.inverse[t - start, i]
            o, v, e, p = later[i], slots[slot + i], chain.b[symbol], push[place + i]
            count = totals.log_b[symbol]
            h = weight[c0 + i] if ll[c0 + i] > -np.inf else zero
            for k in range(len(o)):
                h -= o[k] * v[k]
            for k in range(len(o)):
                adjoint = o[k] + h if v[k] > 0 else zero
                count[k] += adjoint * v[k]
                p[k] = adjoint * e[k] * r
        push[place + m : place + width] = 0
        if t == 0:
            for i in range(m):
                totals.pi[min(c0 + i, len(totals.pi) - 1)] += push[place + i]
        else:
            np.dot(push[place : place + m], at, out=later[:m])
        if (t - start) % CHUNK == 0:
            begin, rows_ = (t - start) * width, min(CHUNK, stop - t) * width
            np.dot(slots[begin : begin + rows_].T, push[:rows_], out=space.pairs)
            totals.a[0] += space.pairs
