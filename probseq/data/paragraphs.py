"""Paragraphs as documents of their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from probseq.data.documents import Document
from probseq.data.words import split_words
from probseq.errors import InputError

_BREAK = re.compile(r"\n\s*\n")
_GLANCE = 200  # characters


def cut_paragraphs(documents: Sequence[Document], removed: Collection[str] = ()) -> list[Document]:
    """Every paragraph, which is what stands between blank lines, as a document.

    One with fewer than two words is joined to the next (the last one to that before it), because one word alone has no
    context. The paragraphs of a text are one group: all of them go to the same part.

    Args:
        documents: texts.
        removed: words that do not count.

    Raises:
        InputError: a document that is no text.

    Example:
        >>> [one.content for one in cut_paragraphs([Document("To all:\\n\\nWell.\\n\\nWe are fine.", "a letter")])]
        ['To all:', 'Well.\\n\\nWe are fine.']
    """
    cut = []
    for document in documents:
        if not isinstance(document.content, str):
            raise InputError(
                f"{document.name} holds numbers, which have no paragraphs; expected text, or unit 'document'"
            )
        group = document.group or document.digest
        for number, text in enumerate(_paragraphs(document.content, removed), start=1):
            name = f"{document.name}, paragraph {number}"
            cut.append(Document(text, name, group, document.weight, {"document": document.name} | document.metadata))
    return cut


def _paragraphs(text: str, removed: Collection[str]) -> Iterator[str]:
    pending: list[str] = []
    found: list[str] = []
    for piece in _BREAK.split(text):
        pending.append(piece)
        if _is_enough("\n".join(pending), removed):
            found.append("\n\n".join(pending).strip("\n"))
            pending = []
    rest = "\n\n".join(pending).strip("\n")
    if rest.strip():
        found = [*found[:-1], f"{found[-1]}\n\n{rest}"] if found else [rest]
    return iter(found)


def _is_enough(text: str, removed: Collection[str]) -> bool:
    """Whether there are two words; the first few mostly say so."""
    parts = [text[:_GLANCE].rpartition(" ")[0], text] if len(text) > _GLANCE else [text]
    return any(sum(word[0].isalnum() and word not in removed for word in split_words(part)) >= 2 for part in parts)
