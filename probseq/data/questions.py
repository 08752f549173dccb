"""Questions about generated languages: what comes next where it follows from something that was said before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probseq.data.grammars import BRACKET_KINDS, FIRST_PREPOSITION, FIRST_VERB
from probseq.data.recall import COPY_LENGTH, COPY_LETTERS, EVEN
from probseq.data.sequences import Sequences
from probseq.errors import InputError, unknown

Asked = tuple[int, list[int], int, int]
"""A position, the answers (the right one first), the distance to what it follows from, and the depth."""


@dataclass(frozen=True, eq=False)
class Questions:
    """N prefixes, and what may come next.

    Attributes:
        prompts: N sequences.
        answers: ``(N, A)`` symbols, the right one first; only one of them is possible after the prompt.
        distance: ``(N,)`` steps from the answer back to what it follows from.
        depth: ``(N,)`` of brackets the levels of the pair that is closed: 1 of ``()``, 3 of ``([()])``. Else 1.
    """

    prompts: Sequences
    answers: NDArray[np.int64]
    distance: NDArray[np.int64]
    depth: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.distance)


def ask(task: str, data: Sequences, per_distance: int = 100) -> Questions:
    """Questions about sequences of a generated corpus.

    ============== ===================================================== ==============================================
    task           what is asked                                         distance
    ============== ===================================================== ==============================================
    ``brackets``   the kind of a closing bracket                         back to the one that it closes
    ``agreement``  the number of the verb                                back to its subject, over the distractors
    ``copy``       the letters of the copy                               back to their originals
    ``parity``     even or odd                                           back to the first bit: so many bits matter
    ============== ===================================================== ==============================================

    Args:
        task: the name of the corpus.
        data: sequences of it.
        per_distance: questions of one distance, at most.

    Raises:
        InputError: another corpus, or sequences in which nothing can be asked.
    """
    if task not in _TASKS:
        raise unknown("task", task, _TASKS)
    counts: dict[int, int] = {}
    prompts, answers, distances, depths = [], [], [], []
    for row in data:
        for position, options, distance, depth in _TASKS[task](row.astype(np.int64)):
            if counts.get(distance, 0) < per_distance:
                counts[distance] = counts.get(distance, 0) + 1
                prompts.append(row[:position])
                answers.append(options)
                distances.append(distance)
                depths.append(depth)
    if not prompts:
        raise InputError(f"nothing can be asked about {task} in these sequences; expected some of that corpus")
    return Questions(Sequences.from_list(prompts), np.array(answers), np.array(distances), np.array(depths))


def tasks() -> list[str]:
    """The names that `ask` accepts."""
    return list(_TASKS)


def _brackets(row: NDArray[np.int64]) -> Iterator[Asked]:
    opened: list[int] = []
    levels = [0]  # inside the present bracket, and inside each one around it
    for t, symbol in enumerate(row.tolist()):
        if symbol < BRACKET_KINDS:
            opened.append(t)
            levels.append(0)
        elif opened:
            others = [kind for kind in range(BRACKET_KINDS, 2 * BRACKET_KINDS) if kind != symbol]
            depth = 1 + levels.pop()
            levels[-1] = max(levels[-1], depth)
            yield t, [symbol, *others], t - opened.pop(), depth


def _agreement(row: NDArray[np.int64]) -> Iterator[Asked]:
    verb = int(row[-1])
    if FIRST_VERB <= verb < FIRST_PREPOSITION:
        yield len(row) - 1, [verb, FIRST_VERB + (verb - FIRST_VERB ^ 1)], len(row) - 2, 1


def _copy(row: NDArray[np.int64]) -> Iterator[Asked]:
    word = row[-COPY_LENGTH:]
    if len(row) < 2 * COPY_LENGTH or not np.array_equal(row[:COPY_LENGTH], word) or word.max() >= COPY_LETTERS:
        return  # no copy
    for t in range(len(row) - COPY_LENGTH, len(row)):
        letter = int(row[t])
        yield t, [letter, *(one for one in range(COPY_LETTERS) if one != letter)], len(row) - COPY_LENGTH, 1


def _parity(row: NDArray[np.int64]) -> Iterator[Asked]:
    answer = int(row[-1])
    if answer not in (EVEN, EVEN + 1) or len(row) < 3 or (row[:-2] > 1).any():
        return  # no answer, or not after bits
    yield len(row) - 1, [answer, EVEN + (answer - EVEN ^ 1)], len(row) - 1, 1


_TASKS: dict[str, Callable[[NDArray[np.int64]], Iterator[Asked]]] = {
    "brackets": _brackets,
    "agreement": _agreement,
    "copy": _copy,
    "parity": _parity,
}
