"""The same documents given to probseq, scikit-learn, gensim and tomotopy: topics, priors, and how long it took."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from gensim.models import LdaModel
from lda.datasets import load_reuters
from scipy.sparse import csr_matrix
from sklearn.decomposition import LatentDirichletAllocation

import probseq as ps

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of how its extension was built
    import tomotopy

TOPICS = 20
PARAGRAPHS = 20_000


class Data(NamedTuple):
    """Documents to fit, documents to score, and the size of the vocabulary."""

    train: ps.Sequences
    test: ps.Sequences
    num_words: int

    @property
    def counts(self) -> csr_matrix:
        """``(N, V)``: those to fit."""
        ones = np.ones(self.train.num_tokens)
        table = csr_matrix((ones, self.train.values, self.train.offsets), shape=(len(self.train), self.num_words))
        table.sum_duplicates()
        return table


class Found(NamedTuple):
    """What a fit has found."""

    topics: np.ndarray  # (K, V)
    alpha: np.ndarray  # (K,)


@cache
def reuters() -> Data:
    """The 395 news stories of the package lda, every tenth held out, words in a random order."""
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a file that it leaves open
        counts = load_reuters()
    stories = [rng.permutation(np.repeat(np.arange(len(row)), row)) for row in counts]
    train = [story for i, story in enumerate(stories) if i % 10]
    return Data(ps.Sequences.from_list(train), ps.Sequences.from_list(stories[::10]), counts.shape[1])


@cache
def paragraphs() -> Data:
    """20,000 paragraphs of addresses, and 300 of those held out."""
    corpus = ps.load_corpus("sotu", level="word", unit="paragraph", min_count=5)
    train, test = corpus.train, corpus.test
    keep = np.random.default_rng(0).permutation(len(train))[:PARAGRAPHS]
    return Data(train[np.sort(keep)], test[:: -(-len(test) // 300)], len(corpus.vocabulary))


def probseq(data: Data, start: str = "gibbs", passes: int = 5) -> Callable[[], Found]:
    """Variational EM; the default start, a sampler, needs few passes after it."""

    def fit() -> Found:
        return found_by(ps.em(ps.LDA(TOPICS, data.num_words, start=start), data.train, num_steps=passes, tol=0.0).model)

    return fit


def passes_to(data: Data, nats: float, most: int = 200, by: int = 10) -> int:
    """How many passes from the start ``"random"`` give held-out words so many nats or fewer; `most` where none do."""
    model, passes = ps.LDA(TOPICS, data.num_words, start="random"), 0
    while passes < most:
        ps.em(model, data.train, num_steps=by, tol=0.0)
        passes += by
        if held_out(data, found_by(model)) <= nats:
            break
    return passes


def found_by(model: ps.LDA) -> Found:
    """What the one restart of our model has found."""
    return Found(model.topics[0].numpy(), model.alpha[0].numpy())


def scikit_learn(data: Data, passes: int = 10) -> Callable[[], Found]:
    """Its batch fit on two cores, with as many passes as it does by default."""
    counts = data.counts
    peer = LatentDirichletAllocation(TOPICS, max_iter=passes, learning_method="batch", n_jobs=2, random_state=0)

    def fit() -> Found:
        peer.fit(counts)
        return Found(peer.components_, np.full(TOPICS, 1 / TOPICS))

    return fit


def gensim(data: Data, passes: int = 10) -> Callable[[], Found]:
    """Ten passes of its online inference, with priors that it learns."""
    documents = [list(zip(row.indices, row.data, strict=True)) for row in data.counts]
    names = {v: str(v) for v in range(data.num_words)}

    def fit() -> Found:
        peer = LdaModel(documents, TOPICS, names, passes=passes, alpha="auto", eta="auto", random_state=0)
        return Found(peer.get_topics(), peer.alpha)

    return fit


def tomotopy_gibbs(data: Data, sweeps: int = 200) -> Callable[[], Found]:
    """Gibbs sampling by two workers, which learns alpha; reading the documents in is not part of it."""
    names = [str(v) for v in range(data.num_words)]

    def fit() -> Found:
        peer = tomotopy.LDAModel(k=TOPICS, seed=0)
        for document in data.train:
            peer.add_doc([names[v] for v in document])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that two workers are not deterministic
            peer.train(sweeps, workers=2)
        seen = np.array([int(name) for name in peer.used_vocabs])
        unseen = peer.eta / (data.train.num_tokens / TOPICS)  # of words that are in no document: their prior alone
        topics = np.full((TOPICS, data.num_words), unseen)
        topics[:, seen] = [peer.get_topic_word_dist(k) for k in range(TOPICS)]
        return Found(topics, np.asarray(peer.alpha))

    return fit


def held_out(data: Data, found: Found) -> float:
    """Nats per word of the documents held out, by our estimator."""
    topics = found.topics / found.topics.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the drift, for topics that say little
        score = ps.evaluate(ps.LDA.from_parameters(topics, alpha=found.alpha.tolist()), data.test)
    return float(score.nats_per_token[0])
