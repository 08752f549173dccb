"""Top words: the definitions, one entry at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq.errors import InputError
from probseq.topics import top_words, word_scores

DRAWS = st.integers(0, 2**32 - 1)


def draw(seed, topics=3, words=6):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(words, 0.5), topics), rng.dirichlet(np.ones(topics))


@given(DRAWS, st.floats(0, 1))
@settings(deadline=None, max_examples=20)
def test_relevance_is_probability_and_lift(seed, weight):
    topics, shares = draw(seed)
    found = word_scores(topics, "relevance", weight, shares)
    for k, row in enumerate(topics):
        for v, p in enumerate(row):
            overall = sum(shares[j] * topics[j, v] for j in range(3))
            expected = weight * math.log(p) + (1 - weight) * math.log(p / overall)
            assert found[k, v] == pytest.approx(expected, abs=1e-9)


@given(DRAWS, st.floats(0, 1))
@settings(deadline=None, max_examples=20)
def test_frex_is_a_harmonic_mean_of_two_ranks(seed, weight):
    topics, _ = draw(seed)
    exclusive = topics / topics.sum(axis=0)
    found = word_scores(topics, "frex", weight)
    for k in range(3):
        for v in range(6):
            rank_e = sum(e <= exclusive[k, v] for e in exclusive[k]) / 6
            rank_p = sum(p <= topics[k, v] for p in topics[k]) / 6
            assert found[k, v] == pytest.approx(1 / (weight / rank_e + (1 - weight) / rank_p))


def test_the_ends_of_the_weights():
    topics, shares = draw(0)
    by_probability = np.argsort(-topics, axis=1)
    np.testing.assert_array_equal(top_words(topics, 6, "probability"), by_probability)
    np.testing.assert_array_equal(top_words(topics, 6, "relevance", 1.0, shares), by_probability)
    lift = topics / (shares @ topics)
    np.testing.assert_array_equal(top_words(topics, 6, "relevance", 0.0, shares), np.argsort(-lift, axis=1))


def test_a_word_that_no_topic_uses_comes_last_and_is_no_nan():
    topics = np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    for by in ("probability", "relevance", "frex"):
        scores = word_scores(topics, by)
        assert np.isfinite(scores).all()
        assert (scores.argmin(axis=1) == 2).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([[0.5, 0.6]],), r"topics have shape \(1, 2\); expected \(K, V\) of one restart"),
        (([0.5, 0.5],), r"topics have shape \(2,\)"),
        (([[1.0]], "relevence"), "unknown measure of words 'relevence'; did you mean 'relevance'"),
        (([[1.0]], "frex", 2.0), "weight is 2.0; expected a number from 0 to 1"),
        (([[1.0]], "relevance", 0.5, [1.0, 1.0]), r"shares have shape \(2,\); expected 1 numbers"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        word_scores(*arguments)


def test_no_words_are_refused():
    with pytest.raises(InputError, match="num_words is 0"):
        top_words([[1.0]], 0)
