"""The sentences of the report against the numbers they come from."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_run import fake_comparison, fake_corpus, fake_models, fake_run, two_state_hmm

from probseq.compare import Comparison
from probseq.evaluate import Score
from probseq.models.ngram import Uniform, Unigram
from probseq.report.answer import answer, notices


def run_of(comparison: Comparison, **more: Any) -> Any:
    study = SimpleNamespace(models=dict.fromkeys(comparison.models))
    values = {"comparison": comparison, "corpus": fake_corpus(), "fits": comparison.fits, "study": study}
    return SimpleNamespace(**{"counted": None, **values, **more})


def two(gap: float, noise: float) -> Comparison:
    """Two baselines whose paired difference has this mean and this standard deviation over sequences, in nats."""
    comparison = fake_comparison({"a": Uniform(27), "b": Unigram(27)}, dict.fromkeys("ab", (4.0, 0.0, 1.0)))
    first = comparison.test["a"]
    wave = noise * np.tile([1.0, -1.0], len(first.num_tokens) // 2)
    second = Score(first.log_prob - gap - wave, first.num_tokens, first.weights, "exact")
    return Comparison(comparison.models, comparison.validation, {"a": first, "b": second}, comparison.chosen, {})


@pytest.mark.parametrize(("num", "sure"), [(2, False), (4, False), (40, True)])
def test_few_sequences_need_a_larger_margin(num: int, sure: bool) -> None:
    """Three standard errors are plenty with forty sequences and nothing much with four (Student's t: 3.18)."""
    wave = np.tile([1.0, -1.0], num // 2)
    gap = 3.0 * wave.std() / math.sqrt(num)
    tokens, weights = np.full(num, 10), np.ones(num)
    scores = {"a": Score(np.full((1, num), -20.0), tokens, weights, "exact")}
    scores["b"] = Score(scores["a"].log_prob - gap - wave, tokens, weights, "exact")
    comparison = Comparison({"a": Uniform(27), "b": Unigram(27)}, scores, scores, {"a": 0, "b": 0}, {})
    said = text(run_of(comparison))
    assert ("cannot tell the two apart" in said) is not sure
    assert (f"too few with {num} test sequences" in said) is not sure


def text(run: Any) -> str:
    return " ".join(answer(run))


def test_the_winner_and_the_margin_are_those_of_the_table() -> None:
    comparison = two(gap=5.0, noise=7.0)
    said = text(run_of(comparison))
    unit = math.log(2) * 256
    assert "<strong>a</strong> gives the test data the highest probability" in said
    assert f"needs {5 / unit:.3f} ± {7 / math.sqrt(200) / unit:.3f} bits more" in said
    assert "That is 10 standard errors" in said


def test_a_margin_within_two_errors_is_no_margin() -> None:
    assert "cannot tell the two apart" in text(run_of(two(gap=0.1, noise=7.0)))
    assert "cannot tell the two apart" not in text(run_of(two(gap=1.0, noise=7.0)))


def test_an_impossible_sequence_leaves_no_error_to_give() -> None:
    comparison = two(gap=1.0, noise=1.0)
    comparison.test["b"].log_prob[0, 0] = -np.inf
    assert "no error can be given" in text(run_of(comparison))


def test_restarts_that_differ_more_than_the_models_are_a_caveat() -> None:
    models = {"hmm-2": two_state_hmm(), "unigram": Unigram(27)}
    said = text(run_of(fake_comparison(models, {"hmm-2": (4.0, 0.01, 1.0), "unigram": (4.05, 0.0, 1.0)})))
    assert "another seed might swap them" in said
    said = text(run_of(fake_comparison(models, {"hmm-2": (4.0, 0.01, 1.0), "unigram": (4.5, 0.0, 1.0)})))
    assert "another seed might swap them" not in said


def test_one_model_alone_is_held_against_nothing() -> None:
    said = text(run_of(fake_comparison({"unigram": Unigram(27)})))
    assert "highest" not in said
    said = text(run_of(fake_comparison({"hmm-2": two_state_hmm()}, {"hmm-2": (4.0, 0.01, 1.0)})))
    assert "The starting point matters for <strong>hmm-2" in said


@pytest.mark.parametrize(("apart", "said"), [(0.0009, False), (0.0011, True)])
def test_restarts_within_the_tolerance_are_no_spread(apart: float, said: bool) -> None:
    """A run within 0.001 nats per token of the best has found it."""
    comparison = fake_comparison({"hmm-2": two_state_hmm()}, {"hmm-2": (4.0, 0.0, 1.0)})
    log_prob = comparison.test["hmm-2"].log_prob
    log_prob[:] = log_prob[0]
    log_prob[1] -= 256 * apart
    assert ("The starting point matters" in text(run_of(comparison))) is said


def test_a_model_that_needs_more_than_counting_is_noticed() -> None:
    models = {"hmm-2": two_state_hmm(), "unigram": Unigram(27)}
    comparison = fake_comparison(models, {"hmm-2": (4.05, 0.0, 1.0), "unigram": (4.0, 0.0, 1.0)})
    nats = comparison.test["hmm-2"].nats_per_token[0]
    (noticed,) = notices(run_of(comparison, counted=nats - 0.01))
    assert f"<strong>hmm-2</strong>: {nats:.3f} nats per test token are more than counting alone needs" in noticed
    assert notices(run_of(comparison, counted=nats + 0.01)) == notices(run_of(comparison)) == []


def test_drawn_and_computed_states_are_held_against_each_other() -> None:
    said = text(run_of(fake_comparison(fake_models())))
    assert "hidden state is computed, <strong>lstm</strong> is the best; of those where it is drawn" in said
    assert "matters most for <strong>hmm-2</strong>: its 20 restarts" in said


@pytest.mark.parametrize(("kind", "word"), [("lower bound", "at most"), ("estimate", "about"), ("exact", "needs")])
def test_a_winner_that_is_no_exact_number_says_so(kind: str, word: str) -> None:
    said = text(run_of(fake_comparison({"unigram": Unigram(27)}, unigram=kind)))
    assert f"{word} <strong>4.094" in said


def test_the_truth_is_told_where_it_is_known() -> None:
    run = run_of(two(1.0, 1.0))
    run.corpus = SimpleNamespace(truth=SimpleNamespace(test_nats_per_token=math.log(4)))
    assert "needs <strong>2.000</strong> bits per test token" in text(run)


def test_what_went_wrong_is_noticed() -> None:
    run = fake_run()
    assert notices(run) == []
    run.fits["hmm-16"].stop_reason[:3] = ["nonfinite", "nonfinite", "interrupted"]
    run.comparison.test["gru"].log_prob[1] = np.nan
    run.study.models = {**run.study.models, "big & late": None}
    assert [str(notice) for notice in notices(run)] == [
        "<strong>hmm-16</strong>: 2 of 20 restarts became non-finite.",
        "<strong>hmm-16</strong>: 1 of 20 restarts was interrupted.",
        "<strong>gru</strong>: the test value of 1 restart is not finite.",
        "Stopped early; never begun: big &amp; late.",
    ]
