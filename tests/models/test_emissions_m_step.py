"""M-steps against closed forms and hmmlearn, and EM with missing entries against direct maximization."""

import functools

import numpy as np
import pytest
import torch
from hmmlearn import hmm
from scipy import optimize

from probseq import Sequences
from probseq.models.emissions import Bernoulli, Categorical, Gaussian, GaussianMixture, Poisson

STATES, ROWS = 3, 200


def made_up(seed: int = 0) -> np.ndarray:
    """``(M, K)`` posteriors."""
    return np.random.default_rng(seed).dirichlet(np.ones(STATES), size=ROWS)


def m_step(bank, x: np.ndarray, posteriors: np.ndarray):
    """The bank after an M-step from these posteriors."""
    data = Sequences.from_list([x])
    bank.observe(data)
    bank.m_step(bank.statistics(torch.from_numpy(posteriors)[None], data.batch()))
    return bank


def their_m_step(model, x: np.ndarray, posteriors: np.ndarray):
    """hmmlearn's model after an M-step of its emissions from the same posteriors."""
    model.n_features = x.shape[1]
    model.startprob_, model.transmat_ = np.ones(STATES) / STATES, np.ones((STATES, STATES)) / STATES
    statistics = model._initialize_sufficient_statistics()
    model._accumulate_sufficient_statistics(statistics, x, np.zeros((ROWS, STATES)), posteriors, None, None)
    model._do_mstep(statistics)
    return model


@pytest.mark.parametrize("kind", ["diag", "full", "tied", "spherical"])
@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_gaussian_equals_hmmlearn(kind, strength):
    """Its prior is a matrix and degrees of freedom; ours is so many observations of the data's variances."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2)) @ [[2.0, 0.5], [0.0, 1.0]] + [10.0, -3.0]
    posteriors = made_up()
    ours = m_step(
        Gaussian(2, kind, mean_strength=strength, covariance_strength=strength).build(1, STATES), x, posteriors
    )
    variances, dense = x.var(0), kind in ("full", "tied")
    theirs = hmm.GaussianHMM(
        STATES, kind, init_params="", params="mc", means_prior=x.mean(0), means_weight=strength,
        covars_prior=strength * (np.diag(variances) if dense else variances),
        covars_weight=strength + (2 if dense else 1),
    )  # fmt: skip
    theirs.means_ = np.zeros((STATES, 2))
    theirs._covars_ = {"diag": np.ones((STATES, 2)), "spherical": np.ones(STATES), "tied": np.eye(2)}.get(
        kind, np.tile(np.eye(2), (STATES, 1, 1))
    )
    their_m_step(theirs, x, posteriors)
    np.testing.assert_allclose(ours.means[0].detach().numpy(), theirs.means_, rtol=1e-12)
    expected = np.asarray(theirs._covars_)
    if kind == "tied":
        expected = np.tile(expected, (STATES, 1, 1))
    elif not dense:
        expected = np.stack([np.diag(np.broadcast_to(row, 2)) for row in expected])
    np.testing.assert_allclose(ours.covariances[0].detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_poisson_equals_hmmlearn():
    x = np.random.default_rng(1).poisson(4.0, size=(ROWS, 2))
    ours = m_step(Poisson(2).build(1, STATES), x.astype(float), made_up())
    theirs = hmm.PoissonHMM(STATES, init_params="", params="l")
    theirs.lambdas_ = np.ones((STATES, 2))
    np.testing.assert_allclose(ours.rates[0].detach().numpy(), their_m_step(theirs, x, made_up()).lambdas_, rtol=1e-12)


def test_categorical_equals_hmmlearn():
    x = np.random.default_rng(1).integers(0, 5, size=ROWS)
    bank, data = Categorical(5).build(1, STATES), Sequences.from_list([x])
    counts = torch.zeros(1, 5, STATES, dtype=torch.float64).index_add_(
        1, torch.from_numpy(x), torch.from_numpy(made_up())[None]
    )
    bank.m_step(bank.statistics(counts, data.batch()))
    theirs = hmm.CategoricalHMM(STATES, init_params="", params="e", n_features=5)
    theirs.emissionprob_ = np.ones((STATES, 5)) / 5
    model = their_m_step_symbols(theirs, x)
    np.testing.assert_allclose(bank.probs[0].detach().numpy(), model.emissionprob_, rtol=1e-12)


def their_m_step_symbols(model, x: np.ndarray):
    model.startprob_, model.transmat_ = np.ones(STATES) / STATES, np.ones((STATES, STATES)) / STATES
    statistics = model._initialize_sufficient_statistics()
    model._accumulate_sufficient_statistics(statistics, x[:, None], np.zeros((ROWS, STATES)), made_up(), None, None)
    model._do_mstep(statistics)
    return model


def test_bernoulli_and_gamma_priors_have_their_modes():
    x = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, 0.0]])
    posteriors = np.ones((3, 1))
    bank = m_step(Bernoulli(2, concentration=2.0).build(1, 1), x, posteriors)
    np.testing.assert_allclose(bank.probs.detach().numpy(), [[[3 / 5, 1 / 4]]], rtol=1e-12)
    bank = m_step(Poisson(2, prior_shape=3.0, prior_rate=0.5).build(1, 1), x, posteriors)
    np.testing.assert_allclose(bank.rates.detach().numpy(), [[[4 / 3.5, 2 / 2.5]]], rtol=1e-12)


def test_a_mixture_with_one_component_is_a_gaussian():
    x = np.random.default_rng(2).normal(size=(ROWS, 2)) + 5
    prior = {"mean_strength": 1.0, "covariance_strength": 2.0}
    one = m_step(GaussianMixture(2, 1, **prior).build(1, STATES), x, made_up())
    other = m_step(Gaussian(2, **prior).build(1, STATES), x, made_up())
    torch.testing.assert_close(one.means[:, :, 0], other.means)
    torch.testing.assert_close(torch.diag_embed(one.variances[:, :, 0]), other.covariances)
    torch.testing.assert_close(one.log_prior(), other.log_prior())


def test_a_mixture_finds_well_separated_components(generator):
    """From neutral parameters: those of the components lie apart."""
    truth = GaussianMixture.from_parameters(
        [[0.3, 0.3, 0.4]], [[[-6.0, 0.0], [0.0, 3.0], [5.0, 1.0]]], [[[1.0, 0.5], [0.5, 0.5], [0.3, 2.0]]]
    )
    raw = {name: value[0].expand(3000, *value.shape[2:]) for name, value in truth.raw.items()}
    x = truth.draw(raw, generator).detach().numpy()
    bank = GaussianMixture(2, 3).build(1, 1)
    for _ in range(100):
        m_step(bank, x, np.ones((3000, 1)))
    order = bank.means[0, 0, :, 0].argsort()
    torch.testing.assert_close(bank.means[:, :, order], truth.means, atol=0.15, rtol=0)
    torch.testing.assert_close(bank.weights[:, :, order], truth.weights, atol=0.03, rtol=0)


def test_a_floor_holds_a_state_that_has_one_observation():
    x = np.array([[0.0, 0.0], [4.0, 8.0], [8.0, 4.0]])
    scale = x.std(0)
    posteriors = np.eye(3)
    for kind in ("diag", "full"):
        bank = m_step(Gaussian(2, kind, variance_floor=0.01).build(1, 3), x, posteriors)
        np.testing.assert_allclose(bank.means[0].detach().numpy(), x, atol=1e-12)
        np.testing.assert_allclose(bank.covariances[0, 1].detach().numpy(), np.diag(0.01 * scale**2), atol=1e-12)


def test_a_floor_holds_in_every_direction():
    """Two duplicated points span a line; across it a full covariance has the floor's variance."""
    x = np.repeat([[0.0, 0.0], [2.0, 2.0]], 5, axis=0)
    bank = m_step(Gaussian(2, "full", variance_floor=0.01).build(1, 1), x, np.ones((10, 1)))
    values = np.linalg.eigvalsh(bank.covariances[0, 0].detach().numpy())
    np.testing.assert_allclose(values, [0.01, 2.0], rtol=1e-9)  # the scale of both entries is 1


