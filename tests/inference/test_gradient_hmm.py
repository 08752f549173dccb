"""Gradient ascent on the likelihood of hidden Markov models, and of networks of vectors."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from strategies import problems

import probseq as ps

E = ps.emissions
WHOLE = {"batch_size": 100, "schedule": "constant", "warmup_steps": 1}


def symbols(num=30, length=20, seed=0):
    steps = np.random.default_rng(seed).choice([1, 2], p=[0.9, 0.1], size=(num, length))
    return ps.Sequences.from_list(np.cumsum(steps, axis=1) % 4)


def series(num=12, length=40, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    states = [np.cumsum(rng.random(length) < 0.1) % 2 for _ in range(num)]
    values = [rng.normal(100 + 10.0 * s[:, None], 2.0) for s in states]
    for one in values:
        one[rng.random(one.shape) < missing] = np.nan
    return ps.Sequences.from_list(values)


@settings(max_examples=40)
@given(problems())
def test_the_objective_is_that_of_em(problem):
    """On a batch of all data, whatever the family, the structure and what is missing."""
    model, data = problem
    expected = ps.em(copy.deepcopy(model), data, num_steps=1).history
    fit = ps.fit_gradient(model, data, num_steps=1, **WHOLE)
    np.testing.assert_allclose(fit.history, expected, rtol=1e-9, atol=1e-9)
    assert fit.stop_reason == ["max_steps"] * model.num_restarts
    assert all(not p.isnan().any() for p in model.parameters())


@pytest.mark.parametrize("emission", [E.Categorical(4), E.Gaussian(1, "full")], ids=["symbols", "vectors"])
def test_known_states_are_part_of_the_objective_as_in_em(emission):
    rng = np.random.default_rng(0)
    data = symbols(8) if emission.num_symbols else series(8)
    known = np.where(rng.random(data.num_tokens) < 0.3, rng.integers(0, 2, data.num_tokens), -1)
    data = ps.Sequences(data.values, data.offsets, states=known)
    model = ps.HMM(2, emission, num_restarts=3)
    other = copy.deepcopy(model)
    steps = ps.em(other, data, num_steps=500, tol=1e-10)
    fit = ps.fit_gradient(model, data, num_steps=300, learning_rate=0.1, **WHOLE)
    np.testing.assert_allclose(fit.history[0], steps.history[0], rtol=1e-12)
    np.testing.assert_allclose(fit.history[-1], np.nanmax(steps.history, axis=0), atol=2e-3)
    assert (fit.history[-1] < -ps.evaluate(model, data).nats_per_token).all()  # the score leaves the states out


@pytest.mark.parametrize(
    ("emission", "data"),
    [
        (E.Categorical(4, concentration=1.1), symbols(10)),
        (E.Gaussian(1, mean_strength=0.1, covariance_strength=0.1), series(6, 20, missing=0.2)),
        (E.Gaussian(1, covariance="full"), series(6, 20)),
    ],
    ids=["symbols", "diag", "full"],
)
def test_it_climbs_to_where_em_climbs(emission, data):
    model = ps.HMM(2, emission, num_restarts=2, transition_concentration=1.1)
    other = copy.deepcopy(model)
    fit = ps.fit_gradient(model, data, num_steps=200, learning_rate=0.1, **WHOLE)
    best = np.nanmax(ps.em(other, data, num_steps=500, tol=1e-10).history, axis=0)
    np.testing.assert_allclose(fit.history[-1], best, atol=2e-3)
    after = ps.em(model, data, num_steps=1).history[0]  # what is left in the model is what was reached
    np.testing.assert_allclose(after, fit.history[-1], atol=1e-3)


def test_probabilities_of_zero_and_fixed_parts_stay():
    mask = ps.masks.left_to_right(3)
    model = ps.HMM(3, E.Categorical(4), transition_mask=mask, fixed=("emission",), initial_mask=ps.masks.first_state(3))
    before = copy.deepcopy(model)
    fit = ps.fit_gradient(model, symbols(), num_steps=20, learning_rate=0.1, **WHOLE)
    assert fit.stop_reason == ["max_steps"]
    assert torch.equal(model.emission.probs, before.emission.probs)
    assert (model.transition[:, ~mask] == 0).all()
    assert model.initial[0].tolist() == [1.0, 0.0, 0.0]
    assert not torch.allclose(model.transition, before.transition)


def test_restarts_fitted_together_equal_lone_fits():
    data, validation = symbols(), symbols(8, seed=1)
    model = ps.HMM(3, E.Categorical(4), num_restarts=3)
    lone = [model.take([r]) for r in range(3)]
    options = {"num_steps": 30, "learning_rate": 0.1, "batch_size": 8, "warmup_steps": 2, "eval_every": 10}
    fit = ps.fit_gradient(model, data, validation, **options)
    for r, one in enumerate(lone):
        alone = ps.fit_gradient(one, data, validation, **options)
        np.testing.assert_array_equal(alone.history[:, 0], fit.history[:, r])
        np.testing.assert_array_equal(alone.validation[:, 0], fit.validation[:, r])
        assert torch.equal(one.transition[0], model.transition[r])


def test_the_best_weights_on_validation_are_restored():
    train, validation = symbols(2), symbols(20, seed=1)  # too little data: it overfits
    model = ps.HMM(4, E.Categorical(4), num_restarts=2)
    fit = ps.fit_gradient(
        model, train, validation, num_steps=300, learning_rate=0.2, eval_every=10, patience=4, **WHOLE
    )
    assert fit.stop_reason == ["early_stopping"] * 2
    reached = -ps.evaluate(model, validation).nats_per_token
    np.testing.assert_allclose(reached, np.nanmax(fit.validation, axis=0), atol=1e-12)
    assert (reached > fit.validation[-1] + 1e-4).any()


def test_an_impossible_start_ends_a_restart_and_harms_no_other():
    data, model = symbols(), ps.HMM(2, E.Categorical(4), num_restarts=3)
    with torch.no_grad():
        model.emission.logits[1, :, 3] = -torch.inf
    before, lone = model.take([1]), model.take([2])
    fit = ps.fit_gradient(model, data, num_steps=10, learning_rate=0.1, **WHOLE)
    assert fit.stop_reason == ["max_steps", "nonfinite", "max_steps"]
    assert torch.equal(model.transition[1], before.transition[0])
    alone = ps.fit_gradient(lone, data, num_steps=10, learning_rate=0.1, **WHOLE)
    np.testing.assert_array_equal(alone.history[:, 0], fit.history[:, 2])


def test_inputs_that_drive_transitions_are_learned():
    """States follow an input of +1 or -1; without it they are coin flips."""
    rng = np.random.default_rng(0)
    inputs = [rng.choice([-1.0, 1.0], size=(30, 1)) for _ in range(20)]
    values = [(u[:, 0] > 0).astype(int) for u in inputs]
    data = ps.Sequences.from_list(values, source=ps.Sequences.from_list(inputs))
    model = ps.InputHMM(2, E.Categorical(2), num_inputs=1)
    fit = ps.fit_gradient(model, data, num_steps=150, learning_rate=0.2, **WHOLE)
    assert fit.history[-1, 0] > -0.1 > -np.log(2) > fit.history[0, 0] - 0.5
    with pytest.raises(ps.InputError, match="fit it with fit_gradient"):
        ps.em(model, data)


def test_a_start_that_needs_data_is_made_from_them():
    model = ps.HMM(2, E.Gaussian(1), start="kmeans")
    assert not model.initialized
    fit = ps.fit_gradient(model, series(), num_steps=1, **WHOLE)
    assert model.initialized
    assert fit.history[0, 0] > -3  # in units of the data, which are far from 0 and 1


def test_networks_learn_the_units_of_vectors_first():
    data = series()
    net = ps.Autoregressive([ps.GRU(hidden_dim=8, emission=E.Gaussian(1))])
    fit = ps.fit_gradient(
        net, data, series(4, seed=1), num_steps=100, batch_size=12, learning_rate=0.02, warmup_steps=5
    )
    location = net.nets[0].location.clone()
    assert abs(location.item() - 105) < 3
    assert fit.history[0, 0] > -5
    assert fit.history[-1, 0] > fit.history[0, 0] + 0.3
    ps.fit_gradient(net, series(seed=3), num_steps=1)
    assert torch.equal(net.nets[0].location, location)  # a second fit goes on from the first


def test_validation_counts_what_was_observed():
    """Nats per observed token, as `evaluate` counts them."""
    validation = series(5, seed=1, missing=0.3)
    model = ps.HMM(2, E.Gaussian(1))
    fit = ps.fit_gradient(model, series(), validation, num_steps=2, **WHOLE)
    assert -ps.evaluate(model, validation).nats_per_token[0] == pytest.approx(fit.validation[0, 0])


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: ps.NGram(4), "fits networks and hidden Markov models; received NGram"),
        (lambda: ps.VariationalHMM(2, E.Categorical(4)), "fit it with em"),
        (lambda: ps.HMM(2, E.Categorical(4), fixed=("initial", "transition", "emission")), "every part .* is fixed"),
    ],
)
def test_what_has_no_gradient_is_refused(model, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.fit_gradient(model(), symbols())


def test_data_of_which_nothing_was_observed_are_refused():
    data = ps.Sequences.from_list([[[np.nan], [np.nan]]])
    for fit in (ps.em, ps.fit_gradient):
        with pytest.raises(ps.InputError, match=r"every token of .* missing"):
            fit(ps.HMM(2, E.Gaussian(1)), data)
