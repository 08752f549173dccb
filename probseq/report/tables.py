"""The rows of the report's tables, as text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probseq.inference.run import Fit
from probseq.plots.comparison import SIGNS, comparison_unit, error_per_token, lead_per_token
from probseq.plots.numbers import MISSING, decimals, duration, with_error
from probseq.plots.style import family, is_counted
from probseq.report.answer import chosen_value

if TYPE_CHECKING:
    from probseq.study import Run

_REASONS = {
    "converged": "converged",
    "max_steps": "step limit",
    "max_tokens": "token limit",
    "max_seconds": "time limit",
    "early_stopping": "validation stopped improving",
    "decreased": "objective fell",
    "nonfinite": "non-finite",
    "interrupted": "interrupted",
}
_DIAGNOSES = {"max_r_hat": "{:.3f}", "min_ess": "{:.0f}"}
_BAD = ("decreased", "nonfinite", "interrupted")


@dataclass(frozen=True)
class Rank:
    """One row of the ranking."""

    rank: int
    model: str
    family: str
    likelihood: str
    value: str
    error: str
    nats: str
    perplexity: str
    difference: str
    parameters: str
    restarts: int
    seconds: str


@dataclass(frozen=True)
class FitRow:
    """How one model was fitted."""

    model: str
    steps: str
    stops: list[tuple[str, bool]]
    chosen: str
    validation: str
    test: str
    seconds: str


@dataclass(frozen=True)
class Part:
    """One part of the data."""

    name: str
    documents: int
    sequences: int
    tokens: int
    source_tokens: int


def ranking(run: Run) -> list[Rank]:
    """One row for each model, best first."""
    return [_rank(run, line) for line in run.comparison.frame.to_dict("records")]


def _rank(run: Run, line: dict[Any, Any]) -> Rank:
    sign, nats, name = SIGNS[line["likelihood"]], comparison_unit(run.comparison).nats, line["model"]
    value, error = with_error(line["nats_per_token"] / nats, error_per_token(run.comparison, name)).split(" ± ")
    return Rank(
        rank=line["rank"],
        model=name,
        family=family(run.comparison.models[name]),
        likelihood=line["likelihood"],
        value=sign + value,
        error=error,
        nats=sign + decimals(line["nats_per_token"]),
        perplexity=decimals(line["perplexity"]),
        difference=MISSING if line["rank"] == 1 else with_error(*lead_per_token(run.comparison, name)),
        parameters=f"{line['num_parameters']:,}",
        restarts=line["num_restarts"],
        seconds=duration(line["fit_seconds"]),
    )


def fits(run: Run) -> list[FitRow]:
    """One row for each fit, in the order of the ranking."""
    return [_fit(run, name, run.fits[name]) for name in run.comparison.ranking]


def _fit(run: Run, name: str, fit: Fit[Any]) -> FitRow:
    comparison = run.comparison
    restart, nats = comparison.chosen[name], comparison_unit(comparison).nats
    counted = is_counted(fit.model)
    low, high = int(fit.num_steps.min()), int(fit.num_steps.max())
    steps = f"{low:,}" if low == high else f"{low:,} – {high:,}"
    if counted:
        steps = "".join(["counted", *(f", {what} {value:.4g}" for what, value in fit.details.items())])
    drawn = is_drawn(fit)
    reasons = [] if counted or drawn else Counter(fit.stop_reason).most_common()
    return FitRow(
        model=name,
        steps=steps,
        stops=[("drawn, not maximized", False)] * drawn
        + [(f"{number} × {_REASONS.get(reason, reason)}", reason in _BAD) for reason, number in reasons],
        chosen=str(restart) if len(fit.stop_reason) > 1 else MISSING,
        validation=decimals(float(comparison.validation[name].nats_per_token[restart]) / nats),
        test=decimals(chosen_value(comparison, name)),
        seconds=duration(fit.seconds),
    )


def is_drawn(fit: Fit[Any]) -> bool:
    """Whether a fit is draws of Markov chains, which make nothing larger."""
    return "divergences" in fit.details


def chains(run: Run) -> list[tuple[str, str]]:
    """Name, and in words how far its draws can be relied on, of every model that Markov chains drew."""
    found = []
    for name in run.comparison.ranking:
        if is_drawn(fit := run.fits[name]):
            one = fit.details
            r_hat, ess = (MISSING if one[k] is None else form.format(one[k]) for k, form in _DIAGNOSES.items())
            told = f"largest R-hat {r_hat}, smallest effective sample size {ess}, {sum(one['divergences'])} divergent"
            found.append((name, f"{one['num_chains']} Markov chains; {told}"))
    return found


def objectives(run: Run) -> list[tuple[str, list[str]]]:
    """What each fit made larger, and the names of the fits that did; counts are not listed."""
    found: dict[str, list[str]] = {}
    for name in run.comparison.ranking:
        if not is_counted(run.fits[name].model) and not is_drawn(run.fits[name]):
            found.setdefault(run.fits[name].objective, []).append(name)
    return list(found.items())


def parts(run: Run) -> list[Part]:
    """The sizes of train, validation and test."""
    corpus = run.corpus
    return [
        Part(name, corpus.num_documents[name], len(data), data.num_tokens, data.source.num_tokens if data.source else 0)
        for name, data in corpus.parts.items()
    ]
