import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import CONJUGATE, problems
from torch.distributions import Beta, Dirichlet, Gamma, MultivariateNormal, Normal, Wishart, kl_divergence

import probseq as ps
from probseq.inference.starts import initialize
from probseq.models.conjugate import DensePosterior, DiagonalPosterior
from probseq.ops.divergences import dirichlet_divergence, gamma_divergence

E = ps.emissions


def log_dirichlet_multinomial(counts, concentration):
    """log of the integral over a Dirichlet of the probability of one sequence with these counts."""
    counts = np.asarray(counts, dtype=float)
    prior = np.broadcast_to(concentration, counts.shape)
    terms = sum(math.lgamma(a + n) - math.lgamma(a) for a, n in zip(prior, counts, strict=True))
    return terms + math.lgamma(prior.sum()) - math.lgamma(prior.sum() + counts.sum())


def log_evidence(x, states, symbols, initial, transition, emission, sticky=0.0):
    """log p(x) of one sequence, parameters integrated out: the sum over paths of Dirichlet-multinomial integrals."""
    total = []
    for path in itertools.product(range(states), repeat=len(x)):
        steps, emitted = np.zeros((states, states)), np.zeros((states, symbols))
        np.add.at(steps, (path[:-1], path[1:]), 1)
        np.add.at(emitted, (path, x), 1)
        log = log_dirichlet_multinomial(np.eye(states)[path[0]], initial)
        log += sum(
            log_dirichlet_multinomial(row, transition + sticky * np.eye(states)[j]) for j, row in enumerate(steps)
        )
        log += sum(log_dirichlet_multinomial(row, emission) for row in emitted)
        total.append(log)
    return float(torch.tensor(total, dtype=torch.float64).logsumexp(0))


concentrations = st.sampled_from([0.1, 0.5, 1.0, 3.0])


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(1, 3), concentrations, concentrations,
    concentrations, st.sampled_from([0.0, 1.5]), st.integers(0, 100),
)  # fmt: skip
def test_the_bound_is_below_the_evidence(x, states, initial, transition, emission, sticky, seed):
    model = ps.VariationalHMM(
        states, E.Categorical(3), initial, transition, emission, num_restarts=3, seed=seed, sticky=sticky
    )
    data = ps.Sequences.from_list([x])
    evidence = log_evidence(x, states, 3, initial, transition, emission, sticky)
    assert (model.elbo(data) <= evidence + 1e-9).all()  # of any posterior, also the starting one
    ps.em(model, data, num_steps=30, tol=1e-10)
    assert (model.elbo(data) <= evidence + 1e-9).all()
    if states == 1:
        torch.testing.assert_close(model.elbo(data), torch.full((3,), evidence, dtype=torch.float64))


def test_the_bound_is_not_far_below():
    """A bound that is only low would pass the test above."""
    x = [0, 0, 1, 1, 1]
    model = ps.VariationalHMM(2, E.Categorical(2), num_restarts=10)
    ps.em(model, ps.Sequences.from_list([x]), num_steps=200, tol=1e-12)
    evidence = log_evidence(x, 2, 2, 1.0, 1.0, 1.0)
    assert evidence - 1.6 < model.elbo(ps.Sequences.from_list([x])).max() < evidence


def test_one_state_has_the_exact_posterior():
    data = ps.Sequences.from_list([[0, 1, 1], [2, 1]], weights=[2.0, 1.0])
    model = ps.VariationalHMM(1, E.Categorical(3), emission_concentration=0.5)
    ps.em(model, data, num_steps=2)
    posterior = Dirichlet(torch.tensor([2 + 0.5, 5 + 0.5, 1 + 0.5], dtype=torch.float64))
    torch.testing.assert_close(model.emission.probs[0, 0].detach(), posterior.mean)
    assert model.log_emission_strength.exp().item() == pytest.approx(9.5)
    assert model.elbo(data).item() == pytest.approx(log_dirichlet_multinomial([2, 5, 1], 0.5))


