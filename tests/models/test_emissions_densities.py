"""Emission families against sums, integrals, scipy and brute force."""

import itertools

import numpy as np
import pytest
import torch
from emission_families import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from probseq import InputError, Sequences
from probseq.models.emissions import Bernoulli, Categorical, Gaussian, GaussianMixture, Poisson

RNG = np.random.default_rng(0)
COVARIANCES = ["diag", "full", "tied", "spherical"]


def lone(bank):
    """Parameters of the first distribution of the first restart."""
    return {name: value[0, 0].detach() for name, value in bank.raw.items()}


def gaussian(covariance: str, num_dims: int, states: int = 1, seed: int = 0, **prior):
    """A bank of states that are not degenerate."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(states, num_dims, num_dims + 2))
    matrices = factor @ factor.transpose(0, 2, 1)
    variances = matrices.diagonal(axis1=1, axis2=2).copy()
    given = {"diag": variances, "full": matrices, "tied": matrices[0], "spherical": variances[:, 0]}
    return Gaussian.from_parameters(rng.normal(size=(states, num_dims)), given[covariance], covariance, **prior)


def mixture(num_dims: int, states: int = 1, components: int = 3):
    rng = np.random.default_rng(1)
    size = (states, components, num_dims)
    return GaussianMixture.from_parameters(
        rng.dirichlet(np.ones(components), size=states), 2 * rng.normal(size=size), 0.2 + rng.random(size)
    )


# Normalisation


def test_symbols_sum_to_one():
    bank = Categorical.from_parameters([[0.2, 0.0, 0.8]])
    log_prob = bank.log_prob({name: value[0] for name, value in bank.raw.items()}, torch.arange(3))
    torch.testing.assert_close(log_prob.exp(), torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64))


def test_binary_vectors_sum_to_one():
    bank = Bernoulli.from_parameters([[0.2, 0.0, 0.8, 1.0]])
    everything = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    probs = bank.log_prob(lone(bank), everything).exp()
    assert probs.sum().item() == pytest.approx(1, abs=1e-12)
    assert ((probs > 0) == ((everything[:, 1] == 0) & (everything[:, 3] == 1))).all()


def test_counts_sum_to_one():
    bank = Poisson.from_parameters([[3.0, 0.0]])
    everything = torch.tensor(list(itertools.product(range(60), range(2))), dtype=torch.float64)
    assert bank.log_prob(lone(bank), everything).exp().sum().item() == pytest.approx(1, abs=1e-12)


reals = pytest.mark.parametrize("kind", [*COVARIANCES, "mixture"])


@reals
def test_densities_integrate_to_one(kind):
    bank = mixture(1) if kind == "mixture" else gaussian(kind, 1)
    density = lambda x: bank.log_prob(lone(bank), torch.tensor([x], dtype=torch.float64)).exp().item()
    assert integrate.quad(density, -40, 40, limit=200)[0] == pytest.approx(1, abs=1e-7)


@reals
def test_densities_of_pairs_integrate_to_one_and_to_their_margins(kind):
    bank = mixture(2) if kind == "mixture" else gaussian(kind, 2)
    axis = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    density = bank.log_prob(lone(bank), grid).exp()
    step = (axis[1] - axis[0]).item()
    assert density.sum().item() * step**2 == pytest.approx(1, abs=1e-7)
    only = torch.stack([axis, torch.full_like(axis, torch.nan)], dim=-1)
    margin = bank.log_prob(lone(bank), only).exp()  # the second entry is missing
    torch.testing.assert_close(density.sum(1) * step, margin, atol=1e-7, rtol=0)


# Other libraries


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("num_dims", [1, 2, 5])
def test_gaussian_equals_scipy(kind, num_dims):
    bank = gaussian(kind, num_dims, states=3)
    x = RNG.normal(size=(7, num_dims)) * 3
    raw = {name: value[:, None] for name, value in bank.raw.items()}
    actual = bank.log_prob(raw, torch.from_numpy(x)[None, :, None])[0]
    for k in range(3):
        one = stats.multivariate_normal(bank.means[0, k].detach().numpy(), bank.covariances[0, k].detach().numpy())
        np.testing.assert_allclose(actual[:, k].detach().numpy(), one.logpdf(x), rtol=1e-11)


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("num_dims", [1, 3, 40])
def test_missing_entries_are_integrated_out(kind, num_dims):
    """Forty dimensions: more than one number can tell the patterns of apart."""
    bank = gaussian(kind, num_dims, states=2)
    x = RNG.normal(size=(30, num_dims))
    x[RNG.random(x.shape) < 0.4] = np.nan
    x[0], x[1] = np.nan, 1.0
    raw = {name: value[:, None] for name, value in bank.raw.items()}
    by_row = bank.log_prob(raw, torch.from_numpy(x)[None, :, None]).detach().numpy()[0]
    by_table = bank.table(bank.raw, torch.from_numpy(x)).detach().numpy()[0]
    for k, row in itertools.product(range(2), range(30)):
        seen = ~np.isnan(x[row])
        mean, covariance = bank.means[0, k, seen].detach().numpy(), bank.covariances[0, k].detach().numpy()
        expected = 0.0
        if seen.any():
            expected = stats.multivariate_normal(mean, covariance[np.ix_(seen, seen)]).logpdf(x[row, seen])
        assert by_row[row, k] == pytest.approx(expected, rel=1e-10, abs=1e-12)
        assert by_table[row, k] == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_mixture_equals_scipy():
    bank = mixture(2, states=2)
    x = RNG.normal(size=(9, 2)) * 3
    raw = {name: value[:, None] for name, value in bank.raw.items()}
    actual = bank.log_prob(raw, torch.from_numpy(x)[None, :, None])[0].detach().numpy()
    for k in range(2):
        weights, means, variances = (one[0, k].detach().numpy() for one in (bank.weights, bank.means, bank.variances))
        parts = stats.norm(means, variances**0.5).pdf(x[:, None]).prod(-1)
        np.testing.assert_allclose(actual[:, k], np.log(parts @ weights), rtol=1e-11)


def test_counts_equal_scipy():
    bank = Poisson.from_parameters([[0.5, 20.0, 1e6]])
    x = np.array([[0, 3, 1e6], [7, 20, 999_000.0], [1, 0, 1_001_000.0]])
    actual = bank.log_prob(lone(bank), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(actual, stats.poisson([0.5, 20.0, 1e6]).logpmf(x).sum(-1), rtol=1e-10)


def test_binary_equals_scipy():
    bank = Bernoulli.from_parameters([[0.5, 0.01, 0.999]])
    x = RNG.integers(0, 2, size=(8, 3)).astype(float)
    actual = bank.log_prob(lone(bank), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(actual, stats.bernoulli([0.5, 0.01, 0.999]).logpmf(x).sum(-1), rtol=1e-11)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_draws_have_the_covariance(kind, generator):
    bank = gaussian(kind, 3)
    raw = {name: value.expand(40_000, *value.shape) for name, value in lone(bank).items()}
    drawn = bank.draw(raw, generator)
    covariance = bank.covariances[0, 0].detach()
    error = (covariance.diagonal()[:, None] * covariance.diagonal() * 2 / 40_000).sqrt()
    assert ((drawn.T.cov() - covariance).abs() < 5 * error).all()


def test_draws_of_a_mixture_have_its_distribution(generator):
    bank = mixture(1)
    raw = {name: value.expand(5_000, *value.shape) for name, value in lone(bank).items()}
    drawn = bank.draw(raw, generator)[:, 0].numpy()
    weights, means, scales = (one[0, 0].detach().numpy() for one in (bank.weights, bank.means, bank.variances.sqrt()))
    cdf = lambda x: stats.norm(means[:, 0], scales[:, 0]).cdf(np.asarray(x)[..., None]) @ weights
    assert stats.kstest(drawn, cdf).pvalue > 1e-4


# Zeros that maximum likelihood reaches


def test_a_rate_of_zero_makes_counts_impossible_and_nothing_else():
    bank = Poisson.from_parameters([[0.0, 2.0], [1.0, 3.0]])
    x = torch.tensor([[0.0, 1.0], [2.0, 1.0], [torch.nan, 1.0]], dtype=torch.float64)
    table = bank.table(bank.raw, x)
    assert torch.equal(table.isneginf(), torch.tensor([[[False, False], [True, False], [False, False]]]))
    torch.testing.assert_close(table[0, 0, 0], table[0, 2, 0])  # a 0 is certain, so it says nothing
    bank.m_step(bank.collect(bank.raw, torch.tensor([[[1.0, 0], [0, 1], [0, 0]]], dtype=torch.float64), x))
    assert bank.rates.tolist() == [[[0.0, 1.0], [2.0, 1.0]]]


def test_probabilities_of_zero_and_one_are_reached_and_kept():
    bank = Bernoulli.from_parameters([[0.5, 0.5], [0.5, 0.5]])
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    counts = torch.eye(2, dtype=torch.float64)[None]
    for _ in range(2):
        bank.m_step(bank.collect(bank.raw, counts, x))
        assert bank.probs.tolist() == [[[0.0, 1.0], [1.0, 1.0]]]
        assert bank.table(bank.raw, x).tolist() == [[[0.0, -np.inf], [-np.inf, 0.0]]]


@pytest.mark.parametrize(
    ("bank", "values"),
    [
        (Categorical.from_parameters([[0.0, 1.0], [0.5, 0.5]]), [1, 0, -1]),
        (Bernoulli.from_parameters([[0.0, 1.0], [0.5, 0.5]]), [[0.0, 1.0], [1.0, 0.0], [np.nan, 1.0]]),
        (Poisson.from_parameters([[0.0, 2.0], [0.5, 0.5]]), [[0.0, 1.0], [1.0, 0.0], [np.nan, 1.0]]),
    ],
    ids=["categorical", "bernoulli", "poisson"],
)
def test_impossible_values_give_no_gradient_that_is_not_a_number(bank, values):
    raw = {name: value[:, None] for name, value in bank.raw.items()}
    terms = bank.log_prob(raw, torch.from_numpy(np.array(values))[None, :, None])
    assert terms.isneginf().any()
    assert not terms.isnan().any()
    terms[terms.isfinite()].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in bank.parameters())


# Accuracy far from the origin


@pytest.mark.parametrize("kind", COVARIANCES)
@given(shift=st.sampled_from([0.0, 1e3, -1e8]), unit=st.sampled_from([1e-6, 1.0, 1e6]))
def test_location_and_unit_cost_no_digits(kind, shift, unit):
    x = np.random.default_rng(0).normal(size=(50, 2))
    x[3, 1] = np.nan
    results = []
    for data in (x, (x + shift) * unit):
        sequences = Sequences.from_list([data])
        bank = Gaussian(2, kind).build(1, 1)
        bank.observe(sequences)
        batch = sequences.batch()
        for _ in range(3):
            bank.m_step(bank.statistics(torch.ones(1, 50, 1, dtype=torch.float64), batch))
        entries = (~batch.values[0].isnan()).double().sum(-1, keepdim=True)
        results.append(bank.log_table(batch).detach() + entries * (np.log(unit) if results else 0.0))
    torch.testing.assert_close(*results, atol=1e-5 if shift == -1e8 else 1e-9, rtol=0)


@pytest.mark.parametrize("family", FAMILIES[3:], ids=lambda family: family.name)
def test_a_narrow_state_far_from_the_others_is_scored_exactly(family):
    bank = family.bank()
    with torch.no_grad():
        bank.mean[:, 0] = 1000.0
        (bank.packed_tril if hasattr(bank, "packed_tril") else bank.log_scale)[:, 0] = -6.0
    x = 1000 + 0.002 * torch.randn(20, 3, dtype=torch.float64)
    raw = {name: value[:, None] for name, value in bank.raw.items()}
    torch.testing.assert_close(bank.table(bank.raw, x), bank.log_prob(raw, x[None, :, None]), atol=1e-9, rtol=1e-12)


# Given parameters


@pytest.mark.parametrize("kind", COVARIANCES)
def test_given_parameters_are_kept(kind):
    means = [[0.0, 1.0], [2.0, -1.0]]
    full = [[[2.0, 0.5], [0.5, 1.0]], [[1.0, 0.0], [0.0, 3.0]]]
    given = {"diag": [[2.0, 1.0], [1.0, 3.0]], "full": full, "tied": full[0], "spherical": [2.0, 3.0]}[kind]
    bank = Gaussian.from_parameters(means, given, kind, covariance_strength=2.0)
    assert bank.means.tolist() == [means]
    expected = {
        "diag": [np.diag(one) for one in [[2.0, 1.0], [1.0, 3.0]]],
        "full": full,
        "tied": [full[0], full[0]],
        "spherical": [2 * np.eye(2), 3 * np.eye(2)],
    }[kind]
    np.testing.assert_allclose(bank.covariances.detach().numpy()[0], expected, atol=1e-14)
    assert bank.config()["covariance_strength"] == 2.0
    assert bank.location.tolist() == [1.0, 0.0]
    mean_variance = np.mean([np.diag(one) for one in expected], axis=0)
    np.testing.assert_allclose(bank.scale.numpy() ** 2, mean_variance + 1.0, rtol=1e-12)


def test_given_probabilities_rates_and_mixtures_are_kept():
    assert Categorical.from_parameters([[0.5, 0.5]]).probs.tolist() == [[[0.5, 0.5]]]
    assert Bernoulli.from_parameters([[0.25, 1.0]]).probs.tolist() == [[[0.25, 1.0]]]
    torch.testing.assert_close(
        Poisson.from_parameters([[3.0, 0.0]]).rates.detach(), torch.tensor([[[3.0, 0.0]]]).double()
    )
    bank = GaussianMixture.from_parameters([[0.25, 0.75]], [[[0.0], [2.0]]], [[[1.0], [4.0]]])
    torch.testing.assert_close(bank.weights.detach(), torch.tensor([[[0.25, 0.75]]]).double())
    torch.testing.assert_close(bank.variances.detach(), torch.tensor([[[[1.0], [4.0]]]]).double())
    mean, variance = bank.moments(bank.raw)
    assert mean.item() == pytest.approx(1.5)
    assert variance.item() == pytest.approx(0.25 * (1 + 1.5**2) + 0.75 * (4 + 0.5**2))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Categorical.from_parameters([0.5, 0.5]), r"emission has shape \(2,\); expected \(K, V\)"),
        (lambda: Categorical.from_parameters([[0.5, 0.6]]), "emission has a row that is not a probability vector"),
        (lambda: Bernoulli.from_parameters([[1.5]]), "expected probabilities .* between 0 and 1"),
        (lambda: Poisson.from_parameters([[-1.0]]), "expected rates .* of 0 or more"),
        (lambda: Poisson.from_parameters([1.0]), r"rates have shape \(1,\)"),
        (lambda: Gaussian.from_parameters([[0.0]], [[[1.0]]]), "name their kind by covariance='full'"),
        (lambda: Gaussian.from_parameters([0.0], [1.0]), r"means have shape \(1,\); expected \(K, D\)"),
        (lambda: Gaussian.from_parameters([[0.0]], [1.0]), r"diag .* 1 states and 1 .*\(1,\); expected \(1, 1\)"),
        (lambda: Gaussian.from_parameters([[0.0]], [[0.0]]), "diag covariances have to be positive"),
        (lambda: Gaussian.from_parameters([[0.0]], [[[-1.0]]], "full"), "full covariances have to be positive"),
        (lambda: Gaussian.from_parameters([[0.0, 0.0]], [[1.0, 0.5], [0.0, 1.0]], "tied"), "symmetric"),
        (lambda: Gaussian.from_parameters([[0.0]], [[1.0]], "banded"), "unknown covariance 'banded'"),
        (lambda: GaussianMixture.from_parameters([[1.0]], [[[0.0]]], [[1.0]]), r"expected \(K, C\), \(K, C, D\)"),
        (lambda: GaussianMixture.from_parameters([[0.5]], [[[0.0]]], [[[1.0]]]), "weights have a row"),
        (lambda: GaussianMixture.from_parameters([[1.0]], [[[0.0]]], [[[0.0]]]), "variances have to be positive"),
    ],
)
def test_impossible_parameters_are_refused(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
