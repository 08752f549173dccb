"""The topic model's laws, and its statement in Pyro against the exact likelihood."""

import itertools
import json
import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

import probseq as ps
from probseq.models.topic import LDA
from probseq.models.topic_program import Word
from probseq.ops import particles
from probseq.ops.topic_likelihood import exact_token_log_prob

EXACT = {"atol": 1e-10, "rtol": 0}
TABLE = [[0.7, 0.2, 0.1, 0.0], [0.1, 0.1, 0.3, 0.5]]
DATA = ps.Sequences.from_list([[0, 1, 2, 1, 0, 2], [3], [1, 1], [0, 0, 1, 2, 2, 3, 1, 0, 1], [2, 0, 1]])


def random_model(restarts=2, num_topics=3, seed=0, **options):
    model = LDA(num_topics, 4, num_restarts=restarts, seed=seed, num_particles=64, **options)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.7 * torch.randn(value.shape, generator=noise, dtype=torch.float64).to(value.dtype)
    return model


def exact(model, data):
    batch = data.batch()
    return exact_token_log_prob(batch.values, batch.observed, model.topics, model.alpha).sum(dim=-1)


def all_documents(length):
    return ps.Sequences.from_list(list(itertools.product(range(4), repeat=length)))


# Against other statements of the same


def test_program_with_its_topics_summed_out_is_the_exact_likelihood():
    """Each restart holds theta at one node of a quadrature that is exact here, for alpha = (2, 1) and few words."""
    nodes, mass = np.polynomial.legendre.leggauss(12)
    theta, mass = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(mass / 2)
    table = 0.1 + 0.6 * torch.tensor(TABLE, dtype=torch.float64)
    data = ps.Sequences.from_list([[0, 1, 2, 3], [2]], missing=[[False, True, False, False], [False]])
    model = LDA(2, 4, num_restarts=12, alpha=[2.0, 1.0])
    given = {
        "topics": table[:, None].expand(12, 2, 1, 4),
        "theta": torch.stack([theta, 1 - theta], dim=-1)[:, None, None].expand(12, 2, 1, 2),
    }
    program = pyro.poutine.enum(pyro.condition(model.program, data=given), first_available_dim=-4)
    trace = pyro.poutine.trace(program).get_trace(data.batch())
    trace.compute_log_prob()
    joint = trace.nodes["topic"]["log_prob"] + trace.nodes["word"]["log_prob"]  # (K, R, N, T)
    words = joint.logsumexp(dim=0).sum(dim=-1)
    density = trace.nodes["theta"]["log_prob"][..., 0]
    found = (mass[:, None] * (words + density).exp()).sum(dim=0).log()
    torch.testing.assert_close(found, exact(LDA.from_parameters(table, alpha=[2.0, 1.0]), data)[0], **EXACT)


def test_program_under_pyros_own_enumeration():
    """One bound for everything, theta held: densities of theta and topics, and mixtures for the words."""
    model, data = random_model(), DATA
    theta = torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64)).sample((2, 5, 1))
    given = {"topics": model.topics[:, :, None], "theta": theta}
    program = pyro.condition(model.program, data=given)
    found = -TraceEnum_ELBO(max_plate_nesting=3).loss(program, lambda batch: None, data.batch())
    batch = data.batch()
    words = torch.einsum("rnk,rknt->rnt", theta[:, :, 0], model.topics[:, :, batch.values]).log()
    expected = (words * batch.mask).sum()
    expected += torch.distributions.Dirichlet(model.alpha[:, None]).log_prob(theta[:, :, 0]).sum()
    prior = torch.distributions.Dirichlet(model.eta[:, :, None].expand(2, 3, 4))
    expected += prior.log_prob(model.topics).sum()
    assert found == pytest.approx(expected.item(), abs=1e-10)


def test_words_of_the_program_come_from_their_topics():
    table = torch.tensor([TABLE], dtype=torch.float64)
    topic = torch.tensor([0, 1]).expand(1, 1, 2)
    both = torch.cat([table, table.flip(1)])  # the second restart has them the other way round
    drawn = Word(both, topic).sample((20_000,))
    assert drawn.shape == (20_000, 2, 1, 2)
    for r, k in itertools.product(range(2), range(2)):
        found = torch.bincount(drawn[:, r, 0, k], minlength=4) / 20_000
        torch.testing.assert_close(found.double(), both[r, k], atol=0.02, rtol=0)


