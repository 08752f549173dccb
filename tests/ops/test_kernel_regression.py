"""Kernel averages by hand, against scikit-learn, and softmax attention as one of them."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KernelDensity

import probseq as ps
from probseq.ops.kernel_regression import kernel_weights, log_density, nadaraya_watson


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_the_estimate_is_the_formula():
    queries, keys, values, b = normal(4, 2), normal(6, 2, seed=1), normal(6, 3, seed=2), 0.7
    found = nadaraya_watson(queries, keys, values, b)
    for q, row in zip(queries, found, strict=True):
        kernel = [math.exp(-float(((q - k) ** 2).sum()) / (2 * b**2)) for k in keys]
        close(row, sum(w * v for w, v in zip(kernel, values, strict=True)) / sum(kernel))


@pytest.mark.parametrize("dims", [1, 3])
def test_the_density_is_that_of_scikit_learn(dims):
    queries, points = normal(5, dims), normal(20, dims, seed=1)
    expected = KernelDensity(bandwidth=0.4).fit(points.numpy()).score_samples(queries.numpy())
    np.testing.assert_allclose(log_density(queries, points, 0.4), expected, atol=1e-10)


def test_far_from_all_keys_the_nearest_one_speaks():
    found = nadaraya_watson(torch.tensor([[1e4]]), torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [7.0]]), 0.1)
    assert found.tolist() == [[7.0]]


def test_a_wide_kernel_gives_the_mean():
    values = normal(9, 2)
    close(nadaraya_watson(normal(3, 1), normal(9, 1, seed=1), values, 1e8), values.mean(dim=0).expand(3, 2))


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6), st.floats(0.3, 3))
def test_softmax_attention_with_keys_of_equal_norm_is_kernel_regression(num_keys, half, seed, norm):
    """Products divided by the root of D belong to a squared bandwidth of the root of D."""
    dims = 2 * half
    queries, values = normal(2, 3, 4, dims, seed=seed), normal(2, 3, num_keys, 5, seed=seed + 1)
    keys = norm * F.normalize(normal(2, 3, num_keys, dims, seed=seed + 2), dim=-1)
    attention = F.scaled_dot_product_attention(queries, keys, values)
    close(nadaraya_watson(queries, keys, values, dims**0.25), attention, 1e-11)


def test_keys_of_other_norms_are_weighted_by_them():
    """Without equal norms attention is the same estimator with a prior weight for every key, exp(|k|^2 / 2 b^2)."""
    queries, keys, values = normal(4, 8), normal(6, 8, seed=1), normal(6, 2, seed=2)
    attention = F.scaled_dot_product_attention(queries, keys, values)
    b = 8**0.25
    assert (nadaraya_watson(queries, keys, values, b) - attention).abs().max() > 0.01
    weights = kernel_weights(queries, keys, b) * (keys.square().sum(-1) / (2 * b**2)).exp()
    close(weights / weights.sum(-1, keepdim=True) @ values, attention)


def test_causal_attention_is_regression_on_the_past():
    queries, keys, values = normal(7, 4), F.normalize(normal(7, 4, seed=1), dim=-1), normal(7, 3, seed=2)
    past = torch.ones(7, 7, dtype=torch.bool).tril()
    attention = F.scaled_dot_product_attention(queries[None], keys[None], values[None], is_causal=True)[0]
    close(nadaraya_watson(queries, keys, values, 4**0.25, past), attention)


def test_gradients_are_right():
    inputs = [
        normal(2, 3).requires_grad_(),
        normal(4, 3, seed=1).requires_grad_(),
        normal(4, 2, seed=2).requires_grad_(),
    ]
    assert torch.autograd.gradcheck(lambda q, k, v: nadaraya_watson(q, k, v, 0.8), inputs)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: kernel_weights(normal(1, 2), normal(3, 2), 0.0), "bandwidth is 0.0"),
        (lambda: log_density(normal(1, 2), normal(3, 2), -1.0), "bandwidth is -1.0"),
        (lambda: kernel_weights(normal(1, 2), normal(3, 1), 1.0), "queries have 2 numbers and keys 1"),
        (lambda: nadaraya_watson(normal(1, 2), normal(3, 2), normal(2, 1), 1.0), "received 3 keys and 2 values"),
        (
            lambda: kernel_weights(normal(1, 2), normal(3, 2), 1.0, torch.zeros(1, 3, dtype=torch.bool)),
            "mask leaves a query no key",
        ),
    ],
)
def test_bad_settings_are_refused(ask, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ask()
