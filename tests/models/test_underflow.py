"""Likelihood, beliefs, draws and forecasts agree where a belief is too small for a float."""

import math

import numpy as np
import pytest
import torch

import probseq as ps

BLOCKS = np.kron(np.eye(2), np.full((2, 2), 0.5))


def blocks(dtype=torch.float64):
    """Two chains that never meet; the last symbol is known to the second one alone."""
    emission = [[0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [1e-4, 0.5, 0.4999], [1e-4, 0.5, 0.4999]]
    return ps.HMM.from_parameters([0.25] * 4, BLOCKS, emission).to(dtype)


def levels(dtype=torch.float64):
    """From a level of 0 to one of 50, and never back."""
    bank = ps.emissions.Gaussian.from_parameters([[0.0], [50.0]], [[1.0], [1.0]])
    return ps.HMM.from_parameters([1.0, 0.0], [[0.9, 0.1], [0.0, 1.0]], bank).to(dtype)


BLOCK_DATA = [[0] * 200 + [2, 1], [0, 1, 2, 2] + [1] * 198]
LEVEL_DATA = [np.array([[0.3], [49.0], [51.0], [0.0]]), np.array([[50.0], [1.0], [50.0], [50.0]])]
CASES = {"blocks": (blocks, BLOCK_DATA), "levels": (levels, LEVEL_DATA)}


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


def test_one_step_at_a_time_equals_all_at_once(dtype):
    for mixture in (False, True):
        model = blocks(dtype)
        if mixture:
            model = ps.PosteriorHMM(ps.HMM(4, ps.emissions.Categorical(3), num_restarts=3, dtype=dtype), num_draws=3)
            others = ps.HMM.from_parameters([0.25] * 4, BLOCKS, [[0.9, 0.1, 0], [0.9, 0.1, 0], [0, 0, 1], [0, 0, 1]])
            model.draws.put([0, 1], blocks(dtype).take([0, 0]))
            model.draws.put([2], others.to(dtype))
        batch = ps.Sequences.from_list(BLOCK_DATA).batch()
        terms, state = model.token_log_prob(batch), model.initial_state(2)
        assert terms.isfinite().all()
        for t in range(batch.values.shape[1]):
            found = model.next_log_prob(state).gather(2, batch.values[None, :, t, None])[..., 0]
            torch.testing.assert_close(found, terms[..., t], rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=1e-5)
            state = model.advance(state, batch.values[:, t])


def test_draws_follow_a_prefix_that_underflows(dtype, generator):
    drawn = blocks(dtype).sample(2000, 203, prefix=BLOCK_DATA[0], generator=generator).batch().values[:, -1]
    shares = torch.bincount(drawn, minlength=3) / 2000
    torch.testing.assert_close(shares, torch.tensor([1e-4, 0.5, 0.4999]), atol=0.06, rtol=0)
    drawn = levels(dtype).sample(50, 5, prefix=LEVEL_DATA[0], generator=generator).batch().values[:, -1]
    assert ((drawn - 50).abs() < 6).all()


@pytest.mark.parametrize("name", CASES)
def test_beliefs_paths_and_entropy_belong_to_the_posterior(name, dtype):
    build, rows = CASES[name]
    model, batch = build(dtype), ps.Sequences.from_list(rows).batch()
    marginals, last = model.posterior_marginals(batch), batch.lengths - 1
    filtered = model.filtered(batch)[0, torch.arange(2), last]
    torch.testing.assert_close(filtered, marginals[0, torch.arange(2), last], atol=1e-5, rtol=0)
    drawn = model.sample_path(batch, torch.Generator().manual_seed(0))
    assert (drawn >= 0).all()
    assert (marginals.gather(3, drawn[..., None]) > 0).all()
    entropy = model.path_entropy(batch)
    if name == "levels":  # the first has one path in effect, and so has the second
        torch.testing.assert_close(drawn, model.viterbi(batch))
        assert entropy.max() < 1e-9
    else:  # two states alike at each step
        torch.testing.assert_close(entropy[0], torch.full((2,), 202 * math.log(2)).double(), rtol=1e-5, atol=0)


def test_forecasts_go_on_from_a_belief_that_underflows(dtype):
    probs = blocks(dtype).symbols_ahead(ps.Sequences.from_list(BLOCK_DATA).batch(), 2)
    torch.testing.assert_close(probs.double(), torch.tensor([1e-4, 0.5, 0.4999]).double().expand(1, 2, 2, 3))
    ahead = levels(dtype).forecast(ps.Sequences.from_list(LEVEL_DATA).batch(), 1)
    torch.testing.assert_close(ahead.mean.flatten().double(), torch.tensor([50.0, 50.0]).double())
    torch.testing.assert_close(ahead.variance.flatten().double(), torch.tensor([1.0, 1.0]).double())
