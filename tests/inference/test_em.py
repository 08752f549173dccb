import numpy as np
import pytest
import torch
from hypothesis import given
from strategies import chains

import probseq as ps
from probseq.inference.em import ObjectiveDecreased


def casino(num=20, length=60, seed=0):
    rng = np.random.default_rng(seed)
    loaded = np.cumsum(rng.random((num, length)) < 0.1, axis=1) % 2
    rolls = np.where(loaded & (rng.random((num, length)) < 0.5), 5, rng.integers(0, 6, (num, length)))
    return ps.Sequences.from_list(rolls)


@given(chains())
def test_the_objective_never_falls(case):
    model, data = case
    fit = ps.em(model, data, num_steps=6, tol=0)
    for r in range(model.num_restarts):
        curve = fit.history[: fit.num_steps[r], r]
        assert (np.diff(curve) >= -1e-12).all()
    if model.transition.min() > 0:  # with a step that cannot happen, data may be impossible
        assert "nonfinite" not in fit.stop_reason


def test_the_objective_includes_the_prior():
    data = casino()
    emission = ps.emissions.Categorical(6, concentration=3.0)
    model = ps.HMM(2, emission, initial_concentration=1.5, transition_concentration=2.0)
    parts = [p[0].detach().float() for p in (model.initial, model.transition, model.emission.probs)]
    prior = (
        torch.distributions.Dirichlet(torch.full((2,), 1.5)).log_prob(parts[0])
        + torch.distributions.Dirichlet(torch.full((2,), 2.0)).log_prob(parts[1]).sum()
        + torch.distributions.Dirichlet(torch.full((6,), 3.0)).log_prob(parts[2]).sum()
    )
    constant = sum(
        rows * (np.log(1.0) + torch.lgamma(torch.tensor(a * size)) - size * torch.lgamma(torch.tensor(a)))
        for rows, size, a in ((1, 2, 1.5), (2, 2, 2.0), (2, 6, 3.0))
    )
    likelihood = model.token_log_prob(data.batch()).sum().item()
    fit = ps.em(model, data, num_steps=1)
    assert fit.history[0, 0] == pytest.approx((likelihood + float(prior - constant)) / data.num_tokens, abs=1e-6)


def test_map_is_the_mode_of_the_posterior():
    """With one state EM's first step is the closed-form mode: (n + a - 1) / sum."""
    data = ps.Sequences.from_list([[0, 0, 1], [0, 2]], weights=[2.0, 1.0])
    model = ps.HMM(1, ps.emissions.Categorical(4, concentration=2.0))
    ps.em(model, data, num_steps=1)
    counts = torch.tensor([5.0, 2.0, 1.0, 0.0], dtype=torch.float64) + 1
    torch.testing.assert_close(model.emission.probs[0, 0].detach(), counts / counts.sum())


def test_restarts_leave_when_they_have_converged():
    fit = ps.em(ps.HMM(2, ps.emissions.Categorical(6), num_restarts=5), casino(), num_steps=400, tol=1e-6)
    assert set(fit.stop_reason) == {"converged"}
    assert len(set(fit.num_steps)) > 1
    for r, steps in enumerate(fit.num_steps):
        curve = fit.history[:, r]
        assert np.isnan(curve[steps:]).all()
        rise = np.diff(curve[:steps]) / np.maximum(1, np.abs(curve[: steps - 1]))
        assert rise[-1] <= 1e-6
        assert (rise[:-1] > 1e-6).all()


def test_budgets_end_a_fit():
    assert ps.em(ps.HMM(2, ps.emissions.Categorical(6)), casino(), num_steps=3).stop_reason == ["max_steps"]
    fit = ps.em(ps.HMM(2, ps.emissions.Categorical(6)), casino(), num_steps=10**6, tol=0, seconds=0.2)
    assert fit.stop_reason == ["max_seconds"]
    assert fit.seconds < 5