def test_drawing_words_copies_no_row_for_a_word(generator, monkeypatch):
    """Of 300 documents with 100 words each and 2,000 symbols, rows would be 480 MB; numbers of words are 0.2 MB."""
    largest, real = [0], torch.multinomial

    def noted(probs, *args, **kwargs):
        largest[0] = max(largest[0], probs.numel())
        return real(probs, *args, **kwargs)

    monkeypatch.setattr(torch, "multinomial", noted)
    model = LDA(3, 2_000, start="random")
    model.simulate(300, 100, generator)
    Word(model.topics, torch.randint(3, (1, 300, 100), generator=generator)).sample()
    assert largest[0] <= 2_000


def test_simulated_documents_have_the_exact_distribution(generator):
    model = LDA.from_parameters(TABLE, alpha=[0.5, 0.3])
    data = model.simulate(20_000, 2, generator)
    found = np.bincount(data.values.reshape(-1, 2) @ [4, 1], minlength=16) / 20_000
    np.testing.assert_allclose(found, exact(model, all_documents(2))[0].exp(), atol=0.015)
    assert (data.values[data.states == 0] != 3).all()  # what topic 0 does not have
    share = (data.states.reshape(-1, 2) == 0).all(axis=1).mean()
    assert share == pytest.approx(0.5 / 0.8 * 1.5 / 1.8, abs=0.015)


# The laws of every model


def test_probabilities_of_all_documents_sum_to_one():
    for length in (1, 2, 4):
        total = random_model().token_log_prob(all_documents(length).batch()).sum(-1).exp().sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total), **EXACT)


def test_batches_and_padding_do_not_matter():
    model = random_model()
    together = model.token_log_prob(DATA.batch())
    for i in range(len(DATA)):
        alone = model.token_log_prob(DATA.batch(np.array([i])))[:, 0]
        torch.testing.assert_close(together[:, i, : alone.shape[1]], alone, atol=1e-12, rtol=0)
        assert (together[:, i, alone.shape[1] :] == 0).all()


def test_step_by_step_equals_all_at_once():
    model, batch = random_model(), ps.Sequences.from_list([[0, 1, 2, 3, 3, 0], [3, 3, 1, 0, 2, 2]]).batch()
    terms, state = model.token_log_prob(batch), model.initial_state(2)
    for t in range(6):
        found = model.next_log_prob(state)
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, 2, dtype=torch.float64))
        torch.testing.assert_close(found[:, torch.arange(2), batch.values[:, t]], terms[:, :, t], **EXACT)
        state = model.advance(state, batch.values[:, t])


def test_samples_begin_with_the_prefix_and_follow_from_it(generator):
    model = random_model().select(0)
    drawn = model.sample(3000, 3, prefix=[3, 3], generator=generator)
    assert (drawn.values.reshape(-1, 3)[:, :2] == 3).all()
    continued = ps.Sequences.from_list([[3, 3, v] for v in range(4)])
    expected = model.token_log_prob(continued.batch())[0, :, 2].exp()
    np.testing.assert_allclose(np.bincount(drawn.values[2::3], minlength=4) / 3000, expected, atol=0.04)


def test_what_is_missing_is_left_out():
    """Words are exchangeable, so a document with a gap is the document without that word."""
    gap = ps.Sequences.from_list([[0, 3, 2, 1]], missing=[[False, True, False, False]])
    without = ps.Sequences.from_list([[0, 2, 1]])
    model = random_model()
    terms = model.token_log_prob(gap.batch())[:, 0]
    torch.testing.assert_close(terms[:, [0, 2, 3]], model.token_log_prob(without.batch())[:, 0], **EXACT)
    assert (terms[:, 1] == 0).all()
    torch.testing.assert_close(model.lower_bound(gap.batch()), model.lower_bound(without.batch()), **EXACT)


