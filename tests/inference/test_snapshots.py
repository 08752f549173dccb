"""One run, read at several budgets."""

import numpy as np
import pytest
import torch
from short_fits import SHORT, counting, gru

import probseq as ps


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


def test_a_snapshot_that_a_shorter_run_did_not_reach_is_that_of_the_longer_one(tmp_path):
    """A run that stops fills in what it did not reach, for those who ask now; it is not written down."""
    options = {**SHORT, "schedule": "constant", "snapshots": [1e9], "checkpoint": tmp_path / "a"}
    short = ps.fit_gradient(gru(), counting(), counting(8, seed=1), **{**options, "num_steps": 5})
    assert len(short.snapshots[1e9].history) == 5
    fit = ps.fit_gradient(gru(), counting(), counting(8, seed=1), **options, resume=True)
    assert len(fit.snapshots[1e9].history) == 12
    batch = counting().batch()
    assert torch.equal(fit.snapshots[1e9].model.token_log_prob(batch), fit.model.token_log_prob(batch))


def test_a_snapshot_says_why_each_restart_had_stopped():
    model = gru(2)
    with torch.no_grad():
        model.nets[1].head.bias[0] = torch.nan
    fit = ps.fit_gradient(model, counting(), counting(8, seed=1), **SHORT, snapshots=[1e-9, 1e9])
    assert fit.stop_reason == ["max_steps", "nonfinite"]
    assert fit.snapshots[1e-9].stop_reason == ["max_seconds", "nonfinite"]
    assert fit.snapshots[1e9].stop_reason == ["max_steps", "nonfinite"]


@pytest.mark.parametrize(
    ("call", "before"), [(1, ["nonfinite", "max_seconds"]), (3, ["max_seconds", "max_seconds"])], ids=["in it", "after"]
)
def test_a_snapshot_knows_of_a_divergence_what_a_fit_that_ended_there_would(monkeypatch, call, before):
    """It is taken after the first step, and two restarts make two updates a step."""
    update, calls = torch.optim.AdamW.step, []

    def explodes(self, *args):
        update(self, *args)
        calls.append(1)
        if len(calls) == call:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(torch.nan)

    monkeypatch.setattr(torch.optim.AdamW, "step", explodes)
    fit = ps.fit_gradient(gru(2), counting(), **SHORT, snapshots=[1e-9, 1e9])
    assert fit.stop_reason == ["nonfinite", "max_steps"]
    assert fit.snapshots[1e-9].stop_reason == before
    assert all(p.isfinite().all() for p in fit.snapshots[1e-9].model.parameters())


def test_a_chain_that_was_fitted_by_gradient_is_set_aside_too():
    start = ps.HMM(2, ps.emissions.Categorical(4), num_restarts=2)
    fit = ps.fit_gradient(start, counting(), snapshots=[1e9], **SHORT)
    batch = counting().batch()
    assert torch.equal(fit.snapshots[1e9].model.token_log_prob(batch), fit.model.token_log_prob(batch))
