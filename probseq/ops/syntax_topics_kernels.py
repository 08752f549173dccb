"""Collapsed Gibbs sampling of topics and classes, as a compiled loop over all words."""

from __future__ import annotations

import numpy as np

from probseq.ops.chain_shared import compiled
from probseq.ops.draw_kernels import draw, uniform


@compiled
def sweep(offsets, x, weight, label, alpha, eta, prior, by_document, by_word, total, steps, key):  # type: ignore[no-untyped-def]
    """One sweep over all words, in order; labels and counts are changed in place.

    Labels are topics first, then the classes but 0. Row c of `steps` counts the classes that followed class c, and its
    last row those that began a document.

    Reference:
        T. L. Griffiths, M. Steyvers, D. M. Blei, J. B. Tenenbaum (2004), "Integrating topics and syntax".
    """
    size, labels, classes = by_document.shape[1], by_word.shape[1], steps.shape[1]
    p, step, mass = np.empty(labels), np.empty(classes), alpha.sum()
    smooth, followed = np.empty(labels), steps.sum(axis=1)
    for j in range(labels):
        smooth[j] = eta[0] if j < size else eta[1]
    for d in range(len(offsets) - 1):
        own, w, before, own_total = by_document[d], weight[d], classes, by_document[d].sum()
        for t in range(offsets[d], offsets[d + 1]):
            row, k = by_word[x[t]], label[t]
            after = max(0, label[t + 1] - size + 1) if t + 1 < offsets[d + 1] else -1
            own_total += _change(own, row, total, steps, followed, k, size, before, after, -1.0, w)
            for c in range(classes):
                step[c] = steps[before, c] + prior
                if after >= 0:
                    same = w if before == c else 0.0  # the step to this word may be one of those from it
                    again = same if c == after else 0.0
                    step[c] *= (steps[c, after] + again + prior) / (followed[c] + same + classes * prior)
            topical, other = 0.0, 0.0
            for j in range(size):
                p[j] = (own[j] + alpha[j]) * (row[j] + smooth[j]) / (total[j] + len(by_word) * smooth[j])
                topical += p[j]
            for j in range(size, labels):
                p[j] = step[j - size + 1] * (row[j] + smooth[j]) / (total[j] + len(by_word) * smooth[j])
                other += p[j]
            scale = step[0] / (own_total + mass)
            rest = uniform(key, t) * (topical * scale + other)
            if rest < topical * scale or not other > 0:
                k = draw(p[:size], min(rest / scale, topical))
            else:
                k = size + draw(p[size:], rest - topical * scale)
            label[t] = k
            own_total += _change(own, row, total, steps, followed, k, size, before, after, 1.0, w)
            before = max(0, k - size + 1)


@compiled
def _change(own, row, total, steps, followed, k, size, before, after, sign, w):  # type: ignore[no-untyped-def]
    """Add a word with label `k` to all counts, or take it away; what that adds to the document's words of topics."""
    c = max(0, k - size + 1)
    row[k] += sign * w
    total[k] += sign * w
    steps[before, c] += sign * w
    followed[before] += sign * w
    if after >= 0:
        steps[c, after] += sign * w
        followed[c] += sign * w
    if k < size:
        own[k] += sign
        return sign
    return 0.0
