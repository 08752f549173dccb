"""Models and runs on disk: what comes back is what was saved, and damage is one sentence that names the file."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch

from probseq.checkpoint import LoadedRun, load, load_model, save
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError
from probseq.inference.counts import fit_counts
from probseq.inference.run import Fit
from probseq.models.autoregressive import Autoregressive
from probseq.models.emissions import Categorical, Gaussian
from probseq.models.hmm import HMM
from probseq.models.ngram import NGram, Uniform, Unigram
from probseq.models.recurrent import GRU, LSTM, RNN
from probseq.models.transformer import Transformer
from probseq.study import make_study, run_study

DATA = Sequences.from_list([[0, 1, 2, 3, 4, 0], [2, 2], [4, 3, 1]])
MODELS = {
    "uniform": lambda: Uniform(5),
    "unigram": lambda: fit_counts(Unigram(5), DATA).model,
    "ngram": lambda: fit_counts(NGram(5, max_order=3), DATA).model,
    "hmm": lambda: HMM(3, Categorical(5, concentration=1.1), num_restarts=2, seed=4),
    "hmm float32": lambda: HMM(3, Categorical(5), dtype=torch.float32),
    "rnn": lambda: Autoregressive.from_seed(lambda: RNN(5, hidden_dim=4, embed_dim=3), 2, seed=4),
    "gru": lambda: Autoregressive.from_seed(lambda: GRU(5, hidden_dim=4, num_layers=2), 2, seed=4),
    "lstm float64": lambda: Autoregressive.from_seed(lambda: LSTM(5, hidden_dim=4), 2, seed=4).double(),
    "transformer": lambda: Autoregressive.from_seed(lambda: Transformer(5, 1, 2, 8, 16), 2, seed=4),
}


@pytest.mark.parametrize("covariance", ["diag", "tied"])
def test_a_network_of_vectors_comes_back_with_its_units(covariance, tmp_path):
    data = Sequences.from_list(1e3 + 9 * np.random.default_rng(0).normal(size=(3, 7, 2)))
    family = Gaussian(2, covariance=covariance, variance_floor=1e-4)
    model = Autoregressive.from_seed(lambda: GRU(hidden_dim=4, emission=family), 2, seed=4)
    assert not model.initialized
    model.observe(data)
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert loaded.initialized
    assert loaded.config() == model.config()
    assert loaded.emission.variance_floor == 1e-4
    assert torch.equal(loaded.token_log_prob(data.batch()), model.token_log_prob(data.batch()))


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_gives_the_same_numbers(name, tmp_path):
    model = MODELS[name]().eval()
    save(model, tmp_path / "m")
    loaded = load(tmp_path / "m")
    batch = DATA.batch()
    expected = model.token_log_prob(batch)
    found = loaded.token_log_prob(batch)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert loaded.config() == model.config()
    assert loaded.num_parameters == model.num_parameters


def test_a_family_that_does_not_exist_is_named(tmp_path):
    save(MODELS["rnn"](), tmp_path)
    config = json.loads((tmp_path / "model.json").read_text())["config"]
    config["network"]["emission"]["family"] = "Gausian"
    edit(tmp_path / "model.json", config=config)
    with pytest.raises(InputError, match=r"no Autoregressive has this config \(unknown emission family 'Gausian'; did"):
        load(tmp_path)


def test_tied_weights_stay_tied(tmp_path):
    save(MODELS["transformer"](), tmp_path)
    assert len(list(load(tmp_path).parameters())) == len(list(MODELS["transformer"]().parameters()))


def test_vocabulary_fit_and_choice_come_back(tmp_path):
    vocabulary = Vocabulary(("a", "\u00e9", "\ud800", "<unk>", "<end>"), "char")  # half a surrogate pair, too
    history = np.array([[-2.0, -3.0], [-1.0, np.nan]])
    model = MODELS["hmm"]()
    fit = Fit(model, "objective", history, ["converged", "nonfinite"], 1.5, details={"order": 2})
    save(model, tmp_path, vocabulary, fit, chosen=1)
    saved = load_model(tmp_path)
    assert saved.vocabulary == vocabulary
    assert saved.chosen == 1
    assert saved.fit.model is saved.model
    np.testing.assert_array_equal(saved.fit.history, history)
    assert saved.fit.validation is None
    assert (saved.fit.stop_reason, saved.fit.seconds, saved.fit.details) == (fit.stop_reason, 1.5, {"order": 2})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_leaves_the_model_that_was_there(monkeypatch, tmp_path, call):
    vocabulary = Vocabulary(tuple("abcde"), "symbol")
    old, new = (Autoregressive.from_seed(lambda: GRU(5, hidden_dim=4), seed=seed) for seed in (0, 1))
    save(old, tmp_path, vocabulary)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real, calls = getattr(os, call), []

    def fails(*args):
        calls.append(1)
        if call == "replace" or len(calls) == 3:  # of the three files the last
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(InputError, match=r"cannot write \S+: No space left on device"):
            save(new, tmp_path, vocabulary)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save(new, tmp_path)
    assert torch.equal(load(tmp_path).token_log_prob(DATA.batch()), new.token_log_prob(DATA.batch()))
    assert not (tmp_path / "vocabulary.json").exists()


def test_a_model_of_another_class_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"unknown model class 'Linear'"):
        save(torch.nn.Linear(1, 1), tmp_path)


@pytest.fixture
def folder(tmp_path):
    save(MODELS["hmm"](), tmp_path, Vocabulary(tuple("abcde"), "char"), fit_counts(Unigram(5), DATA))
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x40
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("model.json", lambda path: path.unlink(), "model.json is missing"),
        ("model.json", cut, "model.json is corrupted"),
        ("model.json", lambda path: path.write_bytes(b"\xff\xff"), "model.json is corrupted"),
        ("model.json", lambda path: path.write_text("[]"), "model.json is corrupted: it holds a list"),
        ("model.json", lambda path: edit(path, schema=9), "model.json has schema 9; this version .* reads schema 1"),
        (
            "model.json",
            lambda path: edit(path, config=None),
            "model.json is corrupted: 'config' is missing or not a dict",
        ),
        ("model.json", lambda path: edit(path, config={}), "model.json is corrupted: no HMM has this config"),
        ("model.json", lambda path: edit(path, chosen=7), "model.json is corrupted: the chosen restart is 7"),
        ("model.json", lambda path: edit(path, **{"class": "os.system"}), "unknown model class 'os.system'"),
        ("weights.safetensors", lambda path: path.unlink(), "weights.safetensors is missing"),
        ("weights.safetensors", cut, "weights.safetensors is corrupted"),
        ("weights.safetensors", flip, "weights.safetensors is corrupted"),
        ("vocabulary.json", cut, "vocabulary.json is corrupted"),
        ("vocabulary.json", lambda path: edit(path, symbols=[]), "vocabulary.json is corrupted"),
        ("fit.json", cut, "fit.json is corrupted"),
        ("fit.json", lambda path: edit(path, seconds="x"), "fit.json is corrupted"),
    ],
)
def test_damage_is_named(folder, file, damage, sentence):
    damage(folder / file)
    with pytest.raises(InputError, match=sentence) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_shapes_that_do_not_fit(folder):
    config = json.loads((folder / "model.json").read_text())["config"]
    config["emission"]["num_symbols"] = 6
    edit(folder / "model.json", config=config)
    with pytest.raises(InputError, match=r"weights.safetensors does not fit model.json: size mismatch for"):
        load(folder)


@pytest.mark.parametrize("name", ["none", "empty"])
def test_not_a_folder_of_ours(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no folder|expected one of them"):
        load(tmp_path / name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("checkpoint") / "run"
    models = {
        "uniform": {"kind": "uniform"},
        "hmm": {"kind": "hmm", "num_states": 2, "num_restarts": 2, "num_steps": 2},
    }
    data = {"corpus": "casino", "num_sequences": 30, "length": 10}
    run_study(make_study({"data": data, "models": models}), out, progress=False)
    return out


@pytest.fixture
def run_folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_a_run_comes_back(run_folder):
    run = load(run_folder)
    assert isinstance(run, LoadedRun)
    assert set(run.models) == {"uniform", "hmm"}
    assert run.models["hmm"].num_restarts == 2
    assert len(run.vocabulary) == run.models["hmm"].num_symbols
    assert run.frame["model"].tolist() == [row["model"] for row in run.rows]
    assert run.study["models"]["hmm"]["num_states"] == 2
    assert make_study(run.study).models["hmm"].num_states == 2
    assert run.saved["hmm"].fit.history.shape == (2, 2)


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("comparison.json", lambda path: path.unlink(), "comparison.json is missing"),
        ("comparison.json", cut, "comparison.json is corrupted"),
        ("comparison.json", lambda path: edit(path, schema=None), "comparison.json has schema None"),
        ("comparison.json", lambda path: edit(path, rows=[]), "comparison.json is corrupted: .* no rows"),
        ("comparison.json", lambda path: edit(path, rows=[{}]), "comparison.json is corrupted"),
        ("comparison.json", lambda path: edit(path, rows=[{"model": "../../x"}]), "comparison.json is corrupted"),
        ("study.toml", lambda path: path.unlink(), "study.toml is missing"),
        ("study.toml", lambda path: path.write_text("seed ="), "study.toml is corrupted"),
        ("models/hmm/model.json", lambda path: path.unlink(), "hmm/model.json is missing"),
        ("models/hmm/weights.safetensors", cut, "hmm/weights.safetensors is corrupted"),
    ],
)
def test_a_damaged_run_is_one_sentence(run_folder, file, damage, sentence):
    damage(run_folder / file)
    with pytest.raises(InputError, match=sentence):
        load(run_folder)
