"""Half precision: close, by choice, and by itself only where it is faster."""

import copy

import numpy as np
import pytest
import torch
from short_fits import SHORT, counting, gru

import probseq as ps
from probseq.inference.gradient_step import GradientStep
from probseq.inference.precision import choose_precision

NETS = {
    "rnn": lambda: ps.RNN(4, hidden_dim=8),
    "update-gate": lambda: ps.UpdateGateRNN(4, hidden_dim=8, num_layers=2),
    "gru": lambda: ps.GRU(4, hidden_dim=8, embed_dim=4),
    "gru-before": lambda: ps.GRU(4, hidden_dim=8, num_layers=2, reset="before"),
    "lstm": lambda: ps.LSTM(4, hidden_dim=8),
    **{
        positions: lambda positions=positions: ps.Transformer(
            4, num_layers=1, num_heads=2, embed_dim=8, context=6, positions=positions
        )
        for positions in ("rotary", "learned", "sinusoidal")
    },
}


@pytest.mark.parametrize("name", NETS)
def test_half_precision_is_close_and_keeps_weights_in_full(name):
    model = ps.Autoregressive.from_seed(NETS[name])
    exact = ps.fit_gradient(copy.deepcopy(model), counting(), **SHORT)
    try:
        half = ps.fit_gradient(model, counting(), **SHORT, precision="bfloat16")
    except ps.InputError as error:
        if name != "lstm":
            raise
        pytest.skip(str(error))  # a CPU without bfloat16 instructions has no kernel for it
    assert half.details["precision"] == "bfloat16"
    assert next(model.parameters()).dtype == torch.float32
    assert not np.array_equal(half.history, exact.history)
    np.testing.assert_allclose(half.history, exact.history, atol=0.03)


@pytest.mark.parametrize(
    ("cost", "chosen"),
    [
        ({"float32": 0.02, "bfloat16": 0.01}, "bfloat16"),
        ({"float32": 0.01, "bfloat16": 0.01}, "float32"),
        ({"float32": 0.01, "bfloat16": 0.02}, "float32"),
    ],
)
def test_auto_takes_half_precision_only_where_it_is_faster(monkeypatch, cost, chosen):
    clock = [0.0]
    monkeypatch.setattr("probseq.inference.precision.time.perf_counter", lambda: clock[0])

    def trial(precision):
        clock[0] += cost[precision]

    assert choose_precision("auto", trial) == chosen
    assert clock[0] < 11


def test_where_half_precision_does_not_run_auto_is_full_and_a_wish_is_refused():
    def trial(precision):
        if precision == "bfloat16":
            raise RuntimeError("could not create a primitive")

    assert choose_precision("auto", trial) == "float32"
    with pytest.raises(ps.InputError, match=r"does not run in bfloat16 here .could not create a primitive.; choose"):
        choose_precision("bfloat16", trial)


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_a_fault_that_is_none_of_a_missing_kernel_is_not_taken_for_one(precision):
    def trial(precision):
        raise RuntimeError("expected dtype float for `end` but got dtype c10::BFloat16")

    with pytest.raises(RuntimeError, match="expected dtype"):
        choose_precision(precision, trial)


def test_the_self_test_changes_nothing_but_the_precision():
    """Whatever the clock of this machine says, the fit is the one in the precision that it chose."""
    auto, *fits = (
        ps.fit_gradient(gru(dropout=0.2), counting(), **SHORT, precision=p) for p in ("auto", "float32", "bfloat16")
    )
    chosen = {fit.details["precision"]: fit for fit in fits}[auto.details["precision"]]
    assert np.array_equal(auto.history, chosen.history)


def test_the_self_test_trains_in_each_precision_and_leaves_no_trace(monkeypatch):
    seen, trial = [], GradientStep.trial

    def watched(step, precision):
        before = [p.clone() for p in step.restarts.modules[0].parameters()]
        trial(step, precision)
        seen.append(precision)
        assert step.precision == "float32"
        assert all(p.grad is None for p in step.restarts.modules[0].parameters())
        assert all(torch.equal(p, q) for p, q in zip(step.restarts.modules[0].parameters(), before, strict=True))

    monkeypatch.setattr(GradientStep, "trial", watched)
    ps.fit_gradient(gru(), counting(), **SHORT, precision="auto")
    assert seen[0] == "bfloat16"  # whether it runs at all
    assert all(seen.count(one) >= 2 for one in ("float32", "bfloat16"))


def test_half_precision_is_for_networks():
    with pytest.raises(ps.InputError, match="which is for networks; leave it out for a HMM"):
        ps.fit_gradient(ps.HMM(2, ps.emissions.Categorical(4)), counting(), precision="bfloat16")
