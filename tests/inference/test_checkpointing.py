"""A fit that was stopped at any moment and resumed is the fit that was never stopped, bit for bit."""

import errno
import json
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

import probseq as ps
from probseq.inference import checkpointing
from probseq.inference.checkpointing import Checkpoints
from probseq.inference.gradient import Diverged
from probseq.inference.metrics import read_metrics

SETTINGS = {"num_steps": 24, "batch_size": 8, "learning_rate": 0.02, "warmup_steps": 4, "eval_every": 5, "patience": 2}


def counting(num=30, seed=0, symbols=4):
    rng = np.random.default_rng(seed)
    rows = [np.cumsum(rng.choice([1, 2], p=[0.9, 0.1], size=rng.integers(4, 12))) % symbols for _ in range(num)]
    return ps.Sequences.from_list(rows)


def gru(restarts=2, hidden_dim=6, dropout=0.2, symbols=4):
    return ps.Autoregressive.from_seed(lambda: ps.GRU(symbols, hidden_dim=hidden_dim, dropout=dropout), restarts)


def hmm():
    return ps.HMM(2, ps.emissions.Categorical(4, concentration=1.1), num_restarts=2)


def fit(folder, model=None, **options):
    return ps.fit_gradient(
        gru() if model is None else model,
        counting(),
        counting(10, seed=1),
        **{**SETTINGS, "checkpoint": folder, "checkpoint_every": 3, **options},
    )


class Stop(Exception):
    """Stands for whatever ends a process."""


def fit_until(monkeypatch, step, folder, model=None, **options):
    """A fit that is torn from the machine in the middle of a step."""
    update = torch.optim.AdamW.step
    calls = []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == step:
            raise Stop
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", dies)
        with pytest.raises(Stop):
            fit(folder, model, **options)


def same_files(one, other, name="step-*"):
    found = [sorted(folder.glob(name)) for folder in (one, other)]
    assert [path.name for path in found[0]] == [path.name for path in found[1]] != []
    for first, second in zip(*found, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def same_fit(one, other):
    for name in ("history", "validation", "validation_steps"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    assert np.array_equal(one.details["gradient_norm"], other.details["gradient_norm"], equal_nan=True)
    assert one.stop_reason == other.stop_reason
    for (key, first), second in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(first, second), key


@pytest.mark.parametrize("make", [gru, hmm])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "schedule": "constant"}])
def test_a_stopped_and_resumed_fit_is_the_uninterrupted_one(monkeypatch, tmp_path, make, options):
    options = options | ({} if make is gru else {"learning_rate": 0.1})
    whole = fit(tmp_path / "whole", make(), **options)
    for step in (5, 19):  # before the first checkpoint of two restarts, and after several
        folder = tmp_path / str(step)
        fit_until(monkeypatch, step, folder, make(), **options)
        resumed = fit(folder, make(), resume=True, **options)
        same_fit(whole, resumed)
        same_files(tmp_path / "whole", folder)


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


def test_a_finished_fit_resumes_to_itself(tmp_path):
    whole = fit(tmp_path / "a")
    same_fit(whole, fit(tmp_path / "a", resume=True))


def test_a_fit_goes_on_with_a_larger_budget(tmp_path):
    options = {"schedule": "constant", "patience": 99}
    whole = fit(tmp_path / "whole", **options)
    fit(tmp_path / "a", num_steps=10, **options)
    longer = fit(tmp_path / "a", resume=True, **options)
    assert np.array_equal(whole.history, longer.history)


