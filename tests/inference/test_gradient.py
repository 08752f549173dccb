import copy
import math

import numpy as np
import pytest
import torch

import probseq as ps


def counting(num=60, length=24, seed=0):
    """Symbols that mostly count up modulo 4."""
    steps = np.random.default_rng(seed).choice([1, 2], p=[0.9, 0.1], size=(num, length))
    return ps.Sequences.from_list(np.cumsum(steps, axis=1) % 4)


def lstm(restarts=2, seed=0, **options):
    return ps.Autoregressive.from_seed(lambda: ps.LSTM(4, hidden_dim=8, **options), restarts, seed)


SHORT = {"num_steps": 40, "batch_size": 16, "learning_rate": 0.02, "warmup_steps": 5, "eval_every": 10}


def test_the_same_fit_twice_is_the_same():
    fits = [ps.fit_gradient(lstm(dropout=0.2), counting(), counting(seed=1), **SHORT) for _ in range(2)]
    assert np.array_equal(fits[0].history, fits[1].history)
    assert np.array_equal(fits[0].validation, fits[1].validation)


def test_seed_changes_the_order_of_batches():
    first, second = (ps.fit_gradient(lstm(), counting(), seed=s, **SHORT).history for s in (0, 1))
    assert not np.array_equal(first, second)


def test_dropout_noise_does_not_depend_on_the_number_of_restarts():
    many, one = lstm(3, dropout=0.3), lstm(3, dropout=0.3).select(2)
    together = ps.fit_gradient(many, counting(), **SHORT)
    alone = ps.fit_gradient(one, counting(), **SHORT)
    np.testing.assert_allclose(alone.history[:, 0], together.history[:, 2], atol=1e-7)


def test_restarts_side_by_side_equal_restarts_in_turn(monkeypatch):
    histories = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        histories.append(ps.fit_gradient(lstm(3), counting(), counting(seed=1), **SHORT).history)
    np.testing.assert_allclose(histories[0], histories[1], atol=1e-6)


def test_fitting_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    ps.fit_gradient(lstm(dropout=0.3), counting(), **SHORT)
    assert torch.equal(before, torch.get_rng_state())


def test_best_weights_are_restored():
    train, validation = counting(4), counting(40, seed=1)  # too little data: it overfits
    model = lstm(2)
    fit = ps.fit_gradient(
        model, train, validation, num_steps=400, batch_size=4, learning_rate=0.05, eval_every=20, patience=4
    )
    assert "early_stopping" in fit.stop_reason
    reached = -ps.evaluate(model, validation).nats_per_token
    np.testing.assert_allclose(reached, np.nanmax(fit.validation, axis=0), atol=1e-5)
    assert (reached > fit.validation[-1][np.isfinite(fit.validation[-1])].min() + 1e-3).any()


def test_patience_is_counted_for_each_restart():
    fit = ps.fit_gradient(
        lstm(3), counting(4), counting(40, seed=1), num_steps=600, batch_size=4, learning_rate=0.05, eval_every=20,
        patience=3,
    )  # fmt: skip
    assert "early_stopping" in fit.stop_reason
    for r, why in enumerate(fit.stop_reason):
        curve = fit.validation[:, r][np.isfinite(fit.validation[:, r])]
        if why == "early_stopping":
            assert len(curve) - 1 - int(np.argmax(curve)) == 3


def test_without_validation_the_last_weights_stay():
    fit = ps.fit_gradient(lstm(), counting(), **SHORT)
    assert fit.validation is None
    assert fit.stop_reason == ["max_steps"] * 2


def test_a_restart_that_turns_nonfinite_harms_no_other():
    model = lstm(3)
    lone = copy.deepcopy(model.select(2))
    with torch.no_grad():
        model.nets[1].head.bias[0] = math.nan
    fit = ps.fit_gradient(model, counting(), counting(seed=1), **SHORT)
    assert fit.stop_reason == ["max_steps", "nonfinite", "max_steps"]
    alone = ps.fit_gradient(lone, counting(), counting(seed=1), **SHORT)
    np.testing.assert_allclose(alone.history[:, 0], fit.history[:, 2], atol=1e-7)


