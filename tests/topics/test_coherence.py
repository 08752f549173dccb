"""Coherence against gensim's, and against counting windows one by one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.topics import coherence, diversity, npmi_coherence

TEXTS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), min_size=1, max_size=6)
WORDS = [[0, 1, 2], [2, 3, 4]]


def windows(text, width):
    return [set(text)] if width is None else [set(text[i : i + width]) for i in range(max(1, len(text) - width + 1))]


def plain(words, texts, width):
    every = [one for text in texts for one in windows(text, width)]
    share = lambda *these: sum(one.issuperset(these) for one in every) / len(every)
    values = []
    for v, w in itertools.combinations(words, 2):
        if not share(v) or not share(w):
            values.append(0.0)
            continue
        if share(v, w) == 1:
            values.append(1.0)
            continue
        together = share(v, w) + 1e-12
        values.append(math.log(together / (share(v) * share(w))) / -math.log(together))
    return sum(values) / len(values)


@given(TEXTS, st.sampled_from([2, 3, 5, 20, None]))
@settings(deadline=None, max_examples=100)
def test_coherence_counts_windows(texts, width):
    every = any(
        {v, w} <= one for t in texts for one in windows(t, width) for v, w in itertools.combinations(range(5), 2)
    )
    found = npmi_coherence(WORDS, Sequences.from_list(texts), width)
    assert np.isfinite(found).all()
    if every:
        np.testing.assert_allclose(found, [plain(row, texts, width) for row in WORDS], atol=1e-9)


@given(TEXTS)
@settings(deadline=None, max_examples=20)
def test_pieces_do_not_matter(texts):
    data = Sequences.from_list(texts)
    whole = npmi_coherence(WORDS, data, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coherence, "_PIECE", 4)
        np.testing.assert_allclose(npmi_coherence(WORDS, data, 3), whole, atol=1e-12)


def gensim_coherence(words, texts, width):
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel

    texts = [[str(w) for w in text] for text in texts]
    return CoherenceModel(
        topics=[[str(v) for v in row] for row in words],
        texts=texts,
        dictionary=Dictionary([[str(v) for v in range(60)], *texts]),
        coherence="c_npmi",
        window_size=width,
        processes=1,
    ).get_coherence_per_topic()


@pytest.mark.parametrize(("repeats", "width"), [(False, 10), (True, 60), (True, 10)])
def test_coherence_is_that_of_gensim(repeats, width, monkeypatch):
    """As gensim is, where no word stands twice in a window that moves on: there it forgets the second one."""
    analysis = pytest.importorskip("gensim.topic_coherence.text_analysis")
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 100)
    if repeats:
        texts = [(rng.zipf(1.4, length) % 60).tolist() for length in lengths]
    else:
        texts = [rng.permutation(60)[:length].tolist() for length in lengths]
    words = rng.permuted(np.tile(np.arange(40), (4, 1)), axis=1)[:, :8]
    found = npmi_coherence(words, Sequences.from_list(texts), width)
    if repeats and width < 60:

        def remember(self, window, doc_num):
            self._uniq_words[:] = False
            self._uniq_words[np.unique(window)] = True

        with pytest.raises(AssertionError):
            np.testing.assert_allclose(found, gensim_coherence(words, texts, width), atol=1e-9)
        monkeypatch.setattr(analysis.WordOccurrenceAccumulator, "_slide_window", remember)
    np.testing.assert_allclose(found, gensim_coherence(words, texts, width), atol=1e-9)


def test_words_that_are_in_every_window_belong_together():
    often = [Sequences.from_list([[0, 1]] * num + [[2]]) for num in (9, 99, 999)]
    assert [npmi_coherence([[0, 1]], data)[0] for data in often] == pytest.approx([1.0] * 3)
    assert npmi_coherence([[0, 1]], Sequences.from_list([[0, 1], [1, 0, 0]])).tolist() == [1.0]


def test_diversity_is_a_share_of_different_words():
    assert diversity([[0, 1, 2], [3, 4, 5]]) == 1
    assert diversity([[0, 1, 2], [2, 1, 0]]) == 0.5


@pytest.mark.parametrize(
    ("words", "window", "sentence"),
    [
        ([[0, 0]], 10, "two different words or more"),
        ([[0]], 10, "two different words or more"),
        ([[0, 1]], 1, "window is 1; expected 2 or more"),
    ],
)
def test_bad_input_is_one_sentence(words, window, sentence):
    with pytest.raises(InputError, match=sentence):
        npmi_coherence(words, Sequences.from_list([[0, 1]]), window)
    with pytest.raises(InputError, match="the top words of each topic"):
        diversity([0, 1])
