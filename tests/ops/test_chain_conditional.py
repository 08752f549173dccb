"""Chains that a source drives, against the same chains with a matrix for every step, and so against sums over paths."""

import math

import brute_force
import pytest
import torch
from conditional_chains import KINDS, cast, conditional_chains, fields, potentials, random_chain
from hypothesis import given

from probseq.ops import chain as engine
from probseq.ops import chain_conditional as conditional
from probseq.ops.chain_conditional import JumpWindow, Memoryless

EXACT = {"atol": 1e-10, "rtol": 0}


@pytest.fixture(params=["compiled", "tensor"], scope="module", autouse=True)
def form(request):
    """Every implementation of the recursion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditional, "_compiles", lambda log_emission: request.param == "compiled")
        yield request.param


def leaves(chain, emission):
    """Chain and emissions with gradients, and the tensors among them."""
    parts = [part.clone().requires_grad_() if isinstance(part, torch.Tensor) else part for part in fields(chain)]
    emission = emission.clone().requires_grad_()
    return type(chain)(*parts), emission, [*(part for part in parts if isinstance(part, torch.Tensor)), emission]


# Laws, by enumeration


@given(case=conditional_chains())
def test_terms_are_the_sums_over_all_paths(case):
    expected = brute_force.terms(potentials(*case))
    torch.testing.assert_close(conditional.token_log_prob(*case), expected, **EXACT)


@given(case=conditional_chains())
def test_rows_of_the_transitions_sum_to_one(case):
    chain, *_ = case
    if not isinstance(chain, Memoryless):
        rows = conditional.transition(chain).sum(-1)
        there = chain.drive > -math.inf
        torch.testing.assert_close(rows[there.expand_as(rows)], torch.ones_like(rows[there.expand_as(rows)]), **EXACT)
        assert (conditional.transition(chain)[~there.expand_as(rows)].sum(-1) <= 1 + 1e-10).all()


@given(case=conditional_chains())
def test_gradients_are_those_of_the_engine(case):
    chain, emission, wanted = leaves(*case[:2])
    grad = torch.randn(emission.shape[:3], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad(conditional.token_log_prob(chain, emission, case[2]), wanted, grad, allow_unused=True)
    terms = engine.token_log_prob(potentials(chain, emission, case[2]))
    expected = torch.autograd.grad(terms, wanted, grad, allow_unused=True)
    for one, other, part in zip(found, expected, wanted, strict=True):
        one, other = (torch.zeros_like(part) if x is None else x for x in (one, other))
        possible = part > -math.inf  # at a probability of 0 the logarithm has no gradient
        torch.testing.assert_close(one[possible], other[possible], **EXACT)
        assert one.isfinite().all()


@given(case=conditional_chains())
def test_the_gradient_in_the_emissions_is_the_posterior(case):
    chain, emission, _ = leaves(*case[:2])
    (found,) = torch.autograd.grad(conditional.token_log_prob(chain, emission, case[2]).sum(), emission)
    torch.testing.assert_close(found, engine.posterior_marginals(potentials(*case)), **EXACT)


@given(case=conditional_chains())
def test_beliefs_are_the_shares_of_the_paths(case):
    torch.testing.assert_close(conditional.filtered(*case).exp(), engine.filtered(potentials(*case)), **EXACT)


@given(case=conditional_chains())
def test_step_by_step_gives_the_same_beliefs(case):
    chain, emission, lengths = case
    beliefs, expected = conditional.filtered(*case), engine.predicted(potentials(*case))
    belief = None
    for t in range(emission.shape[2]):
        running = lengths > t
        found = conditional.predicted(chain, belief, t).exp()
        torch.testing.assert_close(found[:, running], expected[:, running, t], **EXACT)
        belief = beliefs[:, :, t]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right(kind):
    chain, emission, lengths = random_chain(kind, num=3, steps=3, states=3, seed=5)
    tensors = [part for part in fields(chain) if isinstance(part, torch.Tensor)]
    finite = [part.nan_to_num(neginf=-5.0).requires_grad_() for part in tensors]  # a step from -inf leads nowhere

    def terms(*parts):
        rest = iter(parts)
        built = [next(rest) if isinstance(part, torch.Tensor) else part for part in fields(chain)]
        return conditional.token_log_prob(type(chain)(*built), next(rest), lengths)

    assert torch.autograd.gradcheck(terms, [*finite, emission.requires_grad_()])


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_second_way_back_gives_the_same_gradient(kind):
    chain, emission, wanted = leaves(*random_chain(kind)[:2])
    total = conditional.token_log_prob(chain, emission, random_chain(kind)[2]).sum()
    once = torch.autograd.grad(total, wanted, retain_graph=True)
    for one, other in zip(torch.autograd.grad(total, wanted), once, strict=True):
        assert one.equal(other)


# Numbers of every size


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_close(kind):
    chain, emission, lengths = random_chain(kind, num=6, steps=40, states=9, seed=2)
    found = conditional.token_log_prob(cast(chain, torch.float32), emission.float(), lengths)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), conditional.token_log_prob(chain, emission, lengths), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_around_it_changes_nothing(kind):
    chain, emission, lengths = random_chain(kind, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = conditional.token_log_prob(chain, emission, lengths)
    assert found.equal(conditional.token_log_prob(chain, emission, lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_emissions_of_any_scale_are_safe(kind):
    chain, emission, lengths = random_chain(kind, dtype=torch.float32)
    shift = torch.tensor([-4096.0, 4096.0]).view(2, 1, 1, 1)
    real = torch.arange(4) < lengths[:, None]
    found = conditional.token_log_prob(chain, emission + shift, lengths)
    expected = conditional.token_log_prob(chain, emission, lengths) + shift[..., 0] * real
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_positions_that_later_tokens_call_back_are_not_lost():
    """At first another position is 1,000 nats likelier; from there, the last token is impossible."""
    drive = torch.zeros(1, 1, 1, 2)
    stay = torch.tensor([0.0, -2000.0])
    chain = JumpWindow(torch.full((1, 1, 2), math.log(0.5)), stay.expand(1, 1, 1, 2), 0, drive)
    emission = torch.tensor([[[[-1000.0, 0.0], [-1000.0, 0.0], [0.0, -math.inf]]]])
    terms = conditional.token_log_prob(chain, emission, torch.tensor([3]))[0, 0]
    torch.testing.assert_close(terms.tolist(), [math.log(0.5), 0.0, -2000.0], rtol=1e-6, atol=1e-6)


def test_what_is_impossible_scores_minus_infinity_and_has_no_gradient():
    """A walk that only goes on comes to its end; the next sequence is not harmed."""
    chain = JumpWindow(
        torch.tensor([[[0.0, -math.inf]] * 2]),
        torch.tensor([-math.inf, 0.0]).expand(1, 1, 1, 2),
        0,
        torch.zeros(1, 2, 1, 2),
    )
    emission = torch.zeros(1, 2, 4, 2, requires_grad=True)
    terms = conditional.token_log_prob(chain, emission, torch.tensor([4, 2]))
    assert terms[0].tolist() == [[0, 0, -math.inf, -math.inf], [0, 0, 0, 0]]
    (found,) = torch.autograd.grad(terms[terms > -math.inf].sum(), emission)
    assert found[0].sum(-1).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert (conditional.filtered(chain, emission, torch.tensor([4, 2]))[0, 0, 2:] == -math.inf).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_number_is_not_called_impossible(kind):
    chain, emission, lengths = random_chain(kind)
    emission[0, 1] = math.nan
    terms = conditional.token_log_prob(chain, emission, lengths)
    assert terms[0, 1, : lengths[1]].isnan().all()
    assert terms[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", [slice(None), 1], ids=["every", "one"])
def test_nor_is_a_chain_of_such_parts(kind, where):
    chain, emission, _ = random_chain(kind)
    for i, part in enumerate(fields(chain)):
        if isinstance(part, torch.Tensor):
            wrong, parts = part.clone(), fields(chain)
            wrong[0][..., where] = math.nan
            parts[i] = wrong
            terms = conditional.token_log_prob(type(chain)(*parts), emission, torch.full((3,), 4))
            assert terms[0, 0].isnan().any()
            assert not terms.isneginf().any()
            assert terms[1].isfinite().all()


def test_what_is_kept_for_the_way_back_does_not_grow_with_the_window():
    def kept(width):
        case = random_chain("window-own", states=20, steps=40, first=-width // 2, width=width)
        (chain, emission, _), sizes = leaves(*case[:2]), []
        with torch.autograd.graph.saved_tensors_hooks(lambda part: sizes.append(part.numel()) or part, lambda x: x):
            conditional.token_log_prob(chain, emission, torch.tensor([40, 40, 40]))
        return sum(size for size in sizes if size >= emission.numel())

    assert kept(12) == kept(3)


# Mixtures


def test_a_mixture_is_that_of_whole_sequences():
    chain, emission, lengths = random_chain("matrix", chains=3)
    terms = conditional.token_log_prob(chain, emission, lengths)
    log_weights = torch.randn(3, 3, dtype=torch.float64).log_softmax(0)
    found = conditional.mixture(log_weights, terms)
    torch.testing.assert_close(found.sum(-1), (log_weights + terms.sum(-1)).logsumexp(0), **EXACT)
    assert (found[torch.arange(4) >= lengths[:, None]].abs() < 1e-12).all()
    assert torch.autograd.gradcheck(conditional.mixture, (log_weights.requires_grad_(), terms.requires_grad_()))


def test_shares_of_long_sequences_are_right_in_single_precision():
    each = torch.rand(3, 2, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    terms, log_weights = -3 - each.float() / 50, torch.full((3, 2), 1 / 3).log()
    found = conditional.mixture(log_weights, terms)
    assert found.dtype == torch.float32
    exact = conditional.mixture(log_weights.double(), terms.double())
    torch.testing.assert_close(found.double(), exact, atol=1e-6, rtol=0)


def test_a_component_for_which_the_sequence_is_impossible_adds_nothing():
    terms = torch.tensor([[[-1.0, -math.inf, -math.inf]], [[-2.0, -1.0, -math.inf]]], requires_grad=True)
    found = conditional.mixture(torch.full((2, 1), math.log(0.5)), terms)
    total = math.log(0.5 * math.exp(-1) + 0.5 * math.exp(-2))
    torch.testing.assert_close(found[0, :2].tolist(), [total, math.log(0.5) - 3 - total])
    assert found[0, 2] == -math.inf
    assert torch.autograd.grad(found[0, :2].sum(), terms)[0].isfinite().all()
