"""The command line: what it writes and prints, and that every bad input is one sentence and exit code 2."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import fails, probseq_cli, succeeds

import probseq
from probseq.checkpoint import load
from probseq.data.sequences import Sequences
from probseq.evaluate import evaluate
from probseq.models.hmm import HMM
from probseq.specs import KINDS

TEXT = "".join(f"the cat {i} sat on the mat\n" for i in range(200))
STUDY = """
seed = 3
[data]
path = "text.txt"
window = 32
train_tokens = 1_000
[models.unigram]
kind = "unigram"
[models.hmm-2]
kind = "hmm"
num_states = 2
num_restarts = 2
num_steps = 3
[models.gru]
kind = "gru"
hidden_dim = 4
num_restarts = 1
num_steps = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a text and a study."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, and a text to score."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "text.txt").write_text(TEXT)
        (folder / "study.toml").write_text(STUDY)
        output = succeeds("compare", "study.toml", "--out", "run")
    (folder / "new.txt").write_text("the mat sat on the cat \u00e9\n")
    assert output.count("run/report.html") == 1
    assert all(name in output for name in ("unigram", "hmm-2", "gru", "nats/token", "seconds in all"))
    return folder / "run"


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# What it does


def test_help_of_every_command_has_examples():
    asking = ("score", "sample", "decode", "forecast", "sensitivity")
    for command in ("compare", "fit", *asking, "data list", "data info"):
        assert "Examples:" in succeeds(*command.split(), "--help")


def test_help_of_fit_names_every_kind():
    """By hand, because reading the kinds would load torch for a page of help."""
    words = set(re.findall(r"[\w-]+", succeeds("fit", "--help")))
    assert set(KINDS) <= words


def test_version():
    assert succeeds("--version") == f"probseq {probseq.__version__}\n"


def test_the_ranking_fits_in_80_columns(run, monkeypatch):
    monkeypatch.setattr("probseq.tables._WIDTH", 80)
    output = succeeds("compare", run / "study.toml", "--data", run.parent / "text.txt", "--out", run.parent / "narrow")
    printed = [line.split() for line in output.splitlines()]
    for row in load(run.parent / "narrow").rows:
        numbers = [f"{row[key]:.4f}" for key in ("nats_per_token", "bits_per_token")]
        assert [str(row["rank"]), row["model"], *numbers] in [fields[:4] for fields in printed]
        assert [str(row["num_restarts"]), f"{row['fit_seconds']:.1f}"] in [fields[-2:] for fields in printed]


def test_compare_options_replace_those_of_the_study(here):
    (here / "mine.txt").write_text(TEXT.upper())
    arguments = ("--data", "mine.txt", "--level", "letters", "--seed", 5, "--window", 16, "--device", "cpu")
    succeeds("compare", "study.toml", *arguments)
    study = load(here / "runs" / "study-mine-letters-seed5").study
    caps = {"window": 16, "train_tokens": 1000, "end": False, "history": "window"}
    assert study["data"] == {"path": "mine.txt", "level": "letters", **caps}
    assert (study["seed"], study["device"], study["name"]) == (5, "cpu", "study-mine")


def test_compare_without_out_finds_a_free_folder(here):
    for _ in range(3):
        succeeds("fit", "unigram", "--data", "text.txt")
    names = ["unigram-text-char-seed0", "unigram-text-char-seed0-2", "unigram-text-char-seed0-3"]
    assert sorted(path.name for path in (here / "runs").iterdir()) == names


def test_fit_takes_every_setting(here):
    options = (
        "--num-states",
        3,
        "--num-restarts",
        2,
        "--num-steps",
        4,
        "--set",
        "tol=0",
        "--set",
        "start=near_uniform",
    )
    succeeds("fit", "hmm", "--data", "text.txt", *options, "--out", "out")
    run = load(here / "out")
    assert run.study["models"]["hmm"]["start"] == "near_uniform"
    assert run.models["hmm"].transition.shape == (2, 3, 3)
    assert run.saved["hmm"].fit.history.shape == (4, 2)


def test_fit_knows_the_catalog(here):
    succeeds("fit", "uniform", "--data", "casino", "--out", "out")
    assert load(here / "out").study["data"]["corpus"] == "casino"


