"""The figures: what is drawn is what was computed, and nothing global changes."""

from __future__ import annotations

import math
import re
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from fake_run import LETTERS, NUMBERS, fake_comparison, fake_fit, fake_models, two_state_hmm
from matplotlib.figure import Figure

from probseq import plots
from probseq.compare import Comparison
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.models.emissions import Gaussian
from probseq.models.hmm import HMM
from probseq.models.ngram import Uniform, Unigram
from probseq.plots.learning import averages, thin
from probseq.plots.series import state_moments
from probseq.plots.states import state_given_symbol
from probseq.plots.style import PALETTE, compact, family, label, unit_of


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return fake_comparison(fake_models())


def baselines(**likelihood: str) -> Comparison:
    return fake_comparison({"uniform": Uniform(27), "unigram": Unigram(27)}, **likelihood)


def settings() -> dict[str, Any]:
    """All of matplotlib's settings but the backend, which is only found out when it is asked for."""
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


def texts(figure: Figure) -> list[str]:
    import matplotlib.text

    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def points(figure: Figure, marker: str) -> set[tuple[float, float]]:
    """Every point drawn with a marker, rounded."""
    lines = [line for axes in figure.axes for line in axes.lines if line.get_marker() == marker]
    return {(round(float(x), 6), round(float(y), 3)) for line in lines for x, y in line.get_xydata()}


def vector_hmm(num_states: int = 2, num_dims: int = 1) -> HMM:
    """States with far means 0, 10, 20, ... and a standard deviation of 1."""
    means = 10 * np.arange(num_states)[:, None] * np.ones(num_dims)
    bank = Gaussian.from_parameters(means, np.ones_like(means))
    uniform = np.full((num_states, num_states), 1 / num_states)
    return HMM.from_parameters(uniform[0], uniform, bank)


@pytest.mark.parametrize("width", [8.5, 3.75])
def test_every_figure_is_drawn_without_touching_global_settings(comparison: Comparison, width: float) -> None:
    before = settings()
    drawn = [
        plots.plot_ranking(comparison, width),
        plots.plot_restarts(comparison, width),
        plots.plot_learning_curves(comparison.fits, comparison.chosen, width),
        plots.plot_states(comparison.models["hmm-2"], LETTERS, 0, width),
        plots.plot_cost(comparison, width),
    ]
    for figure in drawn:
        assert isinstance(figure, Figure)
        figure.canvas.draw()
        assert figure.get_figwidth() == width
    assert settings() == before


def test_ranking_shows_the_chosen_value_and_every_other_restart(comparison: Comparison) -> None:
    figure = plots.plot_ranking(comparison)
    row = comparison.ranking.index("hmm-16")
    expected = {(round(float(b), 6), float(row)) for b in comparison.test["hmm-16"].bits_per_token}
    assert expected <= points(figure, "o")
    best = comparison.ranking[0]
    bits = comparison.test[best].bits_per_token[comparison.chosen[best]]
    error = comparison.test[best].nats_per_token_se[comparison.chosen[best]] / math.log(2)
    assert f"{bits:.3f} ± {error:.3f}" in texts(figure)


def test_a_bound_is_hollow_and_marked() -> None:
    figure = plots.plot_ranking(baselines(unigram="lower bound"))
    assert [text[0] for text in texts(figure) if "±" in text] == ["≤", "4"]
    large = [line for line in figure.axes[0].lines if line.get_markersize() == 6.5]
    assert [line.get_markerfacecolor() == line.get_color() for line in large] == [False, True]


def test_small_values_are_drawn_as_the_table_has_them() -> None:
    comparison = fake_comparison({"hmm-2": two_state_hmm()}, {"hmm-2": (0.01, 0.0, 1.0)})
    comparison.test["hmm-2"].log_prob[:] = comparison.test["hmm-2"].log_prob[0]
    comparison.test["hmm-2"].log_prob[1:] -= 1e-7  # rounding
    assert any(re.fullmatch(r"0\.\d{4,} ± 0\.0+[1-9]", text) for text in texts(plots.plot_ranking(comparison)))
    figure = plots.plot_restarts(comparison)
    assert not any("–" in text for text in texts(figure))
    low, high = figure.axes[0].get_xlim()
    assert high - low == pytest.approx(4e-3 / math.log(2))


def test_the_cost_of_one_model_has_numbers_on_its_axes() -> None:
    figure = plots.plot_cost(fake_comparison({"hmm-2": two_state_hmm()}))
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 2


def test_few_steps_have_numbers_on_their_axis_and_a_legend() -> None:
    fit = Fit(two_state_hmm(2), "", -np.linspace(3, 2, 12).reshape(6, 2), ["max_steps"] * 2, 1.0)  # type: ignore[list-item]
    (axes,) = plots.plot_learning_curves({"hmm": fit}, {"hmm": 1}).axes
    low, high = axes.get_xlim()
    assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training"]


