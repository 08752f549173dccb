"""EM steps against hmmlearn and dynamax, in symbols per second."""

import numpy as np
import peers
import pytest
import torch

import probseq as ps
from probseq.ops import chain

DATA = peers.sequences(500, 256)
LONG = peers.sequences(1, 1_000_000)


def measure(benchmark, group, work, symbols, rounds=5):
    """Warm up once (compile), then time whole calls."""
    benchmark.group = group
    benchmark.pedantic(work, rounds=rounds, warmup_rounds=1)
    note(benchmark, symbols * peers.STEPS / 1e6, "million symbols a second")


def note(benchmark, work, unit):
    benchmark.extra_info["rate"] = work / benchmark.stats.stats.min
    benchmark.extra_info["unit"] = unit


@pytest.mark.parametrize("states", [2, 16, 64])
@pytest.mark.parametrize("who", ["probseq", "probseq, float32", "hmmlearn", "dynamax, float32"])
def test_five_steps(benchmark, who, states):
    works = {
        "probseq": lambda: peers.probseq(DATA, states),
        "probseq, float32": lambda: peers.probseq(DATA, states, dtype=torch.float32),
        "hmmlearn": lambda: peers.hmmlearn(DATA, states),
        "dynamax, float32": lambda: peers.dynamax(DATA, states),
    }
    slow = states == 64 and who in ("hmmlearn", "dynamax, float32")
    measure(benchmark, f"5 EM steps, K = {states}", works[who](), DATA.num_tokens, rounds=2 if slow else 5)


@pytest.mark.parametrize("who", ["probseq", "probseq, float32", "hmmlearn"])
def test_five_steps_of_many_states(benchmark, who):
    """hmmlearn, which takes minutes here, on a twentieth of the sequences: its rate does not depend on their number."""
    if who == "hmmlearn":
        data = DATA[:25]
        work = peers.hmmlearn(data, 256)
    else:
        data = DATA
        work = peers.probseq(data, 256, dtype=torch.float32 if "32" in who else torch.float64)
    measure(benchmark, "5 EM steps, K = 256", work, data.num_tokens, rounds=1 if who == "hmmlearn" else 3)


@pytest.mark.parametrize("states", [2, 16, 64, 256])
@pytest.mark.parametrize("who", ["20 restarts", "one restart", "dynamax, 20 restarts"])
def test_five_steps_of_20_restarts(benchmark, who, states):
    """Symbols of all restarts. With many states on a part of the data, and without dynamax: it takes minutes."""
    data = DATA if states < 256 else DATA[:50]
    restarts = 1 if who == "one restart" else 20
    if who.startswith("dynamax"):
        if states > 16:
            pytest.skip("it takes minutes")
        work = peers.dynamax(data, states, restarts)
    else:
        work = peers.probseq(data, states, restarts)
    measure(benchmark, f"5 EM steps, 20 restarts, K = {states}", work, restarts * data.num_tokens, rounds=3)


@pytest.mark.parametrize("states", [2, 4, 16])
@pytest.mark.parametrize("who", ["probseq", "hmmlearn"])
def test_five_steps_of_one_long_sequence(benchmark, who, states):
    work = getattr(peers, who)(LONG, states)
    measure(benchmark, f"5 EM steps, one sequence of a million letters, K = {states}", work, LONG.num_tokens, rounds=3)


@pytest.mark.parametrize("who", ["E-step", "matrix product"])
def test_share_of_the_peak(benchmark, who):
    """An E-step of K states is 6 K^2 operations for each symbol; the peak is that of one large matrix product."""
    benchmark.group = "10^12 float32 operations, K = 256"
    if who == "E-step":
        model, batch = peers.start(256, dtype=torch.float32), DATA.batch()
        with torch.no_grad():
            potentials = model.potentials(batch)
        operations = 6 * 256**2 * DATA.num_tokens
        work = lambda: chain.expected_counts(potentials, batch.weights)
    else:
        square = torch.rand(4096, 4096)
        operations = 2 * 4096**3
        work = lambda: square @ square
    benchmark.pedantic(work, rounds=5, warmup_rounds=1)
    note(benchmark, operations / 1e9, "gigaflops")


def test_all_three_climb_the_same_hill():
    """From the same start with the same priors, every step of the three has the same log-likelihood."""
    data, states = DATA[:20], 3
    fit = peers.probseq(data, states)()
    model = peers.start(states)
    likelihoods = []
    for _ in range(peers.STEPS):
        likelihoods.append(ps.evaluate(model, data).log_prob.sum())
        ps.em(model, data, num_steps=1, tol=0.0)
    history = peers.hmmlearn(data, states)().monitor_.history
    np.testing.assert_allclose(list(history), likelihoods, rtol=1e-10)
    with_prior = peers.dynamax(data, states)()
    rises = np.diff(np.asarray(with_prior, dtype=np.float64))
    expected = np.diff(fit.history[:, 0]) * data.num_tokens
    np.testing.assert_allclose(rises, expected, rtol=0.05, atol=0.05)
