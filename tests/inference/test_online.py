import copy
import itertools

import numpy as np
import pytest
import torch

import probseq as ps


def casino(num=400, length=30, seed=0):
    rng = np.random.default_rng(seed)
    loaded = np.cumsum(rng.random((num, length)) < 0.1, axis=1) % 2
    rolls = np.where(loaded & (rng.random((num, length)) < 0.5), 5, rng.integers(0, 6, (num, length)))
    return ps.Sequences.from_list(rolls)


def model(restarts=3, **options):
    return ps.HMM(2, ps.emissions.Categorical(6, concentration=1.1), num_restarts=restarts, seed=2, **options)


def clear(num=400, length=30):
    """Symbols whose states are plain to see, so that EM needs few steps."""
    stay, rest = 0.9 * np.eye(2), np.full((2, 2), 0.05)
    probs = [[0.4, 0.3, 0.2, 0.04, 0.03, 0.03], [0.03, 0.03, 0.04, 0.2, 0.3, 0.4]]
    truth = ps.HMM.from_parameters([0.5, 0.5], stay + rest, probs)
    return truth.sample(num, length, generator=torch.Generator().manual_seed(0))


def test_it_reaches_what_full_em_reaches():
    data = clear()
    online, full = model(), model()
    fit = ps.em(online, data, num_steps=200, minibatch=20)
    assert fit.stop_reason == ["max_steps"] * 3  # it claims nothing else
    ps.em(full, data, num_steps=100, tol=1e-8)
    reached, best = (ps.evaluate(fitted, data).nats_per_token.min() for fitted in (online, full))
    assert reached == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("delay", [1.0, 10.0])
@pytest.mark.parametrize(
    "emission",
    [ps.emissions.Categorical(27), ps.emissions.Bernoulli(3), ps.emissions.Poisson(3), ps.emissions.Gaussian(3)],
    ids=lambda family: type(family).__name__,
)
def test_what_a_few_sequences_lack_is_not_impossible(emission, delay):
    """Maximum likelihood from two sequences of twenty gives 0 to all that is rare."""
    rng = np.random.default_rng(0)
    rare = rng.random((50, 20, 3)) < 0.01
    rows = rng.integers(0, 27, (50, 20)) if emission.num_symbols else rare.astype(float)
    data, fitted = ps.Sequences.from_list(list(rows)), ps.HMM(2, emission, num_restarts=2)
    start = copy.deepcopy(fitted)
    fit = ps.em(fitted, data, num_steps=60, minibatch=2, delay=delay)
    assert fit.stop_reason == ["max_steps"] * 2
    assert np.isfinite(ps.evaluate(fitted, data).log_prob).all()
    exact = ps.em(start, data, num_steps=1).history[0]
    np.testing.assert_allclose(fit.history[0], exact, rtol=1e-12)  # step 0 has seen all sequences


def test_a_minibatch_of_which_nothing_was_observed_says_nothing_of_the_objective():
    rows = casino(6)
    missing = [np.full(30, i in (1, 4)) for i in range(6)]
    data = ps.Sequences.from_list(list(rows), missing=missing)
    history = ps.em(model(2), data, num_steps=13, minibatch=1).history
    repeats = (np.diff(history, axis=0) == 0).all(1)
    assert repeats.sum() == 4  # two sequences in each of two passes
    assert (history < -1).all()


def test_small_batches_give_the_same_steps():
    fits = [ps.em(model(), casino(20), num_steps=5, minibatch=7, max_tokens=n) for n in (40, 2**20)]
    np.testing.assert_allclose(fits[0].history, fits[1].history, rtol=1e-12)


def test_max_tokens_bounds_every_batch(monkeypatch):
    sizes, e_step = [], ps.HMM.e_step
    monkeypatch.setattr(ps.HMM, "e_step", lambda self, batch: sizes.append(batch.values.numel()) or e_step(self, batch))
    ps.em(model(), casino(20), num_steps=3, minibatch=10, max_tokens=90)
    assert max(sizes) == 90


def test_one_minibatch_of_everything_is_one_step_of_em():
    data = casino(30)
    online, full = model(), model()
    ps.em(online, data, num_steps=1, minibatch=30)
    ps.em(full, data, num_steps=1)
    torch.testing.assert_close(online.transition, full.transition)
    torch.testing.assert_close(online.emission.probs, full.emission.probs)


