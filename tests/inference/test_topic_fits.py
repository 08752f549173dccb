"""Fitting a topic model: the bound, its natural gradient, the sampler behind the default start, and recovery."""

import itertools
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import gammaln
from sklearn.decomposition import LatentDirichletAllocation

import probseq as ps
from probseq.inference.anchors import _mixtures
from probseq.inference.online import _shuffled
from probseq.inference.topics import STRATEGIES, Tokens, initialize, polya_step
from probseq.models.topic import LDA
from probseq.ops import topics, topics_kernels

CLOSE = {"atol": 1e-9, "rtol": 0}


def simulated(num=40, length=30, num_topics=3, num_words=12, seed=0):
    rng = np.random.default_rng(seed)
    truth = LDA.from_parameters(rng.dirichlet(np.full(num_words, 0.2), num_topics), alpha=0.3)
    return truth, truth.simulate(num, length, torch.Generator().manual_seed(seed))


def random_model(num_topics=3, num_words=12, restarts=1, **options):
    return LDA(num_topics, num_words, num_restarts=restarts, **{"start": "random", **options})


# The objective


@st.composite
def fits(draw):
    """Arguments of a model, and data."""
    words = draw(st.integers(1, 5))
    rows = st.lists(st.integers(0, words - 1), min_size=1, max_size=6)
    data = draw(st.lists(rows, min_size=1, max_size=5))
    weights = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=len(data), max_size=len(data)))
    model = {
        "num_topics": draw(st.integers(1, 4)),
        "num_symbols": words + draw(st.integers(0, 2)),
        "seed": draw(st.integers(0, 99)),
        "start": draw(st.sampled_from(["random", "documents", "gibbs"])),
        "alpha": draw(st.sampled_from([1e-3, 0.1, 5.0])),
        "symmetric": draw(st.booleans()),
        "fixed": draw(st.sampled_from([(), ("alpha",), ("eta",), ("alpha", "eta"), ("topics",)])),
    }
    return model, data, weights


@pytest.mark.parametrize("accelerate", [False, True])
@given(case=fits())
def test_the_bound_never_falls(accelerate, case):
    arguments, rows, weights = case
    model, data = LDA(**arguments, num_restarts=2), ps.Sequences.from_list(rows, weights=weights)
    fit = ps.em(model, data, num_steps=12, tol=0, accelerate=accelerate)
    for r in range(2):
        assert (np.diff(fit.history[: fit.num_steps[r], r]) >= -1e-9).all()
    assert not {"nonfinite", "decreased"} & set(fit.stop_reason)
    assert all(p.isfinite().all() for p in model.parameters())


def test_with_one_topic_the_bound_is_the_evidence():
    """Nothing is left to approximate: log p(all words) under the Dirichlet prior, in closed form."""
    _, data = simulated()
    model = random_model(1, eta=0.7, fixed=["eta"])
    fit = ps.em(model, data, num_steps=3, tol=0)
    n = np.bincount(data.values, minlength=12)
    evidence = gammaln(12 * 0.7) - gammaln(12 * 0.7 + n.sum()) + (gammaln(0.7 + n) - gammaln(0.7)).sum()
    assert fit.history[-1, 0] == pytest.approx(evidence / n.sum(), abs=1e-10)


def test_bound_and_documents_equal_scikit_learn():
    """The same topics, the same priors: the same posterior of each document, and the same bound."""
    _, data = simulated()
    model = random_model(alpha=0.4, eta=0.2)
    counts = np.stack([np.bincount(x, minlength=12) for x in data])
    peer = LatentDirichletAllocation(3, doc_topic_prior=0.4, topic_word_prior=0.2, max_iter=1, random_state=0)
    peer.fit(counts)
    peer.components_ = model.concentration[0].numpy()
    peer.exp_dirichlet_component_ = np.exp(model._posterior()[0][0].numpy())
    peer.max_doc_update_iter, peer.mean_change_tol = 2000, 1e-12
    docs = topics.documents(data.batch().values, data.batch().observed, 12)
    weight = model._posterior()[0].exp().transpose(1, 2).contiguous()
    found = topics.infer(docs, weight, model.alpha, num_steps=2000, tol=1e-14)
    share = found.gamma / found.gamma.sum(dim=-1, keepdim=True)
    np.testing.assert_allclose(share[0], peer.transform(counts), atol=1e-6)
    bound = (found.bound.sum(dim=1) + model.log_prior()).item()
    assert bound == pytest.approx(peer.score(counts), rel=1e-9)


