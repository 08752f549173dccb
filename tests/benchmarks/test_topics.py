"""Topic models against scikit-learn, gensim and tomotopy: passes, restarts, seconds to a held-out likelihood.

Run by `python -m pytest tests/benchmarks/test_topics.py`; with ``-k reuters`` in two minutes.
"""

import pytest
import topic_peers as peers
from sklearn.decomposition import LatentDirichletAllocation

import probseq as ps

DATA = {"reuters": peers.reuters, "paragraphs": peers.paragraphs}


def note(benchmark, rate, unit):
    benchmark.extra_info["rate"], benchmark.extra_info["unit"] = rate, unit


def begun(data, restarts):
    """From random topics, two passes on."""
    model = ps.LDA(peers.TOPICS, data.num_words, num_restarts=restarts, start="random")
    return ps.em(model, data.train, num_steps=2).model


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("who", ["probseq", "scikit-learn"])
def test_a_pass(benchmark, who, name):
    """A pass of batch inference from where two passes have led, and the update of the topics: words a second."""
    data = DATA[name]()
    if who == "probseq":
        passes, model = 10, begun(data, restarts=1)
        setup = lambda: ((model.select(0),), {})  # every round begins where the first did
        work = lambda copy: ps.em(copy, data.train, num_steps=passes, tol=0.0)
    else:
        passes = 10 if name == "reuters" else 2
        peer = LatentDirichletAllocation(peers.TOPICS, max_iter=passes, n_jobs=2, random_state=0)
        setup = lambda counts=data.counts: ((counts,), {})
        work = peer.fit
    benchmark.group = f"a pass over {name}, K = {peers.TOPICS}"
    benchmark.pedantic(work, setup=setup, rounds=3 if name == "reuters" else 1)
    note(benchmark, data.train.num_tokens * passes / benchmark.stats.stats.min / 1e6, "million words a second")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("who", ["one restart", "10 restarts"])
def test_restarts(benchmark, who, name):
    """Passes of ten restarts at once, in words of all of them."""
    data, restarts = DATA[name](), 1 if who == "one restart" else 10
    model, work = begun(data, restarts), lambda copy: ps.em(copy, data.train, num_steps=5, tol=0.0)
    benchmark.group = f"restarts on {name}, K = {peers.TOPICS}"
    benchmark.pedantic(work, setup=lambda: ((model.take(range(restarts)),), {}), rounds=2)
    words = restarts * data.train.num_tokens * 5
    note(benchmark, words / benchmark.stats.stats.min / 1e6, "million words a second")


PEERS = {
    "scikit-learn": peers.scikit_learn,
    "scikit-learn, 50 passes": lambda data: peers.scikit_learn(data, passes=50),
    "gensim": peers.gensim,
    "tomotopy": peers.tomotopy_gibbs,
}
OURS = ("probseq", "probseq, random start")


@pytest.fixture(scope="module")
def reached():
    """By documents: nats per held-out word of each peer that was measured so far."""
    return {name: [] for name in DATA}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("who", [*PEERS, *OURS])
def test_seconds_to_a_likelihood(benchmark, reached, who, name):
    """A whole fit of one restart: seconds, and nats per held-out word by one estimator for all.

    From a random start ours has as many passes as it needs to do as well as the best peer.
    """
    data = DATA[name]()
    if who.endswith("passes") and name == "paragraphs":
        pytest.skip("it takes half an hour")
    if who in PEERS:
        fit = PEERS[who](data)
    else:
        ps.em(ps.LDA(2, data.num_words), data.train[:5], num_steps=2)  # compile
        fit, passes = peers.probseq(data), 5
        if who == "probseq, random start":
            if not reached[name]:
                pytest.skip("no peer was measured before it")
            passes = peers.passes_to(data, min(reached[name]))
            fit = peers.probseq(data, "random", passes)
        who = f"{who}, {passes} passes"
    benchmark.group = f"a fit to {name}, K = {peers.TOPICS}"
    nats = peers.held_out(data, benchmark.pedantic(fit, rounds=1))
    if who in PEERS:
        reached[name].append(nats)
    note(benchmark, benchmark.stats.stats.min, f"seconds, {nats:.4f} nats per held-out word ({who})")
