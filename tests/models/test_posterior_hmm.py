"""Draws from a posterior: their average is a model, the names of their states are nothing."""

import math

import numpy as np
import pytest
import torch
from kinds import PLANE
from strategies import CONJUGATE, family, observations

import probseq as ps
from probseq.inference.starts import initialize

DATA = ps.Sequences.from_list([[0, 1, 2, 1, 0, 2], [2], [1, 1], [0, 0, 1, 2, 2, 2, 1, 0, 1]])


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def model(num_restarts=2, num_draws=5, **options):
    draws = ps.HMM(3, ps.emissions.Categorical(3), num_restarts=num_restarts * num_draws, **options)
    return ps.PosteriorHMM(draws, num_draws)


def shuffled(one, seed=0):
    """The same draws, the states of each renamed at random."""
    rng = np.random.default_rng(seed)
    order = np.array([rng.permutation(one.num_states) for _ in range(one.draws.num_restarts)])
    return ps.PosteriorHMM(one.draws.permute(order), one.num_draws, one.num_chains)


def fitted(name="categorical", num_restarts=1, **options):
    data = observations(name, 2, np.random.default_rng(0), missing=False, constant=False)
    start = ps.VariationalHMM(2, family(name, 2, prior=False), num_restarts=num_restarts, **options)
    ps.em(start, data, num_steps=20)
    return start, data


def test_a_sequence_scores_the_log_mean_exp_of_its_draws():
    one, batch = model(), DATA.batch()
    of_draws = one.draws.token_log_prob(batch).sum(-1).view(2, 5, -1)
    by_hand = torch.log(of_draws.exp().sum(dim=1) / 5)
    close(one.token_log_prob(batch).sum(-1), by_hand)
    mean_of_logs = of_draws.mean(dim=1)
    assert (by_hand > mean_of_logs + 1e-4).all()  # Jensen: the two are not the same


def test_an_average_over_draws_is_not_one_over_steps():
    """What a sequence has shown changes the weights of the draws, so terms are not averages of terms."""
    one, batch = model(), DATA.batch()
    averages = one.draws.token_log_prob(batch).view(2, 5, *batch.values.shape).logsumexp(1) - math.log(5)
    assert (one.token_log_prob(batch) - averages)[:, 0, 1:].abs().max() > 1e-3
    close(one.token_log_prob(batch)[..., 0], averages[..., 0])


def test_one_draw_is_that_hmm():
    one = model(num_restarts=3, num_draws=1)
    close(one.token_log_prob(DATA.batch()), one.draws.token_log_prob(DATA.batch()))
    close(one.posterior_marginals(DATA.batch()), one.aligned().draws.posterior_marginals(DATA.batch()))
    assert one.num_parameters == one.draws.num_parameters


def test_equal_draws_are_that_hmm():
    hmm = ps.HMM(3, ps.emissions.Categorical(3))
    one = ps.PosteriorHMM(hmm.take([0] * 6), num_draws=6)
    close(one.token_log_prob(DATA.batch()), hmm.token_log_prob(DATA.batch()))
    close(one.posterior_marginals(DATA.batch()), hmm.posterior_marginals(DATA.batch()))


def test_sequences_taken_in_parts_score_as_all_at_once(monkeypatch):
    one = model()
    expected, marginals = one.token_log_prob(DATA.batch()), one.posterior_marginals(DATA.batch())
    monkeypatch.setattr("probseq.models.posterior_hmm._CELLS", 1)
    close(one.token_log_prob(DATA.batch()), expected)
    close(one.posterior_marginals(DATA.batch()), marginals)


