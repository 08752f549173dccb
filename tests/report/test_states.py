"""What the report says of the states of a hidden Markov model."""

from __future__ import annotations

import numpy as np
import torch
from fake_run import LETTERS, fake_run, two_state_hmm

from probseq.inference.run import Fit
from probseq.models.emissions import Gaussian
from probseq.models.hmm import HMM
from probseq.plots.states import state_given_symbol
from probseq.report.states import describe_states, separates
from probseq.restarts import RestartSummary


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


def test_the_count_of_those_that_found_the_best_is_that_of_the_restarts() -> None:
    run = fake_run()
    states, expected = describe_states(run), RestartSummary.from_fit(run.fits["hmm-2"]).num_at_best()
    assert states is not None
    assert 1 < expected < 20
    assert states.sentences[-1] == (
        f"{expected} of 20 restarts ended within 0.001 nats per token of the best final objective."
    )


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
