"""Figures of all models at once: the ranking, the restarts, and what a bit costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.errors import InputError
from probseq.plots.numbers import interval, with_error
from probseq.plots.placement import best_place
from probseq.plots.style import (
    MARKERS,
    PALETTE,
    Floats,
    Unit,
    compact,
    family,
    figure_of,
    label,
    new_figure,
    styled,
    unit_of,
    widen,
)
from probseq.restarts import TOLERANCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.compare import Comparison

_LETTER = 5.8  # points that one letter of a name takes, about
_LEADER = {"arrowstyle": "-", "color": PALETTE["muted"], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}

SIGNS = {"exact": "", "lower bound": "≤ ", "estimate": "≈ "}
"""What stands before a number: a lower bound of the likelihood is an upper bound of the bits that are needed."""


def comparison_unit(comparison: Comparison) -> Unit:
    """What the log-probabilities of these models are shown in."""
    return unit_of(comparison.models[comparison.ranking[0]])


def per_token(comparison: Comparison, name: str) -> Floats:
    """``(R,)``: minus the test log-probability per token of every restart, in the unit of the comparison."""
    return np.asarray(comparison.test[name].nats_per_token, dtype=np.float64) / comparison_unit(comparison).nats


def error_per_token(comparison: Comparison, name: str) -> float:
    """The standard error, over sequences, of the chosen restart's value per token, in the unit of the comparison."""
    return float(comparison.test[name].nats_per_token_se[comparison.chosen[name]]) / comparison_unit(comparison).nats


def lead_per_token(comparison: Comparison, name: str) -> tuple[float, float]:
    """How much more a model needs per token than the first, and the standard error of that, in the same unit."""
    gap, error = comparison.lead(name)
    return gap / comparison_unit(comparison).nats, error / comparison_unit(comparison).nats


def _rows_axes(names: Sequence[str], texts: Sequence[str], width: float, row: float, top: float) -> Axes:
    """Axes with one horizontal row for each name, a text at the right of it, and no frame."""
    figure_height, bottom = top + row * len(names) + 0.5, 0.5
    right = max(1.35, 0.2 + 0.07 * max(len(line) for text in texts for line in text.split("\n")))
    left = 0.16 + 0.078 * max(len(label(name)) for name in names)
    axes = new_figure(width, figure_height).add_axes(
        (left / width, bottom / figure_height, 1 - (left + right) / width, 1 - (top + bottom) / figure_height)
    )
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.tick_params(axis="y", length=0, labelcolor=PALETTE["ink"], labelsize=10)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    beside, offset = axes.get_yaxis_transform(), (10, 0)
    for at, text in enumerate(texts):
        axes.annotate(text, (1, at), offset, beside, "offset points", va="center", fontsize=9, color=PALETTE["ink"])
    return axes


@styled
def plot_ranking(comparison: Comparison, width: float = 8.5) -> Figure:
    """Test bits per token (of vectors nats per step) of every model, best first, with bars of two standard errors.

    The small pale marks are the other restarts. A hollow mark with ``≤`` is a bound, one with ``≈`` an estimate.

    Args:
        comparison: what `probseq.compare` returned.
        width: inches.
    """
    unit, lines = comparison_unit(comparison), comparison.frame.to_dict("records")
    axes = _rows_axes(comparison.ranking, [_value(comparison, line) for line in lines], width, row=0.3, top=0.3)
    kinds: dict[str, Any] = {}
    for row, line in enumerate(lines):
        kind, exact = family(comparison.models[line["model"]]), line["likelihood"] == "exact"
        style: dict[str, Any] = {"marker": MARKERS[kind], "color": PALETTE[kind], "linestyle": ""}
        bits, error = float(line["nats_per_token"]) / unit.nats, error_per_token(comparison, line["model"])
        others = per_token(comparison, line["model"])
        axes.plot(others, np.full(len(others), row), **style, alpha=0.4, ms=3.5, mew=0)
        if math.isfinite(bits):
            face = PALETTE[kind] if exact else PALETTE["paper"]
            bar = 2 * error if math.isfinite(error) else 0
            drawn = axes.errorbar(bits, row, xerr=bar, **style, ms=6.5, mew=1.4, mfc=face, capsize=3.5, elinewidth=1.4)
            if exact or kind not in kinds:
                kinds[kind] = drawn[0]
    widen(axes, "x", 4 * TOLERANCE / unit.nats)
    names = [kind for kind in MARKERS if kind in kinds]
    figure = figure_of(axes)
    figure.legend(
        [kinds[kind] for kind in names], names, loc="upper left", bbox_to_anchor=(0.01, 1), borderaxespad=0.1,
        borderpad=0, ncol=3, handletextpad=0, columnspacing=0.9,
    )  # fmt: skip
    axes.set_xlabel(f"test {unit.name}")
    return figure


