"""`evaluate` and `Score`: the right numbers, in the right order, called by their right names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fixed_model import Fixed

import probseq as ps
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.evaluate import evaluate, standard_error_of_rate, standard_error_of_sum
from probseq.ops.particles import Estimate

INF = math.inf
ROWS = [[0], [0, 1, 1], [1, 0], [1, 1, 1, 1, 0], [0, 0, 0]]


def ragged(weights=None):
    return Sequences.from_list(ROWS, weights)


@pytest.mark.parametrize("max_tokens", [1, 4, 7, 1000])
def test_results_are_in_data_order_whatever_the_batches(max_tokens):
    table = np.array([[-0.5, -2.0], [-1.0, -0.25]])
    score = evaluate(Fixed(table.tolist()), ragged(), max_tokens=max_tokens)
    np.testing.assert_allclose(score.log_prob, [[one[row].sum() for row in ROWS] for one in table], rtol=1e-15)
    assert score.num_tokens.tolist() == [1, 3, 2, 5, 3]
    assert score.standard_error is None


def test_numbers_per_token_by_hand():
    score = evaluate(Fixed([[-1.0, -3.0]]), ragged(weights=[1, 2, 1, 1, 3]))
    tokens, elpd = 1 + 2 * 3 + 2 + 5 + 3 * 3, -(1 + 2 * 7 + 4 + 13 + 3 * 3)
    assert score.total_tokens == tokens
    assert score.elpd.tolist() == [elpd]
    assert score.nats_per_token[0] == pytest.approx(-elpd / tokens)
    assert score.bits_per_token[0] == pytest.approx(-elpd / tokens / math.log(2))
    assert score.perplexity[0] == pytest.approx(math.exp(-elpd / tokens))


def test_a_weight_is_a_number_of_repeats():
    weighted = evaluate(Fixed([[-1.0, -3.0]]), ragged(weights=[1, 2, 1, 1, 3]))
    repeated = evaluate(Fixed([[-1.0, -3.0]]), ragged()[[0, 1, 1, 2, 3, 4, 4, 4]])
    for name in ("elpd", "se", "nats_per_token", "nats_per_token_se"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-14)


def test_standard_error_is_that_of_arviz():
    values = np.array([-3.0, -1.0, -7.5, -2.0])
    assert standard_error_of_sum(values, np.ones(4)) == pytest.approx(math.sqrt(4 * np.var(values)))


def test_standard_error_covers_the_sum():
    rng = np.random.default_rng(0)
    draws = rng.gamma(2.0, size=(4000, 50))
    claimed = np.mean([standard_error_of_sum(one, np.ones(50)) for one in draws])
    assert claimed == pytest.approx(draws.sum(axis=1).std(), rel=0.05)


def test_error_of_a_rate_covers_the_rate_whatever_the_lengths():
    rng = np.random.default_rng(0)
    lengths = rng.integers(60, 160, size=(2000, 40))
    values = lengths * rng.normal(-3.0, 0.1, size=lengths.shape)
    ones = np.ones(40)
    claimed = np.mean([standard_error_of_rate(v, n, ones) for v, n in zip(values, lengths, strict=True)])
    rates = values.sum(axis=1) / lengths.sum(axis=1)
    assert claimed == pytest.approx(rates.std(), rel=0.05)
    by_sum = np.mean([standard_error_of_sum(v, ones) / n.sum() for v, n in zip(values, lengths, strict=True)])
    assert by_sum > 5 * claimed


def test_error_of_a_rate_is_that_of_the_sum_where_lengths_are_equal():
    values, weights = np.array([-3.0, -1.0, -7.5, -2.0]), np.array([1.0, 2.0, 1.0, 3.0])
    error = standard_error_of_rate(values, np.full(4, 6), weights)
    assert error == pytest.approx(standard_error_of_sum(values, weights) / (7 * 6), rel=1e-12)
    assert math.isnan(standard_error_of_rate(values[:1], np.array([6]), weights[:1]))
    assert standard_error_of_rate(np.array([-1.0, -INF]), np.array([1, 2]), np.ones(2)) == INF


def test_a_bound_has_no_perplexity():
    exact, bound = (evaluate(Fixed([[-1.0, -1.0]], kind), ragged()) for kind in ("exact", "lower bound"))
    assert exact.perplexity[0] == pytest.approx(math.e)
    assert np.isnan(bound.perplexity).all()
    assert bound.nats_per_token[0] == pytest.approx(1)


def test_a_density_has_bits_and_no_perplexity():
    score = evaluate(Fixed([[1.0, 1.0]], support=("reals", 1)), ragged())
    assert score.density
    assert score.nats_per_token[0] == pytest.approx(-1)  # a density may be above 1
    assert score.bits_per_token[0] == pytest.approx(-1 / math.log(2))
    assert np.isnan(score.perplexity).all()
    counts = evaluate(Fixed([[-1.0, -1.0]], support=("counts", 1)), ragged())
    assert not counts.density
    assert counts.perplexity[0] == pytest.approx(math.e)


def test_missing_tokens_score_nothing_and_are_not_counted():
    data = Sequences.from_list(ROWS[1:3], weights=[2, 1], missing=[[False, True, False], [True, True]])
    score = evaluate(Fixed([[-1.0, -3.0]]), data)
    assert score.num_tokens.tolist() == [2, 0]
    assert score.log_prob.tolist() == [[-4, 0]]
    assert score.total_tokens == 4
    assert score.nats_per_token[0] == pytest.approx(2)


def test_nothing_observed_is_an_error():
    with pytest.raises(InputError, match="every token of data is missing"):
        evaluate(Fixed([[-1.0, -3.0]]), Sequences.from_list([[0, 1]], missing=[[True, True]]))


def test_impossible_sequences_are_infinite_never_nan():
    score = evaluate(Fixed([[-1.0, -INF], [-1.0, -1.0]]), ragged())
    assert score.log_prob[0].tolist() == [-1, -INF, -INF, -INF, -3]
    assert score.nats_per_token.tolist() == [INF, 1]
    assert score.perplexity[0] == INF
    assert score.se[0] == INF


def test_sums_are_in_float64():
    data = Sequences(np.zeros(200_000, dtype=np.uint8), np.array([0, 200_000]))
    score = evaluate(Fixed([[-0.1]], dtype=torch.float32), data)
    assert score.log_prob[0, 0] == pytest.approx(-200_000 * float(np.float32(0.1)), rel=1e-12)


def test_one_failed_restart_keeps_its_nan_and_harms_no_other():
    score = evaluate(Fixed([[math.nan, -1.0], [-1.0, -1.0]]), ragged())
    assert np.isnan(score.nats_per_token[0])
    assert score.nats_per_token[1] == 1


def test_nan_everywhere_is_an_error():
    with pytest.raises(InputError, match="sequence 1 under restart 0 is NaN"):
        evaluate(Fixed([[-1.0, math.nan]]), ragged())


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_restored_and_no_gradient_is_kept(training):
    model = Fixed([[-1.0, -2.0]]).train(training)
    model.dropout.eval()
    model.log_probs.requires_grad_()
    evaluate(model, ragged())
    assert (model.training, model.dropout.training) == (training, False)
    model.train()  # with dropout on, half of the terms would be 0 and the others doubled
    assert evaluate(model, ragged()).elpd[0] == -1 - 5 - 3 - 9 - 3
    assert model.dropout.training


def test_modes_are_restored_after_an_error():
    model = Fixed([[-1.0, -2.0]]).train()
    with pytest.raises(IndexError):
        evaluate(model, Sequences.from_list([[2]]))
    assert model.training


class _Estimate(Fixed):
    """Two replicates, a tenth of the length above and below."""

    drift = 0.001
    in_common = False  # whether all sequences share random numbers

    def estimate(self, batch):
        lengths = batch.lengths.expand(self.num_restarts, -1)
        terms, side = self.token_log_prob(batch) / 2, torch.tensor([-1.0, 1.0])[:, None]
        replicates = terms.sum(dim=-1)[:, None] + side * lengths[:, None] / 10
        return Estimate(terms, lengths / 10, lengths * self.drift, replicates, batch.index * (not self.in_common))


def test_an_estimate_carries_its_monte_carlo_error_and_its_drift():
    score = evaluate(_Estimate([[-1.0, -1.0]], "estimate"), ragged(weights=[1, 2, 1, 1, 1]), max_tokens=4)
    assert score.nats_per_token[0] == 0.5  # one pass gives everything
    np.testing.assert_allclose(score.standard_error, [[0.1, 0.3, 0.2, 0.5, 0.3]])
    expected = math.sqrt(0.1**2 + 0.6**2 + 0.2**2 + 0.5**2 + 0.3**2) / 17
    assert score.monte_carlo_error[0] == pytest.approx(expected)
    assert score.elpd_error[0] == pytest.approx(17 * expected)
    assert score.drift_per_token[0] == pytest.approx(0.001)
    for number in ("monte_carlo_error", "drift_per_token"):
        assert np.isnan(getattr(evaluate(Fixed([[-1.0, -1.0]], "estimate"), ragged()), number)[0])  # not offered
        assert getattr(evaluate(Fixed([[-1.0, -1.0]]), ragged()), number)[0] == 0


def test_sequences_that_share_random_numbers_deviate_together():
    model = _Estimate([[-1.0, -1.0]], "estimate")
    model.in_common = True
    score = evaluate(model, ragged(weights=[1, 2, 1, 1, 1]), max_tokens=4)  # batch by batch
    assert score.monte_carlo_error[0] == pytest.approx((0.1 + 0.6 + 0.2 + 0.5 + 0.3) / 17)


def test_the_error_of_a_lone_replicate_is_unknown_and_of_a_lost_one_infinite():
    class Replicates(_Estimate):
        def estimate(self, batch):
            found = super().estimate(batch)
            return found._replace(replicates=self.change(found.replicates))

    model = Replicates([[-1.0, -1.0]], "estimate")
    for model.change, error in (
        (lambda each: each[:, :1], math.nan),
        (lambda each: each.index_fill(1, torch.tensor([0]), -INF), INF),
        (lambda each: torch.full_like(each, -INF), 0.0),  # impossible, and that for certain
    ):
        np.testing.assert_equal(evaluate(model, ragged()).elpd_error, [error])


def test_a_large_drift_is_warned_of():
    model = _Estimate([[-1.0, -1.0], [-1.0, -1.0]], "estimate")
    model.drift = torch.tensor([[0.009], [0.012]])
    with pytest.warns(UserWarning, match=r"rises by 0\.012 nats per token with more particles.*num_particles"):
        score = evaluate(model, ragged())
    np.testing.assert_allclose(score.drift_per_token, [0.009, 0.012])


@pytest.mark.parametrize(
    ("data", "sentence"), [([[0, 1]], "data holds a list"), (Sequences.from_list([]), "data holds no sequences")]
)
def test_bad_data(data, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate(Fixed([[-1.0, -1.0]]), data)


def test_a_fit_is_evaluated_as_its_model():
    data = Sequences.from_list([[0, 1, 1], [1, 0]])
    fit = ps.em(ps.HMM(2, ps.emissions.Categorical(2)), data, num_steps=2)
    np.testing.assert_array_equal(evaluate(fit, data).log_prob, evaluate(fit.model, data).log_prob)
    with pytest.raises(InputError, match="received a Sequences to evaluate; expected a model or a Fit"):
        evaluate(data, fit)
