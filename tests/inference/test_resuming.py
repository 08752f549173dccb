"""A fit that was stopped at any moment and resumed is the fit that was never stopped, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpointed import (
    SETTINGS,
    Stop,
    counting,
    fit,
    fit_until,
    gru,
    hmm,
    lstm,
    same_files,
    same_fit,
    seq2seq,
    transformer,
    update_gate,
)

import probseq as ps
from probseq.inference.metrics import read_metrics

ACCUMULATED = {"accumulate": 2, "schedule": "constant"}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        *[(make, options) for make in (gru, seq2seq, hmm) for options in ({}, ACCUMULATED)],
        (lstm, {}),
        (update_gate, ACCUMULATED),
        (transformer, {"precision": "bfloat16"}),
    ],
)
def test_a_stopped_and_resumed_fit_is_the_uninterrupted_one(monkeypatch, tmp_path, make, options):
    options = options | ({"learning_rate": 0.1} if make is hmm else {})
    whole = fit(tmp_path / "whole", make(), **options)
    for step in (5, 19):  # before the first checkpoint of two restarts, and after several
        folder = tmp_path / str(step)
        fit_until(monkeypatch, step, folder, make(), **options)
        resumed = fit(folder, make(), resume=True, **options)
        same_fit(whole, resumed)
        same_files(tmp_path / "whole", folder)


def test_a_resumed_fit_keeps_the_precision_that_a_self_test_had_chosen(monkeypatch, tmp_path):
    """Another day the same machine may find the other one faster."""
    whole = fit(tmp_path / "whole", precision="bfloat16")
    with monkeypatch.context() as patch:
        patch.setattr("probseq.inference.record.choose_precision", lambda *_: "bfloat16")
        fit_until(monkeypatch, 19, tmp_path / "a", precision="auto")
    monkeypatch.setattr("probseq.inference.record.choose_precision", lambda *_: "float32")
    resumed = fit(tmp_path / "a", precision="auto", resume=True)
    assert resumed.details["precision"] == "bfloat16"
    same_fit(whole, resumed)


def test_what_early_stopping_has_counted_is_resumed(monkeypatch, tmp_path):
    """Four sequences are learned by heart: validation rises, then falls, and the count goes on where it was."""
    options = {"num_steps": 300, "learning_rate": 0.05, "eval_every": 2, "patience": 4}

    def overfit(folder, resume=False):
        data = counting(4), counting(40, seed=1)
        return ps.fit_gradient(gru(1), *data, **{**SETTINGS, **options}, checkpoint=folder, resume=resume)

    whole = overfit(tmp_path / "whole")
    assert whole.stop_reason == ["early_stopping"]
    best = int(whole.validation.argmax())
    assert 0 < best == len(whole.validation) - 5
    update, calls = torch.optim.AdamW.step, []

    def dies(self):
        calls.append(1)
        if len(calls) == len(whole.history) - 3:  # three looks were in vain
            raise Stop
        return update(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", dies)
        with pytest.raises(Stop):
            overfit(tmp_path / "a")
    same_fit(whole, overfit(tmp_path / "a", resume=True))


def test_a_fit_without_checkpoints_is_the_same(tmp_path):
    same_fit(fit(tmp_path / "a"), fit(None))


@pytest.mark.parametrize("budget", [{}, {"num_tokens": 500}, {"num_steps": 10**6, "seconds": 0.2}])
def test_a_finished_fit_resumes_to_itself(tmp_path, budget):
    whole = fit(tmp_path / "a", patience=99, **budget)
    for _ in range(2):
        again = fit(tmp_path / "a", patience=99, resume=True, **budget)
        same_fit(whole, again)
        assert again.details["num_tokens"] == whole.details["num_tokens"]


def test_more_patience_goes_on_where_less_had_stopped(tmp_path):
    options = {"num_steps": 60, "learning_rate": 0.05, "eval_every": 2}

    def overfit(folder, **more):
        data = counting(4), counting(40, seed=1)
        return ps.fit_gradient(gru(1), *data, **{**SETTINGS, **options, **more}, checkpoint=folder)

    whole = overfit(tmp_path / "whole", patience=99)
    stopped = overfit(tmp_path / "a", patience=2)
    assert stopped.stop_reason == ["early_stopping"]
    assert len(stopped.history) < 60
    same_fit(stopped, overfit(tmp_path / "a", patience=2, resume=True))
    same_fit(whole, overfit(tmp_path / "a", patience=99, resume=True))


def test_a_fit_goes_on_with_a_larger_budget(tmp_path):
    options = {"schedule": "constant", "patience": 99}
    whole = fit(tmp_path / "whole", **options)
    fit(tmp_path / "a", num_steps=10, **options)
    longer = fit(tmp_path / "a", resume=True, **options)
    assert np.array_equal(whole.history, longer.history)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from checkpointed import fit, gru
import probseq as ps
for name, dropout, threads in (("in turns", 0.2, 1), ("side by side", 0.0, 2)):
    torch.set_num_threads(threads)
    out, model = Path(sys.argv[1]) / name, gru(hidden_dim=48, dropout=dropout)
    options = dict(num_steps=90, patience=99, checkpoint_every=7, metrics=out / "m.jsonl")
    fit(out / "ck", model, resume=(out / "ck" / "run.json").exists(), **options)
    ps.save(model, out / "model")
"""


def test_kill_9_at_three_random_steps_leaves_identical_files(tmp_path):
    """Some seconds, for five processes: nothing less shows what a process leaves that was given no time."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

    def start(out):
        return subprocess.Popen([sys.executable, script, str(out)], env=environment)

    assert start(tmp_path / "whole").wait(300) == 0
    killed, draw = tmp_path / "killed", random.SystemRandom().randrange
    steps = sorted([draw(1, 85), draw(91, 165), draw(1, 165)])  # in the first fit, in the second, and anywhere
    print("killed after the steps", steps)  # shown where the test fails
    for step in steps:
        process = start(killed)
        while process.poll() is None and sum(lines(path) for path in killed.glob("*/m.jsonl")) < step:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL, "it ended before it was killed"
    assert start(killed).wait(300) == 0
    for name in ("in turns", "side by side"):
        whole, other = tmp_path / "whole" / name, killed / name
        same_files(whole / "ck", other / "ck")
        same_files(whole / "model", other / "model", "*")
        for first, second in zip(*(read_metrics(one / "m.jsonl") for one in (whole, other)), strict=True):
            assert {**first, "seconds": 0} == {**second, "seconds": 0}


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0
