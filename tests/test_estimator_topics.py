"""The topic model's estimator: scikit-learn's own checks, sparse and dense counts, online steps, a peer's score."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import probseq as ps
from probseq.estimator import LDAEstimator
from probseq.topics import beside_likelihood


class Rounded(LDAEstimator):
    """Takes any number for a count: the checks have no others."""

    def _whole(self, X):
        return super()._whole(X.round() if isinstance(X, np.ndarray) else X.rint())


@parametrize_with_checks([Rounded(num_topics=2, num_steps=5, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def counts(num=60, seed=0):
    """Documents of two themes that share no word but the last."""
    rng = np.random.default_rng(seed)
    table = np.array([[0.45, 0.45, 0, 0, 0.1], [0, 0, 0.6, 0.3, 0.1]])
    return np.stack([rng.multinomial(20, table[i % 2]) for i in range(num)])


def fitted(**options):
    return LDAEstimator(**{"num_topics": 2, "random_state": 0, **options}).fit(counts())


def themes(shares):
    """Do the two kinds of documents have topics of their own?"""
    first = shares[0].argmax()
    return (shares[::2].argmax(axis=1) == first).all() and (shares[1::2].argmax(axis=1) != first).all()


def test_topics_are_found_and_shares_sum_to_one():
    estimator = fitted(num_restarts=3)
    shares = estimator.transform(counts(10, seed=1))
    assert themes(shares)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(estimator.topics_, estimator.components_ / estimator.components_.sum(1, keepdims=True))
    assert estimator.get_feature_names_out().tolist() == ["ldaestimator0", "ldaestimator1"]
    last = [estimator.fit_.history[n - 1, r] for r, n in enumerate(estimator.fit_.num_steps)]
    torch.testing.assert_close(estimator.model_.topics[0], estimator.fit_.model.topics[int(np.argmax(last))])


def test_sparse_counts_are_those_of_a_dense_matrix():
    dense, X = fitted(), scipy.sparse.csr_array(counts())
    sparse = LDAEstimator(2, random_state=0).fit(X)
    np.testing.assert_array_equal(sparse.components_, dense.components_)
    np.testing.assert_array_equal(sparse.transform(X), dense.transform(counts()))
    assert sparse.score(X) == dense.score(counts())
    twice = scipy.sparse.coo_array((np.ones(4), ([0, 0, 1, 1], [0, 0, 2, 4])), shape=(2, 5))  # a pair that comes twice
    np.testing.assert_array_equal(sparse.transform(twice), sparse.transform(twice.toarray()))


def test_the_score_is_the_likelihood_of_the_words():
    estimator, X = fitted(), counts(5, seed=1)
    data = ps.Sequences.from_list([np.repeat(np.arange(5), row) for row in X])
    assert estimator.score(X) == ps.evaluate(estimator.model_, data).elpd[0]


def test_equal_topics_give_the_shares_of_scikit_learn():
    estimator, X = fitted(), counts(5, seed=1)
    peer = LatentDirichletAllocation(2, doc_topic_prior=0.3, max_iter=1, random_state=0).fit(X)
    peer.exp_dirichlet_component_ = estimator.topics_
    peer.max_doc_update_iter, peer.mean_change_tol = 2000, 1e-12
    estimator.model_.log_alpha.data.fill_(np.log(0.3))
    np.testing.assert_allclose(estimator.transform(X), peer.transform(X), atol=1e-4)


def test_what_stands_beside_the_likelihood_is_that_of_the_model():
    X, estimator = counts(10), fitted()
    expected = beside_likelihood(estimator.model_, ps.Sequences.from_list([np.repeat(range(5), row) for row in X]))
    found = estimator.beside_likelihood(X)
    assert found == pytest.approx({name: nats[0] for name, nats in expected.items()}, rel=1e-12)
    with pytest.raises(NotFittedError):
        LDAEstimator().beside_likelihood(X)


@pytest.mark.parametrize("name", ["components_", "topics_"])
def test_what_is_learned_is_not_there_before_a_fit(name):
    with pytest.raises(NotFittedError, match="This LDAEstimator instance is not fitted yet"):
        getattr(LDAEstimator(), name)


def test_a_row_of_zeros_is_as_the_prior_says():
    X = counts()
    X[3] = 0
    estimator = LDAEstimator(2, random_state=0).fit(X)
    alpha = estimator.model_.alpha[0].numpy()
    np.testing.assert_allclose(estimator.transform(X)[3], alpha / alpha.sum())
    assert estimator.score(X[:4]) == estimator.score(X[:3])


@pytest.mark.parametrize("start", ["random", "gibbs"])
def test_online_steps_find_the_topics(start):
    estimator, X = LDAEstimator(2, start=start, random_state=0), counts(400)
    for _ in range(4):
        for part in np.split(X, 20):
            estimator.partial_fit(part)
    assert themes(estimator.transform(X[:10]))
    assert estimator.components_.sum() == pytest.approx(4 * X.sum() + 10 * estimator.model_.eta.item(), rel=0.05)


def test_online_steps_of_all_documents_are_those_of_online_em():
    X = counts(30)
    estimator = LDAEstimator(2, start="random", random_state=0, total_documents=30, delay=1.0)
    for _ in range(5):
        estimator.partial_fit(X)
    assert estimator.num_calls_ == 5
    model = estimator._begin(1)
    ps.em(model, estimator._documents(X), num_steps=5, minibatch=30, decay=estimator.decay, delay=1.0)
    torch.testing.assert_close(estimator.model_.concentration, model.concentration, atol=1e-9, rtol=0)


def test_a_fit_goes_on_online():
    estimator = fitted()
    before = estimator.topics_
    estimator.partial_fit(counts(20, seed=3))
    assert not np.array_equal(estimator.topics_, before)
    assert np.abs(estimator.topics_ - before).max() < 0.1


def test_it_follows_a_vectorizer():
    texts = ["the cat sat", "the dog sat", "stocks fell", "stocks rose and fell"] * 5
    pipeline = make_pipeline(CountVectorizer(), LDAEstimator(2, num_steps=10, random_state=0))
    assert pipeline.fit_transform(texts).shape == (20, 2)


@pytest.mark.parametrize(
    ("X", "sentence"),
    [
        ([[0.5, 1.0]], r"X holds 0\.5; expected counts, whole numbers of 0 or more, and no weights such as tf-idf"),
        ([[1.0, -1.0]], "Negative values in data: X holds -1; expected counts"),
        ([[0.0, 0.0]], "every token of data is missing"),
    ],
)
def test_what_is_no_count_is_refused(X, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        LDAEstimator(2).fit(np.array(X))
    with pytest.raises(ps.InputError, match=sentence):
        LDAEstimator(2, start="random").partial_fit(scipy.sparse.csr_array(X))


@pytest.mark.parametrize("count", [1e12, 1e20])
def test_more_words_than_there_is_room_for_are_an_error(count):
    with pytest.raises(ps.InputError, match=r"X counts .* words; expected 1,000,000,000 in all at most"):
        LDAEstimator(2).fit([[count, 1], [1, 1]])
