"""The figures of memory: what is drawn is what was computed."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_plots import settings, texts

import probseq as ps
from probseq import plots
from probseq.diagnostics import Fading, chain_eigenvalues, recurrent_eigenvalues
from probseq.plots.memory import _largest
from probseq.plots.style import PALETTE


def curves():
    distance = np.arange(4)
    return {
        "gru": Fading("norm", distance, 0.5 ** distance[None].astype(float)),
        "hmm": Fading("norm", distance, np.array([[1.0, 0.1, 0.0, -1.0]]), "stochastic"),
    }


def gru():
    return ps.Autoregressive.from_seed(lambda: ps.GRU(3, hidden_dim=5), 2, seed=0)


def test_no_global_setting_changes():
    before = settings()
    plots.plot_fading(curves())
    plots.plot_eigenvalues({"W": recurrent_eigenvalues(gru().select(0))["candidate"]})
    assert settings() == before


def test_a_curve_is_its_mean_and_what_is_not_positive_is_left_out():
    figure = plots.plot_fading(curves())
    one, other = figure.axes[0].lines
    np.testing.assert_allclose(one.get_ydata(), curves()["gru"].mean)
    assert np.isnan(other.get_ydata()).tolist() == [False, False, True, True]
    assert one.get_color() == PALETTE["deterministic"]
    assert other.get_color() == PALETTE["stochastic"]
    assert figure.axes[0].get_yscale() == "log"
    with pytest.raises(ps.InputError, match="curves of 2 kinds"):
        plots.plot_fading(curves() | {"x": Fading("other", np.arange(2), np.ones((1, 2)))})


def test_the_largest_norms_are_drawn():
    norms = np.array([[1.0, 2.0], [5.0, np.nan], [3.0, np.nan], [0.5, np.nan]])
    found = _largest(norms, np.array([0, 2, 3]))
    assert np.array_equal(found, [[1, 2], [5, np.nan], [0.5, np.nan]], equal_nan=True)
    data = ps.Sequences.from_list([[0, 1, 2, 0]] * 4)
    fits = {name: ps.fit_gradient(gru(), data, num_steps=4, clip_norm=c) for name, c in (("a", 1.0), ("b", np.inf))}
    figure = plots.plot_gradient_norms(fits)
    assert len(figure.axes) == 2
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), fits["a"].details["gradient_norm"][:, 0])
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    with pytest.raises(ps.InputError, match="holds no norms"):
        plots.plot_gradient_norms({"em": ps.em(ps.HMM(2, ps.emissions.Categorical(3)), data, num_steps=2)})


def test_eigenvalues_are_points_in_the_plane():
    found = chain_eigenvalues(ps.HMM(3, ps.emissions.Categorical(3)))[0]
    figure = plots.plot_eigenvalues({"chain": found}, "stochastic")
    circle, points = figure.axes[0].lines
    assert np.hypot(*circle.get_xydata().T) == pytest.approx(np.ones(200))
    np.testing.assert_allclose(points.get_xdata() + 1j * points.get_ydata(), found)


def test_gates_are_drawn_unit_by_unit():
    net = gru().nets[0]
    steps = net.steps(torch.tensor([[0, 1, 2, 1]]))
    figure = plots.plot_gates(steps, list("ab c"))
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == [
        f"{name} gate" for name in steps.gates[0]
    ]
    first = next(iter(steps.gates[0].values()))[0].detach().numpy()
    drawn = np.sort(np.asarray(figure.axes[1].images[0].get_array()), axis=0)
    np.testing.assert_allclose(drawn, np.sort(first.T, axis=0), atol=1e-6)
    assert "␣" in texts(figure)
    with pytest.raises(ps.InputError, match="received 2 symbols for 4 steps"):
        plots.plot_gates(steps, ["a", "b"])
    with pytest.raises(ps.InputError, match="a tanh network has no gates"):
        plots.plot_gates(ps.RNN(3, hidden_dim=4).steps(torch.tensor([[0, 1]])), ["a", "b"])


def test_memory_is_the_median_over_seeds():
    rows = [
        ("copy", name, seed, d, a, 1 - a)
        for name in ("rnn", "hmm")
        for seed, a in enumerate((0.2, 0.9, 1.0))
        for d in (1, 2)
    ]
    rows += [("copy", "chance", 0, d, 0.25, 1.4) for d in (1, 2)]
    table = pd.DataFrame(rows, columns=["task", "model", "seed", "distance", "accuracy", "nats"])
    figure = plots.plot_memory(table, {"rnn": "deterministic", "hmm": "stochastic"})
    drawn = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert drawn == {"rnn": [0.9, 0.9], "hmm": [0.9, 0.9], "chance": [0.25, 0.25]}
    with pytest.raises(ps.InputError, match="no rows with the column 'bits'"):
        plots.plot_memory(table, {}, "bits")
