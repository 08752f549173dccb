"""What holds for EM whatever the family, the structure and the data."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CONJUGATE, problems

import probseq as ps


def climbs(fit):
    """Whether no restart's objective ever fell by more than rounding."""
    curves = (fit.history[:steps, r] for r, steps in enumerate(fit.num_steps))
    return all((np.diff(curve) >= -1e-9 * np.maximum(1.0, np.abs(curve[:-1]))).all() for curve in curves)


@settings(max_examples=60)
@given(problems(), st.booleans())
def test_the_objective_never_falls(problem, accelerate):
    model, data = problem
    fit = ps.em(model, data, num_steps=12, tol=0, accelerate=accelerate)  # a fall would raise
    assert climbs(fit)
    assert np.isfinite(fit.history[0]).all()
    assert all(not p.isnan().any() for p in model.parameters())


@settings(max_examples=40)
@given(problems(CONJUGATE, variational=True), st.booleans())
def test_the_evidence_lower_bound_never_falls(problem, accelerate):
    model, data = problem
    fit = ps.em(model, data, num_steps=12, tol=0, accelerate=accelerate)
    assert climbs(fit)
    assert np.isfinite(fit.history[0]).all()
    assert all(not p.isnan().any() for p in model.parameters())


@pytest.mark.parametrize("accelerate", [False, True])
@given(problem=problems())
def test_restarts_are_independent(accelerate, problem):
    model, data = problem
    lone = [copy.deepcopy(model).take([r]) for r in range(model.num_restarts)]
    together = ps.em(model, data, num_steps=7, tol=1e-4, accelerate=accelerate)
    for r, one in enumerate(lone):
        alone = ps.em(one, data, num_steps=7, tol=1e-4, accelerate=accelerate)
        assert alone.stop_reason == [together.stop_reason[r]]
        np.testing.assert_allclose(alone.history[:, 0], together.history[: len(alone.history), r], rtol=1e-9, atol=1e-9)


@given(problems())
def test_what_a_mask_forbids_stays_at_zero(problem):
    model, data = problem
    ps.em(model, data, num_steps=7, tol=0, accelerate=True)
    assert (model.transition[:, ~model.transition_mask] == 0).all()
    torch.testing.assert_close(model.transition.sum(-1), torch.ones_like(model.log_transition[..., 0]))
