import copy

import numpy as np
import pytest
import torch
from bayesian import FAMILIES, data_for

import probseq as ps
from probseq.inference import svi as module
from probseq.inference.starts import initialize

E = ps.emissions
DATA = ps.Sequences.from_list([[0, 1, 2, 1, 0, 1], [2, 1], [1, 1, 0], [0, 1, 0, 0, 2], [2, 2, 1, 0]])
PLANE = ps.Sequences.from_list(list(np.random.default_rng(0).normal(size=(5, 4, 2))))
GUIDES = ("mean_field", "structured")


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("family", [E.Categorical(3), E.Gaussian(2, covariance="full")], ids=["symbols", "plane"])
def test_restarts_together_equal_lone_fits(family, batch_size, guide):
    data = DATA if family.num_symbols else PLANE
    settings = {"num_steps": 6, "batch_size": batch_size, "num_particles": 2, "seed": 5}
    start = ps.BayesianHMM(2, family, num_restarts=3, guide=guide)
    initialize(start, data)
    lone = [copy.deepcopy(start.select(r)) for r in range(3)]
    together = ps.svi(start, data, **settings)
    for r, model in enumerate(lone):
        alone = ps.svi(model, data, **settings)
        np.testing.assert_allclose(alone.history[:, 0], together.history[:, r], atol=1e-11)
        for name, value in together.model.named_parameters():
            torch.testing.assert_close(dict(model.named_parameters())[name][0], value[r], atol=1e-9, rtol=0)


def test_restarts_differ_in_their_noise():
    model = ps.BayesianHMM(2, E.Categorical(3)).take([0, 0])
    model.numbers = [0, 1]
    history = ps.svi(model, DATA, num_steps=3).history
    assert (history[:, 0] != history[:, 1]).all()
    again = ps.svi(ps.BayesianHMM(2, E.Categorical(3)), DATA, num_steps=3, seed=1).history
    assert (again[:, 0] != history[:, 0]).all()


def test_all_restarts_see_the_same_minibatches():
    """Every sequence once in each pass, in an order that the seed says; what does not fill a batch is left out."""
    batches = module._batches(DATA, 2, 3, torch.device("cpu"))
    seen = [next(batches)[0].index.tolist() for _ in range(6)]
    assert [len({*seen[i], *seen[i + 1]}) for i in (0, 2, 4)] == [4, 4, 4]
    assert seen[:2] != seen[2:4]
    again = module._batches(DATA, 2, 3, torch.device("cpu"))
    assert [next(again)[0].index.tolist() for _ in range(6)] == seen
    other = module._batches(DATA, 2, 4, torch.device("cpu"))
    assert [next(other)[0].index.tolist() for _ in range(6)] != seen


@pytest.mark.parametrize("name", ["categorical", "poisson", "full"])
def test_one_state_is_fitted_to_the_exact_posterior(name):
    """Its bound is the evidence, and all its numbers are those of the conjugate posterior."""
    data, exact = data_for(name), ps.VariationalHMM(1, FAMILIES[name], emission_concentration=0.5)
    ps.em(exact, data)
    model = ps.BayesianHMM(1, FAMILIES[name], emission_concentration=0.5)
    ps.svi(model, data, num_steps=180, learning_rate=0.2)
    torch.testing.assert_close(model.elbo(data, num_particles=5), exact.elbo(data), atol=5e-3, rtol=0)
    for part, value in {**exact.emission.raw, "log_emission_strength": exact.log_emission_strength}.items():
        found = {**model.emission.raw, "log_emission_strength": model.log_emission_strength}[part]
        if part == "logits":
            found, value = found.log_softmax(-1) if name == "categorical" else found, value.detach()
        torch.testing.assert_close(found, value, atol=0.02, rtol=0, check_dtype=False)