def _value(comparison: Comparison, line: dict[Any, Any]) -> str:
    """The value of a model and its standard error, as text."""
    value, name = line["nats_per_token"] / comparison_unit(comparison).nats, line["model"]
    return SIGNS[line["likelihood"]] + with_error(value, error_per_token(comparison, name))


@styled
def plot_restarts(comparison: Comparison, width: float = 8.5) -> Figure:
    """One strip for each model with random starts, one mark for each restart: the picture of sensitivity.

    A mark shows how many more test bits per token a restart needs than the restart that validation chose, which is the
    large mark at 0. The numbers at the right are the lowest and the highest test value.

    Args:
        comparison: what `probseq.compare` returned.
        width: inches.

    Raises:
        InputError: no model has more than one restart.
    """
    names = [name for name in comparison.ranking if comparison.models[name].num_restarts > 1]
    if not names:
        raise InputError("no model has more than one restart, so there is no spread to draw; give num_restarts > 1")
    axes = _rows_axes(names, [_span(per_token(comparison, name)) for name in names], width, row=0.42, top=0.12)
    axes.axvline(0, color=PALETTE["muted"], linewidth=0.8)
    for row, name in enumerate(names):
        kind, chosen = family(comparison.models[name]), comparison.chosen[name]
        style: dict[str, Any] = {"marker": MARKERS[kind], "color": PALETTE[kind], "linestyle": "", "clip_on": False}
        bits = per_token(comparison, name)
        height = row + np.linspace(-0.25, 0.25, len(bits))  # the order of the restarts keeps equal values apart
        finite = np.isfinite(bits)
        axes.axhspan(row - 0.42, row + 0.42, color=PALETTE["rule"], alpha=0.35, linewidth=0)
        if np.isfinite(bits[chosen]):
            axes.plot((bits - bits[chosen])[finite], height[finite], **style, ms=4.5, mew=0, alpha=0.6)
            axes.plot([0], height[[chosen]], **style, ms=7.5, mew=1.2, mec=PALETTE["ink"])
    axes.margins(x=0.05)
    widen(axes, "x", 4 * TOLERANCE / comparison_unit(comparison).nats)
    axes.set_xlabel(f"test {comparison_unit(comparison).name} above the chosen restart")
    return figure_of(axes)


def _span(values: Floats) -> str:
    """The lowest and the highest of the finite ones, and how many are not finite."""
    finite = values[np.isfinite(values)]
    lost = len(values) - len(finite)
    span = interval(finite.min(), finite.max()) if len(finite) else ""
    return span + (f"\n{lost} not finite" if lost else "")


@styled
def plot_cost(comparison: Comparison, width: float = 8.5) -> Figure:
    """Test bits per token against free parameters, and against the seconds that fitting all restarts took.

    Args:
        comparison: what `probseq.compare` returned.
        width: inches; below 6 the two panels stand one above the other.
    """
    frame = comparison.frame
    narrow = width < 6
    height = 5.6 if narrow else 3.4
    figure = new_figure(width, height)
    panels: Any = figure.subplots(2 if narrow else 1, 1 if narrow else 2, sharey=True)
    columns = {"num_parameters": "free parameters", "fit_seconds": "seconds to fit all restarts"}
    places = [
        _cost_points(axes, comparison, frame.to_dict("records"), column)
        for axes, column in zip(panels, columns, strict=True)
    ]
    unit = comparison_unit(comparison)
    widen(panels[0], "y", 4 * TOLERANCE / unit.nats)
    longest = max(len(tick.get_text()) for tick in panels[0].get_yticklabels())
    figure.subplots_adjust(
        left=max(0.66, 0.3 + 0.07 * longest) / width, right=1 - 0.15 / width, bottom=0.5 / height,
        top=1 - 0.1 / height, wspace=0.08, hspace=0.25,
    )  # fmt: skip
    for axes, points, title in zip(panels, places, columns.values(), strict=True):
        _name_points(axes, points)
        axes.set_xlabel(title)
    panels[0].set_ylabel(f"test {unit.name}")
    return figure