def test_the_last_few_are_kept(tmp_path):
    fit(tmp_path / "a", patience=99, keep_checkpoints=2)
    assert [path.name for path in sorted((tmp_path / "a").glob("step-*"))] == [
        "step-00000021.safetensors",
        "step-00000024.safetensors",
    ]
    assert set(json.loads((tmp_path / "a" / "clock.json").read_text())) == {"21", "24"}


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from test_checkpointing import fit, gru
import probseq as ps
out, resume = sys.argv[1], sys.argv[2] == "resume"
model = gru(hidden_dim=48)
done = fit(out + "/ck", model, num_steps=90, patience=99, checkpoint_every=7, resume=resume, metrics=out + "/m.jsonl")
ps.save(model, out + "/model", fit=None)
"""


def test_kill_9_at_three_random_steps_leaves_identical_files(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

    def start(out, how):
        return subprocess.Popen([sys.executable, script, str(out), how], env=environment)

    assert start(tmp_path / "whole", "begin").wait(120) == 0
    killed = tmp_path / "killed"
    for number, step in enumerate(sorted(random.SystemRandom().sample(range(1, 85), 3))):
        process = start(killed, "resume" if number else "begin")
        while process.poll() is None and lines(killed / "m.jsonl") < step:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL, "it ended before it was killed"
    assert start(killed, "resume").wait(120) == 0
    same_files(tmp_path / "whole" / "ck", killed / "ck")
    same_files(tmp_path / "whole" / "model", killed / "model", "*")
    for first, second in zip(*(read_metrics(tmp_path / x / "m.jsonl") for x in ("whole", "killed")), strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("fault", ["write", "replace"])
def test_a_disk_that_fills_is_named_and_leaves_the_last_checkpoint(monkeypatch, tmp_path, fault):
    full = OSError(errno.ENOSPC, "No space left on device")
    whole, folder = fit(tmp_path / "whole"), tmp_path / "a"
    replace, sync, calls = os.replace, os.fsync, []

    def fails(real):
        def call(*args):
            calls.append(1)
            if len(calls) > 8:
                raise full
            return real(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(
            checkpointing.os, *(("replace", fails(replace)) if fault == "replace" else ("fsync", fails(sync)))
        )
        with pytest.raises(ps.InputError, match=r"cannot write .*: No space left on device; .*step-\d+\S+ is intact"):
            fit(folder)
    assert not list(folder.glob(".*"))
    same_fit(whole, fit(folder, resume=True))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-5] + b"\0" * 5, lambda b: b"{}"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_touched(tmp_path, damage):
    folder = tmp_path / "a"
    whole = fit(folder, patience=99)
    last = folder / "step-00000024.safetensors"
    content = damage(last.read_bytes())
    assert content != last.read_bytes()
    last.write_bytes(content)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ps.InputError, match=r"step-00000024\S+ is damaged: .*delete it to resume from step 21"):
        fit(folder, resume=True, patience=99)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    last.unlink()
    same_fit(whole, fit(folder, resume=True, patience=99))


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (lambda: gru(hidden_dim=7), {}, "of another architecture: hidden_dim is 6 there and 7 here"),
        (lambda: gru(restarts=3), {}, "of another architecture: num_restarts is 2 there and 3 here"),
        (lambda: gru(symbols=5), {}, "of another vocabulary"),
        (lambda: gru().double(), {}, "of another architecture: dtype"),
        (hmm, {}, "of another architecture"),
        (gru, {"vocabulary": ps.Vocabulary(tuple("abcd"), "symbol")}, "of another vocabulary: symbols"),
        (gru, {"learning_rate": 0.01}, "of another setting: learning_rate is 0.02 there and 0.01 here"),
        (gru, {"clip_norm": float("inf")}, "of another setting: clip_norm is 1.0 there and 'inf' here"),
        (gru, {"seed": 1}, "of another setting: seed is 0 there and 1 here"),
        (gru, {"resume": False}, "holds the checkpoints of a run; resume it"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, model, options, sentence):
    folder = tmp_path / "a"
    fit(folder, num_steps=4)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ps.InputError, match=sentence):
        fit(folder, model(), num_steps=4, **{"resume": True, **options})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_other_data_are_refused(tmp_path):
    fit(tmp_path / "a", num_steps=4)
    with pytest.raises(ps.InputError, match="of another training set; only the run that wrote them can go on"):
        ps.fit_gradient(
            gru(), counting(seed=7), counting(10, seed=1), **SETTINGS, checkpoint=tmp_path / "a", resume=True
        )


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(ps.InputError, match="there is no run to resume in"):
        fit(tmp_path / "nothing", resume=True)
    with pytest.raises(ps.InputError, match="no folder of checkpoints is given"):
        fit(None, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ps.InputError, match="cannot make the folder"):
        fit(tmp_path / "file" / "a")


def test_a_diverged_fit_is_named_and_keeps_its_last_good_checkpoint(tmp_path):
    options = {"patience": 99, "schedule": "constant", "clip_norm": 1e38}
    fit(tmp_path / "a", num_steps=6, **options)
    good = {path.name: path.read_bytes() for path in (tmp_path / "a").glob("step-*")}
    checkpoints = Checkpoints.__new__(Checkpoints)
    checkpoints.folder, checkpoints.keep = tmp_path / "a", 3
    _, tensors, values = checkpoints.load()
    for r in range(2):  # as if the last update had been one too far
        tensors[f"{r}/weights/head.bias"] = torch.full((4,), torch.nan)
    checkpoints.save(7, tensors, values, 0.0)
    for name, content in good.items():
        assert (tmp_path / "a" / name).read_bytes() == content
    with pytest.raises(Diverged, match=r"no restart is left: restart 0, step \d+: the loss or its gradient"):
        fit(tmp_path / "a", resume=True, **options)
    assert {name: (tmp_path / "a" / name).read_bytes() for name in good} == good


def test_weights_that_are_not_finite_are_never_saved(monkeypatch, tmp_path):
    update = torch.optim.AdamW.step
    calls = []

    def explodes(self, *args, **kwargs):
        update(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == 9:  # the update before the third checkpoint
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(torch.inf)

    monkeypatch.setattr(torch.optim.AdamW, "step", explodes)
    with pytest.raises(Diverged):
        fit(tmp_path / "a", gru(1))
    states = sorted((tmp_path / "a").glob("step-*"))
    assert [path.name for path in states] == ["step-00000003.safetensors", "step-00000006.safetensors"]
