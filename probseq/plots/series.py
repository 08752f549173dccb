"""Figures of series of vectors: which state stands behind each step, and what models draw themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.plots.states import MAX_STATES, stationary_weights, to_numpy
from probseq.plots.style import PALETTE, Floats, family, label, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_DIMS = 4  # panels in a figure


def state_moments(model: Any, restart: int = 0) -> tuple[Floats, Floats]:
    """Mean and standard deviation of what each state emits, ``(K, D)`` each.

    Args:
        model: a hidden Markov model of vectors.
        restart: which of its restarts.
    """
    mean, variance = model.emission.moments(model.emission.raw)
    groups = model.groups.cpu()
    return to_numpy(mean[restart].cpu()[groups]), np.sqrt(to_numpy(variance[restart].cpu()[groups]))


@styled
def plot_series_states(
    model: Any, values: Floats, columns: Sequence[str] = (), restart: int = 0, width: float = 8.5
) -> Figure:
    """A series, each step in the color of its state on the most probable path, and what each state emits.

    At the right of each series, a state's mean and a bar of two standard deviations. Of more than six states, the six
    that take the largest shares of time have a color; the others are grey.

    Args:
        model: a hidden Markov model of vectors.
        values: ``(T, D)`` the series; NaN where a value is missing.
        columns: the names of the D numbers.
        restart: which of its restarts.
        width: inches.

    Raises:
        InputError: the series is impossible under the model.
    """
    path = to_numpy(model.viterbi(Sequences.from_list([values]).batch(device=model.device))[restart, 0]).astype(int)
    if path[0] < 0:
        raise InputError("the series is impossible under this model, so no state stands behind its steps")
    mean, deviation = state_moments(model, restart)
    drawn = np.sort(np.argsort(-stationary_weights(model, restart), kind="stable")[:MAX_STATES])
    colors = {int(k): PALETTE[f"state-{i}"] for i, k in enumerate(drawn)}
    dims = min(values.shape[1], _MAX_DIMS)
    height = 0.55 + 1.75 * dims
    figure = new_figure(width, height)
    panels: Any = figure.subplots(dims, 2, squeeze=False, sharey="row", width_ratios=[5, 1])
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.05 / width, bottom=0.45 / height, top=1 - 0.3 / height, wspace=0.04, hspace=0.4
    )
    for d in range(dims):
        left, right = panels[d]
        left.plot(values[:, d], color=PALETTE["rule"], lw=0.8, zorder=1)
        for k in range(len(mean)):
            color = colors.get(k, PALETTE["muted"])
            steps = np.flatnonzero(path == k)
            left.plot(steps, values[steps, d], ".", color=color, ms=4, zorder=2, label=f"state {k}")
            right.errorbar(k, mean[k, d], 2 * deviation[k, d], color=color, marker="o", ms=5, capsize=3, elinewidth=1.6)
        left.set_title(label(columns[d]) if columns else f"dimension {d + 1}")
        left.margins(x=0.01)
        left.grid(axis="y")
        _finish_states(right, len(mean))
    panels[-1, 0].set_xlabel("step", labelpad=1)
    panels[-1, 1].set_xlabel("state", labelpad=1)
    return figure


def _finish_states(axes: Axes, num_states: int) -> None:
    axes.set_xticks(range(num_states))
    axes.set_xlim(-0.7, num_states - 0.3)
    axes.tick_params(axis="both", length=0)
    axes.tick_params(axis="y", labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y")


@styled
def plot_samples(
    series: Mapping[str, Floats], models: Mapping[str, object], columns: Sequence[str] = (), width: float = 8.5
) -> Figure:
    """One panel for each series, all with the same axes: the data, and what each model has drawn.

    Only the first of the D numbers is shown.

    Args:
        series: by name, ``(T, D)``.
        models: the models among the names; their kind gives the color.
        columns: the names of the D numbers.
        width: inches.

    Raises:
        InputError: no series.
    """
    if not series:
        raise InputError("there is no series to draw; expected at least one")
    height = 0.55 + 1.0 * len(series)
    figure = new_figure(width, height)
    panels: Any = figure.subplots(len(series), 1, squeeze=False, sharex=True, sharey=True)
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.2 / width, bottom=0.45 / height, top=1 - 0.28 / height, hspace=0.6
    )
    for axes, (name, values) in zip(panels[:, 0], series.items(), strict=True):
        color = PALETTE[family(models[name])] if name in models else PALETTE["ink"]
        axes.plot(values[:, 0], color=color, lw=0.9)
        axes.margins(x=0.01)
        axes.locator_params(axis="y", nbins=3)
        axes.grid(axis="y")
        axes.set_title(label(name))
    panels[-1, 0].set_xlabel(f"step; {label(columns[0])}" if columns else "step", labelpad=1)
    return figure
