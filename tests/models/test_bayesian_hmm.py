"""The evidence lower bound of both guides: by hand, against the evidence, and where the posterior is known."""

import copy
import itertools

import numpy as np
import pyro
import pytest
import torch
from bayesian import FAMILIES, data_for, jacobian, log_prior
from hypothesis import given
from hypothesis import strategies as st
from pyro.infer import Trace_ELBO
from test_variational import log_evidence
from torch.distributions import Beta, Dirichlet, Gamma, MultivariateNormal, Normal, Wishart

import probseq as ps
from probseq.inference.starts import initialize
from probseq.models import guides
from probseq.models.emissions import dense
from probseq.models.hmm_priors import hmm_from_sites, marginal_program, own_sites, supports
from probseq.models.parameter_distributions import DirichletTable

E = ps.emissions
EXACT = {"atol": 1e-9, "rtol": 1e-9}


def model_for(name: str, guide: str = "mean_field", num_restarts: int = 2, **options) -> ps.BayesianHMM:
    """At parameters that are not those of the prior, nor of the start."""
    model = ps.BayesianHMM(
        2, FAMILIES[name], 0.7, 1.8, 1.3, guide=guide, num_restarts=num_restarts, sticky=0.5, **options
    )
    initialize(model, data_for(name))
    noise = torch.Generator().manual_seed(0)
    for part, parameter in model.guide_parameters():
        if part.endswith("_strength"):
            parameter.data.fill_(1.5)
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype))
    return model


def estimates(model: ps.BayesianHMM, data: ps.Sequences, number: int) -> torch.Tensor:
    """Independent estimates of the bound of a model's one restart."""
    many = model.take([0] * number)
    many.numbers = list(range(number))
    return many.elbo(data, num_particles=1)


def mean_is(found: torch.Tensor, expected: torch.Tensor | float) -> bool:
    return bool((found.mean() - expected).abs() < 5 * found.std() / len(found) ** 0.5)