def test_one_state_of_counts_has_the_exact_evidence():
    values = np.array([[3.0, 0.0], [5.0, 1.0], [4.0, np.nan]])
    data = ps.Sequences.from_list([values])
    model = ps.VariationalHMM(1, E.Poisson(2), emission_concentration=0.7)
    ps.em(model, data, num_steps=2)
    expected = 0.0
    for column in values.T:
        x = column[~np.isnan(column)]
        shape, rate = 0.7 * x.mean(), 0.7
        expected += shape * math.log(rate) - math.lgamma(shape) - sum(math.lgamma(k + 1) for k in x)
        expected += math.lgamma(shape + x.sum()) - (shape + x.sum()) * math.log(rate + len(x))
    assert model.elbo(data).item() == pytest.approx(expected)


def test_one_state_of_binary_vectors_has_the_exact_evidence():
    values = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, np.nan]])
    model = ps.VariationalHMM(1, E.Bernoulli(2), emission_concentration=0.4)
    data = ps.Sequences.from_list([values])
    ps.em(model, data, num_steps=2)
    expected = log_dirichlet_multinomial([2, 1], 0.4) + log_dirichlet_multinomial([1, 1], 0.4)
    assert model.elbo(data).item() == pytest.approx(expected)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_one_state_of_real_vectors_has_the_exact_evidence(covariance):
    """By the chain rule: each observation is Student's t given those before it."""
    values, c = np.random.default_rng(0).normal(2.0, 3.0, (6, 2)), 0.8
    data = ps.Sequences.from_list([values])
    model = ps.VariationalHMM(1, E.Gaussian(2, covariance=covariance), emission_concentration=c)
    ps.em(model, data, num_steps=2)
    parts = [values] if covariance == "full" else [values[:, :1], values[:, 1:]]
    assert model.elbo(data).item() == pytest.approx(sum(log_normal_wishart_evidence(part, c) for part in parts))


def log_normal_wishart_evidence(values, c):
    """Murphy (2007), "Conjugate Bayesian analysis of the Gaussian distribution", the ratio of normalizers."""
    num, size = values.shape
    degrees, center = size - 1 + c, values.mean(0)
    prior = degrees * np.diag(values.var(0))
    deviation = values - center  # the prior's mean is the data's, so nothing else adds to the scatter
    posterior = prior + deviation.T @ deviation
    gammas = sum(math.lgamma((degrees + num - i) / 2) - math.lgamma((degrees - i) / 2) for i in range(size))
    return (
        -num * size / 2 * math.log(math.pi)
        + gammas
        + degrees / 2 * np.linalg.slogdet(prior)[1]
        - (degrees + num) / 2 * np.linalg.slogdet(posterior)[1]
        + size / 2 * math.log(c / (c + num))
    )


def test_divergences_are_those_of_torch(generator):
    draw = lambda *shape: torch.rand(*shape, dtype=torch.float64, generator=generator) * 3 + 0.05
    p, q = draw(4, 5), draw(4, 5)
    torch.testing.assert_close(dirichlet_divergence(p, q), kl_divergence(Dirichlet(p), Dirichlet(q)))
    torch.testing.assert_close(
        dirichlet_divergence(p[:, :2], q[:, :2]), kl_divergence(Beta(*p[:, :2].T), Beta(*q[:, :2].T))
    )
    torch.testing.assert_close(
        gamma_divergence(p[0], p[1], q[0], q[1]), kl_divergence(Gamma(p[0], p[1]), Gamma(q[0], q[1]))
    )
    masked = q.clone()
    masked[:, 2] = 0.0
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(
        dirichlet_divergence(p * (masked > 0), masked), dirichlet_divergence(p[:, kept], q[:, kept])
    )


def bank(covariance, size=2):
    rng = np.random.default_rng(3)
    data = ps.Sequences.from_list([rng.normal([1.0, -2.0][:size], [1.0, 3.0][:size], (9, size))])
    model = ps.VariationalHMM(1, E.Gaussian(size, covariance=covariance), emission_concentration=1.7)
    ps.em(model, data, num_steps=2)
    return model, model.log_emission_strength.exp()