def test_a_restart_that_turns_nonfinite_harms_no_other():
    data = casino()
    model = ps.HMM(2, ps.emissions.Categorical(6), num_restarts=3)
    with torch.no_grad():
        model.emission.logits[1, :, 5] = -torch.inf  # the data has sixes
    lone = [model.select(0), model.select(2)]
    broken = model.select(1).emission.probs
    fit = ps.em(model, data, num_steps=10, tol=0)
    assert fit.stop_reason == ["max_steps", "nonfinite", "max_steps"]
    assert torch.equal(model.emission.probs[1], broken[0])  # left as it was, and no NaN
    for alone, r in zip(lone, (0, 2), strict=True):
        other = ps.em(alone, data, num_steps=10, tol=0)
        np.testing.assert_allclose(other.history[:, 0], fit.history[:, r], atol=1e-12)
    assert all(p.isfinite().all() for p in model.select(0).parameters())


def test_a_fall_of_the_objective_raises_and_keeps_the_fit():
    class Wrong(ps.HMM):
        def m_step(self, counts):
            self.emission.logits.data.add_(torch.randn_like(self.emission.logits) * 2)

    model, data = Wrong(2, ps.emissions.Categorical(6), num_restarts=2), casino()
    with pytest.raises(ObjectiveDecreased, match="restarts") as caught:
        ps.em(model, data, num_steps=50)
    fit = caught.value.fit
    assert "decreased" in fit.stop_reason
    reached = -ps.evaluate(model, data).nats_per_token
    for r, why in enumerate(fit.stop_reason):
        if why == "decreased":  # the parameters before the fall are kept
            assert reached[r] == pytest.approx(fit.history[fit.num_steps[r] - 2, r], abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_almost_certain_data_does_not_turn_nonfinite(dtype):
    """Posteriors below the rounding error of the adjoint must not become negative counts."""
    rng = np.random.default_rng(0)
    steps = rng.choice([1, 2], p=[0.99, 0.01], size=(20, 200))
    data = ps.Sequences.from_list(np.cumsum(steps, axis=1) % 6)
    model = ps.HMM(6, ps.emissions.Categorical(6), num_restarts=6, dtype=dtype)
    fit = ps.em(model, data, num_steps=100)
    assert set(fit.stop_reason) <= {"converged", "max_steps"}
    assert all(p.isfinite().all() for p in (model.initial, model.transition, model.emission.probs))
    assert (model.posterior_marginals(data.batch()) >= 0).all()


def test_a_state_without_data_stays_finite():
    model = ps.HMM.from_parameters([1.0, 0.0], [[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.1, 0.9]])
    ps.em(model, ps.Sequences.from_list([[0, 1, 1, 0]]), num_steps=5, tol=0)
    torch.testing.assert_close(model.emission.probs[0, 1].detach(), torch.tensor([0.1, 0.9], dtype=torch.float64))
    assert not any(p.isnan().any() for p in (model.initial, model.transition, model.emission.probs))


@pytest.mark.parametrize("data", [[[1]], [[0], [1]], [[2, 2, 2, 2]]])
def test_one_token_one_symbol_and_more_states_than_tokens(data):
    model = ps.HMM(5, ps.emissions.Categorical(3), num_restarts=2)
    fit = ps.em(model, ps.Sequences.from_list(data), num_steps=20)
    assert np.isfinite(fit.history[0]).all()
    assert model.token_log_prob(ps.Sequences.from_list(data).batch()).isfinite().all()


def test_weights_are_repeats():
    once = ps.Sequences.from_list([[0, 1, 2], [2, 1]], weights=[3.0, 1.0])
    thrice = ps.Sequences.from_list([[0, 1, 2], [0, 1, 2], [0, 1, 2], [2, 1]])
    fits = [ps.em(ps.HMM(2, ps.emissions.Categorical(3)), data, num_steps=5, tol=0) for data in (once, thrice)]
    np.testing.assert_allclose(fits[0].history, fits[1].history, atol=1e-12)


def test_small_batches_give_the_same_steps():
    fits = [
        ps.em(ps.HMM(2, ps.emissions.Categorical(6), num_restarts=2), casino(), num_steps=5, max_tokens=size)
        for size in (100, 10**6)
    ]
    np.testing.assert_allclose(fits[0].history, fits[1].history, atol=1e-12)


def test_near_uniform_starts_stay_near_the_saddle():
    """The named trap: EM hardly moves in 20 steps from near-uniform parameters, and does from Dirichlet draws."""
    data = casino()
    spread = {}
    for start in ("near_uniform", "dirichlet"):
        model = ps.HMM(2, ps.emissions.Categorical(6), num_restarts=4, start=start)
        fit = ps.em(model, data, num_steps=20, tol=0)
        spread[start] = model.emission.probs.diff(dim=1).abs().max().item()
        assert np.isfinite(fit.history).all()
    assert spread["near_uniform"] < 0.1 * spread["dirichlet"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"tol": -1.0}, "tol is -1"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.em(ps.HMM(2, ps.emissions.Categorical(6)), casino(), **options)


def test_a_network_has_no_e_step():
    with pytest.raises(ps.InputError, match="no E-step"):
        ps.em(ps.Autoregressive([ps.RNN(3, 4)]), casino())


def test_batches_beyond_the_cache_are_made_anew(monkeypatch):
    """A cache that holds nothing, one that holds the first batches only, and one that holds all of them."""
    data, fits = casino(), []
    for size in (0, 2000, 2**30):
        monkeypatch.setattr("probseq.inference.em_step._CACHE_BYTES", size)
        fits.append(ps.em(ps.HMM(2, ps.emissions.Categorical(6)), data, num_steps=5, tol=0, max_tokens=200).history)
    assert np.array_equal(fits[0], fits[1])
    assert np.array_equal(fits[0], fits[2])


def test_batches_that_fit_are_made_once(monkeypatch):
    made, batches = [], ps.Sequences.batches
    monkeypatch.setattr(ps.Sequences, "batches", lambda *args, **kwargs: made.append(1) or batches(*args, **kwargs))
    ps.em(ps.HMM(2, ps.emissions.Categorical(6)), casino(), num_steps=5, tol=0)
    assert len(made) == 1


def test_it_never_claims_to_have_converged_at_the_cap():
    """As many steps as are allowed, the last of them still climbing."""
    fit = ps.em(ps.HMM(2, ps.emissions.Categorical(6), num_restarts=3), casino(), num_steps=3)
    assert fit.stop_reason == ["max_steps"] * 3
    assert (fit.history[-1] - fit.history[-2] > 1e-6 * np.abs(fit.history[-2])).all()


@pytest.mark.parametrize("covariance", ["diag", "full", "tied", "spherical"])
@pytest.mark.parametrize("values", [[[[2.0, 1.0]]], [[[2.0, 1.0]] * 6], [[[1.0, 0.0], [1.0, 0.0]], [[3.0, 1.0]]]])
def test_one_vector_constant_vectors_and_more_states_than_vectors(covariance, values):
    data = ps.Sequences.from_list(values)
    model = ps.HMM(4, ps.emissions.Gaussian(2, covariance=covariance), num_restarts=2)
    fit = ps.em(model, data, num_steps=20, tol=0)
    assert np.isfinite(fit.history[0]).all()
    assert "nonfinite" not in fit.stop_reason
    assert all(p.isfinite().all() for p in (model.initial, model.transition, *model.emission.parameters()))


def test_what_is_missing_is_neither_counted_nor_scored():
    """Missing steps at the ends of sequences change nothing, and the objective is per observed token."""
    data = casino(6)
    holes = [np.append(one, [0, 0]) for one in data]
    gone = [np.append(np.zeros(len(one), bool), [True, True]) for one in data]
    longer = ps.Sequences.from_list(holes, missing=gone)
    fits = [ps.em(ps.HMM(2, ps.emissions.Categorical(6)), d, num_steps=1) for d in (data, longer)]
    np.testing.assert_allclose(fits[0].history, fits[1].history, rtol=1e-12)
    torch.testing.assert_close(fits[0].model.emission.probs, fits[1].model.emission.probs)


def levels(scale=1.0, seed=0):
    """Two levels 5,000 standard deviations apart."""
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.random(400) < 0.05) % 2
    return ps.Sequences.from_list([scale * (5000.0 * states + rng.normal(size=400))[:, None]]), states


