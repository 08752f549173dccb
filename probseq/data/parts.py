"""What goes into train, validation and test where no documents are split, and how much of a part is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.documents import PARTS, Document, split_positions
from probseq.data.preparation import Preparation
from probseq.data.sequences import Sequences
from probseq.data.sources import rows_of_sources
from probseq.errors import InputError


def split_in_time(document: Document, preparation: Preparation) -> dict[str, tuple[Sequences, list[dict[str, Any]]]]:
    """One series as three: its first steps are train, then come validation and test.

    Args:
        document: the series; ``metadata["times"]``, if there is one, names each step.
        preparation: the shares of validation and of test.

    Raises:
        InputError: too few steps for three parts.
    """
    values = np.asarray(document.content)
    times = document.metadata.get("times", range(1, len(values) + 1))
    begin, end = split_positions(len(values), preparation.fractions)
    cuts = {"train": (0, begin), "validation": (begin, end), "test": (end, len(values))}
    return {
        part: (Sequences.from_list([values[i:j]]), [{"name": f"{times[i]} to {times[j - 1]}"}])
        for part, (i, j) in cuts.items()
    }


def split_rows(sequences: Sequences, preparation: Preparation) -> dict[str, tuple[Sequences, list[dict[str, Any]]]]:
    """Independent draws in the order they were drawn: the first are train, then validation, then test."""
    begin, end = split_positions(len(sequences), preparation.fractions)
    rows = {"train": slice(0, begin), "validation": slice(begin, end), "test": slice(end, None)}
    return {part: (sequences[rows[part]], []) for part in PARTS}


def cut_windows(whole: Sequences, preparation: Preparation, part: str) -> tuple[Sequences, NDArray[np.int64]]:
    """The windows of a part that its limit allows, and the document of each.

    Of pairs, all targets of a source are kept, or none.

    Args:
        whole: whole documents.
        preparation: window and limits.
        part: which of the three they are.

    Raises:
        InputError: a limit that leaves nothing, or a window that would cut a pair.
    """
    length, carry = preparation.window, preparation.carries(part)
    windows = whole if length is None else whole.windows(length, carry)
    document_of = np.searchsorted(whole.offsets, windows.offsets[:-1], side="right") - 1
    lengths, limit = windows.lengths, preparation.limit(part)
    if limit is None or lengths.sum() <= limit:
        return windows, document_of
    if windows.source is not None:
        kept = _whole_sources(windows, limit)
    else:
        kept = _beginnings(lengths, document_of, limit) if carry else _evenly_spaced(lengths, limit)
    if not len(kept):
        raise InputError(
            f"{part}_tokens is {limit}; the sequences of {part} have {int(lengths.min())} to {int(lengths.max())} "
            f"tokens: allow at least {int(lengths.max())}"
        )
    return windows[kept], document_of[kept]


def _beginnings(lengths: NDArray[np.int64], document_of: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """As many windows of every document, from its first one on, as hold `limit` tokens in all."""
    rows = np.arange(len(lengths))
    rank = rows - np.searchsorted(document_of, document_of)  # of a window in its document
    order = np.lexsort((rows, rank))
    return np.sort(order[lengths[order].cumsum() <= limit])


def _whole_sources(pairs: Sequences, limit: int) -> NDArray[np.int64]:
    """All targets of as many sources, evenly spaced, as hold `limit` tokens at most."""
    groups, lengths = rows_of_sources(pairs), pairs.lengths
    kept = _evenly_spaced(np.array([lengths[rows].sum() for rows in groups]), limit)
    return np.sort(np.concatenate([groups[i] for i in kept])) if len(kept) else kept


def _evenly_spaced(lengths: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The positions of as many sequences, evenly spaced, as hold `limit` tokens at most; none if it is too small."""
    count = min(len(lengths), int(limit / lengths.min()))
    while count > 0:
        rows = (np.arange(count) * len(lengths) + len(lengths) // 2) // count
        total = int(lengths[rows].sum())
        if total <= limit:
            return rows
        count = min(count - 1, int(count * limit / total))
    return np.arange(0)