def test_an_exploding_restart_stops_with_finite_weights():
    model = ps.Autoregressive.from_seed(lambda: ps.RNN(4, hidden_dim=8), 1)
    options = {**SHORT, "learning_rate": 1e38, "clip_norm": 1e38, "warmup_steps": 1}
    with pytest.raises(ps.Diverged, match=r"no restart is left: restart 0, step \d+: .* not finite") as caught:
        ps.fit_gradient(model, counting(), counting(seed=1), **{**options, "eval_every": 1})
    assert caught.value.fit.stop_reason == ["nonfinite"]
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("validated", [False, True])
def test_what_diverges_goes_back_to_its_last_good_weights(monkeypatch, validated):
    """Without validation those of the last look; with it the best."""
    validation = counting(seed=1) if validated else None
    options = {**SHORT, "eval_every": 4, "schedule": "constant", "patience": 99}
    good = ps.fit_gradient(lstm(1), counting(), validation, **{**options, "num_steps": 8}).model
    update, calls = torch.optim.AdamW.step, []

    def explodes(self):
        update(self)
        calls.append(1)
        if len(calls) == 10:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(math.inf)

    monkeypatch.setattr(torch.optim.AdamW, "step", explodes)
    model = lstm(1)
    with pytest.raises(ps.Diverged, match="restart 0, step 11: the loss or its gradient was not finite"):
        ps.fit_gradient(model, counting(), validation, **options)
    for one, other in zip(model.parameters(), good.parameters(), strict=True):
        assert torch.equal(one, other)


def test_validation_that_is_impossible_chooses_nothing():
    """Symbol 3 is never emitted, whatever is learned: no score is finite, and the fit is that without validation."""

    def fit(validation):
        model = ps.HMM.from_parameters(
            [0.5, 0.5], [[0.6, 0.4], [0.3, 0.7]], [[0.5, 0.3, 0.2, 0.0], [0.2, 0.3, 0.5, 0.0]]
        )
        data = ps.Sequences.from_list([[0, 1, 2, 1, 0, 0, 2]] * 4)
        return ps.fit_gradient(model, data, validation, num_steps=12, learning_rate=0.05, eval_every=2, patience=3)

    blind, plain = fit(ps.Sequences.from_list([[3, 1]])), fit(None)
    assert np.isneginf(blind.validation).all()
    assert blind.stop_reason == ["max_steps"]
    assert np.array_equal(blind.history, plain.history)
    assert torch.equal(blind.model.transition, plain.model.transition)
    assert blind.history[-1] > blind.history[0]


def test_clipping_bounds_the_step_of_each_network():
    """With plain steps of size proportional to the gradient the change would differ by the loss' scale."""
    model, data = lstm(2), counting()
    free = ps.fit_gradient(copy.deepcopy(model), data, **{**SHORT, "clip_norm": 1e9})
    tight = ps.fit_gradient(copy.deepcopy(model), data, **{**SHORT, "clip_norm": 1e-9})
    assert free.history[-1].mean() > tight.history[-1].mean() + 0.05  # AdamW's epsilon makes tiny gradients tiny steps


def test_seconds_end_a_fit():
    fit = ps.fit_gradient(lstm(), counting(), counting(seed=1), num_steps=10**6, seconds=0.3)
    assert set(fit.stop_reason) == {"max_seconds"}
    assert fit.validation_steps[-1] == len(fit.history)


def test_weights_are_repeats_in_the_validation_score():
    model = lstm(1)
    once = ps.Sequences.from_list([[0, 1, 2, 3], [3, 3]], weights=[3.0, 1.0])
    thrice = ps.Sequences.from_list([[0, 1, 2, 3]] * 3 + [[3, 3]])
    scores = [ps.fit_gradient(copy.deepcopy(model), counting(), v, num_steps=1).validation for v in (once, thrice)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"clip_norm": -1.0}, "clip_norm is -1"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"eval_every": 0}, "eval_every is 0"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.fit_gradient(lstm(), counting(), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_refused():
    with pytest.raises(ps.InputError, match="no CUDA device"):
        ps.fit_gradient(lstm(), counting(), device="cuda")


@pytest.mark.parametrize(
    ("data", "validation", "sentence"),
    [
        ([[0, 1, 4]], None, "symbol 4 is outside"),
        ([[0, 1, 2]], [[9, 1]], "symbol 9 is outside"),
        ([np.zeros((4, 2))], None, "scores symbols"),
    ],
)
def test_data_that_the_networks_cannot_score_is_refused_before_anything_is_done(data, validation, sentence):
    validation = None if validation is None else ps.Sequences.from_list(validation)
    with pytest.raises(ps.InputError, match=sentence):
        ps.fit_gradient(lstm(), ps.Sequences.from_list(data), validation, num_steps=2)


def test_a_negative_seed_is_refused():
    with pytest.raises(ps.InputError, match="seed is -1"):
        lstm(seed=-1)
