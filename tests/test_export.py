"""What `to_arviz` makes of fits and posteriors; `test_export_arrays.py` holds both generations of ArviZ to the rest."""

import dataclasses

import numpy as np
import oracles
import pytest
import torch
from emission_families import FAMILIES
from scipy.special import logsumexp

import probseq as ps
from probseq.export_arrays import import_arviz
from probseq.inference.mcmc import Mcmc

DATA = ps.Sequences.from_list([[0, 1, 1, 0], [1, 1], [0, 0, 0, 1, 1], [1]])


@pytest.fixture(scope="module")
def az():
    return import_arviz()


def several(transition, probs, initial=None):
    """An HMM with one restart for each row."""
    transition, probs = torch.as_tensor(transition), torch.as_tensor(probs)
    rows, states, symbols = probs.shape
    model = ps.HMM(states, ps.emissions.Categorical(symbols), num_restarts=rows, start="parameters")
    model.initialized = True
    model.log_transition.data = transition.log()
    model.emission.logits.data = probs.log()
    model.log_initial.data = torch.full((rows, states), 1 / states).double().log() if initial is None else initial.log()
    return model


def jittered(num_draws=60, seed=0):
    """Draws close to one model with two distinct states, each with its states in a random order."""
    rng = np.random.default_rng(seed)
    transition = np.stack([rng.dirichlet(row, num_draws) for row in ([80.0, 20.0], [30.0, 70.0])], axis=1)
    probs = np.stack([rng.dirichlet(row, num_draws) for row in ([90.0, 10.0], [20.0, 80.0])], axis=1)
    order = torch.from_numpy(rng.permuted(np.tile([0, 1], (num_draws, 1)), axis=1))
    return several(transition, probs).permute(order), order


def test_a_posterior_is_its_draws_with_aligned_states():
    draws, order = jittered()
    data = ps.to_arviz(ps.PosteriorHMM(draws, num_draws=60, num_chains=3), DATA, vocabulary="ab")
    probs = data["posterior"]["probs"]
    assert probs.dims == ("chain", "draw", "state", "symbol")
    assert probs.shape == (3, 20, 2, 2)
    back = draws.permute(order.argsort(dim=1))  # as they were before their states were mixed
    named = {"initial": back.initial, "transition": back.transition, "probs": back.emission.probs}
    same = next(state for state in ([0, 1], [1, 0]) if np.allclose(probs[0, 0], named["probs"][0][state].detach()))
    for name, value in named.items():
        found = data["posterior"][name]
        expected = value[:, same] if name != "transition" else value[:, same][:, :, same]
        assert found.values.reshape(expected.shape) == pytest.approx(expected.detach().numpy(), abs=1e-12)
    assert probs.sel(symbol="b").std(["chain", "draw"]).max() < 0.1 < draws.emission.probs.std(0).max()


def test_the_log_likelihood_is_summed_over_states():
    draws, _ = jittered(num_draws=6)
    data = ps.to_arviz(ps.PosteriorHMM(draws, num_draws=6, num_chains=2), DATA)
    expected = [[float(oracles.hmm_log_prob(draws, s, list(map(int, x)))) for x in DATA] for s in range(6)]
    assert data["log_likelihood"]["x"].values.reshape(6, 4) == pytest.approx(np.array(expected), abs=1e-10)
    assert data["observed_data"]["x"].values.tolist()[1] == [1, 1, -1, -1, -1]
    assert data["constant_data"]["length"].values.tolist() == [4, 2, 5, 1]


def test_known_states_are_part_of_a_sequence():
    draws, _ = jittered(num_draws=3)
    path = [0, 1, 1]
    known = ps.Sequences.from_list([[0, 1, 1]], states=[path])
    data = ps.to_arviz(ps.PosteriorHMM(draws, num_draws=3), known)
    for s in range(3):
        joint = oracles.hmm_joint(draws.initial[s], draws.transition[s], draws.emission.probs[s], [0, 1, 1])
        assert float(data["log_likelihood"]["x"][0, s, 0]) == pytest.approx(float(joint[tuple(path)].log()), abs=1e-10)


