"""Figures of what the restarts tell: where they end, how they get there, and what fewer of them would have found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from probseq.errors import InputError
from probseq.plots.learning import has_curve, thin
from probseq.plots.style import (
    MARKERS,
    PALETTE,
    Floats,
    compact,
    family,
    label,
    log_steps,
    panel_grid,
    styled,
    unit_of,
    widen,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.restarts import Sensitivity


@styled
def plot_final_values(sensitivities: Mapping[str, Sensitivity], width: float = 8.5, columns: int = 3) -> Figure:
    """The values of all restarts in order, best first: one small panel for each model.

    In bits per token; in nats per step for vectors. The full marks have found the best, to within the tolerance; steps
    between the others are other optima.

    Args:
        sensitivities: by name, what `probseq.sensitivity` returned; those of one restart are left out.
        width: inches.
        columns: panels side by side.

    Raises:
        InputError: no model has more than one restart with a finite value.
    """
    shown = _several(sensitivities)
    figure, panels = panel_grid(len(shown), width, columns)
    for axes, (name, one) in zip(panels, shown.items(), strict=True):
        kind, order = family(one.model), np.argsort(one.nats_per_token, kind="stable")
        values, at_best = one.nats_per_token[order] / unit_of(one.model).nats, one.at_best(one.tolerance)[order]
        ranks = np.arange(1, len(order) + 1)
        axes.axhline(values[0], color=PALETTE["rule"], lw=1)
        for part, face in ((at_best, PALETTE[kind]), (~at_best, PALETTE["paper"])):
            axes.plot(ranks[part], values[part], MARKERS[kind], color=PALETTE[kind], mfc=face, ms=4, mew=0.9)
        found = f"{one.num_at_best(one.tolerance)} of {one.num_restarts}"
        _finish(axes, one, len(order), f"{label(name, 18)}: {found} at the best", "restarts, best first")
    return figure


@styled
def plot_best_of(sensitivities: Mapping[str, Sensitivity], width: float = 8.5, columns: int = 3) -> Figure:
    """The expected best of r runs against r: one small panel for each model.

    In bits per token; in nats per step for vectors. A curve that still falls at the right says that more restarts would
    find a better optimum; one that is flat from the left, that one would have done.

    Args:
        sensitivities: by name, what `probseq.sensitivity` returned; those of one restart are left out.
        width: inches.
        columns: panels side by side.

    Raises:
        InputError: no model has more than one restart with a finite value.
    """
    shown = _several(sensitivities)
    figure, panels = panel_grid(len(shown), width, columns)
    for axes, (name, one) in zip(panels, shown.items(), strict=True):
        values = one.expected_best / unit_of(one.model).nats
        runs, finite = np.arange(1, len(values) + 1), np.isfinite(values)
        axes.axhline(values[-1], color=PALETTE["rule"], lw=1)
        color = PALETTE[family(one.model)]
        axes.plot(runs[finite], values[finite], color=color, lw=1.6, marker="." if len(runs) <= 30 else None, ms=5)
        _finish(axes, one, len(runs), label(name, 28), "runs, of which the best is taken")
    return figure


@styled
def plot_traces(sensitivities: Mapping[str, Sensitivity], width: float = 8.5, columns: int = 3) -> Figure:
    """How far every restart is from the best end, by step: one small panel for each fit, both axes logarithmic.

    In bits per token; in nats per step for vectors. Below the dashed line a restart has found the best. Curves that run
    level far above it have come to rest elsewhere, or cross a plateau on their way. Where a fit chose its weights by
    validation data, their course is drawn.

    Args:
        sensitivities: by name, what `probseq.sensitivity` returned for a fit; those without a course are left out.
        width: inches.
        columns: panels side by side.

    Raises:
        InputError: no fit took two steps.
    """
    shown = {name: one for name, one in sensitivities.items() if one.fit is not None and has_curve(one.fit)}
    if not shown:
        raise InputError("no fit took two steps or more, so there is no course to draw; give the Fit to sensitivity")
    figure, panels = panel_grid(len(shown), width, columns)
    for axes, (name, one) in zip(panels, shown.items(), strict=True):
        steps, course = _course(one)
        unit = unit_of(one.model)
        floor = max(one.tolerance, 1e-9) / 10
        above = np.maximum(course - one.nats_per_token[one.best], floor) / unit.nats
        at_best = one.at_best(one.tolerance)
        for r in range(one.num_restarts):
            color = PALETTE[family(one.model)] if at_best[r] else PALETTE["muted"]
            axes.plot(steps, above[:, r], color=color, lw=0.9, alpha=0.7, zorder=2.5 if at_best[r] else 2)
        axes.axhline(max(one.tolerance, floor) / unit.nats, color=PALETTE["muted"], lw=0.8, ls=(0, (4, 3)))
        log_steps(axes)
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor / unit.nats)
        axes.yaxis.set_major_formatter(compact)
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.set_title(label(name, 28))
        axes.set_xlabel("step", labelpad=1)
        axes.set_ylabel(f"{unit.word} above the best", labelpad=2)
    return figure


def _course(one: Sensitivity) -> tuple[Floats, Floats]:
    """Steps (from 1) and nats per token at them, ``(S, R)``."""
    fit = one.fit
    if fit is None:
        raise InputError("these values come from a model alone, so there is no course to draw; give the Fit")
    if fit.validation is not None and len(fit.validation):
        keep = thin(len(fit.validation))
        return np.asarray(fit.validation_steps, dtype=np.float64)[keep], -np.asarray(fit.validation)[keep]
    keep = np.union1d(thin(len(fit.history)), np.maximum(fit.num_steps, 1) - 1)
    course: Floats = -np.asarray(fit.history, dtype=np.float64)[keep]
    return np.asarray(keep + 1, dtype=np.float64), course


def _several(sensitivities: Mapping[str, Sensitivity]) -> dict[str, Sensitivity]:
    shown = {name: one for name, one in sensitivities.items() if one.num_restarts - one.num_failed > 1}
    if not shown:
        raise InputError("no model has more than one restart with a finite value; give num_restarts > 1")
    return shown


def _finish(axes: Axes, one: Sensitivity, count: int, title: str, xlabel: str) -> None:
    """The axes of a panel whose marks stand at 1 to `count`."""
    room = 0.04 * count + 0.1
    axes.set_title(title)
    axes.set_xlabel(xlabel, labelpad=1)
    axes.set_ylabel(unit_of(one.model).name, labelpad=2)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_xlim(1 - room, count + room)
    axes.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])  # three decimals hold them all
    widen(axes, "y", 4 * one.tolerance / unit_of(one.model).nats)
    digits = 3 if axes.get_ylim()[1] < 1000 else 0
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.{digits}f}")
    axes.grid(axis="y")


@styled
def plot_model_choice(table: pd.DataFrame, width: float = 8.5) -> Figure:
    """AIC and BIC of every model, and its held-out nats per token where the table has them; the lowest are marked.

    Args:
        table: what `probseq.model_choice` returned.
        width: inches; below 6 two panels stand one above the other.
    """
    held_out = "held_out_nats_per_token" in table
    figure, panels = panel_grid(1 + held_out, width, 1 if width < 6 else 2, height=2.6)
    colors = {"aic": PALETTE["state-1"], "bic": PALETTE["state-2"]}
    for name, color in colors.items():
        _criterion(panels[0], table[name].to_numpy(), color, name.upper())
    panels[0].set_ylabel("AIC and BIC", labelpad=2)
    panels[0].legend(loc="best")
    if held_out:
        _criterion(panels[1], table["held_out_nats_per_token"].to_numpy(), PALETTE["ink"], "held out")
        panels[1].set_ylabel("held-out nats per token", labelpad=2)
    for axes in panels:
        axes.set_xticks(range(len(table)), [label(one, 12) for one in table.index])
        axes.set_xlabel("model" if table.index.dtype == object else "states", labelpad=1)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.margins(x=0.08, y=0.12)
        axes.grid(axis="y")
    return figure


def _criterion(axes: Axes, values: Floats, color: str, name: str) -> None:
    axes.plot(values, color=color, lw=1.4, marker="o", ms=5, mfc=PALETTE["paper"], label=name)
    if np.isfinite(values).any():
        best = int(np.nanargmin(values))
        axes.plot([best], [values[best]], "o", color=color, ms=7)