@pytest.mark.parametrize("guide", guides.GUIDES)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_bound_is_that_of_pyro_and_of_a_computation_by_hand(name, guide):
    """Value and gradient, for the same draw."""
    model, data = model_for(name, guide), data_for(name)
    parameters = [p.requires_grad_() for _, p in model.guide_parameters()]
    (found,) = guides.elbo(model, data.batch(), guides.OwnNoise(model.numbers, 3))
    pyros = -Trace_ELBO(max_plate_nesting=2).differentiable_loss(
        lambda batch: marginal_program(model, batch),
        guides.guide(model, guides.OwnNoise(model.numbers, 3)),
        data.batch(),
    )
    torch.testing.assert_close(found.sum(), pyros, **EXACT)
    gradients = torch.autograd.grad(found.sum(), parameters, retain_graph=True)
    for one, other in zip(gradients, torch.autograd.grad(pyros, parameters), strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    sites = own_draw(model, guides.OwnNoise(model.numbers, 3))
    likelihood = hmm_from_sites(model, sites).token_log_prob(data.batch()).sum((1, 2))
    torch.testing.assert_close(found, likelihood + log_prior(model, sites) - log_guide(model, sites), **EXACT)


def own_draw(model, noise):
    with torch.no_grad():
        trace = pyro.poutine.trace(guides.guide(model, noise)).get_trace()
    return {name: trace.nodes[name]["value"] for name in supports(model)}


def log_guide(model, sites):
    """``(R,)``: the structured guide by its covariance and Jacobians; the other by the prior's function."""
    if model.guide == "structured":
        coordinates = guides.Coordinates(model)
        factor = model.guide_log_scale.exp()[..., None] * (
            model.guide_factor.tril(-1) + torch.eye(model.num_parameters).double()
        )
        normal = MultivariateNormal(coordinates.flat(own_sites(model)), factor @ factor.mT)
        flat = coordinates.flat(sites)
        return normal.log_prob(flat) - sum(coordinates.sites(flat)[1].values())
    total = DirichletTable(model.log_initial_strength.exp() * model.initial, model.initial_mask).log_prob(
        sites["initial"]
    )
    counts = model.log_transition_strength.exp() * model.transition
    total = total + DirichletTable(counts, model.transition_mask).log_prob(sites["transition"])
    return total + emission_density(model, sites)


def emission_density(model, sites):
    raw, strength = model.emission.raw, model.log_emission_strength.exp()
    match model.emission:
        case E.Categorical():
            return Dirichlet(strength * model.emission.probs).log_prob(sites["probs"]).sum(-1)
        case E.Bernoulli():
            probs = model.emission.probs
            return Beta(strength * probs, strength * (1 - probs)).log_prob(sites["probs"]).sum((-2, -1))
        case E.Poisson():
            return Gamma(strength * model.emission.rates, strength).log_prob(sites["rates"]).sum((-2, -1))
    if "precision" in sites:
        variance = (2 * raw["log_scale"]).exp()
        of_precision = Gamma(strength / 2, strength * variance / 2).log_prob(sites["precision"])
        of_mean = Normal(raw["mean"], (strength * sites["precision"]) ** -0.5).log_prob(sites["mean"])
        return (of_precision + of_mean).sum((-2, -1))
    strength = strength[..., 0]
    precision = torch.cholesky_inverse(dense.unpack(sites["packed_tril"], 2))
    mean_precision = torch.linalg.inv(model.emission.covariances)
    of_precision = Wishart(strength + 1, mean_precision / (strength + 1)[..., None, None]).log_prob(precision)
    of_mean = MultivariateNormal(raw["mean"], precision_matrix=strength[..., None, None] * precision)
    return (of_precision + jacobian(sites["packed_tril"]) + of_mean.log_prob(sites["mean"])).sum(-1)


@pytest.mark.parametrize("guide", guides.GUIDES)
@pytest.mark.parametrize("size", [1, 2])
def test_the_mean_over_minibatches_is_the_bound_of_all(guide, size):
    """Value and gradient, over all minibatches there are, for the same draw."""
    data = ps.Sequences.from_list([[0, 1, 2, 1], [2, 1], [1], [0, 0]], weights=[1.0, 2.0, 0.5, 1.0])
    model = model_for("categorical", guide)
    parameters = [p.requires_grad_() for _, p in model.guide_parameters()]

    def bound(rows):
        (found,) = guides.elbo(model, data.batch(np.array(rows)), guides.OwnNoise(model.numbers, 0), len(data))
        return found.detach(), *torch.autograd.grad(found.sum(), parameters)

    every = [bound(rows) for rows in itertools.combinations(range(4), size)]
    for parts, expected in zip(zip(*every, strict=True), bound(range(4)), strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(0), expected, **EXACT)


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=4), st.integers(1, 3), st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from(list(guides.GUIDES)), st.integers(0, 100),
)  # fmt: skip
def test_the_bound_is_below_the_evidence_and_above_that_of_variational_bayes(x, states, concentration, guide, seed):
    data, priors = ps.Sequences.from_list([x]), [concentration] * 3
    variational = ps.VariationalHMM(states, E.Categorical(3), *priors, seed=seed)
    ps.em(variational, data, num_steps=20)
    model = ps.BayesianHMM(states, E.Categorical(3), *priors, seed=seed, guide=guide)
    model.load_state_dict({**model.state_dict(), **variational.state_dict()})
    found = estimates(model, data, 100)
    error = 5 * found.std() / len(found) ** 0.5 + 1e-9
    assert found.mean() < log_evidence(x, states, 3, *priors) + error
    if guide == "mean_field":
        assert found.mean() > variational.elbo(data) - error


