"""What the report says of models of pairs adds up to what was measured."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import probseq as ps
from probseq.inference.run import Fit
from probseq.report import transduction
from probseq.report.figures import figures
from probseq.report.transduction import _of_length, describe_transduction
from probseq.transduction import (
    ErrorRates,
    TranscriptionErrors,
    length_bins,
    read_alignment,
    read_components,
    rows_of_sources,
)

SEVERAL = ("latent", "align")  # models with two restarts


@pytest.fixture(scope="module")
def run():
    corpus = ps.load_corpus("dates", num_sequences=1200)
    sizes = (corpus.num_source_symbols, corpus.num_symbols)
    nets = {
        "bottleneck": lambda: ps.Seq2Seq(*sizes, attention=None, hidden_dim=4),
        "attention": lambda: ps.Seq2Seq(*sizes, hidden_dim=4),
        "latent": lambda: ps.HMMDecoder(*sizes, states="latent", num_states=2, num_components=3, hidden_dim=4),
        "align": lambda: ps.HMMDecoder(*sizes, order=0, hidden_dim=4),
    }
    models = {name: ps.Conditional.from_seed(net, num_restarts=1 + (name in SEVERAL)) for name, net in nets.items()}
    models |= {"unigram": ps.fit_counts(ps.Unigram(corpus.num_symbols), corpus.train).model}
    fits = {name: Fit(model, "", np.zeros((1, model.num_restarts)), [], 1.0) for name, model in models.items()}
    comparison = ps.compare(fits, validation=corpus.test, test=corpus.test)
    chosen = {name: model.select(comparison.chosen[name]) for name, model in models.items()}
    errors = {
        name: ps.decoding_errors(chosen[name], corpus.test, corpus.vocabulary.end, num_beams=1, max_length=12)
        for name in nets
    }
    return SimpleNamespace(corpus=corpus, comparison=comparison, fits=fits, errors=errors)


def test_bins_add_up(run):
    found, test = describe_transduction(run), run.corpus.test
    symbols = np.bincount(found.bins.bin_of, weights=test.lengths)
    first = [rows[0] for rows in rows_of_sources(test)]
    sources = np.bincount(found.bins.bin_of[first])
    assert len(symbols) > 1
    assert list(found.wrong) == [name for name in run.comparison.ranking if name != "unigram"]
    assert list(found.nats) == list(found.wrong)
    for name in run.errors:
        score = run.comparison.test[name]
        total = -score.log_prob[run.comparison.chosen[name]].sum()
        assert found.nats[name] @ symbols == pytest.approx(total)
    for name, errors in run.errors.items():
        assert found.wrong[name] @ sources / sources.sum() == pytest.approx(errors.one.wer)
    assert found.num_sources == sources.sum()


def test_what_is_wrong_is_wrong_against_one_reference(run):
    rows = rows_of_sources(run.corpus.test)
    edits, lengths = np.arange(len(rows)) % 3, 1 + np.arange(len(rows)) % 4
    errors = TranscriptionErrors(ErrorRates(edits, lengths), ErrorRates(0 * edits, lengths))
    found = describe_transduction(SimpleNamespace(**{**vars(run), "errors": {"align": errors}}))
    bin_of = found.bins.bin_of[[one[0] for one in rows]]
    expected = [(edits[bin_of == number] > 0).mean() for number in range(len(found.bins.first))]
    np.testing.assert_allclose(found.wrong["align"], expected)
    rates = [(edits > 0).mean(), edits.sum() / lengths.sum(), (edits / lengths).mean()]
    row = next(row for row in found.rows if row.model == "align")
    assert row.rates == [*(f"{100 * rate:.1f}" for rate in rates), "0.0", "0.0", "0.0"]


@pytest.mark.parametrize("restart", [0, 1])
def test_what_is_read_is_the_chosen_restart(run, restart):
    comparison = replace(run.comparison, chosen={**run.comparison.chosen, **dict.fromkeys(SEVERAL, restart)})
    found = describe_transduction(SimpleNamespace(**{**vars(run), "comparison": comparison}))
    test, lengths = run.corpus.test, run.corpus.test.source.lengths
    pair = test[[int(np.abs(lengths - 9).argmin())]]
    align, latent = ([run.fits[name].model.select(r) for r in (restart, 1 - restart)] for name in ("align", "latent"))
    weights, others = (read_alignment("align", model, pair).weights for model in align)
    symbols = np.bincount(found.bins.bin_of, weights=test.lengths)
    for row in (row for row in found.rows if row.model in SEVERAL):
        score = comparison.test[row.model]
        assert float(row.nats) == pytest.approx(score.nats_per_sequence[restart], abs=6e-4)
        low, high = (float(one) for one in row.restarts.split(" – "))
        assert (low, high) == pytest.approx(sorted(score.nats_per_sequence), abs=6e-3)
        assert low < high
        assert float(row.error) == pytest.approx(score.se[restart] / score.weights.sum(), rel=0.1)
        assert float(row.per_symbol) == pytest.approx(score.nats_per_token[restart], abs=6e-4)
        assert found.nats[row.model] @ symbols == pytest.approx(-score.log_prob[restart].sum())
    np.testing.assert_allclose(found.alignments[-1].weights, weights)
    assert not np.allclose(weights, others)
    vocabularies = run.corpus.vocabulary, run.corpus.source_vocabulary
    word, other = (read_components(model, test, *vocabularies)[0] for model in latent)
    np.testing.assert_allclose(found.words[0].prior, word.prior)
    assert not np.allclose(word.prior, other.prior)


def test_rows_are_the_ranking(run):
    found = describe_transduction(run)
    assert [row.model for row in found.rows] == run.comparison.ranking
    for row in found.rows:
        score, restart = run.comparison.test[row.model], run.comparison.chosen[row.model]
        assert float(row.nats) == pytest.approx(float(score.nats_per_sequence[restart]), abs=6e-4)
        if row.model == "unigram":
            assert row.rates == ["–"] * 6
        else:
            named = run.errors[row.model].named()
            assert row.rates[:3] == [f"{100 * named[f'{rate}, one reference']:.1f}" for rate in (
                "WER", "PER micro", "PER macro"
            )]  # fmt: skip
            assert row.rates[3] == f"{100 * run.errors[row.model].best.wer:.1f}"
        assert (row.restarts != "–") == (row.model in SEVERAL)


def test_the_pair_that_is_drawn(run):
    found = describe_transduction(run)
    lengths = run.corpus.test.source.lengths - 1
    assert len(found.source) - 1 == lengths[np.abs(lengths - 8).argmin()]
    assert (found.source[-1], found.target[-1]) == ("<end>", "<end>")
    assert [one.name for one in found.alignments] == ["attention", "align"]
    for one in found.alignments:
        assert one.weights.shape == (len(found.target), len(found.source))


def test_components_are_of_sources_with_several_targets(run, monkeypatch):
    found = describe_transduction(run)
    monkeypatch.setattr(transduction, "_SHOWN", 0)
    assert describe_transduction(run).words == []
    assert found.mixture == "latent"
    several = [rows for rows in rows_of_sources(run.corpus.test) if len(rows) > 1]
    assert len(found.words) == min(len(several), 8)
    for word in found.words:
        assert word.prior.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("nats", "said"),
    [
        ({"a": [2.0, 3.0]}, "of a go from 2.000 to 3.000."),
        ({"a": [2.0, 3.0], "b": [1.0, 1.5]}, "grow most for a, from 2.000 to 3.000, and least for b, from 1.000"),
        ({"a": [2.0, 3.0], "b": [1.0, 0.5]}, "grow most for a, from 2.000 to 3.000, and fall most for b, from 1.000"),
        ({"a": [2.0, 1.9], "b": [1.0, 0.5]}, "fall least for a, from 2.000 to 1.900, and most for b, from 1.000"),
    ],
)
def test_a_course_is_told_as_it_is(nats, said):
    bins = length_bins(np.array([1, 1, 3, 3]), min_pairs=2)
    (sentence,) = _of_length(bins, {name: np.array(one) for name, one in nats.items()})
    assert sentence.startswith("From sources of 1 symbols to those of 3, nats per symbol")
    assert said in sentence


def test_figures_are_drawn_and_named(run):
    drawn = figures(run, None, {}, None, describe_transduction(run))
    assert {"alignments", "length", "wrong"} <= set(drawn)
    assert "What each symbol of a target looks at, or comes from" in drawn["alignments"]


def test_data_without_sources_have_no_such_section(run):
    plain = ps.Sequences.from_list(list(run.corpus.test))
    corpus = SimpleNamespace(is_parallel=False, test=plain)
    assert describe_transduction(SimpleNamespace(corpus=corpus, errors={})) is None
    assert describe_transduction(SimpleNamespace(corpus=run.corpus, errors={})) is None
