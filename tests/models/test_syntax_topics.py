"""Topics and syntax: the estimate against sums over all labels, the bound against both, and the models it contains."""

import itertools
import math

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import TraceEnum_ELBO
from scipy.special import gammaln

import probseq as ps
from probseq.inference.syntax_topics import counts, initialize
from probseq.inference.topics import Tokens
from probseq.models.syntax_topics import SyntaxTopics
from probseq.ops import particles, particles_compiled, syntax_topics_kernels
from probseq.ops.topic_likelihood import exact_token_log_prob

EXACT = {"atol": 1e-10, "rtol": 0}
DATA = ps.Sequences.from_list([[0, 1, 2, 1, 0, 2], [3], [1, 1], [0, 0, 1, 2, 2, 3, 1, 0, 1], [2, 0, 1]])


def random_model(num_topics=2, num_classes=3, num_words=4, restarts=2, seed=0, **options):
    model = SyntaxTopics(num_topics, num_classes, num_words, restarts, seed, start="random", **options)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.8 * torch.randn(value.shape, generator=noise, dtype=torch.float64).to(value.dtype)
    return model


def exact(model, r, words):
    """log p(x): the sum over what is known of the past, which is how often each topic was drawn and the last class."""
    emission, alpha, steps = (part[r].tolist() for part in model.source)
    size, belief = len(alpha), {(tuple([0] * len(alpha)), len(steps) - 1): 1.0}
    for word in words:
        after = {}
        for (n, before), p in belief.items():
            for k in range(size):
                q = p * steps[before][0] * (n[k] + alpha[k]) / (sum(n) + sum(alpha)) * emission[k][word]
                key = ((*n[:k], n[k] + 1, *n[k + 1 :]), 0)
                after[key] = after.get(key, 0.0) + q
            for c in range(1, len(steps[0])):
                key = (n, c)
                after[key] = after.get(key, 0.0) + p * steps[before][c] * emission[size + c - 1][word]
        belief = after
    return math.log(sum(belief.values()))


def exact_all(model, data):
    rows = [[exact(model, r, x.tolist()) for x in data] for r in range(model.num_restarts)]
    return torch.tensor(rows, dtype=torch.float64)


def enumerated(model, r, words):
    """The same by a sum over the label of every word."""
    emission, alpha, steps = (part[r].tolist() for part in model.source)
    size, total = len(alpha), 0.0
    for labels in itertools.product(range(len(emission)), repeat=len(words)):
        p, n, before = 1.0, list(alpha), len(steps) - 1
        for label, word in zip(labels, words, strict=True):
            c = max(0, label - size + 1)
            p *= steps[before][c] * emission[label][word]
            if label < size:
                p *= n[label] / sum(n)
                n[label] += 1
            before = c
        total += p
    return math.log(total)


# The likelihood


