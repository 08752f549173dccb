"""What a fitted model writes itself: texts, whole or as they are drawn, and series."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.data.vocabulary import UNKNOWN, Vocabulary
from probseq.errors import InputError
from probseq.generation import generate, stream
from probseq.models.base import Model
from probseq.models.given import ConditionalModel


class Text(NamedTuple):
    """A text that a model wrote: the prefix, and what follows it.

    Attributes:
        text: without the end symbol.
        num_tokens: how many symbols follow the prefix, the end symbol included.
        log_prob: of these given the prefix, in nats, under the model as it is, whatever the temperature.
    """

    text: str
    num_tokens: int
    log_prob: float

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"text": self.text, "num_tokens": self.num_tokens, "log_prob_nats": self.log_prob}


def sample_text(
    model: Model,
    vocabulary: Vocabulary | None,
    *,
    num: int,
    length: int,
    prefix: str = "",
    seed: int = 0,
    stop: str | None = None,
    **choice: Any,
) -> list[Text]:
    """Texts drawn from a model of symbols with one restart, each up to its end symbol.

    Args:
        model: R = 1.
        vocabulary: what its symbols mean; where None, texts are numbers with spaces between them.
        num: how many.
        length: symbols in each, the prefix included.
        prefix: what each begins with.
        seed: of the draws.
        stop: a symbol that ends a text too, and is the last of it.
        choice: temperature, top_k and top_p, see `probseq.generate`.

    Raises:
        InputError: nothing to draw, or a prefix that does not fit.
    """
    start = encode(prefix, vocabulary)
    _check_sizes(num, length, len(start))
    generator = torch.Generator(model.device).manual_seed(seed)
    ends = _ends(stop, vocabulary)
    drawn = generate(model, start, num, length, stop=ends, generator=generator, **choice)
    return [
        Text(to_text(symbols, vocabulary), len(symbols) - drawn.num_given, float(log_prob))
        for symbols, log_prob in zip(drawn.sequences, drawn.log_prob, strict=True)
    ]


def sample_targets(
    model: ConditionalModel, vocabulary: Vocabulary, sources: Sequences, *, length: int, seed: int = 0, **choice: Any
) -> list[Text]:
    """A target drawn for each source, up to its end symbol.

    Args:
        model: R = 1.
        vocabulary: what the symbols of targets mean.
        sources: closed by their end symbol.
        length: symbols in each at most, the end symbol included.
        seed: of the draws.
        choice: temperature, top_k and top_p, see `probseq.generate`.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    given, num = model.given(sources), len(sources)
    drawn = generate(given, None, num, length, stop=vocabulary.end, generator=generator, **choice)
    return [
        Text(to_text(symbols, vocabulary), len(symbols), float(log_prob))
        for symbols, log_prob in zip(drawn.sequences, drawn.log_prob, strict=True)
    ]


def stream_text(
    model: Model,
    vocabulary: Vocabulary | None,
    *,
    length: int,
    prefix: str = "",
    seed: int = 0,
    stop: str | None = None,
    **choice: Any,
) -> Iterator[Text]:
    """One text of `sample_text` in pieces, each as soon as it is drawn; the first is the prefix."""
    start = encode(prefix, vocabulary)
    _check_sizes(1, length, len(start))
    generator = torch.Generator(model.device).manual_seed(seed)
    steps = stream(model, start, 1, length, stop=_ends(stop, vocabulary), generator=generator, **choice)
    return _pieces(start, steps, vocabulary)


def _pieces(start: NDArray[Any], steps: Iterable[Any], vocabulary: Vocabulary | None) -> Iterator[Text]:
    """A symbol adds what it makes of the one before it; the bytes of a letter that is not yet whole are held back."""
    letters = codecs.getincrementaldecoder("utf-8")("replace")
    of_bytes = vocabulary is not None and vocabulary.level == "byte"
    end = None if vocabulary is None else vocabulary.end
    yield Text(letters.decode(bytes(start.tolist())) if of_bytes else to_text(start, vocabulary), 0, 0.0)
    before = start[-1:].astype(np.int64)
    for step in steps:
        symbol = step.values[:1]
        if of_bytes:
            added = letters.decode(b"" if symbol[0] == end else bytes(symbol.tolist()))
        else:
            added = to_text(np.append(before, symbol), vocabulary)[len(to_text(before, vocabulary)) :]
        yield Text(added, 1, float(step.log_prob[0]))
        before = symbol
    if rest := letters.decode(b"", final=True):
        yield Text(rest, 0, 0.0)


