import copy

import numpy as np
import pytest
import torch

import probseq as ps
from probseq.inference.acceleration import SquaremStep


def letters(num=30, length=60):
    """Symbols from a chain of 4 states that overlap."""
    truth = ps.HMM(4, ps.emissions.Categorical(8), seed=11)
    return truth.sample(num, length, generator=torch.Generator().manual_seed(0))


def series():
    rng = np.random.default_rng(0)
    states = [np.cumsum(rng.random(100) < 0.1) % 3 for _ in range(8)]
    return ps.Sequences.from_list([rng.normal(np.array([0.0, 1.0, 2.0])[s][:, None], 0.7) for s in states])


def steps_to(fit, gap):
    """E-steps of each restart until its objective is within `gap` of its last."""
    return [
        int(np.argmax(curve[:n] >= curve[n - 1] - gap)) for curve, n in zip(fit.history.T, fit.num_steps, strict=True)
    ]


@pytest.mark.parametrize(
    ("emission", "data"),
    [
        (ps.emissions.Categorical(8), letters()),  # probabilities run to 0
        (ps.emissions.Categorical(8, concentration=1.1), letters()),
        (ps.emissions.Gaussian(1), series()),
    ],
    ids=["likelihood", "posterior", "vectors"],
)
def test_far_fewer_e_steps_are_needed(emission, data):
    model = ps.HMM(3, emission, num_restarts=5)
    fits = [ps.em(copy.deepcopy(model), data, num_steps=400, tol=1e-10, accelerate=a) for a in (False, True)]
    plain, fast = (sum(steps_to(fit, 1e-5)) for fit in fits)
    assert fast < 0.7 * plain


def test_converged_runs_are_at_a_fixed_point_of_em():
    data = letters()
    model = ps.HMM(3, ps.emissions.Categorical(8), num_restarts=4)
    fit = ps.em(model, data, num_steps=2000, tol=1e-9, accelerate=True)
    assert fit.stop_reason == ["converged"] * 4
    assert np.diff(ps.em(model, data, num_steps=2, tol=0).history, axis=0).max() < 1e-8


def test_a_trial_that_fails_changes_nothing(monkeypatch):
    """Steps that lead astray leave plain EM, whose steps it then makes two of three times."""
    data, model = letters(20), ps.HMM(3, ps.emissions.Categorical(8), num_restarts=2)
    monkeypatch.setattr(SquaremStep, "_length", lambda self, changes: torch.full((len(self.running),), -40.0).double())
    accelerated = ps.em(copy.deepcopy(model), data, num_steps=12, tol=0, accelerate=True).history
    plain = ps.em(model, data, num_steps=8, tol=0).history
    np.testing.assert_allclose(accelerated[np.arange(12) % 3 < 2], plain, rtol=1e-12)
    np.testing.assert_array_equal(accelerated[2::3], accelerated[1::3])


def test_a_step_of_length_one_is_a_step_of_em(monkeypatch):
    data, model = letters(20), ps.HMM(3, ps.emissions.Categorical(8), num_restarts=2)
    monkeypatch.setattr(SquaremStep, "_length", lambda self, changes: torch.ones(len(self.running)).double())
    accelerated = ps.em(copy.deepcopy(model), data, num_steps=9, tol=0, accelerate=True).history
    np.testing.assert_allclose(accelerated, ps.em(model, data, num_steps=9, tol=0).history, rtol=1e-12)


def test_the_long_step_lands_where_a_linear_contraction_ends():
    """With every change shrinking by the same factor, one long step is exact: theta' is the fixed point."""

    class Line(torch.nn.Module):
        """EM with a map x -> 0.9 x, objective -x^2, and one parameter for each restart."""

        num_restarts = 2

        def __init__(self, start=(1.0, -3.0)):
            super().__init__()
            self.x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64)[:, None])

        def e_step(self, batch):
            from probseq.models.hmm import Statistics

            log_likelihood = -(self.x.detach() ** 2) * torch.ones(1, len(batch.lengths))
            return Statistics(log_likelihood, *(self.x.detach().clone() for _ in range(3)))

        def m_step(self, statistics):
            self.x.data.mul_(0.9)

        def log_prior(self):
            return torch.zeros(2, dtype=torch.float64)

    step = SquaremStep(Line(), ps.Sequences.from_list([[0]]), 0.0, 10)
    step.longest[:] = 100.0  # as after a few successes
    for number in range(3):
        step(number, [0, 1])
    assert step.model.x.abs().max() < 1e-12


