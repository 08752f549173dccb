"""What is written about every step."""

import errno
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from short_fits import SHORT, counting, gru
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import probseq as ps
from probseq.inference.metrics import read_metrics


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


@pytest.mark.parametrize("line", ['{"st', "[]", '{"objective": 1.0}', '{"step": null}'])
def test_a_line_that_is_broken_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(ps.InputError, match=r"metrics.jsonl are damaged: line 2 is none of a fit's; remove it"):
        read_metrics(path)


def curve(folder, name):
    """What TensorBoard itself reads."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars(name)], [event.value for event in events.Scalars(name)]


def test_tensorboard_sees_every_number_once(tmp_path):
    """Also where a run that was stopped goes on: what it wrote after its last checkpoint is forgotten."""
    validation, board = counting(8, seed=1), tmp_path / "board"

    def fit(num_steps, **options):
        options = {**SHORT, "schedule": "constant", "num_steps": num_steps, "tensorboard": board, **options}
        return ps.fit_gradient(gru(), counting(), validation, checkpoint=tmp_path / "ck", **options)

    fit(10)
    (tmp_path / "ck" / "step-00000010.safetensors").unlink()  # as if it had been killed after step 8
    whole = fit(12, resume=True)
    for r in range(2):
        steps, values = curve(board, f"objective/{r}")
        assert steps == list(range(1, 13))
        np.testing.assert_allclose(values, whole.history[:, r], rtol=1e-6)
        steps, values = curve(board, f"validation/{r}")
        assert steps == whole.validation_steps.tolist()
        np.testing.assert_allclose(values, whole.validation[:, r], rtol=1e-6)
    assert curve(board, "tokens")[1][-1] == whole.details["num_tokens"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_disk_that_fills_under_the_metrics_is_named(tmp_path):
    with pytest.raises(ps.InputError, match="cannot write /dev/full: No space left on device; make room"):
        ps.fit_gradient(gru(), counting(), **SHORT, metrics="/dev/full")


@pytest.mark.parametrize("when", ["add_scalar", "close"])
def test_a_disk_that_fills_under_tensorboard_is_named(monkeypatch, tmp_path, when):
    real = getattr(SummaryWriter, when)

    def full(self, *args):
        if when == "close":
            real(self)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SummaryWriter, when, full)
    with pytest.raises(ps.InputError, match=r"cannot write \S+board: No space left on device; make room"):
        ps.fit_gradient(gru(), counting(), **SHORT, tensorboard=tmp_path / "board")


def test_a_folder_that_tensorboard_cannot_make_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ps.InputError, match=r"cannot write TensorBoard's files in .*file.board: Not a directory"):
        ps.fit_gradient(gru(), counting(), **SHORT, tensorboard=tmp_path / "file" / "board")


def test_tensorboard_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ps.InputError, match=r"TensorBoard is not installed; install it: pip install 'probseq\[tens"):
        ps.fit_gradient(gru(), counting(), **SHORT, tensorboard=tmp_path)
