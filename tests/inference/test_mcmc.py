"""Draws of NUTS: their target is the program's, their moments those of the exact posterior, their labels aligned."""

import dataclasses
import itertools
import math
import signal

import numpy as np
import pytest
import torch
from pyro.infer.autoguide import init_to_value
from pyro.infer.mcmc.util import initialize_model
from pyro.ops.integrator import potential_grad
from strategies import CONJUGATE, family, observations

import probseq as ps
from probseq.export_arrays import import_arviz
from probseq.inference.diagnostics import ess, r_hat
from probseq.inference.markov_chain import Chain, Potential
from probseq.inference.starts import initialize
from probseq.models.hmm_priors import log_likelihood, marginal_program, own_sites
from probseq.study import make_study, run_study

SHORT = {"num_warmup": 5, "num_samples": 5, "progress": False}
SYMBOLS = ps.Sequences.from_list([[0, 1, 1, 0, 1], [1, 1, 0], [0, 0]])


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


# The target


@pytest.mark.parametrize("name", CONJUGATE)
@pytest.mark.parametrize("structure", [{}, {"transition_mask": [[True, True], [False, True]], "fixed": ["initial"]}])
def test_the_potential_is_that_of_the_program(name, structure):
    """Value and gradient are those that Pyro makes of the program, Jacobians included."""
    data = observations(name, 2, np.random.default_rng(0), missing=True, constant=False)
    model = ps.BayesianHMM(2, family(name, 2, prior=False), 1.3, 0.8, 0.7, sticky=0.5, seed=1, **structure)
    initialize(model, data)
    ours, start = Potential(model, data.batch()), init_to_value(values=own_sites(model))
    position, theirs, *_ = initialize_model(marginal_program, (model, data.batch()), init_strategy=start)
    for shift in (0.0, 0.3, -1.1):
        moved = {key: value.detach() + shift for key, value in position.items()}
        expected, value = potential_grad(theirs, dict(moved)), potential_grad(ours, dict(moved))
        close(value[1], expected[1])
        assert value[0].keys() == expected[0].keys()
        for key, gradient in expected[0].items():
            close(value[0][key], gradient)


# The draws


def exact_moments(x):
    """Mean and variance under the posterior, by a sum over paths: given a path, all is Dirichlet.

    Two states, of which a sequence begins in the first; uniform priors. Of ``(A_00, A_11, B_01, B_11)``.
    """
    weights, means, squares = [], [], []
    for tail in itertools.product(range(2), repeat=len(x) - 1):
        path = (0, *tail)
        counts = np.ones((2, 2, 2))  # transitions, emissions
        for before, after in itertools.pairwise(path):
            counts[0, before, after] += 1
        for state, symbol in zip(path, x, strict=True):
            counts[1, state, symbol] += 1
        gamma = np.vectorize(math.lgamma)
        weights.append((gamma(counts).sum(-1) - gamma(counts.sum(-1))).sum())
        total = counts.sum(-1)
        chosen = np.array([counts[0, 0, 0], counts[0, 1, 1], counts[1, 0, 1], counts[1, 1, 1]])
        of = np.array([total[0, 0], total[0, 1], total[1, 0], total[1, 1]])
        means.append(chosen / of)
        squares.append(chosen * (chosen + 1) / (of * (of + 1)))
    share = np.exp(np.array(weights) - max(weights))
    share /= share.sum()
    return share @ np.array(means), share @ np.array(squares)


CONJUGATE_CASE = [0, 0, 0, 1, 1, 0, 1, 1]


@pytest.fixture(scope="module")
def drawn():
    """Two chains on a case that enumeration solves; the mask gives each state its name."""
    model = ps.HMM(2, ps.emissions.Categorical(2), num_restarts=2, initial_mask=[True, False])
    budget = {"num_samples": 200, "num_warmup": 19, "target_acceptance": 0.7, "max_tree_depth": 4}
    return ps.nuts(model, ps.Sequences.from_list([CONJUGATE_CASE]), progress=False, **budget)