def test_an_m_step_is_a_step_of_length_one_along_the_natural_gradient():
    """The slope of the bound, written out with torch's own distributions, is the Fisher information times the step."""
    _, data = simulated(num=6, length=8)
    model, batch = random_model(eta=0.3, fixed=["alpha", "eta"]), data.batch()
    statistics = model.e_step(batch)
    concentration = model.concentration[0].clone().requires_grad_()
    prior = torch.distributions.Dirichlet(torch.full((3, 12), 0.3, dtype=torch.float64))
    posterior = torch.distributions.Dirichlet(concentration, validate_args=False)
    expected = concentration.digamma() - concentration.sum(dim=-1, keepdim=True).digamma()
    model._memory.accept(statistics.documents > 0)
    gamma = model._memory.begin(batch)[0]
    theta = (gamma.digamma() - gamma.sum(dim=-1, keepdim=True).digamma()).exp()  # (N, K)
    words = torch.einsum("nk,knt->nt", theta, expected.exp()[:, batch.values]).log()
    bound = words.sum() - torch.distributions.kl_divergence(posterior, prior).sum()
    (slope,) = torch.autograd.grad(bound, concentration)
    before = concentration.detach()
    model.m_step(statistics)
    step = model.concentration[0] - before
    information = torch.special.polygamma(1, before) * step
    information -= torch.special.polygamma(1, before.sum(-1, keepdim=True)) * step.sum(-1, keepdim=True)
    torch.testing.assert_close(slope, information, **CLOSE)


def test_topics_that_are_fixed_are_known_and_not_uncertain():
    """The objective is the bound under them, whatever zeros they have, and alpha is learned to its end."""
    truth = LDA.from_parameters([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]], alpha=1.0)
    data = truth.simulate(300, 20, torch.Generator().manual_seed(0))
    model = LDA.from_parameters(truth.topics[0], alpha=0.05, fixed=["topics"])
    fit = ps.em(model, data, num_steps=100)
    assert fit.stop_reason == ["converged"]
    assert (np.diff(fit.history[:, 0]) >= -1e-9).all()
    expected = model.lower_bound(data.batch()).sum().item() / data.num_tokens
    assert fit.history[-1, 0] == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(model.alpha, truth.alpha, atol=0, rtol=0.1)
    assert torch.equal(model.topics, truth.topics)


def test_online_steps_are_natural_gradient_steps_of_falling_length():
    """``lambda <- (1 - rho) lambda + rho (eta + D / S counts)``, with the statistics of S of D documents."""
    _, data = simulated(num=10)
    model = random_model(eta=0.3, fixed=["alpha", "eta"])
    lone = model.select(0)
    ps.em(model, data, num_steps=6, minibatch=4, decay=0.7, delay=2.0)
    rows = _shuffled(10, 4, seed=0)
    for s in range(6):
        part, rho = (data, 1.0) if s == 0 else (data[next(rows)], (s + 2.0) ** -0.7)
        target = 0.3 + 10 / len(part) * lone.e_step(part.batch()).words
        lone.log_concentration.copy_(torch.lerp(lone.concentration, target, rho).log())
    torch.testing.assert_close(model.concentration, lone.concentration, **CLOSE)


def test_statistics_of_minibatches_add_up_to_those_of_all_documents():
    _, data = simulated(num=9)
    model = random_model()
    whole = model.e_step(data.batch())
    parts = [model.e_step(data[i : i + 3].batch()) for i in (0, 3, 6)]
    for field in ("words", "log_theta", "documents"):
        torch.testing.assert_close(sum(getattr(part, field) for part in parts), getattr(whole, field), **CLOSE)
    torch.testing.assert_close(torch.cat([part.bound for part in parts], dim=1), whole.bound, **CLOSE)


