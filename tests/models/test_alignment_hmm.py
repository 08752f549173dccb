"""Alignment models of tables: enumeration, the engine, Pyro and EM agree."""

import itertools
import math

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import TraceEnum_ELBO

import probseq as ps
from probseq import AlignmentHMM

KINDS = {
    "order-1": {},
    "order-0": {"order": 0},
    "monotone": {"monotone": True},
    "wide": {"jumps": (-4, 5)},
    "one-step": {"jumps": (0, 1), "order": 0},
}
STRICT = {
    "strict": {"jumps": (1, 2), "end": 2},
    "strict-order-0": {"monotone": True, "jumps": (1, 1), "end": 2, "order": 0},
}
SOURCES = [[3, 0, 1, 4], [4], [2, 2, 4], [0, 3, 2, 4]]
TARGETS = [[0, 1, 2], [2], [1, 0, 2], [0, 1, 0, 2]]
DATA = ps.Sequences.from_list(TARGETS, source=ps.Sequences.from_list(SOURCES))


def joint(model, restart, source, target):
    """p(path, y | x) of every path, by multiplication."""
    tables = model.log_jumps.softmax(-1), model.log_start.softmax(-1), model.emission.probs
    jumps, start, symbols = (table[restart].tolist() for table in tables)
    size, lowest = len(source), model.jumps.lowest

    def step(before, position):
        reached = [before + lowest + w for w in range(len(jumps))]
        total = sum(jumps[w] for w, place in enumerate(reached) if 0 <= place < size)
        if before + 1 == size and lowest == 1:
            return float(position == before)  # where nothing but the end is left to emit
        return jumps[reached.index(position)] / total if position in reached else 0.0

    def emitted(position, symbol):
        if lowest == 1 and position == size - 1:
            return float(symbol == model.end)
        return symbols[source[position]][symbol]

    found = {}
    for path in itertools.product(range(size), repeat=len(target)):
        p = start[path[0]] / sum(start[:size]) if path[0] < len(start) else 0.0
        for t, (position, symbol) in enumerate(zip(path, target, strict=True)):
            if t:
                p *= step(path[t - 1] if model.order else min(t - 1, size - 1), position)
            p *= emitted(position, symbol)
        found[path] = torch.tensor(p, dtype=torch.float64)
    return found


every_kind = pytest.mark.parametrize("name", [*KINDS, *STRICT])


def make(name, **options):
    return AlignmentHMM(5, 3, **{**KINDS, **STRICT}[name], **options)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@every_kind
def test_the_engine_sums_over_all_paths(name):
    model = make(name, num_restarts=2)
    values = model.token_log_prob(DATA.batch()).sum(-1)
    for r, (i, pair) in itertools.product(range(2), enumerate(zip(SOURCES, TARGETS, strict=True))):
        expected = torch.stack(list(joint(model, r, *pair).values())).sum().log()
        close(values[r, i], expected)


@every_kind
def test_the_program_is_what_the_engine_computes(name):
    """In value and gradient; flat Dirichlet densities are taken out."""
    model = make(name, num_restarts=2)
    tables = {"start": model.log_start.softmax(-1), "jumps": model.log_jumps.softmax(-1), "probs": model.emission.probs}
    program = pyro.condition(model.program, data=tables)
    value = -TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(program, lambda batch: None, DATA.batch())
    value = value - sum(math.lgamma(v.shape[-1]) * v.shape[:-1].numel() for v in tables.values())
    engine = model.token_log_prob(DATA.batch()).sum()
    close(value, engine)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(engine, parameters)
    for one, other in zip(torch.autograd.grad(value, parameters), expected, strict=True):
        close(one, other)


@every_kind
def test_paths_and_positions_are_those_of_the_enumeration(name):
    model = make(name)
    batch = DATA.batch()
    posterior, (paths, log_prob) = model.posterior_states(batch)[0], model.viterbi(batch)
    for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        probs = joint(model, 0, source, target)
        total = sum(probs.values())
        best = max(probs, key=probs.__getitem__)
        assert tuple(paths[0, i, : len(target)].tolist()) == best
        close(log_prob[0, i], probs[best].log())
        for t, k in itertools.product(range(len(target)), range(len(source))):
            close(posterior[i, t, k], sum(p for path, p in probs.items() if path[t] == k) / total)
    assert (posterior.sum(-1) - batch.mask.double()).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["order-1", "order-0"])
