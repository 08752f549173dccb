"""Which model: held-out data, AIC and BIC, with the number of parameters that are really free."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fixed_model import Fixed

import probseq as ps
from probseq.errors import InputError

families = ps.emissions
MISSING = [[False] * 10, [False, False, False, True]]
DATA = ps.Sequences.from_list([[0, 0, 1, 1, 2, 2, 0, 0, 1, 1], [2, 2, 0, 0]], missing=MISSING)


def test_the_criteria_are_their_formulas() -> None:
    models = {K: ps.HMM(K, families.Categorical(3), num_restarts=4) for K in (1, 2, 3)}
    other = ps.Sequences.from_list([[0, 0, 1]])
    table = ps.model_choice(models, DATA, other)
    assert table.index.tolist() == [1, 2, 3]
    for K, model in models.items():
        value = ps.evaluate(model, DATA).elpd
        row, m = table.loc[K], K - 1 + K * (K - 1) + K * 2
        assert row["num_parameters"] == m
        assert row["restart"] == value.argmax()
        assert row["log_likelihood"] == pytest.approx(value.max())
        assert row["aic"] == pytest.approx(-2 * value.max() + 2 * m)
        assert row["bic"] == pytest.approx(-2 * value.max() + m * math.log(13)), "13 tokens were observed"
        expected = ps.evaluate(model, other).nats_per_token[value.argmax()]
        assert row["held_out_nats_per_token"] == pytest.approx(expected)
    assert "held_out_nats_per_token" not in ps.model_choice(models, DATA)


@pytest.mark.parametrize(
    ("emission", "options", "expected"),
    [
        (families.Categorical(4), {}, 2 + 6 + 9),
        (families.Categorical(4), {"emission_groups": [0, 1, 1]}, 2 + 6 + 6),
        (families.Categorical(4), {"transition_mask": ps.masks.left_to_right(3)}, 2 + 3 + 9),
        (families.Categorical(4), {"initial_mask": ps.masks.first_state(3)}, 0 + 6 + 9),
        (families.Categorical(4), {"fixed": ("transition",)}, 2 + 9),
        (families.Bernoulli(2), {}, 2 + 6 + 6),
        (families.Poisson(2), {}, 2 + 6 + 6),
        (families.Gaussian(2), {}, 2 + 6 + 12),
        (families.Gaussian(2, "full"), {}, 2 + 6 + 15),
        (families.Gaussian(2, "tied"), {}, 2 + 6 + 9),
        (families.Gaussian(2, "spherical"), {}, 2 + 6 + 9),
        (families.GaussianMixture(2, 2), {}, 2 + 6 + 3 * (1 + 8)),
    ],
)
def test_only_what_is_free_is_counted(emission, options, expected) -> None:
    assert ps.HMM(3, emission, num_restarts=2, **options).num_parameters == expected


def test_the_restart_is_the_one_that_fits_best_and_failed_ones_are_left_out() -> None:
    model = ps.HMM(2, families.Categorical(3), num_restarts=3)
    best = int(ps.evaluate(model, DATA).elpd.argmax())
    model.emission.logits.data[(best + 1) % 3] = torch.nan
    row = ps.model_choice({"one": model}, DATA, DATA).loc["one"]
    assert row["restart"] == best
    assert row["held_out_nats_per_token"] * 13 == pytest.approx(-row["log_likelihood"])


def test_aic_takes_more_states_than_bic_on_data_from_a_known_chain() -> None:
    truth = ps.HMM.from_parameters([0.5, 0.5], [[0.95, 0.05], [0.1, 0.9]], [[0.9, 0.1], [0.2, 0.8]])
    data = truth.simulate(20, 100, torch.Generator().manual_seed(0))
    plain = ps.Sequences.from_list([np.asarray(one) for one in data])
    fits = {K: ps.em(ps.HMM(K, families.Categorical(2), num_restarts=5), plain, num_steps=300) for K in (1, 2, 3)}
    table = ps.model_choice(fits, plain)
    assert table["bic"].idxmin() == 2
    assert table["log_likelihood"].is_monotonic_increasing


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="received models of nothing; expected at least one, all of one kind"):
        ps.model_choice({}, DATA)
    with pytest.raises(InputError, match="expected at least one, all of one kind"):
        ps.model_choice({1: Fixed([[-1.0]]), 2: Fixed([[-1.0, -1.0]])}, DATA)
    with pytest.raises(InputError, match="received a list; expected fits by label"):
        ps.model_choice([ps.HMM(2, families.Categorical(3))], DATA)
    draws = ps.PosteriorHMM(ps.HMM(2, families.Categorical(3), num_restarts=4), 2)
    with pytest.raises(InputError, match="2 is an average over draws from a posterior, which has no number of free"):
        ps.model_choice({2: draws}, DATA)
    bound = Fixed([[-1.0, -1.0, -1.0]], likelihood="lower bound")
    with pytest.raises(InputError, match="the likelihood of 1 is lower bound; expected an exact one"):
        ps.model_choice({1: bound}, DATA)
