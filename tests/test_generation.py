"""What is drawn follows the model (or what is left of it), carries its log-probability, and stops where it should."""

import math

import numpy as np
import pytest
import torch
from cases import CASES
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import probseq as ps
from probseq.generation import Choice

SYMBOLIC = [case for case in CASES if case.kind.symbolic]
VECTORS = [case for case in CASES if not case.kind.symbolic]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def names(case):
    return case.name


def scored(model, sequences, num_given):
    """Slowly: each sequence by itself, all at once."""
    with torch.no_grad():
        return [
            model.token_log_prob(sequences.batch(np.array([n])))[0, 0, num_given:].sum() for n in range(len(sequences))
        ]


@pytest.mark.parametrize("case", SYMBOLIC, ids=names)
def test_the_log_probability_is_that_of_the_model_whatever_the_temperature(case):
    model = case.model().select(0)
    drawn = ps.generate(model, [0, 2, 1], 5, 12, temperature=0.7, top_k=2, stop=1, generator=seeded())
    assert drawn.num_given == 3
    assert all(one[:3].tolist() == [0, 2, 1] for one in drawn.sequences)
    np.testing.assert_allclose(drawn.log_prob, scored(model, drawn.sequences, 3), atol=1e-10)


@pytest.mark.parametrize("case", VECTORS, ids=names)
def test_vectors_are_generated_with_their_density(case):
    model = case.model().select(0)
    prefix = case.kind.ragged()[0][:2]
    drawn = ps.generate(model, prefix, 3, 6, generator=seeded())
    assert drawn.sequences.lengths.tolist() == [6] * 3
    np.testing.assert_allclose(drawn.log_prob, scored(model, drawn.sequences, 2), atol=1e-8)
    assert next(ps.stream(model, prefix, 3, 6)).log_prob is None
    with pytest.raises(ps.InputError, match="are for models of symbols"):
        ps.generate(model, temperature=0.5)


@pytest.mark.parametrize("case", SYMBOLIC, ids=names)
def test_symbols_are_drawn_as_often_as_the_tempered_model_says(case):
    model, num = case.model().select(0), 4000
    state = model.state_after(torch.tensor([[0, 2]]))
    log_prob = model.next_log_prob(state)[0, 0].detach().numpy()
    expected = np.exp(log_prob / 0.6) / np.exp(log_prob / 0.6).sum()
    drawn = ps.generate(model, [0, 2], num, 3, temperature=0.6, generator=seeded(1))
    counts = np.bincount(drawn.sequences.values.reshape(-1, 3)[:, 2], minlength=3)
    assert stats.chisquare(counts, expected * num).pvalue > 1e-4


def log_probs(num_symbols):
    """Log-probabilities without ties."""
    return st.lists(st.integers(0, 60), min_size=num_symbols, max_size=num_symbols, unique=True).map(
        lambda row: torch.tensor([row], dtype=torch.float64).div(10).log_softmax(dim=-1)
    )


@given(log_probs(6), st.floats(0.2, 3), st.integers(1, 7), st.one_of(st.just(1.0), st.floats(0.05, 0.95)))
def test_what_may_be_drawn_is_the_most_probable_part(log_prob, temperature, top_k, top_p):
    """By sorting: the `top_k` best, and of these the fewest that reach `top_p`, in the proportions they had."""
    full = (log_prob / temperature).softmax(dim=-1)[0].numpy()
    ranked = sorted(range(6), key=lambda v: -full[v])[:top_k]
    kept, total = [], 0.0
    for v in ranked:
        if total < top_p or top_p == 1:
            kept.append(v)
        total += full[v] / full[ranked].sum()
    probs = Choice(temperature, top_k, top_p).probs(log_prob)[0].numpy()
    assert set(np.flatnonzero(probs)) == set(kept)
    np.testing.assert_allclose(probs[kept] / probs.sum(), full[kept] / full[kept].sum(), atol=1e-12)


def test_a_share_of_1_leaves_every_symbol():
    log_prob = torch.randn(20, 5000, generator=seeded()).mul(3).log_softmax(dim=-1)
    assert (Choice(top_p=1.0).probs(log_prob) > 0).all()


@pytest.mark.parametrize("temperature", [1e-30, 1e-40, 5e-324])
def test_almost_no_temperature_is_none(temperature):
    log_prob = torch.tensor([[0.2, 0.5, 0.3], [0.5, 0.5, 0.0]]).log()
    assert Choice(temperature).probs(log_prob).tolist() == [[0, 1, 0], [0.5, 0.5, 0]]


def test_temperature_0_takes_the_most_probable_symbol():
    case = next(case for case in SYMBOLIC if case.name == "gru")
    model = case.model().select(0)
    drawn = ps.generate(model, [0], 2, 9, temperature=0)
    assert drawn.sequences[0].tolist() == drawn.sequences[1].tolist()
    for t in range(1, 9):
        log_prob = model.next_log_prob(model.state_after(torch.from_numpy(drawn.sequences[0][None, :t])))
        assert drawn.sequences[0][t] == int(log_prob.argmax())


def test_a_stop_symbol_is_the_last_of_its_sequence():
    drawn = ps.generate(ps.Uniform(4), [2, 3], 300, 8, stop=[2, 3], generator=seeded())
    for one, stopped in zip(drawn.sequences, drawn.stopped, strict=True):
        ends = np.isin(one[2:], [2, 3])  # in the prefix they end nothing
        assert not ends[:-1].any()
        assert ends[-1] == stopped
        assert stopped or len(one) == 8
    np.testing.assert_allclose(drawn.log_prob, -(drawn.sequences.lengths - 2) * math.log(4))
    assert abs(drawn.stopped.mean() - (1 - 0.5**6)) < 0.03


