"""The parameters of all restarts side by side, after their states were given the same names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.errors import InputError
from probseq.models.emissions import Categorical
from probseq.models.hmm import HMM
from probseq.plots.series import state_moments
from probseq.plots.states import MAX_STATES, stationary_weights, to_numpy
from probseq.plots.style import PALETTE, Floats, figure_of, label, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.data.vocabulary import Vocabulary
    from probseq.restarts import Sensitivity

_MAX_DIMS = 4
_ROW = 0.17  # inches for one restart


@styled
def plot_aligned_parameters(
    sensitivity: Sensitivity,
    vocabulary: Vocabulary | None = None,
    columns: Sequence[str] = (),
    width: float = 8.5,
    max_restarts: int = 20,
    max_symbols: int = 27,
) -> Figure:
    """What the states emit in every restart after alignment: one line for each restart, the best one first.

    Of symbols there is a panel for each state, in which the area of a square is a probability. Of vectors there is a
    panel for each number, with mean and two standard deviations of every state in its color. Lines that look alike have
    found the same optimum; the letters at the left name the optima, A is the best. Of more than six states, those six
    are drawn in which the best restart spends the most time.

    Args:
        sensitivity: what `probseq.sensitivity` returned for a hidden Markov model.
        vocabulary: the names of the symbols; their ids where it is None.
        columns: of vectors, the names of the D numbers.
        width: inches; below 6 the panels stand one above the other.
        max_restarts: lines, at most; of more restarts, some evenly spaced over the ranking.
        max_symbols: symbols, at most: those that the best restart emits most.

    Raises:
        InputError: a model without states, or no restart with a finite value.
    """
    model, optimum = sensitivity.model, sensitivity.optimum
    if not isinstance(model, HMM) or optimum is None:
        raise InputError(f"the model ({type(model).__name__}) has no states to align; expected an HMM")
    rows = _lines(sensitivity.nats_per_token, max_restarts)
    names = [f"{_letter(int(optimum[r]))}  {r}" for r in rows]
    drawn = np.sort(np.argsort(-stationary_weights(model, sensitivity.best), kind="stable")[:MAX_STATES])
    emission = model.emission
    symbolic = isinstance(emission, Categorical)
    titles = [f"state {k}" for k in drawn] if symbolic else _numbers(model, columns)
    panels = _panels(titles, names, width)
    colors = [PALETTE[f"state-{i}"] for i in range(len(drawn))]
    if isinstance(emission, Categorical):
        every = to_numpy(emission.probs[:, model.groups])
        probs = every[rows][:, drawn]  # (lines, k, V)
        weights = stationary_weights(model, sensitivity.best)
        common = np.sort(np.argsort(-(weights @ every[sensitivity.best]), kind="stable")[:max_symbols])
        symbols = [str(v) if vocabulary is None else vocabulary.symbols[v] for v in common]
        for axes, table, color in zip(panels, probs.transpose(1, 0, 2), colors, strict=True):
            _squares(axes, table[:, common], [label(s, 4) for s in symbols], color)
    else:
        moments = np.array([state_moments(model, r) for r in rows])[:, :, drawn]  # (lines, 2, k, D)
        for d, axes in enumerate(panels):
            _bars(axes, moments[..., d], colors, [f"state {k}" for k in drawn] if d == 0 else None)
    return figure_of(panels[0])


def _letter(optimum: int) -> str:
    return chr(ord("A") + optimum) if 0 <= optimum < 26 else "·"


def _lines(values: Floats, max_restarts: int) -> list[int]:
    """The restarts to draw, best first."""
    order = [int(r) for r in np.argsort(values, kind="stable") if np.isfinite(values[r])]
    if not order:
        raise InputError("no restart has a finite value, so there is nothing to draw; fit again")
    places = np.unique(np.linspace(0, len(order) - 1, min(len(order), max_restarts)).round().astype(int))
    return [order[i] for i in places]


def _numbers(model: HMM, columns: Sequence[str]) -> list[str]:
    dims = min(model.support[1], _MAX_DIMS)
    return [label(columns[d]) if columns else f"dimension {d + 1}" for d in range(dims)]


def _panels(titles: Sequence[str], names: Sequence[str], width: float) -> list[Any]:
    """Panels with a line for each restart."""
    beside = 1 if width < 6 else min(len(titles), 2)
    lines = -(-len(titles) // beside)
    one = 0.75 + _ROW * len(names)
    height = one * lines
    figure = new_figure(width, height)
    panels = figure.subplots(lines, beside, squeeze=False, sharey=True)
    figure.subplots_adjust(
        left=0.5 / width, right=1 - 0.1 / width, bottom=0.42 / height, top=1 - 0.28 / height, wspace=0.06,
        hspace=0.75 / (one - 0.75 + 0.1),
    )  # fmt: skip
    flat = list(panels.ravel())
    for unused in flat[len(titles) :]:
        unused.set_visible(False)
    for axes, title in zip(flat, titles, strict=False):
        axes.set_title(title)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="both", length=0, labelsize=8)
        axes.spines[["left", "bottom"]].set_visible(False)
    return flat[: len(titles)]


def _squares(axes: Axes, table: Floats, symbols: Sequence[str], color: str) -> None:
    """Squares whose areas are the probabilities ``(lines, V)``; the largest of all fills its cell."""
    shown = table > 0.002 * table.max()
    row, column = np.nonzero(shown)
    wide = axes.bbox.width * 72 / figure_of(axes).dpi / len(symbols)
    cell = 0.9 * min(_ROW * 72, wide)  # points
    axes.scatter(column, row, s=cell**2 * table[shown] / table.max(), marker="s", color=color, linewidths=0)
    axes.set_xticks(range(len(symbols)), symbols)
    axes.tick_params(axis="x", labelcolor=PALETTE["ink"])
    axes.set_xlim(-0.8, len(symbols) - 0.2)


def _bars(axes: Axes, moments: Floats, colors: Sequence[str], names: Sequence[str] | None) -> None:
    """Mean and two standard deviations of every state: ``(lines, 2, k)``."""
    lines, states = len(moments), len(colors)
    for k, color in enumerate(colors):
        height = np.arange(lines) + 0.6 * ((k + 0.5) / states - 0.5)
        axes.errorbar(
            moments[:, 0, k], height, xerr=2 * moments[:, 1, k], fmt="o", color=color, ecolor=(color, 0.4), ms=3,
            elinewidth=0.8, label=None if names is None else names[k],
        )  # fmt: skip
    axes.grid(axis="x")
    if names is not None:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=states, borderaxespad=0, borderpad=0, handletextpad=0
        )