def test_restarts_depend_on_seed_and_number_alone():
    few, many = LDA(3, 5, num_restarts=2, seed=3), LDA(3, 5, num_restarts=4, seed=3)
    assert torch.equal(few.topics, many.topics[:2])
    assert not torch.allclose(many.topics[2], many.topics[3])
    assert not torch.allclose(LDA(3, 5, seed=4).topics, few.topics[:1])
    model, batch = random_model(restarts=3), DATA.batch()
    for r in range(3):
        assert torch.equal(model.select(r).token_log_prob(batch)[0], model.token_log_prob(batch)[r])


def test_config_and_state_make_the_model_anew():
    model = random_model(alpha=[0.1, 0.2, 0.3], symmetric=True, fixed=["eta"], num_replicates=3)
    again = LDA.from_config(json.loads(json.dumps(model.config())))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.token_log_prob(DATA.batch()), model.token_log_prob(DATA.batch()))
    assert again.config() == model.config()
    assert isinstance(model, ps.SequenceModel)


def test_single_precision_is_close_to_double():
    model = random_model()
    single = LDA.from_config({**model.config(), "dtype": "float32"})
    single.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    torch.testing.assert_close(
        single.token_log_prob(DATA.batch()), model.token_log_prob(DATA.batch()), atol=2e-5, rtol=0
    )


def test_parameters_that_a_fit_may_change_are_counted():
    assert LDA(3, 5).num_parameters == 3 * 4 + 3
    assert LDA(3, 5, symmetric=True).num_parameters == 3 * 4 + 1
    assert LDA(3, 5, fixed=["topics"]).num_parameters == 3


# The likelihood, and what stands beside it


def test_the_estimate_carries_its_error_into_a_score():
    model = random_model()
    score = ps.evaluate(model, DATA)
    assert score.likelihood == "estimate"
    error = torch.from_numpy(score.log_prob) - exact(model, DATA)
    assert (error.abs() <= 5 * torch.from_numpy(score.standard_error) + 1e-9).all()
    assert score.monte_carlo_error.max() < 0.01


def beginning_alike(num=20):
    """Documents of twelve words, of which the first four are the same; and documents that share no more than chance."""
    truth = LDA.from_parameters(np.random.default_rng(0).dirichlet(np.full(20, 0.3), 3), alpha=0.3, num_particles=12)
    free = truth.simulate(num, 12, torch.Generator().manual_seed(0))
    return truth, ps.Sequences.from_list([[*free[0][:4], *x[4:]] for x in free]), free


def test_a_document_that_comes_twice_is_one_of_weight_two():
    """Its estimate is the same both times, and so is what it is off by."""
    model, _, free = beginning_alike(3)
    twice, weighted = free[[0, 0, 1, 2]], ps.Sequences.from_list(list(free), weights=[2.0, 1.0, 1.0])
    scores = [ps.evaluate(model, data, max_tokens=size) for data in (twice, weighted) for size in (12, 1000)]
    for score in scores[1:]:
        np.testing.assert_allclose(score.monte_carlo_error, scores[0].monte_carlo_error, rtol=1e-12)


@pytest.mark.parametrize("alike", [True, False])
def test_the_error_of_a_data_set_is_the_spread_over_seeds(alike):
    model, shared, free = beginning_alike()
    nats, claimed, by_document = [], [], []
    for model.seed in range(80):
        score = ps.evaluate(model, shared if alike else free)
        nats.append(score.nats_per_token[0])
        claimed.append(score.monte_carlo_error[0] ** 2)
        by_document.append((score.standard_error[0] ** 2).sum() / score.total_tokens**2)
    spread = np.std(nats)
    assert spread == pytest.approx(np.mean(claimed) ** 0.5, rel=0.25)
    assert (spread > 1.4 * np.mean(by_document) ** 0.5) == alike  # documents are not independent


