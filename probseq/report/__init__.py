"""`render`: a run as one HTML file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probseq.plots.comparison import SIGNS, comparison_unit
from probseq.plots.numbers import MISSING, decimals, duration, listing
from probseq.plots.states import MAX_STATES
from probseq.plots.style import family, symbol_label, visible
from probseq.report import tables
from probseq.report.answer import TOKENS, answer, chosen_value, notices
from probseq.report.figures import figures
from probseq.report.restarts import restart_notes, restart_rows, sensitivities
from probseq.report.states import describe_states
from probseq.report.topics import describe_topics
from probseq.report.transduction import describe_transduction
from probseq.restarts import TOLERANCE
from probseq.topics import has_topics

if TYPE_CHECKING:
    from probseq.data.vocabulary import Vocabulary
    from probseq.study import Run

_MAX_SYMBOLS = 300  # a longer vocabulary is not listed


def render(run: Run) -> str:
    """The report of a run: one HTML page with its style and its figures inside, light and dark, for screen and paper.

    All text that comes from the data, the study or the names of models is escaped. The same run gives the same page.

    Args:
        run: what `run_study` returned.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("probseq", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["listing"] = listing
    return environment.get_template("report.html.j2").render(_content(run)) + "\n"


def _content(run: Run) -> dict[str, Any]:
    """Everything that the template reads."""
    comparison, corpus = run.comparison, run.corpus
    names, states, restarts_of = comparison.ranking, describe_states(run), sensitivities(run)
    topics, pairs = describe_topics(run), describe_transduction(run)
    likelihoods = {comparison.test[name].likelihood for name in names}
    restarts = sum(comparison.models[name].num_restarts for name in names)
    rows, unit = restart_rows(restarts_of), comparison_unit(comparison)
    stochastic = [model for name in names if family(model := comparison.models[name]) == "stochastic"]
    return {
        "run": run,
        "corpus": corpus,
        "answer": answer(run),
        "notices": notices(run),
        "facts": [
            ("model" if len(names) == 1 else "models", f"{len(names)}"),
            ("fits, with restarts", f"{restarts}"),
            ("test tokens", f"{corpus.test.num_tokens:,}"),
            ("time for everything", duration(run.seconds)),
        ],
        "token": TOKENS[corpus.level],
        "unit": unit,
        "density": any(comparison.test[name].density for name in names),
        "families": {family(comparison.models[name]) for name in names},
        "paths": not all(map(has_topics, stochastic)),
        "topics_of_words": any(map(has_topics, stochastic)),
        "bounds": "lower bound" in likelihoods,
        "estimates": run.comparison.uncertainty,
        "ranking": tables.ranking(run),
        "fits": tables.fits(run),
        "objectives": tables.objectives(run),
        "chains": tables.chains(run),
        "footnotes": comparison.notes(SIGNS),
        "parts": tables.parts(run),
        "single": listing([name for name in names if comparison.models[name].num_restarts == 1]),
        "samples": _samples(run),
        "states": states,
        "topics": topics,
        "pairs": pairs,
        "max_drawn": MAX_STATES,
        "symbols": _symbols(corpus.vocabulary),
        "source_symbols": _symbols(corpus.source_vocabulary),
        "restarts": rows,
        "optima": any(row.optima != MISSING for row in rows),
        "same_state": any(row.agreement != MISSING for row in rows),
        "restart_notes": restart_notes(restarts_of),
        "tolerance": f"{TOLERANCE:g} nats" + (f" ({TOLERANCE / unit.nats:.4f} bits)" if unit.word == "bits" else ""),
        "timed": [name for name in names if "max_seconds" in run.fits[name].stop_reason],
        "figures": figures(run, states, restarts_of, topics, pairs),
        "study": _study(run),
        "longest": int(max(part.lengths.max() for part in corpus.parts.values())),
        "whole": all(len(part) == corpus.num_documents[name] for name, part in corpus.parts.items()),
    }


def _samples(run: Run) -> list[tuple[str, str, str]]:
    """Name, value and text of each model of symbols; what models of vectors draw is a figure."""
    if not run.corpus.is_symbolic:
        return []
    drawn = {name: run.samples[name] for name in run.comparison.ranking if run.samples.get(name)}
    return [(name, decimals(chosen_value(run.comparison, name)), visible(text)) for name, text in drawn.items()]


def _symbols(vocabulary: Vocabulary | None) -> list[str]:
    return [] if vocabulary is None or len(vocabulary) > _MAX_SYMBOLS else [symbol_label(s) for s in vocabulary.symbols]


def _study(run: Run) -> str:
    import tomli_w

    return tomli_w.dumps(run.study.model_dump(mode="json", exclude_none=True))
