"""The laws that every model obeys. A new model is one more row in `cases.py`."""

import copy
import math

import numpy as np
import pytest
import torch
from cases import CASES
from oracles import features, monte_carlo_error, next_term, total_log_prob

import probseq as ps

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_probabilities_of_all_sequences_sum_to_one(case, length):
    if length > case.kind.length:
        pytest.skip("too many sequences; the next law has those after any prefix")
    total = total_log_prob(case.model(), case.kind.all_sequences(length)).exp().sum(dim=1) * case.kind.cell**length
    close(total, torch.ones_like(total))


def test_next_observations_sum_to_one_after_any_prefix(case):
    model, kind = case.model(), case.kind
    for x in kind.ragged():
        terms = model.token_log_prob(kind.completed(x, len(x)).batch())[:, :, len(x)]
        total = terms.exp().sum(dim=1) * kind.cell
        close(total, torch.ones_like(total))


def test_nothing_but_the_vocabulary_can_be_emitted(case):
    model, state = case.model(), case.model().initial_state(4)
    if not case.kind.symbolic:
        with pytest.raises(ps.InputError, match="only a model of symbols"):
            model.next_log_prob(state)
        return
    for x in case.kind.ragged()[0]:
        probs = model.next_log_prob(state).exp()
        assert probs.shape == (model.num_restarts, 4, 3)
        close(probs.sum(-1), torch.ones_like(probs.sum(-1)))
        state = model.advance(state, torch.full((4,), int(x)))


