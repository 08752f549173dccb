"""Errors of a model's targets against those of the data: WER and PER, against one reference and the best of all."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.data.sources import references_of, without_end
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.search import beam_search

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ErrorRates:
    r"""Hypotheses for n sources, each held against one reference.

    .. math::
        \mathrm{WER} = \frac{1}{n} \sum_i [d_i > 0] \qquad
        \mathrm{PER}_{\mathrm{micro}} = \frac{\sum_i d_i}{\sum_i l_i} \qquad
        \mathrm{PER}_{\mathrm{macro}} = \frac{1}{n} \sum_i \frac{d_i}{l_i}

    with :math:`d_i` the edit distance (insertions, deletions and substitutions) and :math:`l_i` the length of the
    reference, neither with its end symbol. A word is a whole target and a phone is one symbol of it. An empty reference
    counts as one symbol long in a rate of its own.

    Attributes:
        edits: ``(n,)`` the edit distances.
        lengths: ``(n,)`` the lengths of the references.

    Example:
        >>> rates = ErrorRates(np.array([0, 1, 2]), np.array([4, 4, 2]))
        >>> round(rates.wer, 3), rates.per_micro, round(rates.per_macro, 3)
        (0.667, 0.3, 0.417)
    """

    edits: Ints
    lengths: Ints

    @property
    def wer(self) -> float:
        """The share of words with an error; micro and macro are the same, because a word is one unit."""
        return float((self.edits > 0).mean())

    @property
    def per_micro(self) -> float:
        """Errors per phone of all words together: a long word counts more."""
        return float(self.edits.sum() / max(self.lengths.sum(), 1))

    @property
    def per_macro(self) -> float:
        """The mean over words of the errors per phone: every word counts alike."""
        return float((self.edits / np.maximum(self.lengths, 1)).mean())


@dataclass(frozen=True)
class TranscriptionErrors:
    """Error rates of one hypothesis for each source, against one of its references and against the best of all.

    Attributes:
        one: against the first reference of each source, in the order of the data.
        best: against the reference of fewest edits; among those, the longest.
    """

    one: ErrorRates
    best: ErrorRates

    def named(self) -> dict[str, float]:
        """Every rate, by a name that says what it is."""
        references = {"one reference": self.one, "best of all references": self.best}
        return {
            f"{rate}, {against}": value
            for against, found in references.items()
            for rate, value in [("WER", found.wer), ("PER micro", found.per_micro), ("PER macro", found.per_macro)]
        }


def transcription_errors(
    hypotheses: Iterable[Sequence[Hashable] | NDArray[Any]],
    references: Iterable[Sequence[Sequence[Hashable] | NDArray[Any]]],
) -> TranscriptionErrors:
    """WER and PER of hypotheses, whatever they are from.

    Args:
        hypotheses: one for each of n sources: symbols, without the end symbol.
        references: a list for each source, of all its targets, at least one; of ``one``, the first is taken.

    Raises:
        InputError: no hypotheses, not as many as sources, a source without a reference, or a symbol in place of one.

    Example:
        >>> errors = transcription_errors(["T OW M".split()], [["T AH M".split(), "T OW M".split()]])
        >>> errors.one.wer, errors.best.wer
        (1.0, 0.0)
    """
    found, given = [_plain(one) for one in hypotheses], list(references)
    if not found or len(found) != len(given):
        raise InputError(
            f"received {len(found)} hypotheses for {len(given)} sources; expected one for each, at least 1"
        )
    known = [_targets(i, several, one) for i, (one, several) in enumerate(zip(found, given, strict=True))]
    if empty := [i for i, several in enumerate(known) if not several]:
        raise InputError(f"source {empty[0]} has no reference; expected at least one")
    distances = [[_distance(one, other) for other in several] for one, several in zip(found, known, strict=True)]
    best = [
        min(zip(row, several, strict=True), key=lambda pair: (pair[0], -len(pair[1])))
        for row, several in zip(distances, known, strict=True)
    ]
    return TranscriptionErrors(
        ErrorRates(np.array([row[0] for row in distances]), np.array([len(several[0]) for several in known])),
        ErrorRates(np.array([edits for edits, _ in best]), np.array([len(one) for _, one in best])),
    )


def _targets(source: int, several: Iterable[Any], hypothesis: Sequence[Hashable]) -> list[Sequence[Hashable]]:
    """All references of one source; a text is a target where the hypothesis is a text too, and else a symbol."""
    texts = isinstance(hypothesis, str) and not isinstance(several, str)
    known = [_plain(one) for one in (several if isinstance(several, Iterable) else [several])]
    for one in known:
        if not isinstance(one, Sequence) or (isinstance(one, str) and not texts):
            raise InputError(
                f"the references of source {source} hold {one!r}, which is one symbol; expected a list for each "
                "source, of all its targets: [['a', 'b']] for the only target 'a b'"
            )
    return known


def _plain(symbols: Sequence[Hashable] | NDArray[Any]) -> Sequence[Hashable]:
    plain: Sequence[Hashable] = symbols.tolist() if isinstance(symbols, np.ndarray) else symbols
    return plain


def _distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(one, other))


def decoding_errors(
    model: Any,
    data: Sequences,
    end: int,
    *,
    num_beams: int = 4,
    length_penalty: float = 0.0,
    max_length: int | None = None,
) -> TranscriptionErrors:
    """WER and PER of the targets that a beam search finds, each different source of the data once.

    Args:
        model: a conditional model with one restart, or its fit.
        data: pairs.
        end: the end symbol of the targets.
        num_beams, length_penalty: see `probseq.beam_search`; one beam follows the most probable symbols.
        max_length: symbols in a hypothesis. Default: twice those of the longest target.

    Raises:
        InputError: no pairs, a model without sources, or one with several restarts.
    """
    model = model.model if isinstance(model, Fit) else model
    if not hasattr(model, "given"):
        raise InputError(f"a {type(model).__name__} has no sources; expected a model of targets given their sources")
    sources, references = references_of(data, end)
    longest = max_length or 2 * int(data.lengths.max())
    found = beam_search(model.given(sources), num_beams, longest, end, length_penalty=length_penalty)
    return transcription_errors([without_end(one, end) for one in found.best.sequences], references)
