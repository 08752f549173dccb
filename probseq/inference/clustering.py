"""K-means, weighted, and what it needs to know about symbols."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MAX_CELLS = 2**22  # distances that are held at once


def kmeans(points: Floats, weights: Floats, num_clusters: int, rng: np.random.Generator, num_steps: int = 30) -> Ints:
    """``(M,)``: the cluster of each point, by Lloyd's algorithm from centers that lie far apart.

    With fewer distinct points than clusters, some clusters stay empty.

    Args:
        points: ``(M, D)``.
        weights: ``(M,)``, how often each point counts; not all 0.
        num_clusters: K.
        rng: draws the first centers.
        num_steps: steps at most; it ends as soon as no point changes its cluster.

    Reference:
        S. P. Lloyd (1982), "Least squares quantization in PCM"; D. Arthur, S. Vassilvitskii (2007), "k-means++: the
        advantages of careful seeding".
    """
    centers = _spread_out(points, weights, num_clusters, rng)
    labels = nearest(points, centers)
    for _ in range(num_steps):
        members = coo_array((weights, (labels, np.arange(len(points)))), shape=(num_clusters, len(points))).tocsr()
        total = members.sum(axis=1)
        centers[total > 0] = (members @ points)[total > 0] / total[total > 0, None]
        before, labels = labels, nearest(points, centers)
        if np.array_equal(before, labels):
            break
    return labels


def nearest(points: Floats, centers: Floats) -> Ints:
    """``(M,)``: the nearest center of each point."""
    parts = np.array_split(points, 1 + len(points) * len(centers) // _MAX_CELLS)
    norms = (centers**2).sum(axis=1)
    return np.concatenate([(norms - 2 * part @ centers.T).argmin(axis=1) for part in parts])


def squared_distances(points: Floats, centers: Floats) -> Floats:
    """``(M, K)``: the squared Euclidean distances."""
    distances: Floats = (points**2).sum(1)[:, None] - 2 * points @ centers.T + (centers**2).sum(1)
    return distances.clip(min=0)


def _spread_out(points: Floats, weights: Floats, num_clusters: int, rng: np.random.Generator) -> Floats:
    """Centers drawn one by one, each with a probability that grows with the squared distance to those before it."""
    chosen: list[int] = []
    distance, norms = np.full(len(points), np.inf), (points**2).sum(axis=1)
    mass = weights
    for _ in range(num_clusters):
        chosen.append(int(rng.choice(len(points), p=mass / mass.sum())))
        new = chosen[-1]
        distance = np.minimum(distance, (norms - 2 * points @ points[new] + norms[new]).clip(min=0))
        mass = weights * distance if (weights * distance).any() else weights  # fewer distinct points than clusters
    return points[chosen]
