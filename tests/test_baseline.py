"""What counting alone needs."""

import numpy as np
import pytest

import probseq as ps
from probseq.baseline import counting_nats


def test_counting_is_the_unigram_of_the_training_data(tmp_path):
    for i in range(6):
        (tmp_path / f"{i}.txt").write_text("abracadabra" * 3 + "xyz"[i % 3])
    corpus = ps.read_corpus(tmp_path, level="letters")
    expected = ps.evaluate(ps.fit_counts(ps.Unigram(27), corpus.train).model, corpus.test).nats_per_token[0]
    assert counting_nats(corpus) == pytest.approx(expected)
    np.savetxt(tmp_path / "series.csv", np.arange(60.0))
    assert counting_nats(ps.read_corpus(tmp_path / "series.csv", level="vector")) is None