@pytest.mark.parametrize("name", FAMILIES)
def test_at_the_exact_posterior_every_draw_has_the_evidence(name):
    """One state: joint density over posterior is the evidence, whatever the draw, and nothing has a gradient."""
    data = data_for(name)
    variational = ps.VariationalHMM(1, FAMILIES[name], 0.7, 1.8, 1.3)
    ps.em(variational, data, num_steps=3)
    model = ps.BayesianHMM(1, FAMILIES[name], 0.7, 1.8, 1.3)
    initialize(model, data)
    model.load_state_dict(variational.state_dict())
    found = estimates(model, data, 5)
    torch.testing.assert_close(found, variational.elbo(data).expand(5), **EXACT)
    parameters = [p.requires_grad_() for _, p in model.guide_parameters()]
    (bound,) = guides.elbo(model, data.batch(), guides.OwnNoise([0], 0))
    for gradient in torch.autograd.grad(bound, parameters, allow_unused=True, materialize_grads=True):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), **EXACT)


def test_a_structured_guide_knows_what_is_uncertain_together():
    """Its bound is higher than that of any guide with the same margins and no correlations."""
    data = ps.Sequences.from_list([[0, 0, 1, 1, 1, 0, 0, 1, 1]])
    model = ps.BayesianHMM(2, E.Categorical(2), guide="structured")
    ps.svi(model, data, num_steps=200)
    alone = copy.deepcopy(model)
    alone.guide_factor.data.zero_()
    factor = torch.linalg.inv(model.guide_log_scale.exp()[0, :, None] * (model.guide_factor[0].tril(-1) + torch.eye(5)))
    alone.guide_log_scale.data[0] = -0.5 * (factor.mT @ factor).diagonal().log()  # the best one for this covariance
    difference = estimates(model, data, 1000).mean() - estimates(alone, data, 1000).mean()
    assert difference > 0.05


@pytest.mark.parametrize("guide", guides.GUIDES)
def test_draws_come_from_the_guide(guide):
    """The mean of their transition rows, and the spread of their logarithms, against draws of the guide itself."""
    model = model_for("diag", guide)
    posterior = model.posterior(num_draws=300, seed=1)
    assert (posterior.num_restarts, posterior.num_draws) == (2, 300)
    many = [own_draw(model, guides.OwnNoise(model.numbers, 2, step)) for step in range(300)]
    drawn = posterior.draws.transition.view(2, 300, 2, 2), posterior.draws.emission.means.view(2, 300, 2, 2)
    for found, name in zip(drawn, ("transition", "mean"), strict=True):
        expected = torch.stack([one[name] for one in many], dim=1)
        for statistic in (torch.Tensor.double, torch.Tensor.square):
            one, other = statistic(found), statistic(expected)
            error = ((one.var(1) + other.var(1)) / 300).sqrt()
            assert ((one.mean(1) - other.mean(1)).abs() < 5 * error).all()
    alone = model.select(1).posterior(num_draws=300, seed=1)
    torch.testing.assert_close(alone.draws.transition, drawn[0][1])


def test_em_is_refused():
    """Its steps climb another bound, that of a `VariationalHMM`."""
    for guide in guides.GUIDES:
        with pytest.raises(ps.InputError, match="em does not climb the bound of a BayesianHMM; fit it with svi"):
            ps.em(ps.BayesianHMM(2, E.Categorical(3), guide=guide), data_for("categorical"))
    with pytest.raises(ps.InputError, match="posterior"):
        ps.fit_gradient(ps.BayesianHMM(2, E.Categorical(3)), data_for("categorical"))


def test_saved_and_loaded_it_has_the_same_bound(tmp_path):
    model, data = model_for("full", "structured"), data_for("full")
    ps.save(model, tmp_path / "model")
    loaded = ps.load(tmp_path / "model")
    assert type(loaded) is ps.BayesianHMM
    assert torch.equal(loaded.elbo(data, num_particles=2), model.elbo(data, num_particles=2))


