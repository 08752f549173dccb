"""The marginal program in Pyro: its density by torch.distributions and the engine, and by the program with states."""

import itertools
import math

import numpy as np
import pyro
import pytest
import torch
from bayesian import FAMILIES, data_for, log_prior
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch.distributions import Dirichlet, Gamma, Wishart, biject_to

import probseq as ps
from probseq.inference.starts import initialize
from probseq.models.emissions import dense
from probseq.models.guides import OwnNoise
from probseq.models.hmm_priors import hmm_from_sites, log_likelihood, marginal_program, own_sites, prior
from probseq.models.parameter_distributions import Beta, DirichletTable, InverseWishartFactor
from probseq.models.parameter_distributions import Gamma as GammaInLogs

E = ps.emissions
EXACT = {"atol": 1e-9, "rtol": 1e-10}


def model_for(name: str, num_restarts: int = 2, **options) -> ps.VariationalHMM:
    model = ps.VariationalHMM(2, FAMILIES[name], 0.7, 1.8, 1.3, num_restarts=num_restarts, sticky=0.5, **options)
    initialize(model, data_for(name))
    return model


def drawn(model, data, seed=0, **arguments):
    """Sites from their priors, and the log-density of the program, summed."""
    torch.manual_seed(seed)
    trace = poutine.trace(marginal_program).get_trace(model, data.batch(), **arguments)
    trace.compute_log_prob()
    names = own_sites(model)
    return {name: trace.nodes[name]["value"] for name in names}, trace


