"""What the report says of the states of a hidden Markov model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_run import LETTERS, fake_run, two_state_hmm

from probseq.inference.run import Fit
from probseq.models.emissions import Gaussian
from probseq.models.hmm import HMM
from probseq.models.ngram import Uniform
from probseq.plots.states import state_given_symbol
from probseq.report.states import describe_states, num_at_optimum, separates


def test_vowels_and_consonants_are_told_apart() -> None:
    model = two_state_hmm(num_restarts=3, lost=(1,))
    assert [separates(state_given_symbol(model, r)[1], LETTERS.symbols) for r in range(3)] == [True, False, True]


def test_one_letter_on_the_wrong_side_is_no_separation_but_y_may_be_anywhere() -> None:
    behind = state_given_symbol(two_state_hmm(1, ()))[1]
    behind[:, 24] = behind[::-1, 24]
    assert separates(behind, LETTERS.symbols)
    behind[:, 1] = behind[::-1, 1]
    assert not separates(behind, LETTERS.symbols)


def test_the_smallest_model_is_described_and_restarts_are_counted() -> None:
    states = describe_states(fake_run())
    assert states is not None
    assert states.name == "hmm-2"
    assert states.verdict == (
        "hmm-2 separates vowels from consonants by state, though it was never told of either; 18 of its 20 restarts do."
    )
    assert "state 0 for a, e, i, o, u, y and ␣; state 1 for b, c, d" in states.sentences[0]
    assert states.top[0][:3] == ["␣", "e", "a"]
    np.testing.assert_allclose(states.transition, [[0.21, 0.79], [0.70, 0.30]])


def test_other_symbols_have_no_vowels() -> None:
    states = describe_states(fake_run(vocabulary=None))
    assert states is not None
    assert states.verdict == ""
    assert len(states.sentences) == 1
    assert states.top[0][0] == "26"


def test_no_small_model_no_description() -> None:
    run = fake_run()
    for name in ("hmm-2", "hmm-16"):
        del run.fits[name]
    assert describe_states(run) is None


def test_a_single_restart_needs_no_counts() -> None:
    run = fake_run()
    run.fits["hmm-2"].model = two_state_hmm(1, (0,))
    run.comparison.chosen["hmm-2"] = 0
    states = describe_states(run)
    assert states is not None
    assert states.verdict.startswith("hmm-2 does not separate vowels from consonants")
    assert "restart" not in " ".join(states.sentences)
    assert len(states.sentences) == 2


@pytest.mark.parametrize("lost", [-1.4, np.nan])
def test_the_optimum_is_counted_at_the_last_finite_step(lost: float) -> None:
    history = np.array([[-2.0, -2.0, -2.0, lost], [-1.0, -1.0, -1.0005, np.nan], [np.nan, -0.9995, np.nan, np.nan]])
    assert num_at_optimum(Fit(Uniform(2), "", history, ["converged"] * 4, 1.0)) == 3


def test_a_family_that_is_not_known_is_not_described() -> None:
    run = fake_run()
    run.fits["hmm-2"].model.emission = torch.nn.Identity()
    states = describe_states(run)
    assert states is None or states.name != "hmm-2"


def test_states_of_vectors_are_their_moments_and_how_long_they_stay() -> None:
    run = fake_run()
    bank = Gaussian.from_parameters([[1.0, -2.0], [10.0, 20.0]], [[0.25, 1.0], [4.0, 9.0]])
    model = HMM.from_parameters([0.5, 0.5], [[0.9, 0.1], [0.25, 0.75]], bank)
    single = HMM.from_parameters([1.0], [[1.0]], Gaussian.from_parameters([[0.0, 0.0]], [[1.0, 1.0]]))
    run.fits = {"iid": Fit(single, "", np.zeros((1, 1)), ["converged"], 1.0)}
    assert describe_states(run) is None
    run.fits["hmm"] = Fit(model, "", np.zeros((1, 1)), ["converged"], 1.0)
    run.comparison.chosen["hmm"] = 0
    object.__setattr__(run.corpus, "columns", ("warm", "wet"))
    states = describe_states(run)
    assert states is not None
    assert states.name == "hmm"
    assert states.top == [["warm: 1 ± 0.5", "wet: -2 ± 1"], ["warm: 10 ± 2", "wet: 20 ± 3"]]
    assert states.sentences == ["A visit lasts on average: state 0 10.0 steps and state 1 4.0 steps."]
    np.testing.assert_allclose(states.weights, [5 / 7, 2 / 7])