def test_a_token_does_not_change_the_terms_before_it(case):
    model, x = case.model(), case.kind.ragged()[3]
    for t in range(len(x)):
        changed = case.kind.completed(x, t)[:: 1 + len(case.kind.points) // 50]
        terms = model.token_log_prob(changed.batch())[:, :, :t]
        close(terms, terms[:, :1].expand_as(terms), 1e-12)


def test_padding_order_and_batching_do_not_matter(case):
    model, data = case.model(), case.kind.ragged()
    together = model.token_log_prob(data.batch())
    for i in range(len(data)):
        alone = model.token_log_prob(data.batch(np.array([i])))[:, 0]
        close(together[:, i, : alone.shape[1]], alone, 1e-12)
        assert (together[:, i, alone.shape[1] :] == 0).all()
    reverse = model.token_log_prob(data.batch(np.arange(len(data))[::-1].copy()))
    close(together, reverse.flip(1), 1e-12)
    small = ps.evaluate(model, data, max_tokens=6).log_prob
    np.testing.assert_allclose(small, together.sum(-1).detach().numpy(), atol=1e-12)


def test_what_stands_in_the_padding_does_not_matter(case):
    model, batch = case.model(), case.kind.ragged().batch()
    batch.values[~batch.mask] = 1
    close(model.token_log_prob(batch), model.token_log_prob(case.kind.ragged().batch()), 1e-12)


def test_step_by_step_equals_all_at_once(case):
    model, x = case.model(), case.kind.ragged()[0]
    batch = ps.Sequences.from_list([x, x[::-1]]).batch()
    terms, state = model.token_log_prob(batch), model.initial_state(2)
    for t in range(len(x)):
        close(next_term(model, state, batch.values[:, t]), terms[:, :, t])
        state = model.advance(state, batch.values[:, t])


def test_a_whole_prefix_leaves_the_state_of_its_steps(case):
    model, x = case.model(), case.kind.ragged()[0]
    batch = ps.Sequences.from_list([x, x[::-1]]).batch()
    terms = model.token_log_prob(batch)
    for t in range(1, len(x)):
        close(next_term(model, model.state_after(batch.values[:, :t]), batch.values[:, t]), terms[:, :, t])


def test_samples_have_the_distribution_that_the_model_claims(case, generator):
    """Entropy, moments of every step and of neighbors: by a sum over all sequences, and from draws."""
    model, kind = case.model().select(0), case.kind
    everything = kind.all_sequences(kind.length)
    probs = total_log_prob(model, everything)[0].exp() * kind.cell**kind.length
    expected = probs @ features(model, everything)
    drawn = features(model, model.sample(3000, kind.length, generator=generator))
    error = drawn.std(dim=0) / math.sqrt(len(drawn))
    assert ((drawn.mean(dim=0) - expected).abs() <= 5 * error + 1e-9).all()


def test_samples_begin_with_the_prefix_and_follow_from_it(case, generator):
    model, kind = case.model().select(0), case.kind
    prefix = kind.ragged()[0][:2]
    drawn = model.sample(3000, 3, prefix=prefix, generator=generator).batch().values
    assert (drawn[:, :2] == torch.from_numpy(prefix)).all()
    continued = kind.completed(prefix, 2)
    probs = model.token_log_prob(continued.batch())[0, :, 2].exp() * kind.cell
    expected = probs @ features(model, continued)
    found = features(model, ps.Sequences.from_list(drawn.numpy()))
    error = found.std(dim=0) / math.sqrt(len(found))
    assert ((found.mean(dim=0) - expected).abs() <= 5 * error + 1e-9).all()


def test_what_is_missing_is_summed_out(case):
    """Every term is that of the marginal distribution, and so a step of which nothing was observed scores 0.

    An estimate of the whole is not the sum of the estimates of its parts, but as near as its standard error says.
    """
    model, x = case.model(), case.kind.ragged()[0]
    for step in range(len(x)):
        for data, filled, cell in case.kind.gaps(x, step):
            if not case.gaps:
                with pytest.raises(ps.InputError, match=r"missing observations.*take an HMM"):
                    model.token_log_prob(data.batch())
                continue
            terms = model.token_log_prob(data.batch())[:, 0]
            totals = model.token_log_prob(filled.batch()).cumsum(-1)  # (R, M, T)
            marginal = totals.logsumexp(dim=1) + math.log(cell)
            error = monte_carlo_error(model, data) + monte_carlo_error(model, filled)
            close(terms.cumsum(-1)[:, step:], marginal[:, step:], 1e-10 + 4 * error)
            if data.num_observed.sum() < len(x):
                close(terms[:, step], torch.zeros_like(terms[:, step]), 1e-12)


def test_every_parameter_gets_a_gradient(case):
    model = case.model()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        pytest.skip("counts are not parameters of a gradient")
    model.token_log_prob(case.kind.ragged().batch()).sum().backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_saved_and_loaded_gives_the_same_numbers(case, tmp_path):
    model, batch = case.model(), case.kind.ragged().batch()
    ps.save(model, tmp_path / "model")
    loaded = ps.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.support == model.support == case.kind.support
    assert loaded.num_parameters == model.num_parameters
    assert torch.equal(loaded.token_log_prob(batch), model.token_log_prob(batch))


def test_single_precision_is_close_to_double(case):
    model, batch = case.model(), case.kind.ragged().batch()
    single = copy.deepcopy(model).float().token_log_prob(batch)
    close(single.double(), model.token_log_prob(batch), 2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_numbers_of_the_cpu(case):
    model, batch = case.model(), case.kind.ragged().batch()
    expected = model.token_log_prob(batch)
    close(model.cuda().token_log_prob(batch.to("cuda")).cpu(), expected)


def test_a_restart_depends_on_seed_and_number_alone(case):
    if not case.restarts:
        pytest.skip("one restart only")
    few, many = case.model(num_restarts=2, seed=3), case.model(num_restarts=4, seed=3)
    batch = case.kind.ragged().batch()
    assert torch.equal(few.token_log_prob(batch), many.token_log_prob(batch)[:2])
    assert not torch.allclose(many.token_log_prob(batch)[2], many.token_log_prob(batch)[3])
    assert not torch.allclose(case.model(seed=4).token_log_prob(batch), few.token_log_prob(batch))


def test_restarts_fitted_together_equal_lone_fits(case):
    if not case.restarts:
        pytest.skip("one restart only")
    train, validation = case.kind.structured(40, 0), case.kind.structured(10, 1)
    start = case.model(num_restarts=3)
    lone = [copy.deepcopy(start.select(r)) for r in range(3)]
    together = case.fit(start, train, validation)
    batch = validation.batch()
    for r, model in enumerate(lone):
        fit = case.fit(model, train, validation)
        assert fit.stop_reason == [together.stop_reason[r]]
        steps = fit.num_steps[0]
        np.testing.assert_allclose(fit.history[:, 0], together.history[:steps, r], atol=1e-10)
        close(model.token_log_prob(batch)[0], together.model.token_log_prob(batch)[r], 1e-9)


def test_the_fitted_model_beats_all_that_ignore_the_order(case):
    if case.baseline:
        pytest.skip("a baseline")
    train, validation, test = (case.kind.structured(size, seed) for seed, size in enumerate((60, 20, 20)))
    model = case.model(num_restarts=2)
    case.fit(model, train, validation)
    best = ps.evaluate(model, test).nats_per_token.min()
    assert best < case.kind.nats_without_order(test) - 0.3


def test_fitting_improves_the_objective(case):
    model = case.model()
    fit = case.fit(model, case.kind.structured(40, 0), case.kind.structured(10, 1))
    assert np.isfinite(fit.history[0]).all()
    for r in range(model.num_restarts):
        curve = fit.history[: fit.num_steps[r], r]
        if isinstance(model, ps.HMM) and not isinstance(model, ps.BayesianHMM):  # its objective is an estimate
            assert (np.diff(curve) >= -1e-9).all()
        assert curve[-1] >= curve[0] if len(curve) == 1 else curve[-1] > curve[0]


def test_observations_outside_the_support_are_refused(case):
    for x, sentence in case.kind.outside:
        with pytest.raises(ps.InputError, match=sentence):
            case.model().token_log_prob(ps.Sequences.from_list([x]).batch())
        with pytest.raises(ps.InputError, match=f"prefix .*{sentence}"):
            case.model().select(0).sample(1, 9, prefix=x)


def test_bad_requests_are_refused(case):
    model = case.model()
    with pytest.raises(ps.InputError, match="restart"):
        model.select(model.num_restarts)
    if model.num_restarts > 1:
        with pytest.raises(ps.InputError, match="select one first"):
            model.sample(1, 3)
    one = model.select(0)
    with pytest.raises(ps.InputError, match="prefix"):
        one.sample(1, 3, prefix=case.kind.ragged()[0])
    with pytest.raises(ps.InputError, match="max_length"):
        one.sample(1, 0)


def test_one_restart_remembers_the_vocabulary_of_all(case):
    model = case.model()
    model.vocabulary = "a digest"
    assert model.select(0).vocabulary == "a digest"


def test_fitting_nothing_is_refused(case):
    empty = ps.Sequences(case.kind.points[:0].numpy(), np.zeros(1, np.int64))
    with pytest.raises(ps.InputError, match=r"no sequences|at least one sequence|empty"):
        case.fit(case.model(), empty, empty)


def test_the_contract_holds_structurally(case):
    assert isinstance(case.model(), ps.SequenceModel)
    assert case.model().likelihood in ("exact", "lower bound", "estimate")