def test_no_drawn_path_is_more_probable_than_the_best(name, generator):
    model, batch = make(name), DATA.batch()
    draws, (best, log_prob) = model.sample_paths(batch, 200, generator), model.viterbi(batch)
    assert ((draws[:, 0] >= 0) == batch.mask).all()
    for i in (0, 2):
        table, length = joint(model, 0, SOURCES[i], TARGETS[i]), len(TARGETS[i])
        probs = torch.stack([table[tuple(draw[:length].tolist())] for draw in draws[:, 0, i]])
        assert (probs > 0).all()
        assert (probs.log() <= log_prob[0, i] + 1e-10).all()
    frequency = (draws[:, 0, 0, 0] == best[0, 0, 0]).double().mean()
    expected = model.posterior_states(batch)[0, 0, 0, best[0, 0, 0]]
    assert abs(frequency - expected) < 5 * math.sqrt(expected * (1 - expected) / 200)


@every_kind
def test_step_by_step_equals_all_at_once(name):
    model, batch = make(name, num_restarts=2), DATA.batch()
    given_sources, terms = model.given(batch.source), model.token_log_prob(batch)
    state = given_sources.initial_state(len(TARGETS))
    for t in range(batch.values.shape[1]):
        log_probs, real = given_sources.next_log_prob(state), batch.mask[:, t]
        close(log_probs.exp().sum(-1)[:, real], torch.ones(2, int(real.sum()), dtype=torch.float64))
        close(
            log_probs.gather(2, batch.values[:, t].expand(2, -1)[..., None])[..., 0][:, real], terms[:, :, t][:, real]
        )
        state = given_sources.advance(state, batch.values[:, t])


@every_kind
def test_expected_counts_are_those_of_the_enumeration(name):
    """Also where a symbol is missing; of the last position, where every step moves on, nothing is counted."""
    model, weights = make(name, num_restarts=2), [1.0, 2.0, 0.5, 1.0]
    gone = [[False, i == 0, False, False][: len(y)] for i, y in enumerate(TARGETS)]
    batch = ps.Sequences.from_list(TARGETS, weights, DATA.source, missing=gone).batch()
    found, jumps = model.e_step(batch), model.jumps
    expected = [torch.zeros_like(part[1]) for part in found[1:]]
    for source, target, weight, hidden in zip(SOURCES, TARGETS, weights, gone, strict=True):
        filled = [[*target[:1], v, *target[2:]] for v in range(3)] if any(hidden) else [target]
        probs = [joint(model, 1, source, y) for y in filled]
        total, size = sum(sum(one.values()) for one in probs), len(source)
        for y, one in zip(filled, probs, strict=True):
            for path, p in one.items():
                share = weight * p / total
                for t, position in enumerate(path):
                    if not hidden[t] and not (jumps.is_strict and position == size - 1):
                        expected[2][source[position], y[t]] += share
                    if p > 0 and t == 0:
                        expected[0][min(size, jumps.highest) - 1, position] += share
                    elif p > 0:
                        before = path[t - 1] if model.order else min(t - 1, size - 1)
                        if position - before < jumps.lowest:
                            continue  # it stays at the end
                        which = jumps.sets(torch.tensor([size]), torch.tensor([[before]]))[0, 0]
                        expected[1][which, position - before - jumps.lowest] += share
    for one, other in zip(found[1:], expected, strict=True):
        close(one[1], other)
    close(found.log_likelihood, model.token_log_prob(batch).sum(-1))


KNOWN = [[1, -1, -1], [0], [-1, -1, 2], [-1] * 4]