def test_online_inference_comes_near_the_batch_bound():
    _, data = simulated(num=400, length=40, num_topics=4, num_words=30)
    batch, online = random_model(4, 30, seed=1), random_model(4, 30, seed=1)
    ps.em(batch, data, num_steps=60)
    fit = ps.em(online, data, num_steps=120, minibatch=40, decay=0.7, delay=5.0)
    assert fit.stop_reason == ["max_steps"]
    reached = ps.em(online, data, num_steps=1).history[0, 0]
    assert reached > ps.em(batch, data, num_steps=1).history[0, 0] - 0.03


# Restarts, weights, batches


@pytest.mark.parametrize("start", ["random", "documents", "gibbs", "anchors"])
def test_restarts_fitted_together_equal_lone_fits(start):
    _, data = simulated()
    together = LDA(3, 12, num_restarts=3, start=start)
    lone = [together.select(r) for r in range(3)]
    fit = ps.em(together, data, num_steps=60, tol=1e-4)
    if start != "anchors":
        assert len(set(fit.num_steps)) > 1  # they leave one after the other
    for r, model in enumerate(lone):
        alone = ps.em(model, data, num_steps=60, tol=1e-4)
        assert alone.stop_reason == [fit.stop_reason[r]]
        np.testing.assert_allclose(alone.history[:, 0], fit.history[: fit.num_steps[r], r], atol=1e-11)
        torch.testing.assert_close(model.topics[0], together.topics[r], **CLOSE)
        torch.testing.assert_close(model.alpha[0], together.alpha[r], **CLOSE)


@pytest.mark.parametrize("start", ["random", "gibbs"])
def test_restarts_learned_online_together_equal_lone_fits(start):
    _, data = simulated()
    together = LDA(3, 12, num_restarts=3, start=start)
    lone = [together.select(r) for r in range(3)]
    fit = ps.em(together, data, num_steps=12, minibatch=8)
    for r, model in enumerate(lone):
        alone = ps.em(model, data, num_steps=12, minibatch=8)
        np.testing.assert_allclose(alone.history[:, 0], fit.history[:, r], atol=1e-11)
        for name in ("topics", "alpha", "eta"):
            torch.testing.assert_close(getattr(model, name)[0], getattr(together, name)[r], **CLOSE)


def test_weights_are_repeats():
    rows = [[0, 1, 1, 2], [2, 3], [0, 3, 3]]
    once = ps.Sequences.from_list(rows, weights=[3.0, 1.0, 2.0])
    often = ps.Sequences.from_list([rows[0]] * 3 + [rows[1]] + [rows[2]] * 2)
    histories = [ps.em(random_model(2, 4), data, num_steps=8, tol=0).history for data in (once, often)]
    np.testing.assert_allclose(*histories, atol=1e-11)


def test_small_batches_give_the_same_steps():
    _, data = simulated()
    histories = [
        ps.em(random_model(restarts=2), data, num_steps=8, tol=0, max_tokens=size).history for size in (40, 10**6)
    ]
    np.testing.assert_allclose(*histories, atol=1e-11)


def test_batches_made_anew_at_every_pass_give_the_same_steps(monkeypatch):
    """As for data that no memory holds: what is known of a document outlives its batch."""
    _, data = simulated()
    histories = []
    for size in (2**20, 0):
        monkeypatch.setattr("probseq.inference.em_step._CACHE_BYTES", size)
        histories.append(ps.em(random_model(restarts=2), data, num_steps=40, tol=1e-4, max_tokens=300).history)
    np.testing.assert_allclose(*histories, atol=1e-11)


def test_a_fit_can_be_pickled():
    _, data = simulated()
    model = ps.em(random_model(), data, num_steps=3).model
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.topics, model.topics)
    assert ps.em(again, data, num_steps=2).num_steps.tolist() == [2]


