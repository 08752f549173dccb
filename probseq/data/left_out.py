"""What is left out of texts: documents that hold no symbol, and a word of warning on stop words that are nowhere."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from probseq.data.documents import Document
from probseq.data.preparation import Preparation
from probseq.data.vocabulary import Vocabulary
from probseq.data.words import of_no_list, split_words
from probseq.errors import InputError

_GLANCE = 1000  # characters that mostly say whether a text holds anything
_NAMED = 3


def without_empty(documents: Sequence[Document], preparation: Preparation) -> list[Document]:
    """The documents that hold a symbol. Others are warned of: their probability is 1 under every model.

    Where documents are closed by ``<end>``, all of them hold one.

    Raises:
        InputError: none holds one.
    """
    if preparation.end:
        return list(documents)
    kept = [one for one in documents if not isinstance(one.content, str) or _holds_a_symbol(one.content, preparation)]
    if documents and not kept:
        fewer = ", or fewer stop words" if preparation.stop_words else ""
        raise InputError(f"no document holds a symbol at level {preparation.level!r}; expected another level{fewer}")
    if len(kept) < len(documents):
        held = {id(one) for one in kept}
        names = [one.name for one in documents if id(one) not in held]
        named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        warnings.warn(f"left out, for want of a symbol at level {preparation.level!r}: {named}", stacklevel=3)
    return kept


def warn_of_absent(documents: Sequence[Document], stop_words: Sequence[str]) -> None:
    """Say which of the stop words that somebody has named occur in no document: they may be meant as names of lists."""
    texts = [one.content.lower() for one in documents if isinstance(one.content, str)] if stop_words else []
    absent = [
        word
        for word in of_no_list(stop_words)
        if not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for text in texts)
    ]
    if absent:
        warnings.warn(
            f"stop words that occur in no document: {', '.join(absent)}; the lists are english and punctuation, and "
            "everything else is taken as a word",
            stacklevel=3,
        )


def _holds_a_symbol(text: str, preparation: Preparation) -> bool:
    pieces = (text[:_GLANCE].rpartition(" ")[0], text) if len(text) > _GLANCE else (text,)
    if preparation.level == "word":
        removed = frozenset(preparation.stop_words)
        return any(word not in removed for piece in pieces for word in split_words(piece))
    if preparation.level == "letters":
        alphabet = Vocabulary.build([], "letters")
        return any(len(alphabet.encode(piece)) for piece in pieces)
    return bool(text.strip() if preparation.level == "symbol" else text)
