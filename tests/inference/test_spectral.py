import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import probseq as ps
from probseq.inference.sample import Sample
from probseq.inference.spectral import RankError, Triples, spectral

TRANSITION = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.25, 0.7]])
EMISSION = np.array(
    [[0.5, 0.3, 0.1, 0.05, 0.03, 0.02], [0.05, 0.05, 0.4, 0.4, 0.05, 0.05], [0.02, 0.03, 0.05, 0.1, 0.4, 0.4]]
)


def exact_triples(transition, emission):
    """The triples that a stationary chain gives, without sampling."""
    stationary = np.linalg.matrix_power(transition, 1000)[0]
    table = np.einsum("i,ij,jk,ia,jb,kc->abc", stationary, transition, transition, emission, emission, emission)
    return Triples(np.nonzero(table), table[np.nonzero(table)], 10**9), stationary


def matched(found, truth):
    """The found states in the order of the true ones."""
    return np.array([np.abs(found - row).sum(axis=1).argmin() for row in truth])


def drawn(num_tokens, seed=0):
    stationary = np.linalg.matrix_power(TRANSITION, 1000)[0]
    model = ps.HMM.from_parameters(stationary / stationary.sum(), TRANSITION, EMISSION)
    return model.simulate(num_tokens // 500, 500, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 999))
def test_exact_moments_give_the_exact_model(seed):
    rng = np.random.default_rng(seed)
    transition = 0.5 * np.eye(3) + 0.5 * rng.dirichlet(np.ones(3), size=3)
    emission = np.concatenate([0.6 * np.eye(3) + 0.2 * rng.dirichlet(np.ones(3), size=3), np.full((3, 4), 0.05)], 1)
    triples, stationary = exact_triples(transition, emission)
    initial, found, probs = spectral(triples, 7, 3, rng)
    order = matched(probs, emission)
    np.testing.assert_allclose(probs[order], emission, atol=1e-6)
    np.testing.assert_allclose(found[order][:, order], transition, atol=1e-5)
    np.testing.assert_allclose(initial[order], stationary, atol=1e-5)


def test_the_error_shrinks_with_the_data():
    errors = []
    for num in (10_000, 100_000, 1_000_000):
        sample = Sample(drawn(num), 2**20, num_symbols=6)
        initial, transition, emission = spectral(sample.triples, 6, 3, np.random.default_rng(0))
        order = matched(emission, EMISSION)
        assert sorted(order) == [0, 1, 2]
        assert initial.sum() == pytest.approx(1)
        np.testing.assert_allclose(transition.sum(axis=1), 1)
        np.testing.assert_allclose(emission.sum(axis=1), 1)
        errors.append(np.abs(emission[order] - EMISSION).max() + np.abs(transition[order][:, order] - TRANSITION).max())
    assert errors[2] < 0.4 * errors[1] < 0.4 * 0.4 * 3 * errors[0]
    assert errors[2] < 0.02


def failing(reason, triples, num_symbols, num_states):
    with pytest.raises(RankError, match=reason):
        spectral(triples, num_symbols, num_states, np.random.default_rng(0))


def test_what_moments_cannot_tell_is_said():
    triples, _ = exact_triples(TRANSITION, EMISSION)
    failing("7 states and only 6 symbols", triples, 6, 7)
    failing("show 3 states beyond chance, fewer than 4", triples, 6, 4)
    alike = EMISSION.copy()
    alike[2] = alike[1]
    failing("show 2 states", exact_triples(TRANSITION, alike)[0], 6, 3)
    forgets = np.full((3, 3), 1 / 3)
    failing("show 1 state beyond", exact_triples(forgets, EMISSION)[0], 6, 2)
    none = np.zeros(0, np.int64)
    failing("no three neighbors", Triples((none, none, none), np.zeros(0), 0), 6, 3)


def test_moments_of_no_chain_may_have_complex_eigenvalues():
    """The middle symbol says how far to turn on a circle of three: no state explains it."""
    table = np.zeros((3, 3, 3))
    for first in range(3):
        for turn, prob in enumerate([0.2, 0.7, 0.1]):
            table[first, turn, (first + turn) % 3] = prob / 3
    failing("complex or coincide", Triples(np.nonzero(table), table[np.nonzero(table)], 10**9), 3, 3)
