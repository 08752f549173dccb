"""SVI of a topic model: guides against closed forms, the law of minibatches, restarts."""

import itertools

import numpy as np
import pyro
import pytest
import torch
from scipy.special import gammaln

import probseq as ps
from probseq.models import topic_guides
from probseq.models.guides import OwnNoise

GUIDES = ("mean_field", "logistic_normal", "prodlda")
DATA = ps.Sequences.from_list([[0, 1, 2, 1], [3], [1, 1, 0], [2, 0, 2, 3, 3]], weights=[1.0, 2.0, 0.5, 1.0])


def build(guide, num_topics=3, **options):
    """A model in which no two topics, documents or encoder's units are alike."""
    model = ps.LDA(num_topics, 4, **{"start": "random", "hidden_dim": 5, **options}, guide=guide)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.5 * torch.randn(value.shape, generator=noise, dtype=torch.float64)
    return model


class Still(OwnNoise):
    """The same draw for every document."""

    def __init__(self):
        super().__init__([0], 0)

    def log_gammas(self, shapes):
        return shapes.log()

    def normals(self, like):
        return torch.full_like(like, 0.3)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("guide", GUIDES)
def test_the_mean_over_all_minibatches_is_the_bound_of_all_documents(guide, size):
    model = build(guide).requires_grad_(True)
    whole = model.guide_bound(DATA.batch(), Still())
    rows = list(itertools.combinations(range(4), size))
    parts = [model.guide_bound(DATA.batch(np.array(row)), Still(), num_sequences=4) for row in rows]
    torch.testing.assert_close(sum(parts) / len(parts), whole, atol=1e-10, rtol=0)
    used = [value for _, value in model.guide_parameters()]
    slopes = [torch.autograd.grad(bound.sum(), used) for bound in (whole, sum(parts) / len(parts))]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("guide", ["mean_field", "logistic_normal"])
def test_with_one_topic_every_draw_gives_the_evidence(guide):
    """The guide holds the posterior, so that the bound is log p(all words) whatever was drawn."""
    model = ps.LDA(1, 4, num_restarts=2, start="random", eta=0.7, fixed=["eta"], guide=guide)
    ps.em(model, DATA, num_steps=3)
    n = np.zeros(4)
    for x, weight in zip(DATA, DATA.weights, strict=True):
        np.add.at(n, x, weight)
    evidence = gammaln(4 * 0.7) - gammaln(4 * 0.7 + n.sum()) + (gammaln(0.7 + n) - gammaln(0.7)).sum()
    found = model.elbo(DATA, num_particles=1)
    torch.testing.assert_close(found, torch.full_like(found, evidence), atol=1e-8, rtol=0)


def draws(model, data, num=4000):
    """The bound of `num` single draws: those of as many equal restarts."""
    many = model.take([0] * num)
    many.numbers = list(range(num))
    return many.elbo(data, num_particles=1)


@pytest.mark.parametrize("guide", ["mean_field", "logistic_normal"])
def test_a_draws_ratio_of_densities_averages_to_the_probability(guide):
    """Topics at their prior: two equal words have one topic or two, and in closed form a probability."""
    model = ps.LDA(2, 3, start="random", alpha=1.5, eta=2.0, hidden_dim=5, guide=guide)
    model.log_concentration.data.copy_(model.log_eta[..., None].expand(1, 2, 3))
    if guide == "logistic_normal":
        model.encoder.out_bias.data[..., 1] = 0.3  # as wide as the prior, for ratios that vary little
    same = 2.5 / 4
    expected = (same * 3 / 7 + (1 - same) / 3) / 3
    ratio = draws(model, ps.Sequences.from_list([[1, 1]])).exp()
    error = ratio.std() / len(ratio) ** 0.5
    assert error < 0.02 * expected
    assert abs(ratio.mean() - expected) < 3 * error


def test_a_product_of_topics_is_what_prodlda_draws_from():
    """Its probability by quadrature over two topics."""
    model = build("prodlda", num_topics=2, alpha=1.5)
    a, b = model.alpha[0].tolist()
    nodes, mass = np.polynomial.legendre.leggauss(200)
    first, mass = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(mass / 2)
    theta = torch.stack([first, 1 - first], dim=-1)
    words = (theta @ model.log_concentration[0]).log_softmax(dim=-1)[:, [0, 3, 3]].sum(dim=-1)
    density = torch.distributions.Beta(torch.tensor(a).double(), torch.tensor(b).double()).log_prob(first)
    expected = (mass * (words + density).exp()).sum()
    ratio = draws(model, ps.Sequences.from_list([[0, 3, 3]])).exp()
    error = ratio.std() / len(ratio) ** 0.5
    assert error < 0.02 * expected
    assert abs(ratio.mean() - expected) < 3 * error


