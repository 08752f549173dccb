"""Studies: what is read out of TOML, what a run writes, and that it writes the same thing twice."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_run import fake_corpus

from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError
from probseq.models.hmm import HMM
from probseq.study import make_study, preset, presets, read_study, run_study, snapshot_name

DATA = {"corpus": "casino", "num_sequences": 40, "length": 20, "window": 10}
MODELS = {
    "unigram": {"kind": "unigram"},
    "hmm-2": {"kind": "hmm", "num_states": 2, "num_restarts": 3, "num_steps": 4},
    "gru": {"kind": "gru", "hidden_dim": 4, "num_restarts": 2, "num_steps": 4},
}
EXAMPLES = Path(__file__).parents[1] / "examples"


def tiny(**changes):
    return make_study({"name": "tiny", "data": DATA, "models": MODELS} | changes)


def rows_of(folder):
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    return [{key: value for key, value in row.items() if key != "fit_seconds"} for row in rows]


# Reading


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sed": 1}, r"sed: unknown key 'sed'; did you mean 'seed'"),
        ({"data": DATA | {"windw": 3}}, r"data.windw: unknown key 'windw'; did you mean 'window'"),
        ({"data": DATA | {"level": "leters"}}, r"data.level: unknown level 'leters'; did you mean 'letters'"),
        ({"data": DATA | {"window": 1}}, r"data.window: received 1; expected a number >= 2"),
        ({"data": {}}, r"data: received corpus None and path None; expected exactly one of them"),
        ({"data": DATA | {"path": "a.txt"}}, r"data: .* expected exactly one of them"),
        ({"data": {"path": "a.txt", "num_sequences": 5}}, r"data: num_sequences and length are settings of generated"),
        ({"models": {}}, r"models: received \{\}; expected"),
        ({"models": {"a/b": {"kind": "uniform"}}}, r"models.a/b"),
        ({"models": {"m": {"kind": "lsmt"}}}, r"models.m.kind: unknown model kind 'lsmt'; did you mean 'lstm'"),
        ({"models": {"m": {"num_states": 2}}}, r"models.m.kind: missing; expected one of uniform, "),
        ({"models": {"m": {"kind": "hmm"}}}, r"models.m.num_states: missing"),
        (
            {"models": {"m": {"kind": "hmm", "num_states": 0}}},
            r"^models.m.num_states: received 0; expected a number >= 1$",
        ),
        (
            {"models": {"m": {"kind": "hmm", "num_states": 2.5}}},
            r"models.m.num_states: received 2.5; expected a whole number, such as 8",
        ),
        ({"models": {"m": {"kind": "gru", "num_restarts": -3}}}, r"models.m.num_restarts: received -3; expected a num"),
        ({"models": {"m": {"kind": "gru", "seconds": 0}}}, r"models.m.seconds: received 0; expected a number > 0"),
        ({"models": {"m": {"kind": "hmm", "num_states": "2"}}}, r"m.num_states: received '2'; expected a whole number"),
        (
            {"models": {"m": {"kind": "gru", "dropout": "a"}}},
            r"models.m.dropout: received 'a'; expected a number",
        ),
        ({"models": {"m": 3}}, r"models.m: received 3; expected a table of settings"),
        ({"data": 3}, r"data: received 3; expected a table of settings"),
        ({"data": DATA | {"corpus": 3}}, r"data.corpus: received 3; expected text, such as \"sotu\""),
        ({"data": DATA | {"end": "yes"}}, r"data.end: received 'yes'; expected true or false"),
        (
            {"models": {"m": {"kind": "hmm", "num_states": 2, "start": "kmean"}}},
            r"models.m.start: unknown start 'kmean'; did you mean 'kmeans'",
        ),
        (
            {"models": {"lstm": {"kind": "lstm", "hiden_dim": 4}}},
            r"models.lstm.hiden_dim: .* did you mean 'hidden_dim'",
        ),
    ],
)
def test_bad_study_is_one_sentence_with_the_place(values, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        tiny(**values)
    assert "\n" not in str(caught.value)


def test_missing_table_is_named():
    with pytest.raises(InputError, match=r"data: missing"):
        make_study({"models": MODELS})


def test_read_study_takes_its_name_from_the_file(tmp_path):
    path = tmp_path / "my study.toml"
    path.write_text('[data]\ncorpus = "casino"\n[models.u]\nkind = "uniform"\n')
    study = read_study(path)
    assert study.name == "my-study"
    assert study.models["u"].kind == "uniform"


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"seed =", "is not a TOML file"), (b"\xff\xfe", "is not UTF-8 text")]
)
def test_unreadable_study(tmp_path, content, sentence):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_study(path)


def test_missing_study(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the study .*none.toml: No such file"):
        read_study(tmp_path / "none.toml")


def test_presets():
    assert presets() == ["g2p", "letters", "quick", "series", "words"]
    with pytest.raises(InputError, match=r"unknown preset 'leters'; did you mean 'letters'"):
        preset("leters")


@pytest.mark.parametrize("name", ["letters", "quick"])
def test_networks_of_a_preset_have_like_numbers_of_parameters(name):
    built = {key: spec.build(fake_corpus(), seed=0) for key, spec in preset(name).models.items()}
    sizes = [built[key].num_parameters for key in ("rnn", "gru", "lstm", "transformer")]
    assert max(sizes) < 1.05 * min(sizes)
    assert [built["hmm-2"].num_states, built["hmm-16"].num_states] == [2, 16]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_study_among_the_examples_can_be_read(path):
    assert read_study(path).models


def test_networks_of_the_shakespeare_study_have_the_parameters_that_it_says():
    corpus = fake_corpus(Vocabulary(tuple(chr(33 + i) for i in range(80)), "char"))
    specs = read_study(EXAMPLES / "shakespeare.toml").models
    for name in ("rnn", "update-gate", "gru", "lstm", "transformer"):
        assert specs[name].build(corpus, seed=0).num_parameters == pytest.approx(0.8e6, rel=0.03), name


# Running


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "deep" / "run"
    return run_study(tiny(), out, progress=False), out


def test_run_folder_is_complete(finished):
    run, out = finished
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    own = {
        f"models/{m}/{f}" for m in MODELS for f in ("model.json", "weights.safetensors", "fit.json", "vocabulary.json")
    }
    assert files == {"comparison.json", "comparison.csv", "report.html", "study.toml"} | own
    assert os.listdir(out.parent) == ["run"]  # nothing temporary is left
    assert not run.interrupted


def test_comparison_json(finished):
    run, out = finished
    document = json.loads((out / "comparison.json").read_text())
    assert document["schema"] == 1
    assert document["data"]["num_tokens"] == {"train": 640, "validation": 80, "test": 80}
    assert document["environment"]["torch"] == torch.__version__
    assert document["rows"] == run.comparison.rows()
    assert {row["model"] for row in document["rows"]} == set(MODELS)
    assert [len(row["restart_nats_per_token"]) for row in document["rows"]] == [
        r["num_restarts"] for r in document["rows"]
    ]
    assert str(out.parent) not in (out / "comparison.json").read_text()  # no absolute paths


def test_csv_has_the_rows(finished):
    import pandas as pd

    run, out = finished
    table = pd.read_csv(out / "comparison.csv")
    assert table["model"].tolist() == [row["model"] for row in run.comparison.rows()]


def test_resolved_study_repeats_the_run_bit_for_bit(finished, tmp_path):
    run, out = finished
    again = read_study(out / "study.toml")
    assert again.data.level == "symbol"
    assert again.device == run.study.device != "auto"
    run_study(again, tmp_path / "again", progress=False)
    assert rows_of(tmp_path / "again") == rows_of(out)
    assert (tmp_path / "again" / "study.toml").read_text() == (out / "study.toml").read_text()


def test_another_seed_gives_other_rows(finished):
    _, out = finished
    other = run_study(tiny(seed=1), progress=False)
    assert other.comparison.rows()[0]["elpd"] != rows_of(out)[0]["elpd"]


def test_samples_have_the_promised_length(finished):
    run, _ = finished
    assert {len(text.split()) for text in run.samples.values()} == {300}
    assert len(set(run.samples.values())) == len(MODELS)


def test_seconds_alone_are_a_budget():
    study = tiny(models={"hmm": {"kind": "hmm", "num_states": 2, "num_restarts": 1, "tol": 0, "seconds": 0.2}})
    assert run_study(study, progress=False).fits["hmm"].stop_reason == ["max_seconds"]


def test_a_snapshot_is_called_by_its_seconds():
    assert [snapshot_name("gru", seconds) for seconds in (60.0, 0.5, 1e6, 1e9)] == [
        "gru-at-60s", "gru-at-0.5s", "gru-at-1000000s", "gru-at-1000000000s",
    ]  # fmt: skip


def test_a_model_called_like_a_snapshot_is_refused():
    gru = {"kind": "gru", "hidden_dim": 4, "seconds": 90, "snapshots": [60]}
    with pytest.raises(InputError, match=r"^the snapshot of gru is called gru-at-60s, like a model"):
        make_study({"data": {"corpus": "dyck"}, "models": {"gru": gru, "gru-at-60s": {"kind": "unigram"}}})


def test_out_that_exists_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("probseq.specs.data.load_corpus", lambda *_, **__: pytest.fail("work was done"))
    with pytest.raises(InputError, match=r"the output folder .* exists; remove it or choose another"):
        run_study(tiny(), tmp_path, progress=False)


def test_out_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("probseq.specs.data.load_corpus", lambda *_, **__: pytest.fail("work was done"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write in .*file: Not a directory; choose another"):
        run_study(tiny(), tmp_path / "file" / "run", progress=False)


def test_an_error_leaves_no_folder_behind(tmp_path):
    study = tiny(models={"hmm": {"kind": "hmm", "num_states": 2, "emission": "gaussian"}})
    with pytest.raises(InputError, match=r"received emission 'gaussian', and corpus 'casino' holds symbols"):
        run_study(study, tmp_path / "deep" / "run", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError):
        run_study(tiny(data={"path": str(tmp_path / "none.txt")}), tmp_path / "run", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_counting_symbols_refuses_vectors(tmp_path):
    (tmp_path / "series.csv").write_text("".join(f"{i}.5,2.5,3.5\n" for i in range(9)))
    with pytest.raises(InputError, match=r"'unigram' is of symbols, and corpus 'series' holds vectors of size 1"):
        run_study(tiny(data={"path": str(tmp_path / "series.csv")}), progress=False)


def test_ctrl_c_keeps_what_was_reached_and_skips_the_rest(tmp_path, monkeypatch):
    m_step = HMM.m_step

    def press(self, counts):
        signal.raise_signal(signal.SIGINT)
        m_step(self, counts)

    monkeypatch.setattr(HMM, "m_step", press)
    run = run_study(tiny(), tmp_path / "run", progress=False)
    assert run.interrupted
    assert list(run.fits) == ["unigram", "hmm-2"]
    assert run.fits["hmm-2"].stop_reason == ["interrupted"] * 3
    assert {row["model"] for row in rows_of(tmp_path / "run")} == {"unigram", "hmm-2"}


def test_ctrl_c_before_the_first_fit_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("probseq.specs.data.load_corpus", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run_study(tiny(), tmp_path / "run", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:the estimate of log p")  # two particles are few
def test_the_preset_words_at_its_smallest():
    """Every model of it on the same tokens, at matched sizes."""
    values = preset("words").model_dump(exclude_none=True)
    values["data"] |= {"train_tokens": 2000, "validation_tokens": 400, "test_tokens": 400}
    fast = {"num_steps": 1, "num_restarts": 1, "start": "random", "num_particles": 2, "num_replicates": 2}
    for model in values["models"].values():
        model |= {
            key: value for key, value in fast.items() if key in model and (key, model["kind"]) != ("start", "hmm")
        }
    run = run_study(make_study(values), progress=False)
    assert sorted(run.fits) == sorted(preset("words").models)
    models = {name: fit.model for name, fit in run.fits.items()}
    assert {model.support for model in models.values()} == {("symbols", len(run.corpus.vocabulary))}
    assert {model.vocabulary for model in models.values()} == {run.corpus.vocabulary.digest}
    assert (models["bigram"].max_order, models["lda-100"].num_topics, models["hmm-50"].num_states) == (2, 100, 50)
    assert np.isfinite(run.comparison.frame["nats_per_token"]).all()


def test_networks_of_the_preset_words_are_of_the_size_of_its_largest_topic_model():
    corpus = fake_corpus(Vocabulary(tuple(f"w{i}" for i in range(5405)), "word"))
    sizes = {name: spec.build(corpus, seed=0).num_parameters for name, spec in preset("words").models.items()}
    alike = [sizes[name] for name in ("lda-100", "lstm", "transformer")]
    assert max(alike) < 1.06 * min(alike)
    assert sizes["lda-50"] == pytest.approx(sizes["hmm-50"], rel=0.02)
    assert sizes["lda-10"] == pytest.approx(sizes["hmm-10"], rel=0.02)
