"""Sweeps of a sampler: seen on stderr, and over when their block is left."""

import pytest
from topic_cases import draw_case

import probseq as ps
from probseq.inference.sweeps import Sweeps


def test_a_sampler_that_is_left_stops_before_its_next_sweep():
    """Its thread would otherwise keep the process after Ctrl-C."""
    with Sweeps(5, 1, False) as sweeps:
        running = sweeps.count(range(5))
        assert [next(running), next(running)] == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        next(running)
    with Sweeps(5, 1, False) as sweeps:
        assert list(sweeps.count("abc")) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [ps.LDA, ps.SyntaxTopics])
def test_a_start_that_takes_long_is_seen(capsys, kind):
    case = draw_case(gaps=False)
    data = ps.Sequences.from_list(list(case.values.numpy()))
    model = kind(num_topics=2, num_symbols=6) if kind is ps.LDA else kind(2, 2, 6)
    ps.em(model, data, num_steps=1, progress=True)
    assert "gibbs" in capsys.readouterr().err
    ps.em(kind(num_topics=2, num_symbols=6) if kind is ps.LDA else kind(2, 2, 6), data, num_steps=1, progress=False)
    assert "gibbs" not in capsys.readouterr().err