def test_the_divergence_of_a_diagonal_gaussian_is_that_of_its_parts():
    """KL of the precisions by torch, and of the means given the precisions, averaged over them by quadrature."""
    model, strength = bank("diag")
    emission, kappa = model.emission, strength[0, 0]
    variance, prior = (2 * emission.raw["log_scale"][0, 0]).exp(), emission.scale.square()
    own, given = Gamma(kappa / 2, kappa / 2 * variance), Gamma(torch.tensor(0.85), 0.85 * prior)
    of_precision = kl_divergence(own, given)
    precisions = own.sample((200_000,))
    of_mean = kl_divergence(
        Normal(emission.means[0, 0], (kappa * precisions).rsqrt()),
        Normal(emission.location, (1.7 * precisions).rsqrt()),
    )
    expected = (of_precision + of_mean.mean(0)).sum()
    assert isinstance(model._posterior, DiagonalPosterior)
    torch.testing.assert_close(model._posterior.divergence(strength)[0, 0], expected, rtol=1e-2, atol=0)


def wishart(degrees, scale, num):
    """Draws by Bartlett's decomposition, and their distribution in torch, whose own draws warn without reason."""
    factor = torch.randn(num, 2, 2, dtype=torch.float64).tril(-1)
    squares = Gamma((degrees - torch.arange(2.0)).double() / 2, torch.tensor(0.5, dtype=torch.float64)).sample((num,))
    half = torch.linalg.cholesky(scale) @ (factor + torch.diag_embed(squares.sqrt()))
    return half @ half.mT, Wishart(torch.tensor(degrees, dtype=torch.float64), scale)


def test_the_divergence_of_a_full_gaussian_is_that_of_draws():
    model, strength = bank("full")
    emission, kappa = model.emission, strength.item()
    precisions, own = wishart(kappa + 1, ((kappa + 1) * emission.covariances[0, 0]).inverse(), 100_000)
    given = wishart(2.7, (2.7 * torch.diag(emission.scale.square())).inverse(), 1)[1]
    of_mean = kl_divergence(
        MultivariateNormal(emission.means[0, 0], precision_matrix=kappa * precisions),
        MultivariateNormal(emission.location, precision_matrix=1.7 * precisions),
    )
    terms = own.log_prob(precisions) - given.log_prob(precisions) + of_mean
    error = terms.std().item() / math.sqrt(len(terms))
    assert isinstance(model._posterior, DensePosterior)
    assert model._posterior.divergence(strength).item() == pytest.approx(terms.mean().item(), abs=4 * error)


def test_in_one_dimension_full_and_diagonal_are_the_same():
    data = ps.Sequences.from_list([np.random.default_rng(0).normal(size=(20, 1)) for _ in range(3)])
    fits = [
        ps.em(ps.VariationalHMM(2, E.Gaussian(1, covariance=kind), num_restarts=2), data, num_steps=10, tol=0).history
        for kind in ("diag", "full")
    ]
    np.testing.assert_allclose(*fits, rtol=1e-9)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_expected_log_densities_are_those_of_draws(covariance):
    model, strength = bank(covariance)
    emission, kappa = model.emission, strength[0, 0]
    batch = ps.Sequences.from_list([[[0.3, -1.0], [2.0, 5.0]]]).batch()
    table = model._posterior.log_table(strength, batch)[0, :, 0]
    if covariance == "full":
        degrees = kappa.item() + 1
        precisions, _ = wishart(degrees, (degrees * emission.covariances[0, 0]).inverse(), 100_000)
    else:
        variance = (2 * emission.raw["log_scale"][0, 0]).exp()
        precisions = torch.diag_embed(Gamma(kappa / 2, kappa / 2 * variance).sample((100_000,)))
    scale = kappa.expand(2).diag().inverse().sqrt()  # means vary by the inverse of kappa times the precision
    factor = torch.linalg.cholesky(precisions.inverse())
    means = emission.means[0, 0] + (factor @ scale @ torch.randn(100_000, 2, 1, dtype=torch.float64))[..., 0]
    terms = MultivariateNormal(means, scale_tril=factor).log_prob(batch.values[0][:, None])
    error = terms.std(1) / math.sqrt(terms.shape[1])
    assert ((table - terms.mean(1)).abs() < 4 * error).all()


