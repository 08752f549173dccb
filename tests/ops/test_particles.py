"""The particle filter against exact values, against itself in tensors, and against long runs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from topic_cases import Case, draw_case

from probseq.ops import particles, particles_compiled, particles_kernels, topics

EXACT = {"atol": 1e-10, "rtol": 0}


@pytest.fixture(params=["compiled", "tensor"])
def engine(request, monkeypatch):
    monkeypatch.setattr(particles_compiled, "suits", lambda table: request.param == "compiled")
    return request.param


def both(monkeypatch, function):
    """The answers of the compiled loops and of the tensor functions."""
    answers = []
    for compiled in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(particles_compiled, "suits", lambda table, on=compiled: on)
            answers.append(function())
    return answers


# The particle filter


def estimate(case, num_particles=16, num_replicates=4, seed=0):
    source = particles.topic_source(case.topics, case.alpha)
    return particles.token_log_prob(case.values, case.observed, source, num_particles, num_replicates, seed)


@pytest.mark.parametrize("most", [1024, 5])
def test_compiled_filter_equals_tensor_filter(monkeypatch, most):
    monkeypatch.setattr(particles, "_MOST", most)
    for seed in range(4):
        case = draw_case(seed, length=24, num_topics=1 + 4 * seed, alpha=0.3)
        one, other = both(monkeypatch, lambda case=case: estimate(case, num_particles=6))
        torch.testing.assert_close(one, other, **EXACT)


def test_the_filter_resamples_and_rejuvenates(engine, monkeypatch):
    """Without either the numbers would be others, so the test above has seen both."""
    case = draw_case(length=30, alpha=0.3)
    plain = estimate(case, num_particles=6)
    monkeypatch.setattr(particles, "_MOST", 1)
    assert not torch.allclose(plain, estimate(case, num_particles=6))


@given(st.integers(0, 2**16), st.floats(0, 1, exclude_max=True), st.sampled_from([0.05, 1.0]))
def test_systematic_resampling_gives_a_particle_as_many_children_as_its_weight_says(seed, u, evenness):
    weight = np.random.default_rng(seed).dirichlet(np.full(7, evenness))
    parent = np.empty(7, np.int64)
    particles_kernels._resample(weight, u, parent)
    shape = (1, 1, 1, 7)
    found = particles._parents(torch.from_numpy(weight).view(shape), torch.full((1, 1), u, dtype=torch.float64))
    for one in (parent, found.flatten().numpy()):
        children = np.bincount(one, minlength=7)
        assert (np.abs(children - 7 * weight) < 1 + 1e-9).all()
        assert (np.diff(one) >= 0).all()


def test_the_effective_sample_size_is_never_below_half_of_the_particles():
    case = draw_case(3, num=4, num_words=20, length=30, alpha=0.2, gaps=False)
    source, resampled = particles.topic_source(case.topics, case.alpha), []
    state = particles.begin(source, 4, 16, particles.replicate_keys(0, 4))
    for t in range(30):
        state = particles.advance(state, case.values[:, t], source)
        size = 1 / state.weight.square().sum(dim=-1)
        assert (size >= 8 - 1e-9).all()
        resampled.append((size > 16 - 1e-9).double().mean())
    assert 0.01 < np.mean(resampled[1:]) < 0.5  # and not at every word


def test_the_estimate_is_unbiased(engine):
    """Of many estimates with few particles, the mean of p-hat / p is 1; so the resampling and the sweep are right."""
    case = draw_case(3, restarts=1, num=3, length=30 if engine == "compiled" else 16, alpha=0.2)
    size = 20_000 if engine == "compiled" else 500
    ratio = (estimate(case, 4, size).sum(dim=-1) - case.exact[:, None]).exp()[0]  # (S, N)
    error = ratio.std(dim=0) / math.sqrt(len(ratio))
    assert (error < 0.05).all()
    assert ((ratio.mean(dim=0) - 1).abs() < 4 * error + 1e-9).all()


def test_two_hundred_random_documents_are_within_two_standard_errors():
    ratios, within, total, variance = [], [], 0.0, 0.0
    for seed in range(20):
        case = draw_case(seed, restarts=1, num_words=30, num=10, length=60, alpha=0.5)
        found = particles.combine(estimate(case, 64, 16))
        error = (found.token_log_prob.sum(dim=-1) - case.exact)[0]
        ratios.append(error.exp())
        within.append(error.abs() <= 2 * found.standard_error[0] + 1e-9)
        total, variance = total + error.sum().item(), variance + found.standard_error.square().sum().item()
    ratio = torch.cat(ratios)
    assert len(ratio) == 200
    assert abs(total) <= 2 * math.sqrt(variance)
    assert torch.cat(within).double().mean() > 0.9
    assert abs(ratio.mean() - 1) <= 2 * ratio.std() / math.sqrt(len(ratio))


@pytest.mark.parametrize("num_topics", [20, 50])
def test_many_topics_agree_with_a_long_run_and_the_drift_says_how_far(num_topics):
    """In sum, and document by document: sixteen replicates are enough to know the error of each."""
    case = draw_case(1, restarts=1, num_topics=num_topics, num_words=100, num=12, length=80, alpha=0.05, gaps=False)
    found, reference = (particles.combine(estimate(case, *sizes)) for sizes in ((64, 16, 1), (256, 16, 2)))
    error = (found.token_log_prob - reference.token_log_prob).sum(dim=-1)
    allowed = (found.standard_error.square() + reference.standard_error.square()).sqrt()
    assert error.sum().abs() < 3 * allowed.square().sum().sqrt()
    assert (error.abs() < 4 * allowed + 1e-9).all()  # a document of one word has no error
    assert (error.abs() < 2 * allowed + 1e-9).double().mean() >= 0.75
    assert allowed.max() < 0.5  # nats, of documents with up to 80 words
    lone = estimate(case, 64, 16, 1).sum(dim=-1)
    torch.testing.assert_close(found.drift, found.token_log_prob.sum(-1) - lone.mean(dim=1), **EXACT)
    assert (found.drift >= 0).all()
    assert reference.drift.sum() < found.drift.sum()


def test_terms_are_a_distribution_that_knows_no_future(engine):
    case = draw_case(2, num=1, length=14, alpha=0.2, num_words=4, gaps=False)
    prefix = case.values[:, :10]
    completed = torch.cat([prefix.expand(4, -1), torch.arange(4)[:, None], torch.tensor([[0], [1], [2], [3]])], dim=1)
    case = case._replace(values=completed, observed=torch.ones_like(completed, dtype=torch.bool))
    terms = particles.combine(estimate(case)).token_log_prob
    torch.testing.assert_close(terms[:, :, 10].exp().sum(dim=1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(terms[:, :, :10], terms[:, :1, :10].expand(-1, 4, -1), **EXACT)


def test_steps_equal_the_whole():
    case = draw_case(4, length=20, alpha=0.2)
    whole = particles.combine(estimate(case, 8)).token_log_prob
    source = particles.topic_source(case.topics, case.alpha)
    state = particles.begin(source, len(case.values), 8, particles.replicate_keys(0, 4))
    for t in range(20):
        word = torch.where(case.observed[:, t], case.values[:, t], -1)
        predicted = particles.predicted_labels(state, source) @ case.topics  # (R, N, V)
        term = predicted[:, torch.arange(len(word)), word.clamp(min=0)].log()
        torch.testing.assert_close(torch.where(word >= 0, term, 0.0), whole[:, :, t], **EXACT)
        state = particles.advance(state, word, source)


def test_a_word_that_no_topic_has_is_impossible(engine):
    table = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    values = torch.tensor([[0, 2, 1], [1, 0, 0]])
    case = Case(table, torch.ones(1, 2, dtype=torch.float64), values, torch.ones_like(values, dtype=torch.bool))
    found = particles.combine(estimate(case))
    assert found.token_log_prob[0, 0, 1:].tolist() == [-math.inf, -math.inf]
    assert found.token_log_prob[0, 1].isfinite().all()
    assert found.standard_error[0, 0] == found.drift[0, 0] == 0
    bound = topics.infer(case.documents, case.weight, case.alpha).bound
    assert bound[0, 0] == -math.inf
    assert bound[0, 1].isfinite()


def test_one_word_needs_no_estimate(engine):
    case = draw_case(num=4, length=1)
    expected = torch.einsum("rk,rkn->rn", case.alpha, case.topics[:, :, case.values[:, 0]]) / case.alpha.sum(1)[:, None]
    found = particles.combine(estimate(case, 3))
    torch.testing.assert_close(found.token_log_prob[..., 0], expected.log(), **EXACT)
    torch.testing.assert_close(found.standard_error, torch.zeros(2, 4, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("alpha", [1e-300, 1e-17, 1e-12, 1e-3, 1e3])
def test_extreme_priors_are_finite(engine, alpha):
    case = draw_case(num_words=20)._replace(alpha=torch.full((2, 3), alpha, dtype=torch.float64))
    table = case.topics + 0.01
    case = case._replace(topics=table / table.sum(dim=-1, keepdim=True))
    found = particles.combine(estimate(case, 32, 16))
    assert found.token_log_prob.isfinite().all()
    assert topics.infer(case.documents, case.weight, case.alpha).bound.isfinite().all()
    difference = found.token_log_prob.sum(-1) - case.exact
    assert (difference.abs() < 5 * found.standard_error + 0.05).all()


@pytest.mark.parametrize("alpha", [1e-300, 1e-17, 1e-8])
def test_a_topic_that_only_a_small_prior_allows_is_possible(engine, alpha):
    """Each word says its topic, so every particle is right: the second topic comes after eight words of the first."""
    table = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]], dtype=torch.float64)
    values = torch.tensor([[0, 1, 0, 1, 1, 0, 0, 0, 2, 3, 0, 2]])
    case = Case(table, torch.full((1, 2), alpha, dtype=torch.float64), values, values >= 0)
    found = particles.combine(estimate(case))
    torch.testing.assert_close(found.token_log_prob.sum(dim=-1), case.exact, atol=1e-9, rtol=0)
    assert found.standard_error.max() < 1e-9


def test_a_very_long_document():
    rng = np.random.default_rng(0)
    case = draw_case(restarts=1, num_topics=5, num_words=50)
    values = torch.from_numpy(rng.choice(50, p=case.topics[0, :2].mean(0).numpy(), size=(1, 50_000)))
    case = case._replace(values=values, observed=torch.ones_like(values, dtype=torch.bool))
    found = particles.combine(estimate(case, 8, 2))
    best = topics.infer(case.documents, case.weight, case.alpha, num_steps=200, tol=1e-8).bound
    assert (found.token_log_prob.sum() - best.sum()).abs() / 50_000 < 1e-3