@pytest.mark.parametrize("build", [random_model, lambda: ps.SyntaxTopics(3, 2, 12)])
def test_what_is_known_of_documents_goes_where_the_parameters_go(build):
    """To a device without numbers, which every machine has."""
    _, data = simulated()
    model, batch = ps.em(build(), data, num_steps=3).model, data.batch()
    model.e_step(batch)
    model.to("meta")
    assert model._memory.begin(batch).is_meta
    assert getattr(model, "_kept", None) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", ["random", "documents", "gibbs", "anchors", "syntax"])
def test_a_fit_on_cuda_is_that_of_the_cpu(kind):
    """It begins on the CPU, whose memory of documents goes with the model, and goes on there after."""
    _, data = simulated()
    histories, models = [], []
    for device in ("cpu", "cuda"):
        model = ps.SyntaxTopics(3, 2, 12, 2) if kind == "syntax" else LDA(3, 12, num_restarts=2, start=kind)
        model.seed = 1
        histories += [ps.em(model, data, num_steps=n, tol=0.0, device=d).history for n, d in ((2, "cpu"), (6, device))]
        models.append(model)
    np.testing.assert_allclose(histories[1], histories[3], atol=1e-8)
    torch.testing.assert_close(models[1].topics.cpu(), models[0].topics, atol=1e-6, rtol=0)
    there = LDA(3, 12, start=kind) if kind != "syntax" else ps.SyntaxTopics(3, 2, 12)
    ps.em(there, data, num_steps=2, device="cuda")  # and begins there
    assert ps.evaluate(there, data).nats_per_token[0] < 2.6
    assert there.simulate(2, 3, torch.Generator("cuda")).num_tokens == 6


def test_missing_words_are_left_out():
    gaps = ps.Sequences.from_list([[0, 3, 1], [2, 2]], missing=[[False, True, False], [False, False]])
    histories = [
        ps.em(random_model(2, 4), data, num_steps=5, tol=0).history
        for data in (gaps, ps.Sequences.from_list([[0, 1], [2, 2]]))
    ]
    np.testing.assert_allclose(*histories, atol=1e-12)


def test_fixed_parts_stay():
    _, data = simulated()
    for start, part in itertools.product(["random", "gibbs"], ["topics", "alpha", "eta"]):
        model = random_model(start=start, fixed=[part])
        before = {name: value.clone() for name, value in model.named_parameters()}
        ps.em(model, data, num_steps=3)
        for name, value in model.named_parameters():
            stay = ("log_concentration", "log_eta") if part == "topics" else (f"log_{part}",)
            assert torch.equal(value, before[name]) == (name in stay)


def test_a_symmetric_prior_stays_symmetric():
    _, data = simulated()
    for start in ("random", "gibbs"):
        model = random_model(start=start, symmetric=True)
        ps.em(model, data, num_steps=5)
        assert model.alpha.std() < 1e-12
        assert abs(model.alpha[0, 0] - 0.1) > 1e-3


# Priors


@pytest.mark.parametrize("repeats", [1, 7])
def test_learned_parameters_are_those_of_a_general_optimizer(repeats):
    rng = np.random.default_rng(0)
    truth = np.repeat([0.3, 2.0, 0.05], repeats)
    draws = torch.from_numpy(np.log(rng.dirichlet(truth, 200) + 1e-300))
    mean = draws.mean(dim=0).view(3, repeats).mean(dim=1)[None] if repeats == 1 else draws.mean()[None, None]
    size, shared = (3, 1) if repeats == 1 else (1, 21)

    def negative(log_alpha):
        a = np.exp(log_alpha)
        return -(gammaln(shared * a.sum()) - shared * gammaln(a).sum() + shared * (a * mean[0].numpy()).sum())

    expected = np.exp(minimize(negative, np.zeros(size), tol=1e-12).x)
    found = topics.dirichlet_ascent(torch.ones(1, size, dtype=torch.float64), mean, shared, num_steps=2000)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