def test_the_bound_does_not_depend_on_the_size_of_batches():
    model, data = model_for("poisson"), data_for("poisson")
    torch.testing.assert_close(model.elbo(data, 2, num_particles=3), model.elbo(data, num_particles=3))


def test_states_can_be_renamed():
    model, data = model_for("categorical"), data_for("categorical")
    renamed = model.permute([1, 0])
    torch.testing.assert_close(renamed.token_log_prob(data.batch()), model.token_log_prob(data.batch()))
    with pytest.raises(ps.InputError, match=r"align the draws of posterior\(\)"):
        model_for("categorical", "structured").permute([1, 0])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"guide": "mean-field"}, "guide 'mean-field'.*did you mean 'mean_field'"),
        ({"guide": "structured", "num_states": 40}, "covariance of 1679 parameters; expected 1000 or fewer"),
        ({"transition_concentration": 0.0}, "transition concentration is 0.0; expected more than 0"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.BayesianHMM(**{"num_states": 2, "emission": E.Categorical(3), **options})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("concentration", [0.1, 0.01])
@pytest.mark.parametrize("family", [E.Categorical(2), E.Bernoulli(1), E.Poisson(1)], ids=["symbols", "bits", "counts"])
def test_the_bound_stays_one_where_draws_are_too_small_for_a_float(family, concentration, dtype):
    """A guide far weaker than the posterior draws numbers of e^-1000; the exact bound of one state is that of VB."""
    data = ps.Sequences.from_list([[1, 1, 1]] if family.num_symbols else [np.ones((3, 1))])
    exact = ps.VariationalHMM(1, family, emission_concentration=concentration, dtype=dtype)
    ps.em(exact, data)
    evidence, strength = exact.elbo(data), exact.log_emission_strength.detach().clone()
    for share in (1.0, 0.1, 0.01):
        exact.log_emission_strength.data = strength + np.log(share)
        model = ps.BayesianHMM(1, family, emission_concentration=concentration, dtype=dtype)
        initialize(model, data)
        model.load_state_dict(exact.state_dict())
        found, bound = estimates(model, data, 300), exact.elbo(data)[0].double()
        error = found.std() / 300**0.5 + 1e-5
        assert abs(found.mean() - bound) < 5 * error, share
        assert found.mean() < evidence + 5 * error


def test_the_error_of_the_bound_is_that_of_its_draws():
    model, data = model_for("categorical"), data_for("categorical")
    draws = model.elbo_draws(data, num_particles=400)
    assert draws.shape == (400, 2)
    torch.testing.assert_close(draws.mean(0), model.elbo(data, num_particles=400), **EXACT)
    assert (draws.std(0) > 0.1).all()
    torch.testing.assert_close(draws[:3], model.elbo_draws(data, num_particles=3), **EXACT)


def test_what_cannot_be_scored_or_drawn_is_refused():
    model = ps.BayesianHMM(2, E.Categorical(2))
    data = ps.Sequences.from_list([[0, 1]])
    with pytest.raises(ps.InputError, match="data holds no sequences"):
        model.elbo(ps.Sequences(np.zeros(0, np.int64), np.zeros(1, np.int64)))
    with pytest.raises(ps.InputError, match="num_particles is 0; expected 1 or more"):
        model.elbo(data, num_particles=0)
    with pytest.raises(ps.InputError, match=r"^symbol 5 is outside[^\n]*$"):
        model.elbo(ps.Sequences.from_list([[0, 5]]))
    with pytest.raises(ps.InputError, match=r"^the data know of state 7, and the model has 2 states[^\n]*$"):
        model.elbo(ps.Sequences.from_list([[0, 1]], states=[[7, -1]]))
    unfitted = ps.BayesianHMM(2, E.Gaussian(1))
    for ask in (lambda: unfitted.posterior(3), lambda: unfitted.elbo(ps.Sequences.from_list([np.ones((3, 1))]))):
        with pytest.raises(ps.InputError, match="no posterior yet: its start, 'dirichlet', is made from data"):
            ask()
