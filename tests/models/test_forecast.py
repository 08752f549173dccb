"""Forecasts against enumeration, quadrature and draws."""

import numpy as np
import pytest
import torch
from scipy import stats

import probseq as ps

INITIAL, TRANSITION = [0.6, 0.4], [[0.9, 0.1], [0.3, 0.7]]


def gaussian() -> ps.HMM:
    bank = ps.emissions.Gaussian.from_parameters([[0.0], [5.0]], [[1.0], [0.5]])
    return ps.HMM.from_parameters(INITIAL, TRANSITION, bank)


def poisson() -> ps.HMM:
    return ps.HMM.from_parameters(INITIAL, TRANSITION, ps.emissions.Poisson.from_parameters([[2.0], [9.0]]))


def belief_at_the_end(model: ps.HMM, x) -> np.ndarray:
    return model.filtered(ps.Sequences.from_list([x]).batch())[0, 0, -1].numpy()


def test_symbols_ahead_are_those_of_enumeration():
    model = ps.HMM.from_parameters(INITIAL, TRANSITION, [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    x = [0, 2, 1]
    probs = model.symbols_ahead(ps.Sequences.from_list([x]).batch(), 2)[0, 0]

    def p(*sequences):
        return model.token_log_prob(ps.Sequences.from_list(list(sequences)).batch()).sum(-1).exp().sum()

    for v in range(3):
        torch.testing.assert_close(probs[0, v], p([*x, v]) / p(x), atol=1e-12, rtol=0)
        torch.testing.assert_close(probs[1, v], p(*[[*x, a, v] for a in range(3)]) / p(x), atol=1e-12, rtol=0)


def test_the_interval_holds_the_share_that_it_says():
    x = np.array([[0.3], [4.8], [5.2]])
    model = gaussian()
    found = model.forecast(ps.Sequences.from_list([x]).batch(), 3, level=0.8)
    belief, step = belief_at_the_end(model, x), np.array(TRANSITION)
    for h in range(3):
        belief = belief @ step
        low, high = found.lower[0, 0, h, 0].item(), found.upper[0, 0, h, 0].item()

        def cdf(value, weight=belief):
            return weight @ stats.norm.cdf(value, [0.0, 5.0], np.sqrt([1.0, 0.5]))

        assert cdf(low) == pytest.approx(0.1, abs=1e-9)
        assert cdf(high) == pytest.approx(0.9, abs=1e-9)
        assert found.mean[0, 0, h, 0].item() == pytest.approx(5 * belief[1])
        assert found.variance[0, 0, h, 0].item() == pytest.approx(belief @ [1.0, 0.5] + 25 * belief[0] * belief[1])


def test_intervals_of_counts_are_whole_and_hold_at_least_the_share():
    x = np.array([[3.0], [10.0]])
    model = poisson()
    found = model.forecast(ps.Sequences.from_list([x]).batch(), 2, level=0.9)
    belief = belief_at_the_end(model, x) @ np.array(TRANSITION)
    low, high = found.lower[0, 0, 0, 0].item(), found.upper[0, 0, 0, 0].item()

    def cdf(value):
        return belief @ stats.poisson.cdf(value, [2.0, 9.0])

    assert low == int(low)
    assert cdf(low - 1) < 0.05 <= cdf(low)
    assert cdf(high - 1) < 0.95 <= cdf(high)


def test_far_ahead_the_past_is_forgotten():
    model = gaussian()
    data = ps.Sequences.from_list([np.array([[0.0]]), np.array([[5.0], [5.0]])])
    found = model.forecast(data.batch(), 200)
    stationary = np.array([0.75, 0.25])  # of the transition matrix above
    torch.testing.assert_close(found.mean[0, 0, -1], found.mean[0, 1, -1], atol=1e-9, rtol=0)
    assert found.mean[0, 0, -1, 0].item() == pytest.approx(5 * stationary[1])


def test_after_missing_observations_the_forecast_is_further_ahead():
    model, nan = gaussian(), np.nan
    short, long = np.array([[5.0]]), np.array([[5.0], [nan], [nan]])
    one = model.forecast(ps.Sequences.from_list([short]).batch(), 3)
    other = model.forecast(ps.Sequences.from_list([long]).batch(), 1)
    torch.testing.assert_close(one.mean[:, :, 2:], other.mean, atol=1e-12, rtol=0)


def test_each_sequence_is_forecast_from_its_own_end():
    model = gaussian()
    rows = [np.array([[0.0], [5.0], [4.0]]), np.array([[1.0]])]
    together = model.forecast(ps.Sequences.from_list(rows).batch(), 2)
    for i, x in enumerate(rows):
        alone = model.forecast(ps.Sequences.from_list([x]).batch(), 2)
        torch.testing.assert_close(together.upper[:, i], alone.upper[:, 0], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda m, b: m.forecast(b, 0), "num_steps is 0"),
        (lambda m, b: m.forecast(b, 1, level=90.0), "level is 90"),
        (lambda m, b: m.symbols_ahead(b, 1), "forecast them with forecast"),
    ],
)
def test_bad_requests_are_refused(action, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        action(gaussian(), ps.Sequences.from_list([np.zeros((2, 1))]).batch())
    symbols = ps.HMM(2, ps.emissions.Categorical(3))
    with pytest.raises(ps.InputError, match="symbols_ahead"):
        symbols.forecast(ps.Sequences.from_list([[0]]).batch(), 1)


def test_an_impossible_sequence_has_no_forecast():
    bank = ps.emissions.Poisson.from_parameters([[0.0], [3.0]])
    model = ps.HMM.from_parameters([1.0, 0.0], np.eye(2), bank)
    data = ps.Sequences.from_list([np.array([[0.0]]), np.array([[0.0], [2.0]])])
    with pytest.raises(ps.InputError, match=r"sequences \[1\] are impossible under this model \(restarts \[0\]\)"):
        model.forecast(data.batch(), 1)
    assert model.forecast(data[:1].batch(), 1).mean.item() == 0
    symbols = ps.HMM.from_parameters([1.0, 0.0], np.eye(2), np.eye(2))
    with pytest.raises(ps.InputError, match=r"sequences \[0\] are impossible"):
        symbols.symbols_ahead(ps.Sequences.from_list([[1]]).batch(), 1)


def test_known_states_count_as_observed():
    x = [np.array([[2.5], [2.5]])]
    for state in (0, 1):
        known = ps.Sequences.from_list(x, states=[[-1, state]])
        found = gaussian().forecast(known.batch(), 1).mean.item()
        assert found == pytest.approx(5 * TRANSITION[state][1])
        model = ps.HMM.from_parameters(INITIAL, TRANSITION, [[0.5, 0.5], [0.1, 0.9]])
        ahead = model.symbols_ahead(ps.Sequences.from_list([[0, 0]], states=[[-1, state]]).batch(), 1)[0, 0, 0]
        torch.testing.assert_close(ahead, torch.tensor(TRANSITION[state]).double() @ model.emission.probs[0].detach())


def test_cumulative_probabilities_are_those_of_scipy():
    x = torch.tensor([[-1.0], [0.0], [0.5], [1.0], [7.0]], dtype=torch.float64)
    families = ps.emissions
    cases = [
        (families.Bernoulli.from_parameters([[0.3]]), stats.bernoulli(0.3).cdf),
        (families.Poisson.from_parameters([[4.5]]), stats.poisson(4.5).cdf),
        (families.Gaussian.from_parameters([[1.0]], [[4.0]]), stats.norm(1.0, 2.0).cdf),
        (families.Gaussian.from_parameters([[1.0]], [[[4.0]]], covariance="full"), stats.norm(1.0, 2.0).cdf),
        (
            families.GaussianMixture.from_parameters([[0.2, 0.8]], [[[0.0], [5.0]]], [[[1.0], [9.0]]]),
            lambda v: 0.2 * stats.norm.cdf(v) + 0.8 * stats.norm.cdf(v, 5.0, 3.0),
        ),
    ]
    for bank, expected in cases:
        found = bank.cdf({name: value[0, 0] for name, value in bank.raw.items()}, x).detach().numpy()
        np.testing.assert_allclose(found, expected(x.numpy()), atol=1e-12)
