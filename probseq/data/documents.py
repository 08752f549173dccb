"""`Document`, what a corpus is made of, and the split of documents into train, validation and test."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.errors import InputError

PARTS = ("train", "validation", "test")


@dataclass(slots=True)
class Document:
    """A text, or an array of symbols ``(T,)`` or of vectors ``(T, D)``, that is never cut across two parts.

    Attributes:
        content: the text or the array.
        name: what messages call it: ``"row 3"``, ``"speech.txt"``.
        group: documents of one group go to the same part. Default: the digest, so that a text that occurs twice does
            not end up in two parts.
        weight: how often it counts.
        metadata: whatever is known about it, for example its year.
        source: of a pair, the text that the content is said given; None otherwise.
        digest: the SHA-256 of the content, and of the source where there is one.
    """

    content: str | NDArray[Any]
    name: str
    group: str = ""
    weight: float = 1.0
    metadata: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.content, str):
            content = self.content.encode("utf-8", "surrogatepass")
        else:
            content = f"{self.content.dtype.str}{self.content.shape}".encode() + self.content.tobytes()
        if self.source is not None:
            content += b"\0" + self.source.encode("utf-8", "surrogatepass")
        self.digest = hashlib.sha256(content).hexdigest()


def split_documents(documents: Sequence[Document], fractions: tuple[float, float], seed: int) -> dict[str, list[int]]:
    """Which documents are train, validation and test.

    Groups of documents are put in the order of ``sha256(f"{seed}:{group}")``. The first ones, until they hold the test
    fraction of all characters (or steps), are test; the next ones, until they hold the validation fraction, are
    validation; the rest is train. The order is a hash and no random stream, so it depends on the contents and the
    seed alone: not on the order of the files, the platform or a library's version.

    Args:
        documents: all of them.
        fractions: the shares of validation and of test.
        seed: another seed gives another split.

    Returns:
        The positions in `documents` of each part's documents, in their original order.

    Raises:
        InputError: fewer than three groups.
    """
    groups: dict[str, list[int]] = {}
    for i, document in enumerate(documents):
        groups.setdefault(document.group or document.digest, []).append(i)
    if len(groups) < 3:
        raise InputError(
            f"corpus too small to split: it has {len(groups)} different document{'s' * (len(groups) != 1)}; "
            "expected at least 3, one each for train, validation and test: add documents, or cut the data into more"
        )
    order = [groups[key] for key in sorted(groups, key=lambda key: _hashed(f"{seed}:{key}"))]
    sizes = np.array([sum(len(documents[i].content) for i in rows) for rows in order])
    validation_share, test_share = fractions
    test = _reach(sizes, 0, test_share * sizes.sum(), keep=2)
    validation = _reach(sizes, test, validation_share * sizes.sum(), keep=1)
    cuts = {"test": order[:test], "validation": order[test:validation], "train": order[validation:]}
    return {part: sorted(i for rows in cuts[part] for i in rows) for part in PARTS}


def warn_of_giant(documents: Sequence[Document], split: dict[str, list[int]]) -> None:
    """Say which document is more than half of all data, where it is held out and little is left to train on."""
    sizes = [len(document.content) for document in documents]
    giant = int(np.argmax(sizes))
    part = next(part for part, rows in split.items() if giant in rows)
    share = sizes[giant] / max(sum(sizes), 1)
    if share > 0.5 and part != "train":
        left = sum(sizes[i] for i in split["train"]) / sum(sizes)
        warnings.warn(
            f"{documents[giant].name} holds {share:.0%} of all data and is in {part}, so that {left:.1%} is left to "
            "train on; cut it into several, leave it out, or choose another seed",
            stacklevel=3,
        )


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _reach(sizes: NDArray[np.int64], begin: int, target: float, keep: int) -> int:
    """The end of the shortest run from `begin` that sums to `target`; at least one, leaving at least `keep`."""
    needed = int(np.searchsorted(np.cumsum(sizes[begin:]), target)) + 1
    return min(begin + needed, len(sizes) - keep)


def split_positions(length: int, fractions: tuple[float, float]) -> tuple[int, int]:
    """Where validation and test begin in one series (or one list of independent draws) of that length.

    Raises:
        InputError: a part would be empty.
    """
    cuts = _cuts(length, fractions)
    if not 0 < cuts[0] < cuts[1] < length:
        longer = itertools.count(max(length + 1, int(0.5 / min(fractions)) - 1))
        least = next(one for one in longer if 0 < _cuts(one, fractions)[0] < _cuts(one, fractions)[1] < one)
        raise InputError(f"corpus too small to split: it has length {length}; expected at least {least}")
    return cuts


def _cuts(length: int, fractions: tuple[float, float]) -> tuple[int, int]:
    validation_share, test_share = fractions
    return round(length * (1 - test_share - validation_share)), round(length * (1 - test_share))


def cut_sections(text: str, name: str, sections: int = 50, shortest: int = 64) -> list[Document]:
    """One text as about 50 contiguous sections of about equal length, which then count as its documents.

    Sections end at line ends; where there are none, at spaces; where there are none either, anywhere. Every section is
    a group of its own, so a text that repeats itself can still be split.

    Args:
        text: the whole text.
        name: what it is called.
        sections: how many, at most.
        shortest: characters in a section, at least about.

    Raises:
        InputError: fewer characters than three sections need.
    """
    count = min(sections, len(text) // shortest)
    if count < 3:
        raise InputError(
            f"corpus too small to split: {name} is {len(text)} characters long; expected at least {3 * shortest}"
        )
    cuts = [0]
    for i in range(1, count):
        cuts.append(_cut_near(text, i * len(text) // count, len(text) // (2 * count)))
    cuts.append(len(text))
    pieces = [text[begin:end] for begin, end in itertools.pairwise(cuts)]
    whole = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return [Document(piece, f"section {i + 1} of {name}", group=f"{whole}:{i}") for i, piece in enumerate(pieces)]


def _cut_near(text: str, target: int, reach: int) -> int:
    """The first position after `target`, within `reach`, that follows a line end, else a space, else `target`."""
    for separator in ("\n", " "):
        found = text.find(separator, target, target + reach)
        if found >= 0:
            return found + 1
    return target
