"""What the states of the smallest hidden Markov model are, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from probseq.inference.run import Fit
from probseq.models.emissions import Categorical, Emission
from probseq.models.hmm import HMM
from probseq.plots.numbers import count, listing
from probseq.plots.series import state_moments
from probseq.plots.states import state_given_symbol, stationary_weights, to_numpy
from probseq.plots.style import Floats, symbol_label
from probseq.restarts import TOLERANCE, RestartSummary

if TYPE_CHECKING:
    from probseq.study import Run

_MAX_STATES = 12
_TOP = 12
_MEANING = (
    "To separate means here that no vowel (a, e, i, o, u) shares its most probable state with a consonant; "
    "y may go with either."
)
_VOWELS = frozenset("aeiou")
_CONSONANTS = frozenset("bcdfghjklmnpqrstvwxz")  # y is either


@dataclass(frozen=True)
class States:
    """A description of the states of one hidden Markov model.

    Attributes:
        name: of the model.
        restart: the one that validation chose, which is described.
        weights: ``(K,)`` the share of time in each state.
        transition: ``(K, K)``.
        top: for each state, its most probable symbols; of vectors the mean and standard deviation of each number.
        verdict: of letters: whether vowels and consonants are separated, and by how many restarts; else empty.
        sentences: what they are, and how many restarts agree.
    """

    name: str
    restart: int
    weights: Floats
    transition: Floats
    top: list[list[str]]
    verdict: str
    sentences: list[str]


def describe_states(run: Run) -> States | None:
    """Describe the hidden Markov model with the fewest states; None if there is none of 2 to 12 states."""
    models = {name: fit.model for name, fit in run.fits.items() if _is_readable(fit.model)}
    if not models:
        return None
    name = min(models, key=lambda one: models[one].num_states)
    if models[name].num_states > _MAX_STATES:
        return None
    return _of_symbols(run, name) if isinstance(models[name].emission, Categorical) else _of_vectors(run, name)


def _of_symbols(run: Run, name: str) -> States:
    model, restart = run.fits[name].model, run.comparison.chosen[name]
    weights, behind = state_given_symbol(model, restart)
    symbols = _symbols(run, model.num_symbols)
    probs = to_numpy(model.emission.probs[restart])
    letters = run.corpus.level == "letters"
    verdict = _verdict(name, behind, symbols, model) if letters else ""
    sentences = [_owners(behind, symbols), f"{verdict} {_MEANING}"] if letters else []
    return States(
        name=name,
        restart=restart,
        weights=weights,
        transition=to_numpy(model.transition[restart]),
        top=[[symbols[v] for v in np.argsort(-row, kind="stable")[:_TOP]] for row in probs],
        verdict=verdict,
        sentences=[*sentences, *_optimum(run.fits[name])],
    )


def _of_vectors(run: Run, name: str) -> States:
    model, restart = run.fits[name].model, run.comparison.chosen[name]
    mean, deviation = state_moments(model, restart)
    transition = to_numpy(model.transition[restart])
    columns = run.corpus.columns or tuple(f"x{d}" for d in range(1, mean.shape[1] + 1))
    return States(
        name=name,
        restart=restart,
        weights=stationary_weights(model, restart),
        transition=transition,
        top=[
            [f"{columns[d]}: {mean[k, d]:.3g} ± {deviation[k, d]:.3g}" for d in range(min(mean.shape[1], _TOP))]
            for k in range(len(mean))
        ],
        verdict="",
        sentences=[_stays(transition), *_optimum(run.fits[name])],
    )


def _stays(transition: Floats) -> str:
    """How long a visit to each state lasts: 1 / (1 - p(stay)) steps."""
    leave = 1 - transition.diagonal()
    lengths = [f"state {k} {1 / p:,.1f} steps" if p > 0 else f"state {k} for ever" for k, p in enumerate(leave)]
    return f"A visit lasts on average: {listing(lengths)}."


def _is_readable(model: object) -> TypeGuard[HMM]:
    return isinstance(model, HMM) and model.num_states > 1 and isinstance(model.emission, Emission)


def separates(behind: Floats, symbols: Sequence[str]) -> bool:
    """Whether no state is the most probable one behind both a vowel (a e i o u) and a consonant (y is neither).

    Args:
        behind: ``(K, V)``, ``p(state | symbol)``.
        symbols: the V symbols.
    """
    likely = dict(zip(symbols, behind.argmax(axis=0), strict=True))
    return {likely[v] for v in _VOWELS}.isdisjoint(likely[c] for c in _CONSONANTS)


def _symbols(run: Run, number: int) -> list[str]:
    vocabulary = run.corpus.vocabulary
    return [symbol_label(s) for s in (range(number) if vocabulary is None else vocabulary.symbols)]


def _owners(behind: Floats, symbols: Sequence[str]) -> str:
    """Which symbols each state is the most probable one behind."""
    likely = behind.argmax(axis=0)
    groups = [[s for s, state in zip(symbols, likely, strict=True) if state == k] for k in range(len(behind))]
    parts = [f"state {k} for {listing(group)}" for k, group in enumerate(groups) if group]
    return f"Given one symbol, the most probable state is {'; '.join(parts)}."


def _verdict(name: str, behind: Floats, symbols: Sequence[str], model: Any) -> str:
    finite = [
        r
        for r in range(model.num_restarts)
        if all(p[r].isfinite().all() for p in (model.transition, model.emission.probs))
    ]
    found = sum(separates(state_given_symbol(model, r)[1], symbols) for r in finite)
    verb = "separates" if separates(behind, symbols) else "does not separate"
    many = f"; {found} of its {count(model.num_restarts, 'restart')} do" if model.num_restarts > 1 else ""
    return f"{name} {verb} vowels from consonants by state, though it was never told of either{many}."


def _optimum(fit: Fit[Any]) -> list[str]:
    if fit.model.num_restarts == 1:
        return []
    found = f"{RestartSummary.from_fit(fit).num_at_best()} of {count(fit.model.num_restarts, 'restart')}"
    return [f"{found} ended within {TOLERANCE:g} nats per token of the best final objective."]
