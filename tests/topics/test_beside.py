"""The two numbers beside the likelihood of a topic model are means over words of what the model says of documents."""

import numpy as np
import pytest

import probseq as ps
from probseq.topics import beside, beside_likelihood

DATA = ps.Sequences.from_list([[0, 1, 0, 3, 0], [2], [3, 2], [1, 1, 0]], weights=[2.0, 1.0, 0.5, 1.0])


@pytest.mark.parametrize("tokens", [1, 2**14])
def test_they_are_means_over_words_of_all_documents(tokens, monkeypatch):
    monkeypatch.setattr(beside, "_BATCH", tokens)
    model = ps.LDA(3, 4, num_restarts=2, start="random", alpha=0.4)
    found = beside_likelihood(model, DATA)
    total, words = {"lower_bound": np.zeros(2), "completion": np.zeros(2)}, {"lower_bound": 0.0, "completion": 0.0}
    for document, weight in zip(DATA, DATA.weights, strict=True):
        batch = ps.Sequences.from_list([document]).batch()
        completed, number = model.completion(batch)
        total["lower_bound"] += weight * model.lower_bound(batch)[:, 0].numpy()
        total["completion"] += weight * completed[:, 0].numpy()
        words["lower_bound"] += weight * len(document)
        words["completion"] += weight * (len(document) // 2)
        assert number.tolist() == [len(document) // 2]
    for name, nats in found.items():
        np.testing.assert_allclose(nats, -total[name] / words[name], rtol=1e-9)
    assert list(found) == ["lower_bound", "completion"]


def test_what_is_not_known_is_left_out_or_no_number():
    assert beside_likelihood(ps.Unigram(4), DATA) == {}
    assert list(beside_likelihood(ps.SyntaxTopics(2, 2, 4, start="random"), DATA)) == ["lower_bound"]
    words = ps.Sequences.from_list([[0], [3]])  # none of which is the second of a document
    found = beside_likelihood(ps.LDA(2, 4, start="random"), words)
    assert np.isnan(found["completion"]).all()
    assert np.isfinite(found["lower_bound"]).all()
    with pytest.raises(ps.InputError, match="symbol 9"):
        beside_likelihood(ps.LDA(2, 4, start="random"), ps.Sequences.from_list([[9]]))