def test_what_nuts_draws():
    draws, _ = jittered(num_draws=10)
    chains = ps.PosteriorHMM(draws, num_draws=10, num_chains=2)
    divergent = np.zeros((2, 5), bool)
    divergent[1, 3] = True
    result = Mcmc(
        posterior=chains,
        log_likelihood=ps.evaluate(draws, DATA).elpd.reshape(2, 5),
        divergent=divergent,
        r_hat={},
        ess={},
        step_size=np.array([0.1, 0.2]),
        acceptance=np.array([0.8, 0.9]),
        seconds=1.0,
        num_tokens=float(DATA.num_observed.sum()),
    )
    data = ps.to_arviz(result, DATA)
    assert data["posterior"]["probs"].values.reshape(10, 2, 2) == pytest.approx(draws.emission.probs.detach().numpy())
    assert data["log_likelihood"]["x"].sum("sequence").values == pytest.approx(result.log_likelihood)
    assert data["sample_stats"]["diverging"].values.tolist() == divergent.tolist()
    assert data["sample_stats"]["step_size"].values[:, 0].tolist() == [0.1, 0.2]
    with pytest.raises(ps.InputError, match="expected the sequences that nuts had"):
        ps.to_arviz(result, DATA[1:])


# Leaving out whole sequences


def symmetric(stay):
    """An HMM of two states that are left with probability ``1 - stay``, and known emissions; a restart for each."""
    stay = torch.as_tensor(stay)
    transition = torch.stack([torch.stack([stay, 1 - stay], -1), torch.stack([1 - stay, stay], -1)], dim=1)
    return several(transition, torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double().expand(len(stay), 2, 2))


@pytest.fixture(scope="module")
def stay():
    """Data, draws of `stay` at the quantiles of its exact posterior under Beta(2, 2), and the exact LOO of each."""
    model = symmetric([0.8])
    data = model.simulate(30, 6, generator=torch.Generator().manual_seed(1))
    data = ps.Sequences(data.values, data.offsets)  # without the states
    grid = (np.arange(4000) + 0.5) / 4000
    each = ps.evaluate(symmetric(grid), data).log_prob  # (grid, N)
    log_prior = np.log(grid * (1 - grid))
    log_posterior = log_prior + each.sum(1)
    cumulative = np.exp(log_posterior - logsumexp(log_posterior)).cumsum()
    draws = np.interp((np.arange(400) * 247 % 400 + 0.5) / 400, cumulative, grid + 0.5 / 4000)
    without = log_posterior[:, None] - each
    exact = logsumexp(log_posterior) - logsumexp(without, axis=0)  # log p(x_i | all others)
    return data, draws, exact


def pointwise(az, exported):
    found = az.loo(exported, pointwise=True)
    name = "loo_i" if "elpd_loo" in found else "elpd_i"
    return found[name].values, found["pareto_k"].values


def test_loo_is_the_refit_without_each_sequence(az, stay):
    data, draws, exact = stay
    exported = ps.to_arviz(ps.PosteriorHMM(symmetric(draws), num_draws=400), data)
    terms, shapes = pointwise(az, exported)
    assert (shapes < 0.5).all()
    assert terms == pytest.approx(exact, abs=5e-3)
    assert terms.sum() == pytest.approx(exact.sum(), abs=2e-2)


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # ArviZ 0.23 with pandas 3.1
def test_compare_ranks_models_of_sequences(az, stay):
    data, draws, _ = stay
    flat = np.full(400, 0.5) + np.linspace(-0.01, 0.01, 400)  # states without memory
    exported = {
        name: ps.to_arviz(ps.PosteriorHMM(symmetric(values), num_draws=400), data)
        for name, values in [("flat", flat), ("chain", draws)]
    }
    table = az.compare(exported) if az.__version__.startswith("0.") else az.compare(exported, round_to="none")
    difference = pointwise(az, exported["chain"])[0] - pointwise(az, exported["flat"])[0]
    assert table.index.tolist() == ["chain", "flat"]
    assert abs(table["elpd_diff"]["flat"]) == pytest.approx(difference.sum(), abs=1e-9)


def test_tokens_are_not_left_out():
    draws, _ = jittered(num_draws=4)
    with pytest.raises(
        ps.InputError, match="'token'; expected 'sequence', because the tokens of a sequence are not ex"
    ):
        ps.to_arviz(ps.PosteriorHMM(draws, num_draws=4), DATA, unit="token")
    with pytest.raises(ps.InputError, match="unknown unit 'sequences'; did you mean 'sequence'"):
        ps.to_arviz(ps.PosteriorHMM(draws, num_draws=4), DATA, unit="sequences")


