"""Accumulation, budgets in tokens, clipping, half precision, and what is written about every step."""

import copy
import json
import math
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
import torch

import probseq as ps
from probseq.inference.metrics import read_metrics
from probseq.inference.precision import choose_precision
from probseq.inference.sampler import Sampler
from probseq.inference.schedule import Rate

SHORT = {"num_steps": 12, "batch_size": 6, "learning_rate": 0.02, "warmup_steps": 3, "eval_every": 4}


def counting(num=24, seed=0, longest=12):
    rng = np.random.default_rng(seed)
    rows = [np.cumsum(rng.choice([1, 2], p=[0.9, 0.1], size=rng.integers(4, longest))) % 4 for _ in range(num)]
    return ps.Sequences.from_list(rows, weights=rng.choice([1.0, 2.0], size=num))


def gru(restarts=2, **options):
    return ps.Autoregressive.from_seed(lambda: ps.GRU(4, hidden_dim=8, **options), restarts)


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
    rate = Rate(1.0, 0, "cosine", 100, None, num_tokens=1000)
    assert rate(0, 0) == 1.0
    assert rate(50, 0) == pytest.approx(rate(0, 500)) == pytest.approx(0.55)
    assert rate(10, 1000) == pytest.approx(0.1)


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


def test_half_precision_is_close_and_keeps_weights_in_full():
    model = gru(1, embed_dim=4)
    exact = ps.fit_gradient(copy.deepcopy(model), counting(), **SHORT)
    half = ps.fit_gradient(model, counting(), **SHORT, precision="bfloat16")
    assert half.details["precision"] == "bfloat16"
    assert next(model.parameters()).dtype == torch.float32
    assert not np.array_equal(half.history, exact.history)
    np.testing.assert_allclose(half.history, exact.history, atol=0.03)


@pytest.mark.parametrize(
    ("cost", "chosen"),
    [
        ({"float32": 0.02, "bfloat16": 0.01}, "bfloat16"),
        ({"float32": 0.01, "bfloat16": 0.01}, "float32"),
        ({"float32": 0.01, "bfloat16": 0.02}, "float32"),
    ],
)
def test_auto_takes_half_precision_only_where_it_is_faster(monkeypatch, cost, chosen):
    clock = [0.0]
    monkeypatch.setattr("probseq.inference.precision.time.perf_counter", lambda: clock[0])

    def trial(precision):
        clock[0] += cost[precision]

    assert choose_precision("auto", trial) == chosen
    assert clock[0] < 11


def test_where_half_precision_does_not_run_auto_is_full_and_a_wish_is_refused():
    def trial(precision):
        if precision == "bfloat16":
            raise RuntimeError("could not create a primitive")

    assert choose_precision("auto", trial) == "float32"
    with pytest.raises(ps.InputError, match=r"does not run in bfloat16 here .could not create a primitive.; choose"):
        choose_precision("bfloat16", trial)


def test_the_self_test_changes_nothing(monkeypatch):
    monkeypatch.setattr("probseq.inference.precision._fastest", lambda trial, one, s: trial(one) or 1.0)
    fits = [ps.fit_gradient(gru(dropout=0.2), counting(), **SHORT, precision=p) for p in ("float32", "auto")]
    assert fits[1].details["precision"] == "float32"
    assert np.array_equal(fits[0].history, fits[1].history)


def test_every_step_leaves_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    fit = ps.fit_gradient(gru(), counting(), counting(8, seed=1), **SHORT, metrics=path)
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert np.array_equal([row["objective"] for row in rows], fit.history)
    assert np.array_equal([row["gradient_norm"] for row in rows], fit.details["gradient_norm"])
    assert [row["step"] for row in rows if "validation" in row] == fit.validation_steps.tolist()
    assert np.array_equal([row["validation"] for row in rows if "validation" in row], fit.validation)
    assert rows[0]["learning_rate"] == pytest.approx(0.02 / 3)
    assert all(one["seconds"] <= two["seconds"] for one, two in pairwise(rows))
    with pytest.raises(ps.InputError, match=r"metrics.jsonl exists; remove it"):
        ps.fit_gradient(gru(), counting(), **SHORT, metrics=path)
    with pytest.raises(ps.InputError, match="cannot write the metrics"):
        ps.fit_gradient(gru(), counting(), **SHORT, metrics=path / "below")


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + '\n{"step": 2, "obj')
    assert read_metrics(path) == [{"step": 1}]
    with pytest.raises(ps.InputError, match="cannot read the metrics"):
        read_metrics(tmp_path / "none")


