"""The figures of the report, each drawn for a wide and for a narrow screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from probseq import plots
from probseq.plots.comparison import comparison_unit
from probseq.plots.learning import has_curve
from probseq.plots.numbers import decimals
from probseq.plots.style import family, label, visible
from probseq.report.answer import chosen_value
from probseq.report.svg import inline_svg
from probseq.report.transduction import component_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probseq.data.corpus import Corpus
    from probseq.plots.style import Floats
    from probseq.report.states import States
    from probseq.report.topics import Topics
    from probseq.report.transduction import Transduction
    from probseq.restarts import Sensitivity
    from probseq.study import Run

_WIDTHS = {"wide": 8.5, "narrow": 3.75}  # inches; the style sheet shows the one that fits the screen
_PANEL = 3.3
_STEPS = 300  # of a series, in a figure
_LINES = 12  # restarts whose parameters are drawn
_FEW = 3  # restarts that the strip and the table tell all of


def figures(
    run: Run,
    states: States | None,
    restarts: dict[str, Sensitivity],
    topics: Topics | None,
    pairs: Transduction | None = None,
) -> dict[str, Markup]:
    """SVG by name; one that has nothing to show is missing."""
    comparison = run.comparison
    names, unit = comparison.ranking, comparison_unit(comparison)
    values = ", ".join(f"{name} {decimals(chosen_value(comparison, name))}" for name in names)
    drawn = {
        "ranking": _both(lambda width: plots.plot_ranking(comparison, width), "ranking", f"Test {unit.name}", values),
        "cost": _both(
            lambda width: plots.plot_cost(comparison, width), "cost",
            f"{unit.word.capitalize()} per {unit.token} against parameters and seconds",
            "The same numbers are in the table of the ranking.",
        ),
    }  # fmt: skip
    if any(comparison.models[name].num_restarts > 1 for name in names):
        drawn["restarts"] = _both(
            lambda width: plots.plot_restarts(comparison, width), "restarts", "Every restart of every model",
            f"Test {unit.name} of each restart above the chosen one, a strip for each model.",
        )  # fmt: skip
    if curves := [_curve(run, name, i) for i, name in enumerate(names) if has_curve(run.fits[name])]:
        drawn["learning"] = Markup("\n").join(curves)
    if states is not None:
        drawn["states"] = _both(
            _states_plot(run, states), "states", f"The states of {states.name}", " ".join(states.sentences)
        )
    several = {name: one for name, one in restarts.items() if one.num_restarts - one.num_failed > 1}
    drawn |= _of_restarts(several) | _aligned(run, states, several) | _of_topics(topics) | _of_pairs(run, pairs)
    if not run.corpus.is_symbolic:
        drawn["samples"] = _both(
            lambda width: plots.plot_samples(sampled_series(run), run.comparison.models, run.corpus.columns, width),
            "samples", "A series drawn from each model", "The test data first, then one draw from each model.",
        )  # fmt: skip
    return drawn


def _of_topics(topics: Topics | None) -> dict[str, Markup]:
    if topics is None:
        return {}
    reading = topics.reading
    drawn = {
        "topics": _both(
            lambda width: plots.plot_topic_map(reading, width), "topics", f"The topics of {topics.name} on a map",
            "Like topics are near one another; the area of a circle is a topic's share of all words.",
        )
    }  # fmt: skip
    if reading.spans is not None:
        drawn["time"] = _both(
            lambda width: plots.plot_topics_over_time(reading, width), "time", f"The topics of {topics.name} in time",
            "The share of each topic among the words of each span of years.",
        )  # fmt: skip
    return drawn


def _of_pairs(run: Run, pairs: Transduction | None) -> dict[str, Markup]:
    """Alignments of one pair, quality by the length of the source, and the components of a mixture."""
    if pairs is None:
        return {}
    kinds = {name: family(model) for name, model in run.comparison.models.items()}
    drawn = {}
    if pairs.alignments:
        drawn["alignments"] = _both(
            lambda width: plots.plot_alignments(pairs.alignments, pairs.source, pairs.target, width), "alignments",
            "What each symbol of a target looks at, or comes from",
            f"{' '.join(map(visible, pairs.target))} given {' '.join(map(visible, pairs.source))}, a panel a model.",
        )  # fmt: skip
    if len(pairs.bins.first) > 1:
        drawn["length"] = _both(
            lambda width: plots.plot_by_length(pairs.bins, pairs.nats, kinds, "nats per symbol", width), "length",
            "Nats per symbol against the length of the source", "A panel for each model.",
        )  # fmt: skip
        drawn["wrong"] = _both(
            lambda width: plots.plot_by_length(pairs.bins, pairs.wrong, kinds, "share wrong", width, (0, 0.1)), "wrong",
            "The share of wrong targets against the length of the source", "A panel for each model.",
        )  # fmt: skip
    if pairs.words:
        drawn["components"] = _both(
            lambda width: plots.plot_components(pairs.words, width), "components",
            f"The components of {pairs.mixture}", f"Of targets of {component_names(pairs.words)}.",
        )  # fmt: skip
    return drawn


def _of_restarts(several: dict[str, Sensitivity]) -> dict[str, Markup]:
    """Where restarts end, and the best of fewer: nothing where the strip of all restarts says as much."""
    if max((one.num_restarts - one.num_failed for one in several.values()), default=0) <= _FEW:
        return {}
    return {
        "final": _both(
            lambda width: plots.plot_final_values(several, width, _columns(width)), "final", "Where every restart ends",
            "The final values of all restarts in order, a panel for each model.",
        ),
        "best_of": _both(
            lambda width: plots.plot_best_of(several, width, _columns(width)), "best-of", "The expected best of r runs",
            "The expected best value against the number of runs, a panel for each model.",
        ),
    }  # fmt: skip


def _aligned(run: Run, states: States | None, several: dict[str, Sensitivity]) -> dict[str, Markup]:
    """The states of all restarts of the model whose states are told."""
    if states is None or states.name not in several:
        return {}
    vocabulary, columns = run.corpus.vocabulary, run.corpus.columns
    figure = _both(
        lambda width: plots.plot_aligned_parameters(several[states.name], vocabulary, columns, width, _LINES),
        "aligned", f"The states of {states.name} in its restarts", "One line for each restart, the best one first.",
    )  # fmt: skip
    return {"aligned": figure}


def _columns(width: float) -> int:
    return 1 if width < 6 else 3


def _states_plot(run: Run, states: States) -> Callable[[float], Figure]:
    model, corpus = run.fits[states.name].model, run.corpus
    if corpus.is_symbolic:
        return lambda width: plots.plot_states(model, corpus.vocabulary, states.restart, width)
    return lambda width: plots.plot_series_states(model, observed_series(corpus), corpus.columns, states.restart, width)


def observed_series(corpus: Corpus) -> Floats:
    """The first steps of the first test document, ``(T, D)``, its windows put together again."""
    rows = corpus.document_of.get("test", np.zeros(len(corpus.test), dtype=np.int64)) == 0
    values: Floats = corpus.test[rows].values[:_STEPS]
    return values


def sampled_series(run: Run) -> dict[str, Floats]:
    """The test data and what each model has drawn, best first."""
    drawn = {name: run.samples[name] for name in run.comparison.ranking if name in run.samples}
    tables = {name: np.loadtxt(text.splitlines()[1:], delimiter=",", ndmin=2)[:, 2:] for name, text in drawn.items()}
    return {"test data": observed_series(run.corpus), **tables}


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
    return Markup("<div>{}</div>").format(inline_svg(figure, f"learning-{number}", title, "The objective by step."))
