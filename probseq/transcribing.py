"""The targets that a fitted model finds most probable for the sources in a user's file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import Batch
from probseq.data.readers import read_text
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import END, UNKNOWN, Vocabulary
from probseq.decoding import Row
from probseq.errors import InputError
from probseq.models.given import ConditionalModel
from probseq.sampling import sample_targets, to_text
from probseq.scoring import Fitted, check_vocabularies
from probseq.search import beam_search
from probseq.transduction import (
    component_posterior,
    has_positions,
    has_states,
    most_probable_path,
    num_components,
    state_posterior,
)

NUM_BEAMS = 8
_NOTES = 5  # lines with symbols that are new to the model, which are told


def read_sources(path: Path, vocabulary: Vocabulary) -> tuple[list[str], Sequences]:
    """The lines of a text file, each a source, as the model reads them; an empty line is an empty source.

    Raises:
        InputError: a file of pairs, one that cannot be read or has no line, or a line with a symbol that the model
            cannot read.
    """
    if path.suffix.lower() in (".tsv", ".jsonl"):
        raise InputError(f"{path.name} is a file of pairs; expected a text file that has a source on each line")
    text = read_text(path)
    lines = text.removesuffix("\n").split("\n")
    if not text:
        raise InputError(f"{path} is empty; expected a source a line")
    encoded = []
    for i, line in enumerate(lines, start=1):
        if "\t" in line and vocabulary.level != "byte" and "\t" not in vocabulary.symbols:
            raise InputError(f"{path.name}, line {i} has a tab, as pairs have; expected a source alone on each line")
        try:
            encoded.append(vocabulary.encode_document(line))
        except InputError as error:
            raise InputError(f"{path.name}, line {i}: {error}") from None
    return lines, Sequences.from_list(encoded)


def source_notes(fitted: Fitted, path: Path) -> list[str]:
    """Which symbols of the sources in a file the model has not seen, a sentence for each line, at most five of them."""
    _, _, lines, given = _opened(fitted, path)
    vocabulary, notes = check_vocabularies(fitted)[1], []
    for i, (line, ids) in enumerate(zip(lines, given, strict=True), start=1):
        typed = _typed(line, ids, vocabulary)
        if new := dict.fromkeys(one for one, known in zip(typed, ids, strict=True) if known == vocabulary.unknown):
            notes.append(f"{path.name}, line {i}: not in the vocabulary, and read as {UNKNOWN}: {', '.join(new)}")
    more = [f"and so on: {len(notes):,} lines in all"] if len(notes) > _NOTES else []
    return notes[:_NOTES] + more


def transcribe_file(
    fitted: Fitted,
    path: Path,
    *,
    num_best: int = 1,
    num_beams: int | None = None,
    length_penalty: float = 0.0,
    posterior: bool = False,
) -> Iterator[Row]:
    """For each source of a file its most probable targets, best first, found by beam search.

    Args:
        fitted: a model of targets given their sources.
        path: a text file with a source a line.
        num_best: targets for each source, at most.
        num_beams: prefixes in the beam. Default: 8, or `num_best` if that is more.
        length_penalty: see `probseq.beam_search`.
        posterior: give ``p(s_t | x, y)`` of every state too, where there are states, and ``p(m | x, y)`` of the
            ``components`` of a mixture.

    Yields:
        Plain values, one row for each target: ``source``, ``rank``, ``target``, ``log_prob`` (nats, exact), ``ended``
        (False for the beginning of a target whose end was not found; `log_prob` is that of all targets that begin so),
        where the model has hidden states ``states``, the most probable path (of a mixture numbered on from component to
        component), and where these are positions ``from``, the symbols of the source there, as the file has them: one
        for each symbol of the target, and the last one for its end.

    Raises:
        InputError: a model that has no sources, or none of the states that were asked for, or a file that cannot be
            read.
    """
    model, vocabulary, lines, given = _opened(fitted, path)
    if posterior and not has_states(model):
        raise InputError(f"{fitted.name} has no hidden states, so they have no posterior; leave --posterior out")
    longest = 2 * int(given.lengths.max()) + 20
    beams = num_beams or max(NUM_BEAMS, num_best)
    found = beam_search(
        model.given(given), beams, longest, vocabulary.end, num_best=num_best, length_penalty=length_penalty
    )
    sources = check_vocabularies(fitted)[1]
    states = _states(model, found.sequences, given[found.row], posterior) if has_states(model) else None
    for i, row in enumerate(found.row.tolist()):
        decoded: Row = {"source": lines[row], "rank": 1 + i - int(np.searchsorted(found.row, row))}
        decoded |= {"target": to_text(found.sequences[i], vocabulary), "log_prob": float(found.log_prob[i])}
        decoded["ended"] = bool(found.ended[i])
        if states is not None:
            decoded |= {key: value[i] for key, value in states.items()}
        if has_positions(model):
            typed = _typed(lines[row], given[row], sources)
            decoded["from"] = [typed[s] for s in decoded["states"]]
        yield decoded


def sample_file(fitted: Fitted, path: Path | None, *, num: int, length: int, seed: int = 0, **choice: Any) -> list[Row]:
    """Targets drawn for each source of a file.

    Args:
        fitted: a model of targets given their sources.
        path: a text file with a source a line.
        num: targets for each source.
        length: symbols in a target at most, the end symbol included.
        seed: of the draws.
        choice: temperature, top_k and top_p, see `probseq.generate`.

    Raises:
        InputError: no file, a model that has no sources, or a file that cannot be read.
    """
    if path is None:
        raise InputError(f"{fitted.name} draws targets of sources; name a text file with a source a line: --input")
    model, vocabulary, lines, given = _opened(fitted, path)
    rows = np.repeat(np.arange(len(lines)), num)
    drawn = sample_targets(model, vocabulary, given[rows], length=length, seed=seed, **choice)
    return [{"source": lines[i], **one.to_plain()} for i, one in zip(rows, drawn, strict=True)]


def _opened(fitted: Fitted, path: Path) -> tuple[ConditionalModel, Vocabulary, list[str], Sequences]:
    """The model, what its targets are made of, and the sources of a file as text and as the model reads them."""
    if not isinstance(fitted.model, ConditionalModel):
        raise InputError(f"the model {fitted.name} has no sources; expected one of targets given their sources")
    vocabulary, sources = check_vocabularies(fitted)
    return fitted.model, vocabulary, *read_sources(path, sources)


def _typed(line: str, ids: NDArray[Any], vocabulary: Vocabulary) -> list[str]:
    """The symbols of a source; what the model reads as ``<unk>`` is what stands in the line."""
    if vocabulary.unknown is None or vocabulary.unknown not in ids:
        return [vocabulary.symbols[i] for i in ids]
    return [*vocabulary.tokens(line), END]


def _states(model: Any, targets: Sequences, sources: Sequences, posterior: bool) -> dict[str, list[Any]]:
    """By target its most probable path, and the probabilities of states at each step and of components."""
    data = Sequences(targets.values, targets.offsets, source=sources)
    found = {"states": _by_target(data, model, most_probable_path)}
    if posterior:
        found["posterior"] = _by_target(data, model, state_posterior)
    if posterior and has_positions(model):  # a source has as many as it has symbols; a batch as many as its longest
        sizes = sources.lengths.tolist()
        found["posterior"] = [[p[:size] for p in one] for one, size in zip(found["posterior"], sizes, strict=True)]
    if posterior and num_components(model) > 1:
        found["components"] = _by_target(data, model, component_posterior, by_step=False)
    return found


def _by_target(data: Sequences, model: Any, read: Callable[[Any, Batch], Tensor], by_step: bool = True) -> list[Any]:
    """What is read of each target, as lists without padding."""
    found: list[Any] = [[]] * len(data)
    for batch in data.batches(device=model.device):
        for i, length, one in zip(batch.index.tolist(), batch.lengths.tolist(), read(model, batch), strict=True):
            found[i] = (one[:length] if by_step else one).tolist()
    return found


def transcribed_rows(found: Iterable[Row]) -> Iterator[list[Any]]:
    """What `transcribe_file` yields as the rows of a table, its header first; ``…`` follows a target without an end."""
    found = list(found)
    drawn = [key for key in ("from", "states") if any(key in one for one in found)][:1]
    yield ["source", "rank", "target", "log_prob", *drawn]
    for one in found:
        cells = [" ".join(map(str, one[key])) for key in drawn]
        target = one["target"] if one["ended"] else f"{one['target']} …"
        yield [one["source"], one["rank"], target, f"{one['log_prob']:.4f}", *cells]
