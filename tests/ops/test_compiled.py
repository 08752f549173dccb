"""The compiled loops against the tensor loop, at sizes that enumeration cannot reach, and how their work is cut."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from brute_force import random_potentials

import probseq as ps
from probseq.ops import chain, chain_compiled, chain_tensor, paths

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
STATES = [1, 2, 3, 5, 8, 9, 17, 24, 33]
SHAPES = {  # sequences, steps, matrices, initials
    "one": (1, 70, 1, 1),
    "three": (3, 40, 1, 3),
    "many": (150, 35, 1, 1),
    "own initials": (70, 20, 1, 70),
    "own steps": (20, 20, 4, 1),
    "own everything": (9, 20, 5, 9),
}


def both(p, weights, tokens):
    table, shift = chain._exponentiate(p.log_emission)
    return [engine.forward_backward(p, table, shift, weights, tokens) for engine in (chain_compiled, chain_tensor)]


def compare(p, weights):
    for tokens in (False, True):
        for one, other in zip(*both(p, weights, tokens), strict=True):
            if other is None:
                assert one is None
            elif isinstance(other, tuple):
                for a, b in zip(one, other, strict=True):
                    torch.testing.assert_close(a, b, **CLOSE)
            else:
                torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("states", STATES)
def test_compiled_equals_tensor_loop(states, shape):
    num, steps, matrices, initials = SHAPES[shape]
    for seed, zeros in enumerate((0.0, 0.3)):
        p = random_potentials(2, num, steps, states, 7, matrices, initials, zeros, seed=seed)
        noise = torch.Generator().manual_seed(seed)
        compare(p, None)
        compare(p, torch.rand(1, num, 1, dtype=torch.float64, generator=noise))
        compare(p, torch.randn(2, num, steps, dtype=torch.float64, generator=noise))
        for after in (False, True):
            table = chain._exponentiate(p.log_emission)[0]
            one, other = (engine.beliefs(p, table, after) for engine in (chain_compiled, chain_tensor))
            torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("states", [2, 9, 33])
@pytest.mark.parametrize("num", [2, 40])
def test_spans_of_any_length_give_the_same_numbers(monkeypatch, states, num):
    p = random_potentials(2, num, 61, states, 7, seed=1)
    weights = torch.randn(2, num, 61, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = both(p, weights, True)[1]
    for steps in (1, 7, 16, 60):
        monkeypatch.setattr(chain_compiled, "_BYTES", steps * states * 8 * min(num, 20))
        parts = both(p, weights, True)[0]
        for one, other in zip([*parts[:2], *parts[2]], [*whole[:2], *whole[2]], strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


def test_a_table_with_a_row_for_each_token_is_shared_by_all_jobs():
    """As for vectors; also where a row is used twice after all."""
    p = random_potentials(2, 50, 20, 3, symbols=1000, seed=2)
    own = torch.arange(1000).view(50, 20)
    weights = torch.ones(1, 50, 1, dtype=torch.float64)
    for index in (own, torch.where(own == 999, 3, own)):
        compare(p._replace(index=index, lengths=torch.full((50,), 20)), weights)


@pytest.mark.parametrize("states", [2, 9, 33])
@pytest.mark.parametrize("num", [2, 300])
def test_no_number_depends_on_the_threads(states, num):
    p = random_potentials(2, num, 40, states, 7, seed=3)
    weights, results = torch.randn(2, num, 40, dtype=torch.float64), []
    try:
        for threads in (1, 3, 2):
            torch.set_num_threads(threads)
            log_likelihood, tokens, gradients = both(p, weights, True)[0]
            results.append([log_likelihood, tokens, *gradients])
    finally:
        torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_forked_process_starts_threads_of_its_own():
    code = """
import os, torch
from probseq.ops import chain_compiled
torch.set_num_threads(2)
assert list(chain_compiled.in_threads(abs, range(4))) == [0, 1, 2, 3]
if os.fork() == 0:
    os._exit(int(list(chain_compiled.in_threads(abs, range(4))) != [0, 1, 2, 3]))
assert os.wait()[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"index": torch.tensor([[0, 4]])}, "index holds numbers from 0 to 4; expected 0 to 3"),
        ({"index": torch.tensor([[0, -1]])}, "index holds numbers from -1 to 0"),
        ({"lengths": torch.tensor([3])}, "lengths holds numbers from 3 to 3; expected 1 to 2"),
        ({"lengths": torch.tensor([0])}, "lengths holds numbers from 0 to 0"),
        ({"step": torch.tensor([[0, 1]])}, "step holds numbers from 0 to 1; expected 0 to 0"),
    ],
)
def test_what_would_be_read_out_of_bounds_is_refused(change, sentence):
    p = random_potentials(restarts=1, num=1, steps=2)._replace(**change)
    for function in (chain.token_log_prob, chain.filtered, paths.viterbi):
        with pytest.raises(ps.InputError, match=sentence):
            function(p)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"transition": torch.eye(2).double()[None, None]}, r"transition \(1, 1, 2, 2\), .*expected .* \(R, L, K, K\)"),
        ({"transition": torch.eye(3).double()[None, None].expand(2, 1, 3, 3)}, r"transition \(2, 1, 3, 3\)"),
        ({"transition": torch.eye(3).double()[None]}, r"transition \(1, 3, 3\)"),
        ({"step": torch.zeros(1, 1, dtype=torch.int64)}, r"step \(1, 1\); expected"),
        ({"lengths": torch.tensor([2])}, r"lengths \(1,\)"),
        ({"initial": torch.full((1, 4, 3), 1 / 3).double()}, r"initial \(1, 4, 3\)"),
        ({"log_emission": torch.zeros(2, 4, 3).double()}, r"log_emission \(2, 4, 3\)"),
        (
            {"index": torch.zeros(0, 2, dtype=torch.int64), "lengths": torch.zeros(0, dtype=torch.int64)},
            r"index \(0, 2",
        ),
    ],
)
def test_shapes_that_do_not_agree_are_refused(monkeypatch, compiled, change, sentence):
    monkeypatch.setattr(chain_compiled, "suits", lambda table: compiled)
    p = random_potentials(restarts=1, num=3, steps=2)._replace(**change)
    for function in (chain.token_log_prob, chain.filtered, chain.predicted, paths.viterbi, paths.path_entropy):
        with pytest.raises(ps.InputError, match=sentence):
            function(p)


def test_weights_of_other_sequences_are_refused():
    for function in (chain.expected_counts, chain.log_likelihood):
        with pytest.raises(ps.InputError, match=r"received weights \(1, 2, 1\) for index \(3, 2\)"):
            function(random_potentials(restarts=1, num=3, steps=2), torch.ones(2, dtype=torch.float64))


def test_a_million_steps_need_little_memory():
    """Counts of one long sequence: beliefs are held for spans of it only (all of them would be 128 MB)."""
    code = """
import resource, torch
from brute_force import random_potentials
from probseq.ops import chain
p = random_potentials(1, 1, 1_000_000, 16, 27, seed=4)._replace(lengths=torch.tensor([1_000_000]))
ones = torch.ones(1, dtype=torch.float64)
chain.expected_counts(p._replace(index=p.index[:, :9], lengths=torch.tensor([9])), ones)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
counts = chain.expected_counts(p, ones)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert counts.log_likelihood.isfinite().all()
assert abs(counts.transition.sum() - 999_999) < 1e-3
assert grown < 100 * 1024, grown  # KiB
"""
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env={**os.environ, "PYTHONPATH": here})
