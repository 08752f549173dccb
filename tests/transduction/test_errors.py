"""WER and PER, held against a textbook edit distance and against searches of one source at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import probseq as ps
from probseq.errors import InputError
from probseq.transduction import ErrorRates, decoding_errors, references_of, transcription_errors

symbols = st.lists(st.integers(0, 2), max_size=5)


def edit_distance(one, other):
    """The recursion of the textbook (Wagner and Fischer, 1974)."""
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    table[:, 0], table[0] = np.arange(len(one) + 1), np.arange(len(other) + 1)
    for i, a in enumerate(one, start=1):
        for j, b in enumerate(other, start=1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
    return table[-1, -1]


@given(st.lists(st.tuples(symbols, st.lists(symbols, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_rates_are_those_of_the_definition(cases):
    errors = transcription_errors([one for one, _ in cases], [several for _, several in cases])
    for rates, chosen in ((errors.one, [several[:1] for _, several in cases]), (errors.best, [s for _, s in cases])):
        edits = [min(edit_distance(one, other) for other in several) for (one, _), several in zip(cases, chosen)]  # noqa: B905
        lengths = [
            max(len(other) for other in several if edit_distance(one, other) == least)
            for (one, _), several, least in zip(cases, chosen, edits, strict=True)
        ]
        assert rates.edits.tolist() == edits
        assert rates.lengths.tolist() == lengths
        assert rates.wer == pytest.approx(
            sum(one in several for (one, _), several in zip(cases, chosen, strict=True)) / -len(cases) + 1
        )
        assert rates.per_micro == pytest.approx(sum(edits) / max(sum(lengths), 1))
        assert rates.per_macro == pytest.approx(np.mean([d / max(n, 1) for d, n in zip(edits, lengths, strict=True)]))
    assert (errors.best.edits <= errors.one.edits).all()
    assert errors.best.wer <= errors.one.wer


def test_micro_and_macro_differ_where_words_differ_in_length():
    rates = ErrorRates(np.array([2, 0, 1]), np.array([2, 8, 10]))
    assert rates.wer == pytest.approx(2 / 3)
    assert rates.per_micro == pytest.approx(3 / 20)
    assert rates.per_macro == pytest.approx((1 + 0 + 0.1) / 3)


def test_every_rate_has_a_name_that_says_what_it_is():
    errors = transcription_errors(["ab", "c"], [["abc", "ab"], ["c"]])
    assert errors.named() == {
        "WER, one reference": 0.5,
        "PER micro, one reference": 0.25,
        "PER macro, one reference": pytest.approx(1 / 6),
        "WER, best of all references": 0.0,
        "PER micro, best of all references": 0.0,
        "PER macro, best of all references": 0.0,
    }


@pytest.mark.parametrize(
    ("hypotheses", "references", "sentence"),
    [
        ([], [], "received 0 hypotheses for 0 sources"),
        (["a"], [["a"], ["b"]], "received 1 hypotheses for 2 sources; expected one for each"),
        (["a", "b"], [["a"], []], "source 1 has no reference"),
        ([["a", "b"]], [["a", "b"]], "of source 0 hold 'a', which is one symbol; expected a list for each"),
        (["x", "ab"], [["x"], "ab"], "the references of source 1 hold 'a', which is one symbol"),
        ([[1, 2]], [[1, 2]], "the references of source 0 hold 1, which is one symbol"),
        ([[1, 2]], [1], "the references of source 0 hold 1, which is one symbol"),
        ([[1, 2]], np.array([[1, 2]]), "hold .*1.*, which is one symbol"),
    ],
)
def test_what_does_not_fit(hypotheses, references, sentence):
    with pytest.raises(InputError, match=sentence):
        transcription_errors(hypotheses, references)


def test_references_are_all_targets_of_a_source_in_order():
    source = ps.Sequences.from_list([[1, 2], [2], [1, 2], [1]])
    data = ps.Sequences.from_list([[0, 3], [3], [1, 3], [0]], source=source)
    sources, references = references_of(data, end=3)
    assert [one.tolist() for one in sources] == [[1, 2], [2], [1]]
    assert [[one.tolist() for one in several] for several in references] == [[[0], [1]], [[]], [[0]]]
    with pytest.raises(InputError, match="have no sources; expected pairs"):
        references_of(ps.Sequences.from_list([[1]]), end=1)


def test_errors_of_a_search_are_those_of_each_source_alone():
    corpus = ps.load_corpus("repeat", num_sequences=60, length=2)
    end = corpus.vocabulary.end
    model = ps.Conditional.from_seed(
        lambda: ps.Seq2Seq(11, 11, attention=None, hidden_dim=8, embed_dim=4), num_restarts=1, seed=3
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # so sure of itself that a wider beam finds something else
    found = []
    for num_beams, penalty in ((3, 0.0), (3, 1.0), (1, 0.0)):
        errors = decoding_errors(model, corpus.train, end, num_beams=num_beams, max_length=4, length_penalty=penalty)
        hypotheses, references = [], []
        for source, several in zip(*references_of(corpus.train, end), strict=True):
            given = model.given(ps.Sequences.from_list([source]))
            best = ps.beam_search(given, num_beams, 4, end, length_penalty=penalty).best.sequences[0].tolist()
            hypotheses.append([one for one in best if one != end])
            references.append([source[:-1].tolist()])
            assert all(one.tolist() == references[-1][0] for one in several)
        assert errors.named() == transcription_errors(hypotheses, references).named()
        assert len(errors.one.edits) < len(corpus.train)  # sources that were drawn twice are searched once
        found.append(errors.one.edits.tolist())
    assert found[0] != found[1]
    assert found[0] != found[2]


def test_a_model_without_sources_transcribes_nothing():
    corpus = ps.load_corpus("repeat", num_sequences=60, length=2)
    fit = ps.fit_counts(ps.Unigram(corpus.num_symbols), corpus.train)
    with pytest.raises(InputError, match="a Unigram has no sources; expected a model of targets given their sources"):
        decoding_errors(fit, corpus.test, corpus.vocabulary.end)
