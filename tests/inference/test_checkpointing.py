"""The folder of checkpoints: what is in it, what is refused, and that nothing in it is ever half written."""

import errno
import io
import json
import os
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from checkpointed import SETTINGS, Stop, counting, fit, gru, hmm, same_fit

import probseq as ps
from probseq.inference import checkpointing
from probseq.inference.checkpointing import Checkpoints, State


def test_the_last_few_are_kept(tmp_path):
    fit(tmp_path / "a", patience=99, keep_checkpoints=2)
    assert [path.name for path in sorted((tmp_path / "a").glob("step-*"))] == [
        "step-00000021.safetensors",
        "step-00000024.safetensors",
    ]
    assert set(json.loads((tmp_path / "a" / "clock.json").read_text())) == {"21", "24"}


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


def other_digit(content):
    """One digit of the plain values in the header."""
    return re.sub(rb'(tokens\\": )(\d)', lambda m: m[1] + (b"2" if m[2] == b"1" else b"1"), content)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:-5] + b"\0" * 5, lambda b: b"{}", other_digit]
)
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


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("module", [pickle, torch], ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["step-00000006.safetensors", "run.json", "clock.json"])
def test_a_pickle_in_the_place_of_a_checkpoint_is_refused_and_not_executed(tmp_path, name, module):
    folder, sprung, content = tmp_path / "a", tmp_path / "sprung", io.BytesIO()
    fit(folder, gru(1), num_steps=6)
    (pickle.dump if module is pickle else torch.save)(Trap(sprung), content)
    (folder / name).write_bytes(content.getvalue())
    with pytest.raises(ps.InputError, match=rf"{name} is damaged: "):
        fit(folder, gru(1), num_steps=6, resume=True)
    assert not sprung.exists()
    content.seek(0)
    pickle.load(content) if module is pickle else torch.load(content, weights_only=False)
    assert sprung.exists()  # whoever unpickles it springs the trap


def test_of_several_damaged_checkpoints_the_newest_whole_one_is_named(tmp_path):
    folder = tmp_path / "a"
    fit(folder, patience=99)
    *_, first, second, third = sorted(folder.glob("step-*"))
    for path in (second, third):
        path.write_bytes(b"{}")
    sentence = r"is damaged: it was cut off or changed; delete all that come after step 18 to resume from step 18"
    with pytest.raises(ps.InputError, match=sentence):
        fit(folder, resume=True, patience=99)
    first.write_bytes(b"{}")
    with pytest.raises(ps.InputError, match="is damaged: it was cut off or changed; none is whole: begin anew"):
        fit(folder, resume=True, patience=99)


def test_fewer_steps_than_were_made_are_refused(tmp_path):
    fit(tmp_path / "a", patience=99)
    with pytest.raises(ps.InputError, match="the run has made 24 steps, and num_steps is 12; expected 24 or more"):
        fit(tmp_path / "a", patience=99, resume=True, num_steps=12)


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


@pytest.mark.parametrize("resume", [False, True])
def test_states_of_nobody_knows_what_are_no_beginning(tmp_path, resume):
    fit(tmp_path / "a", num_steps=4)
    (tmp_path / "a" / "run.json").unlink()
    with pytest.raises(ps.InputError, match=r"holds checkpoints, and no run.json that says of what"):
        fit(tmp_path / "a", resume=resume, seed=5)


def fixed_hmm():
    return ps.HMM(2, ps.emissions.Categorical(4), fixed=("initial", "transition", "emission"))


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (gru, {"tensorboard": "board"}, "TensorBoard is not installed"),
        (gru, {"metrics": "old.jsonl"}, "old.jsonl exists; remove it"),
        (gru, {"snapshots": [-1.0]}, "snapshots is"),
        (fixed_hmm, {}, "there is nothing to fit"),
        (hmm, {"precision": "bfloat16"}, "which is for networks"),
    ],
)
def test_a_fit_that_is_refused_leaves_no_folder(monkeypatch, tmp_path, model, options, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    (tmp_path / "old.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ps.InputError, match=sentence):
        fit(tmp_path / "a", model(), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["old.jsonl"]
    fit(tmp_path / "a", gru(1), num_steps=2)


@pytest.mark.parametrize("after", [1, 2])
def test_no_state_is_without_its_seconds(monkeypatch, tmp_path, after):
    """A process that dies between the two files of a checkpoint, or after them."""
    checkpoints = Checkpoints(tmp_path / "a", {}, keep=3, resume=False)
    checkpoints.begin()
    states = {step: State({"x": torch.ones(1)}, {"step": step}, 10.0 * step) for step in (3, 6)}
    checkpoints.save(3, states[3])
    write, calls = checkpointing.write_whole, []

    def dies(contents):
        write(contents)
        calls.append(1)
        if len(calls) == after:
            raise Stop

    monkeypatch.setattr(checkpointing, "write_whole", dies)
    with pytest.raises(Stop):
        checkpoints.save(6, states[6])
    found = checkpoints.load()
    assert found.values["step"] == (3 if after == 1 else 6)
    assert found.seconds == 10.0 * found.values["step"]


def test_a_diverged_fit_is_named_and_keeps_its_last_good_checkpoint(tmp_path):
    options = {"patience": 99, "schedule": "constant", "clip_norm": 1e38}
    fit(tmp_path / "a", num_steps=6, **options)
    good = {path.name: path.read_bytes() for path in (tmp_path / "a").glob("step-*")}
    checkpoints = Checkpoints.__new__(Checkpoints)
    checkpoints.folder, checkpoints.keep = tmp_path / "a", 3
    state = checkpoints.load()
    for r in range(2):  # as if the last update had been one too far
        state.tensors[f"{r}/weights/head.bias"] = torch.full((4,), torch.nan)
    checkpoints.save(7, state)
    for name, content in good.items():
        assert (tmp_path / "a" / name).read_bytes() == content
    with pytest.raises(ps.Diverged, match=r"no restart is left: restart 0, step \d+: the loss or its gradient"):
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
    with pytest.raises(ps.Diverged):
        fit(tmp_path / "a", gru(1))
    states = sorted((tmp_path / "a").glob("step-*"))
    assert [path.name for path in states] == ["step-00000003.safetensors", "step-00000006.safetensors"]
