"""Learning curves of every restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probseq.errors import InputError
from probseq.plots.style import PALETTE, Floats, family, is_counted, label, log_steps, panel_grid, styled, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.inference.run import Fit


@styled
def plot_learning_curves(
    fits: Mapping[str, Fit[Any]], chosen: Mapping[str, int] | None = None, width: float = 8.5, columns: int = 3
) -> Figure:
    """The objective of every restart against the step: one small panel for each fit.

    In bits per token; in nats per step for vectors.

    The vertical axis holds what is reached after the first step, which says only how bad the start was. Where data for
    validation were scored along the way, the objective is that of minibatches and is averaged between the points drawn;
    otherwise it is drawn as it is.

    Args:
        fits: the fits by name; those of fewer than two steps, and counts, are left out.
        chosen: the restart to draw in front, by name.
        width: inches.
        columns: panels side by side.

    Raises:
        InputError: no fit took two steps.
    """
    shown = {name: fit for name, fit in fits.items() if has_curve(fit)}
    if not shown:
        raise InputError("no fit took two steps or more, so there is no curve to draw")
    figure, panels = panel_grid(len(shown), width, columns)
    for axes, (name, fit) in zip(panels, shown.items(), strict=True):
        _draw(axes, fit, None if chosen is None else chosen.get(name))
        log_steps(axes)
        axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y")
        axes.set_title(label(name, 28))
        axes.set_xlabel("step", labelpad=1)
        axes.set_ylabel(unit_of(fit.model).name, labelpad=2)
    return figure


def has_curve(fit: Fit[Any]) -> bool:
    """Whether there is a course to draw: two steps or more of a model that is not merely counted."""
    return len(fit.history) > 1 and not is_counted(fit.model)


def thin(count: int, points: int = 90) -> NDArray[np.int64]:
    """Positions 0 to count - 1, even on a logarithmic axis, at most `points`, both ends included."""
    return np.unique(np.geomspace(1, count, min(points, count)).round().astype(np.int64)) - 1


def averages(values: Floats, ends: NDArray[np.int64]) -> Floats:
    """The mean of `values` (S, R) over the steps after one of `ends` up to and with the next; NaN where all are NaN."""
    known = np.isfinite(values)
    sums = np.cumsum(np.where(known, values, 0), axis=0)[ends]
    counts = np.cumsum(known, axis=0)[ends]
    totals, sizes = np.diff(sums, axis=0, prepend=0), np.diff(counts, axis=0, prepend=0)
    return np.where(sizes > 0, totals / np.maximum(sizes, 1), np.nan)


def _draw(axes: Axes, fit: Fit[Any], chosen: int | None) -> None:
    color = PALETTE[family(fit.model)]
    nats = unit_of(fit.model).nats
    history = -np.asarray(fit.history, dtype=np.float64) / nats
    steps = np.union1d(thin(len(history)), np.maximum(fit.num_steps, 1) - 1)
    validated = fit.validation is not None and len(fit.validation) > 0
    train = averages(history, steps) if validated else history[steps]
    front = 0 if chosen is None else chosen
    for r in range(history.shape[1]):
        strong = r == chosen and not validated
        axes.plot(
            steps + 1, train[:, r], color=color, alpha=1 if strong else 0.4, lw=2 if strong else 0.9,
            zorder=2.6 if strong else 2, label="training" if r == front else None,
        )  # fmt: skip
    validation = -np.asarray(fit.validation, dtype=np.float64) / nats if validated else history[:0]
    if validated:
        _draw_validation(axes, fit, validation, chosen, color)
    axes.legend(loc="lower left", borderaxespad=0.2, borderpad=0, handlelength=1.2)  # curves come down, so this is free
    _focus(axes, np.concatenate([history[1:], validation]))


def _focus(axes: Axes, values: Floats) -> None:
    """Limit the vertical axis to the finite ones of `values`, a little room added."""
    finite = values[np.isfinite(values)]
    if len(finite) and (span := float(np.ptp(finite))) > 0:
        axes.set_ylim(float(finite.min()) - 0.06 * span, float(finite.max()) + 0.06 * span)


def _draw_validation(axes: Axes, fit: Fit[Any], values: Floats, chosen: int | None, color: str) -> None:
    steps = np.asarray(fit.validation_steps)
    keep = thin(len(values))
    front = 0 if chosen is None else chosen
    for r in range(values.shape[1]):
        strong = chosen is None or r == chosen
        axes.plot(
            steps[keep], values[keep, r], color=color, alpha=1 if strong else 0.6, lw=2 if strong else 1, marker=".",
            ms=5 if strong else 3, zorder=2.6 if strong else 2.3, label="validation" if r == front else None,
        )  # fmt: skip
