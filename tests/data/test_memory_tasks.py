"""Tasks of memory: their probabilities by enumeration, and what is asked about them."""

import itertools

import numpy as np
import pytest

from probseq.data.catalog import load_corpus
from probseq.data.questions import ask, tasks
from probseq.data.sequences import Sequences
from probseq.errors import InputError


def every(symbols, lengths):
    return [x for length in lengths for x in itertools.product(range(symbols), repeat=length)]


def test_copies_are_a_distribution_over_copies():
    corpus = load_corpus("copy", num_sequences=100, length=9)
    words = list(itertools.product(range(4), repeat=3))
    copies = [(*word, *[4] * delay, 5, *word) for word in words for delay in range(3)]
    log_prob = corpus.truth.log_prob(Sequences.from_list(copies))
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-12)
    wrong = [(*copies[5][:-1], 3), copies[5][:-1], (*words[0], 4, 4, 4, 5, *words[0]), (5, 1, 2, 5, 5, 1, 2)]
    assert np.isneginf(corpus.truth.log_prob(Sequences.from_list(wrong))).all()
    assert {tuple(x) for x in corpus.train} <= set(copies)


def test_parities_are_a_distribution_over_all_strings():
    corpus = load_corpus("parity", num_sequences=100, length=6)
    strings = every(5, range(3, 7))
    log_prob = corpus.truth.log_prob(Sequences.from_list(strings))
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-12)
    for x, one in zip(strings, log_prob, strict=True):
        if np.isfinite(one):
            assert x[-1] == 3 + sum(x[:-2]) % 2


@pytest.mark.parametrize("task", tasks())
def test_only_the_right_answer_is_possible(task):
    """No sequence goes on after the prompt with any other answer."""
    corpus = load_corpus(task, num_sequences=300)
    questions = ask(task, corpus.test, per_distance=3)
    whole = {tuple(x) for x in corpus.test}
    for prompt, answers, distance in zip(questions.prompts, questions.answers, questions.distance, strict=True):
        rest = [x for x in whole if x[: len(prompt)] == tuple(prompt)]
        assert any(x[len(prompt)] == answers[0] for x in rest)
        assert not any(x[len(prompt)] == one for x in rest for one in answers[1:])
        assert 1 <= distance <= len(prompt)


def test_the_distance_is_that_to_what_the_answer_follows_from():
    vocabulary = load_corpus("brackets", num_sequences=20).vocabulary
    found = ask("brackets", Sequences.from_list([vocabulary.encode("( [ ] ( ) )")]))
    assert found.distance.tolist() == [1, 1, 5]
    assert found.answers.tolist() == [[3, 2], [2, 3], [2, 3]]
    assert found.depth.tolist() == [1, 1, 2]
    found = ask("brackets", Sequences.from_list([vocabulary.encode("( ( [ ] ( [ ] ) ) [ ] ) ( )")]))
    assert found.distance.tolist() == [1, 1, 3, 7, 1, 11, 1]
    assert found.depth.tolist() == [1, 1, 2, 3, 1, 4, 1]
    agreement = load_corpus("agreement", num_sequences=20).vocabulary
    found = ask("agreement", Sequences.from_list([agreement.encode("the dogs near the child sleep")]))
    assert found.distance.tolist() == [4]
    assert [agreement.symbols[i] for i in found.answers[0]] == ["sleep", "sleeps"]
    copy = load_corpus("copy", num_sequences=20).vocabulary
    found = ask("copy", Sequences.from_list([copy.encode("a b a . ? a b a")]))
    assert found.distance.tolist() == [5, 5, 5]
    assert found.answers[:, 0].tolist() == [0, 1, 0]
    parity = load_corpus("parity", num_sequences=20).vocabulary
    found = ask("parity", Sequences.from_list([parity.encode("1 0 1 1 = odd")]))
    assert found.distance.tolist() == [5]
    assert [parity.symbols[i] for i in found.answers[0]] == ["odd", "even"]


def test_no_more_are_asked_than_wanted():
    found = ask("brackets", load_corpus("brackets", num_sequences=300).test, per_distance=7)
    assert np.bincount(found.distance).max() == 7
    assert len(found) == len(found.prompts)


def test_other_corpora_are_refused():
    with pytest.raises(InputError, match="unknown task 'bracket'; did you mean 'brackets'"):
        ask("bracket", Sequences.from_list([[0]]))
    with pytest.raises(InputError, match="nothing can be asked about agreement"):
        ask("agreement", Sequences.from_list([[0, 1]]))
