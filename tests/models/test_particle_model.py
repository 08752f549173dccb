"""What a user may give to a model with topics by mistake: one sentence, though nothing checks types outside tests."""

import jaxtyping
import numpy as np
import pytest

import probseq as ps

MODELS = {
    "LDA": lambda **given: ps.LDA(**{"num_topics": 3, "num_symbols": 4, "start": "random", **given}),
    "SyntaxTopics": lambda **given: ps.SyntaxTopics(
        **{"num_topics": 3, "num_classes": 2, "num_symbols": 4, "start": "random", **given}
    ),
}
WHOLE = ("num_topics", "num_symbols", "num_restarts", "num_particles", "num_replicates", "seed")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """As outside tests, where types are not checked."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_counted_is_a_whole_number(kind, name):
    for value in (2.5, "2", None, True):
        with pytest.raises(ps.InputError, match=f"{name} is {value!r}; expected a whole number"):
            MODELS[kind](**{name: value})


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("alpha", [0.3, [0.3], [[0.3]], np.float32(0.3), np.array(0.3)])
def test_one_number_of_a_prior_stands_for_all_topics(kind, alpha):
    model, data = MODELS[kind](alpha=alpha), ps.Sequences.from_list([[0, 1, 1, 3], [2]])
    expected = MODELS[kind](alpha=float(np.ravel(alpha)[0]))
    assert model.config() == expected.config()
    assert model.token_log_prob(data.batch()).equal(expected.token_log_prob(data.batch()))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("alpha", ["x", None, [], [0.3, 0.3], [[0.3], [0.3, 0.3]], float("nan"), [[0.3] * 4] * 3])
def test_what_is_no_prior_is_refused(kind, alpha):
    with pytest.raises(ps.InputError, match=r"alpha is .*; expected a positive number"):
        MODELS[kind](alpha=alpha)


def test_a_prior_may_stand_in_a_column():
    model = MODELS["LDA"](alpha=[[0.1], [0.2], [0.3]])
    np.testing.assert_allclose(model.alpha, [[0.1, 0.2, 0.3]])
