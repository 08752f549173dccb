"""The engine against enumeration, against its compiled twin, and against Pyro."""

import math

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import hmm_joint, hmm_log_prob
from pyro.infer import TraceEnum_ELBO
from strategies import chains

import probseq as ps
from probseq.ops import chain, chain_compiled

EXACT = {"atol": 1e-10, "rtol": 0}


@pytest.fixture(params=["compiled", "tensor loop"])
def engine(request, monkeypatch):
    """Both implementations of the recursion."""
    monkeypatch.setattr(chain_compiled, "suits", lambda initial: request.param == "compiled")


def potentials(model: ps.HMM, data: ps.Sequences):
    batch = data.batch()
    arguments = (model.initial, model.transition, model.emission.log_table(batch), batch.values, batch.lengths)
    return [a.detach() for a in arguments]


def random_chain(restarts=2, states=3, symbols=4, seed=0):
    model = ps.HMM(states, ps.emissions.Categorical(symbols), num_restarts=restarts, seed=seed)
    return model, ps.Sequences.from_list([[0, 1, 2, 3, 0], [3], [1, 2, 2]])


@given(chains())
def test_likelihood_is_the_sum_over_all_paths(case):
    model, data = case
    log_prob = model.token_log_prob(data.batch()).sum(-1)
    for r in range(model.num_restarts):
        for i, x in enumerate(data):
            torch.testing.assert_close(log_prob[r, i], hmm_log_prob(model, r, x.tolist()), **EXACT)


@given(chains())
def test_counts_marginals_and_paths_are_those_of_enumeration(case):
    model, data = case
    arguments = potentials(model, data)
    marginals = chain.posterior_marginals(*arguments)
    path, best = chain.viterbi(*arguments)
    for r in range(model.num_restarts):
        initial, transition = torch.zeros_like(model.initial[r]), torch.zeros_like(model.transition[r])
        emission = torch.zeros_like(model.emission.probs[r])
        for i, x in enumerate(data):
            joint = hmm_joint(model.initial[r], model.transition[r], model.emission.probs[r], x.tolist())
            evidence, weight = sum(joint.values()), data.weights[i]
            expected = torch.zeros_like(marginals[r, i])
            for states, p in joint.items():
                share = p / evidence
                initial[states[0]] += weight * share
                for t, s in enumerate(states):
                    expected[t, s] += share
                    emission[s, x[t]] += weight * share
                    if t:
                        transition[states[t - 1], s] += weight * share
            torch.testing.assert_close(marginals[r, i], expected, **EXACT)
            torch.testing.assert_close(best[r, i], max(joint.values()).log(), **EXACT)
            decoded = tuple(path[r, i, : len(x)].tolist())
            torch.testing.assert_close(joint[decoded], max(joint.values()), **EXACT)
        for implementation in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(chain_compiled, "suits", lambda _, on=implementation: on)
                counts = chain.expected_counts(*arguments, torch.as_tensor(data.weights))
            torch.testing.assert_close(counts.initial[r], initial, **EXACT)
            torch.testing.assert_close(counts.transition[r], transition, **EXACT)
            torch.testing.assert_close(counts.emission[r].T, emission, **EXACT)


@given(chains(), st.integers(0, 100))
def test_compiled_equals_tensor_loop_with_any_gradient(case, seed):
    model, data = case
    initial, transition, table, index, lengths = potentials(model, data)
    grad = torch.randn(len(initial), *index.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    results = []
    for implementation in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chain_compiled, "suits", lambda _, on=implementation: on)
            shift = torch.ones_like(table[..., 0])
            results.append(chain._forward_backward(initial, transition, table.exp(), shift, index, lengths, grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.usefixtures("engine")
def test_gradients_are_right():
    model, data = random_chain()
    *parameters, index, lengths = potentials(model, data)
    inputs = [p.clone().requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(lambda *p: chain.token_log_prob(*p, index, lengths), inputs)


@pytest.mark.usefixtures("engine")
def test_splitting_by_bytes_changes_nothing(monkeypatch):
    model, data = random_chain()
    arguments, weights = potentials(model, data), torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    whole, terms = chain.expected_counts(*arguments, weights), chain.token_log_prob(*arguments)
    monkeypatch.setattr(chain, "_BYTES", 1)
    for one, other in zip(chain.expected_counts(*arguments, weights), whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=0)
    torch.testing.assert_close(chain.token_log_prob(*arguments), terms, atol=1e-13, rtol=0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("shift", [-2000.0, 2000.0])
def test_potentials_of_any_scale_are_safe(shift):
    model, data = random_chain()
    initial, transition, table, index, lengths = potentials(model, data)
    expected = chain.token_log_prob(initial, transition, table, index, lengths)
    shifted = chain.token_log_prob(initial, transition, table + shift, index, lengths)
    mask = torch.arange(index.shape[1]) < lengths[:, None]
    torch.testing.assert_close(shifted, expected + shift * mask, atol=1e-9, rtol=0)


@pytest.mark.usefixtures("engine")
def test_an_impossible_symbol_scores_minus_infinity_and_never_nan():
    initial, transition = torch.tensor([[1.0, 0.0]]), torch.eye(2)[None]
    table = torch.tensor([[[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]]).log()  # state 1 is never reached: symbol 2 cannot be
    index, lengths = torch.tensor([[0, 1, 0, 1], [0, 2, 0, 0]]), torch.tensor([4, 4])
    terms = chain.token_log_prob(initial, transition, table, index, lengths)[0]
    assert terms[0].isfinite().all()
    assert terms[1, 0].isfinite()
    assert (terms[1, 1:] == -torch.inf).all()
    counts = chain.expected_counts(initial, transition, table, index, lengths, torch.ones(2))
    assert counts.log_likelihood.tolist()[0][1] == -torch.inf
    assert not any(part.isnan().any() for part in counts)


def test_long_sequences_do_not_underflow():
    model, _ = random_chain(restarts=1)
    long = ps.Sequences.from_list([[0, 1, 2, 3] * 5000])
    terms = model.token_log_prob(long.batch())
    assert terms.isfinite().all()
    assert -4 < terms.mean() < -0.5


def test_sampled_paths_have_the_posterior_frequencies(generator):
    model, _ = random_chain(restarts=1)
    x = [0, 1, 2, 3]
    arguments = potentials(model, ps.Sequences.from_list([x] * 4000))
    draws = chain.sample_paths(*arguments, generator=generator)[0]
    joint = hmm_joint(model.initial[0], model.transition[0], model.emission.probs[0], x)
    evidence = sum(joint.values())
    for path, p in joint.items():
        expected = (p / evidence).item()
        frequency = (draws == torch.tensor(path)).all(-1).double().mean().item()
        assert abs(frequency - expected) <= 5 * (expected * (1 - expected) / 4000) ** 0.5 + 1e-3


def test_pyro_program_equals_engine_in_value_and_gradient():
    model, data = random_chain()
    batch = data.batch()
    engine = model.token_log_prob(batch).sum()
    expected = torch.autograd.grad(engine, list(model.parameters()))

    given = {"initial": model.initial[:, None], "transition": model.transition, "emission": model.emission.probs}
    program = pyro.condition(model.program, data=given)
    elbo = TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(program, lambda batch: None, batch)
    flat = [math.lgamma(v.shape[-1]) * v.shape[:-1].numel() for v in given.values()]
    pyro_value = -elbo - sum(flat)  # without the density of the flat Dirichlet priors
    torch.testing.assert_close(pyro_value, engine, **EXACT)
    for one, other in zip(torch.autograd.grad(pyro_value, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)
