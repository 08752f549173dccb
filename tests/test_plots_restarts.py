"""Figures of restarts: every number that is drawn is one that was computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import probseq as ps
from probseq import plots
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.plots.style import PALETTE

families = ps.emissions
BITS = math.log(2)
VOCABULARY = ps.Vocabulary(("a", "$", " "), "symbol")


def fitted(values: list[float], num_states: int = 2) -> Fit[ps.HMM]:
    """Restarts that end at these nats per token after three steps."""
    model = ps.HMM(num_states, families.Categorical(3), num_restarts=len(values))
    history = -np.array([[9.0] * len(values), [5.0] * len(values), values])
    history[:, np.isnan(values)] = np.nan
    return Fit(model, "log-likelihood per token (nats)", history, ["converged"] * len(values), 1.0)


def found(values: list[float], num_states: int = 2) -> ps.Sensitivity:
    return ps.sensitivity(fitted(values, num_states))


def lines(figure: Figure, panel: int = 0) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in figure.axes[panel].lines]


@pytest.mark.parametrize("width", [8.5, 3.75])
def test_every_figure_is_drawn(width: float) -> None:
    both = {"one$": found([2.0, 1.0, 1.5]), "other": found([1.0, 1.0])}
    for figure in (
        plots.plot_final_values(both, width),
        plots.plot_best_of(both, width),
        plots.plot_traces(both, width),
        plots.plot_aligned_parameters(both["one$"], VOCABULARY, width=width),
    ):
        assert isinstance(figure, Figure)
        figure.canvas.draw()
        assert figure.get_figwidth() == width


def test_final_values_are_in_order_and_full_where_the_best_was_found() -> None:
    figure = plots.plot_final_values({"hmm": found([2.0, 1.0005, math.nan, 1.0])})
    axes = figure.axes[0]
    full, hollow = axes.lines[1:]
    np.testing.assert_allclose(full.get_xydata(), [[1, 1.0 / BITS], [2, 1.0005 / BITS]])
    np.testing.assert_allclose(np.asarray(hollow.get_xydata())[0], [3, 2.0 / BITS])
    assert full.get_markerfacecolor() == PALETTE["stochastic"] != hollow.get_markerfacecolor()
    assert axes.get_title(loc="left") == "hmm: 2 of 4 at the best"
    assert axes.get_ylabel() == "bits per token"


@pytest.mark.parametrize("count", [2, 3, 20])
def test_the_axis_of_restarts_begins_with_the_first_and_ends_with_the_last(count: int) -> None:
    several = {"hmm": found([1.0 + 0.1 * r for r in range(count)])}
    for figure in (plots.plot_final_values(several), plots.plot_best_of(several)):
        (axes,) = figure.axes
        low, high = axes.get_xlim()
        assert 0 < low < 1
        assert count < high < count + 1
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_equal_values_do_not_look_like_a_spread() -> None:
    low, high = plots.plot_final_values({"hmm": found([1.0, 1.0 + 1e-9])}).axes[0].get_ylim()
    assert high - low == pytest.approx(4e-3 / BITS)


def test_the_curve_of_the_best_is_the_expected_best() -> None:
    one = found([2.0, 1.0, math.nan, 1.5])
    curve = lines(plots.plot_best_of({"hmm": one}))[1]
    np.testing.assert_allclose(curve, [[r, one.expected_best[r - 1] / BITS] for r in (2, 3, 4)])


def test_traces_show_how_far_the_best_end_is() -> None:
    figure = plots.plot_traces({"hmm": found([2.0, 1.0])})
    first, second, threshold = figure.axes[0].lines
    np.testing.assert_allclose(first.get_ydata(), np.array([8.0, 4.0, 1.0]) / BITS)
    np.testing.assert_allclose(second.get_ydata(), np.array([8.0, 4.0, 1e-4]) / BITS)
    np.testing.assert_allclose(first.get_xdata(), [1, 2, 3])
    assert (first.get_color(), second.get_color()) == (PALETTE["muted"], PALETTE["stochastic"])
    assert np.asarray(threshold.get_ydata())[0] == pytest.approx(1e-3 / BITS)


def test_traces_of_a_fit_with_validation_are_those_of_validation() -> None:
    net = ps.Autoregressive.from_seed(lambda: ps.RNN(3, hidden_dim=2), 2, 0)
    validation = -np.array([[3.0, 4.0], [2.0, 2.5]])
    fit = Fit(net, "training", np.zeros((20, 2)), ["max_steps"] * 2, 1.0, np.array([10, 20]), validation)
    first, second, _ = plots.plot_traces({"net": ps.sensitivity(fit)}).axes[0].lines
    np.testing.assert_allclose(first.get_xydata(), [[10, 1.0 / BITS], [20, 1e-4 / BITS]])
    np.testing.assert_allclose(second.get_ydata(), np.array([2.0, 0.5]) / BITS)


def areas(axes) -> dict[tuple[int, int], float]:
    """Size of the square at (line, symbol)."""
    (squares,) = axes.collections
    places = np.asarray(squares.get_offsets()).round().astype(int)
    return {(int(y), int(x)): float(s) for (x, y), s in zip(places, squares.get_sizes(), strict=True)}


def test_aligned_parameters_are_those_of_the_best_restart_first_and_under_its_names() -> None:
    model = ps.HMM.from_parameters([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    both = model.take([0, 0]).permute(torch.tensor([[0, 1], [1, 0]]))
    fit = Fit(both, "", np.array([[-2.0, -1.0]]), ["converged"] * 2, 1.0)
    figure = plots.plot_aligned_parameters(ps.sensitivity(fit, tolerance=2), VOCABULARY)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["A  1", "A  0"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["a", r"\$", "␣"]
    for axes, probs in zip(figure.axes, both.emission.probs[1].detach().numpy(), strict=True):
        sizes = areas(axes)
        for line in (0, 1):
            drawn = np.array([sizes[line, v] for v in range(3)])
            np.testing.assert_allclose(drawn / drawn.sum(), probs, atol=1e-9)


def test_optima_have_letters_and_many_restarts_are_thinned() -> None:
    figure = plots.plot_aligned_parameters(found(np.linspace(1, 2, 40).tolist()), max_restarts=5)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["A  0", "K  10", "U  20", "·  29", "·  39"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0", "1", "2"]


def test_aligned_parameters_of_vectors_are_means_and_deviations() -> None:
    bank = families.Gaussian.from_parameters([[0.0, 5.0], [10.0, -5.0]], [[1.0, 4.0], [0.25, 1.0]])
    model = ps.HMM.from_parameters([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], bank).take([0, 0])
    fit = Fit(model, "", np.array([[-1.0, -2.0]]), ["converged"] * 2, 1.0)
    figure = plots.plot_aligned_parameters(ps.sensitivity(fit), columns=("warm", "wet"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["warm", "wet"]
    means = [container[0].get_xdata().tolist() for container in figure.axes[1].containers]
    assert means == [[5.0, 5.0], [-5.0, -5.0]]
    bars = [container[2][0].get_segments()[0][:, 0].tolist() for container in figure.axes[1].containers]
    np.testing.assert_allclose(bars, [[1.0, 9.0], [-7.0, -3.0]])


def test_the_lowest_of_every_criterion_is_marked() -> None:
    data = ps.Sequences.from_list([[0, 0, 0, 0, 1, 1, 1, 1] * 8])
    table = ps.model_choice({K: ps.HMM(K, families.Categorical(2), num_restarts=3) for K in (1, 2, 3)}, data, data)
    figure = plots.plot_model_choice(table)
    curves = [line for axes in figure.axes for line in axes.lines]
    for name, curve, mark in zip(("aic", "bic", "held_out_nats_per_token"), curves[::2], curves[1::2], strict=True):
        np.testing.assert_allclose(curve.get_ydata(), table[name])
        assert mark.get_xdata()[0] == table[name].to_numpy().argmin()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["1", "2", "3"]
    assert len(plots.plot_model_choice(table.drop(columns="held_out_nats_per_token")).axes) == 1


def test_what_cannot_be_drawn_is_a_sentence() -> None:
    lone, net = found([1.0]), ps.Autoregressive.from_seed(lambda: ps.RNN(3, hidden_dim=2), 2, 0)
    for plot in (plots.plot_final_values, plots.plot_best_of):
        with pytest.raises(InputError, match="no model has more than one restart with a finite value"):
            plot({"hmm": lone})
    data = ps.Sequences.from_list([[0, 1, 2]])
    with pytest.raises(InputError, match="no fit took two steps or more, so there is no course to draw"):
        plots.plot_traces({"net": ps.sensitivity(net, data)})
    with pytest.raises(InputError, match=r"the model \(Autoregressive\) has no states to align"):
        plots.plot_aligned_parameters(ps.sensitivity(net, data))
    with pytest.raises(InputError, match="no restart has a finite value, so there is nothing to draw"):
        plots.plot_aligned_parameters(found([math.nan, math.nan]))
