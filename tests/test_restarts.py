"""The best restart, and how many of the others found it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fixed_model import Fixed

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.restarts import RestartSummary, best_restart, select

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


def test_none_is_at_best_where_all_failed():
    assert RestartSummary(0, np.array([NAN, NAN])).num_at_best() == 0


def test_select_gives_that_restart_alone():
    model = select(Fixed([[-1.0], [-2.0]]), 1)
    assert model.num_restarts == 1
    assert model.log_probs.tolist() == [[-2.0]]
