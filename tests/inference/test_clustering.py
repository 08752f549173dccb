import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probseq.inference.clustering import kmeans, nearest, squared_distances


def loss(points, weights, labels):
    """Weighted squared distances to the means of the clusters."""
    total = 0.0
    for k in set(labels):
        own = labels == k
        center = np.average(points[own], axis=0, weights=weights[own])
        total += (weights[own] * ((points[own] - center) ** 2).sum(axis=1)).sum()
    return total


@given(st.integers(1, 30), st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
def test_the_distances_are_those_of_euclid(num_points, num_dims, num_centers, seed):
    rng = np.random.default_rng(seed)
    points, centers = rng.normal(size=(num_points, num_dims)), rng.normal(size=(num_centers, num_dims))
    expected = np.array([[np.linalg.norm(p - c) ** 2 for c in centers] for p in points])
    np.testing.assert_allclose(squared_distances(points, centers), expected, atol=1e-12)
    np.testing.assert_array_equal(nearest(points, centers), expected.argmin(axis=1))


@given(st.integers(0, 99))
def test_no_point_would_be_better_off_in_another_cluster(seed):
    """What Lloyd's algorithm ends with: every point is nearest to the weighted mean of its own cluster."""
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(60, 2)), rng.uniform(0.5, 3, size=60)
    labels = kmeans(points, weights, 4, rng, num_steps=1000)
    used = np.unique(labels)
    centers = np.stack([np.average(points[labels == k], axis=0, weights=weights[labels == k]) for k in used])
    np.testing.assert_array_equal(used[nearest(points, centers)], labels)


def test_steps_lower_the_loss():
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(300, 2)), np.ones(300)
    losses = [loss(points, weights, kmeans(points, weights, 6, np.random.default_rng(1), n)) for n in (0, 1, 3, 100)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("seed", range(5))
def test_separate_clusters_are_found_from_every_seed(seed):
    """Centers that are drawn far apart hit every cluster; centers drawn at random would often miss one."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(8), 50)
    points = 100 * np.stack([truth % 4, truth // 4], axis=1) + rng.normal(size=(400, 2))
    labels = kmeans(points, np.ones(400), 8, rng)
    assert len({(a, b) for a, b in zip(labels, truth, strict=True)}) == 8


def test_weights_pull_the_centers():
    """Four points and two clusters: the light pair in the middle goes where the heavy ends leave it."""
    points = np.array([[0.0], [1.0], [2.2], [3.2]])
    labels = kmeans(points, np.array([1e6, 1.0, 1.0, 1e6]), 2, np.random.default_rng(0))
    assert labels[0] == labels[1] != labels[2] == labels[3]
    heavy_middle = kmeans(points, np.array([1e-6, 1e6, 1e6, 1e-6]), 3, np.random.default_rng(0))
    assert heavy_middle[1] != heavy_middle[2]


@pytest.mark.parametrize("points", [np.zeros((10, 2)), np.repeat([[0.0], [1.0]], 5, axis=0), np.array([[3.0]])])
def test_fewer_distinct_points_than_clusters(points):
    labels = kmeans(points, np.ones(len(points)), 4, np.random.default_rng(0))
    together = {tuple(p): set(labels[(points == p).all(axis=1)]) for p in points}
    assert all(len(found) == 1 for found in together.values())  # equal points share a cluster
    assert len(set(labels)) == len(together)
