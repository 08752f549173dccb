"""Generated pairs: a target is the source again, its reverse, its letters in order, or its date in another format."""

from __future__ import annotations

import datetime
import string
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.corpus import Corpus, Truth, assemble
from probseq.data.parts import split_rows
from probseq.data.preparation import Preparation
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import END, Vocabulary

_LETTERS = string.ascii_lowercase[:10]
_FIRST_DAY, _LAST_DAY = datetime.date(1900, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_NUM_FORMATS = 5
_DATE_LENGTH = len("2001-02-03") + 1


def repeat(preparation: Preparation, num_sequences: int = 10_000, length: int = 12) -> Corpus:
    """The source again. It has 1 to `length` letters of ten; length and letters are uniform."""
    return _letters_corpus(preparation, num_sequences, length, "repeat", "The source again", lambda word: word)


def reverse(preparation: Preparation, num_sequences: int = 10_000, length: int = 12) -> Corpus:
    """The source from its end to its beginning; sources as for `repeat`."""
    return _letters_corpus(preparation, num_sequences, length, "reverse", "The source from its end", np.flip)


def sort(preparation: Preparation, num_sequences: int = 10_000, length: int = 12) -> Corpus:
    """The letters of the source in the order of the alphabet; sources as for `repeat`."""
    return _letters_corpus(preparation, num_sequences, length, "sort", "The source's letters in order", np.sort)


def _letters_corpus(
    preparation: Preparation,
    num_sequences: int,
    length: int,
    name: str,
    description: str,
    answer: Callable[[NDArray[Any]], NDArray[Any]],
) -> Corpus:
    rng = np.random.default_rng(preparation.seed)
    words = [rng.integers(len(_LETTERS), size=size) for size in rng.integers(1, length + 1, size=num_sequences)]
    vocabulary, end = Vocabulary((*_LETTERS, END), "symbol"), len(_LETTERS)

    def log_prob(data: Sequences) -> NDArray[np.float64]:
        expected = [np.append(answer(source[:-1]), end) for source in _sources(data)]
        return np.array([0.0 if np.array_equal(*pair) else -np.inf for pair in zip(data, expected, strict=True)])

    sources = Sequences.from_list([np.append(word, end) for word in words])
    return pairs_corpus(
        Sequences.from_list([np.append(answer(word), end) for word in words], source=sources),
        log_prob,
        preparation,
        name=name,
        description=f"{description}: nothing is left to chance.",
        vocabulary=vocabulary,
        sources=vocabulary,
        entropy_rate=0.0,
        parameters={"letters": len(_LETTERS), "length": length},
    )


def dates(preparation: Preparation, num_sequences: int = 10_000) -> Corpus:
    """Dates as people write them, in the format of ISO 8601: ``march 4, 1987`` is ``1987-03-04``.

    Days from 1900 to 2099 and five formats are uniform. One is ambiguous, with day or month first at even odds:
    ``3/4/1987`` is 3 April or 4 March, so such a source has two targets of probability 1/2 where both are dates.
    """
    rng = np.random.default_rng(preparation.seed)
    days = [datetime.date.fromordinal(int(i)) for i in rng.integers(_FIRST_DAY, _LAST_DAY + 1, size=num_sequences)]
    formats, month_first = rng.integers(_NUM_FORMATS, size=num_sequences), rng.integers(2, size=num_sequences)
    written = [_written(*one) for one in zip(days, formats.tolist(), month_first.tolist(), strict=True)]
    vocabulary = Vocabulary((*"-0123456789", END), "char")
    sources = Vocabulary((*" ,./0123456789", *sorted(set("".join(_MONTHS))), END), "char")

    def log_prob(data: Sequences) -> NDArray[np.float64]:
        texts = [sources.decode(one[:-1]) for one in _sources(data)]
        targets = [vocabulary.decode(one) for one in data]
        return np.array([_date_log_prob(*pair) for pair in zip(texts, targets, strict=True)])

    every = [datetime.date.fromordinal(i) for i in range(_FIRST_DAY, _LAST_DAY + 1)]
    ambiguous = sum(day.day <= 12 and day.day != day.month for day in every) / len(every) / _NUM_FORMATS
    given = Sequences.from_list([sources.encode_document(text) for text in written])
    return pairs_corpus(
        Sequences.from_list([vocabulary.encode_document(day.isoformat()) for day in days], source=given),
        log_prob,
        preparation,
        name="dates",
        description="Dates in five formats of which one is ambiguous, to ISO 8601.",
        vocabulary=vocabulary,
        sources=sources,
        entropy_rate=float(ambiguous * np.log(2) / _DATE_LENGTH),
        parameters={"ambiguous": ambiguous},
    )


def _written(day: datetime.date, form: int, month_first: int) -> str:
    month = _MONTHS[day.month - 1]
    first, second = (day.month, day.day) if month_first else (day.day, day.month)
    return (
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{day.day} {month[:3]} {day.year}",
        f"{day.day}.{day.month}.{day.year}",
        f"{first}/{second}/{day.year}",
    )[form]


def _date_log_prob(text: str, target: str) -> float:
    """``log p(target | text)``: equal shares for every day that may have been written like this."""
    day = target.removesuffix(END)
    try:
        read = datetime.date.fromisoformat(day)
    except ValueError:
        return -np.inf
    if day == target or not any(_written(read, *how) == text for how in np.ndindex(_NUM_FORMATS, 2)):
        return -np.inf
    ambiguous = "/" in text and read.day <= 12 and read.day != read.month
    return -float(np.log(2)) if ambiguous else 0.0


def _sources(data: Sequences) -> Sequences:
    assert data.source is not None  # these data are pairs
    return data.source


def pairs_corpus(
    pairs: Sequences,
    log_prob: Callable[[Sequences], NDArray[np.float64]],
    preparation: Preparation,
    *,
    name: str,
    description: str,
    vocabulary: Vocabulary,
    sources: Vocabulary,
    entropy_rate: float | None,
    parameters: dict[str, Any],
) -> Corpus:
    """Independent draws of pairs as a corpus, split by position, with the truth, ``log p(y | x)``, of its test part."""

    def truth(test: Sequences) -> Truth:
        nats_per_token = float(-log_prob(test).sum() / test.num_tokens)
        return Truth(log_prob, abs(nats_per_token), entropy_rate, parameters)  # abs: not minus zero

    return assemble(
        split_rows(pairs, preparation),
        preparation,
        name=name,
        vocabulary=vocabulary,
        description=f"{description} The pairs are independent draws; the first are train, the last test.",
        truth=truth,
        source_vocabulary=sources,
    )