def test_what_every_draw_finds_impossible_is_impossible():
    draws = ps.HMM(2, ps.emissions.Categorical(2), num_restarts=4, initial_mask=[True, False])
    with torch.no_grad():
        draws.emission.logits[:, 0] = torch.tensor([0.0, -torch.inf])  # a sequence begins with symbol 0
        draws.emission.logits[1, :] = torch.tensor([0.0, -torch.inf])  # and one draw never emits symbol 1
    one = ps.PosteriorHMM(draws, num_draws=4)
    batch = ps.Sequences.from_list([[1, 0, 1], [0, 1, 1]]).batch()
    terms = one.token_log_prob(batch)[0]
    assert terms[0].tolist() == [-math.inf] * 3
    close(terms[1].sum(), torch.log(draws.token_log_prob(batch)[:, 1].sum(-1).exp().mean()))


def test_renaming_states_changes_no_likelihood():
    one = model()
    other = shuffled(one)
    assert not torch.equal(one.draws.initial, other.draws.initial)
    close(one.token_log_prob(DATA.batch()), other.token_log_prob(DATA.batch()))
    close(one.aligned().token_log_prob(DATA.batch()), one.token_log_prob(DATA.batch()))


def concentrated(name):
    """A fit's data, and twelve draws so near to one model that only names can tell their states apart."""
    start, data = fitted(name)
    draws = start.posterior(1).draws.take([0] * 12)
    generator = torch.Generator().manual_seed(0)
    for value in draws.parameters():
        value.data += 0.01 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    return ps.PosteriorHMM(draws, 12), data


@pytest.mark.parametrize("name", CONJUGATE)
def test_what_is_said_of_states_does_not_depend_on_their_names(name):
    one, data = concentrated(name)
    other, reference = shuffled(one), one.draws.select(0)
    again = other.aligned(reference)
    for key, value in one.parameter_draws().items():
        close(again.parameter_draws()[key], value)
        assert not torch.allclose(other.parameter_draws()[key], value)
    marginals = [m.posterior_marginals(data.batch()).sort(dim=-1)[0] for m in (one, other)]
    close(*marginals)
    unaligned = other.draws.posterior_marginals(data.batch()).mean(0, keepdim=True).sort(dim=-1)[0]
    assert not torch.allclose(unaligned, marginals[0], atol=1e-3)


@pytest.mark.parametrize("name", CONJUGATE)
def test_means_are_those_of_the_aligned_draws(name):
    one = shuffled(concentrated(name)[0])
    aligned = one.aligned()
    for key, value in one.mean_parameters().items():
        close(value, aligned.parameter_draws()[key].mean(dim=1))
        spread = aligned.parameter_draws()[key].std(dim=1)
        assert (spread < 0.2 * one.parameter_draws()[key].std(dim=1).max()).all()
    assert one.mean_parameters()["transition"].sum(-1) == pytest.approx(np.ones((1, 2)))