def test_impossible_data_end_a_restart_and_harm_no_other():
    data = letters(20)
    model = ps.HMM(3, ps.emissions.Categorical(8), num_restarts=3)
    lone = model.take([2])
    with torch.no_grad():
        model.emission.logits[1, :, 5] = -torch.inf
    fit = ps.em(model, data, num_steps=10, tol=0, accelerate=True)
    assert fit.stop_reason == ["max_steps", "nonfinite", "max_steps"]
    alone = ps.em(lone, data, num_steps=10, tol=0, accelerate=True)
    np.testing.assert_allclose(alone.history[:, 0], fit.history[:, 2], atol=1e-12)


@pytest.mark.parametrize(("covariance", "seed"), [("full", 0), ("tied", 1)])
def test_points_that_nearly_coincide(covariance, seed):
    """Covariances at their floor, from which a long step leads to where no M-step could: it has to be put back."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(2, 3))
    data = ps.Sequences.from_list([points[rng.integers(0, 2, 12)] + 1e-4 * rng.normal(size=(12, 3)) for _ in range(4)])
    model = ps.HMM(2, ps.emissions.Gaussian(3, covariance=covariance), num_restarts=3)
    fit = ps.em(model, data, num_steps=45, tol=0, accelerate=True)  # a fall would raise
    assert np.isfinite(fit.history[0]).all()


def test_probabilities_of_zero_do_not_stop_long_steps():
    data, mask = letters(20), ps.masks.left_to_right(3)
    model = ps.HMM(3, ps.emissions.Categorical(8), num_restarts=2, transition_mask=mask)
    plain = ps.em(copy.deepcopy(model), data, num_steps=30, tol=0).history
    fast = ps.em(model, data, num_steps=30, tol=0, accelerate=True).history
    assert (fast[-1] > plain[-1]).all()
    assert (model.transition[:, ~mask] == 0).all()


def test_the_last_parameters_are_no_trial():
    """Whenever the budget ends, the model is at least as good as the history says."""
    data = letters(20)
    for num_steps in range(1, 8):
        model = ps.HMM(3, ps.emissions.Categorical(8), num_restarts=2)
        fit = ps.em(model, data, num_steps=num_steps, tol=0, accelerate=True)
        assert (-ps.evaluate(model, data).nats_per_token >= fit.history[-1] - 1e-12).all()


@pytest.mark.parametrize(
    "emission",
    [ps.emissions.Gaussian(2), ps.emissions.Gaussian(2, "full"), ps.emissions.GaussianMixture(2, 2)],
    ids=["diag", "full", "mixture"],
)
def test_the_unit_of_the_data_does_not_matter(emission):
    """As many E-steps in any unit, each to the same objective but for the logarithm of the unit."""
    rng = np.random.default_rng(0)
    values = series().values[:, [0, 0]] * [1.0, 3.0] + rng.normal(size=(800, 2))
    histories = []
    for unit in (1.0, 1e-3, 1e3):
        data = ps.Sequences(unit * values, np.arange(0, 801, 100))
        model = ps.HMM(3, emission, num_restarts=3)
        fit = ps.em(model, data, num_steps=30, tol=0, accelerate=True)
        histories.append(fit.history + 2 * np.log(unit))
    np.testing.assert_allclose(histories[1:], [histories[0]] * 2, atol=1e-7)
    assert all(np.array_equal(one[2::3] == one[1::3], histories[0][2::3] == histories[0][1::3]) for one in histories)


def test_weights_of_probabilities_vanish_with_them():
    """A number that runs to where its probability is 0 or 1 stops counting, whatever it is called."""
    binary, mixture = ps.emissions.Bernoulli(1), ps.emissions.GaussianMixture(1, 2)
    logits = torch.tensor([-60.0, 0.0, 60.0])
    assert binary.weight("logits", logits).tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-9)
    weights = mixture.weight("weight_logits", torch.tensor([[0.0, -80.0], [50.0, 50.0]]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]))
    assert mixture.weight("log_scale", torch.tensor([-80.0])).item() == 1.0
