"""A study of vectors, from a table to a report, and what its models are asked afterwards."""

import csv
import io
import json
import math

import numpy as np
import pytest
from commands import fails, succeeds

from probseq.checkpoint import load
from probseq.data.sequences import Sequences
from probseq.evaluate import evaluate
from probseq.study import make_study, run_study

MODELS = {
    "iid": {"kind": "iid"},
    "hmm-2": {"kind": "hmm", "num_states": 2, "num_restarts": 3, "num_steps": 30},
}
NETWORK = {"gru": {"kind": "gru", "hidden_dim": 4, "num_restarts": 2, "num_steps": 20, "eval_every": 10}}


def table(missing=True):
    """Two columns in two regimes, a day that is not read, and a few empty cells."""
    rng = np.random.default_rng(1)
    scale = np.where(np.arange(300) // 30 % 2 == 0, 0.5, 3.0)
    values = rng.normal(size=(300, 2)) * scale[:, None] + [10, -5]
    cells = [[f"{x:.4f}" for x in row] for row in values]
    if missing:
        cells[5][0], cells[40][1], cells[120][0], cells[120][1] = "", "", "", ""
    return "day,warm,wet\n" + "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(cells))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on a table with missing values: (folder of the run, path of the table)."""
    folder = tmp_path_factory.mktemp("series")
    (folder / "days.csv").write_text(table())
    data = {"path": str(folder / "days.csv"), "level": "vector", "column": "warm,wet", "window": 20}
    run_study(make_study({"name": "days", "data": data, "models": MODELS}), folder / "run", progress=False)
    return folder / "run", folder / "days.csv"


def rows(text):
    return list(csv.reader(io.StringIO(text)))


def test_the_run_knows_its_columns(run):
    folder, _ = run
    loaded = load(folder)
    assert loaded.data["columns"] == ["warm", "wet"]
    assert loaded.study["data"]["column"] == "warm,wet"
    assert loaded.study["data"]["level"] == "vector"
    assert loaded.vocabulary is None
    assert all(row["perplexity"] is None for row in loaded.rows)
    assert loaded.rows[0]["model"] == "hmm-2"


def test_the_columns_of_a_header_are_written_down(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i % 7},{i % 3}\n" for i in range(60)))
    data = {"path": str(tmp_path / "x.csv"), "level": "vector", "window": 10}
    found = run_study(make_study({"data": data, "models": {"iid": {"kind": "iid"}}}), progress=False)
    assert found.study.data.column == "a,b"


def test_the_report_speaks_of_nats_and_densities(run):
    page = (run[0] / "report.html").read_text()
    assert "gives the test data the highest density: minus its logarithm is" in page
    assert "nats per step" in page
    for absent in ("bits per token", "perplexity</th>", "Kneser-Ney", "␣", "the vocabulary has"):
        assert absent not in page
    assert "Each step is a vector of 2: warm and wet." in page
    assert "A visit lasts on average: state 0" in page
    assert "What each model draws" in page
    assert "What each model writes" not in page
    assert "±" in page


def test_compare_prints_a_table_without_perplexity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "days.csv").write_text(table(missing=False))
    study = make_study({"data": {"path": "days.csv", "level": "vector", "column": "wet", "window": 20},
                        "models": MODELS | NETWORK})  # fmt: skip
    from probseq.run_folder import study_to_toml

    (tmp_path / "study.toml").write_text(study_to_toml(study))
    output = succeeds("compare", "study.toml", "--out", "out")
    (header,) = (line for line in output.splitlines() if "nats/step" in line)
    assert "perplexity" not in header
    assert "a density has no perplexity" in output  # a note says why
    assert set(load("out").models) == {"iid", "hmm-2", "gru"}
    assert "What each model draws" in (tmp_path / "out" / "report.html").read_text()


def test_compare_takes_the_preset_of_series_for_vectors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "days.csv").write_text(table(missing=False))
    np.save(tmp_path / "days.npy", np.arange(9.0))
    asked = []
    monkeypatch.setattr("probseq.cli.fitting._run", lambda study, *_: asked.append(study))
    succeeds("compare", "--data", "days.csv", "--level", "vector", "--column", "warm")
    succeeds("compare", "--data", "sp500")
    succeeds("compare", "--data", "days.npy")
    succeeds("compare", "--data", "days.csv", "--level", "word")
    assert [set(study.models) >= {"iid", "hmm-3", "lstm"} for study in asked] == [True, True, True, False]
    assert asked[0].data.column == "warm"
    assert asked[1].data.corpus == "sp500"
    assert [study.data.level for study in asked] == ["vector", "vector", "vector", "word"]


def test_a_preset_of_symbols_refuses_vectors_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "days.csv").write_text(table())
    said = fails("compare", "--preset", "quick", "--data", "days.csv", "--level", "vector", "--column", "wet")
    assert "'uniform' is of symbols" in said
    assert "as in the preset series" in said