def test_the_density_of_a_logistic_normal():
    """Against torch's normal and a Jacobian by automatic differentiation."""
    model, basis = build("logistic_normal"), topic_guides._basis(3)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(basis.sum(dim=0), torch.zeros(2, dtype=torch.float64))
    batch = DATA.batch()
    part = topic_guides._Part(topic_guides.topics.documents(batch.values, batch.observed, 4), batch.weights)
    trace = pyro.poutine.trace(lambda: topic_guides.logistic_normal(model, part, Still())).get_trace()
    mean, log_scale = model.encoder(part.docs)
    u = mean + 0.3 * log_scale.exp()
    normal = torch.distributions.Normal(mean, log_scale.exp()).log_prob(u).sum(dim=-1)
    jacobian = [torch.autograd.functional.jacobian(lambda x: (basis @ x).softmax(0)[:2], one) for one in u[0]]
    expected = normal[0] - torch.stack([j.det().abs().log() for j in jacobian])
    torch.testing.assert_close(trace.nodes["theta"]["fn"].log_density[0], expected, atol=1e-10, rtol=0)
    theta = torch.stack([(basis @ x).softmax(0) for x in u[0]])
    torch.testing.assert_close(trace.nodes["theta"]["value"][0], theta, atol=1e-12, rtol=0)


def simulated(num=200):
    truth = ps.LDA.from_parameters(np.random.default_rng(0).dirichlet(np.full(12, 0.2), 3), alpha=0.3)
    return truth, truth.simulate(num, 30, torch.Generator().manual_seed(0))


def test_the_mean_field_bound_is_above_that_of_coordinate_ascent_and_rises():
    """Topics of words are summed out, and not taken for independent of all else."""
    _, data = simulated()
    model = ps.LDA(3, 12, num_restarts=2, start="random")
    fit = ps.em(model, data, num_steps=40)
    reached = np.array([fit.history[n - 1, r] for r, n in enumerate(fit.num_steps)]) * data.num_tokens
    before = model.elbo(data, num_particles=20)
    assert (before.numpy() > reached).all()
    ps.svi(model, data, num_steps=60, batch_size=50, learning_rate=0.03)
    assert (model.elbo(data, num_particles=20) > before).all()


@pytest.mark.parametrize("guide", ["logistic_normal", "prodlda"])
def test_an_encoder_learns_the_topics_of_documents(guide):
    truth, data = simulated()
    model = ps.LDA(3, 12, guide=guide, hidden_dim=20)
    ps.em(model, data, num_steps=1)
    before = model.elbo(data, num_particles=5).item() / data.num_tokens
    ps.svi(model, data, num_steps=150, batch_size=50)
    after = model.elbo(data, num_particles=5).item() / data.num_tokens
    assert after > before + 0.2
    if guide == "logistic_normal":
        of_truth, found = (ps.evaluate(one, data).nats_per_token[0] for one in (truth, model))
        assert -after > found  # a bound
        assert found < of_truth + 0.03
        assert -after < of_truth + 0.15


@pytest.mark.parametrize("guide", GUIDES)
def test_restarts_together_equal_lone_fits(guide):
    start = ps.LDA(2, 4, num_restarts=3, start="random", guide=guide, hidden_dim=5)
    lone = [start.select(r) for r in range(3)]
    settings = {"num_steps": 5, "batch_size": 2, "num_particles": 2, "seed": 5}
    together = ps.svi(start, DATA, **settings)
    assert (together.history[:, 0] != together.history[:, 1]).all()
    for r, model in enumerate(lone):
        alone = ps.svi(model, DATA, **settings)
        np.testing.assert_allclose(alone.history[:, 0], together.history[:, r], atol=1e-11)
        for name, value in start.named_parameters():
            torch.testing.assert_close(dict(model.named_parameters())[name][0], value[r], atol=1e-9, rtol=0)


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("part", ["topics", "alpha", "eta"])
def test_fixed_parts_stay_and_the_others_move(guide, part):
    model = build(guide, fixed=[part])
    before = {name: value.clone() for name, value in model.named_parameters()}
    ps.svi(model, DATA, num_steps=2)
    still = {"log_concentration", "log_eta"} if part == "topics" else {f"log_{part}"}
    still |= {"log_eta"} if guide == "prodlda" else set()
    assert {name for name, value in model.named_parameters() if torch.equal(value, before[name])} == still
    assert not any(value.requires_grad for value in model.parameters())


def test_a_symmetric_prior_stays_symmetric():
    model = ps.LDA(3, 4, start="random", symmetric=True)
    ps.svi(model, DATA, num_steps=5)
    assert model.alpha.std() < 1e-12
    assert abs(model.alpha[0, 0] - 0.1) > 1e-3


@pytest.mark.parametrize("guide", GUIDES)
def test_a_document_without_any_observed_word_is_as_its_prior_says(guide):
    silent = ps.Sequences.from_list([[0, 1], [0, 0]], missing=[[False] * 2, [True] * 2])
    fit = ps.svi(build(guide), silent, num_steps=5)
    assert np.isfinite(fit.history).all()


def test_a_saved_encoder_comes_back(tmp_path):
    model = build("logistic_normal", num_restarts=2)
    ps.save(model, tmp_path / "model")
    again = ps.load(tmp_path / "model")
    assert torch.equal(again.elbo(DATA, num_particles=2), model.elbo(DATA, num_particles=2))


def test_an_unknown_guide_is_refused():
    with pytest.raises(ps.InputError, match="unknown guide 'meanfield'; did you mean 'mean_field'"):
        ps.LDA(2, 4, guide="meanfield")
    with pytest.raises(ps.InputError, match="hidden_dim is 0"):
        ps.LDA(2, 4, hidden_dim=0)
