"""What models of targets given their sources find: errors, alignments of one pair, quality by length, components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.plots.numbers import MISSING, count, decimals, interval, with_error
from probseq.plots.style import Floats, family, visible
from probseq.transduction import (
    MAX_COMPONENTS,
    LengthBins,
    PairAlignment,
    WordComponents,
    has_attention,
    has_positions,
    length_bins,
    num_components,
    read_alignment,
    read_components,
    rows_of_sources,
)

if TYPE_CHECKING:
    from probseq.study import Run
    from probseq.transduction import TranscriptionErrors

_SHOWN = 8  # symbols of the source whose alignment is drawn, and sources whose components are
_PANELS = 2  # models with attention, and as many with positions


@dataclass(frozen=True)
class ErrorRow:
    """One model: nats of whole targets and of their symbols, and the errors of the targets it found."""

    model: str
    family: str
    nats: str
    error: str
    per_symbol: str
    restarts: str
    rates: list[str]


@dataclass(frozen=True)
class Transduction:
    """What is shown of all models of pairs.

    Attributes:
        rows: one for each model, best first.
        num_sources: different sources of the test part.
        several: whether one of them has several targets.
        source, target: the symbols of the pair whose alignments are drawn.
        alignments: of that pair.
        bins: of source lengths, the end symbol left out.
        nats: by model that sees the source, ``(B,)`` nats per symbol of the target.
        wrong: the same, the share of sources whose target was wrong.
        mixture: the best model that mixes several chains; empty where there is none.
        words: sources with several targets, and its chains.
        sentences: what was found, in words.
    """

    rows: list[ErrorRow]
    num_sources: int
    several: bool
    source: list[str]
    target: list[str]
    alignments: list[PairAlignment]
    bins: LengthBins
    nats: dict[str, Floats]
    wrong: dict[str, Floats]
    mixture: str
    words: list[WordComponents]
    sentences: list[str]


def describe_transduction(run: Run) -> Transduction | None:
    """Read the models of a run; None where the data are no pairs, or no model saw a source."""
    corpus, test = run.corpus, run.corpus.test
    if not corpus.is_parallel or not run.errors or test.source is None:
        return None
    pair, (mixture, words) = _shown_pair(test), _components(run)
    bins, nats, wrong = _by_length(run, test.source.lengths - 1)
    return Transduction(
        rows=[_row(run, name) for name in run.comparison.ranking],
        num_sources=(num := len(rows_of_sources(test))),
        several=num < len(test),
        source=_symbols(corpus.source_vocabulary, pair.source),
        target=_symbols(corpus.vocabulary, pair),
        alignments=_alignments(run, pair),
        bins=bins,
        nats=nats,
        wrong=wrong,
        mixture=mixture,
        words=words[:_SHOWN],
        sentences=[*_of_length(bins, nats), *_of_components(mixture, words)],
    )


def _row(run: Run, name: str) -> ErrorRow:
    score, restart = run.comparison.test[name], run.comparison.chosen[name]
    total, every = score.weights.sum(), score.nats_per_sequence
    value, error = with_error(float(every[restart]), float(score.se[restart] / total)).split(" ± ")
    return ErrorRow(
        model=name,
        family=family(run.comparison.models[name]),
        nats=value,
        error=error,
        per_symbol=decimals(float(score.nats_per_token[restart])),
        restarts=interval(every.min(), every.max()) if len(every) > 1 else MISSING,
        rates=_rates(run.errors.get(name)),
    )


def _rates(errors: TranscriptionErrors | None) -> list[str]:
    """WER and PER (micro and macro) in per cent, against one reference, and against the best of all."""
    if errors is None:
        return [MISSING] * 6
    sides = (errors.one, errors.best)
    return [f"{100 * rate:.1f}" for side in sides for rate in (side.wer, side.per_micro, side.per_macro)]


def _shown_pair(test: Sequences) -> Sequences:
    """The first pair whose source has eight symbols, or nearest to that many."""
    assert test.source is not None
    return test[[int(np.abs(test.source.lengths - 1 - _SHOWN).argmin())]]


def _symbols(vocabulary: object, data: Sequences | None) -> list[str]:
    symbols = getattr(vocabulary, "symbols", None)
    return [] if data is None else [str(v) if symbols is None else symbols[int(v)] for v in data[0]]


def _alignments(run: Run, pair: Sequences) -> list[PairAlignment]:
    """Of the best models with attention, then of the best whose states are positions and do not rule the pair out."""
    comparison, found = run.comparison, []
    for wanted in (has_attention, has_positions):
        names = [name for name in comparison.ranking if wanted(comparison.models[name])][:_PANELS]
        chosen = {name: run.fits[name].model.select(comparison.chosen[name]) for name in names}
        found += [read_alignment(name, model, pair) for name, model in chosen.items()]
    return [one for one in found if one.is_possible]


def _by_length(run: Run, lengths: NDArray[np.int64]) -> tuple[LengthBins, dict[str, Floats], dict[str, Floats]]:
    """Nats per symbol of the target by the length of the source, and how many sources were transcribed wrongly."""
    comparison, bins = run.comparison, length_bins(lengths)
    first = np.array([rows[0] for rows in rows_of_sources(run.corpus.test)])
    of_source = LengthBins(bins.first, bins.last, bins.bin_of[first])
    nats, wrong = {}, {}
    for name in [name for name in comparison.ranking if name in run.errors]:
        score = comparison.test[name]
        nats[name] = bins.ratio(-score.log_prob[comparison.chosen[name]], score.num_tokens.astype(np.float64))
        wrong[name] = of_source.ratio((run.errors[name].one.edits > 0).astype(np.float64), np.ones(len(first)))
    return bins, nats, wrong


def _components(run: Run) -> tuple[str, list[WordComponents]]:
    """The best mixture of a few chains, and what it makes of the sources with several targets."""
    comparison, corpus = run.comparison, run.corpus
    names = [n for n in comparison.ranking if 1 < num_components(comparison.models[n]) <= MAX_COMPONENTS]
    if not names or corpus.vocabulary is None or corpus.source_vocabulary is None:
        return "", []
    model = run.fits[names[0]].model.select(comparison.chosen[names[0]])
    return names[0], read_components(model, corpus.test, corpus.vocabulary, corpus.source_vocabulary)


def _of_length(bins: LengthBins, nats: dict[str, Floats]) -> Iterator[str]:
    rises = {name: float(one[-1] - one[0]) for name, one in nats.items() if np.isfinite(one[[0, -1]]).all()}
    if len(bins.first) < 2 or not rises:
        return
    ends = {name: f"from {decimals(float(nats[name][0]))} to {decimals(float(nats[name][-1]))}" for name in rises}
    most, least = (of(rises, key=lambda n: rises[n]) for of in (max, min))
    between = f"From sources of {bins.labels[0]} symbols to those of {bins.labels[-1]}, nats per symbol"
    if len(rises) == 1:
        yield f"{between} of {most} go {ends[most]}."
        return
    first = "grow most" if rises[most] > 0 else "fall least"
    last = "most" if rises[most] <= 0 else "least" if rises[least] > 0 else "fall most"
    yield f"{between} {first} for {most}, {ends[most]}, and {last} for {least}, {ends[least]}."


def _of_components(name: str, words: list[WordComponents]) -> Iterator[str]:
    if words:
        apart = sum(word.separated for word in words)
        yield (
            f"Of {count(len(words), 'test source')} with several targets, {apart} have two that {name} most probably "
            "drew from different components."
        )


def component_names(words: list[WordComponents]) -> str:
    """The words that are drawn, for those who do not see the figure."""
    return ", ".join(visible(word.source) for word in words)
