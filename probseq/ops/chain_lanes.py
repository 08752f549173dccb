"""The recursion of `probseq.ops.chain` for many sequences side by side and few states, compiled for a CPU.

The innermost loops run over sequences (lanes), so that they fill vector registers whatever the number of states. Arrays
of (state, lane) are flat with a stride known to the compiler: it can then see that the four rows which a loop reads or
writes do not overlap. Loops run over whole registers: lanes beyond the sequences that are still running hold finite
numbers of no meaning, and their adjoints are 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from probseq.ops.chain_shared import CHUNK, compiled, flush, least, score

WIDTH = 64  # lanes, at most
_REGISTERS = 16  # lanes that a loop takes at once; it runs over a multiple of them


class _Space(NamedTuple):
    """Working space of one job; lanes are the last axis.

    Slot i of a span of steps holds the belief *before* its step i, 0 where no step precedes it, so that slots and
    pushes (the adjoint of the prediction) at the same place multiply to the pair counts.
    """

    slots: Any  # (K, (span + 1) * lanes), and a little more: rows must not share their places in the cache
    push: Any  # (K, CHUNK * lanes), and a little more
    inverse: Any  # (span, lanes), 1 / c_t
    belief: Any  # (K * WIDTH,), also the push of one step
    joint: Any  # (K * WIDTH,), also the emissions of one step
    later: Any  # (K * WIDTH,), the adjoint of the beliefs; 0 for a sequence that has ended
    total: Any  # (lanes,), c_t, also the weight that every state shares


@compiled
def lanes(chain, at, first, last, width, span, scores, backward, totals):  # type: ignore[no-untyped-def]
    """Sequences `first` to `last`, `width` (at most WIDTH) at a time; `at` is the transition matrix, transposed."""
    states, dtype = len(at), at.dtype
    full = (width + _REGISTERS - 1) // _REGISTERS * _REGISTERS
    space = _Space(
        np.empty((states, (span + 1) * full + 8), dtype),
        np.empty((states, CHUNK * full + 8), dtype),
        np.empty((span, full), dtype),
        np.zeros(states * WIDTH, dtype),
        np.zeros(states * WIDTH, dtype),
        np.zeros(states * WIDTH, dtype),
        np.zeros(full, dtype),
    )
    slots = space.slots
    for c0 in range(first, last, width):
        size, steps = min(width, last - c0), chain.n[c0]
        count = (steps + span - 1) // span
        borders = np.empty((count if backward else 1, states, full), dtype)
        slots[:, :full] = 0
        for s in range(count):
            if backward:
                borders[s] = slots[:, :full]
            _forward(chain, c0, size, s * span, min(s * span + span, steps), space, scores, True)
            if s < count - 1:
                slots[:, :full] = slots[:, span * full : (span + 1) * full]
        if not backward:
            continue
        space.later[:] = 0
        for s in range(count - 1, -1, -1):
            stop = min(s * span + span, steps)
            if s < count - 1:  # only the last span is still here
                slots[:, :full] = borders[s]
                _forward(chain, c0, size, s * span, stop, space, scores, False)
            _backward(chain, at, c0, size, s * span, stop, space, scores.ll, totals)


@compiled
def _forward(chain, c0, size, start, stop, space, scores, first_time):  # type: ignore[no-untyped-def]
    slots, inverse, belief, joint, x = space.slots, space.inverse, space.belief, space.joint, chain.x
    states = len(slots)
    floor, zero, one = least(belief.dtype), belief.dtype.type(0), belief.dtype.type(1)
    full, product, m = inverse.shape[1], np.ones(size), size
    for k in range(states):
        belief[k * WIDTH : k * WIDTH + full] = slots[k, :full]
    for t in range(start, stop):
        while chain.n[c0 + m - 1] <= t:
            m -= 1
        if t == 0:
            for k in range(states):
                for i in range(m):
                    joint[k * WIDTH + i] = chain.pi[min(c0 + i, len(chain.pi) - 1), k]
        else:
            _mix(chain.a[0], belief, full, joint)
        symbols = x[t, c0 : c0 + m]
        for i in range(len(symbols)):
            row = chain.b[symbols[i]]
            for k in range(len(row)):
                belief[k * WIDTH + i] = row[k]
        c, r = space.total, inverse[t - start]
        c[:] = 0
        for k in range(states):
            o, e = joint[k * WIDTH : k * WIDTH + full], belief[k * WIDTH : k * WIDTH + full]
            for i in range(len(o)):
                u = o[i] * e[i] if o[i] > floor else zero
                o[i] = u
                c[i] += u
        for i in range(len(r)):
            c[i] = c[i] if c[i] > floor else zero
            r[i] = one / c[i] if c[i] > floor else zero
        if first_time:
            tokens = scores.tokens[min(t, len(scores.tokens) - 1), c0 : c0 + m]
            score(c[:m], symbols, chain.shift, scores.ll[c0 : c0 + m], product, tokens)
            if t % 8 == 7 or t == stop - 1:
                flush(scores.ll[c0 : c0 + size], product)
        place = (t - start + 1) * full
        for k in range(states):
            o, v = joint[k * WIDTH : k * WIDTH + full], belief[k * WIDTH : k * WIDTH + full]
            slot = slots[k, place : place + full]
            for i in range(len(o)):
                u = o[i] * r[i]
                u = u if u > floor else zero
                v[i] = u
                slot[i] = u


@compiled
def _backward(chain, at, c0, size, start, stop, space, ll, totals):  # type: ignore[no-untyped-def]
    slots, push, down, emission, later = space.slots, space.push, space.belief, space.joint, space.later
    states = len(slots)
    full, zero, m = space.inverse.shape[1], down.dtype.type(0), 1
    for t in range(stop - 1, start - 1, -1):
        while m < size and chain.n[c0 + m] > t:
            m += 1
        symbols, r, h = chain.x[t, c0 : c0 + m], space.inverse[t - start], space.total
        weight = chain.g[min(t, len(chain.g) - 1)]
        for i in range(len(symbols)):
            row = chain.b[symbols[i]]
            for k in range(len(row)):
                emission[k * WIDTH + i] = row[k]
        h[:] = 0
        for i in range(len(symbols)):
            h[i] = weight[c0 + i] if ll[c0 + i] > -np.inf else zero
        slot, place = (t - start + 1) * full, (t - start) % CHUNK * full
        for k in range(states):
            o, v = later[k * WIDTH : k * WIDTH + full], slots[k, slot : slot + full]
            for i in range(len(o)):
                h[i] -= o[i] * v[i]
        for k in range(states):
            o, v = later[k * WIDTH : k * WIDTH + full], slots[k, slot : slot + full]
            e, d = emission[k * WIDTH : k * WIDTH + full], down[k * WIDTH : k * WIDTH + full]
            p = push[k, place : place + full]
            for i in range(len(o)):
                adjoint = o[i] + h[i] if v[i] > 0 else zero
                u = adjoint * e[i] * r[i]
                e[i] = adjoint * v[i]
                d[i] = u
                p[i] = u
        for i in range(len(symbols)):
            row = totals.log_b[symbols[i]]
            for k in range(len(row)):
                row[k] += emission[k * WIDTH + i]
        if t == 0:
            for i in range(m):
                for k in range(states):
                    totals.pi[min(c0 + i, len(totals.pi) - 1), k] += down[k * WIDTH + i]
        else:
            _mix(at, down, full, later)
        if (t - start) % CHUNK == 0:
            _pairs(slots, (t - start) * full, push, min(CHUNK, stop - t) * full, totals.a[0])


@compiled
def _mix(a, v, m, out):  # type: ignore[no-untyped-def]
    """``out[k, i] = sum_j a[j, k] v[j, i]`` for i < m, four by four: what is read once is used four times."""
    states, w2, w3 = len(a), 2 * WIDTH, 3 * WIDTH
    even = states - states % 4
    out[:] = 0
    for j in range(0, even, 4):
        x = v[j * WIDTH : j * WIDTH + 4 * WIDTH]
        for k in range(0, even, 4):
            a0, a1, a2, a3 = a[j, k], a[j + 1, k], a[j + 2, k], a[j + 3, k]
            b0, b1, b2, b3 = a[j, k + 1], a[j + 1, k + 1], a[j + 2, k + 1], a[j + 3, k + 1]
            c0, c1, c2, c3 = a[j, k + 2], a[j + 1, k + 2], a[j + 2, k + 2], a[j + 3, k + 2]
            d0, d1, d2, d3 = a[j, k + 3], a[j + 1, k + 3], a[j + 2, k + 3], a[j + 3, k + 3]
            o = out[k * WIDTH : k * WIDTH + 4 * WIDTH]
            for i in range(m):
                x0, x1, x2, x3 = x[i], x[i + WIDTH], x[i + w2], x[i + w3]
                o[i] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                o[i + WIDTH] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                o[i + w2] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                o[i + w3] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
        for k in range(even, states):
            a0, a1, a2, a3 = a[j, k], a[j + 1, k], a[j + 2, k], a[j + 3, k]
            o = out[k * WIDTH : k * WIDTH + WIDTH]
            for i in range(m):
                o[i] += a0 * x[i] + a1 * x[i + WIDTH] + a2 * x[i + w2] + a3 * x[i + w3]
    for j in range(even, states):
        x = v[j * WIDTH : j * WIDTH + m]
        for k in range(states):
            a0, o = a[j, k], out[k * WIDTH : k * WIDTH + m]
            for i in range(len(o)):
                o[i] += a0 * x[i]


@compiled
def _pairs(before, start, push, size, out):  # type: ignore[no-untyped-def]
    """``out[j, k] += sum_i before[j, start + i] push[k, i]`` for i < size, four rows by two."""
    states, stop, j = len(out), start + size, 0
    while j + 4 <= states:
        b0, b1 = before[j, start:stop], before[j + 1, start:stop]
        b2, b3 = before[j + 2, start:stop], before[j + 3, start:stop]
        for k in range(0, states, 2):
            k1 = min(k + 1, states - 1)
            p0, p1 = push[k, :size], push[k1, :size]
            r0 = r1 = r2 = r3 = s0 = s1 = s2 = s3 = out.dtype.type(0)
            for i in range(len(p0)):
                x, y = p0[i], p1[i]
                r0 += b0[i] * x
                r1 += b1[i] * x
                r2 += b2[i] * x
                r3 += b3[i] * x
                s0 += b0[i] * y
                s1 += b1[i] * y
                s2 += b2[i] * y
                s3 += b3[i] * y
            out[j, k] += r0
            out[j + 1, k] += r1
            out[j + 2, k] += r2
            out[j + 3, k] += r3
            if k1 > k:
                out[j, k1] += s0
                out[j + 1, k1] += s1
                out[j + 2, k1] += s2
                out[j + 3, k1] += s3
        j += 4
    while j < states:
        b0 = before[j, start:stop]
        for k in range(states):
            p0, r0 = push[k, :size], out.dtype.type(0)
            for i in range(len(p0)):
                r0 += b0[i] * p0[i]
            out[j, k] += r0
        j += 1


@compiled
def transpose(index, order, x):  # type: ignore[no-untyped-def]
    """``x[t, i] = index[order[i], t]``, in tiles that stay in the cache."""
    for i0 in range(0, len(order), 16):
        for t0 in range(0, len(x), 16):
            for i in range(i0, min(i0 + 16, len(order))):
                row = order[i]
                for t in range(t0, min(t0 + 16, len(x))):
                    x[t, i] = index[row, t]