def test_moments_are_those_of_the_exact_posterior(drawn):
    """All eight z-scores, with standard errors from effective sample sizes, are within 3."""
    draws = drawn.posterior.parameter_draws()
    a, b = draws["transition"][0].numpy(), draws["probs"][0].numpy()
    values = np.stack([a[:, 0, 0], a[:, 1, 1], b[:, 0, 1], b[:, 1, 1]], axis=-1).reshape(2, -1, 4)
    for power, exact in zip((1, 2), exact_moments(CONJUGATE_CASE), strict=True):
        found = values**power
        error = found.std(axis=(0, 1)) / np.sqrt(ess(found))
        z = (found.mean(axis=(0, 1)) - exact) / error
        assert (np.abs(z) < 3).all(), z
    assert drawn.max_r_hat < 1.02
    assert not drawn.divergences.any()


def test_what_is_reported(drawn):
    assert (drawn.num_chains, drawn.num_samples) == (2, 200)
    assert drawn.divergent.shape == drawn.log_likelihood.shape == (2, 200)
    assert drawn.posterior.num_chains == 2
    assert drawn.posterior.num_draws == 400
    assert drawn.step_size.shape == drawn.acceptance.shape == (2,)
    assert ((drawn.acceptance > 0.5) & (drawn.acceptance < 1)).all()
    batch = ps.Sequences.from_list([CONJUGATE_CASE]).batch()
    scores = drawn.posterior.draws.token_log_prob(batch).sum((1, 2)).numpy().reshape(2, 200)
    np.testing.assert_allclose(drawn.log_likelihood, scores, atol=1e-9)
    assert drawn.r_hat["transition"].shape == (2, 2)
    assert np.isnan(drawn.r_hat["initial"]).all()  # the mask leaves one state to begin in
    text = repr(drawn)
    assert "2 chains of 200 draws" in text
    assert f"largest R-hat {drawn.max_r_hat:.3f}" in text


def test_as_a_fit_it_is_compared_and_saved(drawn, tmp_path):
    data = ps.Sequences.from_list([CONJUGATE_CASE])
    fit = drawn.fit
    assert fit.history[:, 0] == pytest.approx(drawn.log_likelihood.mean(axis=0) / len(CONJUGATE_CASE))
    table = ps.compare({"nuts": fit, "uniform": ps.Uniform(2)}, validation=data, test=data)
    assert "log-mean-exp" in repr(table)
    assert "nuts 400" in repr(table)
    ps.save(fit.model, tmp_path, fit=fit)
    loaded = ps.load(tmp_path)
    assert loaded.num_chains == 2
    assert torch.equal(loaded.token_log_prob(data.batch()), drawn.posterior.token_log_prob(data.batch()))


def test_a_study_has_nuts(tmp_path):
    study = make_study(
        {
            "name": "tiny",
            "data": {"corpus": "casino", "num_sequences": 10, "length": 10},
            "models": {"nuts": {"kind": "nuts-hmm", "num_states": 2, "num_samples": 4, "num_warmup": 4}},
        }
    )
    run = run_study(study, tmp_path / "run", progress=False)
    assert run.fits["nuts"].model.num_draws == 8
    assert ps.load(tmp_path / "run").models["nuts"].num_chains == 2


def test_r_hat_and_effective_sample_size_are_those_of_arviz(drawn):
    az = import_arviz()
    for values in (drawn.log_likelihood, drawn.posterior.parameter_draws()["probs"][0, :, 0, 0].view(2, 200).numpy()):
        assert float(r_hat(values)) == pytest.approx(float(az.rhat(values)), abs=1e-10)
        assert float(ess(values)) == pytest.approx(float(az.ess(values)), rel=0.1)  # another end of the sum
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(4, 51)) * np.array([[1.0], [1.0], [3.0], [3.0]])
    assert float(r_hat(apart)) == pytest.approx(float(az.rhat(apart[:, :-1])), abs=0.02)
    assert r_hat(apart) > 1.1  # the chains differ in width alone


