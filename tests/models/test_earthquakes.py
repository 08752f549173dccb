"""The Poisson HMM of the earthquakes, against the published numbers.

W. Zucchini, I. L. MacDonald (2009), "Hidden Markov models for time series: an introduction using R": tables 4.1 and 4.2
(EM, minus log-likelihood), and the forecast of the state with three states.
"""

import numpy as np
import pytest

import probseq as ps

STARTS = {
    2: ([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[10.0], [30.0]]),
    3: ([1 / 3] * 3, [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], [[10.0], [20.0], [30.0]]),
}
ITERATIONS = {
    2: {0: 413.27542, 1: 343.76023, 2: 343.13618, 30: 341.87871},
    3: {0: 342.90781, 1: 332.12143, 2: 330.63689},
}
MAXIMUM = {2: 341.87870, 3: 328.52748}
RATES = {2: [15.421, 26.018], 3: [13.134, 19.713, 29.710]}


@pytest.fixture(scope="module")
def series() -> ps.Sequences:
    corpus = ps.load_corpus("earthquakes", window=None)
    parts = [part.values for part in (corpus.train, corpus.validation, corpus.test)]
    return ps.Sequences.from_list([np.concatenate(parts)])


def fitted(num_states: int, series: ps.Sequences, **options) -> ps.Fit:
    initial, transition, rates = STARTS[num_states]
    model = ps.HMM.from_parameters(initial, transition, ps.emissions.Poisson.from_parameters(rates))
    return ps.em(model, series, **options)


@pytest.mark.parametrize("num_states", [2, 3])
def test_every_iteration_is_the_published_one(num_states, series):
    fit = fitted(num_states, series, num_steps=60, tol=0)
    for step, published in ITERATIONS[num_states].items():
        assert -fit.history[step, 0] * 107 == pytest.approx(published, abs=6e-6)


@pytest.mark.parametrize("num_states", [2, 3])
def test_the_maximum_is_the_published_one(num_states, series):
    model = fitted(num_states, series, num_steps=2000, tol=1e-13).model
    assert -ps.evaluate(model, series).elpd[0] == pytest.approx(MAXIMUM[num_states], abs=6e-6)
    np.testing.assert_allclose(model.emission.rates[0, :, 0].detach(), RATES[num_states], atol=6e-4)


def test_most_restarts_find_it(series):
    """Started around random years, not from the published point."""
    model = ps.HMM(2, ps.emissions.Poisson(1), num_restarts=20, seed=0)
    fit = ps.em(model, series, num_steps=2000, tol=1e-10)
    found = -ps.evaluate(fit.model, series).elpd
    assert found.min() == pytest.approx(MAXIMUM[2], abs=1e-4)
    assert (found < MAXIMUM[2] + 0.01).sum() >= 10


def test_the_state_ahead_is_the_published_one(series):
    """Years 2007, 2008, 2009, 2016, 2026 and 2036 after 2006, from the published stationary model (four digits)."""
    from probseq.models.forecast import states_ahead

    transition = np.array([[0.9546, 0.0244, 0.0209], [0.0498, 0.8994, 0.0509], [0.0, 0.1966, 0.8034]])
    rates = ps.emissions.Poisson.from_parameters([[13.146], [19.721], [29.714]])
    model = ps.HMM.from_parameters([0.4436, 0.4045, 0.1519], transition / transition.sum(axis=1, keepdims=True), rates)
    assert -ps.evaluate(model, series).elpd[0] == pytest.approx(329.4603, abs=2e-3)  # its parameters are rounded
    ahead = states_ahead(model, series.batch(), 30)[0, 0].detach().numpy()
    published = [[0.951, 0.028, 0.021], [0.909, 0.053, 0.038], [0.871, 0.077, 0.052],
                 [0.674, 0.220, 0.107], [0.538, 0.328, 0.134], [0.482, 0.373, 0.145]]  # fmt: skip
    np.testing.assert_allclose(ahead[[0, 1, 2, 9, 19, 29]], published, atol=1e-3)