def test_score_is_what_evaluate_says(run):
    new = run.parent / "new.txt"
    found = json.loads(succeeds("score", run, new, "--model", "hmm-2", "--restart", 1, "--format", "json"))
    loaded = load(run)
    symbols = loaded.vocabulary.encode(new.read_text())
    expected = evaluate(loaded.models["hmm-2"].select(1), Sequences.from_list([symbols]))
    total = found["total"]
    assert total["log_prob_nats"] == pytest.approx(expected.log_prob[0, 0], rel=1e-12)
    assert total["bits_per_token"] == pytest.approx(expected.bits_per_token[0], rel=1e-12)
    assert total["num_tokens"] == len(symbols) == new.read_text().__len__()
    assert (found["model"], found["restart"], found["likelihood"]) == ("hmm-2", 1, "exact")


def test_score_of_windows_adds_up_by_document(run, tmp_path):
    lines = [{"text": "the cat sat"}, {"text": "mat on the mat"}, {"text": "on"}]
    path = tmp_path / "new.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    arguments = ("score", run / "models" / "unigram", path, "--format", "json")
    whole = json.loads(succeeds(*arguments))
    cut = json.loads(succeeds(*arguments, "--window", 4))
    assert [one["num_tokens"] for one in cut["documents"]] == [11, 14, 2]
    for one, other in zip(cut["documents"], whole["documents"], strict=True):  # a unigram does not see the cuts
        assert one["log_prob_nats"] == pytest.approx(other["log_prob_nats"], rel=1e-12)
    assert cut["total"]["log_prob_nats"] == pytest.approx(sum(one["log_prob_nats"] for one in cut["documents"]))
    assert cut["total"]["log_prob_bits"] == pytest.approx(cut["total"]["log_prob_nats"] / math.log(2))


def test_score_table_shows_the_best_model_by_default(run):
    output = succeeds("score", run, run.parent / "new.txt")
    assert load(run).rows[0]["model"] in output
    assert "total" in output
    assert "exact" in output


def test_a_symbol_unseen_in_training_is_scored_as_unknown(run, tmp_path):
    scores = []
    for text in ("cat \u00e9", "cat \u4e2d"):  # two symbols that training never saw
        (tmp_path / "new.txt").write_text(text, encoding="utf-8")
        scores.append(json.loads(succeeds("score", run, tmp_path / "new.txt", "--format", "json"))["total"])
    assert scores[0] == scores[1]


def test_sample_repeats_with_a_seed_and_begins_with_the_prefix(run):
    arguments = ("sample", run, "--model", "hmm-2", "--prefix", "the ", "--length", 30, "--num", 2)
    first = succeeds(*arguments, "--seed", 1)
    assert first.startswith("the ")
    assert first == succeeds(*arguments, "--seed", 1)
    assert first != succeeds(*arguments, "--seed", 2)


def test_decode_prints_the_viterbi_path(run):
    new = run.parent / "new.txt"
    header, *lines = [line.split("\t") for line in succeeds("decode", run, new, "--model", "hmm-2").splitlines()]
    assert header == ["document", "step", "symbol", "state"]
    saved = load(run).saved["hmm-2"]
    batch = Sequences.from_list([saved.vocabulary.encode(new.read_text())]).batch()
    path = saved.model.select(saved.chosen).viterbi(batch)[0, 0].tolist()
    assert [int(line[3]) for line in lines] == path
    assert [line[2] for line in lines[:4]] == ["'t'", "'h'", "'e'", "' '"]
    assert [line[1] for line in lines] == [str(i) for i in range(len(path))]


def test_posterior_marginals_sum_to_one(run):
    output = succeeds("decode", run, run.parent / "new.txt", "--model", "hmm-2", "--posterior", "--format", "json")
    (document,) = json.loads(output)
    np.testing.assert_allclose(np.sum(document["posterior"], axis=1), 1)
    assert len(document["posterior"]) == len(document["symbols"])


