"""The figures of the report, each drawn for a wide and for a narrow screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from markupsafe import Markup

from probseq import plots
from probseq.plots.learning import has_curve
from probseq.plots.style import label
from probseq.report.answer import bits
from probseq.report.numbers import decimals
from probseq.report.svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probseq.report.states import States
    from probseq.study import Run

_WIDTHS = {"wide": 8.5, "narrow": 3.75}  # inches; the style sheet shows the one that fits the screen
_PANEL = 3.3


def figures(run: Run, states: States | None) -> dict[str, Markup]:
    """SVG by name; one that has nothing to show is missing."""
    comparison = run.comparison
    names = comparison.ranking
    values = ", ".join(f"{name} {decimals(bits(comparison, name))}" for name in names)
    drawn = {
        "ranking": _both(lambda width: plots.plot_ranking(comparison, width), "ranking", "Test bits per token", values),
        "cost": _both(
            lambda width: plots.plot_cost(comparison, width), "cost", "Bits per token against parameters and seconds",
            "The same numbers are in the table of the ranking.",
        ),
    }  # fmt: skip
    if any(comparison.models[name].num_restarts > 1 for name in names):
        drawn["restarts"] = _both(
            lambda width: plots.plot_restarts(comparison, width), "restarts", "Every restart of every model",
            "Test bits per token of each restart above the chosen one, a strip for each model.",
        )  # fmt: skip
    if curves := [_curve(run, name, i) for i, name in enumerate(names) if has_curve(run.fits[name])]:
        drawn["learning"] = Markup("\n").join(curves)
    if states is not None:
        model, vocabulary = run.fits[states.name].model, run.corpus.vocabulary
        drawn["states"] = _both(
            lambda width: plots.plot_states(model, vocabulary, states.restart, width), "states",
            f"The states of {states.name}", " ".join(states.sentences),
        )  # fmt: skip
    return drawn


def _both(plot: Callable[[float], Figure], key: str, title: str, description: str) -> Markup:
    drawn = [
        Markup('<div class="{}">{}</div>').format(size, inline_svg(plot(width), f"{key}-{size}", title, description))
        for size, width in _WIDTHS.items()
    ]
    return Markup("\n").join(drawn)


def _curve(run: Run, name: str, number: int) -> Markup:
    """One panel; the page puts as many side by side as fit."""
    figure = plots.plot_learning_curves({name: run.fits[name]}, run.comparison.chosen, _PANEL)
    title = f"Learning curve of {label(name)}"
    return Markup("<div>{}</div>").format(inline_svg(figure, f"learning-{number}", title, "Bits per token by step."))