@given(st.integers(0, 2**16))
def test_no_step_of_a_prior_makes_its_samples_less_probable(seed):
    rng = np.random.default_rng(seed)
    mean = torch.from_numpy(np.log(rng.dirichlet(rng.gamma(0.5, 2.0, 4) + 0.01, 5) + 1e-100).mean(axis=0))[None]
    alpha = torch.from_numpy(rng.gamma(0.5, 5.0, (1, 4)) + 1e-3)

    def objective(a):
        return (a.sum().lgamma() - a.lgamma().sum() + (a * mean).sum()).item()

    values = [objective(topics.dirichlet_ascent(alpha, mean, num_steps=steps)) for steps in range(6)]
    assert (np.diff(values) >= -1e-9 * np.abs(values[1:])).all()


# Starts


def test_gibbs_sampling_visits_topics_as_often_as_their_posterior_says():
    """Two documents of five words in all: every assignment of topics, against 60,000 sweeps."""
    x, offsets = np.array([0, 1, 0, 2, 1]), np.array([0, 3, 5])
    alpha, eta, words = np.array([0.6, 1.1]), 0.4, 3

    def log_joint(z):
        by_document, by_word = np.zeros((2, 2)), np.zeros((words, 2))
        for i, k in enumerate(z):
            by_document[0 if i < 3 else 1, k] += 1
            by_word[x[i], k] += 1
        return (
            gammaln(by_document + alpha).sum()
            + gammaln(by_word + eta).sum()
            - gammaln(by_word.sum(0) + words * eta).sum()
        )

    states = list(itertools.product(range(2), repeat=5))
    posterior = np.exp([log_joint(z) for z in states])
    posterior /= posterior.sum()
    chosen = np.zeros(5, np.int64)
    by_document, by_word = np.zeros((2, 2), np.float32), np.zeros((words, 2), np.float32)
    np.add.at(by_document, ([0, 0, 0, 1, 1], chosen), 1)
    np.add.at(by_word, (x, chosen), 1)
    total, visits = by_word.sum(axis=0).astype(np.float64), np.zeros(len(states))
    for sweep in range(60_000):
        key = np.uint64(sweep * 2654435761 + 1)
        topics_kernels.gibbs(offsets, x, np.ones(2), chosen, alpha, eta, by_document, by_word, total, key)
        visits[int("".join(map(str, chosen)), 2)] += 1
    np.testing.assert_allclose(visits / visits.sum(), posterior, atol=0.006)


def test_a_step_of_a_prior_makes_counts_more_probable_until_none_does():
    counts = np.random.default_rng(0).integers(0, 9, (20, 3)) * np.array([1.0, 4.0, 0.2]).round()

    def log_prob(alpha):
        terms = gammaln(counts + alpha).sum() - 20 * gammaln(alpha).sum()
        return terms + 20 * gammaln(alpha.sum()) - gammaln(counts.sum(axis=1) + alpha.sum()).sum()

    best = np.exp(minimize(lambda x: -log_prob(np.exp(np.append(x, -20.0))), np.zeros(2), tol=1e-10).x)
    alpha, values = np.full(3, 0.1), []
    for _ in range(2000):
        values.append(log_prob(alpha))
        alpha = polya_step(counts, alpha)
    assert (np.diff(values) >= -1e-4).all()  # the floor below a topic without words costs a little
    np.testing.assert_allclose(alpha[:2], best, rtol=1e-3)
    assert alpha[2] == 1e-6
    assert polya_step(np.zeros((2, 3)), alpha) is alpha


def test_sampled_counts_do_not_drift_where_weights_are_no_whole_numbers():
    _, data = simulated(num=100)
    tokens = Tokens.of(ps.Sequences.from_list(list(data), weights=np.full(100, 0.1)))
    start = STRATEGIES["gibbs"](LDA(3, 12), tokens, 0)
    expected = 0.1 * np.bincount(data.values, minlength=12)
    np.testing.assert_allclose((start.concentration - start.eta).sum(axis=1), expected, rtol=1e-6)


