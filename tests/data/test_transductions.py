"""Generated pairs: what is drawn is possible, and probabilities and entropies are those of enumeration."""

import datetime
import itertools

import numpy as np
import pytest
import torch

from probseq.data import transducer
from probseq.data.catalog import load_corpus
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.ops import chain

TASKS = {"repeat": lambda word: word, "reverse": lambda word: word[::-1], "sort": sorted}


@pytest.mark.parametrize("name", TASKS)
def test_tasks_of_letters(name):
    corpus = load_corpus(name, num_sequences=200, length=5)
    end = corpus.vocabulary.end
    assert end == corpus.source_vocabulary.end == 10
    for part in corpus.parts.values():
        for source, target in zip(part.source, part, strict=True):
            assert 2 <= len(source) <= 6
            assert source[-1] == target[-1] == end
            assert target[:-1].tolist() == list(TASKS[name](source[:-1].tolist()))
    assert (corpus.truth.log_prob(corpus.test) == 0).all()
    assert corpus.truth.test_nats_per_token == corpus.truth.entropy_rate == 0
    shuffled = Sequences.from_list([*corpus.test][::-1], source=corpus.test.source)
    same = [np.array_equal(*pair) for pair in zip([*corpus.test], [*corpus.test][::-1], strict=True)]
    assert np.isfinite(corpus.truth.log_prob(shuffled)).sum() < len(shuffled)
    assert np.isfinite(corpus.truth.log_prob(shuffled))[same].all()


def days_of(year):
    first = datetime.date(year, 1, 1)
    return [first + datetime.timedelta(days=i) for i in range(365)]


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("3/4/1987", ["1987-03-04", "1987-04-03"]),
        ("4/4/1987", ["1987-04-04"]),
        ("25/4/1987", ["1987-04-25"]),
        ("4/25/1987", ["1987-04-25"]),
        ("3.4.1987", ["1987-04-03"]),
        ("3 april 1987", ["1987-04-03"]),
        ("april 3, 1987", ["1987-04-03"]),
        ("3 apr 1987", ["1987-04-03"]),
        ("3 may 1987", ["1987-05-03"]),
        ("31 april 1987", []),
        ("april 03, 1987", []),
    ],
)
def test_the_readings_of_a_date_share_its_probability(text, readings):
    corpus = load_corpus("dates", num_sequences=20)
    targets = [day.isoformat() for day in days_of(1987)]
    encode, given = corpus.vocabulary.encode_document, corpus.source_vocabulary.encode_document(text)
    pairs = Sequences.from_list([encode(one) for one in targets], source=Sequences.from_list([given] * len(targets)))
    probs = dict(zip(targets, np.exp(corpus.truth.log_prob(pairs)), strict=True))
    assert {one: prob for one, prob in probs.items() if prob} == pytest.approx({x: 1 / len(readings) for x in readings})


def test_what_is_no_date_has_no_probability():
    corpus = load_corpus("dates", num_sequences=20)
    given = corpus.source_vocabulary.encode_document("3/4/1987")
    whole = corpus.vocabulary.encode_document("1987-04-03")
    wrong = [
        whole[:-1],
        np.append(whole, whole[-1]),
        whole[[0, 1, 10]],
        corpus.vocabulary.encode_document("1987-13-03"),
    ]
    pairs = Sequences.from_list([whole, *wrong], source=Sequences.from_list([given] * 5))
    assert corpus.truth.log_prob(pairs).tolist() == [-np.log(2), *[-np.inf] * 4]


def test_dates_have_their_entropy():
    corpus = load_corpus("dates", num_sequences=20_000)
    nats = -corpus.truth.log_prob(corpus.train)
    assert set(np.unique(nats)) == {0.0, np.log(2)}
    share = corpus.truth.parameters["ambiguous"]
    assert share == pytest.approx(12 * 11 * 200 / 73_049 / 5)  # days below 13 of twelve months, without those alike
    error = np.sqrt(share * (1 - share) / len(nats))
    assert (nats > 0).mean() == pytest.approx(share, abs=3 * error)
    assert corpus.truth.entropy_rate == pytest.approx(share * np.log(2) / 11)


def paths(source, length):
    """Every path that ends at the last position, as (positions, probability), by the definition."""
    last = len(source) - 1
    for inner in itertools.product(range(last), repeat=length - 1):
        positions, probability = [-1, *inner, last], 1.0
        for begin, end in itertools.pairwise(positions):
            reach = {k: transducer.JUMPS[k - begin] for k in range(max(begin, 0), min(begin + 3, last + 1))}
            probability *= reach.get(end, 0.0) / sum(reach.values())
        yield positions[1:], probability


