"""Pairs that no parameters make possible are refused by name before anything is fitted."""

import itertools
import math
import re
from dataclasses import replace

import pytest

import probseq as ps
from probseq.impossible_pairs import refuse_impossible
from probseq.study import make_study, run_study

WORDS = [f"{a}{b}{c}" for a in "abc" for b in "abc" for c in "abc"]
STRICT = {"states": "alignment", "monotone": True, "jumps": [1, 2], "hidden_dim": 4, "num_restarts": 1, "num_steps": 1}
KINDS = {
    "hmm-decoder": STRICT,
    "svi-hmm-decoder": STRICT,
    "alignment-hmm": {"monotone": True, "jumps": [1, 2], "num_restarts": 1, "num_steps": 1},
}


def write_pairs(long=None):
    """Words that are spelled out, and one of them with a target of five symbols; lines by word."""
    with open("pairs.tsv", "w") as file:
        file.writelines(f"{word}\t{' '.join(word)}{' b a' if word == long else ''}\n" for word in WORDS)
    return {word: f"line {i}" for i, word in enumerate(WORDS, start=1)}


def part_of(corpus, word):
    """Where the pairs of a source are."""
    read = corpus.source_vocabulary
    return next(name for name, part in corpus.parts.items() if word in [read.decode(x[:-1]) for x in part.source])


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["train", "validation"])
def test_model_part_line_and_text_are_named(kind, part):
    write_pairs()
    corpus = ps.read_pairs("pairs.tsv")
    word = next(word for word in WORDS if part_of(corpus, word) == part)
    lines = write_pairs(word)
    assert part_of(ps.read_pairs("pairs.tsv"), word) == part
    study = make_study({"data": {"path": "pairs.tsv"}, "models": {"walk": {"kind": kind, **KINDS[kind]}}})
    target = f"{' '.join(word)} b a"
    pair = f"{lines[word]} of pairs.tsv ({part}), {word!r} to {target!r}, has a target of 6 symbols and a source of 4"
    with pytest.raises(ps.InputError, match="^" + re.escape(f"models.walk: {pair}, ends included, which is impos")):
        run_study(study, progress=False)


@pytest.fixture
def corpus():
    """Generated pairs, which have no lines; that of train is impossible."""
    corpus = ps.load_corpus("repeat", num_sequences=40)
    source = ps.Sequences.from_list([[0, corpus.source_vocabulary.end]])
    return replace(corpus, train=ps.Sequences.from_list([[0] * 500 + [corpus.vocabulary.end]], source=source))


def test_pairs_without_lines_are_named_by_their_text_cut_where_it_is_long(corpus):
    model = ps.AlignmentHMM(corpus.num_source_symbols, corpus.num_symbols, jumps=(1, 2), end=corpus.vocabulary.end)
    read, written = corpus.source_vocabulary.decode([0]), corpus.vocabulary.decode([0] * 500)
    sentence = f"models.m: sequence 0 (train), {read!r} to {written[:79] + '…'!r}, has a target of 501 symbols"
    with pytest.raises(ps.InputError, match="^" + re.escape(sentence)):
        refuse_impossible({"m": model}, corpus)


def test_pairs_of_numbers_are_named_by_their_row(corpus):
    train = ps.Sequences.from_list([[0, 2], [0, 1, 2]], source=ps.Sequences.from_list([[0, 2], [0, 2]]))
    corpus = replace(corpus, train=train, vocabulary=None, source_vocabulary=None)
    with pytest.raises(ps.InputError, match=r"^models\.m: sequence 1 \(train\) has a target of 3 symbols"):
        refuse_impossible({"m": ps.AlignmentHMM(3, 3, jumps=(1, 2), end=2)}, corpus)


# Where every step moves on, and there is nothing to move along

END = 2  # of the target; 3 is that of the source


@pytest.fixture(params=["network", "tables"])
def strict(request):
    """A model whose walk uses every position once at most, in double precision."""
    if request.param == "tables":
        return ps.AlignmentHMM(4, 3, jumps=(1, 2), end=END)
    return ps.Conditional.from_seed(lambda: ps.HMMDecoder(4, 3, jumps=(1, 2), end=END, hidden_dim=4)).double()


def log_prob(model, target, source):
    data = ps.Sequences.from_list([[*target, END]], source=ps.Sequences.from_list([[*source, 3]]))
    return ps.evaluate(model, data).log_prob[0, 0], data


def test_an_empty_source_has_the_empty_target_and_no_other(strict):
    assert log_prob(strict, [], [])[0] == 0
    score, data = log_prob(strict, [0], [])
    assert score == -math.inf
    fit = ps.em if isinstance(strict, ps.AlignmentHMM) else ps.fit_gradient
    with pytest.raises(ps.InputError, match="has a target of 2 symbols and a source of 1, ends included"):
        fit(strict, data, num_steps=1)


def test_an_empty_target_may_be_of_any_source(strict):
    """Together with those that are no longer than the source it is certain."""
    assert -math.inf < log_prob(strict, [], [0, 1])[0] < 0
    every = [list(y) for n in range(3) for y in itertools.product(range(END), repeat=n)]
    assert sum(math.exp(log_prob(strict, y, [0, 1])[0]) for y in every) == pytest.approx(1, abs=1e-10)
