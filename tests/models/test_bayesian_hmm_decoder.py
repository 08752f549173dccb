"""An HMM decoder with a posterior over its tables: the bound by hand, independent restarts, draws."""

import copy

import numpy as np
import pyro
import pytest
import torch
from torch.distributions import Normal

import probseq as ps
from probseq import BayesianHMMDecoder
from probseq.models.guides import OwnNoise
from probseq.models.hmm_decoder_guide import guide

DATA = ps.Sequences.from_list(
    [[0, 1, 2], [2], [1, 0, 0, 2]], [1.0, 2.0, 1.0], ps.Sequences.from_list([[3, 0, 1, 4], [4], [2, 2, 1, 4]])
)
KINDS = {
    "latent": {"states": "latent", "num_states": 3, "num_components": 2, "emission": "state"},
    "alignment": {"states": "alignment", "emission": "previous"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind, num_restarts=2, **options):
    return BayesianHMMDecoder(5, 3, num_restarts=num_restarts, hidden_dim=4, **{**KINDS[kind], **options}).double()


@every_kind
def test_a_draw_of_the_bound_by_hand(kind):
    """``log p(y | x, theta) + log p(theta) - log q(theta)`` at the draw that the guide makes."""
    model = make(kind, prior_scale=0.7)
    found = model.guide_bound(DATA.batch(), OwnNoise(model.numbers, 3))[0]
    with torch.no_grad():
        trace = pyro.poutine.trace(guide).get_trace(model, OwnNoise(model.numbers, 3))
    nets, expected = model.networks(), torch.zeros(2, dtype=torch.float64)
    for r, net in enumerate(nets.nets):
        for key, log_scale in model.log_scales.items():
            table, theta = dict(net.named_parameters())[key.replace("/", ".")], trace.nodes[key]["value"][r]
            expected[r] += Normal(torch.zeros_like(theta), 0.7 * torch.ones_like(theta)).log_prob(theta).sum()
            expected[r] -= Normal(table, log_scale[r].exp()).log_prob(theta).sum()
            assert (theta != table).all()
            table.data.copy_(theta)
    expected += torch.tensor(ps.evaluate(nets, DATA).log_prob * DATA.weights).sum(-1)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@every_kind
def test_minibatches_estimate_the_same_bound(kind):
    model = make(kind)
    parts = [model.guide_bound(DATA.batch(np.array([i])), OwnNoise(model.numbers, 0), 3) for i in range(3)]
    whole = model.guide_bound(DATA.batch(), OwnNoise(model.numbers, 0))
    torch.testing.assert_close(torch.stack(parts).mean(0), whole, atol=1e-10, rtol=0)


@every_kind
def test_restarts_together_equal_lone_fits(kind):
    start = make(kind, num_restarts=3)
    lone = [copy.deepcopy(start.select(r)) for r in range(3)]
    settings = {"num_steps": 4, "batch_size": 2, "num_particles": 2, "seed": 5}
    together = ps.svi(start, DATA, **settings)
    for r, model in enumerate(lone):
        alone = ps.svi(model, DATA, **settings)
        np.testing.assert_allclose(alone.history[:, 0], together.history[:, r], atol=1e-11)
        for name, value in together.model.named_parameters():
            torch.testing.assert_close(dict(model.named_parameters())[name][0], value[r], atol=1e-9, rtol=0)


def test_a_fit_raises_the_bound_and_narrows_the_posterior():
    corpus = ps.load_corpus("transducer", num_sequences=500)
    model = BayesianHMMDecoder(10, 13, states="alignment", emission="state", hidden_dim=16, monotone=True)
    before = float(model.elbo(corpus.train, num_particles=4))
    fit = ps.svi(model, corpus.train, num_steps=60, batch_size=50, learning_rate=0.08)
    assert fit.details["final"][0] > before / float(corpus.train.num_observed.sum()) + 0.5
    moved = model.log_scales["hidden/head/bias"]
    assert (moved < np.log(0.1)).double().mean() > 0.5
    assert ps.evaluate(model, corpus.test).nats_per_token[0] < 2.3  # a uniform model has log 13 = 2.56


def test_draws_are_the_means_with_noise():
    model = make("latent")
    with torch.no_grad():
        for value in model.log_scales.values():
            value.fill_(np.log(0.3))
    plain, drawn = model.networks(), model.networks(50, seed=2)
    assert (plain.num_restarts, drawn.num_restarts) == (2, 100)
    torch.testing.assert_close(plain.token_log_prob(DATA.batch()), model.token_log_prob(DATA.batch()))
    for r in range(2):
        tables = torch.stack([net.hidden.table for net in drawn.nets[50 * r : 50 * r + 50]])
        spread = (tables - plain.nets[r].hidden.table) / 0.3
        assert abs(spread.mean()) < 5 / spread.numel() ** 0.5
        assert abs(spread.std() - 1) < 5 / (2 * spread.numel()) ** 0.5
        assert all(torch.equal(net.weigh.weight, plain.nets[r].weigh.weight) for net in drawn.nets[50 * r :][:50])
    alone = model.select(1).networks(50, seed=2)
    assert torch.equal(alone.nets[7].hidden.table, drawn.nets[57].hidden.table)


def test_saved_and_loaded_gives_the_same_numbers(tmp_path):
    model = make("latent", prior_scale=0.5)
    ps.save(model, tmp_path / "model")
    loaded = ps.load(tmp_path / "model")
    assert torch.equal(loaded.token_log_prob(DATA.batch()), model.token_log_prob(DATA.batch()))
    assert torch.equal(loaded.elbo(DATA, num_particles=2), model.elbo(DATA, num_particles=2))
    assert loaded.num_parameters == model.num_parameters == model.networks().num_parameters


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prior_scale": 0.0}, "prior_scale is 0.0; expected a positive number"),
        ({"dropout": 0.1}, "dropout is 0.1; expected none"),
        ({"num_restarts": 0}, "num_restarts is 0"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        BayesianHMMDecoder(5, 3, **options)


def test_pairs_without_a_source_are_refused():
    with pytest.raises(ps.InputError, match="the data have no source"):
        ps.svi(make("latent"), ps.Sequences.from_list([[0, 2]]))


def test_a_target_that_no_parameters_make_possible_is_refused():
    model = make("alignment", jumps=(1, 2), end=2)
    data = ps.Sequences.from_list([[0, 2], [0, 1, 2]], source=ps.Sequences.from_list([[3, 4], [3, 4]]))
    with pytest.raises(ps.InputError, match="sequence 1 has a target of 3 symbols and a source of 2"):
        ps.svi(model, data, num_steps=1)