@pytest.mark.parametrize("kind", ["diag", "full", "tied", "spherical"])
def test_em_with_missing_entries_climbs_to_the_maximum_of_the_marginal_likelihood(kind):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3)) + 2
    x[rng.random(x.shape) < 0.35] = np.nan
    data = Sequences.from_list([x])
    bank = Gaussian(3, kind).build(1, 1)
    bank.observe(data)
    ones, batch, values = torch.ones(1, 40, 1, dtype=torch.float64), data.batch(), []
    for _ in range(150):
        values.append(_marginal(x, bank.means[0, 0].detach().numpy(), bank.covariances[0, 0].detach().numpy()))
        bank.m_step(bank.statistics(ones, batch))
    assert (np.diff(values) >= -1e-9).all()
    # With one state, a covariance that all states share is a covariance.
    assert values[-1] == pytest.approx(_best("full" if kind == "tied" else kind, x.tobytes()), abs=1e-5)


def _marginal(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    """The log-density of what is there, with the mean and the covariance of these entries alone."""
    total, missing = 0.0, np.isnan(x)
    for pattern in np.unique(missing[~missing.all(1)], axis=0):
        o, rows = ~pattern, (missing == pattern).all(1)
        part, difference = covariance[np.ix_(o, o)], x[rows][:, o] - mean[o]
        total -= rows.sum() * np.linalg.slogdet(2 * np.pi * part)[1]
        total -= (difference * np.linalg.solve(part, difference.T).T).sum()
    return total / 2


@functools.cache
def _best(kind: str, data: bytes) -> float:
    """The maximum of the marginal likelihood, by a general optimizer over the mean and a factor of the covariance."""
    x = np.frombuffer(data).reshape(-1, 3)
    row, column = np.tril_indices(3)

    def covariance(numbers):
        if kind in ("diag", "spherical"):
            return np.diag(np.exp(np.broadcast_to(numbers, 3)))
        factor = np.zeros((3, 3))
        factor[row, column] = numbers
        return factor @ factor.T

    start = {"diag": np.zeros(3), "spherical": np.zeros(1)}.get(kind, (row == column) * 1.5)
    loss = lambda parameters: -_marginal(x, parameters[:3], covariance(parameters[3:]))
    found = optimize.minimize(loss, np.concatenate([np.nanmean(x, axis=0), start]), method="BFGS")
    return -found.fun


def test_a_matrix_product_that_loses_digits_would_be_seen():
    """Statistics are centered: variances of data far from the origin keep their digits."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS, 2))
    for kind in ("diag", "full"):
        near = m_step(Gaussian(2, kind).build(1, 1), x, np.ones((ROWS, 1)))
        far = m_step(Gaussian(2, kind).build(1, 1), x + 1e6, np.ones((ROWS, 1)))
        torch.testing.assert_close(far.covariances, near.covariances, atol=0, rtol=1e-8)


def test_location_and_scale_follow_the_weights_and_what_is_there():
    rows = [np.array([[1.0, np.nan], [3.0, 5.0]]), np.array([[7.0, 5.0]])]
    bank = Gaussian(2).build(1, 1)
    bank.observe(Sequences.from_list(rows, weights=[2.0, 1.0]))
    repeated = np.array([1.0, 3.0, 1.0, 3.0, 7.0])
    assert bank.location.tolist() == pytest.approx([repeated.mean(), 5.0])
    assert bank.scale.tolist() == pytest.approx([repeated.std(), 1.0])  # an entry that does not vary has scale 1


def test_given_covariances_below_the_floor_are_lifted_by_the_data():
    narrow = [[1.0, 0.999999], [0.999999, 1.0]]
    bank = Gaussian.from_parameters([[0.0, 0.0], [0.0, 0.0]], [narrow, np.eye(2)], "full", variance_floor=1e-4)
    before = bank.packed_tril[:, 1].clone()
    bank.observe(Sequences.from_list([np.array([[-1.0, 1.0], [1.0, -1.0]])]))
    values = torch.linalg.eigvalsh(bank.covariances.detach())[0]
    np.testing.assert_allclose(values.numpy(), [[1e-4, 2.0], [1.0, 1.0]], rtol=1e-5)
    assert torch.equal(bank.packed_tril[:, 1], before)


def test_components_are_scattered_over_their_state():
    """Each state keeps its moments in expectation, components differ, and the generator alone decides."""
    bank = m_step(GaussianMixture(2, 2000).build(1, STATES), np.random.default_rng(5).normal(size=(ROWS, 2)), made_up())
    mean, variance = bank.moments(bank.raw)
    bank.scatter(torch.Generator().manual_seed(1))
    placed = bank.means.detach().clone()
    torch.testing.assert_close(placed.mean(2), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(placed.var(2), variance, atol=0, rtol=0.15)
    torch.testing.assert_close(bank.variances, variance[:, :, None].expand_as(placed))
    bank.scatter(torch.Generator().manual_seed(2))
    assert not torch.equal(bank.means, placed)


def test_without_data_a_prior_that_has_a_mode_decides():
    x, none = np.array([[1.0, 2.0], [3.0, 7.0]]), np.zeros((2, 1))
    assert m_step(Poisson(2, prior_shape=3.0, prior_rate=0.5).build(1, 1), x, none).rates.tolist() == [[[4.0, 4.0]]]
    kept = Poisson.from_parameters([[5.0, 6.0]], prior_rate=0.5)  # its prior's mode is a rate of 0, which says nothing
    before = kept.rates.tolist()
    assert m_step(kept, x, none).rates.tolist() == before
    assert m_step(Bernoulli(2, concentration=2.0).build(1, 1), (x > 2) * 1.0, none).probs.tolist() == [[[0.5, 0.5]]]
    for kind in ("diag", "full"):
        bank = m_step(Gaussian(2, kind, mean_strength=1.0, covariance_strength=1.0).build(1, 1), x, none)
        torch.testing.assert_close(bank.means[0, 0], torch.from_numpy(x.mean(0)))
        torch.testing.assert_close(bank.covariances[0, 0], torch.diag(torch.from_numpy(x.var(0))))


def test_location_and_scale_are_those_of_all_batches_together():
    rows = [np.random.default_rng(seed).normal(size=(40_000, 1)) + 10 * seed for seed in range(3)]
    data = Sequences.from_list(rows)
    assert len(list(data.batches())) > 1
    bank = Gaussian(1).build(1, 1)
    bank.observe(data)
    assert bank.location.item() == pytest.approx(np.concatenate(rows).mean(), rel=1e-12)
    assert bank.scale.item() == pytest.approx(np.concatenate(rows).std(), rel=1e-12)