def test_what_a_posterior_cannot_export():
    draws, _ = jittered(num_draws=4)
    posterior = ps.PosteriorHMM(draws, num_draws=4)
    weighted = ps.Sequences(DATA.values, DATA.offsets, np.array([1.0, 3.0, 1.0, 1.0]))
    with pytest.raises(ps.InputError, match="sequence 1 has weight 3; expected 1, because ArviZ counts"):
        ps.to_arviz(posterior, weighted)
    with pytest.raises(ps.InputError, match="symbol has 2 entries in group posterior and 3 labels"):
        ps.to_arviz(posterior, vocabulary="abc")
    impossible = several(np.full((4, 2, 2), 0.5), np.tile([1.0, 0.0], (4, 2, 1)))
    with pytest.raises(ps.InputError, match=r"sequence 0 under draw 0 of chain 0 is -inf"):
        ps.to_arviz(ps.PosteriorHMM(impossible, num_draws=4), DATA)


def test_one_draw():
    draws, _ = jittered(num_draws=1)
    data = ps.to_arviz(ps.PosteriorHMM(draws, num_draws=1), DATA)
    assert data["posterior"]["probs"].values[0, 0] == pytest.approx(draws.emission.probs[0].detach().numpy())
    assert data["log_likelihood"]["x"].shape == (1, 1, 4)


def test_what_is_no_result():
    with pytest.raises(ps.InputError, match="received a HMM; expected a Fit, a PosteriorHMM or what nuts returns"):
        ps.to_arviz(jittered(num_draws=2)[0])


def test_the_draws_of_restarts_are_not_chains():
    draws, _ = jittered(num_draws=6)
    posterior = ps.PosteriorHMM(draws, num_draws=3)
    with pytest.raises(ps.InputError, match="posterior has 2 restarts; restarts are not chains"):
        ps.to_arviz(posterior, DATA)
    second = ps.to_arviz(posterior, DATA, restart=1)
    expected = ps.evaluate(draws, DATA).log_prob[3:]
    assert second["log_likelihood"]["x"].values[0] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ps.InputError, match="restart 2 of 2"):
        ps.to_arviz(posterior, DATA, restart=2)


# Restarts


def test_a_fit_is_its_restarts(az):
    fit = ps.em(ps.HMM(2, ps.emissions.Categorical(2), num_restarts=4, seed=3), DATA, num_steps=7)
    data = ps.to_arviz(fit, DATA, vocabulary="ab")
    group = data["restarts"]
    score = ps.evaluate(fit.model, DATA)
    assert group["history"].values == pytest.approx(fit.history.T, nan_ok=True)
    assert group["objective"].values == pytest.approx([h[np.isfinite(h)][-1] for h in fit.history.T])
    assert group["log_prob"].values == pytest.approx(score.log_prob)
    assert group["stop_reason"].values.tolist() == fit.stop_reason
    assert group["probs"].dims == ("restart", "state", "symbol")
    with pytest.raises((TypeError, ValueError), match=r"log.likelihood"):  # one point is no posterior
        az.loo(data)


def test_the_states_of_restarts_are_aligned_to_the_best():
    draws, _ = jittered(num_draws=5)
    fit = ps.em(draws, DATA, num_steps=1)
    draws, _ = jittered(num_draws=5)
    fit.model = draws
    probs = ps.to_arviz(fit, restart=2)["restarts"]["probs"].values
    assert probs[2] == pytest.approx(draws.emission.probs[2].detach().numpy())
    assert probs.std(axis=0).max() < 0.1 < draws.emission.probs.std(0).max()


def test_the_best_restart_gives_the_draws_of_a_variational_posterior():
    model = ps.VariationalHMM(2, ps.emissions.Categorical(2), num_restarts=3)
    fit = ps.em(model, DATA, num_steps=20)
    data = ps.to_arviz(fit, DATA, num_draws=50)
    best = int(np.nanargmax([h[np.isfinite(h)][-1] for h in fit.history.T]))
    expected = ps.evaluate(fit.model.select(best).posterior(50, seed=0).draws, DATA).log_prob
    assert data["log_likelihood"]["x"].values[0] == pytest.approx(expected)
    mean = data["posterior"]["probs"].mean(["chain", "draw"]).values
    assert mean == pytest.approx(fit.model.emission.probs[best].detach().numpy(), abs=0.1)  # states in its order
    assert data["restarts"].sizes["restart"] == 3


def test_a_network_has_restarts_and_no_parameters():
    net = ps.Autoregressive([ps.RNN(2, hidden_dim=2) for _ in range(2)])
    fit = ps.fit_gradient(net, DATA, validation=DATA, num_steps=4, eval_every=2)
    group = ps.to_arviz(fit, DATA)["restarts"]
    assert group["validation"].values == pytest.approx(fit.validation.T)
    assert group["validation_step"].values.tolist() == [2, 4]
    assert {"probs", "transition"}.isdisjoint(group)


# Names


