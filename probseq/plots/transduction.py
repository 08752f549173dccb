"""What connects a target with its source, how quality changes with length, and what the chains of a mixture are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.data.vocabulary import END
from probseq.errors import InputError
from probseq.plots.style import MARKERS, PALETTE, Floats, figure_of, label, new_figure, panel_grid, styled
from probseq.transduction import MAX_COMPONENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.transduction import LengthBins, PairAlignment, WordComponents

_CELL = 0.26  # inches, at most, of one weight
_LEFT, _GAP, _TITLE, _LETTERS = 0.5, 0.14, 0.28, 0.3  # inches around the panels
_LETTER = 0.085  # inches, about, of a letter in a title
_LINE, _BETWEEN = 0.2, 0.6  # inches of one target, and lines between two sources
_PALE = 0.35


@styled
def plot_alignments(
    alignments: Sequence[PairAlignment], source: Sequence[str], target: Sequence[str], width: float = 8.5
) -> Figure:
    """Which positions of the source each symbol of one target looks at, or comes from: a panel for each model.

    The area of a square is a weight; those of a line sum to 1. Blue weights are computed: attention. Orange ones are
    probabilities of a position given source and target, and the line through them is the most probable path.

    Args:
        alignments: of the same pair, each of one model.
        source: the S symbols of the source.
        target: the T symbols of the target.
        width: inches; below 6 there are two panels side by side, else four.

    Raises:
        InputError: no alignment, or one of another pair.
    """
    if not alignments:
        raise InputError("received no alignments; expected those of one model or more")
    for one in alignments:
        if one.weights.shape != (len(target), len(source)):
            raise InputError(
                f"the alignment of {one.name} has shape {one.weights.shape}, and the pair has {len(target)} symbols "
                f"for {len(source)}; expected one line for each symbol of the target"
            )
    columns = min(len(alignments), 2 if width < 6 else 4)
    cell = min(_CELL, ((width - _LEFT) / columns - _GAP) / (len(source) + 0.2))
    wide, high = cell * (len(source) + 0.2), cell * (len(target) + 0.2)
    line = high + _TITLE + _LETTERS
    height = line * -(-len(alignments) // columns)
    figure = new_figure(width, height)
    for i, one in enumerate(alignments):
        left, top = _LEFT + i % columns * (wide + _GAP), height - line * (i // columns) - _TITLE
        axes = figure.add_axes((left / width, (top - high) / height, wide / width, high / height))
        _matrix(axes, one, cell)
        axes.set_title(label(one.name, int(wide / _LETTER)))
        axes.set_xticks(range(len(source)), [_short(s) for s in source])
        axes.set_yticks(range(len(target)), [_short(s) for s in target] if i % columns == 0 else [""] * len(target))
    return figure


def _short(symbol: str) -> str:
    """A symbol where there is little room: the end symbol is one sign."""
    return "⊣" if symbol == END else label(symbol, 5)


def _matrix(axes: Axes, alignment: PairAlignment, cell: float) -> None:
    """Squares whose areas are weights, and the path through them."""
    color = PALETTE["stochastic" if alignment.is_drawn else "deterministic"]
    weights = alignment.weights
    row, column = np.nonzero(weights > 0.002)
    sizes = (0.92 * cell * 72) ** 2 * weights[row, column]  # points squared
    axes.scatter(column, row, s=sizes, marker="s", color=color, linewidths=0)
    if alignment.path is not None:
        axes.plot(alignment.path, range(len(alignment.path)), "-o", color=PALETTE["ink"], linewidth=0.9, ms=2.4, mew=0)
    axes.set_xlim(-0.6, weights.shape[1] - 0.4)
    axes.set_ylim(weights.shape[0] - 0.4, -0.6)
    axes.grid()
    axes.tick_params(length=0, labelsize=8, labelcolor=PALETTE["ink"])
    axes.spines[["left", "bottom"]].set_visible(False)


@styled
def plot_by_length(
    bins: LengthBins,
    values: Mapping[str, Floats],
    kinds: Mapping[str, str],
    what: str,
    width: float = 8.5,
    least: tuple[float, float] | None = None,
) -> Figure:
    """A number of every model against the length of the source: a panel for each, the others pale behind it.

    Args:
        bins: of source lengths.
        values: by model, ``(B,)`` the number in each bin.
        kinds: by model, what its hidden state is, as `probseq.plots.style.family` says it: its color and its mark.
        what: the number is, for the axis.
        width: inches; below 6 there are two panels side by side, else four.
        least: what the vertical axis holds at least.
    """
    if not values:
        raise InputError("received no values; expected those of one model or more")
    figure, panels = panel_grid(len(values), width, min(len(values), 2 if width < 6 else 4), 1.75)
    places, labels = np.arange(len(bins.first)), bins.labels
    finite = np.concatenate([*(one[np.isfinite(one)] for one in values.values()), least or ()])
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.1
    every = max(1, -(-len(labels) // 5))
    for axes, (name, one) in zip(panels, values.items(), strict=True):
        for other in values.values():
            axes.plot(places, other, color=PALETTE["rule"], linewidth=0.9)
        kind = kinds[name]
        axes.plot(places, one, marker=MARKERS[kind], color=PALETTE[kind], ms=3, mew=0, linewidth=1.3)
        axes.set_title(label(name, 22))
        axes.set_ylim(low - margin, high + margin)
        axes.set_xticks(places[::every], labels[::every])
        axes.locator_params(axis="y", nbins=4)
        axes.tick_params(length=0, labelsize=8)
        axes.grid(axis="y")
    figure_of(panels[0]).supylabel(what, x=0.0, ha="left", fontsize=9, color=PALETTE["muted"])
    figure_of(panels[0]).supxlabel("symbols in the source", y=0.0, va="bottom", fontsize=9, color=PALETTE["muted"])
    return figure


@styled
def plot_components(words: Sequence[WordComponents], width: float = 8.5) -> Figure:
    """Which chain of a mixture each target of one source comes from: words that are pronounced in several ways.

    A line for each target; the colors are its shares ``p(m | x, y)`` of the chains, in one order everywhere. The pale
    line above them is what the source alone says, ``p(m | x)``.

    Args:
        words: the sources, each with all its targets.
        width: inches.

    Raises:
        InputError: no words, or more chains than there are colors.
    """
    if not words:
        raise InputError("received no words; expected at least one with several targets")
    components = words[0].prior.shape[0]
    if components > MAX_COMPONENTS:
        raise InputError(f"received {components} components; {MAX_COMPONENTS} can be told apart by color")
    axes = _component_axes(words, width)
    at, places = 0.0, []
    for word in words:
        for strength, shares in ((_PALE, word.prior), *((1.0, one) for one in word.posterior)):
            _shares(axes, at, shares, strength)
            places.append(at)
            at += 1
        at += _BETWEEN
    axes.set_yticks(places, [name for word in words for name in _names(word)])
    axes.set_ylim(at - _BETWEEN - 0.4, -0.6)
    handles: list[Any] = [axes.barh([at + 9], [0], color=PALETTE[f"state-{m}"]) for m in range(components)]
    figure = figure_of(axes)
    figure.legend(
        handles, [f"{m}" for m in range(components)], title="component", loc="upper right", bbox_to_anchor=(1, 1),
        ncols=components, borderaxespad=0.1, borderpad=0, handlelength=0.9, columnspacing=0.9,
    )  # fmt: skip
    return figure


def _names(word: WordComponents) -> list[str]:
    return [label(one, 30) for one in (word.source, *word.targets)]


def _component_axes(words: Sequence[WordComponents], width: float) -> Axes:
    """Axes with room for every name at the left, and no frame."""
    lines = sum(1 + len(word.targets) + _BETWEEN for word in words)
    height = 0.55 + _LINE * lines
    left = 0.15 + 0.072 * max(len(name) for word in words for name in _names(word))
    axes = new_figure(width, height).add_axes(
        (left / width, 0.05 / height, 1 - (left + 0.1) / width, 1 - 0.55 / height)
    )
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=PALETTE["ink"])
    axes.spines[["left", "bottom"]].set_visible(False)
    return axes


def _shares(axes: Axes, at: float, shares: Floats, strength: float) -> None:
    """One bar of length 1, a piece for each component."""
    begin = 0.0
    for m, share in enumerate(shares):
        axes.barh([at], [share], 0.78, left=[begin], color=(PALETTE[f"state-{m}"], strength))
        begin += float(share)