def bars(num=500, length=60, seed=0):
    """Words are the pixels of a 5 x 5 square, topics its ten rows and columns."""
    square = np.eye(5)
    table = np.concatenate([np.kron(square, np.ones(5)), np.kron(np.ones(5), square)]) / 5
    truth = LDA.from_parameters(table, alpha=0.1)
    return table, truth.simulate(num, length, torch.Generator().manual_seed(seed))


def similarity(found, truth):
    """Cosines of topics that are matched one to one, worst first."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (np.asarray(found), truth)]
    cosine = unit[0] @ unit[1].T
    return np.sort(cosine[linear_sum_assignment(-cosine)])


@pytest.mark.parametrize("start", ["random", "gibbs"])
def test_bars_are_recovered(start):
    table, data = bars()
    model = LDA(10, 25, num_restarts=4, start=start)
    fit = ps.em(model, data, num_steps=100)
    best = int(np.nanargmax([fit.history[n - 1, r] for r, n in enumerate(fit.num_steps)]))
    assert similarity(model.topics[best], table)[0] > 0.95


def test_anchors_find_topics_that_have_words_of_their_own():
    truth = np.zeros((4, 24))
    for k in range(4):
        truth[k, [6 * k, 6 * k + 1]] = 0.2
        truth[k] += 0.6 / 24
        truth[k, [6 * j for j in range(4) if j != k] + [6 * j + 1 for j in range(4) if j != k]] = 0
    truth /= truth.sum(axis=1, keepdims=True)
    data = LDA.from_parameters(truth, alpha=0.2).simulate(3000, 50, torch.Generator().manual_seed(0))
    model = LDA(4, 24, start="anchors")
    initialize(model, data)
    assert similarity(model.topics[0], truth)[0] > 0.98
    again = LDA(4, 24, start="anchors", seed=7)
    initialize(again, data)
    assert torch.equal(again.topics, model.topics)


@pytest.mark.parametrize("size", [3, 5, 20])
def test_weights_of_corners_are_found(size):
    rng = np.random.default_rng(size)
    corners = rng.dirichlet(np.full(100, 0.1), size)
    weights = rng.dirichlet(np.full(size, 0.3), 200)
    np.testing.assert_allclose(_mixtures(weights @ corners, corners), weights, atol=1e-6)
    outside = _mixtures(2 * corners - corners.mean(axis=0), corners)  # beyond a corner, the corner is next
    np.testing.assert_allclose(outside, np.eye(size), atol=1e-6)


def test_a_start_that_cannot_be_made_is_refused():
    data = ps.Sequences.from_list([[0, 1], [1, 0]])
    with pytest.raises(ps.InputError, match=r"found 2 words.*at least 3"):
        ps.em(LDA(3, 5, start="anchors"), data)
    with pytest.raises(ps.InputError, match="symbol 7"):
        ps.em(LDA(3, 5), ps.Sequences.from_list([[7]]))


def test_a_start_is_made_once():
    _, data = simulated()
    model = LDA(3, 12)
    initialize(model, data)
    first = model.topics.clone()
    initialize(model, data)
    assert model.initialized
    assert torch.equal(model.topics, first)


@pytest.mark.parametrize(("method", "most"), [("em", 150), ("svi", 300)])
def test_memory_is_that_of_the_pairs_and_the_tables(method, most):
    """A table of documents and words would have 960 MB here; the topics have 5 MB, and SVI has some 30 such tables."""
    code = f"""
import resource
import numpy as np
import probseq as ps
rng = np.random.default_rng(0)
data = ps.Sequences.from_list(rng.integers(0, 30_000, (4000, 20)))
ps.{method}(ps.LDA(4, 10, start="random"), ps.Sequences.from_list([[0, 1]]), num_steps=2)
model = ps.LDA(20, 30_000, start="random")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fit = ps.{method}(model, data, num_steps=2)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert np.isfinite(fit.history).all()
assert grown < {most} * 1024, grown  # KiB
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


# The edges


