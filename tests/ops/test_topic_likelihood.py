"""The likelihood of documents by other ways than particles: against enumeration, and against one another."""

import itertools

import pytest
import torch
from hypothesis import given
from topic_cases import cases, draw_case, enumerated

import probseq as ps
from probseq.ops import topic_likelihood, topics

EXACT = {"atol": 1e-10, "rtol": 0}


# The exact value


@given(cases())
def test_exact_is_the_sum_over_all_topics_of_all_words(case):
    for r, i in itertools.product(range(2), range(len(case.values))):
        assert case.exact[r, i].item() == pytest.approx(enumerated(case, r, i), abs=1e-10)


@pytest.mark.parametrize("num_topics", [1, 2, 3])
def test_all_documents_of_a_length_sum_to_one(num_topics):
    values = torch.tensor(list(itertools.product(range(3), repeat=4)))
    case = draw_case(num_topics=num_topics, num_words=3)._replace(values=values, observed=values >= 0)
    torch.testing.assert_close(case.exact.exp().sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_order_does_not_matter_and_terms_follow_the_chain_rule():
    case = draw_case(length=60, num=3)
    terms = topic_likelihood.exact_token_log_prob(*case[2:], *case[:2])
    flipped = topic_likelihood.exact_token_log_prob(case.values.flip(1), case.observed.flip(1), *case[:2])
    torch.testing.assert_close(terms.sum(-1), flipped.sum(-1), **EXACT)
    for t in (1, 7, 30):
        part = topic_likelihood.exact_token_log_prob(case.values[:, :t], case.observed[:, :t], *case[:2])
        torch.testing.assert_close(terms[:, :, :t], part, **EXACT)


def test_many_topics_have_no_exact_value():
    case = draw_case(num_topics=4)
    with pytest.raises(ps.InputError, match=r"4 topics.*at most 3"):
        topic_likelihood.exact_token_log_prob(*case[2:], *case[:2])
    case = draw_case()
    long = torch.zeros(1, 20_000, dtype=torch.int64)
    with pytest.raises(ps.InputError, match="20000 words"):
        topic_likelihood.exact_token_log_prob(long, long == 0, *case[:2])


@pytest.mark.parametrize("alpha", [0.01, 0.5, 5.0])
def test_importance_sampling_agrees_with_the_exact_value(alpha):
    case = draw_case(length=40, alpha=alpha)
    found, error = topic_likelihood.importance_log_prob(
        case.documents, case.topics, case.alpha, 4000, torch.Generator().manual_seed(0)
    )
    assert (error < 0.2).all()
    assert ((found - case.exact).abs() < 4 * error + 1e-9).all()
    assert ((found - case.exact) / error.clamp(min=1e-9)).abs().mean() < 1.5


@pytest.mark.parametrize("num_samples", [2, 3, 7])
def test_importance_sampling_is_unbiased_for_any_number_of_draws(num_samples):
    """One document 4000 times: the mean of p-hat / p is 1."""
    case = draw_case(restarts=1, num=1, length=8, gaps=False)
    many = case._replace(values=case.values.expand(4000, -1), observed=case.observed.expand(4000, -1))
    generator = torch.Generator().manual_seed(0)
    found, _ = topic_likelihood.importance_log_prob(many.documents, case.topics, case.alpha, num_samples, generator)
    ratio = (found - case.exact)[0].exp()
    error = ratio.std() / len(ratio) ** 0.5
    assert error < 0.03
    assert (ratio.mean() - 1).abs() < 4 * error
    with pytest.raises(ps.InputError, match=r"num_samples is 1; expected 2 or more"):
        topic_likelihood.importance_log_prob(many.documents, case.topics, case.alpha, 1)


def test_completion_is_the_chance_of_the_hidden_words():
    table = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.25, 0.75]]], dtype=torch.float64)
    values = torch.tensor([[0, 1, 2], [3, 2, 3]])
    halves = [
        topics.documents(values, torch.tensor([row, row]), 4) for row in ([True, True, False], [False, False, True])
    ]
    alpha = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    found = topic_likelihood.completion(*halves, table, alpha)
    expected = torch.tensor([[2 / 5 * 0.25, 4 / 5 * 0.75]], dtype=torch.float64).log()
    torch.testing.assert_close(found, expected, **EXACT)