def test_forecast_of_symbols_is_the_distribution_after_the_text(run):
    arguments = ("forecast", run, run.parent / "new.txt", "--model", "hmm-2", "--steps", 2)
    (document,) = json.loads(succeeds(*arguments, "--format", "json"))
    saved = load(run).saved["hmm-2"]
    model = saved.model.select(saved.chosen)
    batch = Sequences.from_list([saved.vocabulary.encode((run.parent / "new.txt").read_text())]).batch()
    expected = model.symbols_ahead(batch, 2)[0, 0]
    for found, probs in zip(document["probabilities"], expected, strict=True):
        assert list(found.values()) == sorted(found.values(), reverse=True)
        for symbol, p in found.items():
            assert p == pytest.approx(float(probs[saved.vocabulary.symbols.index(symbol)]))
        assert len(found) == 5
    assert "probability" in succeeds(*arguments)


def test_decode_writes_symbols_to_a_table(run, tmp_path):
    arguments = ("decode", run, run.parent / "new.txt", "--model", "hmm-2")
    succeeds(*arguments, "--posterior", "--out", tmp_path / "states.csv")
    lines = (tmp_path / "states.csv").read_text().splitlines()
    assert lines[0] == "document,step,symbol,state,p_0,p_1"
    assert lines[1].startswith("new.txt,0,t,")
    printed = succeeds(*arguments, "--posterior").splitlines()
    assert len(printed[0].split("\t")) == 6


def test_data_commands():
    assert all(name in succeeds("data", "list") for name in ("sotu", "casino", "earthquakes", "sp500"))
    assert "train" in succeeds("data", "info", "casino")


def test_draws_that_cannot_be_trusted_say_so_in_the_terminal_and_in_the_report(here):
    study = """
[data]
corpus = "casino"
num_sequences = 20
length = 10
[models.nuts]
kind = "nuts-hmm"
num_states = 2
num_samples = 4
num_warmup = 4
"""
    (here / "nuts.toml").write_text(study)
    output, page = succeeds("compare", "nuts.toml", "--out", "out"), (here / "out" / "report.html").read_text()
    assert "so many draws: nuts 8" in output
    for text in (output, page):
        assert "nuts: " in text.replace("<strong>nuts</strong>", "nuts")
        assert "R-hat" in text
    assert "drawn, not maximized" in page
    assert "Made as large as possible by nuts" not in page


def test_ctrl_c_writes_the_run_and_exits_with_130(here, monkeypatch):
    import signal

    m_step = HMM.m_step

    def press(self, counts):
        signal.raise_signal(signal.SIGINT)
        m_step(self, counts)

    monkeypatch.setattr(HMM, "m_step", press)
    result = probseq_cli("compare", "study.toml", "--out", "out")
    assert result.exit_code == 130
    assert set(load(here / "out").models) == {"unigram", "hmm-2"}


