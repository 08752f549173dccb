"""A table of which some entries may be out of reach: probabilities by hand, and a fit that climbs."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq.ops.cut_table import cut_log_probs, fit_cut_table

NONE = [[1, 1, 1], [0, 1, 1], [0, 0, 0]]


def test_what_is_in_reach_shares_the_probability():
    weights = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]], dtype=torch.float64)
    found = cut_log_probs(weights.log(), torch.tensor(NONE, dtype=torch.bool)).exp()
    expected = [[[0.5, 0.3, 0.2], [0.0, 0.6, 0.4], [0, 0, 0]], [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0, 0, 0]]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_gradient_is_finite_where_nothing_is_in_reach():
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf]], dtype=torch.float64, requires_grad=True)
    found = cut_log_probs(logits, torch.tensor(NONE, dtype=torch.bool)).exp()
    (gradient,) = torch.autograd.grad((found * torch.arange(3)).sum(), logits)
    assert gradient.isfinite().all()


def test_no_counts_leave_a_table_as_it_is():
    logits = torch.randn(2, 3, dtype=torch.float64)
    counts = torch.stack([torch.zeros(3, 3), torch.tensor(NONE)]).double()
    found = fit_cut_table(counts, logits, torch.tensor(NONE, dtype=torch.bool), 0.0)
    assert torch.equal(found[0], logits[0])
    torch.testing.assert_close(found[1].softmax(-1), torch.tensor([1 / 3] * 3, dtype=torch.float64), atol=1e-3, rtol=0)


def test_where_nothing_is_cut_the_fit_is_the_share_of_the_counts():
    counts = torch.tensor([[[6.0, 3.0, 1.0]]], dtype=torch.float64)
    found = fit_cut_table(counts, torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool), 0.5, 1)
    torch.testing.assert_close(found.exp()[0], torch.tensor([6.5, 3.5, 1.5], dtype=torch.float64) / 11.5)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.4]))
def test_a_cut_table_climbs_to_where_its_gradient_vanishes(seed, excess):
    rng = torch.Generator().manual_seed(seed)
    allowed = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 0]], dtype=torch.bool)
    counts = torch.rand(2, 4, 4, generator=rng, dtype=torch.float64) * allowed + 0.01 * allowed
    logits = torch.randn(2, 4, generator=rng, dtype=torch.float64)

    def objective(values):
        log_probs = cut_log_probs(values, allowed).where(allowed, 0.0)
        return (counts * log_probs).sum((1, 2)) + excess * values.log_softmax(-1).sum(-1)

    before, after = logits, fit_cut_table(counts, logits, allowed, excess, num_rounds=1)
    assert (objective(after) >= objective(before) - 1e-12).all()
    best = fit_cut_table(counts, logits, allowed, excess, num_rounds=500).requires_grad_()
    assert torch.autograd.grad(objective(best).sum(), best)[0].abs().max() < 1e-6