def test_paths_are_those_of_the_engine():
    one, data = concentrated("categorical")
    aligned, batch = one.aligned(), data.batch()
    paths = one.viterbi(batch)
    assert paths.shape == (1, 12, *batch.values.shape)
    for s in range(12):
        draw = aligned.draws.select(s)
        assert torch.equal(paths[0, s], draw.viterbi(batch)[0])
    expected = torch.stack([aligned.draws.select(s).posterior_marginals(batch)[0] for s in range(12)]).mean(0)
    close(one.posterior_marginals(batch)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("name", CONJUGATE)
def test_draws_of_a_variational_posterior_have_its_moments(name):
    """The mean of the draws is the model's own; their spread is that of its strengths."""
    start, _ = fitted(name)
    one = start.posterior(4000, seed=3)
    drawn = one.parameter_draws()
    counts = start.log_transition_strength.exp() * start.transition
    by_hand = torch.distributions.Dirichlet(counts[0])
    error = drawn["transition"][0].std(0) / math.sqrt(4000)
    assert ((drawn["transition"][0].mean(0) - by_hand.mean).abs() < 4 * error + 1e-12).all()
    assert drawn["transition"][0].var(0) == pytest.approx(by_hand.variance, rel=0.15, abs=1e-12)
    for key in {"probs", "rates", "means"} & drawn.keys():
        mean = getattr(start.emission, key)[0]
        error = drawn[key][0].std(0) / math.sqrt(4000)
        assert ((drawn[key][0].mean(0) - mean).abs() < 4 * error + 1e-12).all()
    if "covariances" in drawn:  # the mean is that of the precision
        precision = drawn["covariances"][0].inverse()
        error = precision.std(0) / math.sqrt(4000)
        assert ((precision.mean(0) - start.emission.covariances[0].inverse()).abs() < 4 * error + 1e-12).all()


def test_draws_depend_on_seed_and_restart_alone():
    start, _ = fitted(num_restarts=3)
    before = torch.random.get_rng_state()
    one, lone = start.posterior(4, seed=1), start.select(1).posterior(4, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)  # nothing global has changed
    assert torch.equal(one.select(1).draws.transition, lone.draws.transition)
    assert torch.equal(one.select(1).draws.emission.probs, lone.draws.emission.probs)
    assert not torch.equal(start.posterior(4, seed=2).draws.transition, one.draws.transition)


def test_what_is_fixed_or_forbidden_is_so_in_every_draw():
    mask = np.triu(np.ones((2, 2), dtype=bool))
    start, _ = fitted(transition_mask=mask, fixed=["initial"])
    one = start.posterior(6)
    assert torch.equal(one.draws.initial, start.initial.expand(6, -1))
    assert (one.draws.transition[:, 1] == torch.tensor([0.0, 1.0])).all()
    everything = ["initial", "transition", "emission"]
    known = ps.VariationalHMM(2, ps.emissions.Categorical(3), fixed=everything)
    close(known.posterior(3).token_log_prob(DATA.batch()), known.token_log_prob(DATA.batch()))


def test_restarts_keep_their_draws():
    one = model(num_restarts=3, num_draws=2)
    assert torch.equal(one.select(1).draws.transition, one.draws.transition[2:4])
    close(one.select(2).token_log_prob(DATA.batch())[0], one.token_log_prob(DATA.batch())[2])


def test_vectors_are_drawn_and_scored(generator):
    draws = ps.HMM(3, ps.emissions.Gaussian(2, covariance="full"), num_restarts=4)
    initialize(draws, PLANE.structured(20, 9))
    one = ps.PosteriorHMM(draws, 4)
    data = one.sample(5, 7, generator=generator)
    of_draws = one.draws.token_log_prob(data.batch()).sum(-1)
    close(one.token_log_prob(data.batch()).sum(-1)[0], of_draws.logsumexp(0) - math.log(4))


def test_a_sample_keeps_to_one_draw(generator):
    """One draw knows symbol 0 alone and the other symbol 1: no sequence holds both."""
    draws = ps.HMM(1, ps.emissions.Categorical(2), num_restarts=2)
    with torch.no_grad():
        draws.emission.logits.copy_(torch.eye(2, dtype=torch.float64).log()[:, None])
    symbols = ps.PosteriorHMM(draws, 2).sample(200, 6, generator=generator).batch().values
    assert (symbols == symbols[:, :1]).all()
    assert 60 < int(symbols[:, 0].sum()) < 140


def test_wrong_draws_are_refused():
    hmm = ps.HMM(2, ps.emissions.Categorical(2), num_restarts=6)
    for num_draws, num_chains in ((0, 1), (4, 1), (6, 4), (6, 0)):
        with pytest.raises(ps.InputError, match=r"received 6 draws in all, num_draws|num_\w+ is 0; expected 1 or more"):
            ps.PosteriorHMM(hmm, num_draws, num_chains)
    with pytest.raises(ps.InputError, match="draws are a VariationalHMM; expected an HMM"):
        ps.PosteriorHMM(ps.VariationalHMM(2, ps.emissions.Categorical(2)), 1)
    with pytest.raises(ps.InputError, match="num_draws is 0; expected 1 or more"):
        ps.VariationalHMM(2, ps.emissions.Categorical(2)).posterior(0)
    with pytest.raises(ps.InputError, match="seed is -1"):
        ps.VariationalHMM(2, ps.emissions.Categorical(2)).posterior(2, seed=-1)
