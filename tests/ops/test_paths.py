"""Paths of states against the list of all paths."""

import math

import brute_force
import pytest
import torch
from brute_force import double, potentials, random_potentials, underflowing_potentials
from hypothesis import given
from hypothesis import strategies as st

import probseq as ps
from probseq.ops import chain, paths
from probseq.ops.chain_tensor import take

EXACT = {"atol": 1e-10, "rtol": 0}


def sequences(p):
    """Restart, sequence, length and all possible paths with their log-probability, best first."""
    for r in range(len(p.initial)):
        for i, length in enumerate(p.lengths.tolist()):
            table = brute_force.joint(p, r, i)
            possible = {path: value for path, value in table.items() if value > -math.inf}
            yield r, i, length, dict(sorted(possible.items(), key=lambda item: -item[1]))


@given(p=potentials())
def test_viterbi_finds_the_most_probable_path(p):
    path, log_prob = paths.viterbi(p)
    for r, i, length, table in sequences(p):
        if table:
            best = next(iter(table.values()))
            assert log_prob[r, i].item() == pytest.approx(best, abs=1e-10)
            assert table[tuple(path[r, i, :length].tolist())] == pytest.approx(best, abs=1e-10)
        else:
            assert log_prob[r, i] == -math.inf
            assert (path[r, i] == -1).all()
        assert (path[r, i, length:] == -1).all()


@given(p=potentials(), k=st.integers(1, 7))
def test_k_best_are_the_first_of_all_paths(p, k):
    found, log_probs = paths.k_best(p, k)
    for r, i, length, table in sequences(p):
        exist = min(k, len(table))
        expected = torch.tensor(list(table.values())[:exist], dtype=torch.float64)
        torch.testing.assert_close(log_probs[r, i, :exist], expected, **EXACT)
        rows = [tuple(row) for row in found[r, i, :exist, :length].tolist()]
        assert len(set(rows)) == exist
        torch.testing.assert_close(torch.tensor([table[row] for row in rows], dtype=torch.float64), expected, **EXACT)
        assert (log_probs[r, i, exist:] == -math.inf).all()
        assert (found[r, i, exist:] == -1).all()
        assert (found[r, i, :, length:] == -1).all()


@given(p=potentials())
def test_the_best_of_k_is_viterbi_and_no_draw_is_better(p):
    path, log_prob = paths.viterbi(p)
    found, log_probs = paths.k_best(p, 3)
    assert torch.equal(found[:, :, 0], path)
    torch.testing.assert_close(log_probs[..., 0], log_prob, **EXACT)
    drawn = paths.sample_paths(p, torch.Generator().manual_seed(0))
    for r, i, length, table in sequences(p):
        assert (drawn[r, i, length:] == -1).all()
        if table:
            assert table[tuple(drawn[r, i, :length].tolist())] <= log_prob[r, i] + 1e-10
        else:
            assert (drawn[r, i] == -1).all()


def check_entropy(entropy, p):
    for r, i, _, table in sequences(p):
        share = brute_force.posterior(table) if table else {}
        expected = -sum(v * math.log(v) for v in share.values() if v > 0) if share else -math.inf
        assert entropy[r, i].item() == pytest.approx(expected, abs=1e-10)


@given(p=potentials())
def test_entropy_is_that_of_all_paths(p):
    check_entropy(paths.path_entropy(p), p)