def test_the_average_is_the_published_one():
    """Those of all data, then those of minibatches with weights (s + delay)^-decay, scaled up, by hand."""
    data, decay, delay = casino(12), 0.7, 3.0
    online, hand = model(1), model(1)
    ps.em(online, data, num_steps=6, minibatch=4, decay=decay, delay=delay, seed=7)
    rng = np.random.default_rng(7)
    rows = np.concatenate([rng.permutation(12), rng.permutation(12)])
    one = hand.e_step(data.batch())
    average = one[1:]
    hand.m_step(one)
    for s in range(1, 6):
        one = hand.e_step(data.batch(rows[4 * s - 4 : 4 * s]))
        weight = (s + delay) ** -decay
        average = [(1 - weight) * a + weight * 3 * n for a, n in zip(average, one[1:], strict=True)]
        hand.m_step(one._make([one[0], *average]))
    torch.testing.assert_close(online.transition, hand.transition)
    torch.testing.assert_close(online.emission.probs, hand.emission.probs)


def test_the_objective_estimates_that_of_all_data():
    data, start = casino(), model()
    exact = ps.em(copy.deepcopy(start), data, num_steps=2).history[1]
    estimates = [ps.em(copy.deepcopy(start), data, num_steps=2, minibatch=50, seed=s).history[1] for s in range(20)]
    error = np.std(estimates, axis=0) / np.sqrt(20)
    assert (np.abs(np.mean(estimates, axis=0) - exact) < 4 * error).all()
    assert np.std(estimates) > 0


def test_the_same_seed_gives_the_same_fit():
    fits = [ps.em(model(), casino(), num_steps=10, minibatch=16, seed=s).history for s in (0, 0, 1)]
    assert np.array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_shorter_run_is_the_beginning_of_a_longer_one(monkeypatch, dtype):
    """Weights and order follow the step alone, so that what fewer seconds give is what more have passed through."""
    clock = itertools.count()
    monkeypatch.setattr("probseq.inference.run.time.monotonic", lambda: float(next(clock)))
    start, data = model(2).to(dtype), casino(60)
    whole, by_steps, by_seconds = (copy.deepcopy(start) for _ in range(3))
    options = {"minibatch": 16}
    longer = ps.em(whole, data, seconds=80, num_steps=10**6, **options)
    shorter = ps.em(by_seconds, data, seconds=20, num_steps=10**6, **options)
    steps = len(shorter.history)
    assert longer.stop_reason == shorter.stop_reason == ["max_seconds"] * 2
    assert 4 < steps < len(longer.history) / 2
    assert np.array_equal(longer.history[:steps], shorter.history)
    assert np.array_equal(ps.em(by_steps, data, num_steps=steps, **options).history, shorter.history)
    for one, other in zip(by_steps.parameters(), by_seconds.parameters(), strict=True):
        assert torch.equal(one, other)


def test_restarts_are_independent():
    data, start = casino(), model()
    lone = [start.take([r]) for r in range(3)]
    with torch.no_grad():
        start.emission.logits[1, :, 5] = -torch.inf
    fit = ps.em(start, data, num_steps=15, minibatch=16)
    assert fit.stop_reason == ["max_steps", "nonfinite", "max_steps"]
    for r in (0, 2):
        alone = ps.em(lone[r], data, num_steps=15, minibatch=16)
        np.testing.assert_allclose(alone.history[:, 0], fit.history[:, r], atol=1e-12)


def test_a_posterior_can_be_learned_online():
    data = clear()
    online = ps.VariationalHMM(2, ps.emissions.Categorical(6), num_restarts=2)
    full = copy.deepcopy(online)
    fit = ps.em(online, data, num_steps=150, minibatch=20)
    assert fit.objective == "evidence lower bound per token (nats)"
    ps.em(full, data, num_steps=100, tol=1e-8)
    np.testing.assert_allclose(online.elbo(data) / data.num_tokens, full.elbo(data) / data.num_tokens, atol=3e-3)


def test_more_sequences_than_there_are_is_all_of_them():
    fit = ps.em(model(), casino(5), num_steps=3, minibatch=256)
    assert fit.history.shape == (3, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"minibatch": 0}, "minibatch is 0"),
        ({"minibatch": 4, "decay": 0.5}, "decay 0.5"),
        ({"minibatch": 4, "delay": 0.0}, "delay 0.0"),
        ({"minibatch": 4, "accelerate": True}, "expected one: long steps need the exact objective"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.em(model(), casino(5), **options)