@pytest.mark.parametrize("start", ["random", "gibbs", "documents"])
@pytest.mark.parametrize(
    "rows",
    [
        [[1]],  # one document, one word
        [[0], [1], [2]],  # words alone
        [[2] * 40] * 3,  # all alike
        [[0, 1], [1, 2], [5]],  # more topics than documents, words that occur nowhere
    ],
)
def test_small_and_strange_documents(start, rows):
    data = ps.Sequences.from_list(rows)
    model = LDA(6, 8, num_restarts=2, start=start)
    fit = ps.em(model, data, num_steps=30)
    assert set(fit.stop_reason) <= {"converged", "max_steps"}
    assert all(p.isfinite().all() for p in model.parameters())
    assert (model.topics > 0).all()
    assert model.estimate(ps.Sequences.from_list([[7], [0, 1, 2]]).batch()).token_log_prob.isfinite().all()


def test_a_document_without_any_observed_word_counts_for_nothing():
    rows = [[0, 1, 1], [2, 3]]
    silent = ps.Sequences.from_list([*rows, [0, 0]], missing=[[False] * 3, [False] * 2, [True] * 2])
    models = [random_model(2, 4, fixed=["alpha"]) for _ in range(2)]
    for model, data in zip(models, (silent, ps.Sequences.from_list(rows)), strict=True):
        ps.em(model, data, num_steps=5)
    torch.testing.assert_close(models[0].topics, models[1].topics, **CLOSE)


@pytest.mark.parametrize("alpha", [1e-10, 1e-4, 1e4])
def test_extreme_priors_have_a_fit(alpha):
    _, data = simulated()
    for start in ("random", "gibbs"):
        model = random_model(start=start, alpha=alpha, fixed=["alpha"])
        fit = ps.em(model, data, num_steps=20)
        assert set(fit.stop_reason) <= {"converged", "max_steps"}
        assert model.estimate(data.batch()).token_log_prob.isfinite().all()


def test_a_very_long_document_has_a_fit():
    rng = np.random.default_rng(0)
    data = ps.Sequences.from_list([rng.integers(0, 50, 50_000), rng.integers(0, 25, 10)])
    fit = ps.em(LDA(4, 50), data, num_steps=20)
    assert fit.history[-1, 0] == pytest.approx(-math.log(50), abs=0.02)


def test_topics_that_are_fixed_need_no_start():
    """The priors are learned for these topics, whatever the start; a sampler's are those of others."""
    truth, data = simulated()
    starts = {}
    for start in ("gibbs", "parameters"):
        model = random_model(start=start, fixed=["topics"])
        model.log_concentration.data.copy_(truth.log_concentration.data)
        starts[start] = ps.em(model, data, num_steps=5).model.alpha
    torch.testing.assert_close(starts["gibbs"], starts["parameters"], atol=0, rtol=0)


def test_anchors_count_a_document_of_weight_two_twice():
    _, data = simulated()
    found = []
    for documents in (
        data[[*range(40), *range(10)]],
        ps.Sequences.from_list(list(data), weights=[2.0] * 10 + [1.0] * 30),
    ):
        model = random_model(start="anchors")
        initialize(model, documents)
        found.append(model.topics)
    torch.testing.assert_close(*found, atol=1e-9, rtol=0)


def test_documents_of_little_weight_make_no_topics():
    model = random_model(start="documents", num_topics=2, num_words=4, eta=1e-3)
    initialize(model, ps.Sequences.from_list([[0, 1], [2, 3]], weights=[1e9, 1.0]))
    assert (model.topics[..., 2:] < 0.01).all()


def test_a_step_of_the_prior_counts_a_row_of_weight_two_twice():
    rows = np.random.default_rng(0).integers(0, 5, (6, 3)).astype(np.float32)
    alpha, weights = np.array([0.2, 0.5, 1.0]), np.array([2.0, 1, 1, 3, 1, 1])
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    np.testing.assert_allclose(polya_step(rows, alpha, weights), polya_step(repeated, alpha), rtol=1e-12)