@pytest.mark.parametrize("matrices", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_beliefs_that_underflow_leave_paths_and_their_entropy(dtype, matrices):
    p = underflowing_potentials(dtype, matrices)
    check_entropy(paths.path_entropy(p), double(p))
    for i in range(len(p.index)):
        many = take(p, torch.full((4000,), i))
        check_frequencies(paths.sample_paths(many, torch.Generator().manual_seed(i))[0], double(p), i)


def check_frequencies(draws, p, i):
    """Of paths of sequence i, one a row."""
    num, length = len(draws), int(p.lengths[i])
    found = torch.zeros(num, dtype=torch.bool)
    for path, share in brute_force.posterior(brute_force.joint(p, 0, i)).items():
        own = (draws[:, :length] == torch.tensor(path)).all(-1)
        found |= own
        assert abs(own.double().mean().item() - share) <= 5 * (share * (1 - share) / num) ** 0.5 + 1e-3
    assert (draws[:, length:] == -1).all()
    assert found.all() or (draws == -1).all()


@pytest.mark.parametrize("matrices", [1, 3])
def test_draws_have_the_posterior_frequencies(generator, matrices):
    p = random_potentials(restarts=1, num=1, steps=4, states=2, matrices=matrices, seed=1)
    p = p._replace(lengths=torch.tensor([4]))
    check_frequencies(paths.sample_paths(take(p, torch.zeros(4000, dtype=torch.int64)), generator)[0], p, 0)


def test_draws_follow_the_generator():
    p = random_potentials(num=20, steps=30)
    first, second, other = (paths.sample_paths(p, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_equal_paths_are_told_apart_by_the_smaller_states():
    p = random_potentials(restarts=1, num=1, steps=3, states=3, symbols=1)
    p = p._replace(
        initial=torch.full((1, 1, 3), 1 / 3, dtype=torch.float64),
        transition=torch.full((1, 1, 3, 3), 1 / 3, dtype=torch.float64),
        log_emission=torch.zeros(1, 1, 3, dtype=torch.float64),
        lengths=torch.tensor([3]),
    )
    assert paths.viterbi(p)[0].tolist() == [[[0, 0, 0]]]
    assert paths.k_best(p, 4)[0].tolist() == [[[[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]]]]
    assert paths.path_entropy(p).item() == pytest.approx(3 * math.log(3))


def test_no_doubt_is_an_entropy_of_zero():
    p = random_potentials(restarts=1, num=2, steps=5, states=3, symbols=3)
    log_emission = torch.full((1, 3, 3), -math.inf, dtype=torch.float64)
    log_emission[0].fill_diagonal_(0.0)  # each symbol is that of one state
    entropy = paths.path_entropy(p._replace(log_emission=log_emission))
    assert entropy.tolist() == [[0.0, 0.0]]


def test_float32_potentials_are_computed_in_float64():
    p = random_potentials(num=5, steps=40, dtype=torch.float32)
    path, log_prob = paths.viterbi(p)
    assert log_prob.dtype == torch.float64
    exact = p._replace(**{name: getattr(p, name).double() for name in ("initial", "transition", "log_emission")})
    assert torch.equal(path, paths.viterbi(exact)[0])
    torch.testing.assert_close(log_prob, paths.viterbi(exact)[1], **EXACT)
    torch.testing.assert_close(paths.path_entropy(p), paths.path_entropy(exact), **EXACT)


def test_fewer_than_one_path_is_refused():
    with pytest.raises(ps.InputError, match="k is 0; expected 1 or more"):
        paths.k_best(random_potentials(), 0)


@pytest.mark.parametrize("states", [2, 16])
def test_a_million_steps(states):
    p = random_potentials(1, 1, 1_000_000, states, 27, seed=2)._replace(lengths=torch.tensor([1_000_000]))
    path, log_prob = paths.viterbi(p)
    assert log_prob.isfinite().all()
    assert log_prob <= chain.token_log_prob(p).sum()
    score = p.initial[0, 0, path[0, 0, 0]].log() + p.transition[0, 0, path[0, 0, :-1], path[0, 0, 1:]].log().sum()
    score = score + p.log_emission[0, p.index[0], path[0, 0]].sum()
    torch.testing.assert_close(log_prob[0, 0], score, rtol=1e-10, atol=0)
    drawn = paths.sample_paths(p)
    marginals, filtered = chain.posterior_marginals(p), chain.filtered(p)
    for beliefs in (marginals, filtered, chain.predicted(p)):
        torch.testing.assert_close(beliefs.sum(-1), torch.ones(1, 1, 1_000_000, dtype=torch.float64))
    share = torch.bincount(drawn[0, 0], minlength=states) / 1e6
    torch.testing.assert_close(share.double(), marginals.mean((0, 1, 2)), atol=0.01, rtol=0)
    assert 0 < paths.path_entropy(p).item() < 1e6 * math.log(states)
