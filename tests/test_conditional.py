"""The laws of models with a source. A new one is one more row of ``CONDITIONAL`` in `cases.py`."""

import itertools
import math

import numpy as np
import pytest
import torch
from cases import CONDITIONAL, SOURCE

import probseq as ps

END = 2  # of the target; 3 is that of the source
SOURCES = [[1, 0, 2, 3], [3], [0, 0, 1, 2, 2, 1, 0, 1, 1, 2, 0, 3], [2, 3]]
TARGETS = [[0, 1, 2], [1, 2], [2], [0, 0, 1, 0, 1, 1, 2]]

every_model = pytest.mark.parametrize("case", CONDITIONAL, ids=lambda case: case.name)


def pairs(rows=slice(None)):
    return ps.Sequences.from_list(TARGETS[rows], source=ps.Sequences.from_list(SOURCES[rows]))


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def all_that_end(most):
    """Every target of at most so many symbols that ends, and no sooner."""
    return [[*y, END] for n in range(most) for y in itertools.product(range(END), repeat=n)]


def sharp(case, num_restarts=1):
    """A model whose distributions are far from uniform."""
    model = case.model(num_restarts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


@every_model
def test_targets_that_end_and_those_that_have_not_sum_to_one(case):
    model, source = case.model(), ps.Sequences.from_list([SOURCES[2]])
    going = [list(y) for y in itertools.product(range(END), repeat=6)]
    given = model.given(source)
    total = {n: np.exp(ps.evaluate(given, ps.Sequences.from_list(all_that_end(n))).log_prob).sum(1) for n in (3, 6)}
    rest = np.exp(ps.evaluate(given, ps.Sequences.from_list(going)).log_prob).sum(1)
    np.testing.assert_allclose(total[6] + rest, 1.0, atol=1e-10)
    assert (total[6] > total[3]).all()


@every_model
def test_padding_of_source_and_target_changes_nothing(case):
    model = case.model()
    together = model.token_log_prob(pairs().batch())
    for i in range(len(SOURCES)):
        alone = model.token_log_prob(pairs(slice(i, i + 1)).batch())[:, 0]
        close(together[:, i, : alone.shape[1]], alone, 1e-12)
        assert (together[:, i, alone.shape[1] :] == 0).all()
    batch = pairs().batch()
    batch.source.values[~batch.source.mask] = 1
    batch.values[~batch.mask] = 1
    close(model.token_log_prob(batch), together, 1e-12)


@every_model
def test_step_by_step_equals_all_at_once_with_a_source_for_each(case):
    model, batch = case.model(), pairs().batch()
    terms, given = model.token_log_prob(batch), model.given(batch.source)
    state = given.initial_state(len(TARGETS))
    for t in range(batch.values.shape[1]):
        term = given.next_log_prob(state).gather(2, batch.values[:, t].expand(2, -1)[..., None])[..., 0]
        close(term.masked_fill(~batch.mask[:, t], 0.0), terms[:, :, t])
        state = given.advance(state, batch.values[:, t])


@every_model
def test_rows_of_a_state_can_be_put_in_another_order(case):
    model, batch = case.model(), pairs().batch()
    given, rows = model.given(batch.source), torch.tensor([2, 2, 0])
    state = given.advance(given.initial_state(4), torch.tensor([0, 1, 0, 1]))
    taken = given.take_rows(state, rows)
    close(given.next_log_prob(taken), given.next_log_prob(state)[:, rows], 1e-12)
    values = torch.tensor([0, 1, 1])
    full = given.next_log_prob(given.advance(state, torch.tensor([1, 0, 0, 0])))
    close(given.next_log_prob(given.advance(taken, values))[:, [0, 2]], torch.stack([full[:, 2], full[:, 0]], 1))


@every_model
def test_given_scores_a_data_set_as_the_pairs_do(case):
    model, data = case.model(), pairs()
    of_pairs = ps.evaluate(model, data).log_prob
    alone = ps.Sequences.from_list(TARGETS)
    np.testing.assert_allclose(
        ps.evaluate(model.given(data.source), alone, max_tokens=5).log_prob, of_pairs, atol=1e-12
    )
    one = ps.evaluate(model.given(ps.Sequences.from_list(SOURCES[2:3])), alone).log_prob
    np.testing.assert_allclose(one[:, 2], of_pairs[:, 2], atol=1e-12)


@pytest.mark.parametrize("number", [1, 3])
def test_sources_that_are_fixed_are_one_or_one_each(number):
    given = ps.Conditional.from_seed(lambda: ps.Seq2Seq(4, 3, hidden_dim=4)).given(ps.Sequences.from_list([[0], [1]]))
    with pytest.raises(ps.InputError, match=f"received {number} sequences and 2 sources; expected one source, or"):
        ps.evaluate(given, ps.Sequences.from_list([[0, 2]] * number))


@pytest.mark.parametrize(
    ("net", "model"),
    [
        (ps.HMMDecoder(4, 3, hidden_dim=4), "Conditional"),
        (ps.Seq2Seq(4, 3, hidden_dim=4), "Conditional"),
        (ps.GRU(3, hidden_dim=4), "Autoregressive"),
    ],
)
def test_a_network_alone_is_told_the_model_it_goes_into(net, model):
    name = type(net).__name__
    belongs = rf"a network is fitted with fit_gradient, as ps\.{model}\.from_seed\(lambda: ps\.{name}\(\.\.\.\)\)$"
    with pytest.raises(ps.InputError, match=f"^{name} has no E-step; {belongs}"):
        ps.em(net, pairs(), num_steps=1)
    with pytest.raises(ps.InputError, match=f"^received the {name} alone; {belongs}"):
        ps.fit_gradient(net, pairs(), num_steps=1)
    other = ps.Autoregressive if model == "Conditional" else ps.Conditional
    with pytest.raises(ps.InputError, match=f"^received {name}; expected a network such as .*; {belongs}"):
        other([net])


@every_model
def test_the_source_matters(case):
    model = sharp(case, 2)
    scores = [ps.evaluate(model.given(ps.Sequences.from_list([x])), ps.Sequences.from_list(TARGETS)) for x in SOURCES]
    for a, b in itertools.combinations(scores, 2):
        assert (np.abs(a.log_prob - b.log_prob).max(axis=1) > 1e-3).all()


@every_model
def test_a_beam_of_infinite_width_is_exhaustive(case):
    model, most, data = sharp(case), 5, all_that_end(5)
    given = model.given(ps.Sequences.from_list(SOURCES))
    for penalty in (0.0, 0.7):
        found = ps.beam_search(given, 3**most, most, END, num_best=6, length_penalty=penalty)
        for i, x in enumerate(SOURCES):
            log_prob = ps.evaluate(model.given(ps.Sequences.from_list([x])), ps.Sequences.from_list(data)).log_prob[0]
            score = log_prob / np.array([len(y) for y in data]) ** penalty
            which = [data.index(y.tolist()) for y in found.of(i).sequences]
            assert len(set(which)) == 6
            np.testing.assert_allclose(found.of(i).score, np.sort(score)[::-1][:6], atol=1e-10)
            np.testing.assert_allclose(found.of(i).score, score[which], atol=1e-10)  # equal ones in any order
            np.testing.assert_allclose(found.of(i).log_prob, log_prob[which], atol=1e-10)


@every_model
def test_a_narrow_beam_has_exact_probabilities_and_is_no_worse_than_the_greedy_choice(case):
    model = sharp(case)
    sources = ps.Sequences.from_list(SOURCES)
    found = ps.beam_search(model.given(sources), 2, 8, END, num_best=2)
    for i in range(len(SOURCES)):
        one, given = found.of(i), model.given(sources[[i]])
        np.testing.assert_allclose(one.log_prob, ps.evaluate(given, one.sequences).log_prob[0], atol=1e-10)
        greedy = ps.generate(given, max_length=8, temperature=0, stop=END)
        if greedy.stopped[0]:
            first = ps.beam_search(given, 1, 8, END)
            assert first.ended[0]
            assert first.log_prob[0] >= greedy.log_prob[0] - 1e-10


@every_model
def test_what_is_drawn_for_each_source_has_the_probability_that_is_said(case, generator):
    model, sources = case.model(1), ps.Sequences.from_list(SOURCES)
    drawn = ps.generate(model.given(sources), [0], 4, 6, temperature=0.7, top_k=2, stop=END, generator=generator)
    score = ps.evaluate(model.given(sources), drawn.sequences).log_prob[0]
    before = ps.evaluate(model.given(sources), ps.Sequences.from_list([[0]] * 4)).log_prob[0]
    np.testing.assert_allclose(drawn.log_prob, score - before, atol=1e-10)


@every_model
def test_the_empty_source_and_the_empty_target_are_the_end_symbol_alone(case):
    model = case.model()
    score = ps.evaluate(model, ps.Sequences.from_list([[END]], source=ps.Sequences.from_list([[3]])))
    assert (score.log_prob < 0).all()
    drawn = ps.generate(model.select(0).given(ps.Sequences.from_list([[3]])), num_sequences=3, max_length=5, stop=END)
    assert np.isfinite(drawn.log_prob).all()


@every_model
def test_a_source_of_2000_symbols(case):
    model = case.build(1, 0).eval()
    x, y = (np.append(np.random.default_rng(0).integers(0, end, 1999), end) for end in (3, END))
    data = ps.Sequences.from_list([y], source=ps.Sequences.from_list([x]))
    log_prob = model.token_log_prob(data.batch()).sum()
    log_prob.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    double = case.model(1).token_log_prob(data.batch()).sum()
    assert log_prob.item() == pytest.approx(double.item(), rel=1e-4)


@every_model
def test_symbols_that_no_training_pair_has_are_scored(case):
    """Symbol 1 of the target, and 1 and 2 of the source."""
    model = case.build(1, 0)
    source = ps.Sequences.from_list([[0, 0, 3]])
    seen = ps.Sequences.from_list([[0, 0, END]] * 20, source=source[[0] * 20])
    case.fit(model, seen, seen)
    assert np.isfinite(ps.evaluate(model, pairs()).log_prob).all()
    known, unseen = ps.evaluate(model.given(source), ps.Sequences.from_list([[0, 0, END], [0, 1, END]])).log_prob[0]
    assert unseen < known - 1
    found = ps.beam_search(model.given(pairs().source), 3, 8, END)
    assert np.isfinite(found.log_prob).all()


@every_model
def test_every_parameter_gets_a_gradient(case):
    model = case.model(1)
    model.token_log_prob(pairs().batch()).sum().backward()
    unused = {name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert unused == set()


@every_model
def test_saved_and_loaded_gives_the_same_numbers(case, tmp_path):
    model, batch = case.model(), pairs().batch()
    ps.save(model, tmp_path)
    loaded = ps.load(tmp_path)
    assert (type(loaded), loaded.config()) == (type(model), model.config())
    assert torch.equal(loaded.token_log_prob(batch), model.token_log_prob(batch))
    chosen = ps.select(loaded, 1)
    assert not chosen.training
    assert torch.equal(chosen.token_log_prob(batch), model.token_log_prob(batch)[1:])


def mapped(num, seed):
    """The target is what 0, 1 and 2 of the source are mapped to, 0, 1 and 1: a function of the source."""
    rng = np.random.default_rng(seed)
    sources = [rng.integers(0, 3, n) for n in rng.integers(1, 5, num)]
    targets = [[*np.minimum(x, 1), END] for x in sources]
    return ps.Sequences.from_list(targets, source=ps.Sequences.from_list([[*x, 3] for x in sources]))


@every_model
def test_the_fitted_model_beats_all_that_ignore_the_source(case):
    """Without the source each of n symbols costs log 2 nats at least, and their number about another nat."""
    model, train, test = case.build(1, 0), mapped(200, 0), mapped(100, 1)
    for _ in range(3):
        case.fit(model, train, mapped(50, 2))
    without = math.log(2) * (test.lengths - 1).mean()
    assert ps.evaluate(model, test).nats_per_sequence[0] < 0.8 * without


def test_what_cannot_be_a_source_is_refused():
    model = CONDITIONAL[0].model()
    target = [[0, END]]
    for source, sentence in (
        (None, "the data have no source"),
        ([[4]], "the source holds the symbol 4; expected 0 to 3"),
        ([[[0.5], [1.0]]], "the source holds vectors of 1 numbers; expected symbols 0 to 3"),
    ):
        data = ps.Sequences.from_list(target, source=None if source is None else ps.Sequences.from_list(source))
        with pytest.raises(ps.InputError, match=sentence):
            model.token_log_prob(data.batch())
    missing = ps.Sequences.from_list([[0, 3]], missing=[[True, False]])
    with pytest.raises(ps.InputError, match="the source has missing symbols"):
        model.given(missing)


def test_a_source_of_another_vocabulary_is_refused():
    model, data = CONDITIONAL[0].model(), pairs()
    for digest in ("one", "two"):
        data.source.vocabulary = digest
        if digest == "one":
            model.token_log_prob(data.batch())
            model = model.select(0)
            continue
        with pytest.raises(ps.InputError, match="the sources are of another vocabulary than the Conditional has seen"):
            model.token_log_prob(data.batch())


def test_sources_and_sequences_that_do_not_fit_are_refused():
    model = CONDITIONAL[0].model()
    with pytest.raises(ps.InputError, match=r"depends on a source that is not given; take model.given\(source\)"):
        model.select(0).sample(1, 3)
    given = model.given(ps.Sequences.from_list(SOURCES))
    with pytest.raises(ps.InputError, match="received 3 sequences and 4 sources; expected one source, or one each"):
        given.initial_state(3)
    with pytest.raises(ps.InputError, match="sequence 4 has no source: 4 were given"):
        given.token_log_prob(ps.Sequences.from_list([[0]] * 5).batch())


def test_networks_of_the_wrong_kind_are_refused():
    with pytest.raises(ps.InputError, match=r"received Seq2Seq; expected a network such as ps.LSTM\(27\)"):
        ps.Autoregressive([ps.Seq2Seq(4, 3, hidden_dim=4)])
    with pytest.raises(ps.InputError, match=r"received LSTM; expected a network such as ps.Seq2Seq"):
        ps.Conditional([ps.LSTM(3, hidden_dim=4)])


def test_a_saved_model_knows_the_vocabulary_of_its_sources(tmp_path):
    words = {name: ps.Vocabulary.build([text], "symbol", end=True) for name, text in (("x", "a b c"), ("y", "p q"))}
    model = CONDITIONAL[1].build(2, 0)
    ps.save(model, tmp_path, words["y"], source_vocabulary=words["x"])
    data = pairs()
    loaded = ps.load(tmp_path)
    assert loaded.source_vocabulary == loaded.select(1).source_vocabulary == words["x"].digest
    data.source.vocabulary = words["y"].digest
    with pytest.raises(ps.InputError, match="of another vocabulary"):
        loaded.token_log_prob(data.batch())
    ps.save(model, tmp_path, words["y"], source_vocabulary=words["y"])
    with pytest.raises(ps.InputError, match=r"source_vocabulary.json is corrupted: 3 symbols, not 4"):
        ps.load(tmp_path)


def test_a_fit_goes_on_with_the_same_sources_alone(tmp_path):
    def fit(sources, steps, **options):
        model = CONDITIONAL[0].build(1, 0)
        data = ps.Sequences.from_list(TARGETS, source=ps.Sequences.from_list(sources))
        ps.fit_gradient(model, data, num_steps=steps, patience=9, checkpoint=tmp_path, checkpoint_every=1, **options)
        return model.token_log_prob(data.batch())

    first = fit(SOURCES, 2)
    assert not torch.equal(fit(SOURCES, 4, resume=True), first)
    with pytest.raises(ps.InputError, match="of another training set"):
        fit([SOURCES[0], *SOURCES[:3]], 4, resume=True)


def test_given_of_one_source_repeats_it():
    model = CONDITIONAL[1].model()
    given = model.given(SOURCE)
    close(given.next_log_prob(given.initial_state(3)), given.next_log_prob(given.initial_state(1)).expand(-1, 3, -1))