def test_networks_refuse_missing_values_in_one_sentence(run, tmp_path):
    arguments = ("fit", "gru", "--data", run[1], "--level", "vector", "--column", "warm", "--out", tmp_path / "out")
    assert "missing" in fails(*arguments)
    assert not (tmp_path / "out").exists()


# Asking


def test_score_counts_what_was_observed(run):
    folder, path = run
    result = json.loads(succeeds("score", folder, path, "--format", "json"))
    assert result["total"]["num_tokens"] == 299  # one step of 300 is wholly missing
    saved = load(folder).saved["hmm-2"]
    cells = [[float(x or "nan") for x in row[1:]] for row in rows(path.read_text())[1:]]
    windows = Sequences.from_list([np.array(cells)]).windows(20)
    expected = evaluate(saved.model.select(saved.chosen), windows).log_prob.sum()
    assert result["total"]["log_prob_nats"] == pytest.approx(expected, abs=1e-9)
    assert "nats/step" in succeeds("score", folder, path)


def test_a_file_of_which_nothing_was_observed(run, tmp_path):
    (tmp_path / "none.csv").write_text("warm,wet\n,\n,\n")
    assert "missing" in fails("score", run[0], tmp_path / "none.csv")


def test_a_document_of_which_nothing_was_observed_has_no_mean(run, tmp_path):
    (tmp_path / "some.csv").write_text("id,warm,wet\na,,\nb,1,2\n")
    result = json.loads(succeeds("score", run[0], tmp_path / "some.csv", "--id-column", "id", "--format", "json"))
    assert [one["num_tokens"] for one in result["documents"]] == [0, 1]
    assert result["documents"][0]["log_prob_nats"] == 0
    assert result["documents"][0]["nats_per_token"] is None
    succeeds("score", run[0], tmp_path / "some.csv", "--id-column", "id")


def test_other_columns_are_refused(run, tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    assert "x.csv has 1 numbers in a row, and the model was fitted to 2; name the columns" in fails(
        "score", run[0], tmp_path / "x.csv", "--column", "a"
    )
    assert "unknown column 'warm'" in fails("score", run[0], tmp_path / "x.csv")


def test_samples_are_a_table(run):
    folder, _ = run
    arguments = ("sample", folder, "--length", 5, "--num", 2)
    drawn = rows(succeeds(*arguments, "--seed", 1))
    assert drawn[0] == ["sample", "step", "warm", "wet"]
    assert [row[:2] for row in drawn[1:]] == [[str(i), str(t)] for i in range(2) for t in range(5)]
    assert all(math.isfinite(float(x)) for row in drawn[1:] for x in row[2:])
    assert drawn == rows(succeeds(*arguments, "--seed", 1))
    assert drawn != rows(succeeds(*arguments, "--seed", 2))


def test_samples_have_the_moments_of_the_model(run):
    drawn = np.array(rows(succeeds("sample", run[0], "--model", "iid", "--length", 4000))[1:], dtype=float)[:, 2:]
    model = load(run[0]).saved["iid"].model
    mean, variance = (m[0, 0].detach().numpy() for m in model.emission.moments(model.emission.raw))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=4 * np.sqrt(variance / 4000).max())
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.15)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--prefix", "1 2"), "received --prefix '1 2', and the model is of vectors; leave it out"),
        (("--length", 0), "received --length 0; expected 1 or more tokens"),
        (("--num", 0), "received --num 0; expected 1 or more"),
    ],
)
def test_impossible_samples(run, arguments, sentence):
    assert sentence in fails("sample", run[0], *arguments)


def test_decode_writes_paths_and_marginals(run, tmp_path):
    folder, path = run
    succeeds("decode", folder, path, "--posterior", "--out", tmp_path / "states.csv")
    header, *body = rows((tmp_path / "states.csv").read_text())
    assert header == ["document", "step", "warm", "wet", "state", "p_0", "p_1"]
    assert len(body) == 300
    assert body[5][2] == ""
    np.testing.assert_allclose([float(row[5]) + float(row[6]) for row in body], 1, atol=1e-5)
    saved = load(folder).saved["hmm-2"]
    cells = [[float(x or "nan") for x in row[1:]] for row in rows(path.read_text())[1:]]
    batch = Sequences.from_list([np.array(cells)]).batch()
    assert [int(row[4]) for row in body] == saved.model.select(saved.chosen).viterbi(batch)[0, 0].tolist()


def test_decode_as_json_and_in_print_say_the_same(run, tmp_path):
    folder, path = run
    succeeds("decode", folder, path, "--out", tmp_path / "states.json")
    (written,) = json.loads((tmp_path / "states.json").read_text())
    (printed,) = json.loads(succeeds("decode", folder, path, "--format", "json"))
    header, *lines = [line.split("\t") for line in succeeds("decode", folder, path).splitlines()]
    assert header == ["document", "step", "warm", "wet", "state"]
    assert written == printed
    assert [int(line[4]) for line in lines] == printed["states"]
    assert printed["values"][5][0] is None
    assert set(printed) == {"document", "values", "states"}