@pytest.mark.parametrize("covariance", ["diag", "full", "spherical", "tied"])
def test_states_are_as_narrow_as_their_data(covariance):
    data, states = levels()
    model = ps.HMM(2, ps.emissions.Gaussian(1, covariance), num_restarts=3, start="kmeans")
    ps.em(model, data)
    of_state = np.array([data.values[states == k].var() for k in (0, 1)])
    expected = np.full(2, np.average(of_state, weights=np.bincount(states))) if covariance == "tied" else of_state
    found = np.sort(model.emission.covariances.detach().numpy()[:, :, 0, 0], axis=1)
    np.testing.assert_allclose(found, np.tile(np.sort(expected), (3, 1)), rtol=1e-6)


def test_an_outlier_does_not_widen_the_rest():
    values = np.random.default_rng(0).normal(size=(500, 1))
    values[250] = 1e5
    model = ps.HMM(2, ps.emissions.Gaussian(1), num_restarts=3, start="kmeans")
    ps.em(model, ps.Sequences.from_list([values]))
    rest = np.delete(values, 250)
    covered = model.emission.covariances.flatten(1).amax(1)
    np.testing.assert_allclose(covered.detach(), rest.var(), rtol=1e-3)


@pytest.mark.parametrize("emission", [ps.emissions.Gaussian(1, "full"), ps.emissions.GaussianMixture(1, 2)])
def test_the_floor_follows_the_data_of_each_fit(emission):
    """Fitted to one unit and then to another, a model ends where it ends from a fit of the second alone."""
    (large, _), (small, _) = levels(1e9), levels(1.0)
    again, once = (ps.HMM(2, emission, start="kmeans") for _ in range(2))
    ps.em(again, large)
    with torch.no_grad():
        again.emission.mean *= 1e-9
    ps.em(again, small)
    ps.em(once, small)
    assert torch.equal(again.emission.scale, once.emission.scale)
    np.testing.assert_allclose(
        -ps.evaluate(again, small).nats_per_token, -ps.evaluate(once, small).nats_per_token, atol=0.01
    )
    before = again.emission.scale.clone()
    ps.fit_gradient(again, large, num_steps=1)
    assert (again.emission.scale > 1e8 * before).all()


def test_given_parameters_are_where_a_fit_begins():
    """Whatever the data's scale: the first objective is that of the parameters as they were given."""
    data, _ = levels()
    emission = ps.emissions.Gaussian.from_parameters([[0.0], [5000.0]], [[0.5], [2.0]])
    model = ps.HMM.from_parameters([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], emission)
    given_ = -ps.evaluate(model, data).nats_per_token
    np.testing.assert_allclose(ps.em(model, data, num_steps=1).history[0], given_, rtol=1e-12)


@pytest.mark.parametrize("wrong", [np.zeros((5, 1)), casino(2).batch(), [[0, 1]], None])
def test_what_is_no_data_set_is_refused(wrong):
    model = ps.HMM(2, ps.emissions.Categorical(6))
    for fit in (ps.em, ps.fit_gradient):
        with pytest.raises(ps.InputError, match=f"data holds a {type(wrong).__name__}; expected Sequences"):
            fit(model, wrong)
