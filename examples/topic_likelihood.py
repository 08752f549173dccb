"""What do topics fitted elsewhere give to held-out documents, and what do their makers say that they give?

Topics fitted by scikit-learn, gensim, tomotopy and probseq are scored by one estimator, on a tenth of 395 news stories
(those of the package `lda`). Run it with `python examples/topic_likelihood.py`; `--smoke` does the same with next to
no effort. It needs `pip install gensim lda scikit-learn tomotopy`.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import tomotopy
from gensim.matutils import Sparse2Corpus
from gensim.models import LdaModel
from lda.datasets import load_reuters
from scipy.sparse import csr_matrix
from sklearn.decomposition import LatentDirichletAllocation

import probseq as ps


def documents(counts: np.ndarray) -> ps.Sequences:
    """Rows of counts as sequences of words, in a random order."""
    rng = np.random.default_rng(0)
    return ps.Sequences.from_list([rng.permutation(np.repeat(np.arange(len(row)), row)) for row in counts])


def by_scikit_learn(train, test, num_topics, passes, seed):
    """Topics, alpha, and the perplexity that it claims for held-out documents."""
    model = LatentDirichletAllocation(num_topics, max_iter=passes, random_state=seed).fit(train)
    return model.components_, model.doc_topic_prior_, model.perplexity(test)


def by_gensim(train, test, num_topics, passes, seed):
    """The same of gensim, which learns alpha here."""
    corpus, held_out = (Sparse2Corpus(csr_matrix(x), documents_columns=False) for x in (train, test))
    names = {v: str(v) for v in range(train.shape[1])}
    model = LdaModel(corpus, num_topics, names, passes=passes, alpha="auto", eta="auto", random_state=seed)
    return model.get_topics(), model.alpha, 2 ** -model.log_perplexity(list(held_out))


def by_tomotopy(train, test, num_topics, passes, seed):
    """The same of tomotopy, whose perplexity is that of the training data."""
    model = tomotopy.LDAModel(k=num_topics, seed=seed)
    for row in train:
        model.add_doc([str(v) for v in np.repeat(np.arange(len(row)), row)])
    model.train(10 * passes, workers=1)  # a sweep of Gibbs sampling costs a tenth of a variational pass
    seen = np.array([int(name) for name in model.used_vocabs])
    topics = np.full((num_topics, train.shape[1]), model.eta / (train.sum() / num_topics))  # of words it has not seen
    topics[:, seen] = [model.get_topic_word_dist(k) for k in range(num_topics)]
    return topics, model.alpha, model.perplexity


def scored(test: ps.Sequences, topics: np.ndarray, alpha: np.ndarray | float) -> ps.Score:
    """Topics of any origin, by our estimator."""
    return ps.evaluate(ps.LDA.from_parameters(topics / topics.sum(axis=1, keepdims=True), alpha=alpha), test)


def show(name: str, nats: np.ndarray, error: float, drift: float, claim: float | None = None) -> None:
    """A row of the table; of several runs the median is told first."""
    claimed = "-" if claim is None else f"{claim:,.0f}"
    middle = float(np.median(nats))
    spread = f"{nats.min():.3f} .. {nats.max():.3f}"
    print(f"{name:14}{middle:10.4f}{spread:>18}{error:9.4f}{drift:9.4f}{math.exp(middle):12,.0f}{claimed:>20}")


def main() -> None:
    """A table for each number of topics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="next to no effort")
    parser.add_argument("--topics", type=int, nargs="+", default=[10, 20, 40])
    arguments = parser.parse_args()
    passes, runs, sizes = (2, 2, [3]) if arguments.smoke else (50, 5, arguments.topics)
    counts = load_reuters()[: 60 if arguments.smoke else None].astype(np.int64)
    held_out = np.arange(len(counts)) % 10 == 0
    train, test = counts[~held_out], counts[held_out]
    data = documents(test)
    for num_topics in sizes:
        print(f"\n{num_topics} topics, {len(test)} held-out documents, {test.sum():,} words, {runs} runs of each")
        print(f"{'':14}{'nats/token':>10}{'all runs':>18}{'error':>9}{'drift':>9}{'perplexity':>12}{'claimed':>20}")
        for fit in (by_scikit_learn, by_gensim, by_tomotopy):
            found = [fit(train, test, num_topics, passes, seed) for seed in range(runs)]
            scores = [scored(data, topics, np.broadcast_to(alpha, num_topics).tolist()) for topics, alpha, _ in found]
            nats, error, drift = (
                np.concatenate([getattr(score, what) for score in scores])
                for what in ("nats_per_token", "monte_carlo_error", "drift_per_token")
            )
            show(fit.__name__[3:], nats, error.max(), drift.max(), float(np.median([claim for *_, claim in found])))
        model = ps.em(ps.LDA(num_topics, counts.shape[1], runs), documents(train), num_steps=passes).model
        score = ps.evaluate(model, data)
        show("probseq", score.nats_per_token, score.monte_carlo_error.max(), score.drift_per_token.max())


if __name__ == "__main__":
    main()