def test_a_chain_depends_on_seed_and_number_alone():
    model = ps.HMM(2, ps.emissions.Categorical(2), num_restarts=3)
    before = torch.random.get_rng_state()
    two, three = (ps.nuts(model, SYMBOLS, num_chains=c, seed=1, **SHORT) for c in (2, 3))
    assert torch.equal(torch.random.get_rng_state(), before)  # nothing global has changed
    np.testing.assert_array_equal(two.log_likelihood, three.log_likelihood[:2])
    other = ps.nuts(model, SYMBOLS, num_chains=1, seed=2, **SHORT)
    assert not np.allclose(other.log_likelihood[0], two.log_likelihood[0])


def test_chains_without_a_restart_begin_at_new_starting_points():
    lone = ps.HMM(2, ps.emissions.Categorical(2))
    found = ps.nuts(lone, SYMBOLS, num_chains=2, seed=1, **SHORT)
    assert not np.allclose(*found.log_likelihood)
    alone = ps.nuts(lone, SYMBOLS, num_chains=1, seed=1, **SHORT)
    np.testing.assert_array_equal(found.log_likelihood[:1], alone.log_likelihood)


def test_chains_without_a_restart_know_what_is_fixed_and_how_large_data_are():
    given = ps.HMM.from_parameters([0.3, 0.7], [[0.5, 0.5], [0.1, 0.9]], [[0.5, 0.5], [0.1, 0.9]], fixed=["initial"])
    found = ps.nuts(given, SYMBOLS, num_chains=2, **SHORT)
    close(found.posterior.draws.initial, torch.tensor([[0.3, 0.7]] * 10, dtype=torch.float64))
    data = ps.Sequences.from_list([np.array([[100.0], [110.0], [90.0]])])
    lone = ps.BayesianHMM(2, ps.emissions.Gaussian(1))
    rates = ps.nuts(lone, data, num_chains=2, num_warmup=2, num_samples=2, max_tree_depth=3)
    assert (rates.posterior.draws.emission.location == 100).all()


# Labels


def test_chains_that_name_states_differently_are_aligned(monkeypatch, generator):
    """The second chain begins with the states of the first exchanged: unaligned, R-hat sees two distributions."""
    one = ps.HMM.from_parameters([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.95, 0.04, 0.01], [0.02, 0.08, 0.9]])
    data = one.sample(2, 40, generator=generator)
    both = ps.HMM(2, ps.emissions.Categorical(3), num_restarts=2)
    both.put([0], one)
    both.put([1], one.permute([1, 0]))
    seen, aligned = [], ps.PosteriorHMM.aligned
    monkeypatch.setattr(ps.PosteriorHMM, "aligned", lambda self: seen.append(self) or aligned(self))
    found = ps.nuts(both, data, num_warmup=19, num_samples=20, progress=False)
    unaligned = seen[0].parameter_draws()["transition"][0].view(2, 20, 2, 2).numpy()
    assert (r_hat(unaligned) > 1.5).all()
    assert (found.r_hat["transition"] < 1.2).all()
    assert (found.posterior.parameter_draws()["probs"][0, :, 0, 0] > 0.5).float().mean() in (0.0, 1.0)


def test_states_that_the_data_name_keep_their_names(tmp_path):
    """Every draw has the log-likelihood that the chain recorded, together with the known states."""
    data = ps.Sequences.from_list([[0, 1, 0], [1, 1, 0]], states=[[0, -1, 1], [-1, 1, -1]])
    found = ps.nuts(ps.HMM(2, ps.emissions.Categorical(2)), data, num_samples=30, num_warmup=10, progress=False)
    model = found.posterior
    scores = log_likelihood(model.draws, {}, data.batch()).sum(1).detach().numpy().reshape(2, 30)
    np.testing.assert_allclose(scores, found.log_likelihood, atol=1e-9)
    assert model.named
    ps.save(model, tmp_path / "model")
    loaded = ps.load(tmp_path / "model").select(0)
    assert loaded.named
    assert torch.equal(loaded.aligned().draws.initial, model.draws.initial)
    mean = model.mean_parameters()["initial"][0]
    close(mean, model.draws.initial.mean(0))
    ps.to_arviz(found, data)


