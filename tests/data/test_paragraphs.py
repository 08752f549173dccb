"""Paragraphs as documents, stop words, and a vocabulary that knows its own data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import probseq as ps
from probseq.data.documents import Document
from probseq.data.paragraphs import cut_paragraphs
from probseq.data.words import split_words, stop_words

PIECES = st.lists(st.sampled_from(["One.", "the", "Two words", "and three words here", "...", "1790", ""]), max_size=8)


@given(PIECES, st.sets(st.sampled_from(["the", "words", "and"])))
@settings(deadline=None, max_examples=100)
def test_no_word_is_lost_and_every_paragraph_has_two(pieces, removed):
    text = "\n\n".join(pieces)
    cut = [one.content for one in cut_paragraphs([Document(text, "a")], removed)]
    assert split_words(" ".join(cut)) == split_words(text)
    counts = [sum(w[0].isalnum() and w not in removed for w in split_words(one)) for one in cut]
    assert all(count >= 2 for count in counts) or len(cut) == 1
    for one in cut:
        assert sum(count >= 2 for count in [len(piece.split()) for piece in one.split("\n\n")]) <= len(pieces)


def test_a_paragraph_of_two_words_stands_alone():
    assert [d.content for d in cut_paragraphs([Document("a b\n\nc d\n \ne f", "x")])] == ["a b", "c d", "e f"]


def test_paragraphs_of_a_text_go_to_the_same_part_and_keep_what_is_known(tmp_path):
    for year in range(1900, 1912):
        (tmp_path / f"{year}.txt").write_text("\n\n".join(f"In {year} we say word{i} again" for i in range(4)))
    corpus = ps.read_corpus(tmp_path, level="word", unit="paragraph", min_count=1)
    assert corpus.num_documents == {"train": 32, "validation": 8, "test": 8}
    texts = {part: {one["document"] for one in known} for part, known in corpus.documents.items()}
    assert sum(len(names) for names in texts.values()) == 12
    assert corpus.documents["test"][1]["name"].endswith(", paragraph 2")
    assert "Every paragraph is a document of its own. Split by text" in corpus.description


def write(folder):
    for i in range(9):
        (folder / f"{i}.txt").write_text(f"The army of the North, and a treaty {i}.")
    return folder


def test_stop_words_leave_every_text(tmp_path):
    corpus = ps.read_corpus(write(tmp_path), level="word", min_count=1, stop_words=("english", "punctuation", "army"))
    assert {"the", "of", "and", "a", ",", ".", "army"}.isdisjoint(corpus.vocabulary.symbols)
    assert corpus.vocabulary.decode(corpus.test[0][:2]) == "north treaty"
    assert corpus.vocabulary.decode(corpus.vocabulary.encode("The treaty of the army")) == "treaty"
    assert "stop words were left out of every text. A score compares only with" in corpus.description
    again = ps.Vocabulary.from_dict(corpus.vocabulary.to_dict())
    assert again == corpus.vocabulary
    assert again.digest == corpus.vocabulary.digest


def test_a_text_of_stop_words_alone_is_left_out(tmp_path):
    (write(tmp_path) / "one.txt").write_text("And the army of the")
    (tmp_path / "none.txt").write_text("And the" + " of the" * 500)
    with pytest.warns(UserWarning, match=r"for want of a symbol at level 'word': none.txt$"):
        corpus = ps.read_corpus(tmp_path, level="word", stop_words=("english",))
    assert sum(corpus.num_documents.values()) == 10
    with pytest.raises(ps.InputError, match=r"no document holds a symbol at level 'word'; .* or fewer stop words"):
        ps.read_corpus(
            tmp_path,
            level="word",
            stop_words=[f"{i}" for i in range(9)] + ["english", *",.", "army", "north", "treaty"],
        )


def test_stop_words_may_be_one_text(tmp_path):
    """Taken letter by letter, it would leave out nothing and say nothing."""
    one = ps.read_corpus(write(tmp_path), level="word", min_count=1, stop_words="english, army")
    assert (
        one.vocabulary == ps.read_corpus(tmp_path, level="word", min_count=1, stop_words=("english", "army")).vocabulary
    )
    with pytest.raises(ps.InputError, match="stop_words is the text 'the'; expected words"):
        ps.Vocabulary.build(["the"], "word", stop_words="the")


def test_a_stop_word_that_occurs_nowhere_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="occur in no document: french; the lists are english and punctuation"):
        corpus = ps.read_corpus(write(tmp_path), level="word", stop_words=("french", "north"))
    assert " 2 stop words were left out" in corpus.description
    assert " 1 stop word was left out" in ps.read_corpus(tmp_path, level="word", stop_words=("north",)).description


def test_a_minimum_count_says_what_it_does(tmp_path):
    corpus = ps.read_corpus(write(tmp_path), level="word", min_count=2)
    assert "Symbols seen fewer than 2 times in training are <unk>, 9.1% of test." in corpus.description
    assert "compares" not in ps.read_corpus(tmp_path, level="word").description


def test_one_table_has_one_vocabulary(tmp_path):
    """Of one size, but of other words: no number of symbols tells them apart."""
    full = ps.read_corpus(write(tmp_path), level="word", min_count=1)
    fewer = ps.read_corpus(tmp_path, level="word", min_count=1, stop_words=("army",))
    other = ps.Vocabulary((*full.vocabulary.symbols[:-1], "zebra"), "word")
    assert len(other) == len(full.vocabulary)
    assert len({full.vocabulary.digest, fewer.vocabulary.digest, other.digest}) == 3
    changed = full.test[:]
    changed.vocabulary = other.digest
    fitted = ps.fit_counts(ps.Unigram(full.num_symbols), full.train).model
    ps.evaluate(fitted, full.test)
    with pytest.raises(ps.InputError, match="another vocabulary than the Unigram has seen before"):
        ps.evaluate(fitted, changed)
    with pytest.raises(ps.InputError, match="only probabilities of the same tokens share a table"):
        ps.compare({"one": ps.Uniform(full.num_symbols)}, validation=full.validation, test=changed)
    hmm = ps.em(ps.HMM(2, ps.emissions.Categorical(full.num_symbols)), full.train, num_steps=1).model
    with pytest.raises(ps.InputError, match="another vocabulary than the HMM"):
        ps.evaluate(ps.select(hmm, 0), changed)
    ps.save(hmm, tmp_path / "model", full.vocabulary)
    with pytest.raises(ps.InputError, match="another vocabulary than the HMM"):
        ps.evaluate(ps.load(tmp_path / "model"), changed)
    ps.evaluate(hmm, ps.Sequences.from_list([[0, 1]]))  # numbers without a vocabulary are anyone's


def test_rows_and_windows_keep_the_vocabulary(tmp_path):
    data = ps.read_corpus(write(tmp_path), level="word").train
    assert data.vocabulary
    assert data[:2].vocabulary == data.windows(3).vocabulary == data.batch(np.array([0])).vocabulary == data.vocabulary


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unit": "page"}, r"unknown unit 'page'; did you mean 'paragraph'|unknown unit 'page'"),
        ({"level": "char", "stop_words": ("the",)}, "received stop words at level 'char'; expected level 'word'"),
        (
            {"level": "word", "stop_words": ("The",)},
            "stop word 'The' is no token; expected a lower-cased word, or a list",
        ),
    ],
)
def test_bad_requests_are_one_sentence(tmp_path, options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.read_corpus(write(tmp_path), **options)


def test_numbers_have_no_paragraphs():
    with pytest.raises(ps.InputError, match="holds numbers"):
        cut_paragraphs([Document(np.arange(3), "a")])
    with pytest.raises(ps.InputError, match="stop words at level 'char'"):
        ps.Vocabulary(("a",), "char", ("a",))
    assert stop_words(()) == ()
