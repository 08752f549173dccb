"""Windows that continue one another: every model sees the same past, the whole document."""

import json

import numpy as np
import pytest
import torch
from cases import CASES
from commands import succeeds

import probseq as ps
from probseq.data.corpus import build_corpus
from probseq.data.documents import Document
from probseq.data.preparation import Preparation
from probseq.models import network
from probseq.ops import particles

NAMES = [case for case in CASES if case.kind.symbolic or case.name in ("hmm-gaussian-full", "gru-mixture")]


def documents():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 3, n) for n in (29, 7, 40)]


@pytest.mark.parametrize("case", NAMES, ids=lambda case: case.name)
@pytest.mark.parametrize("length", [2, 5, 50])
def test_windows_that_continue_add_up_to_their_documents(case, length, monkeypatch):
    """Window by window equals all at once; a network goes through a document in pieces."""
    monkeypatch.setattr(network, "_PIECE", 3)
    monkeypatch.setattr(network, "_PIECE_TOKENS", 8)
    model, whole = case.model(), case.kind.emitted(documents())
    terms = model.token_log_prob(whole.batch()).detach().numpy()  # with a gradient: in one piece
    windows = whole.windows(length, carry=True)
    score = ps.evaluate(model, windows)
    assert score.num_tokens.tolist() == whole.windows(length).lengths.tolist()
    document = np.searchsorted(whole.offsets, windows.offsets[:-1], side="right") - 1
    for i, (begin, end) in enumerate(zip(windows.offsets[:-1], windows.offsets[1:], strict=True)):
        span = slice(begin - whole.offsets[document[i]], end - whole.offsets[document[i]])
        np.testing.assert_allclose(score.log_prob[:, i], terms[:, document[i], span].sum(axis=1), atol=1e-9)


def test_without_their_past_they_score_less():
    data = ps.Sequences.from_list([[0, 1, 2] * 30])
    model = ps.fit_counts(ps.NGram(3, max_order=3), data).model
    carried, fresh = (ps.evaluate(model, data.windows(4, carry=carry)) for carry in (True, False))
    assert carried.elpd[0] > fresh.elpd[0] + 5
    assert carried.log_prob[0, 0] == pytest.approx(fresh.log_prob[0, 0])  # the first window has no past


def test_a_window_without_the_one_before_it_begins_anew():
    whole = ps.Sequences.from_list([np.arange(10), np.arange(6)])
    windows = whole.windows(3, carry=True)
    assert windows.continues.tolist() == [False, True, True, False, True]
    assert windows[[0, 2, 3, 4]].continues.tolist() == [False, False, False, True]
    assert windows[1:3].continues.tolist() == [False, True]
    assert windows[[1, 0]].continues is None
    assert [one.tolist() for one in windows.joined()] == [one.tolist() for one in whole]
    assert [one.tolist() for one in windows[1:4].joined()] == [[3, 4, 5, 6, 7, 8, 9], [0, 1, 2]]
    assert whole.joined() is whole


def test_what_continues_is_saved(tmp_path):
    windows = ps.Sequences.from_list([np.arange(10)]).windows(4, carry=True)
    windows.save(tmp_path)
    assert ps.Sequences.load(tmp_path).continues.tolist() == [False, True, True]


def test_missing_steps_and_weights_stay_with_their_windows():
    missing = [np.arange(9) == 4]
    whole = ps.Sequences.from_list([np.arange(9) % 3], weights=[2.0], missing=missing)
    windows = whole.windows(3, carry=True)
    model = ps.HMM(2, ps.emissions.Categorical(3), seed=1)
    score = ps.evaluate(model, windows)
    assert score.num_tokens.tolist() == [3, 2, 3]
    assert score.weights.tolist() == [2, 2, 2]
    np.testing.assert_allclose(score.elpd, ps.evaluate(model, whole).elpd, atol=1e-12)


