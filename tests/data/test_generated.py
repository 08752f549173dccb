import itertools

import numpy as np
import pytest
from scipy import stats

from probseq.data.catalog import load_corpus
from probseq.data.generated import entropy_bounds, markov_log_prob, stationary
from probseq.data.sequences import Sequences
from probseq.errors import InputError


def all_sequences(num_symbols, length):
    return Sequences.from_list(list(itertools.product(range(num_symbols), repeat=length)))


def markov(corpus):
    return tuple(corpus.truth.parameters[name] for name in ("initial", "transition", "emission"))


@pytest.mark.parametrize("name", ["hmm", "casino"])
def test_the_log_prob_is_the_sum_over_paths(name):
    corpus = load_corpus(name, num_sequences=10, length=4)
    initial, transition, emission = markov(corpus)
    data = Sequences.from_list([[0, 1, 2, 2], [1, 1, 0], [3]])
    for x, given in zip(data, corpus.truth.log_prob(data), strict=True):
        total = 0.0
        for path in itertools.product(range(len(initial)), repeat=len(x)):
            p = initial[path[0]] * emission[path[0], x[0]]
            for t in range(1, len(x)):
                p *= transition[path[t - 1], path[t]] * emission[path[t], x[t]]
            total += p
        assert np.exp(given) == pytest.approx(total, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("name", ["hmm", "casino"])
def test_the_start_is_stationary_and_probabilities_sum_to_one(name):
    corpus = load_corpus(name, num_sequences=10, length=10)
    initial, transition, emission = markov(corpus)
    assert np.allclose(initial @ transition, initial, atol=1e-12)
    assert np.isclose(initial.sum(), 1)
    assert np.allclose(transition.sum(1), 1)
    assert np.allclose(emission.sum(1), 1)
    assert np.exp(corpus.truth.log_prob(all_sequences(emission.shape[1], 4))).sum() == pytest.approx(1, abs=1e-12)


def test_the_entropy_rate_of_hmm_is_the_limit_of_block_entropies():
    corpus = load_corpus("hmm", num_sequences=10, length=10)
    _, transition, emission = markov(corpus)
    bounds = [entropy_bounds(transition, emission, n) for n in (2, 4, 6, 8)]
    rate = corpus.truth.entropy_rate
    uppers = [upper for _, upper in bounds]
    assert all(lower == pytest.approx(rate, abs=1e-10) for lower, _ in bounds)  # known start: synchronised at once
    assert uppers == sorted(uppers, reverse=True)
    assert rate < uppers[-1] < rate + 0.015
    gaps = np.array(uppers) - rate
    assert (gaps[1:] < 0.8 * gaps[:-1]).all()  # and falling geometrically


def test_hmm_is_not_markov_of_low_order():
    """Three b or c after an a let a follow; two or four do not."""
    corpus = load_corpus("hmm", num_sequences=10, length=10)
    data = Sequences.from_list([[0, *[1] * n, 0] for n in range(8)])
    assert np.isfinite(corpus.truth.log_prob(data)).tolist() == [n % 3 == 0 for n in range(8)]


def test_the_casino_rate_lies_between_its_bounds():
    corpus = load_corpus("casino", num_sequences=10, length=10)
    lower, upper = corpus.truth.parameters["entropy_rate_bounds"]
    assert lower <= corpus.truth.entropy_rate <= upper < lower + 1e-4
    initial, transition, emission = markov(corpus)
    assert initial == pytest.approx([2 / 3, 1 / 3])
    wide = entropy_bounds(transition, emission, 5)  # all six faces
    assert wide[0] <= lower
    assert upper <= wide[1]


def test_an_independent_process_has_the_entropy_of_one_draw():
    emission = np.array([[0.2, 0.3, 0.5]])
    lower, upper = entropy_bounds(np.ones((1, 1)), emission, 3)
    assert lower == pytest.approx(upper) == pytest.approx(-(emission * np.log(emission)).sum())
    assert stationary(np.array([[0.9, 0.1], [0.3, 0.7]])) == pytest.approx([0.75, 0.25])
    impossible = markov_log_prob(np.ones(1), np.ones((1, 1)), np.array([[1.0, 0.0]]), Sequences.from_list([[0, 1, 0]]))
    assert impossible.tolist() == [-np.inf]


@pytest.mark.parametrize("name", ["hmm", "casino", "brackets", "agreement", "copy", "parity"])
def test_draws_have_the_entropy_that_is_claimed(name):
    corpus = load_corpus(name, window=None)
    log_prob = corpus.truth.log_prob(corpus.train)
    assert np.isfinite(log_prob).all()
    tokens = corpus.train.lengths
    rate = corpus.truth.entropy_rate
    excess = -log_prob - rate * tokens  # of each sequence; zero in the mean, for long ones up to a start-up term
    start = {"hmm": 1.0, "casino": 0.1}.get(name, 0.0)
    error = excess.std() / np.sqrt(len(excess))
    assert -4 * error < excess.mean() < start + 4 * error


@pytest.mark.parametrize("name", ["hmm", "casino", "brackets", "agreement", "copy", "parity"])
def test_the_truth_is_about_the_test_part_as_it_is(name):
    corpus = load_corpus(name, num_sequences=200, length=60, test_tokens=600)
    expected = -corpus.truth.log_prob(corpus.test).sum() / corpus.test.num_tokens
    assert corpus.truth.test_nats_per_token == pytest.approx(expected)
    assert corpus.test.num_tokens <= 600


@pytest.mark.parametrize("name", ["hmm", "casino", "brackets", "agreement", "copy", "parity"])
def test_the_same_seed_gives_the_same_draws(name):
    first, again, other = (load_corpus(name, num_sequences=50, length=20, seed=seed) for seed in (3, 3, 4))
    assert first.train.values.tolist() == again.train.values.tolist() != other.train.values.tolist()
    assert first.num_documents == {"train": 40, "validation": 5, "test": 5}


def test_windows_of_a_stationary_process_have_exact_probabilities_too():
    corpus = load_corpus("hmm", window=8, num_sequences=100, length=32)
    assert corpus.test.lengths.max() == 8
    assert np.isfinite(corpus.truth.test_nats_per_token)


@pytest.mark.parametrize("length", [2, 4, 6])
def test_brackets_are_a_distribution_over_balanced_ones(length):
    corpus = load_corpus("brackets", num_sequences=300, length=length)
    data = all_sequences(4, length)
    log_prob = corpus.truth.log_prob(data)
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-12)
    for x, value in zip(data, log_prob, strict=True):
        text = corpus.vocabulary.decode(x).replace(" ", "")
        while text != (text := text.replace("()", "").replace("[]", "")):
            pass
        assert np.isfinite(value) == (text == "")
    possible = log_prob[np.isfinite(log_prob)]
    assert corpus.truth.entropy_rate == pytest.approx(-(np.exp(possible) * possible).sum() / length, abs=1e-12)


