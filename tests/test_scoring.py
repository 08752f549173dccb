"""What is said of a file: paragraphs where the run had them, and no number where none is known."""

import json

import numpy as np
import pytest

import probseq as ps
from probseq.checkpoint import plain
from probseq.scoring import Fitted, score_file
from probseq.tables import print_scores

WORDS = ps.Vocabulary(["<unk>", "a", "b", "c"], "word", stop_words=("the",))
TOPICS = [[0.1, 0.5, 0.3, 0.1], [0.2, 0.1, 0.1, 0.6]]


def fitted(unit="document", **options):
    model = ps.LDA.from_parameters(TOPICS, alpha=0.3, **options)
    return Fitted("lda", 0, model, WORDS, {"window": 10**9, "unit": unit})


@pytest.mark.parametrize("name", ["text.txt", "texts.jsonl"])
def test_a_file_is_cut_into_paragraphs_where_those_of_the_run_were(tmp_path, name):
    text = "a b\n\nthe a\n\nc c a\n\nb the"
    (tmp_path / name).write_text(text if name.endswith("txt") else json.dumps({"text": text}))
    first = "text.txt" if name.endswith("txt") else "line 1"
    whole = score_file(fitted(), tmp_path / name)["documents"]
    assert [(one["document"], one["num_tokens"]) for one in whole] == [(first, 7)]
    parts = score_file(fitted("paragraph"), tmp_path / name)["documents"]  # one word alone is joined to a neighbor
    assert [one["document"] for one in parts] == [f"{first}, paragraph 1", f"{first}, paragraph 2"]
    assert [one["num_tokens"] for one in parts] == [2, 5]
    batch = ps.Sequences.from_list([[1, 2], [1, 3, 3, 1, 2]]).batch()
    expected = fitted().model.token_log_prob(batch).sum(dim=-1)[0]
    np.testing.assert_allclose([one["log_prob_nats"] for one in parts], expected)


def test_the_error_and_the_drift_of_an_estimate_are_said(tmp_path, capsys):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a b c a", "c b a b")))
    model, data = fitted().model, ps.Sequences.from_list([[1, 2, 3, 1], [3, 2, 1, 2]])
    score, found = ps.evaluate(model, data), score_file(fitted(), tmp_path / "texts.jsonl")
    assert found["monte_carlo_error"] == pytest.approx(score.monte_carlo_error[0], abs=0)
    assert found["drift"] == pytest.approx(score.drift_per_token[0], abs=0)
    print_scores(found)
    shown = capsys.readouterr().out
    error, drift = found["monte_carlo_error"], found["drift"]
    assert f"an estimate, nats/token: its standard error is {error:.4f}, its drift {drift:.4f}\n" in shown
    assert f"by a lower bound on log p(x), at most: {found['beside']['lower_bound']:.4f} nats/token" in shown
    assert f"which is no likelihood: {found['beside']['completion']:.4f} nats/token" in shown


@pytest.mark.filterwarnings("ignore:the estimate")
def test_what_is_not_known_is_null_and_a_dash(tmp_path, capsys):
    """One replicate has no error, a document of one word no other to complete."""
    (tmp_path / "word.txt").write_text("a")
    found = score_file(fitted(num_replicates=1), tmp_path / "word.txt")
    values = json.loads(json.dumps(plain(found), allow_nan=False))
    assert values["monte_carlo_error"] is values["drift"] is values["beside"]["completion"] is None
    assert json.dumps(found["beside"], allow_nan=False)
    print_scores(found)
    shown = capsys.readouterr().out
    assert "its standard error is unknown, its drift unknown" in shown
    assert "which is no likelihood: - nats/token" in shown


def test_an_exact_likelihood_has_nothing_beside_it(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("a b c")
    unigram = ps.Unigram(4)
    ps.fit_counts(unigram, ps.Sequences.from_list([[0, 1, 2, 3]]))
    found = score_file(Fitted("unigram", 0, unigram, WORDS), tmp_path / "text.txt")
    assert found["monte_carlo_error"] == found["drift"] == 0
    assert found["beside"] == {}
    print_scores(found)
    assert "estimate" not in capsys.readouterr().out
