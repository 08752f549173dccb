"""The recursion of `probseq.ops.chain` for many sequences side by side and few states, compiled for a CPU.

The innermost loops run over sequences (lanes), so that they fill vector registers whatever the number of states. They
run over rows taken out as arrays of their own: the compiler can then see that nothing overlaps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from probseq.ops.chain_shared import CHUNK, compiled, flush, least, score


class _Space(NamedTuple):
    """Working space of one job; lanes are the last axis.

    Slot i of a span of steps holds the belief *before* its step i, 0 where no step precedes it, so that slots and
    pushes (the adjoint of the prediction) at the same place multiply to the pair counts.
    """

    slots: Any  # (K, (span + 1) * width), and a little more: rows must not share their places in the cache
    push: Any  # (K, CHUNK * width)
    inverse: Any  # (span, width), 1 / c_t
    belief: Any  # (K, width), also the push of one step
    joint: Any  # (K, width), also the emissions of one step
    later: Any  # (K, width), the adjoint of the beliefs; 0 for a sequence that has ended
    total: Any  # (width,), c_t, also the weight that every state shares


@compiled
def lanes(chain, at, first, last, width, span, scores, backward, totals):  # type: ignore[no-untyped-def]
    """Sequences `first` to `last`, `width` at a time; `at` is the transition matrix, transposed."""
    states, dtype = len(at), at.dtype
    space = _Space(
        np.empty((states, (span + 1) * width + 8), dtype),
        np.empty((states, CHUNK * width + 8), dtype),
        np.empty((span, width), dtype),
        np.empty((states, width), dtype),
        np.empty((states, width), dtype),
        np.empty((states, width), dtype),
        np.empty(width, dtype),
    )
    for c0 in range(first, last, width):
        size, steps = min(width, last - c0), chain.n[c0]
        count = (steps + span - 1) // span
        borders = np.empty((count if backward else 1, states, width), dtype)
        space.slots[:, :width] = 0
        for s in range(count):
            if backward:
                borders[s] = space.slots[:, :width]
            _forward(chain, c0, size, s * span, min(s * span + span, steps), space, scores, True)
            if s < count - 1:
                space.slots[:, :width] = space.slots[:, span * width : (span + 1) * width]
        if not backward:
            continue
        space.later[:] = 0
        for s in range(count - 1, -1, -1):
            stop = min(s * span + span, steps)
            if s < count - 1:  # only the last span is still here
                space.slots[:, :width] = borders[s]
                _forward(chain, c0, size, s * span, stop, space, scores, False)
            _backward(chain, at, c0, size, s * span, stop, space, scores.ll, totals)


@compiled
def _forward(chain, c0, size, start, stop, space, scores, first_time):  # type: ignore[no-untyped-def]
    slots, inverse, belief, joint, x = space.slots, space.inverse, space.belief, space.joint, chain.x
    states, width = belief.shape
    floor, zero, one = least(belief.dtype), belief.dtype.type(0), belief.dtype.type(1)
    product, m = np.ones(width), size
    belief[:] = slots[:, :width]
    for t in range(start, stop):
        while chain.n[c0 + m - 1] <= t:
            m -= 1
        if t == 0:
            for k in range(states):
                for i in range(m):
                    joint[k, i] = chain.pi[min(c0 + i, len(chain.pi) - 1), k]
        else:
            _mix(chain.a[0], belief, m, joint)
        symbols = x[t, c0 : c0 + m]
        for i in range(len(symbols)):
            row = chain.b[symbols[i]]
            for k in range(len(row)):
                belief[k, i] = row[k]
        c, r = space.total[:m], inverse[t - start, :m]
        c[:] = 0
        for k in range(states):
            o, e = joint[k, :m], belief[k, :m]
            for i in range(len(o)):
                u = o[i] * e[i] if o[i] > floor else zero
                o[i] = u
                c[i] += u
        for i in range(len(r)):
            c[i] = c[i] if c[i] > floor else zero
            r[i] = one / c[i] if c[i] > floor else zero
        if first_time:
            tokens = scores.tokens[min(t, len(scores.tokens) - 1), c0 : c0 + m]
            score(c, symbols, chain.shift, scores.ll[c0 : c0 + m], product, tokens)
            if t % 8 == 7 or t == stop - 1:
                flush(scores.ll[c0 : c0 + size], product[:size])
        place = (t - start + 1) * width
        for k in range(states):
            o, v, slot = joint[k, :m], belief[k, :m], slots[k, place : place + m]
            for i in range(len(o)):
                u = o[i] * r[i]
                u = u if u > floor else zero
                v[i] = u
                slot[i] = u
            slots[k, place + m : place + width] = 0


@compiled
def _backward(chain, at, c0, size, start, stop, space, ll, totals):  # type: ignore[no-untyped-def]
    slots, push, down, emission, later = space.slots, space.push, space.belief, space.joint, space.later
    states, width = down.shape
    zero, m = down.dtype.type(0), 1
    for t in range(stop - 1, start - 1, -1):
        while m < size and chain.n[c0 + m] > t:
            m += 1
        symbols, r, h = chain.x[t, c0 : c0 + m], space.inverse[t - start, :m], space.total[:m]
        weight = chain.g[min(t, len(chain.g) - 1)]
        for i in range(len(symbols)):
            row = chain.b[symbols[i]]
            for k in range(len(row)):
                emission[k, i] = row[k]
        for i in range(len(h)):
            h[i] = weight[c0 + i] if ll[c0 + i] > -np.inf else zero
        slot, place = (t - start + 1) * width, (t - start) % CHUNK * width
        for k in range(states):
            o, v = later[k, :m], slots[k, slot : slot + m]
            for i in range(len(o)):
                h[i] -= o[i] * v[i]
        for k in range(states):
            o, v, e = later[k, :m], slots[k, slot : slot + m], emission[k, :m]
            d, p = down[k, :m], push[k, place : place + m]
            for i in range(len(o)):
                adjoint = o[i] + h[i] if v[i] > 0 else zero
                u = adjoint * e[i] * r[i]
                e[i] = adjoint * v[i]
                d[i] = u
                p[i] = u
            push[k, place + m : place + width] = 0
        for i in range(len(symbols)):
            row = totals.log_b[symbols[i]]
            for k in range(len(row)):
                row[k] += emission[k, i]
        if t == 0:
            for i in range(m):
                for k in range(states):
                    totals.pi[min(c0 + i, len(totals.pi) - 1), k] += down[k, i]
        else:
            _mix(at, down, m, later)
        if (t - start) % CHUNK == 0:
            _pairs(slots, (t - start) * width, push, min(CHUNK, stop - t) * width, totals.a[0])


@compiled
def _mix(a, v, m, out):  # type: ignore[no-untyped-def]
    """``out[k, i] = sum_j a[j, k] v[j, i]`` for i < m; four terms at a time, so that sums are written less often."""
    states = len(a)
    out[:, :m] = 0
    j = 0
    while j + 4 <= states:
        v0, v1, v2, v3 = v[j, :m], v[j + 1, :m], v[j + 2, :m], v[j + 3, :m]
        for k in range(states):
            a0, a1, a2, a3, o = a[j, k], a[j + 1, k], a[j + 2, k], a[j + 3, k], out[k, :m]
            for i in range(len(o)):
                o[i] += a0 * v0[i] + a1 * v1[i] + a2 * v2[i] + a3 * v3[i]
        j += 4
    while j < states:
        v0 = v[j, :m]
        for k in range(states):
            a0, o = a[j, k], out[k, :m]
            for i in range(len(o)):
                o[i] += a0 * v0[i]
        j += 1


@compiled
def _pairs(before, start, push, size, out):  # type: ignore[no-untyped-def]
    """``out[j, k] += sum_i before[j, start + i] push[k, i]`` for i < size, two rows by two."""
    states = len(out)
    for j in range(0, states, 2):
        j1 = min(j + 1, states - 1)
        b0, b1 = before[j, start : start + size], before[j1, start : start + size]
        for k in range(0, states, 2):
            k1 = min(k + 1, states - 1)
            p0, p1 = push[k, :size], push[k1, :size]
            s00 = s01 = s10 = s11 = out.dtype.type(0)
            for i in range(len(p0)):
                s00 += b0[i] * p0[i]
                s01 += b0[i] * p1[i]
                s10 += b1[i] * p0[i]
                s11 += b1[i] * p1[i]
            out[j, k] += s00
            if k1 > k:
                out[j, k1] += s01
            if j1 > j:
                out[j1, k] += s10
            if j1 > j and k1 > k:
                out[j1, k1] += s11


@compiled
def transpose(index, order, first, last, x):  # type: ignore[no-untyped-def]
    """``x[t, i] = index[order[i], t]`` for columns `first` to `last`, in tiles that stay in the cache."""
    for i0 in range(first, last, 16):
        for t0 in range(0, len(x), 16):
            for i in range(i0, min(i0 + 16, last)):
                row = order[i]
                for t in range(t0, min(t0 + 16, len(x))):
                    x[t, i] = index[row, t]