@pytest.mark.parametrize(
    ("continues", "sentence"),
    [
        ([True, False], "continues is True for the first sequence"),
        ([False], r"continues is an array of bool with shape \(1,\); expected bool \(2,\)"),
        ([0, 1], "continues is an array of int"),
    ],
)
def test_bad_marks_are_refused(continues, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.Sequences(np.array([0, 1, 2]), np.array([0, 1, 3]), continues=np.array(continues))


def corpus(**options):
    texts = [Document("".join(np.random.default_rng(i).choice(list("abc"), 60)), f"{i}") for i in range(20)]
    preparation = Preparation(level="char", window=8, cached=False, **options)
    return build_corpus(texts, preparation, name="texts", description="")


def test_a_corpus_carries_history_in_validation_and_test_alone():
    plain, carried = corpus(), corpus(history="document")
    assert plain.test.continues is None
    assert carried.train.continues is None
    for part in ("validation", "test"):
        assert carried.parts[part].values.tolist() == plain.parts[part].values.tolist()
        assert carried.document_of[part].tolist() == plain.document_of[part].tolist()
        starts = np.flatnonzero(np.diff(plain.document_of[part], prepend=-1))
        assert np.flatnonzero(~carried.parts[part].continues).tolist() == starts.tolist()


def test_limits_keep_the_beginnings_of_documents_where_history_is_carried():
    whole, some = corpus(history="document"), corpus(history="document", test_tokens=45, train_tokens=100)
    assert some.test.num_tokens <= 45 < some.test.num_tokens + 8
    assert some.train.num_tokens <= 100
    document = some.document_of["test"]
    assert set(document.tolist()) == set(whole.document_of["test"].tolist())
    assert np.ptp(np.bincount(document)) <= 1
    for one, other in zip(some.test.joined(), whole.test.joined(), strict=True):
        assert one.tolist() == other[: len(one)].tolist()
    with pytest.raises(
        ps.InputError, match="test_tokens is 7; the sequences of test have 4 to 8 tokens: allow at least 8"
    ):
        corpus(history="document", test_tokens=7)
    with pytest.raises(ps.InputError, match="unknown history 'dokument'; did you mean 'document'"):
        corpus(history="dokument")


def test_an_estimate_has_no_error_where_history_is_carried():
    class Estimate(ps.Uniform):
        likelihood = "estimate"

        def estimate(self, batch):
            one = torch.ones(1, len(batch.values))
            terms, sides = self.token_log_prob(batch), torch.tensor([[[-1.0], [1.0]]])
            return particles.Estimate(terms, one, torch.zeros_like(one), sides, batch.index)

    whole = ps.Sequences.from_list([[0, 1, 0, 1]])
    assert ps.evaluate(Estimate(2), whole).monte_carlo_error[0] == 0.25
    assert np.isnan(ps.evaluate(Estimate(2), whole.windows(2, carry=True)).monte_carlo_error[0])


STUDY = """
[data]
path = "text.txt"
window = 16
history = "document"
[models.ngram]
kind = "ngram"
[models.update-gate]
kind = "update-gate"
hidden_dim = 4
num_restarts = 1
num_steps = 3
[models.transformer]
kind = "transformer"
num_layers = 1
num_heads = 1
embed_dim = 8
context = 8
positions = "learned"
stride = 4
num_restarts = 1
num_steps = 3
"""


def test_a_study_says_what_its_tokens_are_predicted_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("".join(f"the cat {i} sat on the mat\n" for i in range(60)))
    (tmp_path / "study.toml").write_text(STUDY)
    succeeds("compare", "study.toml", "--out", "run")
    run = ps.load(tmp_path / "run")
    assert run.data["history"] == run.study["data"]["history"] == "document"
    assert "given all that came before them" in (tmp_path / "run" / "report.html").read_text().replace("\n", " ")
    scores = [json.loads(succeeds("score", "run", "text.txt", "--window", n, "--format", "json")) for n in (4, 64)]
    assert scores[0]["history"] == "document"
    assert scores[0]["total"]["log_prob_nats"] == pytest.approx(scores[1]["total"]["log_prob_nats"], rel=1e-6)
    assert "given the" in succeeds("score", "run", "text.txt")