def test_too_few_particles_are_said_to_be_too_few():
    sure = LDA.from_parameters([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01]], alpha=0.01, num_particles=2)
    data = ps.Sequences.from_list([[2] * 5 + [0] * 10, [2] * 5 + [1] * 10])
    with pytest.warns(UserWarning, match=r"rises by .* nats per token with more particles.*num_particles"):
        ps.evaluate(sure, data)
    assert sure.estimate(data.batch()).drift.sum() > 0.01 * 30


def test_bound_and_completion():
    model, data = random_model(), DATA
    batch = data.batch()
    assert (model.lower_bound(batch) <= exact(model, data) + 1e-12).all()
    share = model.document_topics(batch)
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    log_prob, num = model.completion(batch)
    assert num.tolist() == [3, 0, 1, 4, 1]
    assert (log_prob[:, 1] == 0).all()
    assert (log_prob[:, num > 0] < 0).all()
    sure = LDA.from_parameters(np.eye(2), alpha=1.0)
    found, _ = sure.completion(ps.Sequences.from_list([[0, 0, 0, 1]]).batch())
    assert found.item() == pytest.approx(math.log(3 / 4) + math.log(1 / 4))


# Bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_topics": 0}, "num_topics is 0"),
        ({"num_symbols": 0}, "num_symbols is 0"),
        ({"num_restarts": 0}, "num_restarts is 0"),
        ({"num_particles": 0}, "num_particles is 0"),
        ({"start": "gibs"}, "unknown start 'gibs'; did you mean 'gibbs'"),
        ({"alpha": 0.0}, "alpha is 0.0; expected a positive number, or 2 of them"),
        ({"alpha": [1.0, 1.0, 1.0]}, "expected a positive number, or 2"),
        ({"eta": -1.0}, "eta is -1.0; expected a positive number"),
        ({"eta": math.inf}, "eta is inf"),
        ({"alpha": 1e-310}, r"alpha is 1e-310; expected a positive number, or 2 of them, 2\.2e-308 or more"),
        ({"alpha": 1e-40, "dtype": torch.float32}, r"alpha is 1e-40; .* 1\.2e-38 or more"),
        ({"fixed": ["beta"]}, "unknown part 'beta'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        LDA(**{"num_topics": 2, "num_symbols": 3, **arguments})


@pytest.mark.parametrize("table", [[[0.5, 0.6]], [[-0.5, 1.5]], [0.5, 0.5], [[math.nan, 1.0]]])
def test_topics_that_are_no_probabilities_are_refused(table):
    with pytest.raises(ps.InputError, match=r"expected \(K, V\)"):
        LDA.from_parameters(table)


def test_words_outside_the_vocabulary_are_refused():
    batch = ps.Sequences.from_list([[0, 4]]).batch()
    for question in ("token_log_prob", "lower_bound", "completion", "e_step"):
        with pytest.raises(ps.InputError, match=r"symbol 4 .*4 symbols.*encode"):
            getattr(random_model(), question)(batch)
    with pytest.raises(ps.InputError, match="scores symbols"):
        random_model().token_log_prob(ps.Sequences.from_list([[[0.5]]]).batch())


def test_more_than_one_restart_has_to_be_selected():
    with pytest.raises(ps.InputError, match="select one first"):
        random_model().simulate(1, 1)
    with pytest.raises(ps.InputError, match="num_sequences 0"):
        random_model(restarts=1).simulate(0, 1)
    with pytest.raises(ps.InputError, match="restart 2 of 2"):
        random_model().select(2)


def test_keys_of_seeds_are_apart():
    keys = torch.cat([particles.replicate_keys(seed, 8) for seed in (0, 1, 2, 2**62)])
    assert len(keys.unique()) == 32


def test_one_replicate_knows_no_error():
    model = LDA.from_parameters([[0.7, 0.3], [0.2, 0.8]], num_replicates=1)
    with pytest.warns(UserWarning, match="comes from one replicate, so its error and its drift are unknown"):
        score = ps.evaluate(model, ps.Sequences.from_list([[0, 1, 1]]))
    assert np.isnan(score.monte_carlo_error).all()


def test_a_selected_restart_remembers_the_vocabulary():
    model = LDA(2, 3, num_restarts=2, start="random")
    model.vocabulary = "a digest"
    assert model.select(1).vocabulary == "a digest"
