"""The cache unigram: its definition, its sum, and the choice of its strength."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

import probseq as ps

COUNTS = torch.tensor([5.0, 1.0, 2.0, 0.0])


def model(strength):
    cache = ps.CacheUnigram(4, concentration=0.5, strength=strength)
    cache.set_counts(COUNTS)
    return cache


def unigram():
    plain = ps.Unigram(4, concentration=0.5)
    plain.set_counts(COUNTS)
    return plain.log_probs.exp().numpy()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.floats(0.1, 100))
@settings(deadline=None, max_examples=50)
def test_a_term_mixes_the_training_data_and_the_past(x, strength):
    terms = model(strength).token_log_prob(ps.Sequences.from_list([x]).batch())[0, 0].tolist()
    for t, v in enumerate(x):
        weight = t / (strength + t)
        past = x[:t].count(v) / t if t else 0.0
        assert terms[t] == pytest.approx(math.log((1 - weight) * unigram()[v] + weight * past))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.floats(0.1, 100))
@settings(deadline=None, max_examples=50)
def test_a_document_has_the_probability_of_a_dirichlet_and_words_drawn_from_it(x, strength):
    total = float(model(strength).token_log_prob(ps.Sequences.from_list([x]).batch()).sum())
    alpha, counts = strength * unigram(), np.bincount(x, minlength=4)
    expected = gammaln(strength) - gammaln(strength + len(x)) + (gammaln(alpha + counts) - gammaln(alpha)).sum()
    assert total == pytest.approx(expected, abs=1e-9)


def bursts(num, seed):
    """Every document has a favorite."""
    rng = np.random.default_rng(seed)
    return ps.Sequences.from_list([rng.choice(4, 30, p=rng.dirichlet(np.full(4, 1.5))) for _ in range(num)])


def test_validation_chooses_the_strength():
    train, validation, test = (bursts(300, seed) for seed in range(3))
    fit = ps.fit_counts(ps.CacheUnigram(4), train, validation)
    chosen = fit.details["strength"]
    assert chosen == fit.model.strength
    assert 4 < chosen < 9  # documents were drawn with 6
    best = float(fit.validation[0, 0])
    for other in (chosen / 1.3, chosen * 1.3):
        worse = ps.fit_counts(ps.CacheUnigram(4, strength=other), train).model
        assert -ps.evaluate(worse, validation).nats_per_token[0] < best
    counted = ps.fit_counts(ps.Unigram(4), train).model
    assert ps.evaluate(fit.model, test).nats_per_token[0] < ps.evaluate(counted, test).nats_per_token[0] - 0.1


def test_a_strength_may_have_no_end():
    flat = ps.Sequences.from_list([[0, 1, 2, 3]] * 5)  # nothing is ever repeated
    assert ps.fit_counts(ps.CacheUnigram(4), flat, flat).model.strength > 9e5


def test_weights_are_repetitions():
    data = bursts(6, 0)
    weighted = ps.Sequences(data.values, data.offsets, np.array([1.0, 2, 1, 1, 3, 1]))
    repeated = data[np.array([0, 1, 1, 2, 3, 4, 4, 4, 5])]
    one, other = (ps.fit_counts(ps.CacheUnigram(4), part, part) for part in (weighted, repeated))
    assert one.details["strength"] == pytest.approx(other.details["strength"])
    assert one.history[0, 0] == pytest.approx(other.history[0, 0])


@pytest.mark.parametrize("name", ["concentration", "strength"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_numbers_have_to_be_positive(name, value):
    with pytest.raises(ps.InputError, match=f"{name} is .*; expected a positive number"):
        ps.CacheUnigram(4, **{name: value})
