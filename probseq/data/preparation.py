"""`Preparation`, how documents become sequences, and the step from the one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data import cache
from probseq.data.documents import Document
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import END, Vocabulary, check_level
from probseq.data.words import stop_words
from probseq.errors import InputError, unknown

HISTORIES = ("window", "document")
UNITS = ("document", "paragraph")
WHOLE_DOCUMENTS = 10**9
"""Tokens of a window that cuts no document, where a study has to name a number."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How documents become a corpus.

    Attributes:
        level: how text is cut into symbols: letters, char, byte, word or symbol; or vector, for series of numbers.
        window: sequences are consecutive windows of at most so many tokens, each inside one document; None for whole
            documents.
        unit: what counts as a document: ``"document"``, or ``"paragraph"`` for what stands between blank lines; the
            paragraphs of a text go to the same part.
        min_count: symbols seen fewer times in train become ``<unk>``; see `Vocabulary.build`.
        stop_words: of level word: words that are left out of every text, and names of lists of such words (``english``,
            ``punctuation``); as one text, with commas between them. Scores are then of the tokens that are left, and
            comparable with no others.
        end: close every document with the symbol ``<end>``; pairs always are, targets and sources.
        source_level: of pairs, how the sources are cut into symbols. Default: char.
        source_min_count: of pairs, symbols seen fewer times in the sources of train become ``<unk>``. Default: 2.
        fractions: the shares of validation and of test, in characters.
        seed: another seed, another split.
        train_tokens, validation_tokens, test_tokens: keep at most so many tokens of a part: whole windows, evenly
            spaced over it. They do not depend on the model, so every model sees the same ones.
        history: what a token of validation or test is predicted from: ``"window"``, the tokens before it in its
            window; or ``"document"``, all tokens before it in its document, so that the state is carried from window to
            window. Then limits keep the beginnings of all documents. Training is in windows always.
        cached: keep tokenised texts of over a million characters in the user's cache directory.
    """

    level: str = "char"
    window: int | None = 256
    unit: str = "document"
    min_count: int | None = None
    stop_words: str | tuple[str, ...] = ()
    end: bool = False
    fractions: tuple[float, float] = (0.1, 0.1)
    seed: int = 0
    train_tokens: int | None = None
    validation_tokens: int | None = None
    test_tokens: int | None = None
    history: str = "window"
    cached: bool = True
    source_level: str | None = None
    source_min_count: int | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.source_level is not None and check_level(self.source_level) == "vector":
            raise InputError("source_level is 'vector'; expected a level of symbols, such as 'char'")
        if self.unit not in UNITS:
            raise unknown("unit", self.unit, UNITS)
        object.__setattr__(self, "stop_words", stop_words(self.stop_words))
        if self.stop_words and self.level != "word":
            raise InputError(f"received stop words at level {self.level!r}; expected level 'word', or leave them out")
        if self.window is not None and self.window < 2:
            raise InputError(f"window is {self.window}; expected 2 or more tokens, or None for whole documents")
        if self.history not in HISTORIES:
            raise unknown("history", self.history, HISTORIES)
        if len(self.fractions) != 2 or not min(self.fractions) > 0 or not sum(self.fractions) < 1:
            raise InputError(
                f"fractions are {self.fractions}; expected the shares of validation and test, such as (0.1, 0.1)"
            )

    def carries(self, part: str) -> bool:
        """Whether windows of this part continue one another."""
        return part != "train" and self.history == "document" and self.window is not None

    def limit(self, part: str) -> int | None:
        """The most tokens to keep of a part."""
        return {"train": self.train_tokens, "validation": self.validation_tokens, "test": self.test_tokens}[part]


def make_preparation(**options: Any) -> Preparation:
    """A `Preparation` of these fields.

    Raises:
        InputError: no such field, or a value that it cannot have.
    """
    for key in options.keys() - Preparation.__dataclass_fields__.keys():
        raise unknown("setting of data", key, Preparation.__dataclass_fields__)
    return Preparation(**options)


def encode_documents(
    documents: Sequence[Document], split: dict[str, list[int]], preparation: Preparation
) -> tuple[dict[str, Sequences], Vocabulary | None, Vocabulary | None]:
    """The whole documents of each part as sequences, and the vocabularies of train, None where there is none.

    Args:
        documents: all of them.
        split: by part, positions in `documents`.
        preparation: level, `min_count`, `end`; of pairs also those of the sources.

    Returns:
        The parts, the vocabulary (None for numbers), and that of the sources (None where there are none).

    Raises:
        InputError: text mixed with numbers, an array of fewer than two tokens, vectors of different sizes.
    """
    texts = sum(isinstance(document.content, str) for document in documents)
    if texts == 0:
        return _stack(documents, split), None, None
    if texts < len(documents):
        raise InputError(f"{texts} of {len(documents)} documents are text and the rest numbers; expected one kind")
    if not preparation.cached or sum(len(document.content) for document in documents) < cache.MIN_CHARACTERS:
        return _tokenise(documents, split, preparation)
    names = ("level", "min_count", "end", "fractions", "seed", "stop_words", "source_level", "source_min_count")
    options = [getattr(preparation, name) for name in names]
    key = cache.key([f"{document.group}:{document.digest}" for document in documents], options)
    return cache.load_or_build(key, lambda: _tokenise(documents, split, preparation))


def _tokenise(documents: Sequence[Document], split: dict[str, list[int]], preparation: Preparation) -> cache.Tokenised:
    texts = [str(document.content) for document in documents]
    vocabulary = Vocabulary.build(
        (texts[i] for i in split["train"]),
        preparation.level,
        min_count=preparation.min_count,
        end=preparation.end,
        stop_words=preparation.stop_words,
    )
    sources = source_vocabulary([documents[i] for i in split["train"]], preparation)
    whole = {part: encode_all([documents[i] for i in rows], vocabulary, sources) for part, rows in split.items()}
    return whole, vocabulary, sources


def source_vocabulary(documents: Sequence[Document], preparation: Preparation) -> Vocabulary | None:
    """The vocabulary of the sources of (training) documents, closed by ``<end>``; None where they have none.

    Unless asked otherwise it has an ``<unk>`` at every level that is not fixed, so that a source may hold symbols that
    training had not.
    """
    texts = [document.source for document in documents if document.source is not None]
    if not texts:
        return None
    level, least = preparation.source_level or "char", preparation.source_min_count
    return Vocabulary.build(texts, level, min_count=2 if least is None else least, end=True, setting="source_min_count")


def encode_all(documents: Sequence[Document], vocabulary: Vocabulary, sources: Vocabulary | None = None) -> Sequences:
    """Documents as sequences; of pairs, also their sources.

    Raises:
        InputError: a symbol that the vocabulary has not, or a document without a source of fewer than two tokens.
    """
    encoded = [_encode_document(vocabulary, str(one.content), one.name, sources is not None) for one in documents]
    given = None
    if sources is not None:
        given = _join([_encode_document(sources, str(one.source), one.name, True) for one in documents])
    return _join(encoded, given)


def _join(encoded: list[NDArray[Any]], source: Sequences | None = None) -> Sequences:
    return Sequences(np.concatenate(encoded), np.cumsum([0, *map(len, encoded)]), source=source)


def _encode_document(vocabulary: Vocabulary, text: str, name: str, paired: bool) -> NDArray[Any]:
    try:
        ids = vocabulary.encode_document(text)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if paired and (ids[:-1] == vocabulary.end).any():
        raise InputError(f"{name} holds {END} before its end, which is added to it; remove it")
    return ids


def _check_length(length: int, name: str, vectors: bool) -> None:
    if length < 1 + vectors:
        number = f"{length} {'step' if vectors else 'symbol'}{'s' * (length != 1)}"
        why = "2, because one step alone has no past to be predicted from" if vectors else "1"
        raise InputError(f"{name} has {number}; expected at least {why}: remove it")


def _stack(documents: Sequence[Document], split: dict[str, list[int]]) -> dict[str, Sequences]:
    arrays = [np.asarray(document.content) for document in documents]
    if any(np.issubdtype(array.dtype, np.floating) for array in arrays):
        arrays = [(array[:, None] if array.ndim == 1 else array).astype(np.float64) for array in arrays]
    for array, document in zip(arrays, documents, strict=True):
        _check_length(len(array), document.name, array.ndim == 2)
        if array.shape[1:] != arrays[0].shape[1:]:
            raise InputError(
                f"{document.name} has shape {array.shape}, the first document {arrays[0].shape}; "
                "expected vectors of one size in all of them"
            )
        if array.ndim == 1 and array.min() < 0:
            raise InputError(f"{document.name} holds the symbol {array.min()}; expected ids 0 to V - 1, or floats")
    weighted = any(document.weight != 1 for document in documents)
    return {
        part: Sequences.from_list([arrays[i] for i in rows], [documents[i].weight for i in rows] if weighted else None)
        for part, rows in split.items()
    }