def test_what_is_missing_costs_nothing_and_says_nothing():
    """Whole steps that are missing at the end leave the bound where it is."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 2))
    longer = np.concatenate([values, np.full((3, 2), np.nan)])
    for covariance in ("diag", "full"):
        model = ps.VariationalHMM(1, E.Gaussian(2, covariance=covariance))
        ps.em(model, ps.Sequences.from_list([values]), num_steps=2)
        torch.testing.assert_close(
            model.elbo(ps.Sequences.from_list([longer])),
            model.elbo(ps.Sequences.from_list([values])),
            atol=1e-10,
            rtol=0,
        )


def test_states_that_the_data_do_not_need_get_no_weight():
    rng = np.random.default_rng(1)
    states = [np.cumsum(rng.random(60) < 0.15) % 2 for _ in range(12)]
    data = ps.Sequences.from_list([rng.normal(np.array([-3.0, 3.0])[s][:, None], 1.0) for s in states])
    model = ps.VariationalHMM(6, E.Gaussian(1), 0.01, 0.01, 1.0, num_restarts=8)
    ps.em(model, data, num_steps=300, accelerate=True)
    best = model.select(int(model.elbo(data).argmax()))
    used = usage(best, data)[0]
    assert (used > 0.01).sum() == 2
    surplus = best.emission.means[0, used < 0.01, 0]
    torch.testing.assert_close(surplus, best.emission.location.expand_as(surplus), atol=0.5, rtol=0)  # the prior's mean
    likely = ps.HMM(6, E.Gaussian(1), num_restarts=8)
    ps.em(likely, data, num_steps=300, accelerate=True)
    assert ((usage(likely, data) > 0.01).sum(1) > 2).all()  # maximum likelihood finds something to do for others


def usage(model, data):
    """``(R, K)``: the share of tokens of every state."""
    return model.posterior_marginals(data.batch()).sum((1, 2)) / data.num_tokens


def test_a_score_is_the_likelihood_at_the_posterior_mean():
    data = ps.Sequences.from_list([[0, 1, 1, 2], [2, 1]])
    model = ps.VariationalHMM(2, E.Categorical(3))
    ps.em(model, data, num_steps=5)
    at_mean = ps.HMM.from_parameters(
        model.initial[0].detach(), model.transition[0].detach(), model.emission.probs[0].detach()
    )
    batch = data.batch()
    torch.testing.assert_close(model.token_log_prob(batch), at_mean.token_log_prob(batch))
    assert torch.equal(model.viterbi(batch), at_mean.viterbi(batch))
    assert model.likelihood == "exact"


def test_known_states_count_as_known():
    """With every state known, the posterior is exact whatever the start, and so is the bound."""
    x, s = [0, 1, 1, 0, 1], [0, 1, 1, 0, 0]
    data = ps.Sequences.from_list([x], states=[s])
    model = ps.VariationalHMM(2, E.Categorical(2), num_restarts=2)
    ps.em(model, data, num_steps=3, tol=0)
    expected = log_dirichlet_multinomial([1, 0], 1.0)
    expected += log_dirichlet_multinomial([1, 1], 1.0) + log_dirichlet_multinomial([1, 1], 1.0)
    expected += log_dirichlet_multinomial([2, 1], 1.0) + log_dirichlet_multinomial([0, 2], 1.0)
    torch.testing.assert_close(model.elbo(data), torch.full((2,), expected, dtype=torch.float64))


def test_what_is_fixed_is_known():
    data = ps.Sequences.from_list([[0, 1, 1, 2, 0, 1], [2, 1]])
    model = ps.VariationalHMM(2, E.Categorical(3), fixed=("transition", "emission"))
    before = copy.deepcopy(model)
    fit = ps.em(model, data, num_steps=20, tol=0)
    assert (np.diff(fit.history, axis=0) >= -1e-12).all()
    assert torch.equal(model.transition, before.transition)
    assert torch.equal(model.emission.probs, before.emission.probs)
    assert not torch.allclose(model.initial, before.initial)
    assert torch.equal(model._expected_potentials(data.batch()).transition[:, 0], model.transition)


@given(problems(CONJUGATE, variational=True))
def test_weights_are_repeats(problem):
    model, data = problem
    once, twice = (
        ps.Sequences(data.values, data.offsets, data.weights * 2, missing=data.missing),
        data[[*range(len(data))] * 2],
    )
    initialize(model, data)  # which would draw other observations from repeated data
    fits = [ps.em(copy.deepcopy(model), part, num_steps=4, tol=0).history for part in (once, twice)]
    np.testing.assert_allclose(*fits, rtol=1e-8, atol=1e-8)


def test_restarts_can_be_taken_out_and_put_back():
    data = ps.Sequences.from_list([[0, 1, 1, 2], [2, 1]])
    model = ps.VariationalHMM(2, E.Categorical(3), 0.3, 0.7, 0.2, num_restarts=3)
    ps.em(model, data, num_steps=4, tol=0)
    taken = model.take([2, 0])
    torch.testing.assert_close(taken.elbo(data), model.elbo(data)[[2, 0]])
    model.put([0, 1], taken)
    torch.testing.assert_close(model.elbo(data), taken.elbo(data)[[0, 1, 0]])


@pytest.mark.parametrize("emission", [E.Categorical(3), E.Gaussian(2, covariance="full"), E.Poisson(2), E.Bernoulli(2)])
def test_saved_and_loaded_it_has_the_same_posterior(emission, tmp_path):
    symbolic = emission.support[0] == "symbols"
    data = ps.Sequences.from_list([[0, 1, 2, 1]] if symbolic else [np.eye(2)[[0, 1, 1, 0, 1]]])
    model = ps.VariationalHMM(2, emission, 0.3, 0.7, 0.2, num_restarts=2, sticky=1.0)
    ps.em(model, data, num_steps=3, tol=0)
    ps.save(model, tmp_path / "model")
    loaded = ps.load(tmp_path / "model")
    assert type(loaded) is ps.VariationalHMM
    assert torch.equal(loaded.elbo(data), model.elbo(data))
    np.testing.assert_array_equal(
        ps.em(loaded, data, num_steps=3, tol=0).history, ps.em(model, data, num_steps=3, tol=0).history
    )


def test_single_precision_is_close_to_double():
    data = ps.Sequences.from_list([np.random.default_rng(0).normal(size=(30, 2))])
    fits = [
        ps.em(ps.VariationalHMM(2, E.Gaussian(2), dtype=dtype), data, num_steps=5, tol=0).history
        for dtype in (torch.float64, torch.float32)
    ]
    np.testing.assert_allclose(fits[0], fits[1], atol=1e-3)


@pytest.mark.parametrize(
    ("emission", "sentence"),
    [
        (E.GaussianMixture(2, 2), "no conjugate prior of GaussianMixture"),
        (
            E.Gaussian(2, covariance="tied"),
            "no conjugate prior of Gaussian tied; expected Categorical, Bernoulli, Poisson",
        ),
        (E.Categorical(3, concentration=1.1), "a prior of its own, concentration 1.1; leave it out"),
        (E.Gaussian(2, mean_strength=1.0), "a prior of its own, mean_strength 1"),
        (E.Poisson(2, prior_rate=1.0), "a prior of its own, prior_rate 1"),
    ],
)
def test_emissions_without_a_posterior_are_refused(emission, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.VariationalHMM(2, emission)


@pytest.mark.parametrize("name", ["initial", "transition", "emission"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_concentrations_that_are_no_prior_are_refused(name, value):
    with pytest.raises(ps.InputError, match=f"{name} concentration is {value}"):
        ps.VariationalHMM(2, E.Categorical(3), **{f"{name}_concentration": value})


def test_it_is_not_made_from_parameters():
    with pytest.raises(ps.InputError, match="posterior and not parameters"):
        ps.VariationalHMM.from_parameters([1.0], [[1.0]], [[1.0]])