def test_a_run_can_be_read_at_several_budgets(tmp_path):
    options = {**SHORT, "schedule": "constant", "eval_every": 1}
    fit = ps.fit_gradient(gru(), counting(), snapshots=[1e-9, 1e9], **options)
    early, late = fit.snapshots[1e-9], fit.snapshots[1e9]
    short = ps.fit_gradient(gru(), counting(), **{**options, "num_steps": 1})
    assert np.array_equal(early.history, short.history)
    assert len(late.history) == 12
    batch = counting().batch()
    assert torch.equal(early.model.token_log_prob(batch), short.model.token_log_prob(batch))
    assert torch.equal(late.model.token_log_prob(batch), fit.model.token_log_prob(batch))
    with pytest.raises(ps.InputError, match=r"snapshots is .0.0.; expected seconds"):
        ps.fit_gradient(gru(), counting(), snapshots=[0.0])


def test_a_snapshot_has_the_best_weights_so_far_and_survives_a_stop(tmp_path):
    options = {**SHORT, "schedule": "constant", "eval_every": 1, "snapshots": [1e-9], "checkpoint": tmp_path / "a"}
    ps.fit_gradient(gru(), counting(), counting(8, seed=1), **{**options, "num_steps": 4})
    fit = ps.fit_gradient(gru(), counting(), counting(8, seed=1), **options, resume=True)
    short = ps.fit_gradient(gru(), counting(), counting(8, seed=1), **{**SHORT, "eval_every": 1, "num_steps": 1})
    batch = counting().batch()
    assert torch.equal(fit.snapshots[1e-9].model.token_log_prob(batch), short.model.token_log_prob(batch))
    assert np.array_equal(fit.snapshots[1e-9].validation, short.validation)


def test_a_chain_that_was_fitted_by_gradient_is_set_aside_too():
    start = ps.HMM(2, ps.emissions.Categorical(4), num_restarts=2)
    fit = ps.fit_gradient(start, counting(), snapshots=[1e9], **SHORT)
    batch = counting().batch()
    assert torch.equal(fit.snapshots[1e9].model.token_log_prob(batch), fit.model.token_log_prob(batch))


class FakeWriter:
    seen: list

    def __init__(self, log_dir, purge_step):
        type(self).seen = [(log_dir, purge_step)]

    def add_scalar(self, name, number, step):
        self.seen.append((name, number, step))

    def close(self):
        self.seen.append("closed")


def test_tensorboard_sees_every_number(monkeypatch, tmp_path):
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    fit = ps.fit_gradient(gru(), counting(), counting(8, seed=1), **SHORT, tensorboard=tmp_path)
    assert FakeWriter.seen[0] == (str(tmp_path), None)
    assert FakeWriter.seen[-1] == "closed"
    curve = [number for name, number, _ in FakeWriter.seen[1:-1] if name == "objective/1"]
    assert curve == fit.history[:, 1].tolist()


def test_tensorboard_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ps.InputError, match=r"TensorBoard is not installed; install it: pip install 'probseq\[tens"):
        ps.fit_gradient(gru(), counting(), **SHORT, tensorboard=tmp_path)


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


def test_half_precision_is_for_networks():
    with pytest.raises(ps.InputError, match="which is for networks; leave it out for a HMM"):
        ps.fit_gradient(ps.HMM(2, ps.emissions.Categorical(4)), counting(), precision="bfloat16")