@pytest.mark.parametrize("guide", GUIDES)
def test_it_climbs_above_variational_bayes(guide):
    """Whose bound is looser, from the same starts."""
    truth = ps.HMM.from_parameters([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    data = truth.sample(10, 20, generator=torch.Generator().manual_seed(0))
    variational = ps.VariationalHMM(2, E.Categorical(3), num_restarts=3)
    ps.em(variational, data)
    model = ps.BayesianHMM(2, E.Categorical(3), num_restarts=3, guide=guide)
    before = model.elbo(data)
    ps.svi(model, data, num_steps=200)
    assert (model.elbo(data) > before + 5).all()
    assert model.elbo(data).max() > variational.elbo(data).max()


def test_the_history_is_the_bound_per_token():
    data = ps.Sequences.from_list(
        [[0, 1, 0, 2], [1, 0]], weights=[2.0, 1.0], missing=[np.arange(4) == 2, np.zeros(2, bool)]
    )
    model = ps.BayesianHMM(2, E.Categorical(3), num_restarts=2)
    expected = model.elbo(data, num_particles=4, seed=7) / 8
    fit = ps.svi(model, data, num_steps=1, num_particles=4, seed=7)
    np.testing.assert_allclose(fit.history[0], expected.numpy(), atol=1e-12)
    assert fit.objective == "evidence lower bound per token (nats), estimated"
    assert fit.stop_reason == ["max_steps", "max_steps"]


def test_where_a_fit_ended_is_computed_from_all_data():
    """With many draws, not with those of the last minibatch; a restart without parameters has no number."""
    model = ps.BayesianHMM(2, E.Categorical(3), num_restarts=3)
    with torch.no_grad():
        model.log_transition[1] = torch.nan
    fit = ps.svi(model, DATA, num_steps=100, batch_size=1)
    draws = model.elbo_draws(DATA, num_particles=20).numpy() / float(DATA.num_observed.sum())
    final, error = (np.array(fit.details[key]) for key in ("final", "final_standard_error"))
    np.testing.assert_allclose(final, draws.mean(0), atol=1e-12)
    np.testing.assert_allclose(error, draws.std(0, ddof=1) / 20**0.5, atol=1e-12)
    assert np.isnan(final).tolist() == [False, True, False]
    assert fit.seconds > 0


def test_batches_of_memory_change_nothing(monkeypatch):
    fits = []
    for size in (2**20, 6):
        monkeypatch.setattr(module, "_MAX_TOKENS", size)
        fits.append(ps.svi(ps.BayesianHMM(2, E.Categorical(3), num_restarts=2), DATA, num_steps=5).history)
    np.testing.assert_allclose(*fits, atol=1e-12)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_restart_that_begins_nowhere_leaves_and_the_others_go_on(guide):
    model = ps.BayesianHMM(2, E.Categorical(3), num_restarts=3, guide=guide)
    lone = model.select(2)
    with torch.no_grad():
        model.log_transition[1] = torch.nan
    before = copy.deepcopy(model.state_dict())
    fit = ps.svi(model, DATA, num_steps=6)
    assert fit.stop_reason == ["max_steps", "nonfinite", "max_steps"]
    assert fit.num_steps.tolist() == [6, 0, 6]
    alone = ps.svi(lone, DATA, num_steps=6)
    np.testing.assert_allclose(fit.history[:, 2], alone.history[:, 0], atol=1e-11)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value[1], before[name][1], equal_nan=True)


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_restart_that_diverges_goes_back_to_its_last_good_parameters(what, monkeypatch):
    settings = {"num_steps": 6, "batch_size": 2}
    start = ps.BayesianHMM(2, E.Categorical(3), num_restarts=3)
    lone = start.select(1)
    climb = module.SVIStep._climb

    def broken(self, batches, number):
        objective, gradients = climb(self, batches, number)
        if number == 4 and len(self.running) == 3:
            if what == "value":
                objective[1] = -torch.inf
            else:
                gradients["log_initial"][1, 0] = -torch.inf
        return objective, gradients

    monkeypatch.setattr(module.SVIStep, "_climb", broken)
    fit = ps.svi(start, DATA, **settings)
    assert fit.stop_reason == ["max_steps", "nonfinite", "max_steps"]
    states = []
    keep = module.SVIStep.__call__

    def noted(self, number, active):
        states.append(self.current.transition.detach().clone())
        return keep(self, number, active)

    monkeypatch.setattr(module.SVIStep, "__call__", noted)
    alone = ps.svi(lone, DATA, **settings)
    np.testing.assert_allclose(fit.history[:4, 1], alone.history[:4, 0], atol=1e-11)
    torch.testing.assert_close(start.transition[1].detach(), states[3][0])  # step 4 found the parameters bad


def test_an_infinite_step_is_taken_back():
    model = ps.BayesianHMM(2, E.Categorical(3), num_restarts=2)
    before = copy.deepcopy(model.state_dict())
    fit = ps.svi(model, DATA, num_steps=3, learning_rate=1e308)
    assert set(fit.stop_reason) == {"nonfinite"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_fixed_stays():
    model = ps.BayesianHMM(2, E.Categorical(3), fixed=("emission",), num_restarts=2)
    before = copy.deepcopy(model)
    ps.svi(model, DATA, num_steps=5)
    for name in ("emission.logits", "log_emission_strength"):
        assert torch.equal(model.get_parameter(name), before.get_parameter(name))
    assert not torch.allclose(model.log_transition, before.log_transition)
    assert not torch.allclose(model.log_transition_strength, before.log_transition_strength)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"log_initial", "log_transition"}


@pytest.mark.parametrize("guide", GUIDES)
def test_what_a_mask_forbids_stays_impossible(guide):
    model = ps.BayesianHMM(3, E.Categorical(3), transition_mask=ps.masks.left_to_right(3), guide=guide)
    fit = ps.svi(model, DATA, num_steps=10)
    assert np.isfinite(fit.history).all()
    assert ((model.transition[0] > 0) == model.transition_mask).all()
    assert (model.posterior(5).draws.transition[:, ~model.transition_mask] == 0).all()


def test_single_precision_is_close_to_double():
    fits = [
        ps.svi(ps.BayesianHMM(2, E.Categorical(3), dtype=d), DATA, num_steps=40) for d in (torch.float64, torch.float32)
    ]
    finals, errors = ([np.array(f.details[k]) for f in fits] for k in ("final", "final_standard_error"))
    assert abs(finals[0] - finals[1]) < 4 * np.hypot(*errors) + 0.01
    start = float(ps.BayesianHMM(2, E.Categorical(3)).elbo(DATA)[0]) / float(DATA.num_observed.sum())
    assert (np.array(finals) > start + 0.1).all()
    assert fits[1].model.log_transition.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"batch_size": 1.5}, "batch_size is 1.5; expected a whole number"),
        ({"batch_size": 6}, "batch_size is 6; expected 1 to 5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"num_particles": 0}, "num_particles is 0; expected 1 or more"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_refused(settings, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.svi(ps.BayesianHMM(2, E.Categorical(3)), DATA, **settings)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ps.InputError, match="BayesianHMM and LDA; received a VariationalHMM"):
        ps.svi(ps.VariationalHMM(2, E.Categorical(3)), DATA)
    with pytest.raises(ps.InputError, match="all parts of the model are fixed"):
        ps.svi(ps.BayesianHMM(2, E.Categorical(3), fixed=("initial", "transition", "emission")), DATA)
    unseen = ps.Sequences.from_list([[0, 0]], missing=[np.ones(2, bool)])
    with pytest.raises(ps.InputError, match="every token of data is missing"):
        ps.svi(ps.BayesianHMM(2, E.Categorical(3)), unseen)
    known = ps.Sequences.from_list([[0, 1]], states=[[0, 5]])
    with pytest.raises(ps.InputError, match=r"^the data know of state 5, and the model has 2 states[^\n]*$"):
        ps.svi(ps.BayesianHMM(2, E.Categorical(3)), known)
