"""Compiled loops over documents: variational inference and Gibbs sampling.

The inner loops run over topics, whose numbers lie side by side: tables are (words, topics) and (documents, topics).
Random numbers are a function of a key and a position, so that no result depends on the order in which jobs are done.
"""

from __future__ import annotations

import math

import numpy as np

from probseq.ops.chain_shared import compiled
from probseq.ops.draw_kernels import draw, uniform


@compiled
def digamma(x):  # type: ignore[no-untyped-def]
    """By recurrence to 8 and above, and the asymptotic series there."""
    below = 0.0
    while x < 8.0:
        below += 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    series = r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r * (1 / 132 - r * (691 / 32760))))))
    return math.log(x) - 0.5 / x - series - below


@compiled
def _log_gamma(x):  # type: ignore[no-untyped-def]
    """By recurrence to 8 and above, and Stirling's series there."""
    product = 1.0
    while x < 8.0:
        product *= x
        x += 1.0
    r = 1.0 / (x * x)
    series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r * (1 / 1188 - r * (691 / 360360)))))) / x
    return (x - 0.5) * math.log(x) - x + 0.9189385332046727 + series - math.log(product)


@compiled
def log_dirichlet(alpha, expected):  # type: ignore[no-untyped-def]
    """Fill `expected` with E log p under a Dirichlet with parameters `alpha`; the logarithm of its normalizer."""
    total, log_normalizer = 0.0, 0.0
    for k in range(len(alpha)):
        total += alpha[k]
        expected[k] = digamma(alpha[k])
        log_normalizer += _log_gamma(alpha[k])
    shift = digamma(total)
    for k in range(len(alpha)):
        expected[k] -= shift
    return log_normalizer - _log_gamma(total)


@compiled
def exp_digamma(x):  # type: ignore[no-untyped-def]
    """``exp(digamma(x))``, which is nearly ``x - 1/2`` and needs no logarithm."""
    below = 0.0
    while x < 9.0:
        below += 1.0 / x
        x += 1.0
    y = x - 0.5
    r = 1.0 / (y * y)
    value = y * (1 + r * (1 / 24 - r * (37 / 5760 - r * (10313 / 2903040 - r * (5509121 / 1393459200)))))
    return value * math.exp(-below) if below > 0 else value


@compiled
def _expect(gamma, theta):  # type: ignore[no-untyped-def]
    """``theta = exp(E log theta)`` under a Dirichlet; the sum of its parameters."""
    total = 0.0
    for k in range(len(gamma)):
        total += gamma[k]
    scale = 1.0 / exp_digamma(total)
    for k in range(len(gamma)):
        theta[k] = exp_digamma(gamma[k]) * scale
    return total


@compiled
def infer(offsets, word, count, weight, alpha, steps, tol, first, last, gamma, theta, ratio, bound):  # type: ignore[no-untyped-def]
    """Coordinate ascent in documents `first` to `last`; see `probseq.ops.topics.infer`.

    Fills `gamma` (in and out), `theta`, `bound`, and `ratio`: of each pair, its count over its probability.
    """
    topics, most = len(alpha), 0
    for d in range(first, last):
        most = max(most, offsets[d + 1] - offsets[d])
    rows, new = np.empty((most, topics)), np.empty(topics)
    constant = _log_gamma(alpha.sum())
    for k in range(topics):
        constant -= _log_gamma(alpha[k])
    for d in range(first, last):
        begin, size = offsets[d], offsets[d + 1] - offsets[d]
        n, g, e = count[begin : begin + size], gamma[d], theta[d]
        for i in range(size):
            rows[i] = weight[word[begin + i]]
        _expect(g, e)
        for _ in range(steps):
            new[:] = 0
            for i in range(size):
                row, p = rows[i], 0.0
                for k in range(len(row)):
                    p += e[k] * row[k]
                share = n[i] / p if p > 0 else 0.0
                for k in range(len(row)):
                    new[k] += share * row[k]
            change = 0.0
            for k in range(topics):
                value = alpha[k] + e[k] * new[k]
                change += abs(value - g[k])
                g[k] = value
            if change < tol * _expect(g, e):
                break
        score = constant
        for i in range(size):
            row, p = rows[i], 0.0
            for k in range(len(row)):
                p += e[k] * row[k]
            ratio[begin + i] = n[i] / p if p > 0 else 0.0
            score += n[i] * math.log(p)
        total = 0.0
        for k in range(topics):
            total += g[k]
        log_scale = digamma(total)
        score -= _log_gamma(total)
        for k in range(topics):
            score += _log_gamma(g[k]) + (alpha[k] - g[k]) * (digamma(g[k]) - log_scale)
        bound[d] = score


@compiled
def collect(word_offsets, by_word, document, ratio, theta, weight, first, last, counts):  # type: ignore[no-untyped-def]
    """Expected counts of words `first` to `last` in every topic: each word's pairs lie in `by_word`."""
    for v in range(first, last):
        total, row = counts[v], weight[v]
        total[:] = 0
        for i in range(word_offsets[v], word_offsets[v + 1]):
            pair = by_word[i]
            e, share = theta[document[pair]], ratio[pair]
            for k in range(len(total)):
                total[k] += share * e[k]
        for k in range(len(total)):
            total[k] *= row[k]


@compiled
def gibbs(offsets, x, weight, chosen, alpha, eta, by_document, by_word, total, key):  # type: ignore[no-untyped-def]
    """One sweep of collapsed Gibbs sampling over all tokens, in order; counts are changed in place."""
    size = len(total)
    p, inverse, prior = np.empty(size, np.float32), np.empty(size, np.float32), alpha.astype(np.float32)
    smooth = np.float32(eta)
    mass = len(by_word) * eta
    for k in range(size):
        inverse[k] = 1 / (total[k] + mass)
    for d in range(len(offsets) - 1):
        own, share = by_document[d], np.float32(weight[d])
        for t in range(offsets[d], offsets[d + 1]):
            row, k = by_word[x[t]], chosen[t]
            own[k] -= 1
            row[k] -= share
            total[k] -= share
            inverse[k] = 1 / (total[k] + mass)
            s = np.float32(0)
            for k in range(len(own)):
                u = (own[k] + prior[k]) * (row[k] + smooth) * inverse[k]
                p[k] = u
                s += u
            k = draw(p, uniform(key, t) * s)
            chosen[t] = k
            own[k] += 1
            row[k] += share
            total[k] += share
            inverse[k] = 1 / (total[k] + mass)
