"""Topics as points in the plane: alike is near."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.topics.words import check_topics

Floats = NDArray[np.float64]


def topic_distances(topics: ArrayLike) -> Floats:
    r"""``(K, K)``: the Jensen-Shannon distance of every two topics, from 0 (the same) to 1 (no word in common).

    .. math::
        d(p, q)^2 = H\left(\tfrac{p + q}{2}\right) - \tfrac{1}{2} H(p) - \tfrac{1}{2} H(q) \quad \text{in bits}

    Args:
        topics: ``(K, V)``, rows of probabilities.

    Raises:
        InputError: another shape, or rows that are no distributions.

    Reference:
        J. Lin (1991), "Divergence measures based on the Shannon entropy"; D. M. Endres, J. E. Schindelin (2003), "A new
        metric for probability distributions".

    Example:
        >>> topic_distances([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    probs = check_topics(topics)
    own = _entropy(probs)
    between = np.array([_entropy((row + probs) / 2) for row in probs])
    squared = between - (own[:, None] + own) / 2
    np.fill_diagonal(squared, 0)
    return np.asarray(np.sqrt(np.clip((squared + squared.T) / 2, 0, None)))


def topic_map(topics: ArrayLike) -> Floats:
    """``(K, 2)``: a point for each topic, such that distances in the plane are near to `topic_distances`.

    Classical scaling: the two directions in which the points of the distances spread most. Signs are fixed, so that the
    same topics give the same map: the point farthest out in each direction is on its positive side.

    Args:
        topics: ``(K, V)``, rows of probabilities.

    Raises:
        InputError: another shape, or rows that are no distributions.

    Reference:
        J. C. Gower (1966), "Some distance properties of latent root and vector methods used in multivariate analysis".
    """
    squared = topic_distances(topics) ** 2
    centered = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centered / 2)
    points = np.zeros((len(squared), 2))
    for axis, which in enumerate(np.argsort(-values)[:2]):
        line = vectors[:, which] * np.sqrt(max(float(values[which]), 0.0))
        points[:, axis] = line if line[np.abs(line).argmax()] >= 0 else -line
    return points


def _entropy(probs: Floats) -> Floats:
    """In bits, of every row."""
    logs = np.log2(probs, out=np.zeros_like(probs), where=probs > 0)
    return np.asarray(-(probs * logs).sum(axis=-1))