def test_brackets_stay_within_their_depth():
    corpus = load_corpus("brackets")
    for part in corpus.parts.values():
        depth = np.cumsum(np.where(part.values < 2, 1, -1).reshape(len(part), 32), axis=1)
        assert depth.min() == 0
        assert depth.max() == 4
        assert (depth[:, -1] == 0).all()
    deep = Sequences.from_list([[0] * 5 + [2] * 5 + [0, 2] * 11, [0, 2]])
    assert corpus.truth.log_prob(deep).tolist() == [-np.inf, -np.inf]


def test_agreement_is_a_distribution_over_sentences():
    corpus = load_corpus("agreement", num_sequences=300, length=6)
    log_prob = corpus.truth.log_prob(all_sequences(20, 3))
    short = np.exp(log_prob).sum()
    assert short == pytest.approx(0.4, abs=1e-12)  # without another phrase
    drawn = corpus.truth.log_prob(corpus.train[corpus.train.lengths == 6])
    sentences = 8 * 3 * 8 * 4  # nouns, prepositions, nouns, verbs that agree
    assert np.exp(drawn) == pytest.approx(0.6 / sentences)


def test_the_verb_agrees_with_the_subject_and_not_with_its_neighbour():
    corpus = load_corpus("agreement")
    words = [corpus.vocabulary.decode(one).split() for one in corpus.train]

    def plural(noun):
        return noun.endswith(("s", "children"))

    assert all(plural(x[1]) != x[-1].endswith("s") for x in words)
    assert any(plural(x[-2]) == x[-1].endswith("s") for x in words)
    assert max(map(len, words)) == 18
    wrong = corpus.vocabulary.encode("the dogs sleeps")
    right = corpus.vocabulary.encode("the dogs near the child sleep")
    assert np.isfinite(corpus.truth.log_prob(Sequences.from_list([wrong, right]))).tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("brackets", {"length": 7}, "length of balanced brackets is 7; expected an even number"),
        ("agreement", {"length": 2}, "length of an agreement sentence is 2"),
        ("copy", {"length": 6}, "length of a copy task is 6; expected 7 or more"),
        ("parity", {"length": 2}, "length of a parity task is 2; expected 3 or more"),
        ("copy", {"window": 16}, "sequences of 'copy' have up to 32 tokens"),
        ("parity", {"window": 16}, "sequences of 'parity' have up to 24 tokens"),
        ("brackets", {"window": 16}, "window is 16; sequences of 'brackets' have up to 32 tokens"),
        ("agreement", {"window": 5}, "must stay whole"),
        ("hmm", {"end": True}, "corpus 'hmm' is no text and can have no end symbol"),
        ("hmm", {"num_sequences": 0}, "num_sequences is 0"),
        ("hmm", {"num_sequences": 2}, "too small to split"),
    ],
)
def test_bad_input(name, options, sentence):
    with pytest.raises(InputError, match=sentence):
        load_corpus(name, **options)