def test_a_warm_up_that_adapts_badly_is_told_of():
    found = ps.nuts(ps.HMM(2, ps.emissions.Categorical(2)), SYMBOLS, num_warmup=20, num_samples=4, num_chains=1)
    assert "num_warmup is 20, of which Pyro adapts" in "".join(found.fit.details["problems"])
    assert not any("num_warmup" in one for one in dataclasses.replace(found, num_warmup=150).problems)


def test_chains_that_never_moved_are_not_too_few_draws(drawn):
    nothing = {"log_likelihood": np.array(np.nan)}
    stuck = dataclasses.replace(drawn, r_hat=nothing, ess=nothing)
    assert any("no chain has moved in 200 draws" in one for one in stuck.problems)
    assert not any("too few for R-hat" in one for one in stuck.problems)


# Defined results


def test_one_chain_and_one_draw():
    found = ps.nuts(ps.HMM(2, ps.emissions.Categorical(2)), SYMBOLS, num_warmup=0, num_samples=1, num_chains=1)
    assert found.posterior.num_draws == 1
    assert np.isnan(found.r_hat["transition"]).all()
    assert np.isnan(found.max_r_hat)
    assert "1 draws of a chain are too few for R-hat; take at least 4" in repr(found)
    close(found.posterior.token_log_prob(SYMBOLS.batch()), found.posterior.draws.token_log_prob(SYMBOLS.batch()))


def test_more_states_than_the_data_support():
    found = ps.nuts(ps.HMM(4, ps.emissions.Categorical(2)), ps.Sequences.from_list([[0, 1]]), **SHORT)
    assert np.isfinite(found.log_likelihood).all()
    assert found.posterior.draws.transition.isfinite().all()
    assert np.isfinite(found.r_hat["transition"]).all()


def test_one_state():
    found = ps.nuts(ps.HMM(1, ps.emissions.Categorical(2)), SYMBOLS, **SHORT)
    assert np.isnan(found.r_hat["initial"]).all()
    assert np.isfinite(found.r_hat["probs"]).all()


def test_a_divergent_chain_is_told_of():
    """Steps far too long leave the typical set at once: every trajectory diverges, and the chain stays."""
    data = ps.Sequences.from_list([np.random.default_rng(0).normal(size=(300, 1))])
    model = ps.BayesianHMM(1, ps.emissions.Gaussian(1))
    initialize(model, data)
    sampler = Chain(Potential(model, data.batch()), num_warmup=0, seed=0, step_size=50.0, adapt_step_size=False)
    scores = [sampler.step() for _ in range(4)]
    assert sampler.divergent.all()
    assert len(set(scores)) == 1


def test_what_speaks_against_draws_is_said_in_words(drawn):
    divergent = drawn.divergent.copy()
    divergent[1, :7] = True
    worse = dataclasses.replace(drawn, divergent=divergent, interrupted=True)
    assert worse.divergences.tolist() == [0, 7]
    assert "7 of 400 draws are divergent" in repr(worse)
    assert "Ctrl-C ended it early" in repr(worse)
    apart = {**drawn.r_hat, "probs": np.array([[1.0, 1.4], [np.nan, 1.0]])}
    assert "R-hat of probs is 1.400, above 1.01" in repr(dataclasses.replace(drawn, r_hat=apart))
    few = {**drawn.ess, "probs": np.full((2, 2), 12.0)}
    assert "smallest effective sample size is 12" in "".join(dataclasses.replace(drawn, ess=few).problems)


def test_chains_that_stand_in_different_places_have_no_finite_r_hat():
    stuck = np.repeat([[1.0], [2.0]], 10, axis=1)
    assert r_hat(stuck) == math.inf
    assert np.isnan(r_hat(np.ones((2, 10))))
    assert np.isnan(ess(np.ones((2, 10))))


