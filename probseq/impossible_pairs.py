"""Pairs that a model finds impossible whatever its parameters are, by the names that their file gives them."""

from __future__ import annotations

from collections.abc import Mapping

from probseq.data.corpus import Corpus
from probseq.errors import ImpossibleError
from probseq.models.base import Model
from probseq.models.given import ConditionalModel

_FITTED = ("train", "validation")  # where impossible pairs are in the way; in test they score -inf
_MOST = 80  # characters of a text in a message


def refuse_impossible(models: Mapping[str, Model], corpus: Corpus) -> None:
    """Look at all pairs to fit or to choose by, before the first fit.

    Raises:
        ImpossibleError: a pair is impossible, with the model, the part, and where it is known the line and the text.
    """
    for name, model in models.items():
        for part in _FITTED if isinstance(model, ConditionalModel) else ():
            for batch in corpus.parts[part].batches():
                try:
                    model.check_possible(batch)
                except ImpossibleError as error:
                    raise error.named(f"models.{name}: {describe_pair(corpus, part, error.row)}") from None


def describe_pair(corpus: Corpus, part: str, row: int) -> str:
    """A pair in words: its document or its number, its part, its source and its target.

    Args:
        corpus: the pairs.
        part: train, validation or test.
        row: of the pair in its part.
    """
    data, known = corpus.parts[part], corpus.documents.get(part)
    name = known[int(corpus.document_of[part][row])]["name"] if known else f"sequence {row}"
    read, write = corpus.source_vocabulary, corpus.vocabulary
    if data.source is None or read is None or write is None:
        return f"{name} ({part})"
    source, target = (_short(text) for text in (read.decode(data.source[row][:-1]), write.decode(data[row][:-1])))
    return f"{name} ({part}), {source!r} to {target!r},"


def _short(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