def test_ctrl_c_while_reading_writes_nothing(here, monkeypatch):
    import signal

    monkeypatch.setattr("probseq.specs.data.read_corpus", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    before = listing(here)
    result = probseq_cli("compare", "study.toml", "--out", "out")
    assert (result.exit_code, result.stderr) == (130, "interrupted; nothing was written\n")
    assert listing(here) == before


# Bad input


def compare_file(name, content):
    def make(here):
        (here / name).write_bytes(content)
        return ("compare", "study.toml", "--data", name)

    return make


BAD_DATA = {
    "missing file": (lambda _: ("compare", "study.toml", "--data", "none.txt"), "no file or folder none.txt"),
    "empty file": (compare_file("a.txt", b""), "a.txt is empty"),
    "not UTF-8": (compare_file("a.txt", b"abc \xff" * 99), "not UTF-8 text (byte 0xff at offset 4)"),
    "too small": (compare_file("a.txt", b"abc"), "too small to split"),
    "too few documents": (compare_file("a.jsonl", b'{"text": "abc"}\n' * 9), "too small to split"),
    "file type": (compare_file("a.pdf", b"abc"), "unknown file type '.pdf'"),
    "vectors": (compare_file("a.csv", b"1.5,2.5\n2.5,3.5\n4.5,5.5\n6.5,7.5\n"), "vectors"),
    "unknown corpus": (
        lambda _: ("compare", "study.toml", "--data", "sotuu"),
        "unknown corpus 'sotuu'; did you mean 'sotu'",
    ),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(here, name):
    make, sentence = BAD_DATA[name]
    arguments = make(here)
    before = listing(here)
    assert sentence in fails(*arguments)
    assert listing(here) == before


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_without_a_place_in_the_source(here):
    (here / "a.csv").write_text("text,n\nabcab,1\nbacba,2\ncabba,3\n,4\nq,5\n")
    result = probseq_cli("compare", "study.toml", "--data", "a.csv")
    assert result.exit_code == 0, result.output
    (line,) = [one for one in result.stderr.splitlines() if "left out" in one]
    assert line.startswith("warning: left out, for want of a symbol at level 'char': ")
    assert ".py" not in result.stderr


FIT = ("fit", "hmm", "--data", "text.txt", "--out", "out")
BAD_ARGUMENTS = {
    "unknown model": (("fit", "hmmm", "--data", "text.txt"), "unknown model kind 'hmmm'; did you mean 'hmm'"),
    "unknown level": (("compare", "study.toml", "--level", "leters"), "unknown level 'leters'; did you mean 'letters'"),
    "unknown preset": (("compare", "--preset", "quik"), "unknown preset 'quik'; did you mean 'quick'"),
    "unknown setting": ((*FIT, "--set", "num_sttes=3"), "unknown key 'num_sttes'; did you mean 'num_states'"),
    "unknown device": (("compare", "study.toml", "--device", "gpu"), "unknown device 'gpu'"),
    "unknown start": ((*FIT, "--num-states", 2, "--set", "start=dirichle"), "did you mean 'dirichlet'"),
    "setting without value": ((*FIT, "--set", "num_states"), "expected key=value"),
    "setting of another kind": (
        (*FIT, "--num-states", 2, "--hidden-dim", 3),
        "received --hidden-dim, which is not of kind 'hmm'; leave it out",
    ),
    "no states given": (FIT, "models.hmm.num_states: missing"),
    "zero states": ((*FIT, "--num-states", 0), "models.hmm.num_states: received 0; expected a number >= 1"),
    "negative restarts": ((*FIT, "--num-states", 2, "--num-restarts", -1), "received -1; expected a number >= 1"),
    "zero steps": ((*FIT, "--num-states", 2, "--num-steps", 0), "received 0; expected a number >= 1"),
    "negative seconds": ((*FIT, "--num-states", 2, "--seconds", -1), "received -1.0; expected a number > 0"),
    "negative seed": (("compare", "study.toml", "--seed", -1), "seed: received -1; expected a number >= 0"),
    "window": (("compare", "study.toml", "--window", 1), "data.window: received 1; expected a number >= 2"),
    "study and preset": (("compare", "study.toml", "--preset", "quick"), "expected one of them"),
    "missing study": (("compare", "none.toml"), "cannot read the study none.toml"),
    "folder as study": (("compare", "."), "cannot read the study"),
    "text as study": (("compare", "text.txt"), "text.txt is not a TOML file"),
    "existing out": (("compare", "study.toml", "--out", "."), "the output folder . exists"),
    "existing file out": (("compare", "study.toml", "--out", "text.txt"), "the output folder text.txt exists"),
    "unwritable out": (("compare", "study.toml", "--out", "text.txt/run"), "cannot write in text.txt"),
    "corpus info": (("data", "info", "sotuu"), "unknown corpus 'sotuu'; did you mean 'sotu'"),
    "no such run": (("score", "none", "text.txt"), "there is no folder none"),
    "no run": (("sample", "."), "expected one of them"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments(here, name):
    arguments, sentence = BAD_ARGUMENTS[name]
    before = listing(here)
    assert sentence in fails(*arguments)
    assert listing(here) == before


def test_unknown_study_key(here):
    (here / "study.toml").write_text(STUDY.replace("hidden_dim", "hiden_dim"))
    assert "models.gru.hiden_dim: unknown key 'hiden_dim'; did you mean 'hidden_dim'" in fails("compare", "study.toml")
    assert not (here / "runs").exists()


def test_an_unwritable_parent(here, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")  # the tests may run as root, whom no mode stops

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert "cannot write in .: Permission denied" in fails("compare", "study.toml", "--out", "out")


def test_cuda_where_there_is_none(here, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in fails("compare", "study.toml", "--device", "cuda", "--out", "out")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("score", "RUN", "none.txt"), "none.txt"),
        (("score", "RUN", "NEW", "--model", "hmm"), "unknown model 'hmm'; did you mean 'hmm-2'"),
        (("score", "RUN/models/gru", "NEW", "--model", "hmm-2"), "is the folder of one model"),
        (("score", "RUN", "NEW", "--model", "hmm-2", "--restart", 2), "restart 2 of 2"),
        (("score", "RUN", "NEW", "--window", 1), "window is 1"),
        (("score", "RUN", "NEW", "--format", "xml"), "unknown format 'xml'"),
        (("decode", "RUN", "NEW", "--model", "gru"), "the model gru has no states to decode; expected an HMM"),
        (("forecast", "RUN", "NEW", "--model", "gru"), "the model gru has no states to forecast from; expected an HMM"),
        (("sample", "RUN", "--prefix", "the cat", "--length", 3), "--length 3; expected 7 or more tokens, which hold"),
        (("sample", "RUN", "--length", 0), "received --length 0; expected 1 or more tokens"),
    ],
)
def test_bad_questions(run, arguments, sentence):
    given = [str(one).replace("RUN", str(run)).replace("NEW", str(run.parent / "new.txt")) for one in arguments]
    assert sentence in fails(*given)


def test_score_of_an_empty_file(run, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    assert "empty" in fails("score", run, tmp_path / "empty.txt")


def test_an_unseen_symbol_is_named_where_the_vocabulary_has_no_unknown(here):
    (here / "a.jsonl").write_text("\n".join(json.dumps({"text": f"red blue red {'blue ' * i}"}) for i in range(9)))
    succeeds("fit", "unigram", "--data", "a.jsonl", "--level", "symbol", "--out", "out")
    (here / "b.txt").write_text("red green")
    assert "b.txt: symbol 'green' at position 1 is not among the 2 symbols" in fails("score", "out", "b.txt")


def test_a_corrupted_run_is_one_sentence(here):
    succeeds("fit", "unigram", "--data", "text.txt", "--out", "out")
    weights = here / "out" / "models" / "unigram" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "weights.safetensors is corrupted" in fails("sample", "out")
    weights.unlink()
    assert "weights.safetensors is missing" in fails("score", "out", "text.txt")


def test_the_module_runs_as_a_program(tmp_path):
    """Outside the test runner: no traceback, nothing but the sentence."""
    command = [sys.executable, "-m", "probseq", "compare", "--preset", "quik"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    valid = "g2p, letters, quick, series, words"
    assert result.stderr == f"error: unknown preset 'quik'; did you mean 'quick'? (valid: {valid})\n"
    assert list(tmp_path.iterdir()) == []


def test_numbers_are_not_scored_by_a_model_of_text(tmp_path):
    (tmp_path / "text.txt").write_text("some words in a line\n" * 60, encoding="utf-8")
    (tmp_path / "numbers.csv").write_text("0,1,2\n2,1,0\n", encoding="utf-8")
    run = tmp_path / "run"
    succeeds("fit", "unigram", "--data", tmp_path / "text.txt", "--out", run)
    assert "holds numbers, and the model was fitted to text" in fails("score", run, tmp_path / "numbers.csv")
    (tmp_path / "new.txt").write_text("ZZ some", encoding="utf-8")
    assert "not in the vocabulary, and scored as <unk>: 2 tokens" in succeeds("score", run, tmp_path / "new.txt")


def test_a_long_table_is_scored_with_the_columns_of_its_run(tmp_path):
    rows = "".join(f"s{i},{(i >> t) % 2}\n" for i in range(40) for t in range(6))
    (tmp_path / "long.csv").write_text("id,value\n" + rows, encoding="utf-8")
    run = tmp_path / "run"
    succeeds("fit", "unigram", "--data", tmp_path / "long.csv", "--id-column", "id", "--out", run)
    result = json.loads(succeeds("score", run, tmp_path / "long.csv", "--format", "json"))
    assert result["total"]["num_tokens"] == 240
