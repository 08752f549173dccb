"""What the restarts in a run folder tell, on the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from commands import fails, succeeds

import probseq as ps
from probseq.checkpoint import load_model
from probseq.restarts import RestartSummary

TEXT = "".join(f"the cat {i} sat on the mat\n" for i in range(60))
STUDY = """
[data]
path = "text.txt"
window = 32
[models.unigram]
kind = "unigram"
[models.hmm-2]
kind = "hmm"
num_states = 2
num_restarts = 6
num_steps = 30
[models.rnn]
kind = "rnn"
hidden_dim = 3
num_restarts = 2
num_steps = 4
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sensitivity")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "text.txt").write_text(TEXT)
        (folder / "study.toml").write_text(STUDY)
        succeeds("compare", "study.toml", "--out", "run")
    return folder / "run"


def test_the_numbers_are_those_of_the_fit(run):
    found = json.loads(succeeds("sensitivity", run, "--format", "json"))
    assert list(found) == ["hmm-2", "rnn"], "the unigram has one restart"
    fit = load_model(run / "models" / "hmm-2").fit
    expected = ps.sensitivity(fit)
    one = found["hmm-2"]
    assert one["hit_rate"] == expected.hit_rate()
    assert one["num_optima"] == expected.num_optima
    np.testing.assert_allclose(one["expected_best"], RestartSummary.from_fit(fit).expected_best)
    assert [row["restart"] for row in one["restarts"]] == np.argsort(expected.nats_per_token).tolist()
    assert found["rnn"]["num_optima"] is None
    assert one["agreement"] is None


def test_paths_are_compared_on_a_file(run):
    found = json.loads(succeeds("sensitivity", run, "hmm-2", "--data", run.parent / "text.txt", "--format", "json"))
    assert list(found) == ["hmm-2"]
    saved = load_model(run / "models" / "hmm-2")
    data = ps.Sequences.from_list([saved.vocabulary.encode_document(TEXT)])
    np.testing.assert_allclose(found["hmm-2"]["agreement"], ps.sensitivity(saved.fit, data).agreement)
    alone = json.loads(succeeds("sensitivity", run / "models" / "hmm-2", "--format", "json"))
    assert alone["hmm-2"]["num_optima"] == found["hmm-2"]["num_optima"]


def test_the_tables_show_models_and_of_one_model_its_restarts(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    both = succeeds("sensitivity", run)
    assert [name in both for name in ("hmm-2", "rnn", "unigram", "best of so many")] == [True, True, False, False]
    one = succeeds("sensitivity", run, "hmm-2", "--tolerance", "0.5")
    assert "6 (100%)" in one
    assert "best of so many" in one
    of_restarts = one[one.index("best of so many") :]
    stopped = [line.split()[-2] for line in of_restarts.splitlines() if len(line.split()) > 3]
    assert sum(reason in ("max_steps", "converged") for reason in stopped) == 6


def test_optima_are_marked_where_runs_were_cut_off(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    printed = succeeds("sensitivity", run, "--model", "hmm-2")
    expected = ps.sensitivity(load_model(run / "models" / "hmm-2").fit)
    assert expected.cut_off
    assert f" {expected.optima_label} " in printed
    assert "optima: where runs were cut off before they converged, two that were on one way count as two" in printed


def test_tables_and_figures_are_written_once(run, tmp_path):
    out = tmp_path / "restarts"
    succeeds("sensitivity", run, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == [
        "best-of.csv", "best-of.svg", "final-values.svg", "parameters-hmm-2.svg", "restarts.csv", "summary.csv",
        "traces.svg",
    ]  # fmt: skip
    table = pd.read_csv(out / "restarts.csv")
    assert table.groupby("model").size().to_dict() == {"hmm-2": 6, "rnn": 2}
    curve = pd.read_csv(out / "best-of.csv").query("model == 'hmm-2'")["expected_best_nats_per_token"]
    best = table.query("model == 'hmm-2'")["nats_per_token"].min()
    assert curve.iloc[-1] == pytest.approx(best)
    with pytest.MonkeyPatch.context() as patch:  # nothing is computed, let alone printed, before that is known
        patch.setattr("probseq.sensitivities.open_sensitivities", None)
        assert "exists; remove it or choose another with --out" in fails("sensitivity", run, "--out", out)


def test_bad_questions(run, tmp_path):
    assert "unknown model 'hmm-3'" in fails("sensitivity", run, "hmm-3")
    assert "unknown model 'hmm-3'" in fails("sensitivity", run, "--model", "hmm-3")
    assert "received the models hmm-2 and rnn; expected one" in fails("sensitivity", run, "hmm-2", "--model", "rnn")
    assert "tolerance is -1" in fails("sensitivity", run, "--tolerance", "-1")
    model = run / "models" / "hmm-2"
    assert "is the folder of one model; leave hmm-3 out" in fails("sensitivity", model, "hmm-3")
    assert "no model in" in fails("sensitivity", run / "models" / "unigram")
    ps.save(ps.HMM(2, ps.emissions.Categorical(3), num_restarts=2), tmp_path / "alone")
    assert "received a model and no data" in fails("sensitivity", tmp_path / "alone")
