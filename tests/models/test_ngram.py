"""Models of counts: the smoothing against a hand computation, a plain reference, and enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.inference.counts import fit_counts
from probseq.models.ngram import NGram, Uniform, Unigram
from probseq.ops.kneser_ney import discounts

BEGIN = -1


def reference_discounts(counts):
    n = Counter(counts)
    if min(n[1], n[2], n[3], n[4]) > 0:
        y = n[1] / (n[1] + 2 * n[2])
        values = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        if min(values) > 0:
            return values
    return [0.5, 1.0, 1.5]


class Reference:
    """Interpolated modified Kneser-Ney with dictionaries of tuples, written from the formula."""

    def __init__(self, sequences, num_symbols, order):
        self.num_symbols, self.order = num_symbols, order
        raw = [Counter() for _ in range(order + 1)]
        for one in sequences:
            padded = (BEGIN, *one)
            for k in range(1, order + 1):
                raw[k].update(padded[i : i + k] for i in range(len(padded) - k + 1))
        raw[1].pop((BEGIN,), None)
        self.tables = [None, *(self.table(raw, k) for k in range(1, order + 1))]

    def table(self, raw, k):
        if k == self.order:
            counts = dict(raw[k])
        else:
            before = defaultdict(set)
            for gram in raw[k + 1]:
                before[gram[1:]].add(gram[0])
            counts = {gram: count if gram[0] == BEGIN else len(before[gram]) for gram, count in raw[k].items()}
        values = reference_discounts(counts.values())
        followers = defaultdict(dict)
        for gram, count in counts.items():
            followers[gram[:-1]][gram[-1]] = count
        return values, followers

    def prob(self, context, symbol):
        return self.at_order(tuple([BEGIN, *context][-(self.order - 1) :] if self.order > 1 else ()), symbol)

    def at_order(self, context, symbol):
        values, followers = self.tables[len(context) + 1]
        lower = self.at_order(context[1:], symbol) if context else 1 / self.num_symbols
        counts = followers.get(context)
        if not counts:
            return lower
        take = {w: values[min(c, 3) - 1] for w, c in counts.items()}
        total = sum(counts.values())
        return (counts.get(symbol, 0) - take.get(symbol, 0)) / total + sum(take.values()) / total * lower


def fitted(sequences, num_symbols, order, weights=None):
    return fit_counts(NGram(num_symbols, order), Sequences.from_list(sequences, weights)).model


corpora = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12)


@settings(deadline=None, max_examples=80)
@given(train=corpora, test=corpora, order=st.integers(1, 5))
def test_ngram_equals_a_plain_reference(train, test, order):
    model = fitted(train, 4, order)
    reference = Reference(train, 4, model.order)
    batch = Sequences.from_list(test).batch()
    expected = np.zeros(batch.values.shape)
    for i, one in enumerate(test):
        expected[i, : len(one)] = [math.log(reference.prob(one[:t], x)) for t, x in enumerate(one)]
    np.testing.assert_allclose(model.token_log_prob(batch)[0].numpy(), expected, rtol=0, atol=1e-12)


def test_ngram_equals_a_plain_reference_where_discounts_are_estimated():
    rng = np.random.default_rng(0)
    train = [(12 * rng.random(30) ** 3).astype(int).tolist() for _ in range(15)]
    test = [rng.integers(0, 13, 20).tolist() for _ in range(5)]
    model, reference = fitted(train, 13, 3), Reference(train, 13, 3)
    assert all(values != [0.5, 1.0, 1.5] for values, _ in reference.tables[2:])
    expected = [[math.log(reference.prob(one[:t], x)) for t, x in enumerate(one)] for one in test]
    actual = model.token_log_prob(Sequences.from_list(test).batch())[0]
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-12)


def test_bigram_by_hand():
    """a b a c: bigrams (begin a) 1, ab 1, ba 1, ac 1; before a: begin and b, before b: a, before c: a.

    No n-gram is seen four times, so the discounts are 0.5, 1 and 1.5. At order 1 the counts are 2, 1, 1:
    p(a) = (2 - 1) / 4 + (1 + .5 + .5) / 4 / 3, and p(b) = (1 - .5) / 4 + 2 / 4 / 3.
    After a: b and c, once each: p(b | a) = .5 / 2 + (1 / 2) p(b). After c nothing was seen: p(. | c) = p(.).
    """
    model = fitted([[0, 1, 0, 2]], 3, 2)
    log_prob = model.token_log_prob(Sequences.from_list([[0, 1], [2, 0]]).batch())[0].exp()
    p = {"a": 1 / 4 + 1 / 6, "b": 1 / 8 + 1 / 6, "c": 1 / 8 + 1 / 6}
    expected = [[0.5 + 0.5 * p["a"], 0.25 + 0.5 * p["b"]], [0.5 * p["c"], p["a"]]]
    np.testing.assert_allclose(log_prob.numpy(), expected, atol=1e-15)


def test_discounts_formula_and_fallback():
    counts = torch.tensor([1] * 8 + [2] * 4 + [3] * 3 + [4, 4, 9])
    y = 8 / 16
    expected = [0, 1 - 2 * y * 4 / 8, 2 - 3 * y * 3 / 4, 3 - 4 * y * 2 / 3]
    np.testing.assert_allclose(discounts(counts).numpy(), expected)
    fallback = [0, 0.5, 1, 1.5]
    assert discounts(counts[counts != 2]).tolist() == fallback  # nothing was seen twice
    assert discounts(torch.tensor([1, 2, *[3] * 9, 4])).tolist() == fallback  # the second would be negative


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngram_is_normalized_for_every_sequence(order):
    model = fitted([[0, 0, 1, 0], [1, 0, 0, 0, 1], [1]], 3, order)  # symbol 2 is never seen
    everything = Sequences.from_list(list(itertools.product(range(3), repeat=6)))
    total = model.token_log_prob(everything.batch())[0].sum(1).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("make", [lambda: Uniform(3), lambda: Unigram(3), lambda: NGram(3, 4), lambda: NGram(3, 1)])
@pytest.mark.parametrize("is_fitted", [True, False])
def test_step_by_step_agrees_with_the_parallel_pass(make, is_fitted):
    model = make()
    data = Sequences.from_list([[0, 1, 1, 0, 1, 1], [2, 1, 1, 0, 2, 2], [0, 1, 1, 0, 0, 1]])
    if is_fitted:
        fit_counts(model, data[:2])
    batch = data.batch()
    expected = model.token_log_prob(batch)
    state = model.initial_state(3)
    for t, symbols in enumerate(batch.values.T):
        following = model.next_log_prob(state)
        assert following.shape == (1, 3, 3)
        assert following.exp().sum(-1).numpy() == pytest.approx(1, abs=1e-12)
        torch.testing.assert_close(following[0, torch.arange(3), symbols], expected[0, :, t], rtol=0, atol=1e-12)
        state = model.advance(state, symbols)


def test_padding_scores_zero_and_order_of_rows_does_not_matter():
    model = fitted([[0, 1, 2, 0, 1, 1], [2, 1]], 3, 3)
    data = Sequences.from_list([[0, 1], [2, 0, 1, 1, 0], [1]])
    together = model.token_log_prob(data.batch())[0]
    for i in range(3):
        alone = model.token_log_prob(data.batch(np.array([i])))[0, 0]
        assert together[i, : len(alone)].tolist() == alone.tolist()
        assert not together[i, len(alone) :].any()


def test_unigram_counts_with_weights():
    data = Sequences.from_list([[0, 0, 1], [2]], weights=[0.5, 3])
    model = fit_counts(Unigram(4, concentration=0.5), data).model
    np.testing.assert_allclose(model.log_probs.exp().numpy(), np.array([1.5, 1, 3.5, 0.5]) / 6.5)


def test_whole_weights_are_repeats():
    rows = [[0, 1, 0, 2, 2], [1, 1, 0]]
    data = Sequences.from_list([[0, 1, 1, 2], [2, 0]]).batch()
    weighted, repeated = fitted(rows, 3, 3, weights=[2, 3]), fitted([rows[0]] * 2 + [rows[1]] * 3, 3, 3)
    assert torch.equal(weighted.token_log_prob(data), repeated.token_log_prob(data))
    with pytest.raises(InputError, match=r"counts whole occurrences; received the weight 1\.5"):
        fitted(rows, 3, 3, weights=[2, 1.5])


@pytest.mark.parametrize("make", [lambda: Uniform(5), lambda: Unigram(5, 0.1), lambda: NGram(5, 3)])
def test_state_dict_and_config_hold_the_whole_model(make):
    model = make()
    fit_counts(model, Sequences.from_list([[0, 4, 2, 2, 1], [3, 3]]))
    again = type(model).from_config(model.config())
    again.load_state_dict(model.state_dict())
    batch = Sequences.from_list([[0, 4, 2, 1, 3], [1, 1]]).batch()
    assert torch.equal(again.token_log_prob(batch), model.token_log_prob(batch))
    assert again.num_parameters == model.num_parameters


def test_number_of_parameters():
    assert Uniform(5).num_parameters == 0
    assert Unigram(5).num_parameters == 4
    assert NGram(5, 3).num_parameters == 0
    assert fitted([[0, 1, 0, 1]], 5, 2).num_parameters == 2 + 3  # a, b; (begin a), ab, ba


def test_samples_follow_the_conditional_distribution():
    model = fitted([[0, 1, 2, 0, 1, 1, 2, 0, 0, 1]], 3, 3)
    draws = model.sample(20_000, 3, prefix=[0, 1], generator=torch.Generator().manual_seed(0))
    observed = np.bincount(draws.values[2::3], minlength=3) / 20_000
    state = model.initial_state(1)
    for symbol in (0, 1):
        state = model.advance(state, torch.tensor([symbol]))
    np.testing.assert_allclose(observed, model.next_log_prob(state)[0, 0].exp().numpy(), atol=0.015)


def test_order_is_chosen_on_validation():
    rng = np.random.default_rng(1)
    rows = [np.resize([0, 0, 1, 1], 41) ^ (rng.random(41) < 0.05) for _ in range(200)]  # two symbols of memory
    data = Sequences.from_list(rows)
    fit = fit_counts(NGram(2, 8), data[:150], data[150:])
    assert fit.model.order == fit.details["order"] == 1 + int(fit.validation[:, 0].argmax())
    assert 3 <= fit.model.order <= 8
    assert fit.validation_steps.tolist() == list(range(1, len(fit.validation) + 1))
    means = {
        part: fit.model.token_log_prob(data[rows].batch()).mean().item()
        for part, rows in (("train", slice(150)), ("validation", slice(150, None)))
    }  # every sequence is as long as the others
    assert fit.history.shape == (1, 1)
    assert fit.history[0, 0] == pytest.approx(means["train"], abs=1e-12)
    assert fit.validation.max() == pytest.approx(means["validation"], abs=1e-12)
    assert fit.stop_reason == ["converged"]


def test_search_stops_after_two_worse_orders():
    rng = np.random.default_rng(0)
    data = Sequences.from_list(rng.integers(0, 5, (50, 40)))  # independent symbols: order 1 is right
    fit = fit_counts(NGram(5, 8), data[:25], data[25:])
    assert fit.details["order"] == 1
    assert fit.validation_steps.tolist() == [1, 2, 3]


def test_order_is_at_most_the_longest_sequence_and_its_begin_symbol():
    assert fitted([[0, 1, 0], [1, 1]], 2, 8).order == 4
    assert fitted([[0], [1]], 2, 8).order == 2


def test_history_of_the_memoryless():
    data = Sequences.from_list([[0, 0, 0, 1]])
    assert fit_counts(Uniform(4), data).history[0, 0] == pytest.approx(-math.log(4))
    expected = (3 * math.log(4 / 6) + math.log(2 / 6)) / 4
    assert fit_counts(Unigram(2), data).history[0, 0] == pytest.approx(expected)


def test_a_unigram_counts_what_was_observed():
    gaps = Sequences.from_list([[0, 1, 0], [1]], weights=[2, 1], missing=[[False, True, False], [False]])
    whole = Sequences.from_list([[0, 0], [1]], weights=[2, 1])
    one, other = (fit_counts(Unigram(3), data) for data in (gaps, whole))
    assert torch.equal(one.model.log_probs, other.model.log_probs)
    assert one.history == other.history
    with pytest.raises(InputError, match="every token of train is missing"):
        fit_counts(Unigram(3), Sequences.from_list([[0]], missing=[[True]]))
    with pytest.raises(InputError, match="missing observations, and NGram needs every one"):
        fit_counts(NGram(3), gaps)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Uniform(0), "num_symbols is 0; expected 1 or more"),
        (lambda: Unigram(2, concentration=0.0), "concentration is 0.0; expected a positive number"),
        (lambda: NGram(2, max_order=0), "max_order is 0; expected 1 or more"),
        (lambda: Uniform(2).select(1), "restart 1 of 1"),
        (lambda: fit_counts(NGram(2), Sequences.from_list([[0, 2]])), "symbol 2 is outside the model's 2 symbols"),
        (lambda: fit_counts(Unigram(2), Sequences.from_list([[[0.5]]])), "train holds vectors"),
        (lambda: fit_counts(Unigram(2), Sequences.from_list([])), "train holds no sequences"),
        (
            lambda: fit_counts(NGram(2), Sequences.from_list([[0]]), Sequences.from_list([[[0.5]]])),
            "validation holds vectors",
        ),
        (lambda: fit_counts(torch.nn.Linear(1, 1), Sequences.from_list([[0]])), "received Linear"),
        (
            lambda: fitted([[0, 1]], 2, 2).token_log_prob(Sequences.from_list([[0, 3]]).batch()),
            "symbol 3 is outside the model's 2 symbols",
        ),
    ],
)
def test_bad_input(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
