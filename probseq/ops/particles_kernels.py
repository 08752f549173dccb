"""The particle filter of `probseq.ops.particles` as a compiled loop over one document.

The inner loops run over labels, whose numbers lie side by side: the table of emissions is (words, labels).
"""

from __future__ import annotations

import math

import numpy as np

from probseq.ops.chain_shared import compiled
from probseq.ops.draw_kernels import GOLDEN, draw, mix, uniform


@compiled
def follow(x, emission, alpha, steps, num, key, most, out):  # type: ignore[no-untyped-def]
    """One particle filter over one document. Fills `out` with the terms of log p(x).

    Row c of `steps` has the probabilities of the next class after class c; its last row is for the first word.
    """
    size, labels, length = len(alpha), emission.shape[1], len(x)
    counts, other_counts = np.zeros((num, size)), np.empty((num, size))  # without alpha: it may be too small to add
    chosen, other_chosen = np.zeros((num, length), np.int32), np.zeros((num, length), np.int32)
    mass, other_mass, prior = np.zeros(num), np.empty(num), alpha.sum()
    joint, topical, other, scale = np.empty((num, labels)), np.empty(num), np.empty(num), np.empty(num)
    weight, parent, now = np.full(num, 1.0 / num), np.empty(num, np.int64), np.full(num, len(steps) - 1)
    where, seen = np.empty(length, np.int64), 0
    for t in range(length):
        if x[t] < 0:
            out[t] = 0
            continue
        key = mix(key ^ (np.uint64(x[t] + 1) * GOLDEN))
        total = 0.0
        for i in range(num):
            step = steps[now[i]]
            scale[i] = step[0] / (mass[i] + prior)
            topical[i], other[i] = _join(counts[i], alpha, emission[x[t]], step, joint[i])
            weight[i] *= topical[i] * scale[i] + other[i]
            total += weight[i]
        if not total > 0:
            out[t:] = -np.inf
            return
        out[t] = math.log(total)
        concentration = 0.0
        for i in range(num):
            weight[i] /= total
            concentration += weight[i] * weight[i]
        where[seen] = t
        seen += 1
        poor = concentration * num > 2.0
        if poor:
            _resample(weight, uniform(key, 0), parent)
            for i in range(num):
                other_counts[i], other_mass[i] = counts[parent[i]], mass[parent[i]]
                other_chosen[i, :t] = chosen[parent[i], :t]
                weight[i] = 1.0 / num
            counts, other_counts = other_counts, counts
            chosen, other_chosen = other_chosen, chosen
            mass, other_mass = other_mass, mass
        for i in range(num):
            j = parent[i] if poor else i
            k = _choose(joint[j], size, topical[j], scale[j], other[j], uniform(key, 1 + i))
            chosen[i, t] = k
            if k < size:
                counts[i, k] += 1
                mass[i] += 1
        gap = 4
        while gap * 64 < seen:
            gap *= 2
        if seen % gap == 0:  # never by the weights: see `probseq.ops.particles`
            stride = (seen + most - 1) // most
            start = int(uniform(key, num + 1) * stride)
            past = where[:seen]
            for i in range(num):
                n, z, q = counts[i], chosen[i], joint[i]
                mass[i] = _sweep(x, past, start, stride, emission, alpha, prior, steps, n, mass[i], z, q, key, num, i)
        for i in range(num):
            now[i] = max(0, chosen[i, t] - size + 1)


@compiled
def _join(n, alpha, row, step, joint):  # type: ignore[no-untyped-def]
    """Fill `joint`, the weight of every label: topics up to a common factor, then the other classes; both sums."""
    topical, other, size = 0.0, 0.0, len(n)
    for k in range(size):
        u = (n[k] + alpha[k]) * row[k]
        joint[k] = u
        topical += u
    for c in range(1, len(step)):
        u = step[c] * row[size + c - 1]
        joint[size + c - 1] = u
        other += u
    return topical, other


@compiled
def _choose(joint, size, topical, scale, other, u):  # type: ignore[no-untyped-def]
    rest = u * (topical * scale + other)
    if rest < topical * scale or not other > 0:
        return draw(joint[:size], u * topical if not other > 0 else rest / scale)
    return size + draw(joint[size:], rest - topical * scale)


@compiled
def _sweep(x, where, start, stride, emission, alpha, prior, steps, n, mass, z, joint, key, num, i):  # type: ignore[no-untyped-def]
    """Gibbs sampling of every label of particle `i` given the others; how much its counts amount to after it."""
    size, step = len(n), np.empty(steps.shape[1])
    for j in range(start, len(where), stride):
        s = where[j]
        if z[s] < size:
            n[z[s]] -= 1
            mass -= 1
        before = max(0, z[where[j - 1]] - size + 1) if j > 0 else len(steps) - 1
        step[:] = steps[before]
        if j + 1 < len(where):
            after = max(0, z[where[j + 1]] - size + 1)
            for c in range(len(step)):
                step[c] *= steps[c, after]
        topical, other = _join(n, alpha, emission[x[s]], step, joint)
        scale = step[0] / (mass + prior)
        z[s] = _choose(joint, size, topical, scale, other, uniform(key, num + 2 + j * num + i))
        if z[s] < size:
            n[z[s]] += 1
            mass += 1
    return mass


@compiled
def _resample(weight, u, parent):  # type: ignore[no-untyped-def]
    """Systematic resampling: particle j is a parent about ``num * weight[j]`` times."""
    num, j, below = len(weight), 0, weight[0]
    for i in range(num):
        place = (i + u) / num
        while below <= place and j < num - 1:
            j += 1
            below += weight[j]
        parent[i] = j
