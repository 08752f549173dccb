"""Figures of memory: what fades with distance, gradients in training, eigenvalues, gates through a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.errors import InputError
from probseq.plots.learning import averages, thin
from probseq.plots.style import (
    PALETTE,
    Floats,
    compact,
    figure_of,
    label,
    new_figure,
    panel_grid,
    styled,
    symbol_label,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from probseq.diagnostics import Fading
    from probseq.inference.run import Fit
    from probseq.models.recurrent_layers import Steps

_LINES = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"), ("-", "v"), ("--", "P"))
_SHADES = (1.0, 0.75, 0.9, 0.6, 0.5, 0.8)


def _looks(families: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """How each line is drawn: its color says the family, its dashes and markers tell it from its kin."""
    seen: Counter[str] = Counter()
    looks = {}
    for name, family in families.items():
        number = seen[family] % len(_LINES)
        seen[family] += 1
        (dashes, marker), color = _LINES[number], PALETTE[family]
        looks[name] = {"color": color, "ls": dashes, "marker": marker, "ms": 3.5, "lw": 1.4, "alpha": _SHADES[number]}
    return looks


@styled
def plot_fading(curves: Mapping[str, Fading], width: float = 6.5, height: float = 3.2, floor: float = 1e-12) -> Figure:
    """How the past fades: the mean of each curve against distance, on a logarithmic axis.

    On it a straight line is a constant factor for each step: the past is forgotten at a constant rate.

    Args:
        curves: of one kind, by name.
        width: inches.
        height: inches.
        floor: what lies below is not drawn; so is what is not positive.

    Raises:
        InputError: no curves, or curves of different kinds.
    """
    kinds = {curve.what for curve in curves.values()}
    if len(kinds) != 1:
        raise InputError(f"received curves of {len(kinds)} kinds; expected one or more of one kind")
    axes = new_figure(width, height).add_subplot()
    looks = _looks({name: curve.family for name, curve in curves.items()})
    for name, curve in curves.items():
        shown = np.where(curve.mean > floor, curve.mean, np.nan)
        every = max(1, len(shown) // 12)
        axes.plot(curve.distance, shown, label=label(name), markevery=every, **looks[name])
    axes.set_yscale("log")
    axes.set_xlabel("distance")
    axes.set_ylabel(kinds.pop())
    return _with_legend(axes)


@styled
def plot_gradient_norms(fits: Mapping[str, Fit[Any]], width: float = 8.5, columns: int = 3) -> Figure:
    """The norm of the gradient before clipping against the step, every restart: one small panel for each fit.

    A thin line for each restart goes through the largest norms between the points drawn, because it is the largest that
    do harm.

    Args:
        fits: of `fit_gradient`, by name.
        width: inches.
        columns: panels side by side.

    Raises:
        InputError: a fit that did not note the norms of its gradients.
    """
    for name, fit in fits.items():
        if "gradient_norm" not in fit.details:
            raise InputError(f"the fit {name!r} holds no norms of gradients; fit_gradient notes them")
    figure, panels = panel_grid(len(fits), width, columns)
    for axes, (name, fit) in zip(panels, fits.items(), strict=True):
        norms = np.array(fit.details["gradient_norm"], dtype=np.float64)
        ends = thin(len(norms))
        axes.plot(ends + 1, _largest(norms, ends), color=PALETTE["deterministic"], lw=0.9, alpha=0.8)
        axes.plot(ends + 1, averages(norms, ends), color=PALETTE["ink"], lw=0.6, alpha=0.5)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(compact)
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.set_title(label(name, 28))
        axes.set_xlabel("step", labelpad=1)
        axes.set_ylabel("norm of the gradient", labelpad=2)
    low, high = min(axes.get_ylim()[0] for axes in panels), max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high)
    return figure


def _largest(values: Floats, ends: NDArray[np.int64]) -> Floats:
    """The largest of `values` (S, R) over the steps after one of `ends` up to and with the next."""
    known = np.where(np.isfinite(values), values, -np.inf)
    found = np.maximum.reduceat(known, np.append(0, ends[:-1] + 1), axis=0)
    return np.where(np.isfinite(found), found, np.nan)


@styled
def plot_eigenvalues(eigenvalues: Mapping[str, Any], family: str = "deterministic", width: float = 8.5) -> Figure:
    """Eigenvalues in the complex plane with the unit circle: one panel for each matrix.

    Inside the circle a step shrinks, outside it grows.

    Args:
        eigenvalues: ``(H,)`` complex numbers, by name.
        family: ``"deterministic"`` for weights from state to state, ``"stochastic"`` for a transition matrix.
        width: inches.
    """
    figure, panels = panel_grid(len(eigenvalues), width, 4, height=2.3)
    around = np.exp(2j * np.pi * np.linspace(0, 1, 200))
    reach = 1.08 * max(1.0, *(float(np.abs(np.asarray(one)).max()) for one in eigenvalues.values()))
    for axes, (name, found) in zip(panels, eigenvalues.items(), strict=True):
        found = np.asarray(found).ravel()
        axes.plot(around.real, around.imag, color=PALETTE["muted"], lw=0.8)
        axes.plot(found.real, found.imag, "o", color=PALETTE[family], ms=3.5, alpha=0.7)
        axes.set_aspect("equal")
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), title=label(name, 28))
        axes.locator_params(nbins=3)
    return figure


@styled
def plot_gates(steps: Steps, symbols: Sequence[str], layer: int = 0, sequence: int = 0, width: float = 8.5) -> Figure:
    """The gates of a recurrent network through one text: every unit a row, every symbol a column.

    Light is shut (0), dark is open (1). Units are in the order of their mean. The line above is the mean over units.

    Args:
        steps: what `Recurrent.steps` gave.
        symbols: the text, one for each step.
        layer: which layer.
        sequence: which of the N sequences.
        width: inches.

    Raises:
        InputError: a network without gates, or another number of symbols than of steps.
    """
    gates = {name: gate[sequence].detach().cpu().numpy() for name, gate in steps.gates[layer].items()}  # (T, H)
    if not gates:
        raise InputError("a tanh network has no gates; take an UpdateGateRNN, a GRU or an LSTM")
    length = len(next(iter(gates.values())))
    if len(symbols) != length:
        raise InputError(f"received {len(symbols)} symbols for {length} steps; expected one for each step")
    figure = new_figure(width, 1.9 * len(gates) + 0.3)
    panels = figure.subplots(2 * len(gates), 1, sharex=True, height_ratios=[1, 3] * len(gates), squeeze=False)[:, 0]
    for above, below, (name, gate) in zip(panels[0::2], panels[1::2], gates.items(), strict=True):
        above.plot(gate.mean(axis=1), color=PALETTE["deterministic"], lw=1.2)
        above.set(ylim=(0, 1), yticks=(0, 1), title=f"{label(name)} gate")
        order = np.argsort(gate.mean(axis=0))
        below.imshow(gate[:, order].T, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        below.set(yticks=(), ylabel="units")
    panels[-1].set_xticks(range(length), [symbol_label(one) for one in symbols])
    panels[-1].tick_params(axis="x", length=0, labelcolor=PALETTE["ink"], labelrotation=0 if _is_short(symbols) else 90)
    figure.set_layout_engine("constrained")
    return figure


def _is_short(symbols: Sequence[str]) -> bool:
    return max(map(len, symbols)) <= 2


@styled
def plot_memory(
    table: pd.DataFrame, families: Mapping[str, str], measure: str = "accuracy", width: float = 8.5
) -> Figure:
    """What each model remembers: one panel for each task, a line for each model, against distance.

    A line is the median over seeds, a band reaches from the worst to the best.

    Args:
        table: a row for each task, model, seed and distance, with the columns of these names and the measure; what is
            best or by chance has the model ``best`` or ``chance``, which are drawn as thin grey lines.
        families: model -> ``"baseline"``, ``"stochastic"`` or ``"deterministic"``.
        measure: the column to draw: ``"accuracy"`` or ``"nats"``.
        width: inches.

    Raises:
        InputError: the table has no such column, or no rows.
    """
    if measure not in table or not len(table):
        raise InputError(f"the table has no rows with the column {measure!r}; it has {', '.join(table.columns)}")
    tasks = list(dict.fromkeys(table["task"]))
    figure, panels = panel_grid(len(tasks), width, 2, height=2.5)
    looks = _looks(families) | {name: {"color": PALETTE["muted"], "lw": 0.8, "ls": ":"} for name in ("best", "chance")}
    for axes, task in zip(panels, tasks, strict=True):
        for name, rows in table[table["task"] == task].groupby("model", sort=False):
            by_distance = rows.groupby("distance")[measure]
            middle = by_distance.median()
            at = middle.index.to_numpy()
            axes.plot(at, middle.to_numpy(), label=label(name), **looks[str(name)])
            if name in families:
                low, high = by_distance.min().to_numpy(), by_distance.max().to_numpy()
                axes.fill_between(at, low, high, color=looks[str(name)]["color"], alpha=0.08, lw=0)
        axes.set_title(task)
        axes.set_xlabel("distance", labelpad=1)
        axes.set_ylabel(measure if measure == "accuracy" else "nats, where the answer is known", labelpad=2)
    lines = {str(one.get_label()): one for axes in panels for one in axes.lines}
    figure.legend(
        list(lines.values()), list(lines), loc="lower center", ncols=5, bbox_to_anchor=(0.5, 1.0), handlelength=3
    )
    return figure


def _with_legend(axes: Axes) -> Figure:
    figure = figure_of(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3)
    figure.set_layout_engine("constrained")
    return figure
