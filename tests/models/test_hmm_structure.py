"""Masks, shared and fixed parameters, known states and missing observations."""

import itertools

import numpy as np
import pytest
import torch
from oracles import hmm_joint

import probseq as ps
from probseq.models.masks import banded, first_state, left_to_right

EXACT = {"atol": 1e-10, "rtol": 0}
DATA = ps.Sequences.from_list([[0, 1, 2, 3, 0, 1], [3, 3], [1, 2, 2, 0]], weights=[1.0, 2.0, 0.5])


def hmm(states=3, restarts=2, **options) -> ps.HMM:
    return ps.HMM(states, ps.emissions.Categorical(4), num_restarts=restarts, **options)


# Masks


def test_what_a_mask_forbids_stays_at_zero():
    model = hmm(
        4, initial_mask=first_state(4), transition_mask=left_to_right(4, 1),
        initial_concentration=1.5, transition_concentration=1.5, sticky=2.0,
    )  # fmt: skip
    fit = ps.em(model, DATA, num_steps=20)
    assert (np.diff(fit.history, axis=0) >= -1e-12).all()
    assert (model.initial == torch.tensor([1.0, 0, 0, 0])).all()
    assert (model.transition[:, ~left_to_right(4, 1)] == 0).all()
    assert (model.transition[:, left_to_right(4, 1)] > 0).all()  # the prior keeps what is allowed above zero
    assert model.num_parameters == 0 + 3 + 4 * 3


def test_gradient_ascent_respects_masks():
    model = hmm(3, transition_mask=banded(3, 1))
    ps.fit_gradient(model, DATA, num_steps=20, learning_rate=0.1, warmup_steps=1)
    assert (model.transition[:, ~banded(3, 1)] == 0).all()
    assert model.log_transition.isnan().sum() == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"transition_mask": torch.ones(2, 3)}, r"transition_mask has shape \(2, 3\); expected \(3, 3\)"),
        ({"initial_mask": [False] * 3}, "row without any True"),
        ({"fixed": ["emissions"]}, "did you mean 'emission'"),
        ({"emission_groups": [0, 2, 2]}, "use all of 0, 1"),
        ({"emission_groups": [0, 1]}, "3 numbers"),
        ({"sticky": -1.0}, "sticky is -1"),
    ],
)
def test_bad_structure_is_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        hmm(**options)


def test_structure_survives_saving_and_taking(tmp_path):
    model = hmm(
        transition_mask=banded(3, 1),
        fixed=["initial"],
        emission_groups=[0, 1, 0],
        sticky=1.0,
        transition_concentration=2.0,
    )
    ps.save(model, tmp_path / "model")
    for copy in (ps.load(tmp_path / "model"), model.take([0, 1])):
        assert copy.config() == model.config()
        assert torch.equal(copy.token_log_prob(DATA.batch()), model.token_log_prob(DATA.batch()))
        assert not copy.log_initial.requires_grad


# Priors


def test_a_sticky_prior_adds_to_staying():
    model = hmm(transition_concentration=1.5, sticky=3.0)
    before = model.e_step(DATA.batch()).transition
    model.m_step(model.e_step(DATA.batch()))
    expected = before + 0.5 + 3.0 * torch.eye(3)
    torch.testing.assert_close(model.transition, expected / expected.sum(-1, keepdim=True), **EXACT)


def test_the_prior_is_that_of_torch_up_to_a_constant():
    model, other = (hmm(transition_concentration=1.5, initial_concentration=1.2, sticky=3.0, seed=s) for s in (0, 1))
    rows = torch.full((3, 3), 1.5, dtype=torch.float64) + 3.0 * torch.eye(3)

    def density(m):
        first = torch.distributions.Dirichlet(torch.full((3,), 1.2, dtype=torch.float64)).log_prob(m.initial)
        return first + torch.distributions.Dirichlet(rows).log_prob(m.transition).sum(-1)

    torch.testing.assert_close(model.log_prior() - other.log_prior(), density(model) - density(other), **EXACT)


# Fixed and shared parameters


@pytest.mark.parametrize("part", ["initial", "transition", "emission"])
@pytest.mark.parametrize("method", ["em", "gradient"])
def test_fixed_parts_do_not_move_and_others_do(part, method):
    model = hmm(fixed=[part])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    if method == "em":
        ps.em(model, DATA, num_steps=3)
    else:
        ps.fit_gradient(model, DATA, num_steps=3, learning_rate=0.1, warmup_steps=0)
    for name, value in model.named_parameters():
        moved = not torch.equal(value, before[name])
        assert moved == (part not in name.replace("emission.logits", "emission").replace("log_", "")), name


def test_fixed_parts_are_no_free_parameters():
    assert hmm().num_parameters - hmm(fixed=["transition"]).num_parameters == 3 * 2
    assert hmm(fixed=["initial", "transition", "emission"]).num_parameters == 0