@pytest.mark.parametrize("name", FAMILIES)
def test_the_density_is_that_of_the_priors_and_of_the_engine(name):
    model, data = model_for(name), data_for(name)
    sites, trace = drawn(model, data)
    likelihood = hmm_from_sites(model, sites).token_log_prob(data.batch()).sum()
    torch.testing.assert_close(trace.log_prob_sum(), log_prior(model, sites).sum() + likelihood, **EXACT)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_density_is_that_of_the_program_with_states(name):
    """In value, and in the gradient with respect to what every site is made of."""
    model, data = model_for(name), data_for(name)
    values, trace = drawn(model, data)
    maps = {k: biject_to(trace.nodes[k]["fn"].support) for k in values}
    free = {k: maps[k].inv(v).detach().requires_grad_() for k, v in values.items()}
    sites = {k: maps[k](v) for k, v in free.items()}
    marginal = poutine.trace(pyro.condition(marginal_program, sites)).get_trace(model, data.batch()).log_prob_sum()
    explicit = pyro.condition(model.program, sites)
    states = -TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(explicit, lambda batch: None, data.batch())
    torch.testing.assert_close(states, marginal, **EXACT)
    expected = torch.autograd.grad(marginal, list(free.values()), retain_graph=True)
    for one, other in zip(torch.autograd.grad(states, list(free.values())), expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_the_density_of_a_batch_has_one_scale():
    """N / |B| for the sequences of the batch, their weights within, and 1 for the priors."""
    data = ps.Sequences.from_list([[0, 1, 2, 1], [2, 1], [1]], weights=[2.0, 0.5, 3.0])
    model, rows = model_for("categorical"), np.array([0, 2])
    torch.manual_seed(0)
    trace = poutine.trace(marginal_program).get_trace(model, data.batch(rows), 3)
    sites = {name: trace.nodes[name]["value"] for name in own_sites(model)}
    first, last = hmm_from_sites(model, sites).token_log_prob(data.batch(rows)).sum(dim=(0, 2))
    expected = log_prior(model, sites).sum() + 1.5 * (2.0 * first + 3.0 * last)
    torch.testing.assert_close(trace.log_prob_sum(), expected, **EXACT)


def test_known_states_are_conditioned_on():
    data = ps.Sequences.from_list([[0, 1, 2, 1], [2, 1]], states=[[0, 1, -1, 0], [-1, 1]])
    model = model_for("categorical")
    sites, _ = drawn(model, data)
    found, hmm = log_likelihood(model, sites, data.batch()), hmm_from_sites(model, sites)
    for i, (x, known) in enumerate(zip(([0, 1, 2, 1], [2, 1]), ([0, 1, -1, 0], [-1, 1]), strict=True)):
        total = torch.zeros(2, dtype=torch.float64)
        for path in itertools.product(range(2), repeat=len(x)):
            if all(k in (-1, s) for k, s in zip(known, path, strict=True)):
                p = hmm.initial[:, path[0]] * hmm.emission.probs[:, list(path), x].prod(-1)
                total += p * hmm.transition[:, list(path[:-1]), list(path[1:])].prod(-1)
        torch.testing.assert_close(found[:, i], total.log(), **EXACT)


def test_what_is_fixed_has_no_site():
    """It is what the model says, also in every draw."""
    data = data_for("diag")
    model = model_for("diag", fixed=("initial", "emission"))
    sites, _ = drawn(model, data)
    assert sites.keys() == {"transition"}
    six = {"transition": sites["transition"].repeat_interleave(3, 0)}
    hmm = hmm_from_sites(model, six)
    assert hmm.num_restarts == 6
    torch.testing.assert_close(hmm.transition[::3], sites["transition"])
    torch.testing.assert_close(hmm.initial[::3], model.initial)
    torch.testing.assert_close(hmm.emission.means[2::3], model.emission.means)


def test_masks_and_groups_are_kept():
    data = data_for("categorical")
    options = {"transition_mask": [[1, 1, 0], [0, 1, 1], [1, 0, 1]], "initial_mask": [1, 1, 0]}
    model = ps.BayesianHMM(3, E.Categorical(3), emission_groups=[0, 1, 0], num_restarts=2, **options)
    sites, trace = drawn(model, data)
    assert (sites["transition"] == 0).any(0).equal(~model.transition_mask)
    assert sites["probs"].shape == (2, 2, 3)
    hmm = hmm_from_sites(model, sites)
    assert hmm.config()["emission_groups"] == [0, 1, 0]
    assert hmm.num_parameters == model.num_parameters
    likelihood = hmm.token_log_prob(data.batch()).sum()
    inside = sum(trace.nodes[name]["log_prob"].sum() for name in sites)
    torch.testing.assert_close(trace.log_prob_sum(), inside + likelihood, **EXACT)


def test_priors_of_a_plain_model():
    """Those whose mode EM finds, where they are proper."""
    data = ps.Sequences.from_list([[[2.0], [1.0]]])
    model = ps.HMM(1, E.Poisson(1, prior_shape=3.0, prior_rate=0.5))
    initialize(model, data)
    sites, trace = drawn(model, data)
    expected = Gamma(3.0, torch.tensor(0.5).double()).log_prob(sites["rates"]).sum()
    torch.testing.assert_close(trace.nodes["rates"]["log_prob"].sum(), expected, **EXACT)
    for family in (E.Gaussian(1), E.GaussianMixture(1, 2), E.Poisson(1)):
        with pytest.raises(ps.InputError, match=r"no proper prior; build a BayesianHMM"):
            marginal_program(ps.HMM(1, family), data.batch())
    assert prior(ps.HMM(1, E.Gaussian(1))).emission is None


# Distributions


def test_a_masked_table_is_a_dirichlet_of_what_is_allowed():
    mask = torch.tensor([[True, True, False], [False, True, False], [True, True, True]])
    table = DirichletTable(torch.tensor([[0.5, 2.0, 9.0], [1.0, 0.3, 7.0], [1.0, 2.0, 3.0]]).double(), mask)
    value = table.sample((4,))
    assert table.support.check(value).all()
    expected = Dirichlet(torch.tensor([0.5, 2.0]).double()).log_prob(value[:, 0, :2])
    expected = expected + Dirichlet(torch.tensor([1.0, 2.0, 3.0]).double()).log_prob(value[:, 2])
    torch.testing.assert_close(table.log_prob(value), expected)
    torch.testing.assert_close(table.expand((4,)).log_prob(value), expected)
    assert not table.support.check(value.roll(1, -1)).any()


@pytest.mark.parametrize("mask", [[1, 1, 1], [[1, 1, 0], [0, 1, 0], [1, 1, 1]]])
def test_log_ratios_are_a_bijection_with_this_jacobian(mask):
    there = torch.tensor(mask, dtype=torch.bool)
    table = DirichletTable(torch.ones(there.shape).double(), there)
    change = biject_to(table.support)
    value = table.sample()
    free = change.inv(value)
    torch.testing.assert_close(change(free), value)
    assert change.forward_shape(free.shape) == value.shape
    assert change.inverse_shape(value.shape) == free.shape
    jacobian = torch.autograd.functional.jacobian(lambda x: change(x)[change.free], free)
    torch.testing.assert_close(change.log_abs_det_jacobian(free, value), jacobian.slogdet().logabsdet)


DISTRIBUTIONS = {
    "table": DirichletTable(torch.tensor([0.7, 2.0, 1.5]).double(), torch.ones(3, dtype=torch.bool)),
    "beta": Beta(torch.tensor([0.7, 2.0]).double(), torch.tensor([1.0, 0.4]).double()).to_event(1),
    "gamma": GammaInLogs(torch.tensor([0.7, 5.0]).double(), torch.tensor([2.0, 0.5]).double()).to_event(1),
    "normal": pyro.distributions.Normal(torch.tensor([0.0, 3.0]).double(), torch.tensor([1.0, 2.0]).double()),
    "normals": pyro.distributions.MultivariateNormal(
        torch.ones(2).double(), scale_tril=torch.tensor([[1.0, 0.0], [2.0, 0.5]]).double()
    ),
    "factor": InverseWishartFactor(
        torch.tensor(9.0).double(), torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.5, 0.0], [1.0, 1.0, 2.0]]).double()
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_own_noise_draws_from_the_distribution(name):
    """Moments of the log-density and of the values, against draws of torch's or by the density itself."""
    fn, num = DISTRIBUTIONS[name], 3000
    own = OwnNoise(range(num), seed=0).draw(fn.expand((num, *fn.batch_shape)))
    torch.manual_seed(0)
    given = fn.sample((num,))
    for statistic in (lambda x: x, lambda x: x.square(), lambda x: fn.log_prob(x)):
        one, other = (statistic(x).reshape(num, -1) for x in (own, given))
        error = (one.var(0) / num + other.var(0) / num).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() < 5 * error).all()