def test_restarts_are_drawn_as_differences_from_the_chosen_one(comparison: Comparison) -> None:
    figure = plots.plot_restarts(comparison)
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == [name for name in comparison.ranking if comparison.models[name].num_restarts > 1]
    bits = comparison.test["gru"].bits_per_token
    drawn = {x for x, y in points(figure, "D") if abs(y - names.index("gru")) < 0.4}
    assert drawn == {round(float(b), 6) for b in bits - bits[comparison.chosen["gru"]]}


def test_a_failed_restart_is_named_not_drawn() -> None:
    comparison = fake_comparison({"hmm-2": two_state_hmm()})
    comparison.test["hmm-2"].log_prob[7] = np.nan
    figure = plots.plot_restarts(comparison)
    assert any("1 not finite" in text for text in texts(figure))
    assert len({y for _, y in points(figure, "o")}) == 19
    plots.plot_ranking(comparison).canvas.draw()


def test_no_restarts_and_no_curves_are_sentences() -> None:
    with pytest.raises(InputError, match="no model has more than one restart"):
        plots.plot_restarts(baselines())
    with pytest.raises(InputError, match="no fit took two steps"):
        plots.plot_learning_curves(baselines().fits)


def test_learning_curves_end_where_each_restart_ended() -> None:
    bits = np.array([3.2, 3.3, 3.4])
    fit = fake_fit("hmm-16", HMM(2, two_state_hmm(1).emission, 3), bits, 1.0, np.random.default_rng(0))
    lines = plots.plot_learning_curves({"hmm-16": fit}, {"hmm-16": 1}).axes[0].lines
    ends = [np.asarray(line.get_xydata())[np.isfinite(line.get_ydata())][-1] for line in lines]
    np.testing.assert_allclose([end[1] for end in ends], bits, atol=1e-12)
    assert [end[0] for end in ends] == fit.num_steps.tolist()
    assert [line.get_alpha() for line in lines] == [0.4, 1, 0.4]


def test_thousands_of_steps_are_thinned_and_averaged() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 2))
    values[3000:, 1] = np.nan
    ends = thin(5000)
    assert len(ends) <= 90
    assert (ends[0], ends[-1]) == (0, 4999)
    means = averages(values, ends)
    begin = ends[40] + 1
    np.testing.assert_allclose(means[41], values[begin : ends[41] + 1].mean(axis=0))
    assert np.isnan(means[-1, 1])
    assert np.isfinite(means[:, 0]).all()
    assert thin(1).tolist() == [0]


def test_states_behind_symbols_follow_bayes() -> None:
    model = HMM(3, two_state_hmm(1).emission, num_restarts=2, seed=3)
    weights, behind = state_given_symbol(model, restart=1)
    transition, probs = (p[1].detach().double().numpy() for p in (model.transition, model.emission.probs))
    np.testing.assert_allclose(weights @ transition, weights, atol=1e-12)
    assert weights.sum() == pytest.approx(1)
    v = 4
    np.testing.assert_allclose(behind[:, v], weights * probs[:, v] / (weights @ probs[:, v]))


def test_states_figure_sorts_symbols_and_shows_what_cannot_be_printed() -> None:
    figure = plots.plot_states(two_state_hmm(), LETTERS)
    vowels, consonants, shared = ([t.get_text() for t in axes.get_xticklabels()] for axes in figure.axes)
    assert "".join(vowels[:7]) == "␣eaoiuy"
    assert consonants[0] == "t"
    assert set(shared[:5]) == set("aeiou")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == sorted(heights, reverse=True)
    unnamed = plots.plot_states(two_state_hmm(), None, max_symbols=5)
    assert [t.get_text() for t in unnamed.axes[0].get_xticklabels()] == ["26", "4", "0", "14", "8"]


def test_of_many_states_the_most_frequent_are_drawn_and_the_rest_is_grey() -> None:
    model = HMM(9, two_state_hmm(1).emission, seed=1)
    weights, behind = state_given_symbol(model)
    figure = plots.plot_states(model, LETTERS)
    frequent = sorted(np.argsort(-weights)[:6])
    assert [int(axes.get_title("left").split()[1].rstrip(",")) for axes in figure.axes[:-1]] == frequent
    pieces = np.array([bar.get_height() for bar in figure.axes[-1].patches]).reshape(7, 27)
    np.testing.assert_allclose(pieces.sum(axis=0), 1)
    np.testing.assert_allclose(np.sort(pieces[-1]), np.sort(1 - behind[frequent].sum(axis=0)), atol=1e-12)


def test_cost_draws_every_model_and_a_place_for_no_parameters(comparison: Comparison) -> None:
    figure = plots.plot_cost(comparison)
    assert {name for name in NUMBERS if texts(figure).count(name) == 2} == set(NUMBERS)
    assert "0" in [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


def test_cost_says_where_there_is_nothing_to_draw() -> None:
    nothing = baselines()
    for name in nothing.ranking:
        nothing.test[name].log_prob[:] = -np.inf
    figure = plots.plot_cost(nothing)
    assert texts(figure).count("no model is finite") == 2
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a$b$c", r"a\$b\$c"), ("x" * 19 + "yz", "x" * 10 + "…" + "x" * 7 + "yz"), ("\n", "\\n"), (" ", "␣")],
)
def test_labels_are_plain_text(text: str, shown: str) -> None:
    assert label(text) == shown


