"""What the report says of restarts that were cut off, and of values that are estimates."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_model import Fixed

import probseq as ps
from probseq.inference.run import Fit
from probseq.report.restarts import restart_notes, restart_rows


def hmm(reasons: list[str], **details: list[float]) -> ps.Sensitivity:
    model = ps.HMM(2, ps.emissions.Categorical(3), num_restarts=len(reasons))
    history = -1.0 - np.arange(len(reasons))[None]
    return ps.sensitivity(Fit(model, "", history, reasons, 1.0, details=details))  # type: ignore[arg-type]


def test_the_count_of_optima_says_how_many_runs_have_converged() -> None:
    found = {"done": hmm(["converged"] * 3), "cut": hmm(["max_steps"] * 3), "half": hmm(["converged", "max_seconds"])}
    assert [row.optima for row in restart_rows(found)] == ["3", "3, none converged", "2, 1 converged"]
    (note,) = restart_notes(found)
    assert note.startswith("Some runs were cut off before they converged (cut, half): two that")
    assert restart_notes({"done": found["done"]}) == []


def test_estimates_are_called_so() -> None:
    svi = hmm(["max_steps"] * 2, final=[-1.0, -1.01], final_standard_error=[0.005, 0.005])
    assert restart_rows({"svi": svi})[0].found == "2 (100%)"
    assert restart_notes({"svi": svi})[1].startswith("The values of svi are estimated from draws: a run has found")


@pytest.mark.parametrize("reason", ["max_steps", "early_stopping"])
def test_a_model_without_states_has_no_optima_to_count(reason: str) -> None:
    fit = Fit(Fixed([[-1.0], [-1.0]]), "", np.array([[-1.0, -2.0]]), [reason] * 2, 1.0)  # type: ignore[list-item]
    found = {"net": ps.sensitivity(fit)}
    assert (restart_notes(found), found["net"].optima_label) == ([], None)