SHAPES = {
    "Categorical": {"probs": (3, 4)},
    "Bernoulli": {"probs": (3, 2)},
    "Poisson": {"rates": (3, 2)},
    "GaussianMixture": {"weights": (3, 2), "means": (3, 2, 2), "variances": (3, 2, 2)},
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_has_names(family):
    emission = family.build(2)
    model = ps.HMM(3, emission, num_restarts=5, emission_groups=[0, 1, 1])
    data = ps.to_arviz(ps.PosteriorHMM(model, num_draws=5), family.data(num_dims=2))
    dense = getattr(emission, "covariance", "") in ("full", "tied")
    gaussian = {"means": (3, 2), "covariances": (3, 2, 2)} if dense else {"means": (3, 2), "variances": (3, 2)}
    expected = {"initial": (3,), "transition": (3, 3), **SHAPES.get(type(emission).__name__, gaussian)}
    assert {name: value.shape[2:] for name, value in data["posterior"].data_vars.items()} == expected
    for name in expected.keys() - {"initial", "transition"}:
        _, second, third = data["posterior"][name].transpose("state", ...).values
        assert np.array_equal(second, third)  # they share an emission


def test_what_is_missing_is_marked():
    reals = ps.Sequences.from_list([[[0.5], [np.nan], [1.0]], [[2.0]]])
    model = ps.HMM(2, ps.emissions.Gaussian(1), num_restarts=2)
    values = ps.to_arviz(ps.PosteriorHMM(model, num_draws=2), reals)["observed_data"]["x"]
    assert values.dims == ("sequence", "time", "dimension")
    assert values.values[..., 0] == pytest.approx(np.array([[0.5, np.nan, 1.0], [2.0, np.nan, np.nan]]), nan_ok=True)


def test_a_saved_export_comes_back(az, tmp_path):
    pytest.importorskip("h5netcdf")
    draws, _ = jittered(num_draws=4)
    data = ps.to_arviz(ps.PosteriorHMM(draws, num_draws=4), DATA, vocabulary="ab")
    data.to_netcdf(tmp_path / "posterior.nc", engine="h5netcdf")
    back = az.from_netcdf(tmp_path / "posterior.nc", engine="h5netcdf")
    assert back["posterior"]["probs"].equals(data["posterior"]["probs"])


def test_topics_of_all_restarts_are_in_one_order():
    topics = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
    model = ps.LDA(2, 3, num_restarts=2, start="parameters", alpha=[0.2, 0.5], fixed=("topics", "alpha", "eta"))
    model.log_concentration.data.copy_((100 * torch.stack([topics, topics.flip(0)])).log())
    model.log_alpha.data[1] = model.log_alpha.data[1].flip(0)
    data = ps.Sequences.from_list([[0, 0, 1], [2, 2], [0, 1, 2, 2]])
    fit = ps.em(model, data, num_steps=2)
    restarts = ps.to_arviz(fit, data, vocabulary="abc")["restarts"]
    assert restarts["topics"].dims == ("restart", "topic", "symbol")
    for r in range(2):
        np.testing.assert_allclose(restarts["topics"].sel(restart=r), topics)
        np.testing.assert_allclose(restarts["alpha"].sel(restart=r), [0.2, 0.5])
    assert restarts["eta"].dims == ("restart",)
    assert float(restarts["topics"].sel(restart=0, topic=1, symbol="c")) == pytest.approx(0.7)
    shares = restarts["document_topics"]
    assert shares.dims == ("restart", "sequence", "topic")
    np.testing.assert_allclose(shares.sum("topic"), 1)
    np.testing.assert_allclose(shares.sel(restart=0), shares.sel(restart=1), atol=1e-6)
    assert restarts["log_prob"].shape == (2, 3)
    assert "topics" in ps.to_arviz(fit)["restarts"]


@pytest.mark.parametrize("guide", ["mean_field", "structured"])
def test_the_fit_of_a_posterior_has_one_whether_it_was_drawn_before_or_not(guide):
    model = ps.BayesianHMM(2, ps.emissions.Categorical(2), guide=guide, num_restarts=2)
    fit = ps.svi(model, DATA, num_steps=5)
    best = int(np.argmax(fit.details["final"]))
    drawn = dataclasses.replace(fit, model=model.posterior(20, seed=3))
    for one in (fit, drawn):
        data = ps.to_arviz(one, DATA, num_draws=20, seed=3)
        expected = ps.evaluate(model.select(best).posterior(20, seed=3).draws, DATA).log_prob
        assert data["log_likelihood"]["x"].values[0] == pytest.approx(expected)
        assert data["posterior"]["probs"].shape == (1, 20, 2, 2)
        assert data["restarts"]["objective"].values.tolist() == fit.details["final"]
