"""Products of two factors over symbols, against the softmax of their sum."""

import pytest
import torch

from probseq.ops import product_softmax

EXACT = {"atol": 1e-10, "rtol": 0}


@pytest.fixture
def scores():
    """Of 2 chains, 3 sequences, 4 states, 5 steps and 6 symbols; all within the bound."""
    torch.manual_seed(0)
    return 3 * torch.randn(2, 3, 4, 6, dtype=torch.float64), 3 * torch.randn(2, 3, 5, 6, dtype=torch.float64)


def softmax(of_states, of_past):
    """``log p_t(v | k)``, (C, N, T, K, V)."""
    return (of_states[:, :, None] + of_past[:, :, :, None]).log_softmax(dim=-1)


@pytest.mark.parametrize("shared", [slice(None), slice(0, 1)])
def test_probabilities_are_those_of_the_softmax_of_the_sum(scores, shared):
    of_states, of_past = scores[0][:, shared], scores[1][:, :, shared]
    values = torch.randint(6, (3, 5))
    found = product_softmax.log_prob(of_states, of_past, values)
    expected = softmax(of_states, of_past).expand(2, 3, 5, 4, 6)
    index = values[None, :, :, None, None].expand(2, 3, 5, 4, 1)
    torch.testing.assert_close(found, expected.gather(-1, index)[..., 0], **EXACT)


def test_the_predictive_is_the_mean_over_states(scores):
    log_belief = torch.randn(2, 3, 5, 4, dtype=torch.float64).log_softmax(-1)
    found = product_softmax.predictive(*scores, log_belief)
    torch.testing.assert_close(found, (log_belief[..., None] + softmax(*scores)).logsumexp(-2), **EXACT)


def test_a_state_that_cannot_be_adds_nothing(scores):
    log_belief = torch.full((2, 3, 5, 4), -torch.inf, dtype=torch.float64)
    assert (product_softmax.predictive(*scores, log_belief) == -torch.inf).all()
    log_belief[..., 1] = 0.0
    torch.testing.assert_close(product_softmax.predictive(*scores, log_belief), softmax(*scores)[..., 1, :], **EXACT)


def test_factors_that_contradict_one_another_are_safe_in_single_precision():
    """Each is sure of another symbol, by far more than single precision can hold."""
    of_states = (1000 * torch.eye(3)).view(1, 1, 3, 3).requires_grad_()
    of_past = torch.tensor([[[[0.0, 0.0, 2000.0]]]], requires_grad=True)
    every = torch.stack([product_softmax.log_prob(of_states, of_past, torch.tensor([[v]])) for v in range(3)])
    torch.testing.assert_close(every.exp().sum(0), torch.ones(1, 1, 1, 3))
    assert every.isfinite().all()
    predictive = product_softmax.predictive(of_states, of_past, torch.full((1, 1, 1, 3), 1 / 3).log())
    torch.testing.assert_close(predictive.exp().sum(-1), torch.ones(1, 1, 1))
    assert all(part.isfinite().all() for part in torch.autograd.grad(every.sum(), (of_states, of_past)))


def test_half_precision_around_it_changes_nothing(scores):
    """But for the scores themselves, where they are of half precision."""
    of_states, of_past = (part.bfloat16() for part in scores)
    values = torch.randint(6, (3, 5))
    with torch.autocast("cpu", torch.bfloat16):
        found = product_softmax.log_prob(of_states, of_past, values)
    assert found.equal(product_softmax.log_prob(of_states.float(), of_past.float(), values))


def test_gradients_are_right(scores):
    values = torch.randint(6, (3, 5))
    wanted = [part.requires_grad_() for part in scores]
    assert torch.autograd.gradcheck(lambda a, b: product_softmax.log_prob(a, b, values), wanted)