@pytest.mark.parametrize("stop", [1, np.uint8(1), np.array([1]), torch.tensor(1), torch.tensor([1]), {1}, iter([1])])
def test_a_stop_symbol_may_be_any_whole_number(stop):
    drawn = ps.generate(ps.Uniform(3), stop=stop, max_length=200, generator=seeded())
    assert drawn.sequences[0][-1] == 1


@pytest.mark.parametrize(
    "build",
    [
        lambda: ps.GRU(3, 4),
        lambda: ps.Transformer(3, 1, 1, 4, 16),
        lambda: ps.Transformer(3, 1, 1, 4, 16, positions="learned"),
    ],
)
def test_a_long_prefix_is_read_in_pieces(build, monkeypatch):
    net, prefix = build().double().eval(), np.random.default_rng(0).integers(0, 3, 50)
    model, sizes, forward = ps.Autoregressive([net]), [], net.forward
    whole = model.state_after(torch.from_numpy(prefix)[None])
    monkeypatch.setattr(net, "piece", lambda num: 16)
    monkeypatch.setattr(net, "forward", lambda x, state=None: sizes.append(x.shape[1]) or forward(x, state))
    with torch.no_grad():
        parts = model.state_after(torch.from_numpy(prefix)[None])
    assert max(sizes) == 16
    torch.testing.assert_close(model.next_log_prob(parts), model.next_log_prob(whole), atol=1e-12, rtol=0)


def test_the_stream_is_what_is_generated_and_ends_with_the_last_sequence():
    options = {"num_sequences": 3, "max_length": 200, "stop": 1}
    steps = list(ps.stream(ps.Uniform(3), generator=seeded(4), **options))
    whole = ps.generate(ps.Uniform(3), generator=seeded(4), **options)
    assert len(steps) == whole.sequences.lengths.max() < 200
    for n, one in enumerate(whole.sequences):
        assert [int(step.values[n]) for step in steps if step.running[n]] == one.tolist()


def test_a_stream_draws_as_it_is_read_and_leaves_the_model_as_it_was():
    model = ps.Autoregressive([ps.GRU(3, hidden_dim=4, dropout=0.5)]).train()
    reading = ps.stream(model, max_length=10**9, generator=seeded())
    for _ in range(3):
        next(reading)
        assert torch.is_grad_enabled()
        assert all(module.training for module in model.modules())


def test_nothing_is_drawn_where_the_prefix_is_as_long_as_allowed():
    drawn = ps.generate(ps.Uniform(3), [0, 1], 2, 2)
    assert [one.tolist() for one in drawn.sequences] == [[0, 1]] * 2
    assert drawn.log_prob.tolist() == [0, 0]
    assert drawn.stopped.tolist() == [False, False]


def test_one_generator_one_text():
    model = ps.Autoregressive([ps.LSTM(5, hidden_dim=4)])
    texts = [ps.generate(model, max_length=30, generator=seeded(seed)).sequences[0].tolist() for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


IMPOSSIBLE = ps.HMM.from_parameters([1, 0], [[1, 0], [0, 1]], [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: ps.generate(ps.Uniform(3), temperature=-1), "temperature is -1"),
        (lambda: ps.generate(ps.Uniform(3), temperature=math.inf), "temperature is inf"),
        (lambda: ps.generate(ps.Uniform(3), top_k=0), "top_k is 0"),
        (lambda: ps.generate(ps.Uniform(3), top_p=0), "top_p is 0"),
        (lambda: ps.generate(ps.Uniform(3), top_p=1.5), "top_p is 1.5"),
        (lambda: ps.generate(ps.Uniform(3), stop=3), "stop is the symbol 3; expected 0 to 2"),
        (lambda: ps.generate(ps.Uniform(3), [0, 5]), "the prefix does not fit"),
        (lambda: ps.generate(ps.Uniform(3), [0, 1], max_length=1), "at least as long as the prefix"),
        (lambda: ps.generate(ps.Uniform(3), num_sequences=0), "num_sequences is 0; expected 1 or more"),
        (lambda: ps.generate(ps.Uniform(3), "ab"), "the prefix does not fit: it is 'ab'; expected symbols"),
        (lambda: ps.generate(ps.Uniform(3), np.array(1)), r"the prefix does not fit: it is array.1.; expected symbols"),
        (lambda: ps.generate(ps.Uniform(3), stop="."), "stop is '.'; expected a whole number"),
        (lambda: ps.generate(ps.Uniform(3), stop=-1), "stop is -1; expected 0 or more"),
        (lambda: IMPOSSIBLE.sample(1, 3, prefix=[0, 1]), "the prefix has probability 0"),
        (lambda: ps.generate(ps.HMM(2, ps.emissions.Categorical(3), num_restarts=2)), "has 2 restarts; select one"),
        (lambda: ps.generate("gru"), "received a str to generate from"),
        (lambda: ps.generate(IMPOSSIBLE, [0, 1]), "the prefix has probability 0"),
    ],
)
def test_bad_settings_are_refused(ask, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ask()


def test_a_fit_is_generated_from_too():
    fit = ps.fit_counts(ps.Unigram(2), ps.Sequences.from_list([[0, 1, 1]]))
    assert ps.generate(fit, max_length=4).sequences.num_tokens == 4