def test_the_start_may_stand_at_the_edge():
    """A probability of 0, where EM may end, is a little more than 0 when a chain begins."""
    model = ps.HMM.from_parameters([1.0, 0.0], [[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [1.0, 0.0]])
    found = ps.nuts(model, SYMBOLS, num_chains=1, **SHORT)
    assert np.isfinite(found.log_likelihood).all()
    assert (found.posterior.draws.transition > 0).all()


@pytest.mark.parametrize("name", CONJUGATE[1:])
def test_vectors(name):
    data = observations(name, 2, np.random.default_rng(0), missing=True, constant=False)
    model = ps.BayesianHMM(2, family(name, 2, prior=False))
    found = ps.nuts(model, data, num_warmup=3, num_samples=2, num_chains=1, max_tree_depth=5)
    assert np.isfinite(ps.evaluate(found.posterior, data).log_prob).all()


# Ctrl-C


class Pressed(Chain):
    """A chain whose third or eighth step is when the user presses Ctrl-C."""

    at = 8

    def step(self):
        if self.num_steps + 1 == self.at:
            signal.raise_signal(signal.SIGINT)
        return super().step()


def test_ctrl_c_keeps_the_draws_so_far(monkeypatch):
    monkeypatch.setattr("probseq.inference.mcmc.Chain", Pressed)
    found = ps.nuts(ps.HMM(2, ps.emissions.Categorical(2)), SYMBOLS, num_chains=1, **SHORT)
    assert found.interrupted
    assert found.num_samples == 3
    monkeypatch.setattr(Pressed, "at", 3)
    with pytest.raises(KeyboardInterrupt):
        ps.nuts(ps.HMM(2, ps.emissions.Categorical(2)), SYMBOLS, num_chains=1, **SHORT)


# Bad input


def test_bad_requests_are_refused():
    model = ps.HMM(2, ps.emissions.Categorical(2))
    for name, value in (("num_samples", 0), ("num_warmup", -1), ("num_chains", 0), ("max_tree_depth", 0)):
        with pytest.raises(ps.InputError, match=f"{name} is {value}; expected"):
            ps.nuts(model, SYMBOLS, **{name: value})
    with pytest.raises(ps.InputError, match=r"target_acceptance is 1.5; expected a share"):
        ps.nuts(model, SYMBOLS, target_acceptance=1.5)
    with pytest.raises(ps.InputError, match="data holds no sequences"):
        ps.nuts(model, ps.Sequences(np.zeros(0, np.int64), np.zeros(1, np.int64)))
    with pytest.raises(ps.InputError, match=r"received a Unigram; build a BayesianHMM"):
        ps.nuts(ps.Unigram(2), SYMBOLS)
    with pytest.raises(ps.InputError, match=r"received a InputHMM"):
        ps.nuts(ps.InputHMM(2, ps.emissions.Categorical(2), num_inputs=1), SYMBOLS)
    with pytest.raises(ps.InputError, match="no proper prior; build a BayesianHMM"):
        ps.nuts(ps.HMM(2, ps.emissions.Gaussian(1)), ps.Sequences.from_list([np.zeros((3, 1))]))
    with pytest.raises(ps.InputError, match="every part of the model is fixed"):
        ps.nuts(ps.HMM(2, ps.emissions.Categorical(2), fixed=["initial", "transition", "emission"]), SYMBOLS)
    with pytest.raises(ps.InputError, match=r"symbol 2 is outside"):
        ps.nuts(model, ps.Sequences.from_list([[0, 2]]))
    with pytest.raises(ps.InputError, match=r"^the data know of state 5, and the model has 2 states[^\n]*$"):
        ps.nuts(model, ps.Sequences.from_list([[0, 1]], states=[[0, 5]]))
    with pytest.raises(ps.InputError, match=r"num_samples is 1.5; expected a whole number"):
        ps.nuts(model, SYMBOLS, num_samples=1.5)
