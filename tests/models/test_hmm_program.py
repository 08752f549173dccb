"""The statement of the model in Pyro against the engine, for every family, in value and gradient."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

import probseq as ps

EXACT = {"atol": 1e-10, "rtol": 0}
ROWS = [[[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]
FAMILIES = {
    "bernoulli": ps.emissions.Bernoulli(2),
    "poisson": ps.emissions.Poisson(2),
    **{f"gaussian-{c}": ps.emissions.Gaussian(2, covariance=c) for c in ("diag", "full", "tied", "spherical")},
    "gaussian-mixture": ps.emissions.GaussianMixture(2, 2),
}


def without_states(model: ps.HMM, data: ps.Sequences, given) -> torch.Tensor:
    """The program with its parameters given and its states summed out; Dirichlet densities are taken out."""
    program = pyro.condition(model.program, data=given)
    elbo = TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(program, lambda batch: None, data.batch())
    flat = [math.lgamma(v.shape[-1]) * v.shape[:-1].numel() for v in given.values()]
    return -elbo - sum(flat)


def compare(model: ps.HMM, data: ps.Sequences, given) -> None:
    engine = model.token_log_prob(data.batch()).sum()
    parameters = list(model.parameters())
    expected = torch.autograd.grad(engine, parameters)
    value = without_states(model, data, given)
    torch.testing.assert_close(value, engine, **EXACT)
    for one, other in zip(torch.autograd.grad(value, parameters), expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_symbols():
    model = ps.HMM(3, ps.emissions.Categorical(4), num_restarts=2)
    data = ps.Sequences.from_list(
        [[0, 1, 2, 3], [3], [1, 2]], missing=[np.arange(4) == 2, np.zeros(1, bool), np.zeros(2, bool)]
    )
    given = {"initial": model.initial, "transition": model.transition, "probs": model.emission.probs}
    compare(model, data, given)


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors(name):
    model = ps.HMM(2, FAMILIES[name], num_restarts=2)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.emission.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype))
    rows = [np.array(row) for row in ROWS]
    rows[0][1] = np.nan  # a step that was not observed
    given = {"initial": model.initial, "transition": model.transition}
    if name == "bernoulli":
        given["probs"] = model.emission.probs
    compare(model, ps.Sequences.from_list(rows), given)


def test_masks():
    """A table with zeros has fewer numbers, and its Dirichlet density their normalization."""
    model = ps.HMM(
        3, ps.emissions.Categorical(3), initial_mask=[1, 1, 0], transition_mask=[[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    )
    data = ps.Sequences.from_list([[0, 1, 2, 1], [2], [1, 2]])
    given = {"initial": model.initial, "transition": model.transition, "probs": model.emission.probs}
    program = pyro.condition(model.program, data=given)
    value = -TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(program, lambda batch: None, data.batch())
    value = value - 3 * math.lgamma(3)  # three rows of emissions; two free entries have density 1
    engine = model.token_log_prob(data.batch()).sum()
    torch.testing.assert_close(value, engine, **EXACT)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(engine, parameters)
    for one, other in zip(torch.autograd.grad(value, parameters), expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def test_what_has_no_statement_is_refused():
    partly = ps.Sequences.from_list([np.array([[1.0, np.nan]])])
    with pytest.raises(ps.InputError, match="as a whole"):
        ps.HMM(2, ps.emissions.Gaussian(2)).program(partly.batch())
