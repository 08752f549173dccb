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


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("who", ["probseq", "scikit-learn"])
def test_a_pass(benchmark, who, name):
    """A pass of batch inference from where two passes have led, and the update of the topics: words a second."""
    data = DATA[name]()
    if who == "probseq":
        model, passes = ps.LDA(peers.TOPICS, data.num_words, start="random"), 10
        ps.em(model, data.train, num_steps=2)
        work = lambda: ps.em(model, data.train, num_steps=passes, tol=0.0)
    else:
        passes = 10 if name == "reuters" else 2
        peer = LatentDirichletAllocation(peers.TOPICS, max_iter=passes, n_jobs=2, random_state=0)
        counts = data.counts
        work = lambda: peer.fit(counts)
    benchmark.group = f"a pass over {name}, K = {peers.TOPICS}"
    benchmark.pedantic(work, rounds=3 if name == "reuters" else 1)
    note(benchmark, data.train.num_tokens * passes / benchmark.stats.stats.min / 1e6, "million words a second")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("who", ["one restart", "10 restarts"])
def test_restarts(benchmark, who, name):
    """Passes of ten restarts at once, in words of all of them."""
    data, restarts = DATA[name](), 1 if who == "one restart" else 10
    model = ps.LDA(peers.TOPICS, data.num_words, num_restarts=restarts, start="random")
    ps.em(model, data.train, num_steps=2)
    benchmark.group = f"restarts on {name}, K = {peers.TOPICS}"
    benchmark.pedantic(lambda: ps.em(model, data.train, num_steps=5, tol=0.0), rounds=2)
    words = restarts * data.train.num_tokens * 5
    note(benchmark, words / benchmark.stats.stats.min / 1e6, "million words a second")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("who", ["probseq", "scikit-learn", "scikit-learn, 50 passes", "gensim", "tomotopy"])
def test_seconds_to_a_likelihood(benchmark, who, name):
    """A whole fit of one restart: seconds, and nats per held-out word by one estimator for all."""
    data = DATA[name]()
    if who.endswith("passes") and name == "paragraphs":
        pytest.skip("it takes half an hour")
    fits = {
        "probseq": lambda: peers.probseq(data),
        "scikit-learn": lambda: peers.scikit_learn(data),
        "scikit-learn, 50 passes": lambda: peers.scikit_learn(data, passes=50),
        "gensim": lambda: peers.gensim(data),
        "tomotopy": lambda: peers.tomotopy_gibbs(data),
    }
    if who == "probseq":
        ps.em(ps.LDA(2, data.num_words), data.train[:5], num_steps=2)  # compile
    fit = fits[who]()
    benchmark.group = f"a fit to {name}, K = {peers.TOPICS}"
    found = benchmark.pedantic(fit, rounds=1)
    nats = peers.held_out(data, found[0] if who == "probseq" else found)
    note(benchmark, benchmark.stats.stats.min, f"seconds, {nats:.4f} nats per held-out word")