def enumerated(source, target):
    """``p(y | x)`` as the sum over all paths."""
    table = transducer.emission()
    return sum(
        probability * np.prod([table[source[s], y] for s, y in zip(positions, target, strict=True)])
        for positions, probability in paths(source, len(target))
    )


@pytest.mark.parametrize("jumps", [transducer.JUMPS, (0.1, 0.3, 0.6)])
def test_the_transducer_is_the_sum_over_all_paths(monkeypatch, jumps):
    monkeypatch.setattr(transducer, "JUMPS", jumps)
    corpus = load_corpus("transducer", num_sequences=400, length=4)
    short = corpus.train[np.flatnonzero(corpus.train.lengths <= 5)[:60]]
    expected = [enumerated(x, y) for x, y in zip(short.source, short, strict=True)]
    assert np.exp(corpus.truth.log_prob(short)) == pytest.approx(expected, abs=1e-12)
    assert min(expected) > 0


def test_the_transducer_agrees_with_the_engine():
    corpus = load_corpus("transducer", num_sequences=200)
    emission, total = torch.tensor(transducer.emission()), []
    for source, target in zip(corpus.test.source, corpus.test, strict=True):
        probs = torch.tensor(transducer.jump_probs(len(source)))
        emitted = emission[source][:, target].log().T
        steps, length = torch.arange(len(target))[None], torch.tensor([len(target)])
        potentials = chain.Potentials(probs[:1][None], probs[1:][None, None], emitted[None], steps, length)
        total.append(float(chain.token_log_prob(potentials).sum()))
    assert corpus.truth.log_prob(corpus.test) == pytest.approx(total, abs=1e-10)


@pytest.mark.parametrize("source", [[0, 9], [4, 6, 9], [2, 3, 8, 9]])
def test_the_targets_of_a_source_sum_to_one(source):
    corpus = load_corpus("transducer", num_sequences=20)
    letters = sorted({int(y) for x in source[:-1] for y in np.flatnonzero(transducer.emission()[x])})
    longest = {2: 5, 3: 3, 4: 3}[len(source)]
    mass = 0.0
    for size in range(longest + 1):
        targets = [[*one, 12] for one in itertools.product(letters, repeat=size)]
        pairs = Sequences.from_list(targets, source=Sequences.from_list([source] * len(targets)))
        mass += np.exp(corpus.truth.log_prob(pairs)).sum()
    probs = transducer.jump_probs(len(source))
    belief = probs[0, :-1]
    for _ in range(longest):
        belief = belief @ probs[1:-1, :-1]
    assert mass == pytest.approx(1 - belief.sum(), abs=1e-12)  # what is left has not reached the end yet


def test_what_goes_on_after_its_end_is_no_target():
    corpus = load_corpus("transducer", num_sequences=20)
    targets = [[0, 12], [0, 12, 12], [12, 0], [0, 0], [12, 0, 12], [4, 12]]
    pairs = Sequences.from_list(targets, source=Sequences.from_list([[0, 9]] * 6))
    assert np.isfinite(corpus.truth.log_prob(pairs)).tolist() == [True, *[False] * 5]


@pytest.mark.parametrize("length", [1, 2, 8])
def test_the_entropy_in_closed_form_is_what_draws_have(length):
    corpus = load_corpus("transducer", num_sequences=8000, length=length)
    nats, tokens = -corpus.truth.log_prob(corpus.train), corpus.train.lengths
    rate = corpus.truth.entropy_rate
    error = (nats - rate * tokens).std() / np.sqrt(len(nats)) / tokens.mean()
    assert nats.sum() / tokens.sum() == pytest.approx(rate, abs=3 * error)
    assert error < 0.02 * rate / 3


def test_generated_pairs_begin_with_the_same_draws_of_a_seed():
    one, other = (load_corpus("transducer", num_sequences=100, seed=seed) for seed in (0, 1))
    again = load_corpus("transducer", num_sequences=100)
    assert again.train.values.tolist() == one.train.values.tolist()
    assert other.train.values.tolist() != one.train.values.tolist()


@pytest.mark.parametrize("name", [*TASKS, "dates", "transducer"])
def test_pairs_are_never_cut(name):
    with pytest.raises(InputError, match=r"window is 3; the longest sequence with a source has \d+ tokens and must"):
        load_corpus(name, num_sequences=50, window=3)
    corpus = load_corpus(name, num_sequences=50, window=None)
    assert corpus.is_parallel
    assert corpus.num_source_symbols == len(corpus.source_vocabulary)
    for part in corpus.parts.values():
        assert part.vocabulary == corpus.vocabulary.digest
        assert part.source.vocabulary == corpus.source_vocabulary.digest
    assert len(corpus.train) + len(corpus.validation) + len(corpus.test) == 50