def test_several_paths_come_best_first(run, tmp_path):
    (tmp_path / "new.csv").write_text("warm,wet\n10,-5\n18,2\n10,-5\n")
    arguments = ("decode", run[0], tmp_path / "new.csv", "--num-best", 10)
    (document,) = json.loads(succeeds(*arguments, "--format", "json"))
    assert document["log_probs"] == sorted(document["log_probs"], reverse=True)
    assert len({tuple(path) for path in document["paths"]}) == len(document["paths"]) == 8  # 2 states, 3 steps
    saved = load(run[0]).saved["hmm-2"]
    score = evaluate(saved.model.select(saved.chosen), Sequences.from_list([np.array(document["values"])]))
    assert np.logaddexp.reduce(document["log_probs"]) == pytest.approx(score.log_prob[0, 0], abs=1e-9)
    succeeds(*arguments, "--out", tmp_path / "paths.csv")
    assert rows((tmp_path / "paths.csv").read_text())[0][4:6] == ["state", "state_2"]


def test_a_document_with_fewer_paths_has_empty_cells(run, tmp_path):
    (tmp_path / "two.csv").write_text("id,warm,wet\na,10,-5\na,18,2\nb,10,-5\n")
    arguments = ("--num-best", 3, "--posterior", "--id-column", "id")
    output = succeeds("decode", run[0], tmp_path / "two.csv", *arguments, "--column", "warm,wet")
    header, *body = [line.split("\t") for line in output.splitlines()]
    assert header == ["document", "step", "warm", "wet", "state", "state_2", "state_3", "p_0", "p_1"]
    assert {len(line) for line in body} == {9}
    assert [line[6] == "" for line in body] == [False, False, True]  # one step of two states has two paths
    assert [float(line[7]) + float(line[8]) for line in body] == pytest.approx([1, 1, 1], abs=1e-5)


def test_forecast_is_that_of_the_model(run, tmp_path):
    folder, path = run
    succeeds("forecast", folder, path, "--steps", 3, "--level", 0.8, "--out", tmp_path / "ahead.csv")
    header, *body = rows((tmp_path / "ahead.csv").read_text())
    assert header == ["document", "step", "column", "mean", "lower", "upper"]
    assert [(row[1], row[2]) for row in body] == [(str(h), c) for h in (1, 2, 3) for c in ("warm", "wet")]
    saved = load(folder).saved["hmm-2"]
    cells = [[float(x or "nan") for x in row[1:]] for row in rows(path.read_text())[1:]]
    ahead = saved.model.select(saved.chosen).forecast(Sequences.from_list([np.array(cells)]).batch(), 3, 0.8)
    for name, column in (("mean", 3), ("lower", 4), ("upper", 5)):
        expected = getattr(ahead, name)[0, 0].flatten().tolist()
        assert [float(row[column]) for row in body] == pytest.approx(expected, rel=1e-5)
    assert all(float(row[4]) < float(row[3]) < float(row[5]) for row in body)
    assert "upper" in succeeds("forecast", folder, path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("decode", "RUN", "FILE", "--num-best", 0), "received --num-best 0; expected 1 or more"),
        (("decode", "RUN", "FILE", "--out", "a.txt"), "unknown file type of --out '.txt'"),
        (("decode", "RUN", "FILE", "--out", "FILE"), "exists; remove it or choose another with --out"),
        (("decode", "RUN", "FILE", "--out", "no/folder/a.csv"), "No such file or directory; choose another file"),
        (("forecast", "RUN", "FILE", "--steps", 0), "num_steps is 0; expected 1 or more"),
        (("forecast", "RUN", "FILE", "--level", 2), "level is 2.0; expected a share between 0 and 1"),
        (("forecast", "RUN", "FILE", "--format", "xml"), "unknown format 'xml'"),
    ],
)
def test_bad_questions(run, arguments, sentence):
    given = [str(one).replace("RUN", str(run[0])).replace("FILE", str(run[1])) for one in arguments]
    assert sentence in fails(*given)


def test_earthquakes_are_poisson_counts(tmp_path):
    output = succeeds("fit", "hmm", "--data", "earthquakes", "--num-states", 2, "--out", tmp_path / "out")
    assert "perplexity" in output  # a probability, not a density
    model = load(tmp_path / "out").models["hmm"]
    assert model.support == ("counts", 1)
    header, *body = rows(succeeds("sample", tmp_path / "out", "--length", 20))
    assert header == ["sample", "step", "earthquakes"]
    assert all(float(row[2]) == int(float(row[2])) >= 0 for row in body)
    assert "nats per step" in (tmp_path / "out" / "report.html").read_text()
