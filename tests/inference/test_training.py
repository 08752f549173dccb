"""What a step is: accumulation, clipping, decay, the learning rate over a budget, the order of the data."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from short_fits import SHORT, counting, gru

import probseq as ps
from probseq.inference.run import Budgets, Course
from probseq.inference.sampler import Sampler
from probseq.inference.schedule import Rate


def test_a_step_is_that_of_the_textbook():
    """AdamW by hand: the norm is clipped, matrices alone decay, the rate rises for 5 of 30 steps and then falls."""
    model, data = gru(1, embed_dim=3).double(), counting()
    by_hand = copy.deepcopy(model)
    parameters, batch, history = list(by_hand.parameters()), data.batch(), []
    weights = batch.weights.double()
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for step in range(30):
        loss = -(by_hand.token_log_prob(batch)[0].sum(dim=1) @ weights) / (batch.lengths.double() @ weights)
        gradients = torch.autograd.grad(loss, parameters)
        history.append(-loss.item())
        norm = torch.cat([g.flatten() for g in gradients]).norm().item()
        rate = 0.02 * ((step + 1) / 5 if step < 5 else 0.1 + 0.9 * (1 + math.cos(math.pi * (step - 5) / 25)) / 2)
        with torch.no_grad():
            for p, g, (first, second) in zip(parameters, gradients, moments, strict=True):
                g = g * min(1.0, 0.1 / (norm + 1e-6))  # torch's guard against a norm of 0
                first.copy_(0.9 * first + 0.1 * g)
                second.copy_(0.99 * second + 0.01 * g * g)
                direction = first / (1 - 0.9 ** (step + 1)) / ((second / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8)
                p.sub_(rate * (direction + (0.3 * p if p.ndim >= 2 else 0.0)))
    fit = ps.fit_gradient(
        model, data, num_steps=30, batch_size=24, learning_rate=0.02, weight_decay=0.3, warmup_steps=5, clip_norm=0.1
    )
    assert (fit.details["gradient_norm"] > 0.1).any()
    np.testing.assert_allclose(fit.history[:, 0], history, atol=1e-12)
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-12)


def test_batches_added_up_are_one_batch():
    """With four batches that together are all data, every step sees what a single batch of all data shows."""
    start, data = gru(1).double(), counting()
    whole = ps.fit_gradient(copy.deepcopy(start), data, **{**SHORT, "batch_size": 24})
    parts = ps.fit_gradient(copy.deepcopy(start), data, **SHORT, accumulate=4)
    np.testing.assert_allclose(parts.history, whole.history, atol=1e-12)
    np.testing.assert_allclose(parts.details["gradient_norm"], whole.details["gradient_norm"], atol=1e-12)


def test_accumulated_priors_count_once():
    data = counting()
    start = ps.HMM(2, ps.emissions.Categorical(4, concentration=3.0))
    whole = ps.fit_gradient(copy.deepcopy(start), data, **{**SHORT, "batch_size": 24})
    parts = ps.fit_gradient(copy.deepcopy(start), data, **SHORT, accumulate=4)
    np.testing.assert_allclose(parts.history, whole.history, atol=1e-10)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_batch_has_noise_of_its_own(accumulate):
    """The same weights and the same data all the time: what differs from step to step is dropout."""
    data = ps.Sequences.from_list([[0, 1, 2, 3, 0, 1]])
    options = {"num_steps": 6, "learning_rate": 1e-30, "weight_decay": 0.0, "accumulate": accumulate}
    history = ps.fit_gradient(gru(1, dropout=0.5), data, **options).history[:, 0]
    assert len(set(history)) == 6
    if accumulate == 2:  # the mean of two draws, and not twice one of them
        single = ps.fit_gradient(gru(1, dropout=0.5), data, **{**options, "accumulate": 1, "num_steps": 12}).history[
            :, 0
        ]
        np.testing.assert_allclose(history, single.reshape(6, 2).mean(axis=1), atol=1e-6)


def test_tokens_end_a_fit_and_are_counted():
    data = counting()
    fit = ps.fit_gradient(gru(), data, num_tokens=3 * data.num_tokens, batch_size=24)
    assert fit.stop_reason == ["max_tokens"] * 2
    assert len(fit.history) == 3
    assert fit.details["num_tokens"] == 3 * data.num_tokens


def test_the_cosine_follows_the_budget_that_is_closest_to_its_end():
    def rate(steps, tokens, seconds=0.0):
        course = Course([np.zeros(1)] * steps, tokens=tokens, seconds=seconds)
        return Rate(1.0, 0, "cosine", Budgets(100, 60.0, 1000), course)()

    assert rate(0, 0) == 1.0
    assert rate(50, 0) == pytest.approx(rate(0, 500)) == pytest.approx(rate(0, 0, 30.0)) == pytest.approx(0.55)
    assert rate(10, 1000) == pytest.approx(0.1)


@pytest.mark.parametrize("tokens", [30_000, 80_000, 200_000])
def test_nothing_jumps_where_the_warm_up_ends(tokens):
    """Of 1000 tokens a step, and of a budget that ends before the warm-up, within it, and long after."""

    def rate(step):
        return Rate(1.0, 50, "cosine", Budgets(10**9, None, tokens), Course([np.zeros(1)] * step, tokens=1000 * step))()

    rates = np.array([rate(step) for step in range(tokens // 1000 + 1)])
    assert np.abs(np.diff(rates)).max() < 0.06
    assert rates[0] == pytest.approx(1 / 50, rel=0.01)
    assert rates[-1] == pytest.approx(0.1 * min(1.0, len(rates) / 50))


def test_the_clock_starts_with_the_first_step(monkeypatch):
    """Neither the budget nor the schedule counts the self-test of the precision."""
    clock = [0.0]
    monkeypatch.setattr("probseq.inference.run.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        "probseq.inference.record.choose_precision", lambda wish, trial: clock.__setitem__(0, 100.0) or "float32"
    )
    seen = []
    monkeypatch.setattr(
        "probseq.inference.gradient_step.Rate.__call__", lambda rate: seen.append(rate.course.seconds) or 0.01
    )
    fit = ps.fit_gradient(gru(1), counting(), seconds=60, num_steps=3, warmup_steps=0)
    assert seen == [0.0] * 3
    assert fit.seconds == 0.0
    assert fit.stop_reason == ["max_steps"]


def test_a_sampler_goes_on_anywhere():
    data = counting()

    def draw(epoch, number, count=11):
        sampler = Sampler(data, 5, 3, torch.device("cpu"))
        sampler.seek(epoch, number)
        return [(sampler.epoch, next(sampler).index.tolist()) for _ in range(count)]

    together = draw(0, 0, 22)
    for k in range(11):
        assert [rows for _, rows in draw(k // 5, k % 5)] == [rows for _, rows in together[k : k + 11]]
    assert sorted(row for _, rows in together[:5] for row in rows) == list(range(24))  # each sequence once in a pass


def test_a_batch_holds_sequences_of_like_length():
    """The lengths of two batches of a pass share no more than an end."""
    data = counting()
    sampler = Sampler(data, 5, 3, torch.device("cpu"))
    for _ in range(3):
        lengths = [next(sampler).lengths for _ in range(5)]
        spans = sorted((int(one.min()), int(one.max())) for one in lengths)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert spans[0][1] < spans[-1][0]


def test_all_weights_are_updated_by_one_fused_kernel(monkeypatch):
    update, fused = torch.optim.AdamW.step, set()
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: fused.add(self.defaults["fused"]) or update(self))
    ps.fit_gradient(gru(), counting(), **SHORT)
    assert fused == {True}


def test_the_norm_of_the_gradient_is_that_before_clipping():
    model, data = gru(1), counting()
    expected = copy.deepcopy(model)
    batch = data.batch()
    terms = expected.token_log_prob(batch)[0].sum(dim=1)
    (terms @ batch.weights.float() / (batch.lengths @ batch.weights.long())).backward()
    norm = torch.cat([p.grad.flatten() for p in expected.parameters()]).norm().item()
    for clip_norm in (1e-3, math.inf):
        fit = ps.fit_gradient(copy.deepcopy(model), data, num_steps=1, batch_size=24, clip_norm=clip_norm)
        assert fit.details["gradient_norm"] == pytest.approx(np.array([[norm]]), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"accumulate": 0}, "accumulate is 0"),
        ({"num_tokens": 0}, "num_tokens is 0"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"precision": "float16"}, "unknown precision 'float16'; did you mean 'bfloat16'"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.fit_gradient(gru(), counting(), **options)