def _cost_points(
    axes: Axes, comparison: Comparison, lines: Sequence[dict[Any, Any]], column: str
) -> dict[str, tuple[float, float]]:
    """Draw a point for each model, and say where it is, by name."""
    nats = comparison_unit(comparison).nats
    drawn = [line for line in lines if math.isfinite(line["nats_per_token"]) and math.isfinite(line[column])]
    positive = [line[column] for line in drawn if line[column] > 0] or [1.0]
    first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    ticks = [10.0**d for d in range(first, max(last, first + 1) + 1)]
    nothing = ticks[0] / 10  # where a model without parameters stands
    places = {line["model"]: (line[column] or nothing, line["nats_per_token"] / nats) for line in drawn}
    for line, place in zip(drawn, places.values(), strict=True):
        kind = family(comparison.models[line["model"]])
        face = PALETTE[kind] if line["likelihood"] == "exact" else PALETTE["paper"]
        axes.plot(*place, MARKERS[kind], color=PALETTE[kind], mfc=face, ms=6)
    axes.set_xscale("log")
    if any(x == nothing for x, _ in places.values()):
        axes.set_xticks([nothing, *ticks], ["0", *map(compact, ticks)])
    else:
        axes.set_xticks(ticks, [compact(tick) for tick in ticks])
    axes.minorticks_off()
    axes.margins(x=0.1, y=0.1)
    low, high = axes.get_xlim()
    if sum(low <= tick <= high for tick in axes.get_xticks()) < 2:  # one alone says nothing of the scale
        axes.set_xlim(min(low, ticks[0]), max(high, ticks[-1]))
    axes.grid()
    if not drawn:
        axes.text(0.5, 0.5, "no model is finite", transform=axes.transAxes, ha="center", color=PALETTE["ink"])
    return places


def _make_room(axes: Axes, points: float) -> None:
    """Move the right limit of a logarithmic axis so that much further, for a name beside the last point."""
    wide = axes.bbox.width * 72 / figure_of(axes).dpi
    low, high = np.log10(axes.get_xlim())
    share = min(points / wide, 0.4)
    axes.set_xlim(right=10 ** (high + (high - low) * max(share - 0.08, 0) / (1 - share)))


def _name_points(axes: Axes, named: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, at the first of several places where it covers nothing and is not cut."""
    if not named:
        return
    names, places = [label(name) for name in named], list(named.values())
    _make_room(axes, _LETTER * max(map(len, names)) + 12)
    axes.autoscale_view()
    scale = figure_of(axes).dpi / 72
    points = axes.transData.transform(np.asarray(places)) / scale
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    sides = (axes.bbox.x0 / scale, -math.inf, axes.bbox.x1 / scale, math.inf)
    for name, (x, y), place in zip(names, points, places, strict=True):
        wide, half = _LETTER * len(name), 4.5
        spots = [(dx, dy) for dy in (0, 7, -7, 13, -13, 20, -20, 28, -28) for dx in (8, -8)]
        lefts = [x + dx - wide * (dx < 0) for dx, _ in spots]
        boxes = [(left, y + dy - half, left + wide, y + dy + half) for left, (_, dy) in zip(lefts, spots, strict=True)]
        best = best_place(boxes, taken, sides)
        taken.append(boxes[best])
        dx, dy = spots[best]
        axes.annotate(
            name, place, (dx, dy - half), textcoords="offset points", fontsize=9, color=PALETTE["ink"], va="baseline",
            ha="left" if dx > 0 else "right", arrowprops=_LEADER if abs(dy) > 7 else None,
        )  # fmt: skip