def test_known_positions_are_a_joint_probability():
    known = ps.Sequences.from_list(TARGETS, source=DATA.source, states=KNOWN)
    model = make("order-1")
    found = model.e_step(known.batch()).log_likelihood[0]
    for i, states in enumerate(KNOWN):
        probs = joint(model, 0, SOURCES[i], TARGETS[i]).items()
        fits = [p for path, p in probs if all(s in (-1, k) for s, k in zip(states, path, strict=True))]
        close(found[i], sum(fits).log())
    close(model.token_log_prob(known.batch()), model.token_log_prob(DATA.batch()))
    beyond = ps.Sequences.from_list([[0, 2]], source=ps.Sequences.from_list([[1, 4]]), states=[[0, 2]])
    with pytest.raises(ps.InputError, match="position 2 of a source of 2"):
        ps.em(model, beyond)


def test_missing_symbols_are_summed_out():
    model, gone = make("order-1"), np.array([False, True, False])
    source = ps.Sequences.from_list(SOURCES[:1])
    found = model.token_log_prob(ps.Sequences.from_list([[0, 0, 2]], source=source, missing=[gone]).batch()).sum()
    total = [model.token_log_prob(ps.Sequences.from_list([[0, v, 2]], source=source).batch()).sum() for v in range(3)]
    close(found, torch.stack(total).logsumexp(0))


@st.composite
def pairs(draw):
    """A few pairs, of which every target fits its source."""
    sources = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=5))
    targets = [[*draw(st.lists(st.integers(0, 1), max_size=len(x))), 2] for x in sources]
    weights = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=len(sources), max_size=len(sources)))
    return ps.Sequences.from_list(targets, weights, ps.Sequences.from_list([[*x, 3] for x in sources]))


@settings(max_examples=30)
@given(pairs(), st.sampled_from([*KINDS, *STRICT]), st.sampled_from([1.0, 1.3]), st.booleans())
def test_the_objective_never_falls(data, name, concentration, accelerate):
    model = make(name, num_restarts=2, concentration=concentration)
    fit = ps.em(model, data, num_steps=8, tol=0, accelerate=accelerate)  # a fall would raise
    assert np.isfinite(fit.history).all()
    assert all(not p.isnan().any() for p in model.parameters())


def test_jumps_of_weight_0_leave_even_rows_where_nothing_else_is_in_reach():
    model = AlignmentHMM.from_parameters([1.0], [0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]])
    data = ps.Sequences.from_list([[0, 0, 0]], source=ps.Sequences.from_list([[0, 1]]))
    close(model.token_log_prob(data.batch()).sum(), torch.tensor(3 * math.log(0.5), dtype=torch.float64))
    fit = ps.em(model, data, num_steps=3, tol=0)
    np.testing.assert_allclose(fit.history[-1], 0.0, atol=1e-10)  # per token: every symbol is 0 by then


@pytest.mark.parametrize("name", ["log_start", "log_jumps"])
def test_what_is_not_a_number_is_not_called_impossible(name):
    model, batch = AlignmentHMM(5, 3), DATA.batch()
    with torch.no_grad():
        getattr(model, name).fill_(math.nan)
    assert model.token_log_prob(batch)[:, [0, 2, 3], :2].isnan().any(dim=-1).all()
    assert not model.token_log_prob(batch).isneginf().any()
    assert model.posterior_states(batch)[:, 0].isnan().any()


def test_where_every_step_moves_on_a_longer_target_is_impossible():
    data = ps.Sequences.from_list([[0, 2], [0, 0, 0, 2]], source=ps.Sequences.from_list([[1, 4], [1, 2, 4]]))
    model = AlignmentHMM(5, 3, monotone=True, jumps=(1, 3), end=2)
    assert model.token_log_prob(data.batch()).sum(-1).isneginf().tolist() == [[False, True]]
    with pytest.raises(ps.InputError, match="sequence 1 has a target of 4 symbols and a source of 3"):
        ps.em(model, data)
    paths, log_prob = model.viterbi(data.batch())
    assert (paths[0] >= 0).tolist() == [[True, True, False, False], [False] * 4]
    assert log_prob.isneginf().tolist() == [[False, True]]
    assert model.posterior_states(data.batch())[0].sum(dim=-1).tolist() == [[1, 1, 0, 0], [0] * 4]
    assert ((model.sample_paths(data.batch(), 3) < 0) == (paths < 0)).all()


