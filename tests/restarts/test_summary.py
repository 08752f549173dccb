"""The best restart, how many of the others found it, and what fewer of them would have."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from fixed_model import Fixed
from hypothesis import given
from hypothesis import strategies as st

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.restarts import TOLERANCE, RestartSummary, best_restart, expected_best, select
from probseq.restarts.summary import final_standard_error, final_values

DATA = Sequences.from_list([[0, 0], [0]])
INF, NAN = math.inf, math.nan


def summary(*nats):
    return best_restart(Fixed([[-one] for one in nats]), DATA)


@pytest.mark.parametrize(
    ("nats", "best"),
    [((3, 1, 2), 1), ((2, 1, 1), 1), ((INF, 5), 1), ((NAN, 5, 4), 2), ((INF, INF), 0), ((NAN, INF, 9), 2)],
)
def test_best_restart(nats, best):
    result = summary(*nats)
    assert result.best == best
    np.testing.assert_allclose(result.nats_per_token, nats)


def test_best_is_chosen_per_token_with_weights():
    data = Sequences.from_list([[0], [1]], weights=[1, 3])
    model = Fixed([[-1.0, -2.0], [-2.5, -1.0]])
    assert best_restart(model, data).best == 1
    assert best_restart(model, Sequences.from_list([[0], [0]])).best == 0


def test_hit_rate_counts_restarts_within_the_tolerance():
    result = summary(1.5, 1.0, 1.125, NAN, INF)
    assert [result.num_at_best(tolerance) for tolerance in (0, 0.125, 0.2, 0.5)] == [1, 2, 2, 3]
    assert result.hit_rate(0.5) == 0.6
    with pytest.raises(InputError, match=r"tolerance is -0\.1; expected 0 or more"):
        result.num_at_best(-0.1)


def test_to_have_found_the_best_means_one_thousandth_of_a_nat_unless_said_otherwise():
    assert TOLERANCE == 1e-3
    result = RestartSummary(0, np.array([1.0, 1.0 + 0.9e-3, 1.0 + 1.1e-3]))
    assert result.at_best().tolist() == [True, True, False]
    assert (result.num_at_best(), result.hit_rate()) == (2, 2 / 3)


def test_none_is_at_best_where_all_failed():
    failed = RestartSummary(0, np.array([NAN, NAN]))
    assert (failed.num_at_best(), failed.hit_rate(), failed.num_failed) == (0, 0.0, 2)
    assert math.isnan(failed.spread)
    assert failed.expected_best.tolist() == [INF, INF]


def test_the_spread_is_of_what_is_finite():
    assert summary(1.5, 1.0, NAN, 4.25, INF).spread == 3.25
    assert summary(1.5, NAN).spread == 0
    assert summary(1.5, NAN).num_failed == 1


VALUES = st.one_of(st.floats(-5, 5), st.sampled_from([1.0, INF, NAN]))


@given(st.lists(VALUES, min_size=1, max_size=7))
def test_the_best_of_r_runs_is_the_average_over_all_subsets(values):
    usable = [value if math.isfinite(value) else INF for value in values]
    for r, found in enumerate(expected_best(values), start=1):
        subsets = list(itertools.combinations(usable, r))
        expected = sum(min(one) for one in subsets) / len(subsets)
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_best_of_many_runs_has_no_overflow_and_never_gets_worse():
    values = np.random.default_rng(0).normal(size=3000)
    found = expected_best(values)
    assert found[0] == pytest.approx(values.mean())
    assert found[1] == pytest.approx(np.minimum.outer(values, values)[~np.eye(3000, dtype=bool)].mean())
    assert found[-1] == values.min()
    assert (np.diff(found) <= 1e-12).all()


@pytest.mark.parametrize("wrong", [[], [[1.0]]])
def test_the_best_of_nothing_is_refused(wrong):
    with pytest.raises(InputError, match=r"expected \(R,\): one for each restart"):
        expected_best(wrong)


def test_the_standard_error_is_that_of_what_counts():
    details = {"final": [-1.0], "final_standard_error": [0.5]}
    last, looks = np.array([[-3.0]]), np.array([1])
    fit = Fit(Fixed([[-1.0]]), "", last, ["max_steps"], 1.0, details=details)
    assert (final_values(fit).tolist(), final_standard_error(fit).tolist()) == ([1.0], [0.5])
    validated = Fit(Fixed([[-1.0]]), "", last, ["max_steps"], 1.0, looks, np.array([[-2.0]]), details)
    assert (final_values(validated).tolist(), final_standard_error(validated)) == ([2.0], None)


def test_select_gives_that_restart_alone():
    model = select(Fixed([[-1.0], [-2.0]]), 1)
    assert model.num_restarts == 1
    assert model.log_probs.tolist() == [[-2.0]]
