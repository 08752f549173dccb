"""A study whose networks were stopped goes on, by function and on the command line."""

import json

import pytest
import torch
from commands import fails, probseq_cli, succeeds

import probseq as ps
from probseq.study import make_study


def study(**settings):
    model = {"kind": "gru", "hidden_dim": 4, "num_restarts": 2, "num_steps": 12, "eval_every": 4, "batch_size": 8}
    values = {"corpus": "brackets", "num_sequences": 60, "length": 8}
    return make_study({"data": values, "models": {"bigram": {"kind": "ngram"}, "gru": model | settings}})


class Stop(Exception):
    pass


def stop_at(monkeypatch, number):
    update, calls = torch.optim.AdamW.step, []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise Stop
        return update(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", dies)


def test_a_killed_study_is_resumed_to_the_same_weights(monkeypatch, tmp_path):
    ps.run_study(study(), tmp_path / "whole", progress=False)
    checkpoints = tmp_path / "killed.checkpoints"
    with monkeypatch.context() as patch:
        stop_at(patch, 17)  # in step 9 of two restarts
        with pytest.raises(Stop):
            ps.run_study(study(), tmp_path / "killed", progress=False, checkpoints=checkpoints)
    assert not (tmp_path / "killed").exists()
    assert len((checkpoints / "gru" / "metrics.jsonl").read_text().splitlines()) == 8
    ps.run_study(study(), tmp_path / "killed", progress=False, checkpoints=checkpoints, resume=True)
    assert not checkpoints.exists()
    for name in ("weights.safetensors", "model.json"):
        whole, resumed = (tmp_path / one / "models" / "gru" / name for one in ("whole", "killed"))
        assert whole.read_bytes() == resumed.read_bytes()
    histories = [json.loads((tmp_path / one / "models/gru/fit.json").read_text()) for one in ("whole", "killed")]
    assert histories[0]["history"] == histories[1]["history"]


def test_another_network_does_not_go_on_there(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        stop_at(patch, 17)
        with pytest.raises(Stop):
            ps.run_study(study(), None, progress=False, checkpoints=tmp_path / "ck")
    with pytest.raises(ps.InputError, match="of another architecture: hidden_dim is 4 there and 5 here"):
        ps.run_study(study(hidden_dim=5), None, progress=False, checkpoints=tmp_path / "ck", resume=True)
    with pytest.raises(ps.InputError, match="there is nothing to resume in"):
        ps.run_study(study(), None, progress=False, checkpoints=tmp_path / "none", resume=True)


def test_a_network_that_diverges_leaves_the_others_their_places(tmp_path):
    wild = study(learning_rate=1e38, clip_norm=1e38, warmup_steps=0)
    run = ps.run_study(wild, tmp_path / "run", progress=False)
    assert set(run.fits["gru"].stop_reason) == {"nonfinite"}
    assert set(run.fits["gru"].details["failures"]) == {"0", "1"}
    assert "bigram" in run.comparison.ranking


def test_what_was_set_aside_is_compared(tmp_path):
    run = ps.run_study(study(snapshots=[1e-9]), tmp_path / "run", progress=False)
    assert set(run.comparison.ranking) == {"bigram", "gru", "gru-at-1e-09s"}
    assert not run.interrupted
    assert run.comparison.frame.set_index("model").loc["gru-at-1e-09s", "fit_seconds"] == 1e-9
    assert set(ps.load(tmp_path / "run").models) == set(run.comparison.ranking)


def test_the_command_line_resumes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = ["fit", "gru", "--data", "brackets", "--hidden-dim", "4", "--num-steps", "4", "--num-restarts", "1"]
    command += ["--set", "eval_every=2", "--out", "run"]
    monkeypatch.setattr(
        "probseq.cli.fitting._source", lambda data, kind: {"corpus": data, "num_sequences": 60, "length": 8}
    )
    assert "nothing to resume in run.checkpoints" in fails(*command, "--resume")
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        assert isinstance(probseq_cli(*command).exception, Stop)
    assert "holds the checkpoints of a run; resume it" in fails(*command)
    succeeds(*command, "--resume")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