def gaussian(parameters, k, x):
    return stats.norm.pdf(x, parameters["mean"][k], parameters["scale"][k]).prod()


def poisson(parameters, k, x):
    return stats.poisson.pmf(x[0], parameters["rate"][k])


VECTORS = {"gaussian-hmm": gaussian, "poisson-hmm": poisson}


@pytest.mark.parametrize("name", VECTORS)
def test_the_density_of_vectors_is_the_sum_over_paths(name):
    corpus = load_corpus(name, num_sequences=10, length=4)
    known = corpus.truth.parameters
    for x, given in zip(corpus.test, corpus.truth.log_prob(corpus.test), strict=True):
        total = 0.0
        for path in itertools.product(range(3), repeat=len(x)):
            p = known["initial"][path[0]] * VECTORS[name](known, path[0], x[0])
            for t in range(1, len(x)):
                p *= known["transition"][path[t - 1], path[t]] * VECTORS[name](known, path[t], x[t])
            total += p
        assert given == pytest.approx(np.log(total), rel=1e-12)
    assert corpus.truth.test_nats_per_token == pytest.approx(-corpus.truth.log_prob(corpus.test).sum() / 4)


@pytest.mark.parametrize("name", VECTORS)
def test_drawn_vectors_have_the_moments_of_the_model(name):
    corpus = load_corpus(name, num_sequences=400, length=100)
    known = corpus.truth.parameters
    mean = known.get("mean", known.get("rate", np.zeros(0))[:, None] if "rate" in known else None)
    variance = known["scale"] ** 2 if "scale" in known else mean
    weights = known["initial"]
    expected = weights @ mean
    spread = weights @ (variance + mean**2) - expected**2
    values = corpus.train.values
    assert values.mean(axis=0) == pytest.approx(expected, abs=0.06 * np.sqrt(spread).max())
    assert values.var(axis=0) == pytest.approx(spread, rel=0.08)
    assert corpus.level == "vector"
    assert corpus.vocabulary is None
    assert corpus.emission == name.removesuffix("-hmm")