def test_names_with_dollars_draw() -> None:
    figure = plots.plot_ranking(fake_comparison({"$x_1$": Uniform(27)}, {"$x_1$": NUMBERS["uniform"]}))
    figure.canvas.draw()


def test_families_and_axis_numbers(comparison: Comparison) -> None:
    kinds: dict[str, Any] = {name: family(model) for name, model in comparison.models.items()}
    assert kinds == dict.fromkeys(("uniform", "unigram", "ngram"), "baseline") | dict.fromkeys(
        ("hmm-2", "hmm-16", "hmm-64"), "stochastic"
    ) | dict.fromkeys(("rnn", "gru", "lstm", "transformer"), "deterministic")
    assert [compact(x) for x in (0.001, 10, 2000, 5e6)] == ["0.001", "10", "2k", "5M"]


def test_one_state_and_unused_symbols() -> None:
    model = HMM.from_parameters(torch.ones(1), torch.ones(1, 1), torch.tensor([[0.5, 0.5, 0.0]]))
    weights, behind = state_given_symbol(model)
    assert weights.tolist() == [1.0]
    assert behind.tolist() == [[1.0, 1.0, 0.0]]
    plots.plot_states(model, None).canvas.draw()


# Series of vectors


def test_the_unit_is_bits_for_symbols_and_nats_for_vectors() -> None:
    assert (unit_of(Uniform(27)).name, unit_of(Uniform(27)).nats) == ("bits per token", math.log(2))
    assert (unit_of(vector_hmm()).name, unit_of(vector_hmm()).nats) == ("nats per step", 1.0)


def test_a_single_state_is_no_hidden_state() -> None:
    assert [family(vector_hmm(k)) for k in (1, 2)] == ["baseline", "stochastic"]


def test_figures_of_vectors_are_in_nats() -> None:
    models = {"iid": vector_hmm(1), "hmm": vector_hmm(2)}
    drawn = fake_comparison(models, {"iid": (2.0, 0.0, 1.0), "hmm": (1.0, 0.0, 1.0)})
    nats = drawn.test["hmm"].nats_per_token[0]
    ranking = plots.plot_ranking(drawn)
    assert "test nats per step" in texts(ranking)
    assert any(text.startswith(f"{nats:.3f} ± ") for text in texts(ranking))
    assert "test nats per step" in texts(plots.plot_cost(drawn))
    fit = fake_fit("hmm-2", models["hmm"], np.array([1.0, 2.0]), 1.0, np.random.default_rng(0))
    figure = plots.plot_learning_curves({"hmm": fit})
    assert "nats per step" in texts(figure)
    ends = sorted(float(line.get_ydata()[np.isfinite(line.get_ydata())][-1]) for line in figure.axes[0].lines)
    assert ends == pytest.approx([math.log(2), 2 * math.log(2)], abs=1e-9)


@pytest.mark.parametrize("num_dims", [1, 3])
def test_every_step_has_the_color_of_its_state(num_dims: int) -> None:
    rng = np.random.default_rng(0)
    states = rng.integers(0, 3, 60)
    values = 10.0 * states[:, None] + rng.normal(size=(60, num_dims))
    model = vector_hmm(3, num_dims)
    names = [f"c{d}" for d in range(num_dims)]
    figure = plots.plot_series_states(model, values, names)
    assert set(texts(figure)) >= {*names, "step", "state"}
    for d in range(num_dims):
        points_of = {line.get_label(): line for line in figure.axes[2 * d].lines if line.get_marker() == "."}
        for k in range(3):
            line = points_of[f"state {k}"]
            np.testing.assert_array_equal(line.get_xdata(), np.flatnonzero(states == k))
            np.testing.assert_array_equal(line.get_ydata(), values[states == k, d])
            assert line.get_color() == PALETTE[f"state-{k}"]


def test_the_moments_of_the_states_are_those_of_the_model() -> None:
    mean, deviation = state_moments(vector_hmm(3, 2))
    np.testing.assert_allclose(mean, [[0, 0], [10, 10], [20, 20]])
    np.testing.assert_allclose(deviation, np.ones((3, 2)))


def test_a_series_with_missing_values_is_drawn() -> None:
    values = np.array([[0.0], [np.nan], [10.0]])
    figure = plots.plot_series_states(vector_hmm(), values)
    assert "dimension 1" in texts(figure)
    figure.canvas.draw()


def test_samples_share_their_axes() -> None:
    models = {"iid": vector_hmm(1), "hmm": vector_hmm()}
    series = {"test data": np.zeros((5, 1)), "iid": np.ones((5, 1)), "hmm": np.full((5, 1), 7.0)}
    figure = plots.plot_samples(series, models, ["x"])
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert [axes.lines[0].get_ydata()[0] for axes in figure.axes] == [0, 1, 7]
    assert [axes.lines[0].get_color() for axes in figure.axes] == [
        PALETTE[name] for name in ("ink", "baseline", "stochastic")
    ]
    with pytest.raises(InputError, match="no series to draw"):
        plots.plot_samples({}, {})