def test_factors_are_those_of_an_inverse_wishart():
    """Their covariances have its mean, and the density integrates to 1: the mean of a ratio of two densities."""
    torch.manual_seed(0)
    scale = torch.tensor([[1.0, 0.0], [2.0, 0.5]]).double()
    fn = InverseWishartFactor(torch.tensor(12.0).double(), scale)
    draws = fn.sample((20000,))
    tril = dense.unpack(draws, 2)
    covariance = tril @ tril.mT
    error = covariance.std(0) / math.sqrt(len(draws))
    assert ((covariance.mean(0) - scale @ scale.mT / (12 - 3)).abs() < 5 * error).all()
    other = InverseWishartFactor(torch.tensor(13.0).double(), 1.1 * scale)
    ratio = (other.log_prob(draws) - fn.log_prob(draws)).exp()
    assert (ratio.mean() - 1).abs() < 5 * ratio.std() / math.sqrt(len(draws))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_density_of_factors_is_that_of_a_wishart_of_the_precision(size):
    torch.manual_seed(size)
    scale = torch.randn(size, size, dtype=torch.float64).tril(-1) + torch.eye(size, dtype=torch.float64)
    degrees = torch.tensor(size + 2.5, dtype=torch.float64)
    fn = InverseWishartFactor(degrees, scale)
    value = fn.sample()

    def precision(numbers):
        return torch.cholesky_inverse(dense.unpack(numbers, size))[*torch.tril_indices(size, size)]

    change = torch.autograd.functional.jacobian(precision, value).slogdet().logabsdet
    wishart = Wishart(degrees, torch.cholesky_inverse(scale))
    expected = wishart.log_prob(torch.cholesky_inverse(dense.unpack(value, size))) + change
    torch.testing.assert_close(fn.log_prob(value), expected, **EXACT)


def test_draws_are_reparametrised():
    """The mean gradient of a draw is the gradient of the mean."""
    num = 5000
    counts = torch.tensor([0.7, 2.0, 1.5], dtype=torch.float64).repeat(num, 1).requires_grad_()
    mask = torch.ones(3, dtype=torch.bool)
    (found,) = torch.autograd.grad(OwnNoise(range(num), 0).draw(DirichletTable(counts, mask))[:, 0].sum(), counts)
    alpha = torch.tensor([0.7, 2.0, 1.5], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(alpha[0] / alpha.sum(), alpha)
    assert ((found.mean(0) - expected).abs() < 5 * found.std(0) / math.sqrt(num)).all()


def test_noise_depends_on_seed_number_and_step_alone():
    fn = DISTRIBUTIONS["gamma"]
    many = OwnNoise([3, 1, 2], 5, 7).draw(fn.expand((3,)))
    for row, number in enumerate([3, 1, 2]):
        assert torch.equal(OwnNoise([number], 5, 7).draw(fn.expand((1,)))[0], many[row])
    for other in (OwnNoise([3], 5, 8), OwnNoise([3], 6, 7), OwnNoise([4], 5, 7)):
        assert not torch.equal(other.draw(fn.expand((1,)))[0], many[0])
