"""Documents, time, the map, agreement and the reading that holds them all, on topics that are known."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import probseq as ps
from probseq import plots
from probseq.topics import (
    documents_by_topic,
    read_topics,
    top_words,
    topic_agreement,
    topic_distances,
    topic_map,
    topic_shares,
    topics_over_time,
)

TOPICS = torch.tensor([[0.48, 0.48, 0.02, 0.02], [0.02, 0.02, 0.48, 0.48]], dtype=torch.float64)
DATA = ps.Sequences.from_list([[0, 1, 0, 1, 0], [2, 3, 2], [0, 2], [1, 1, 0, 3]])


def known(*orders):
    """A restart for each order of the two topics."""
    model = ps.LDA(2, 4, num_restarts=len(orders), start="parameters", alpha=[0.2, 0.3])
    model.log_concentration.data.copy_((1000 * torch.stack([TOPICS[list(o)] for o in orders])).log())
    return model


def test_shares_are_those_of_the_model_in_the_order_of_the_data():
    model = known([0, 1], [1, 0])
    found = topic_shares(model, DATA)
    np.testing.assert_allclose(found, model.document_topics(DATA.batch()).numpy(), atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1)
    assert found[0, 0, 0] > 0.9 > 0.1 > found[1, 0, 0] - 0.05


def test_documents_of_a_topic_are_those_it_has_the_largest_share_of():
    shares = topic_shares(known([0, 1]), DATA)[0]
    assert documents_by_topic(shares, 2).tolist() == [[0, 3], [1, 2]]
    assert documents_by_topic(shares, 9).shape == (2, 4)


def test_documents_of_a_few_words_do_not_come_first_where_their_number_is_known():
    """One or two words leave no doubt of their topic, and say little; of long documents the purer is first."""
    shares, words = [[0.98, 0.02], [0.99, 0.01], [0.95, 0.05], [0.97, 0.03], [0.1, 0.9]], [1, 2, 100, 100, 100]
    assert documents_by_topic(shares, 3)[0].tolist() == [1, 0, 3]
    assert documents_by_topic(shares, 3, words)[0].tolist() == [3, 2, 1]
    silent = documents_by_topic([[0.5, 0.5], [0.5, 0.5]], words=[0, 0])
    assert silent.tolist() == [[0, 1], [0, 1]]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1790, 1830)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=30)
def test_shares_of_a_span_are_averages_over_its_words(documents):
    rng = np.random.default_rng(len(documents))
    shares, years = rng.dirichlet(np.ones(3), len(documents)), [year for _, year in documents]
    data = ps.Sequences.from_list([[0] * length for length, _ in documents])
    begins, table, words = topics_over_time(shares, data, years, 10)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert words.sum() == data.num_tokens
    for begin, row in zip(begins, table, strict=True):
        inside = [i for i, year in enumerate(years) if begin <= year < begin + 10]
        total = sum(documents[i][0] * shares[i] for i in inside)
        np.testing.assert_allclose(row, total / sum(documents[i][0] for i in inside), atol=1e-12)


def test_distances_are_those_of_scipy_and_the_map_keeps_them():
    from scipy.spatial.distance import jensenshannon

    topics = np.random.default_rng(0).dirichlet(np.ones(5), 3)
    expected = [[jensenshannon(p, q, base=2) for q in topics] for p in topics]
    np.testing.assert_allclose(topic_distances(topics), expected, atol=1e-9)
    points = topic_map(topics)  # three points always fit into a plane
    between = np.linalg.norm(points[:, None] - points, axis=-1)
    np.testing.assert_allclose(between, expected, atol=1e-9)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(topic_map(topics[[2, 0, 1]]), points[[2, 0, 1]], atol=1e-9)


def test_one_topic_has_a_place_on_the_map():
    assert topic_map([[0.5, 0.5]]).tolist() == [[0.0, 0.0]]


def test_topics_that_changed_places_are_the_same_topics():
    model = known([0, 1], [1, 0], [0, 1])
    found = topic_agreement(model, 0, num_words=2)
    assert found.permutations.tolist() == [[0, 1], [1, 0], [0, 1]]
    np.testing.assert_allclose(found.cosine, 1)
    np.testing.assert_allclose(found.overlap, 1)
    assert found.found.tolist() == [2, 2]
    assert found.num_others == 2


def test_a_topic_of_one_restart_alone_is_luck():
    model = known([0, 1], [1, 0])
    model.log_concentration.data[1, 1] = torch.tensor([10.0, 10.0, 580.0, 400.0]).log()  # it was the first topic
    found = topic_agreement(model, 0, num_words=2)
    assert found.found.tolist() == [0, 1]
    assert found.cosine[1, 0] < 0.1


@pytest.mark.parametrize("num_words", [30, 60, 300])
def test_unrelated_topics_are_not_found_again(num_words):
    model = ps.LDA(8, num_words, num_restarts=20, start="random")
    shape, noise = (20, 8, num_words), torch.Generator().manual_seed(0)
    model.log_concentration.data = 2 * torch.randn(shape, dtype=torch.float64, generator=noise)
    found = topic_agreement(model, 0)
    assert found.num_words == min(20, num_words // 5)
    assert found.found.mean() < 0.06 * 19


def test_a_reading_says_all():
    model = known([0, 1], [1, 0])
    found = read_topics(model, DATA, "abcd", times=[1790, 1795, 1801, 1802], num_words=2, num_documents=1)
    assert found.words["probability"] == [["a", "b"], ["c", "d"]]
    assert found.prevalence[0] > found.prevalence[1]
    assert found.frame["found_again"].tolist() == [1, 1]
    assert found.frame["topic"].tolist() == [0, 1]
    assert found.documents.tolist() == [[0], [1]]
    assert found.over_time.shape == (2, 2)
    assert found.spans.tolist() == [1790, 1800]
    assert found.points.shape == (2, 2)
    assert "1 of 1" in repr(found)
    assert "a b" in repr(found)


def test_topics_of_a_model_with_classes_are_read_too():
    model = ps.SyntaxTopics(2, 3, 4, num_restarts=2, start="random")
    found = read_topics(model, DATA, "abcd", num_words=2)
    assert found.prevalence.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.shares, model.document_topics(DATA.batch())[0].numpy(), atol=1e-6)
    assert found.agreement.num_others == 1


def test_prevalence_counts_the_words_that_topics_emit():
    """Ten words of the first topic among ninety of another class, and twenty of the second."""
    model = ps.SyntaxTopics(2, 2, 6, start="random", alpha=0.01)
    table = torch.full((3, 6), 1e-9, dtype=torch.float64)
    table[0, :2] = table[1, 2:4] = table[2, 4:] = 0.5
    model.log_words.data.copy_(table.log()[None])
    data = ps.Sequences.from_list([[0, *[4] * 9] * 10, [2, 3] * 10])
    found = read_topics(model, data, num_words=2, times=[1790, 1790])
    np.testing.assert_allclose(found.prevalence, [1 / 3, 2 / 3], atol=1e-3)
    np.testing.assert_allclose(found.over_time, [[1 / 3, 2 / 3]], atol=1e-3)


def test_a_reading_does_not_begin_with_documents_of_one_word():
    model = ps.LDA.from_parameters(TOPICS, alpha=0.01)
    data = ps.Sequences.from_list([[0], [0, 1] * 45 + [2, 3] * 5, [2, 3] * 50])
    assert topic_shares(model, data)[0][:2, 0].argmax() == 0
    assert read_topics(model, data, num_words=2).documents[0, 0] == 1


def test_one_restart_says_nothing_of_luck():
    found = read_topics(known([0, 1]), DATA, num_words=2)
    assert np.isnan(found.agreement.mean_overlap).all()
    assert found.words["probability"][0] == ["0", "1"]
    assert " - " in repr(found)
    assert found.spans is None


@pytest.mark.parametrize("width", [8.5, 3.75])
def test_figures_show_every_topic(width):
    found = read_topics(known([0, 1], [1, 0]), DATA, ["a", "b$", "c", "d"], times=[1790, 1795, 1801, 1802])
    points = plots.plot_topic_map(found, width)
    (circles,) = points.axes[0].collections
    areas = circles.get_sizes()
    np.testing.assert_allclose(areas[0] / areas[1], found.prevalence.max() / found.prevalence.min())
    assert [text.get_text() for text in points.axes[0].texts][:2] == [str(k) for k in found.order]
    lines = plots.plot_topics_over_time(found, width)
    assert sorted(label.get_text()[0] for label in lines.axes[0].get_yticklabels()) == ["0", "1"]
    with pytest.raises(ps.InputError, match="the topics were read without times"):
        plots.plot_topics_over_time(read_topics(known([0, 1]), DATA))


@pytest.mark.parametrize("width", [8.5, 3.75])
def test_what_is_written_on_the_map_neither_overlaps_nor_is_cut(width):
    rng = np.random.default_rng(0)
    kinds = rng.dirichlet(np.full(30, 0.1), size=2)
    table = 0.97 * kinds[np.arange(24) % 2] + 0.03 * rng.dirichlet(np.full(30, 0.1), size=24)  # a crowd at two places
    words = [f"ship{i}" for i in range(30)]
    found = read_topics(ps.LDA.from_parameters(table, alpha=0.1), ps.Sequences.from_list([range(30)]), words)
    figure = plots.plot_topic_map(found, width)
    figure.canvas.draw()
    texts = figure.axes[0].texts
    for text in texts:
        text.arrowprops = text.arrow_patch = None  # its line to the circle may pass under others
    boxes = [text.get_window_extent() for text in texts]
    numbers = [text.get_text() for text in texts if text.get_text().isdigit()]
    assert len(texts) > len(numbers) == 24
    pairs = itertools.combinations(zip(texts, boxes, strict=True), 2)
    assert [(a.get_text(), b.get_text(), x, y) for (a, x), (b, y) in pairs if x.overlaps(y)] == []
    frame = figure.bbox
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


def test_the_circle_of_a_topic_that_is_luck_is_empty():
    model = known([0, 1], [1, 0])
    model.log_concentration.data[1, 1] = torch.tensor([10.0, 10.0, 580.0, 400.0]).log()
    found = read_topics(model, DATA)
    found = replace(found, agreement=topic_agreement(model, 0, num_words=2))
    (circles,) = plots.plot_topic_map(found).axes[0].collections
    by_topic = dict(zip(found.order.tolist(), circles.get_facecolors()[:, 3].tolist(), strict=True))
    assert by_topic[0] < 0.1 < 0.6 < by_topic[1]


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: read_topics(ps.Unigram(4), DATA), "received a Unigram, which has no topics; expected an LDA"),
        (lambda: topic_shares(ps.Unigram(4), DATA), "received a Unigram, which has no topics"),
        (lambda: read_topics(known([0, 1]), DATA, restart=1), "restart 1 of 1"),
        (lambda: read_topics(known([0, 1]), DATA, "abc"), "received 3 names of words; expected 4"),
        (lambda: read_topics(known([0, 1]), DATA, times=[1790]), "N finite numbers"),
        (lambda: topics_over_time([[1.0]], ps.Sequences.from_list([[0]]), [1.0], 0), "width is 0"),
        (lambda: documents_by_topic([1.0]), r"expected \(N, K\)"),
        (lambda: documents_by_topic([[1.0]], words=[1, 2]), r"words have shape \(2,\); expected 1 numbers"),
    ],
)
def test_bad_input_is_one_sentence(ask, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ask()


def with_empty(num_empty):
    """Two restarts with the two known topics, and so many to which no word has gone."""
    model = ps.LDA(2 + num_empty, 4, num_restarts=2, start="parameters", alpha=[0.2, 0.3] + [1e-9] * num_empty)
    even = torch.full((num_empty, 4), 0.25, dtype=torch.float64)
    table = torch.cat([even, TOPICS])
    model.log_concentration.data.copy_(1000 * torch.stack([table, table.flip(0)])).log_()
    return model


def test_empty_topics_are_in_one_line_and_no_restart_finds_them_again():
    model = with_empty(3)
    reading = read_topics(model, DATA)
    assert reading.empty.tolist() == [True, True, True, False, False]
    assert sorted(reading.order.tolist()) == [3, 4]
    assert reading.agreement.found.tolist() == [0, 0, 0, 1, 1]
    assert reading.frame["topic"].tolist() == reading.order.tolist()
    assert "3 more are empty: no word has gone there" in repr(reading)
    assert len(repr(reading).splitlines()) == 1 + 2 + 1 + 1
    assert reading.diversity == read_topics(known([0, 1]), DATA).diversity
    np.testing.assert_array_equal(np.isnan(reading.points).any(axis=1), reading.empty)
    plots.plot_topic_map(reading).canvas.draw()
    even = ps.LDA.from_parameters(np.full((2, 4), 0.25))
    assert not read_topics(even, DATA).empty.any()  # where all are alike there is nothing else to show


def test_words_of_another_vocabulary_are_refused(tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.txt").write_text(f"the army of the north and a treaty of peace {i}")
    corpus, fewer = (ps.read_corpus(tmp_path, level="word", min_count=1, stop_words=s) for s in ((), ("army",)))
    model = ps.em(ps.LDA(2, corpus.num_symbols), corpus.train, num_steps=2).model
    read_topics(model, corpus.train, corpus.vocabulary, reference=corpus.validation)
    for options in (
        {"reference": fewer.train},
        {"data": fewer.train},
        {"vocabulary": ps.Vocabulary(corpus.vocabulary.symbols[::-1], "word")},
    ):
        name = next(iter(options))
        with pytest.raises(ps.InputError, match=f"{name} is of another vocabulary than the LDA was fitted to"):
            read_topics(model, **{"data": corpus.train, **options})
    with pytest.raises(ps.InputError, match="reference has the word 99"):
        read_topics(model, corpus.train, reference=ps.Sequences.from_list([[0, 99]]))


def test_the_words_shown_are_those_compared():
    """Restarts rank by how much of the documents their topics take, not by the prior, which may be fixed."""
    rng = np.random.default_rng(0)
    model = ps.LDA(2, 40, num_restarts=2, start="parameters", alpha=[50.0, 0.01])
    topics = torch.as_tensor(rng.dirichlet(np.full(40, 0.3), (2, 2)))
    model.log_concentration.data.copy_((1e5 * topics).log())
    data = ps.Sequences.from_list([rng.choice(40, 60, p=topics[0, 1] / topics[0, 1].sum()).tolist() for _ in range(5)])
    found = read_topics(model, data, num_words=8)
    again = read_topics(model, data, num_words=8, restart=1)
    for k in range(2):
        ours, theirs = found.words["relevance"][k], again.words["relevance"][found.agreement.permutations[1, k]]
        assert found.agreement.overlap[1, k] == len(set(ours) & set(theirs)) / 8


def test_what_is_no_word_is_ranked_nowhere():
    assert top_words([[0.5, 0.3, 0.2]], 2, "probability", without=[0]).tolist() == [[1, 2]]
    symbols = ps.Vocabulary(["<unk>", "b", "c", "d"], "word")
    found = read_topics(known([0, 1]), DATA, symbols, num_words=4)
    assert all("<unk>" not in words and len(words) == 3 for rows in found.words.values() for words in rows)
