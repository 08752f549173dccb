"""The engine against sums over all paths, by every implementation."""

import math

import brute_force
import pytest
import torch
from brute_force import double, potentials, random_potentials, underflowing_potentials
from hypothesis import given
from hypothesis import strategies as st

from probseq.ops import chain, chain_compiled, chain_tensor
from probseq.ops.chain_tensor import take

EXACT = {"atol": 1e-10, "rtol": 0}
FORMS = {"tensor": {}, "walk": {"_FEW_SEQUENCES": 10**6}, "lanes": {"_FEW_SEQUENCES": 1},
         "rows": {"_FEW_SEQUENCES": 1, "_MANY_STATES": 1}}  # fmt: skip


@pytest.fixture(params=FORMS, scope="module")
def form(request):
    """Every implementation of the recursion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain_compiled, "suits", lambda table: request.param != "tensor")
        for name, value in FORMS[request.param].items():
            patch.setattr(chain_compiled, name, value)
        yield request.param


def random_weights(p, seed=0):
    return torch.rand(len(p.index), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1


def known_beliefs(p):
    """After each token and before it, by enumeration."""
    real = torch.arange(p.index.shape[1]) < p.lengths[:, None]
    possible = brute_force.terms(p).roll(1, dims=-1) > -math.inf  # x_<t
    possible[..., 0] = True
    before = torch.where((possible & real)[..., None], brute_force.beliefs(p, "before"), 0.0)
    return brute_force.beliefs(p, "past"), before


# Laws, by enumeration


@given(p=potentials())
def test_terms_are_the_sums_over_all_paths(form, p):
    torch.testing.assert_close(chain.token_log_prob(p), brute_force.terms(p), **EXACT)


@given(p=potentials(), seed=st.integers(0, 100))
def test_counts_are_the_expectations_over_all_paths(form, p, seed):
    weights = random_weights(p, seed)
    for one, other in zip(chain.expected_counts(p, weights), brute_force.counts(p, weights), strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@given(p=potentials(), seed=st.integers(0, 100))
def test_one_pass_finds_value_and_gradient_of_the_weighted_log_likelihood(form, p, seed):
    """Of a sum, whose gradient is made along with it; and of what sequences count for differently."""
    weights = random_weights(p, seed)
    wanted = [part.requires_grad_() for part in p[:3]]
    twice = chain.token_log_prob(p).sum(dim=-1) * weights
    once = chain.log_likelihood(p, weights)
    torch.testing.assert_close(once, twice, **EXACT)
    per_restart = torch.arange(1.0, 1 + len(once), dtype=torch.float64)[:, None].expand_as(once)
    for given_gradient in (per_restart, per_restart * random_weights(p, 7)):
        expected = torch.autograd.grad(twice, wanted, given_gradient, retain_graph=True)
        for one, other in zip(
            torch.autograd.grad(once, wanted, given_gradient, retain_graph=True), expected, strict=True
        ):
            torch.testing.assert_close(one, other, **EXACT)
    with torch.no_grad():
        torch.testing.assert_close(chain.log_likelihood(p, weights), twice.detach(), **EXACT)


@given(p=potentials())
def test_beliefs_are_the_shares_of_the_paths(form, p):
    torch.testing.assert_close(chain.posterior_marginals(p), brute_force.beliefs(p, "all"), **EXACT)
    for found, expected in zip((chain.filtered(p), chain.predicted(p)), known_beliefs(p), strict=True):
        torch.testing.assert_close(found, expected, **EXACT)


def test_counts_add_up(form):
    p = random_potentials(num=40, steps=30, states=5)
    counts = chain.expected_counts(p, random_weights(p))
    weights = random_weights(p)
    torch.testing.assert_close(counts.initial.sum((1, 2)), weights.sum().expand(2))
    torch.testing.assert_close(counts.transition.sum((1, 2, 3)), (weights @ (p.lengths - 1).double()).expand(2))
    torch.testing.assert_close(counts.emission.sum((1, 2)), (weights @ p.lengths.double()).expand(2))


# Gradients


@pytest.mark.parametrize(("matrices", "initials"), [(1, 1), (3, 4)])
def test_gradients_and_their_gradients_are_right(form, matrices, initials):
    p = random_potentials(num=4, steps=3, states=2, symbols=2, matrices=matrices, initials=initials)
    inputs = [part.clone().requires_grad_() for part in p[:3]]

    def log_z(*parts):
        return chain.token_log_prob(chain.Potentials(*parts, *p[3:]))

    assert torch.autograd.gradcheck(log_z, inputs)
    if form in ("tensor", "lanes"):  # the second gradient takes one way for all
        assert torch.autograd.gradgradcheck(log_z, inputs)


def both_gradients(p):
    """Of the terms that are finite, once from the explicit backward pass and once from the recorded one."""
    inputs = [part.clone().requires_grad_() for part in p[:3]]
    value = chain.token_log_prob(chain.Potentials(*inputs, *p[3:]))
    weights = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(0))
    total = (weights * value.masked_fill(value == -math.inf, 0.0)).sum()
    return [torch.autograd.grad(total, inputs, retain_graph=True, create_graph=graph) for graph in (False, True)]


@given(p=potentials())
def test_second_path_of_the_gradient_gives_the_same_numbers(form, p):
    """With a graph, the backward pass is a plain recursion that autograd recorded."""
    for part, explicit, recorded in zip(p[:3], *both_gradients(p), strict=True):
        factor = 1.0 if part is p.log_emission else part  # a probability of 0 may have any gradient
        torch.testing.assert_close(explicit * factor, recorded * factor, **EXACT)


@pytest.mark.parametrize("matrices", [1, 2])
def test_second_path_of_the_gradient_knows_of_underflow(form, matrices):
    p = underflowing_potentials(torch.float64, matrices)
    for part, explicit, recorded in zip(p[:3], *both_gradients(p), strict=True):
        factor = 1.0 if part is p.log_emission else part
        torch.testing.assert_close(explicit * factor, recorded * factor, **EXACT)


def test_two_states_that_never_mix_have_the_gradient_of_the_likelier(form):
    log_emission = torch.tensor([[[0.0, -5000.0], [-6000.0, 0.0]]]).double().requires_grad_()
    p = chain.Potentials(
        initial=torch.full((1, 1, 2), 0.5).double(), transition=torch.eye(2).double()[None, None],
        log_emission=log_emission, index=torch.tensor([[0, 1]]), lengths=torch.tensor([2]),
    )  # fmt: skip
    for graph in (False, True):
        (found,) = torch.autograd.grad(chain.token_log_prob(p).sum(), log_emission, create_graph=graph)
        assert found.tolist() == [[[0, 1], [0, 1]]]
    assert torch.autograd.grad(found[0, 0, 1], log_emission)[0].isfinite().all()


def test_only_what_needs_a_gradient_gets_one(form):
    p = random_potentials()
    transition = p.transition.clone().requires_grad_()
    total = chain.token_log_prob(p._replace(transition=transition)).sum()
    (first,) = torch.autograd.grad(total, transition, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), transition)
    assert second.isfinite().all()


# Numbers of every size


@pytest.mark.parametrize("shift", [-2000.0, 2000.0])
def test_potentials_of_any_scale_are_safe(form, shift):
    p = random_potentials(num=6)
    real = torch.arange(p.index.shape[1]) < p.lengths[:, None]
    shifted = chain.token_log_prob(p._replace(log_emission=p.log_emission + shift))
    torch.testing.assert_close(shifted, chain.token_log_prob(p) + shift * real, atol=1e-9, rtol=0)


def test_an_impossible_sequence_scores_minus_infinity_and_counts_for_nothing(form):
    table = torch.tensor([[[0.5, 0.0], [0.5, 0.0], [0.0, 1.0], [0.0, 0.0]]]).double().log()
    p = chain.Potentials(
        initial=torch.tensor([[[1.0, 0.0]]]).double(),
        transition=torch.eye(2).double()[None, None],  # state 1 is never reached: symbols 2 and 3 cannot be
        log_emission=table.requires_grad_(),
        index=torch.tensor([[0, 1, 0, 1], [0, 2, 0, 0], [1, 3, 0, 0], [2, 0, 0, 0]]),
        lengths=torch.tensor([4, 4, 3, 1]),
    )
    terms = chain.token_log_prob(p)[0]
    assert terms[0].isfinite().all()
    torch.testing.assert_close(terms[1:, 0].tolist(), [math.log(0.5), math.log(0.5), -math.inf])
    assert (terms[1, 1:] == -math.inf).all()
    assert (terms[2, 1:3] == -math.inf).all()
    assert terms[2, 3] == 0
    gradient = torch.autograd.grad(terms[0].sum() + terms[1:, 0].nan_to_num(neginf=0).sum(), p.log_emission)[0]
    assert gradient[0, :, 0].tolist() == [2, 2, 0, 0]
    counts = chain.expected_counts(p, torch.ones(4))
    assert counts.log_likelihood[0, 1:].tolist() == [-math.inf] * 3
    assert counts.emission[0, :, 0].tolist() == [2, 2, 0, 0]
    assert chain.posterior_marginals(p)[0, 1:].abs().max() == 0
    assert chain.filtered(p)[0, 1].tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]
    assert chain.predicted(p)[0, 1].tolist() == [[1, 0], [1, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("matrices", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_token_that_underflows_is_not_impossible(form, dtype, matrices):
    p = underflowing_potentials(dtype, matrices)
    exact = double(p)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0], dtype=torch.float64)
    tolerance = {"atol": 1e-10 if dtype == torch.float64 else 1e-4, "rtol": 1e-7}
    torch.testing.assert_close(chain.token_log_prob(p).double(), brute_force.terms(exact), **tolerance)
    for one, other in zip(chain.expected_counts(p, weights), brute_force.counts(exact, weights), strict=True):
        torch.testing.assert_close(one.double(), other, **tolerance)
    possible = take(p, torch.arange(4))
    grad = torch.randn(1, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    table = p.log_emission.clone().requires_grad_()
    chain.token_log_prob(possible._replace(log_emission=table)).backward(grad)
    expected = brute_force.emission_gradient(double(possible), grad[0].double())
    torch.testing.assert_close(table.grad.double(), expected, **tolerance)


@pytest.mark.parametrize("matrices", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_belief_that_underflows_is_not_lost(form, dtype, matrices):
    p = underflowing_potentials(dtype, matrices)
    tolerance = {"atol": 1e-12 if dtype == torch.float64 else 1e-6, "rtol": 1e-7}
    for found, expected in zip((chain.filtered(p), chain.predicted(p)), known_beliefs(double(p)), strict=True):
        torch.testing.assert_close(found.double(), expected, **tolerance)
        assert found.dtype == dtype


def test_a_state_that_cannot_be_reached_does_no_harm(form):
    """It explains the tokens so much better that the odds in its favor overflow."""
    p = random_potentials(restarts=1, num=5, steps=2000, states=2, seed=3)
    p = p._replace(
        initial=torch.tensor([[[1.0, 0.0]]]).double(),
        transition=torch.eye(2).double()[None, None],
        log_emission=torch.tensor([[-2.0, 0.0]]).double().expand(1, 4, 2).contiguous(),
        lengths=torch.full((5,), 2000),
    )
    counts = chain.expected_counts(p, torch.ones(5))
    torch.testing.assert_close(counts.log_likelihood, torch.full((1, 5), -4000.0).double())
    assert counts.emission.sum((0, 1)).tolist() == [10000, 0]
    assert counts.transition[0, 0].tolist() == [[5 * 1999, 0], [0, 0]]


def test_long_sequences_do_not_underflow(form):
    p = random_potentials(restarts=1, num=1, steps=20_000 if form == "walk" else 2_000, seed=1)
    p = p._replace(lengths=torch.tensor([p.index.shape[1]]))
    terms = chain.token_log_prob(p)
    assert terms.isfinite().all()
    assert -4 < terms.mean() < 0


@pytest.mark.parametrize("states", [3, 9])
def test_float32_is_close_and_its_log_likelihood_is_float64(form, states):
    p = random_potentials(num=6, steps=50, states=states, seed=2)
    low = p._replace(**{name: getattr(p, name).float() for name in ("initial", "transition", "log_emission")})
    weights = random_weights(p)
    for one, other in zip(chain.expected_counts(low, weights), chain.expected_counts(p, weights), strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-5)
    assert chain.expected_counts(low, weights).log_likelihood.dtype == torch.float64
    assert chain.token_log_prob(low).dtype == torch.float32
    shifted = chain.expected_counts(low._replace(log_emission=low.log_emission - 4096), weights)  # exact in float32
    difference = chain.expected_counts(low, weights).log_likelihood - shifted.log_likelihood
    torch.testing.assert_close(difference, 4096 * p.lengths.double().expand(2, -1), atol=0.1, rtol=0)


# Splitting the work


@given(p=potentials())
def test_the_byte_budget_changes_nothing(form, p):
    weights = random_weights(p)
    whole, terms = chain.expected_counts(p, weights), chain.token_log_prob(p)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain_compiled, "_BYTES", 1)  # one step at a time
        patch.setattr(chain_tensor, "_BYTES", 1)
        for one, other in zip(chain.expected_counts(p, weights), whole, strict=True):
            torch.testing.assert_close(one, other, atol=1e-13, rtol=0)
        torch.testing.assert_close(chain.token_log_prob(p), terms, atol=1e-13, rtol=0)
