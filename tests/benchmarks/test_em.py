"""One EM iteration on 500 sequences of 256 letters, against hmmlearn. The figures in brackets are the ratios."""

import numpy as np
import pytest
from hmmlearn.hmm import CategoricalHMM

import probseq as ps

SYMBOLS = 27
DATA = ps.Sequences.from_list(np.random.default_rng(0).integers(0, SYMBOLS, (500, 256)))


def model(states, restarts):
    return ps.HMM(states, ps.emissions.Categorical(SYMBOLS), num_restarts=restarts)


@pytest.mark.parametrize("states", [2, 16, 64])
def test_probseq(benchmark, states):
    benchmark.group = f"one EM iteration, K = {states}"
    fitted = model(states, 1)
    ps.em(fitted, DATA[:2], num_steps=1)  # compile
    benchmark.pedantic(lambda: ps.em(fitted, DATA, num_steps=1), rounds=5)


@pytest.mark.parametrize("states", [2, 16, 64])
def test_probseq_per_restart_of_20(benchmark, states):
    """Twenty restarts at once on a twentieth of the data: the same work."""
    benchmark.group = f"one EM iteration, K = {states}"
    fitted, part = model(states, 20), DATA[: len(DATA) // 20]
    ps.em(fitted, DATA[:2], num_steps=1)
    benchmark.pedantic(lambda: ps.em(fitted, part, num_steps=1), rounds=5)


@pytest.mark.parametrize("states", [2, 16, 64])
def test_hmmlearn(benchmark, states):
    benchmark.group = f"one EM iteration, K = {states}"
    start = model(states, 1)
    peer = CategoricalHMM(states, n_features=SYMBOLS, init_params="", n_iter=1, tol=-np.inf, implementation="scaling")
    peer.startprob_ = start.initial[0].detach().numpy()
    peer.transmat_ = start.transition[0].detach().numpy()
    peer.emissionprob_ = start.emission.probs[0].detach().numpy()
    benchmark.pedantic(lambda: peer.fit(DATA.values[:, None], DATA.lengths), rounds=3)