def test_the_oracle_is_the_sum_over_all_labels():
    model = random_model(num_topics=3)
    for r, words in itertools.product(range(2), ([0, 3, 1, 1], [2, 2], [1, 0, 2, 0, 3])):
        assert exact(model, r, words) == pytest.approx(enumerated(model, r, words), abs=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_estimate_is_unbiased(compiled, monkeypatch):
    """Of many estimates with few particles, the mean of p-hat / p is 1: so are draws, resampling and sweep."""
    monkeypatch.setattr(particles_compiled, "suits", lambda table: compiled)
    model = random_model(restarts=1, num_particles=4, num_replicates=12_000 if compiled else 2000)
    with torch.no_grad():
        model.log_transition *= 3  # so that a word says much of the class after it
    data = ps.Sequences.from_list([[0, 1, 2, 3, 3, 0, 1, 1, 2, 0, 3, 2], [3, 3, 2, 2, 1, 0]])
    batch = data.batch()
    terms = particles.token_log_prob(batch.values, batch.observed, model.source, 4, model.num_replicates)
    ratio = (terms.sum(dim=-1) - exact_all(model, data)[:, None]).exp()[0]  # (S, N)
    error = ratio.std(dim=0) / math.sqrt(len(ratio))
    assert (error < 0.05).all()
    assert ((ratio.mean(dim=0) - 1).abs() < 4 * error).all()


@pytest.mark.parametrize("most", [1024, 5])
def test_compiled_filter_equals_tensor_filter(monkeypatch, most):
    monkeypatch.setattr(particles, "_MOST", most)
    for seed in range(2):
        model = random_model(3, 2 + seed, 6, seed=seed)
        values = torch.randint(6, (3, 18), generator=torch.Generator().manual_seed(seed))
        answers = []
        for compiled in (True, False):
            monkeypatch.setattr(particles_compiled, "suits", lambda table, on=compiled: on)
            answers.append(particles.token_log_prob(values, values >= 0, model.source, 6, 3))
        torch.testing.assert_close(*answers, **EXACT)


def test_two_hundred_documents_are_within_their_standard_errors():
    model = random_model(restarts=1, num_words=8, seed=5, num_replicates=16)
    data = model.simulate(200, 12, torch.Generator().manual_seed(0))
    found = model.estimate(data.batch())
    error = (found.token_log_prob.sum(dim=-1) - exact_all(model, data))[0]
    assert (error.abs() <= 2 * found.standard_error[0]).double().mean() > 0.9
    assert error.sum().abs() <= 2 * found.standard_error.square().sum().sqrt()
    ratio = error.exp()
    assert (ratio.mean() - 1).abs() <= 2 * ratio.std() / math.sqrt(200)


def test_with_one_class_it_is_the_topic_model():
    model = random_model(num_topics=3, num_classes=1)
    batch = DATA.batch()
    lone = model.select(0)
    lda = ps.LDA.from_parameters(lone.topics[0], alpha=lone.alpha[0].tolist())
    torch.testing.assert_close(lone.token_log_prob(batch), lda.token_log_prob(batch), **EXACT)
    torch.testing.assert_close(lone.lower_bound(batch), lda.lower_bound(batch), atol=1e-5, rtol=0)
    expected = exact_token_log_prob(batch.values, batch.observed, model.topics, model.alpha).sum(dim=-1)
    torch.testing.assert_close(exact_all(model, DATA), expected, **EXACT)


def test_with_one_topic_bound_estimate_and_hidden_markov_model_agree():
    """A document's only topic has probability 1: the bound is exact, and class 0 is a state like any other."""
    model = random_model(num_topics=1, restarts=1, num_particles=512, num_replicates=16)
    hmm = ps.HMM.from_parameters(model.initial[0], model.transition[0], model.log_words.softmax(-1)[0])
    expected = hmm.token_log_prob(DATA.batch()).sum(dim=-1)
    torch.testing.assert_close(model.lower_bound(DATA.batch()), expected, **EXACT)
    torch.testing.assert_close(exact_all(model, DATA), expected, **EXACT)
    found = model.estimate(DATA.batch())
    assert ((found.token_log_prob.sum(-1) - expected).abs() <= 4 * found.standard_error + 1e-9).all()


def test_simulated_documents_have_the_exact_distribution(generator):
    model = random_model(restarts=1)
    data = model.simulate(20_000, 2, generator)
    found = np.bincount(data.values.reshape(-1, 2) @ [4, 1], minlength=16) / 20_000
    everything = ps.Sequences.from_list(list(itertools.product(range(4), repeat=2)))
    np.testing.assert_allclose(found, exact_all(model, everything)[0].exp(), atol=0.015)
    first = np.bincount(data.states.reshape(-1, 2)[:, 0], minlength=3) / 20_000
    np.testing.assert_allclose(first, model.initial[0], atol=0.015)


def test_program_with_its_classes_and_topics_summed_out_is_a_chain():
    """Given theta, class 0 emits from a mixture, and the document is a hidden Markov chain."""
    model, batch = random_model(), DATA.batch()
    theta = torch.distributions.Dirichlet(torch.ones(2, dtype=torch.float64)).sample((2, 5, 1))
    words = model.log_words.softmax(dim=-1)
    steps = torch.cat([model.transition, model.initial[:, None]], dim=1)
    given = {"words": words[:, :, None], "steps": steps[:, :, None], "theta": theta}
    program = pyro.condition(model.program, data=given)
    found = -TraceEnum_ELBO(max_plate_nesting=3).loss(program, lambda batch: None, batch)
    dirichlet = torch.distributions.Dirichlet
    expected = dirichlet(model.alpha[:, None]).log_prob(theta[:, :, 0]).sum()
    expected += dirichlet(model.eta.expand_as(words)).log_prob(words).sum()
    expected += dirichlet(torch.full_like(steps, model.prior["transition_concentration"])).log_prob(steps).sum()
    for r, n in itertools.product(range(2), range(5)):
        emission = torch.cat([theta[r, n] @ words[r, :2], words[r, 2:]])
        hmm = ps.HMM.from_parameters(model.initial[r], model.transition[r], emission)
        expected += hmm.token_log_prob(DATA[n : n + 1].batch()).sum()
    assert found == pytest.approx(expected.item(), abs=1e-9)


# The bound


@settings(max_examples=15)
@given(st.integers(0, 2**16), st.integers(1, 3), st.integers(1, 3))
def test_the_bound_is_below_the_exact_value(seed, num_topics, num_classes):
    model = random_model(num_topics, num_classes, seed=seed)
    assert (model.lower_bound(DATA.batch()) <= exact_all(model, DATA) + 1e-9).all()


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("start", ["random", "gibbs"])
@settings(max_examples=6)
@given(seed=st.integers(0, 99), num_topics=st.integers(1, 3), num_classes=st.integers(1, 3))
def test_the_bound_never_falls(accelerate, start, seed, num_topics, num_classes):
    model = SyntaxTopics(num_topics, num_classes, 5, num_restarts=2, seed=seed, start=start)
    data = ps.Sequences.from_list([list(x) for x in DATA], weights=[1.0, 0.5, 3.0, 1.0, 2.0])
    fit = ps.em(model, data, num_steps=8, tol=0, accelerate=accelerate)
    for r in range(2):
        assert (np.diff(fit.history[: fit.num_steps[r], r]) >= -1e-9).all()
    assert not {"nonfinite", "decreased"} & set(fit.stop_reason)
    assert all(p.isfinite().all() for p in model.parameters())


def test_statistics_of_minibatches_add_up_to_those_of_all_documents():
    model = random_model()
    data = model.select(0).simulate(9, 12, torch.Generator().manual_seed(0))
    whole, parts = model.e_step(data.batch()), [model.e_step(data[i : i + 3].batch()) for i in (0, 3, 6)]
    for field in ("words", "initial", "transition", "log_theta", "documents"):
        torch.testing.assert_close(sum(getattr(part, field) for part in parts), getattr(whole, field), **EXACT)
    torch.testing.assert_close(whole.words.sum(dim=(1, 2)), torch.full((2,), 108.0, dtype=torch.float64))
    torch.testing.assert_close(whole.transition.sum(dim=(1, 2)), torch.full((2,), 99.0, dtype=torch.float64))


# The start, and recovery


def log_joint(label, x, offsets, model):
    """log p(labels, words) with everything else integrated out, of counts made anew."""
    tokens, sizes = Tokens(np.array(x), offsets, np.ones(len(offsets) - 1), 1.0), (model.num_topics, model.num_classes)
    by_document, by_word, steps = counts(tokens, np.array(label), model.num_symbols, *sizes)
    eta = np.full(by_word.T.shape, model.prior["eta"])
    parts = [(by_document, np.full(by_document.shape, model.prior["alpha"])), (by_word.T, eta)]
    parts.append((steps, np.full(steps.shape, model.prior["transition_concentration"])))
    total = 0.0
    for n, prior in parts:
        total += gammaln(n + prior).sum() - gammaln((n + prior).sum(axis=-1)).sum()
    return total


def test_gibbs_sampling_visits_labels_as_often_as_their_posterior_says():
    """Two documents of five words in all: every assignment of labels, against 100,000 sweeps."""
    model = SyntaxTopics(2, 2, 3, start="random", alpha=0.6, eta=0.4, transition_concentration=0.2)
    x, offsets = [0, 1, 0, 2, 1], np.array([0, 4, 5])
    states = list(itertools.product(range(3), repeat=5))
    posterior = np.array([log_joint(z, x, offsets, model) for z in states])
    posterior = np.exp(posterior - posterior.max())
    posterior /= posterior.sum()
    label, tokens = np.zeros(5, np.int64), Tokens(np.array(x), offsets, np.ones(2), 1.0)
    by_document, by_word, steps = counts(tokens, label, 3, 2, 2)
    total, visits = by_word.sum(axis=0), np.zeros(len(states))
    for number in range(100_000):
        key = np.uint64(number * 2654435761 + 1)
        syntax_topics_kernels.sweep(
            offsets, tokens.words, np.ones(2), label, np.full(2, 0.6), np.full(2, 0.4), 0.2, by_document, by_word,
            total, steps, key,
        )  # fmt: skip
        visits[int(label @ [81, 27, 9, 3, 1])] += 1
    for found, anew in zip((by_document, by_word, steps), counts(tokens, label, 3, 2, 2), strict=True):
        np.testing.assert_array_equal(found, anew)
    np.testing.assert_allclose(visits / visits.sum(), posterior, atol=0.004)


def test_syntax_and_topics_are_told_apart():
    """Function words alternate with the words of one of two themes; no list of either is given."""
    table = np.zeros((4, 12))
    table[0, :4] = table[1, 4:8] = 0.25  # two themes
    table[2, 8:10] = table[3, 10:12] = 0.5  # two classes
    truth = SyntaxTopics(2, 3, 12, start="random", alpha=0.2)
    steps = torch.tensor([[0.01, 0.98, 0.01], [0.01, 0.01, 0.98], [0.98, 0.01, 0.01]], dtype=torch.float64)
    with torch.no_grad():
        truth.log_words.copy_(torch.from_numpy(table * 1e6).log()[None])
        truth.log_transition.copy_(steps.log()[None] + 10)
    data = truth.simulate(150, 30, torch.Generator().manual_seed(0))
    test = truth.simulate(30, 30, torch.Generator().manual_seed(1))
    model = SyntaxTopics(2, 3, 12, num_restarts=4)
    ps.em(model, data, num_steps=30)
    best = ps.best_restart(model, test).best
    shares = model.topics[best][:, :8].sum(dim=1)
    assert (shares > 0.97).all()
    models = {"truth": truth, "found": model.select(best)}
    nats = {name: ps.evaluate(one, test).nats_per_token[0] for name, one in models.items()}
    assert nats["found"] < nats["truth"] + 0.02
    lda = ps.em(ps.LDA(2, 12), data, num_steps=20).model
    hmm = ps.em(ps.HMM(3, ps.emissions.Categorical(12), num_restarts=4), data, num_steps=50).model
    assert nats["found"] < ps.evaluate(lda, test).nats_per_token[0] - 0.5
    assert nats["found"] < ps.evaluate(hmm, test).nats_per_token.min() - 0.05


# Bad input, and the edges


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_topics": 0}, "num_topics is 0"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_symbols": 0}, "num_symbols is 0"),
        ({"num_particles": 0}, "num_particles is 0"),
        ({"start": "gibs"}, "unknown start 'gibs'; did you mean 'gibbs'"),
        ({"alpha": 0.0}, "alpha is 0.0; expected a positive number"),
        ({"eta": -1.0}, "eta is -1.0"),
        ({"alpha": 1e-40, "dtype": torch.float32}, r"alpha is 1e-40; .* 1\.2e-38 or more"),
        ({"transition_concentration": math.inf}, "transition_concentration is inf"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        SyntaxTopics(**{"num_topics": 2, "num_classes": 2, "num_symbols": 3, **arguments})


@pytest.mark.parametrize("alpha", [1e-300, 1e-20, 1e4])
def test_extreme_priors_have_a_likelihood_and_a_fit(alpha):
    model = random_model(alpha=alpha)
    with torch.no_grad():
        model.log_alpha.fill_(math.log(alpha))
    error = model.estimate(DATA.batch()).token_log_prob.sum(dim=-1) - exact_all(model, DATA)
    assert (error.abs() < 0.1).all()
    fit = ps.em(model, DATA, num_steps=5, tol=0)
    assert fit.stop_reason == ["max_steps"] * 2
    assert (np.diff(fit.history, axis=0) >= -1e-9).all()


@pytest.mark.parametrize("rows", [[[1]], [[0], [1], [2]], [[2] * 40] * 3, [[0, 1], [1, 2], [5]]])
def test_small_and_strange_documents(rows):
    model = SyntaxTopics(6, 4, 8, num_restarts=2)
    fit = ps.em(model, ps.Sequences.from_list(rows), num_steps=20)
    assert set(fit.stop_reason) <= {"converged", "max_steps"}
    assert (model.topics > 0).all()
    assert model.estimate(ps.Sequences.from_list([[7], [0, 1, 2]]).batch()).token_log_prob.isfinite().all()


def test_a_very_long_document():
    """Classes that alternate: half of the words are even ones, half are odd ones, and each is one of 25."""
    rng = np.random.default_rng(0)
    words = 2 * rng.integers(0, 25, 50_000) + np.arange(50_000) % 2
    model = SyntaxTopics(2, 3, 50, num_particles=4, num_replicates=2)
    fit = ps.em(model, ps.Sequences.from_list([words]), num_steps=3)
    assert np.isfinite(fit.history).all()
    score = ps.evaluate(model, ps.Sequences.from_list([words]))
    assert score.nats_per_token[0] == pytest.approx(math.log(25), abs=0.01)
    assert score.monte_carlo_error[0] < 0.001


def test_a_start_is_made_once_and_depends_on_seed_and_number_alone():
    model = SyntaxTopics(2, 2, 4, num_restarts=3)
    initialize(model, DATA)
    few = SyntaxTopics(2, 2, 4, num_restarts=2)
    initialize(few, DATA)
    assert torch.equal(few.topics, model.topics[:2])
    before = model.topics.clone()
    initialize(model, DATA)
    assert torch.equal(model.topics, before)
