"""A study whose networks were stopped goes on, by function and on the command line."""

import json
import signal

import pytest
import torch
from commands import fails, probseq_cli, succeeds

import probseq as ps
from probseq.study import make_study


def study(**settings):
    model = {"kind": "gru", "hidden_dim": 4, "num_restarts": 2, "num_steps": 12, "eval_every": 4, "batch_size": 8}
    values = {"corpus": "brackets", "num_sequences": 60, "length": 8}
    return make_study({"data": values, "models": {"bigram": {"kind": "ngram"}, "gru": model | settings}})


COMMAND = ["fit", "gru", "--data", "brackets", "--hidden-dim", "4", "--num-steps", "4", "--num-restarts", "1"]
COMMAND += ["--set", "eval_every=2", "--out", "run"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The command line on a small corpus, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "probseq.cli.fitting._source", lambda data, *kinds, pairs: {"corpus": data, "num_sequences": 60, "length": 8}
    )


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
    values = study().model_dump(exclude_none=True)
    values["models"]["other"] = values["models"].pop("gru")
    with pytest.raises(ps.InputError, match=r"nothing to resume in \S+ck, which holds gru: no run.json of \w+, other"):
        ps.run_study(make_study(values), None, progress=False, checkpoints=tmp_path / "ck", resume=True)
    with pytest.raises(ps.InputError, match="there is nothing to resume in"):
        ps.run_study(study(), None, progress=False, checkpoints=tmp_path / "none", resume=True)


def test_a_network_that_diverges_leaves_the_others_their_places(tmp_path):
    wild = study(learning_rate=1e38, clip_norm=1e38, warmup_steps=0)
    run = ps.run_study(wild, tmp_path / "run", progress=False)
    assert set(run.fits["gru"].stop_reason) == {"nonfinite"}
    assert set(run.fits["gru"].details["failures"]) == {"0", "1"}
    assert run.comparison.ranking == ["bigram", "gru"]
    assert run.comparison.diverged == ["gru"]


def test_where_every_model_diverges_the_command_fails(small, tmp_path):
    wild = ["--set", "learning_rate=1e38", "--set", "clip_norm=1e38", "--set", "warmup_steps=0"]
    result = probseq_cli(*COMMAND, *wild)
    assert result.exit_code == 1
    assert "every restart diverged" in result.stdout
    assert "gru diverged: restart 0, step 2: " in result.stderr
    assert "every model diverged: try a smaller learning_rate" in result.stderr
    assert "Every fit diverged, and nothing here is to be trusted" in (tmp_path / "run" / "report.html").read_text()


def test_only_what_a_study_wrote_is_removed(tmp_path):
    for place in (tmp_path / "mine", tmp_path / "mine" / "gru", tmp_path / "mine" / "bigram"):
        place.mkdir()
        (place / "thesis.txt").write_text("years of work")
    ps.run_study(study(), tmp_path / "run", progress=False, checkpoints=tmp_path / "mine")
    left = sorted(str(path.relative_to(tmp_path / "mine")) for path in (tmp_path / "mine").rglob("*") if path.is_file())
    assert left == ["bigram/thesis.txt", "gru/thesis.txt", "thesis.txt"]


@pytest.mark.parametrize("restarts", [1, 2])
def test_the_checkpoints_of_a_network_that_diverged_are_kept(monkeypatch, tmp_path, restarts):
    update, calls = torch.optim.AdamW.step, []

    def explodes(self, *args, **kwargs):
        update(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == 8 * restarts + 1:  # restart 0, after two checkpoints
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(torch.nan)

    monkeypatch.setattr(torch.optim.AdamW, "step", explodes)
    checkpoints = tmp_path / "ck"
    run = ps.run_study(study(num_restarts=restarts), tmp_path / "run", progress=False, checkpoints=checkpoints)
    assert run.fits["gru"].stop_reason[0] == "nonfinite"
    assert (checkpoints / "gru" / "step-00000008.safetensors").exists()
    assert (checkpoints / "gru" / "run.json").exists()


def test_what_was_set_aside_is_compared(tmp_path):
    run = ps.run_study(study(snapshots=[1e-9]), tmp_path / "run", progress=False)
    assert set(run.comparison.ranking) == {"bigram", "gru", "gru-at-0.000000001s"}
    assert not run.interrupted
    assert run.comparison.frame.set_index("model").loc["gru-at-0.000000001s", "fit_seconds"] == 1e-9
    assert set(ps.load(tmp_path / "run").models) == set(run.comparison.ranking)


def test_the_command_line_resumes(monkeypatch, small, tmp_path):
    assert "nothing to resume in run.checkpoints" in fails(*COMMAND, "--resume")
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        assert isinstance(probseq_cli(*COMMAND).exception, Stop)
    assert "holds the checkpoints of a run; resume it" in fails(*COMMAND)
    succeeds(*COMMAND, "--resume")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_after_ctrl_c_the_same_command_goes_on_and_replaces_what_was_reached(monkeypatch, small, tmp_path):
    update, calls = torch.optim.AdamW.step, []

    def press(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", press)
        stopped = probseq_cli(*COMMAND)
    assert stopped.exit_code == 130
    assert "go on with the same command, --resume and --out run" in stopped.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "1 of 1 restart was interrupted" in page
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    assert "the output folder run exists" in fails(*COMMAND, "--resume")
    (tmp_path / "run" / "thesis.txt").unlink()
    succeeds(*COMMAND, "--resume")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    fit = json.loads((tmp_path / "run" / "models" / "gru" / "fit.json").read_text())
    assert (fit["stop_reason"], len(fit["history"])) == (["max_steps"], 4)
