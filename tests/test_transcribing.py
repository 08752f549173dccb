"""What `decode`, `sample` and `score` say of a table of pairs that is written down, not fitted."""

import json

import numpy as np
import pytest
from commands import fails, probseq_cli, succeeds

import probseq as ps
from probseq.scoring import open_fitted
from probseq.transcribing import source_notes, transcribe_file, transcribed_rows

LETTERS = ps.Vocabulary.build(["ab"], "char", min_count=1, end=True)
PHONES = ps.Vocabulary.build(["A"], "symbol", end=True)


def table(end_at="b"):
    """A letter writes A, but `end_at` ends the target, and the walk stays or goes on by one."""
    emission = np.zeros((len(LETTERS), len(PHONES)))
    for symbol in LETTERS.symbols:
        emission[LETTERS.symbols.index(symbol), PHONES.symbols.index("<end>" if symbol == end_at else "A")] = 1
    return ps.AlignmentHMM.from_parameters([1.0], [0.5, 0.5], emission)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ps.save(table(), "b-ends", PHONES, source_vocabulary=LETTERS)
    ps.save(table("<end>"), "table", PHONES, source_vocabulary=LETTERS)
    net = ps.Conditional.from_seed(lambda: ps.Seq2Seq(len(LETTERS), len(PHONES), hidden_dim=4), seed=0)
    ps.save(net, "attention", PHONES, source_vocabulary=LETTERS)
    return tmp_path


def test_a_target_that_does_not_end_is_marked_and_a_posterior_is_as_wide_as_its_source(here):
    """Where the letter is its own end: of a word without one, no target ends."""
    (here / "words.txt").write_text("a\nabaaaaaa\n")
    found = list(transcribe_file(open_fitted(here / "b-ends"), here / "words.txt", posterior=True))
    assert [one["ended"] for one in found] == [False, True]
    assert [one["target"].split() for one in found] == [["A"] * 38, ["A"]]
    assert [one["log_prob"] for one in found] == pytest.approx([0, np.log(0.5)])
    for one, size in zip(found, (2, 9), strict=True):
        assert {len(step) for step in one["posterior"]} == {size}
    assert [row[2] for row in transcribed_rows(found)] == ["target", " ".join(["A"] * 38) + " …", "A"]


def test_letters_that_are_new_stand_as_they_were_typed_and_are_told(here):
    (here / "words.txt").write_text("ab\nxay\n\nxx\n")
    result = probseq_cli("decode", "table", "words.txt", "--format", "json")
    assert result.stderr.splitlines() == [
        "words.txt, line 2: not in the vocabulary, and read as <unk>: x, y",
        "words.txt, line 4: not in the vocabulary, and read as <unk>: x",
    ]
    for one in json.loads(result.stdout):
        letters = [*one["source"], "<end>"]
        assert one["from"] == [letters[s] for s in one["states"]]
        assert len(one["from"]) == len(one["target"].split()) + 1
    drawn = probseq_cli("sample", "table", "--input", "words.txt", "--length", 5)
    assert drawn.stderr == result.stderr


def test_of_many_lines_with_new_letters_five_are_told(here):
    (here / "words.txt").write_text("x\n" * 1200 + "a\n")
    notes = source_notes(open_fitted(here / "table"), here / "words.txt")
    assert len(notes) == 6
    assert notes[4].startswith("words.txt, line 5: ")
    assert notes[5] == "and so on: 1,200 lines in all"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("pairs.tsv", "ab\tA\n", "pairs.tsv is a file of pairs; expected a text file that has a source on each line"),
        ("pairs.jsonl", "{}\n", "pairs.jsonl is a file of pairs"),
        ("pairs.txt", "b\nab\tA\n", "pairs.txt, line 2 has a tab, as pairs have; expected a source alone on each line"),
    ],
)
def test_pairs_are_no_sources(here, name, content, sentence):
    (here / name).write_text(content)
    assert sentence in fails("decode", "table", "--input", name)
    assert sentence in fails("sample", "table", "--input", name)


def test_a_tab_that_is_a_letter_is_read(here):
    letters = ps.Vocabulary.build(["a\tb"], "char", min_count=1, end=True)
    model = ps.AlignmentHMM(len(letters), len(PHONES))
    ps.save(model, "tabs", PHONES, source_vocabulary=letters)
    (here / "words.txt").write_text("a\tb\n")
    assert len(list(transcribe_file(open_fitted(here / "tabs"), here / "words.txt"))) == 1


def test_a_posterior_is_for_json_and_for_states(here):
    (here / "words.txt").write_text("ab\n")
    sentence = "--posterior is a table for each target; expected --format json, or a .json file as --out"
    assert sentence in fails("decode", "table", "words.txt", "--posterior")
    assert sentence in fails("decode", "table", "words.txt", "--posterior", "--out", "x.csv", "--format", "json")
    succeeds("decode", "table", "words.txt", "--posterior", "--out", "x.json")
    assert np.shape(json.loads((here / "x.json").read_text())[0]["posterior"])[1] == 3
    sentence = "attention has no hidden states, so they have no posterior; leave --posterior out"
    assert sentence in fails("decode", "attention", "words.txt", "--posterior", "--format", "json")


def test_a_score_names_source_and_target_and_says_what_is_impossible(here):
    (here / "pairs.tsv").write_text("ab\tA A\nab\tA\nba\tA A\n")
    shown = succeeds("score", "table", "pairs.tsv")
    assert shown.splitlines()[1].split() == [
        "source", "target", "tokens", "log", "p,", "nats", "log", "p,", "bits", "nats/token", "bits/token"
    ]  # fmt: skip
    assert "-inf" in shown
    assert "impossible to the model, so that the total is too: 1 of 3, the first of them 'ab'" in shown
    found = json.loads(succeeds("score", "table", "pairs.tsv", "--format", "json"))["documents"]
    assert [(one["document"], one["target"]) for one in found] == [("ab", "A A"), ("ab", "A"), ("ba", "A A")]
    (here / "pairs.tsv").write_text("ab\tA A\n")
    assert "impossible" not in succeeds("score", "table", "pairs.tsv")
