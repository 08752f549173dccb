"""What a beam finds, in models with and without sources. That a wide one finds all: see also `test_conditional.py`."""

import itertools
import math

import numpy as np
import pytest
import torch

import probseq as ps

END = 2
HMM = ps.HMM.from_parameters([0.6, 0.4], [[0.4, 0.6], [0.5, 0.5]], [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])


def ended(most):
    return [[*y, END] for n in range(most) for y in itertools.product(range(END), repeat=n)]


def conditional():
    model = ps.Conditional.from_seed(lambda: ps.Seq2Seq(5, 3, attention="dot", hidden_dim=8), seed=3).double().eval()
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model


@pytest.mark.parametrize(
    "model",
    [HMM, ps.Autoregressive.from_seed(lambda: ps.LSTM(3, 4)).double(), ps.Uniform(3)],
    ids=["hmm", "lstm", "uniform"],
)
def test_a_wide_beam_is_exhaustive_in_models_without_a_source(model):
    found = ps.beam_search(model, 200, 5, END, num_best=10)
    log_prob = np.sort(ps.evaluate(model, ps.Sequences.from_list(ended(5))).log_prob[0])[::-1]
    np.testing.assert_allclose(found.log_prob, log_prob[:10], atol=1e-6)
    np.testing.assert_allclose(found.log_prob, ps.evaluate(model, found.sequences).log_prob[0], atol=1e-6)
    assert found.ended.all()
    assert (found.row == 0).all()


def test_without_a_stop_symbol_all_have_the_same_length():
    found = ps.beam_search(HMM, 100, 3, None, num_best=27)
    assert found.sequences.lengths.tolist() == [3] * 27
    assert not found.ended.any()
    assert np.exp(found.log_prob).sum() == pytest.approx(1.0)


def test_what_has_not_ended_stands_last():
    found = ps.beam_search(HMM, 3, 2, END, num_best=3)
    every = {
        tuple(y): p
        for y, p in zip(ended(2), ps.evaluate(HMM, ps.Sequences.from_list(ended(2))).log_prob[0], strict=True)
    }
    assert [tuple(y.tolist()) for y in found.sequences] == sorted(every, key=lambda y: -every[y])
    most = ps.beam_search(HMM, 5, 2, END, num_best=5)
    assert most.ended.tolist() == [True] * 3 + [False] * 2
    assert most.log_prob[3] > most.log_prob[2]  # more probable, but no whole sequence


def test_sources_side_by_side_are_searched_as_they_are_alone():
    model, rng = conditional(), np.random.default_rng(0)
    sources = ps.Sequences.from_list([[*rng.integers(0, 4, n), 4] for n in rng.integers(0, 9, 40)])
    together = ps.beam_search(model.given(sources), 4, 12, END, num_best=3, length_penalty=0.5)
    assert (np.diff(together.row) >= 0).all()
    assert len(together.best) == 40
    for i in range(40):
        alone = ps.beam_search(model.given(sources[[i]]), 4, 12, END, num_best=3, length_penalty=0.5)
        assert [y.tolist() for y in together.of(i).sequences] == [y.tolist() for y in alone.sequences]
        np.testing.assert_allclose(together.of(i).log_prob, alone.log_prob, atol=1e-10)
        assert together.best.log_prob[i] == together.of(i).log_prob[0]


def test_many_sources_are_searched_in_groups(monkeypatch):
    model, sources = conditional(), ps.Sequences.from_list([[0, 4], [1, 2, 3, 4], [4], [2, 4]])
    whole = ps.beam_search(model.given(sources), 4, 6, END, num_best=2)
    monkeypatch.setattr("probseq.search._POSITIONS", 1)
    parts = ps.beam_search(model.given(sources), 4, 6, END, num_best=2)
    assert parts.row.tolist() == whole.row.tolist()
    assert parts.sequences.values.tolist() == whole.sequences.values.tolist()
    np.testing.assert_allclose(parts.log_prob, whole.log_prob, atol=1e-10)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_search_that_stops_early_has_lost_nothing(penalty):
    """The same beam without the rule that ends a search: all steps, and what is best of all that ended."""
    model, width, most = conditional(), 3, 9
    given = model.given(ps.Sequences.from_list([[1, 2, 3, 4]]))
    beam, best = [([], 0.0)], []
    for _ in range(most):
        everything = []
        for y, total in beam:
            state = given.state_after(torch.tensor([y])) if y else given.initial_state(1)
            everything += [([*y, v], total + p) for v, p in enumerate(given.next_log_prob(state)[0, 0].tolist())]
        best += [(total / len(y) ** penalty, y) for y, total in everything if y[-1] == END]
        beam = sorted((one for one in everything if one[0][-1] != END), key=lambda one: -one[1])[:width]
    found = ps.beam_search(given, width, most, END, num_best=3, length_penalty=penalty)
    assert [y.tolist() for y in found.sequences] == [y for _, y in sorted(best, reverse=True)[:3]]


def test_the_length_penalty_prefers_what_is_long():
    given = conditional().given(ps.Sequences.from_list([[1, 2, 3, 4]]))
    lengths = [ps.beam_search(given, 50, 6, END, length_penalty=a).sequences.lengths[0] for a in (0.0, 1.0, 3.0)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_impossible_is_never_found():
    model = ps.HMM.from_parameters([1, 0], [[0, 1], [0, 1]], [[1, 0, 0], [0, 0.5, 0.5]])
    found = ps.beam_search(model, 50, 4, END, num_best=20)
    assert [y.tolist() for y in found.sequences] == [[0, 2], [0, 1, 2], [0, 1, 1, 2], [0, 1, 1, 1]]
    np.testing.assert_allclose(found.log_prob, np.log([0.5, 0.25, 0.125, 0.125]))
    assert found.ended.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_beams": 0}, "num_beams is 0; expected 1 or more"),
        ({"max_length": 0}, "max_length is 0; expected 1 or more"),
        ({"num_best": 3}, "num_best is 3 and num_beams 2; expected no more than there are beams"),
        ({"length_penalty": -1.0}, "length_penalty is -1.0; expected a finite number, 0 or more"),
        ({"length_penalty": math.nan}, "length_penalty is nan; expected a finite number, 0 or more"),
        ({"stop": 3}, "stop is the symbol 3; expected 0 to 2"),
        ({"model": ps.HMM(2, ps.emissions.Categorical(3), num_restarts=2)}, "select one first"),
        ({"model": ps.HMM(2, ps.emissions.Gaussian(1))}, "this one is of vectors; draw with generate"),
    ],
)
def test_requests_outside_their_range_are_refused(options, sentence):
    settings = {"model": HMM, "num_beams": 2, "max_length": 3, "stop": END} | options
    with pytest.raises(ps.InputError, match=sentence):
        ps.beam_search(**settings)


def test_a_model_that_has_diverged_is_refused():
    model = conditional()
    model.nets[0].head.bias.data[0] = math.nan
    with pytest.raises(ps.InputError, match=r"the model gives NaN.*its fit has diverged"):
        ps.beam_search(model.given(ps.Sequences.from_list([[4]])), 2, 3, END)
