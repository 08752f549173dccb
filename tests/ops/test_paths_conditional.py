"""Paths of chains that a source drives, against those of the same chains with a matrix for every step."""

import math

import pytest
import torch
from conditional_chains import KINDS, conditional_chains, potentials, random_chain
from hypothesis import given

from probseq.ops import paths, paths_conditional
from probseq.ops.chain_conditional import JumpWindow

EXACT = {"atol": 1e-10, "rtol": 0}


@given(case=conditional_chains())
def test_viterbi_is_that_of_the_engine(case):
    """Windows narrower than the positions leave some paths impossible, and ties have measure zero."""
    found, expected = paths_conditional.viterbi(*case), paths.viterbi(potentials(*case))
    torch.testing.assert_close(found[1], expected[1], **EXACT)
    assert found[0].equal(expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_posterior_s_shares_and_follow_the_transitions(kind, generator):
    chain, emission, lengths = random_chain(kind, chains=1, num=2, steps=3, states=4, seed=4)
    p = potentials(chain, emission, lengths)
    many = 4000
    drawn = paths_conditional.sample_paths(chain, emission, lengths, many, generator)[0]
    for i, length in enumerate(lengths):
        exact = {}
        for path in torch.cartesian_prod(*[torch.arange(4)] * int(length)).view(-1, int(length)):
            walk = [
                p.initial[0, i, path[0]],
                *p.log_emission[0, p.index[i, : len(path)]].gather(1, path[:, None]).exp(),
            ]
            walk += [p.transition[0, p.step[i, t], path[t - 1], path[t]] for t in range(1, len(path))]
            exact[tuple(path.tolist())] = math.prod(float(x) for x in walk)
        total = sum(exact.values())
        for path, value in exact.items():
            share = (drawn[i, :, : len(path)] == torch.tensor(path)).all(-1).double().mean()
            assert abs(share - value / total) < 4 * math.sqrt(max(value / total, 1 / many) / many)
        assert (drawn[i, :, length:] == -1).all()


def test_what_is_impossible_has_no_path():
    chain = JumpWindow(
        torch.tensor([[[0.0, -math.inf]]]),
        torch.tensor([-math.inf, 0.0]).expand(1, 1, 1, 2),
        0,
        torch.zeros(1, 1, 1, 2),
    )
    case = chain, torch.zeros(1, 1, 3, 2), torch.tensor([3])
    assert (paths_conditional.viterbi(*case)[0] == -1).all()
    assert paths_conditional.viterbi(*case)[1].item() == -math.inf
    assert (paths_conditional.sample_paths(*case) == -1).all()


def test_many_states_are_compared_in_parts(monkeypatch):
    case = random_chain("matrix", num=5)
    whole = paths_conditional.viterbi(*case)
    monkeypatch.setattr(paths_conditional, "_BYTES", 1)
    for one, other in zip(paths_conditional.viterbi(*case), whole, strict=True):
        assert one.equal(other)