def sample_vectors(
    model: Model, columns: Iterable[str], *, num: int, length: int, prefix: str = "", seed: int = 0
) -> list[str]:
    """Series drawn from a model of vectors, as the lines of a table: sample, step, and the D numbers of each step.

    Args:
        model: R = 1.
        columns: the names of the D numbers.
        num: how many series.
        length: steps in each.
        prefix: must be empty: what a series begins with cannot be given as text.
        seed: of the draws.

    Raises:
        InputError: nothing to draw, or a prefix.
    """
    if prefix:
        raise InputError(f"received --prefix {prefix!r}, and the model is of vectors; leave it out")
    _check_sizes(num, length, 0)
    generator = torch.Generator(model.device).manual_seed(seed)
    drawn = model.sample(num, length, generator=generator)
    header = ",".join(["sample", "step", *(quote(one) for one in columns)])
    return [header, *(f"{i},{t},{numbers(row)}" for i, one in enumerate(drawn) for t, row in enumerate(one))]


def numbers(row: Iterable[float]) -> str:
    """The cells of a table: six significant digits each."""
    return ",".join("" if math.isnan(one) else f"{one:.6g}" for one in row)


def quote(cell: str) -> str:
    """A cell of a .csv file."""
    return '"{}"'.format(cell.replace('"', '""')) if any(c in cell for c in ',"\n\r') else cell


def encode(text: str, vocabulary: Vocabulary | None) -> NDArray[Any]:
    """The symbols of a text that a user typed."""
    if vocabulary is not None:
        return vocabulary.encode(text)
    try:
        return np.array(text.split(), dtype=np.int64)
    except ValueError:
        raise InputError(f"received {text!r}; the model was fitted to numbers: expected '3 1 4' or the like") from None


def prefix_notes(text: str, vocabulary: Vocabulary | None) -> list[str]:
    """What becomes of a typed prefix that the model does not read as it stands, a sentence each."""
    if vocabulary is None or not text:
        return []
    symbols, notes = vocabulary.encode(text), []
    whole = replace(vocabulary, stop_words=()).encode(text)
    if left_out := len(whole) - len(symbols):
        notes.append(
            f"left out of the prefix, because the model was fitted without stop words: {left_out} of {len(whole)}"
        )
    if unknown := int((symbols == vocabulary.unknown).sum()) if vocabulary.unknown is not None else 0:
        notes.append(f"not in the vocabulary, and read as <unk>: {unknown} of the {len(symbols)} symbols of the prefix")
    return notes


def to_text(symbols: NDArray[Any], vocabulary: Vocabulary | None) -> str:
    """The text of symbols, up to the end symbol."""
    if vocabulary is None:
        return " ".join(map(str, symbols.tolist()))
    if vocabulary.end is not None:
        symbols = symbols[: [*symbols.tolist(), vocabulary.end].index(vocabulary.end)]
    return vocabulary.decode(symbols)


def _ends(stop: str | None, vocabulary: Vocabulary | None) -> list[int]:
    """The end symbol, where there is one, and the symbol that a user typed."""
    ends = [] if vocabulary is None or vocabulary.end is None else [vocabulary.end]
    if stop is not None:
        symbols = encode(stop, vocabulary).tolist()
        if len(symbols) != 1:
            raise InputError(f"received --stop {stop!r}, which is {len(symbols)} symbols of the model; expected one")
        if vocabulary is not None and symbols[0] == vocabulary.unknown and stop != UNKNOWN:
            raise InputError(f"received --stop {stop!r}, which is not in the vocabulary: the model never writes it")
        ends += symbols
    return ends


def _check_sizes(num: int, length: int, prefix: int) -> None:
    if num < 1:
        raise InputError(f"received --num {num}; expected 1 or more")
    if length < max(1, prefix):
        held = f", which hold the {prefix} of the prefix" if prefix else ""
        raise InputError(f"received --length {length}; expected {max(1, prefix)} or more tokens{held}")
