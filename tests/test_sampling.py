"""Texts that a model writes: whole, in pieces, and on the command line."""

import json

import pytest
import torch
from commands import fails, succeeds

import probseq as ps
from probseq.checkpoint import load_model
from probseq.data.vocabulary import Vocabulary
from probseq.sampling import prefix_notes, sample_text, stream_text

TEXT = "the cat sat on the mat. a bat é sat. "
LEVELS = ("char", "letters", "byte", "word", "symbol")


def model_of(level, end=False):
    vocabulary = Vocabulary.build([TEXT], level, min_count=1, end=end)
    torch.manual_seed(0)
    return ps.Autoregressive([ps.GRU(len(vocabulary), hidden_dim=8)]), vocabulary


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("prefix", ["", "the cat"])
def test_the_pieces_of_a_stream_are_the_text(level, prefix):
    model, vocabulary = model_of(level, end=True)
    options = {"length": 60, "prefix": prefix, "seed": 3, "temperature": 1.2}
    (whole,) = sample_text(model, vocabulary, num=1, **options)
    pieces = list(stream_text(model, vocabulary, **options))
    assert "".join(piece.text for piece in pieces) == whole.text
    assert sum(piece.num_tokens for piece in pieces) == whole.num_tokens
    assert sum(piece.log_prob for piece in pieces) == pytest.approx(whole.log_prob)


def test_a_letter_of_two_bytes_is_printed_when_it_is_whole():
    vocabulary = Vocabulary.build([TEXT], "byte")
    model = ps.NGram(256, max_order=3)
    ps.fit_counts(model, ps.Sequences.from_list([vocabulary.encode("é" * 300)]))
    pieces = [piece.text for piece in stream_text(model, vocabulary, length=7, temperature=0)]
    assert pieces == ["", "", "é", "", "é", "", "é", "", "\ufffd"]  # the last one was cut


@pytest.mark.parametrize("level", ["char", "word", "byte"])
def test_a_long_stream_decodes_each_symbol_once(level, monkeypatch):
    model, vocabulary = model_of(level)
    sizes, decode = [0], Vocabulary.decode
    monkeypatch.setattr(Vocabulary, "decode", lambda self, ids: sizes.append(len(ids)) or decode(self, ids))
    assert sum(piece.num_tokens for piece in stream_text(model, vocabulary, length=50)) == 50
    assert max(sizes) <= 2


def test_a_typed_symbol_ends_a_text():
    model, vocabulary = model_of("char")
    (text,) = sample_text(model, vocabulary, num=1, length=500, seed=1, stop=".")
    assert text.text.index(".") == len(text.text) - 1 < 400
    assert text.num_tokens == len(text.text.replace("<unk>", "?"))
    with pytest.raises(ps.InputError, match="--stop 'cat', which is 3 symbols of the model; expected one"):
        sample_text(model, vocabulary, num=1, length=5, stop="cat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model, vocabulary = model_of("char")
    path = tmp_path_factory.mktemp("sampling") / "gru"
    ps.save(model, path, vocabulary=vocabulary)
    return path


def test_the_command_streams_what_it_prints_at_once(folder):
    arguments = ("sample", folder, "--prefix", "the ", "--length", 40, "--seed", 5, "--temperature", 0.9, "--top-k", 9)
    arguments += ("--top-p", 0.99)
    whole = succeeds(*arguments)
    assert whole.startswith("the ")
    assert succeeds(*arguments, "--stream") == whole
    assert succeeds(*arguments, "--temperature", 0) != whole


def test_the_command_gives_log_probabilities_as_json(folder):
    drawn = json.loads(succeeds("sample", folder, "--prefix", "the ", "--length", 12, "--num", 3, "--format", "json"))
    saved = load_model(folder)
    for one in drawn:
        symbols = saved.vocabulary.encode(one["text"].replace("<unk>", "?"))  # a sign it has never seen
        with torch.no_grad():
            terms = saved.model.token_log_prob(ps.Sequences.from_list([symbols]).batch())[0, 0, 4:]
        assert one["num_tokens"] == len(terms) == 8
        assert one["log_prob_nats"] == pytest.approx(float(terms.sum()), rel=1e-5)


def test_what_becomes_of_a_prefix_is_said(folder):
    vocabulary = load_model(folder).vocabulary
    assert prefix_notes("the cat", vocabulary) == []
    assert prefix_notes("the 7#", vocabulary) == [
        "not in the vocabulary, and read as <unk>: 2 of the 6 symbols of the prefix"
    ]
    words = Vocabulary.build([TEXT], "word", min_count=1, stop_words=["the", "on"])
    (note,) = prefix_notes("the cat on", words)
    assert note == "left out of the prefix, because the model was fitted without stop words: 2 of 3"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--stop", "#"), "received --stop '#', which is not in the vocabulary"),
        (("--stream", "--num", 2), "received --stream with --num 2"),
        (("--stream", "--format", "json"), "it prints one text, as it is"),
        (("--temperature", -1), "temperature is -1"),
        (("--top-k", 0), "top_k is 0"),
        (("--top-p", 2), "top_p is 2"),
        (("--stop", "ab"), "which is 2 symbols"),
    ],
)
def test_bad_options_are_one_sentence(folder, arguments, sentence):
    assert sentence in fails("sample", folder, *arguments)


def test_vectors_take_no_options_of_symbols(tmp_path):
    ps.save(ps.HMM(2, ps.emissions.Bernoulli(2)), tmp_path / "hmm")
    assert "received --top-k, --stream, and the model" in fails("sample", tmp_path / "hmm", "--top-k", 2, "--stream")