def test_the_transducer_is_recovered():
    """From 300 pairs to within 2 % of the exact entropy of pairs not seen, by every restart here."""
    corpus = ps.load_corpus("transducer", num_sequences=1000)
    model = AlignmentHMM(corpus.num_source_symbols, corpus.num_symbols, num_restarts=3)
    ps.em(model, corpus.train[:300], num_steps=30)
    nats = ps.evaluate(model, corpus.test).nats_per_token
    exact = corpus.truth.test_nats_per_token
    assert (nats < 1.02 * exact).all()
    assert (nats > exact).all()


def test_parts_of_a_batch_change_nothing(monkeypatch):
    model = make("order-1", num_restarts=2)
    whole = model.token_log_prob(DATA.batch()), model.e_step(DATA.batch())
    monkeypatch.setattr("probseq.models.alignment_chain._MAX_NUMBERS", 2 * 4 * 6)
    assert len(list(model.parts(DATA.batch()))) == 4
    close(model.token_log_prob(DATA.batch()), whole[0], 1e-12)
    for one, other in zip(model.e_step(DATA.batch()), whole[1], strict=True):
        close(one, other, 1e-12)


def test_given_parameters_are_used():
    model = AlignmentHMM.from_parameters(
        [0.7, 0.3], [0.2, 0.5, 0.3], [[0.6, 0.4], [0.1, 0.9]], num_restarts=2, concentration=1.5
    )
    assert model.num_parameters == 1 + 2 + 2
    close(model.log_jumps.softmax(-1)[1], torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
    assert (model.jumps.lowest, model.jumps.highest) == (0, 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"order": 2}, "order is 2; expected 1"),
        ({"jumps": (-2, 0)}, r"jumps are \(-2, 0\); expected"),
        ({"jumps": (2, 3)}, "expected the furthest ones back and forward"),
        ({"jumps": (1, 2, 3)}, r"jumps is \(1, 2, 3\); expected two whole numbers"),
        ({"jumps": ()}, "expected two whole numbers"),
        ({"jumps": (1, 2)}, "give its id as end"),
        ({"jumps": (1, 2), "end": 3}, "end is 3; expected the id of a target symbol, 0 to 2"),
        ({"num_restarts": 0}, "num_restarts is 0"),
        ({"concentration": 0.5}, "concentration is 0.5"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        AlignmentHMM(5, 3, **options)


def test_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ps.InputError, match="expected \\(B,\\), the jumps up to B"):
        AlignmentHMM.from_parameters([1.0], [0.2, 0.5, 0.3], [[0.6, 0.4]])
    with pytest.raises(ps.InputError, match="jumps begin at -1 and the model is monotone"):
        AlignmentHMM.from_parameters([1.0], [0.2, 0.5, 0.3], [[0.6, 0.4]], lowest=-1, monotone=True)
    with pytest.raises(ps.InputError, match="jumps has a row that is not a probability vector"):
        AlignmentHMM.from_parameters([1.0], [0.2, 0.5], [[0.6, 0.4]])


def test_what_cannot_be_scored_is_refused():
    model, alone = make("order-1"), ps.Sequences.from_list([[0, 2]])
    for act in (lambda: model.token_log_prob(alone.batch()), lambda: ps.em(model, alone)):
        with pytest.raises(ps.InputError, match="the data have no source"):
            act()
    unknown = ps.Sequences.from_list([[0, 2]], source=ps.Sequences.from_list([[5, 4]]))
    with pytest.raises(ps.InputError, match="the source holds the symbol 5; expected 0 to 4"):
        ps.em(model, unknown)


def test_a_gradient_follows_the_same_likelihood():
    model = make("order-1", num_restarts=2)
    known = ps.Sequences.from_list(TARGETS, source=DATA.source, states=KNOWN)
    close(model.conditioned_log_prob(known.batch()).sum(-1), model.e_step(known.batch()).log_likelihood)
    fit = ps.fit_gradient(model, known, DATA, num_steps=20, learning_rate=0.05)
    assert (fit.history[-1] > fit.history[0]).all()
