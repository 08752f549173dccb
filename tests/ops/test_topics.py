"""Documents without order: the variational bound against the exact value, and loops against tensors."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from topic_cases import cases, draw_case

from probseq.ops import topics, topics_compiled, topics_kernels

EXACT = {"atol": 1e-10, "rtol": 0}


@pytest.fixture(params=["compiled", "tensor"])
def engine(request, monkeypatch):
    monkeypatch.setattr(topics_compiled, "suits", lambda table: request.param == "compiled")
    return request.param


def both(monkeypatch, function):
    """The answers of the compiled loops and of the tensor functions."""
    answers = []
    for compiled in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(topics_compiled, "suits", lambda table, on=compiled: on)
            answers.append(function())
    return answers


# Variational inference


def infer(case, **options):
    return topics.infer(case.documents, case.weight, case.alpha, **options)


@given(cases())
def test_the_bound_is_below_the_exact_value_and_never_falls(case):
    bounds = torch.stack([infer(case, num_steps=steps, tol=0.0).bound for steps in (0, 1, 2, 5, 20, 100)])
    assert (bounds.diff(dim=0) >= -1e-9).all()
    assert (bounds <= case.exact + 1e-9).all()


def test_the_bound_is_the_expectation_that_it_is_said_to_be():
    """Written out with the responsibility of every topic for every word; at its end no parameter can improve it."""
    case = draw_case(length=9, gaps=False)
    found = infer(case, num_steps=3000, tol=0.0)
    for r, i in itertools.product(range(2), range(5)):
        words = case.values[i][case.observed[i]]
        gamma = found.gamma[r, i].clone().requires_grad_()
        posterior, prior = (torch.distributions.Dirichlet(p, validate_args=False) for p in (gamma, case.alpha[r]))
        log_theta = gamma.digamma() - gamma.sum().digamma()
        table = case.topics[r][:, words].T.log()
        share = (log_theta + table).softmax(dim=-1).detach()
        bound = torch.special.entr(share).sum() + (share * (log_theta + table)).sum()
        bound = bound - torch.distributions.kl_divergence(posterior, prior)
        torch.testing.assert_close(bound, found.bound[r, i], **EXACT)
        (slope,) = torch.autograd.grad(bound, gamma)
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("num_steps", "tol"), [(0, 0.0), (1, 0.0), (30, 1e-3)])
def test_compiled_inference_equals_tensor_inference(monkeypatch, num_steps, tol):
    case = draw_case(num_topics=11, num=30, length=40, num_words=50)
    scale = torch.linspace(0.5, 2.0, 30, dtype=torch.float64)
    options = {"weights": scale, "num_steps": num_steps, "tol": tol}
    one, other = both(monkeypatch, lambda: infer(case, **options))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-11)
    lengths = case.observed.sum(dim=1).double()
    torch.testing.assert_close(one.counts.sum(dim=(1, 2)), (lengths @ scale).expand(2), **EXACT)


def test_restarts_and_documents_do_not_touch_each_other(engine):
    case = draw_case()
    together = infer(case)
    for r in range(2):
        lone = topics.infer(case.documents, case.weight[r : r + 1], case.alpha[r : r + 1])
        for a, b in zip(lone, together, strict=True):
            torch.testing.assert_close(a[0], b[r], atol=1e-13, rtol=0)
    for i in range(5):
        one = case._replace(values=case.values[i : i + 1], observed=case.observed[i : i + 1])
        torch.testing.assert_close(infer(one).gamma[:, 0], together.gamma[:, i], atol=1e-12, rtol=0)


def test_counts_of_pairs():
    case = draw_case(num=7)
    docs, dense = case.documents, torch.zeros(7, 6, dtype=torch.float64)
    for i, t in case.observed.nonzero():
        dense[i, case.values[i, t]] += 1
    assert torch.equal(torch.zeros_like(dense).index_put_((docs.document, docs.word), docs.count), dense)
    assert docs.offsets.tolist() == [0, *(dense > 0).sum(dim=1).cumsum(0).tolist()]
    assert docs.word_offsets.tolist() == [0, *(dense > 0).sum(dim=0).cumsum(0).tolist()]
    assert (docs.word[docs.by_word].diff() >= 0).all()


@given(st.floats(1e-8, 1e8))
def test_compiled_digamma(x):
    expected = torch.tensor(x, dtype=torch.float64).digamma()
    assert topics_kernels.digamma(x) == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    assert topics_kernels._log_gamma(x) == pytest.approx(math.lgamma(x), rel=1e-12, abs=1e-12)
    assert topics_kernels.exp_digamma(x) == pytest.approx(expected.exp().item(), rel=1e-11, abs=1e-300)