def test_states_of_one_group_share_an_emission():
    """Two states in a row that emit alike are one state with a longer stay: the tied M-step adds their counts."""
    model = hmm(3, emission_groups=[0, 1, 1])
    assert model.emission.probs.shape == (2, 2, 4)
    full = ps.HMM.from_parameters(
        model.initial[0].detach(), model.transition[0].detach(), model.emission.probs[0, [0, 1, 1]].detach()
    )
    torch.testing.assert_close(
        model.token_log_prob(DATA.batch())[:1], full.token_log_prob(DATA.batch()), **EXACT
    )  # fmt: skip
    expected = full.e_step(DATA.batch()).emission[0]
    tied = torch.stack([expected[0], expected[1] + expected[2]])
    torch.testing.assert_close(model.e_step(DATA.batch()).emission[0], tied, **EXACT)
    assert (np.diff(ps.em(model, DATA, num_steps=20).history, axis=0) >= -1e-12).all()


# States that are known


def known_states(*rows):
    return ps.Sequences.from_list([x.tolist() for x in DATA], weights=list(DATA.weights), states=rows)


def test_known_states_condition_the_e_step_and_the_paths():
    model = hmm(restarts=1)
    states = ([-1, 2, -1, -1, 0, -1], [1, -1], [-1, -1, -1, -1])
    batch = known_states(*states).batch()
    statistics = model.e_step(batch)
    path, marginals = model.viterbi(batch)[0], model.posterior_marginals(batch)[0]
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for i, x in enumerate(DATA):
        joint = hmm_joint(model.initial[0], model.transition[0], model.emission.probs[0], x.tolist())
        allowed = {s: p for s, p in joint.items() if all(k in (-1, one) for k, one in zip(states[i], s, strict=True))}
        evidence = sum(allowed.values())
        torch.testing.assert_close(statistics.log_likelihood[0, i], evidence.log(), **EXACT)
        assert tuple(path[i, : len(x)].tolist()) == max(allowed, key=allowed.get)
        for t, k in itertools.product(range(len(x)), range(3)):
            share = sum(p for s, p in allowed.items() if s[t] == k) / evidence
            assert marginals[i, t, k].item() == pytest.approx(share.item(), abs=1e-10)
            expected[k, x[t]] += DATA.weights[i] * share
    model.m_step(statistics)
    torch.testing.assert_close(model.emission.probs[0], expected / expected.sum(-1, keepdim=True), **EXACT)


def test_known_states_do_not_change_the_score():
    batch = known_states([0] * 6, [1] * 2, [2] * 4).batch()
    assert torch.equal(hmm().token_log_prob(batch), hmm().token_log_prob(DATA.batch()))


def test_all_states_known_is_counting():
    model = hmm()
    rows = ([0, 1, 1, 2, 0, 1], [1, 1], [2, 0, 0, 1])
    ps.em(model, known_states(*rows), num_steps=1)
    weights = DATA.weights
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    for row, w in zip(rows, weights, strict=True):
        for j, k in itertools.pairwise(row):
            pairs[j, k] += w
    for r in range(2):  # whatever the start
        torch.testing.assert_close(model.transition[r], pairs / pairs.sum(-1, keepdim=True), **EXACT)
    total = float(sum(weights))
    torch.testing.assert_close(
        model.initial, torch.tensor([[weights[0], weights[1], weights[2]]] * 2, dtype=torch.float64) / total, **EXACT
    )


def test_a_known_state_that_the_model_does_not_have_is_refused():
    with pytest.raises(ps.InputError, match=r"know of state 7.*3 states"):
        hmm().e_step(known_states([7] * 6, [0] * 2, [0] * 4).batch())


# Observations that are missing


def test_a_missing_symbol_is_summed_out():
    model = hmm()
    data = ps.Sequences.from_list([[0, 1, 2, 3, 0, 1]], missing=[np.array([0, 0, 1, 0, 1, 0], bool)])
    terms = model.token_log_prob(data.batch())
    torch.testing.assert_close(terms[0, 0, [2, 4]], torch.zeros(2, dtype=terms.dtype), atol=1e-12, rtol=0)
    every = [[0, 1, a, 3, b, 1] for a in range(4) for b in range(4)]
    total = model.token_log_prob(ps.Sequences.from_list(every).batch()).sum(-1).logsumexp(-1)
    torch.testing.assert_close(terms.sum(-1)[:, 0], total, **EXACT)
    assert ps.evaluate(model, data).num_tokens.tolist() == [4]


def test_missing_symbols_leave_no_count():
    model = hmm(restarts=1)
    data = ps.Sequences.from_list([[0, 1, 2, 3, 0, 1]], missing=[np.array([0, 0, 1, 0, 1, 0], bool)])
    statistics = model.e_step(data.batch())
    assert statistics.emission.sum().item() == pytest.approx(4)
    assert statistics.emission[..., 2].sum().item() == pytest.approx(0, abs=1e-12)
    assert statistics.transition.sum().item() == pytest.approx(5)
    assert (np.diff(ps.em(model, data, num_steps=30).history, axis=0) >= -1e-12).all()
