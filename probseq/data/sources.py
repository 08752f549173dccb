"""Sources of pairs: which targets belong to one, and what a target is without its end symbol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.documents import Document
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import END, as_read
from probseq.errors import InputError


def rows_of_sources(data: Sequences) -> list[NDArray[np.int64]]:
    """For every source, in the order of its first target, the rows of all its targets.

    Raises:
        InputError: the sequences have no sources.

    Example:
        >>> source = Sequences.from_list([[1], [0, 2], [1]])
        >>> [rows.tolist() for rows in rows_of_sources(Sequences.from_list([[0], [0], [1]], source=source))]
        [[0, 2], [1]]
    """
    if data.source is None:
        raise InputError("the sequences have no sources; expected pairs")
    rows: dict[bytes, list[int]] = {}
    for i, source in enumerate(data.source):
        rows.setdefault(np.asarray(source, dtype=np.int64).tobytes(), []).append(i)
    return [np.array(one) for one in rows.values()]


def keep_together(documents: Sequence[Document], level: str) -> None:
    """Give pairs of one source, as a level reads it, one group; groups that share a source become one."""
    group_of: dict[str, str] = {}  # of a source
    joined: dict[str, str] = {}  # with which group before it, in the order of the alphabet

    def whole(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for document in documents:
        source = as_read(document.source or "", level)
        document.group = document.group or source or END
        one, other = sorted(map(whole, (document.group, group_of.setdefault(source, document.group))))
        if one != other:
            joined[other] = one
    for document in documents:
        document.group = whole(document.group)


def references_of(data: Sequences, end: int) -> tuple[Sequences, list[list[NDArray[Any]]]]:
    """The different sources of pairs, and for each all its targets, without the end symbol.

    Args:
        data: pairs.
        end: the end symbol of the targets.

    Raises:
        InputError: the sequences have no sources.
    """
    rows = rows_of_sources(data)
    assert data.source is not None  # rows_of_sources has seen them
    return data.source[[int(one[0]) for one in rows]], [[without_end(data[int(i)], end) for i in one] for one in rows]


def without_end(target: NDArray[Any], end: int) -> NDArray[Any]:
    """The symbols before the end symbol; all of them where there is none."""
    return target[:-1] if len(target) and target[-1] == end else target
