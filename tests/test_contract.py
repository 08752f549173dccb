"""The laws that every model obeys. A new model is one more row in `cases.py`."""

import copy
import math

import numpy as np
import pytest
import torch
from cases import CASES
from oracles import all_sequences, total_log_prob

import probseq as ps

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

RAGGED = [[0, 1, 2, 1, 0, 2], [2], [1, 1], [0, 0, 1, 2, 2, 2, 1, 0, 1], [2, 0, 1]]


def structured(num: int, seed: int, length: int = 24) -> ps.Sequences:
    """Symbols that mostly count up modulo 3: a unigram sees nothing in them."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([1, 2], p=[0.9, 0.1], size=(num, length))
    return ps.Sequences.from_list(np.cumsum(steps, axis=1) % 3)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_probabilities_of_all_sequences_sum_to_one(case, length):
    total = total_log_prob(case.model(), all_sequences(3, length)).exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-10, rtol=0)


def test_next_symbols_sum_to_one_after_any_prefix(case):
    model = case.model()
    prefixes = all_sequences(3, 3).batch().values
    state = model.initial_state(len(prefixes))
    for t in range(4):
        probs = model.next_log_prob(state).exp()
        assert probs.shape == (model.num_restarts, len(prefixes), 3)  # nothing but the vocabulary can be emitted
        torch.testing.assert_close(probs.sum(-1), torch.ones(probs.shape[:-1], dtype=probs.dtype), atol=1e-10, rtol=0)
        if t < 3:
            state = model.advance(state, prefixes[:, t])


def test_a_token_does_not_change_the_terms_before_it(case):
    model = case.model()
    x = [0, 1, 2, 1, 0, 2, 2, 1]
    for t in range(len(x)):
        changed = [*x[:t], (x[t] + 1) % 3, *x[t + 1 :]]
        terms = model.token_log_prob(ps.Sequences.from_list([x, changed]).batch())
        torch.testing.assert_close(terms[:, 0, :t], terms[:, 1, :t], atol=1e-12, rtol=0)


def test_padding_order_and_batching_do_not_matter(case):
    model, data = case.model(), ps.Sequences.from_list(RAGGED)
    together = model.token_log_prob(data.batch())
    for i in range(len(data)):
        alone = model.token_log_prob(data.batch(np.array([i])))[:, 0]
        torch.testing.assert_close(together[:, i, : alone.shape[1]], alone, atol=1e-12, rtol=0)
        assert (together[:, i, alone.shape[1] :] == 0).all()
    reverse = model.token_log_prob(data.batch(np.arange(len(data))[::-1].copy()))
    torch.testing.assert_close(together, reverse.flip(1), atol=1e-12, rtol=0)
    small = ps.evaluate(model, data, max_tokens=6).log_prob
    np.testing.assert_allclose(small, together.sum(-1).detach().numpy(), atol=1e-12)


def test_what_stands_in_the_padding_does_not_matter(case):
    model, batch = case.model(), ps.Sequences.from_list(RAGGED).batch()
    batch.values[~batch.mask] = 2
    expected = model.token_log_prob(ps.Sequences.from_list(RAGGED).batch())
    torch.testing.assert_close(model.token_log_prob(batch), expected, atol=1e-12, rtol=0)


def test_step_by_step_equals_all_at_once(case):
    model, batch = case.model(), ps.Sequences.from_list([RAGGED[0], RAGGED[0][::-1]]).batch()
    terms, state = model.token_log_prob(batch), model.initial_state(2)
    for t in range(batch.values.shape[1]):
        step = model.next_log_prob(state)[:, torch.arange(2), batch.values[:, t]]
        torch.testing.assert_close(step, terms[:, :, t], atol=1e-10, rtol=0)
        state = model.advance(state, batch.values[:, t])


def test_samples_have_the_entropy_that_the_model_claims(case, generator):
    model = case.model().select(0)
    log_prob = total_log_prob(model, all_sequences(3, 4))[0]
    entropy = -(log_prob.exp() * log_prob).sum()
    drawn = -total_log_prob(model, model.sample(2000, 4, generator=generator))[0]
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(drawn.mean() - entropy) <= 4 * error + 1e-9
    frequency = np.zeros((3,) * 4)
    np.add.at(frequency, tuple(model.sample(2000, 4, generator=generator).batch().values.T.numpy()), 1 / 2000)
    expected = log_prob.exp().detach().numpy()
    assert np.abs(frequency.ravel() - expected).max() <= 5 * np.sqrt(expected.max() / 2000)


def test_samples_begin_with_the_prefix_and_follow_from_it(case, generator):
    model = case.model().select(0)
    drawn = model.sample(3000, 3, prefix=[2, 1], generator=generator)
    values = drawn.batch().values
    assert (values[:, :2] == torch.tensor([2, 1])).all()
    continued = ps.Sequences.from_list([[2, 1, v] for v in range(3)])
    expected = model.token_log_prob(continued.batch())[0, :, 2].exp()
    frequency = torch.bincount(values[:, 2], minlength=3) / 3000
    assert (frequency - expected).abs().max() <= 5 * 0.5 / math.sqrt(3000)


def test_every_parameter_gets_a_gradient(case):
    model = case.model()
    parameters = dict(model.named_parameters())
    if not parameters:
        pytest.skip("counts are not parameters of a gradient")
    model.token_log_prob(ps.Sequences.from_list(RAGGED).batch()).sum().backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_saved_and_loaded_gives_the_same_numbers(case, tmp_path):
    model, batch = case.model(), ps.Sequences.from_list(RAGGED).batch()
    ps.save(model, tmp_path / "model")
    loaded = ps.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.num_parameters == model.num_parameters
    assert torch.equal(loaded.token_log_prob(batch), model.token_log_prob(batch))


def test_single_precision_is_close_to_double(case):
    model, batch = case.model(), ps.Sequences.from_list(RAGGED).batch()
    single = copy.deepcopy(model).float().token_log_prob(batch)
    torch.testing.assert_close(single.double(), model.token_log_prob(batch), atol=2e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_numbers_of_the_cpu(case):
    model, batch = case.model(), ps.Sequences.from_list(RAGGED).batch()
    expected = model.token_log_prob(batch)
    torch.testing.assert_close(model.cuda().token_log_prob(batch.to("cuda")).cpu(), expected, atol=1e-10, rtol=0)


def test_a_restart_depends_on_seed_and_number_alone(case):
    if not case.restarts:
        pytest.skip("one restart only")
    few, many = case.model(num_restarts=2, seed=3), case.model(num_restarts=4, seed=3)
    batch = ps.Sequences.from_list(RAGGED).batch()
    assert torch.equal(few.token_log_prob(batch), many.token_log_prob(batch)[:2])
    assert not torch.allclose(many.token_log_prob(batch)[2], many.token_log_prob(batch)[3])
    assert not torch.allclose(case.model(seed=4).token_log_prob(batch), few.token_log_prob(batch))


def test_restarts_fitted_together_equal_lone_fits(case):
    if not case.restarts:
        pytest.skip("one restart only")
    train, validation = structured(40, 0), structured(10, 1)
    start = case.model(num_restarts=3)
    lone = [copy.deepcopy(start.select(r)) for r in range(3)]
    together = case.fit(start, train, validation)
    batch = validation.batch()
    for r, model in enumerate(lone):
        fit = case.fit(model, train, validation)
        assert fit.stop_reason == [together.stop_reason[r]]
        steps = fit.num_steps[0]
        np.testing.assert_allclose(fit.history[:, 0], together.history[:steps, r], atol=1e-10)
        torch.testing.assert_close(
            model.token_log_prob(batch)[0], together.model.token_log_prob(batch)[r], atol=1e-9, rtol=0
        )


def test_the_fitted_model_beats_the_unigram(case):
    if case.baseline:
        pytest.skip("a baseline")
    train, validation, test = structured(60, 0), structured(20, 1), structured(20, 2)
    unigram = ps.Unigram(3)
    ps.fit_counts(unigram, train)
    model = case.model(num_restarts=2)
    case.fit(model, train, validation)
    best = ps.evaluate(model, test).nats_per_token.min()
    assert best < ps.evaluate(unigram, test).nats_per_token[0] - 0.3


def test_fitting_improves_the_objective(case):
    model = case.model()
    fit = case.fit(model, structured(40, 0), structured(10, 1))
    assert np.isfinite(fit.history[0]).all()
    for r in range(model.num_restarts):
        curve = fit.history[: fit.num_steps[r], r]
        if isinstance(model, ps.HMM):
            assert (np.diff(curve) >= -1e-9).all()
        assert curve[-1] >= curve[0] if len(curve) == 1 else curve[-1] > curve[0]


def test_symbols_outside_the_vocabulary_are_refused(case):
    with pytest.raises(ps.InputError, match=r"symbol 3 .*3 symbols.*encode"):
        case.model().token_log_prob(ps.Sequences.from_list([[0, 3]]).batch())
    with pytest.raises(ps.InputError, match="symbols"):
        case.model().token_log_prob(ps.Sequences.from_list([np.zeros((4, 2))]).batch())


def test_bad_requests_are_refused(case):
    model = case.model()
    with pytest.raises(ps.InputError, match="restart"):
        model.select(model.num_restarts)
    if model.num_restarts > 1:
        with pytest.raises(ps.InputError, match="select one first"):
            model.sample(1, 3)
    one = model.select(0)
    with pytest.raises(ps.InputError, match="prefix"):
        one.sample(1, 3, prefix=[7])
    with pytest.raises(ps.InputError, match="max_length"):
        one.sample(1, 0)


def test_fitting_nothing_is_refused(case):
    empty = ps.Sequences(np.zeros(0, np.int64), np.zeros(1))
    with pytest.raises(ps.InputError, match=r"no sequences|at least one sequence|empty"):
        case.fit(case.model(), empty, empty)


def test_the_contract_holds_structurally(case):
    assert isinstance(case.model(), ps.SequenceModel)
    assert case.model().likelihood in ("exact", "lower bound", "estimate")
