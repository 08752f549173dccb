r"""Topics from anchor words: a starting point with no chance in it.

Row w of the co-occurrence matrix, :math:`p(\text{other word} \mid w)` over pairs of words of one document, is a mixture
of the rows of *anchors*, words that occur in one topic only; its weights are :math:`p(k \mid w)`. So anchors are the
corners of what all rows span. They are found greedily, each as far as possible from the span of those before it, and
the weights of every other row by least squares on the simplex. Then :math:`p(w \mid k) \propto p(k \mid w) \, p(w)`.

The matrix of all pairs is never built: its rows are projected to a few hundred dimensions, which nearly keeps their
distances.

Reference:
    S. Arora et al. (2013), "A practical algorithm for topic modeling with provable guarantees".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array

from probseq.errors import InputError

Floats = NDArray[np.float64]

_DIMENSIONS = 500  # of the projection
_RARE = 0.005  # a word in fewer documents than this share is no anchor: its row is mostly chance
_STEPS = 200  # of the gradient on the simplex


def anchor_topics(counts: csr_matrix, num_topics: int, weights: Floats | None = None) -> Floats:
    """Topics ``(K, V)``, whose rows sum to 1, from counts ``(N, V)``; a document of weight w counts as w.

    Raises:
        InputError: fewer words that occur beside others than topics.
    """
    weights = np.ones(counts.shape[0]) if weights is None else weights
    rows, frequency = _projected_rows(counts, weights)
    spread = np.asarray(weights @ (counts > 0)).ravel()
    candidates = np.flatnonzero((spread >= max(2.0, _RARE * weights.sum())) & (frequency > 0))
    if len(candidates) < num_topics:
        candidates = np.flatnonzero(frequency > 0)
    if len(candidates) < num_topics:
        raise InputError(
            f"start 'anchors' found {len(candidates)} words that occur beside others; expected at least {num_topics}, "
            "one for each topic: take fewer topics or start 'random'"
        )
    anchors = candidates[_corners(rows[candidates], num_topics)]
    weights = _mixtures(rows, rows[anchors])  # (V, K)
    joint = (weights * frequency[:, None]).T
    return np.asarray(joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300))


def _projected_rows(counts: csr_matrix, weights: Floats) -> tuple[Floats, Floats]:
    """Rows of the co-occurrence matrix in a few dimensions ``(V, D)``, and how often each word occurs ``(V,)``."""
    length = np.asarray(counts.sum(axis=1)).ravel()
    counts, length, weights = (x[length > 1] for x in (counts, length, weights))  # one word has no other beside it
    size = min(_DIMENSIONS, counts.shape[1])
    directions = np.random.default_rng(0).standard_normal((counts.shape[1], size)) / np.sqrt(size)
    per_pair = diags_array(weights / (length * (length - 1)))
    pairs = counts.T @ (per_pair @ (counts @ directions)) - (per_pair @ counts).sum(axis=0)[:, None] * directions
    frequency = np.asarray((diags_array(weights / length) @ counts).sum(axis=0)).ravel()
    return pairs / np.maximum(frequency, 1e-300)[:, None], frequency / max(frequency.sum(), 1e-300)


def _corners(rows: Floats, number: int) -> NDArray[np.int64]:
    """Greedily, the rows that are farthest from the span of those before them."""
    first = int(np.argmax((rows**2).sum(axis=1)))
    first = int(np.argmax(((rows - rows[first]) ** 2).sum(axis=1)))
    chosen, rest = [first], rows - rows[first]
    for _ in range(number - 1):
        size = (rest**2).sum(axis=1)
        size[chosen] = -1
        chosen.append(int(np.argmax(size)))
        direction = rest[chosen[-1]] / max(np.linalg.norm(rest[chosen[-1]]), 1e-300)
        rest = rest - np.outer(rest @ direction, direction)
    return np.array(chosen)


def _mixtures(rows: Floats, corners: Floats) -> Floats:
    """``(V, K)``: weights on the simplex with which the corners come closest to each row, by accelerated gradient.

    Reference:
        A. Beck, M. Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm for linear inverse problems".
    """
    center = corners.mean(axis=0)  # weights that sum to 1 do not see it, and without it fewer steps are enough
    corners, rows = corners - center, rows - center
    gram, cross = corners @ corners.T, rows @ corners.T
    rate = 1 / max(np.linalg.eigvalsh(gram)[-1], 1e-300)
    weights = ahead = np.full(cross.shape, 1 / len(corners))
    for step in range(_STEPS):
        before, weights = weights, _onto_simplex(ahead - rate * (ahead @ gram - cross))
        ahead = weights + step / (step + 3) * (weights - before)
    return weights


def _onto_simplex(points: Floats) -> Floats:
    """The nearest weights, 0 or more with sum 1: every row is lowered by one number, and cut off at 0."""
    falling = -np.sort(-points, axis=1)
    excess = np.cumsum(falling, axis=1) - 1
    kept = (falling * np.arange(1, points.shape[1] + 1) > excess).sum(axis=1, keepdims=True)  # entries above 0
    return np.asarray(np.maximum(points - np.take_along_axis(excess, kept - 1, axis=1) / kept, 0.0))
