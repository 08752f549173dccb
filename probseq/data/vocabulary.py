"""`Vocabulary`: what the symbols of a text are, and the way from text to symbol ids and back."""

from __future__ import annotations

import hashlib
import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.data.words import split_words
from probseq.errors import InputError, unknown

Level = Literal["letters", "char", "byte", "word", "symbol", "vector"]
LEVELS: tuple[str, ...] = get_args(Level)
UNKNOWN, END = "<unk>", "<end>"

_MIN_COUNT = {"char": 2, "word": 3, "symbol": 1}
_SPACE = 26  # the id of the space among the 27 letters
_COMBINING = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
_CHUNK = 2**20  # characters counted at a time


def _letter_table() -> bytes:
    """A byte for every byte: 0 to 25 for a letter of either case, 26 for everything else."""
    table = bytearray([_SPACE]) * 256
    for i, (lower, upper) in enumerate(zip(string.ascii_lowercase, string.ascii_uppercase, strict=True)):
        table[ord(lower)] = table[ord(upper)] = i
    return bytes(table)


_LETTERS = _letter_table()


def check_level(level: str) -> str:
    """`level` itself if it is one.

    Raises:
        InputError: it is not; the sentence names the closest one.
    """
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    return level


def _encode_letters(text: str) -> NDArray[np.uint8]:
    """Ids 0 to 26: accents folded, runs of anything but letters are one space, none at the ends."""
    if not text.isascii():
        text = _COMBINING.sub("", unicodedata.normalize("NFKD", text))
    every = np.frombuffer(text.encode("ascii", "replace").translate(_LETTERS), dtype=np.uint8)
    space = every == _SPACE
    keep = ~space
    keep[:-1] |= space[:-1] & ~space[1:]  # the last space of a run, unless the run ends the text
    ids: NDArray[np.uint8] = every[keep]
    return ids[1:] if len(ids) and int(ids[0]) == _SPACE else ids


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _utf8(text: str) -> bytes:
    try:  # bytes that were no UTF-8 came in as lone surrogates (surrogateescape) and go out as they were
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {text[error.start]!r} at position {error.start} is half of a surrogate pair and has no bytes; "
            "remove it, or use level 'char'"
        ) from None


def _chunks(texts: Iterable[str]) -> Iterator[str]:
    """The same characters in strings of about `_CHUNK`, so that short texts cost no more than long ones."""
    pending: list[str] = []
    size = 0
    for text in texts:
        pending.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield "".join(pending)
            pending, size = [], 0
    yield "".join(pending)


def _count(texts: Iterable[str], level: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    if level == "char":
        for chunk in _chunks(texts):
            found = np.bincount(_code_points(chunk))
            for code in np.flatnonzero(found):
                counts[chr(code)] += int(found[code])
    else:
        for text in texts:
            counts.update(_split(text, level))
    return counts


def as_read(text: str, level: str) -> str:
    """What a level makes of a text: two texts that it cannot tell apart become the same one.

    Example:
        >>> as_read("Crème-brûlée!", "letters"), as_read("Don't  stop", "word"), as_read(" S  IY", "symbol")
        ('creme brulee', "don't stop", 'S IY')
    """
    if check_level(level) == "letters":
        return (_encode_letters(text) + ord("a")).tobytes().decode("ascii").replace("{", " ")
    if level == "byte":
        return _utf8(text).decode("utf-8", "surrogateescape")
    return " ".join(_split(text, level)) if level in ("word", "symbol") else text


def _split(text: str, level: str) -> list[str]:
    """The tokens of a text, of words or of symbols between spaces."""
    return split_words(text) if level == "word" else text.split()


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a text, in the order of their ids, and how the text is cut into them.

    ========= ============================================================================================
    letters   a to z and the space (27): lower-cased, accents folded, every run of anything else is one space
    char      the characters of the training text; rare ones are ``<unk>``
    byte      the 256 bytes of UTF-8
    word      lower-cased words, numbers and punctuation marks (`split_words`); rare ones are ``<unk>``
    symbol    whatever stands between spaces, as it is
    ========= ============================================================================================

    ``<end>``, where wanted, is an ordinary last symbol.

    Args:
        symbols: every symbol once.
        level: one of the levels above.
        stop_words: of level ``word``: words that are left out of every text, as if they were not there.

    Raises:
        InputError: no symbols, a symbol given twice, an unknown level, or stop words at another level than ``word``.

    Example:
        >>> vocabulary = Vocabulary.build(["a banana"], "char", min_count=1)
        >>> vocabulary.symbols, vocabulary.encode("nab").tolist(), vocabulary.decode([2, 3])
        (('<unk>', ' ', 'a', 'b', 'n'), [4, 2, 3], 'ab')
    """

    symbols: tuple[str, ...]
    level: str
    stop_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        object.__setattr__(self, "stop_words", tuple(sorted(self.stop_words)))
        if self.stop_words and self.level != "word":
            raise InputError(f"received stop words at level {self.level!r}; expected level 'word', or leave them out")
        if check_level(self.level) == "vector":
            raise InputError("level 'vector' is of numbers, which have no vocabulary; expected a level of symbols")
        if not self.symbols:
            raise InputError("a vocabulary of no symbols was given; expected at least one")
        if len(self._ids) < len(self.symbols):
            twice = next(s for s, n in Counter(self.symbols).items() if n > 1)
            raise InputError(f"symbol {twice!r} is in the vocabulary twice; expected every symbol once")

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        level: str,
        *,
        min_count: int | None = None,
        end: bool = False,
        stop_words: Iterable[str] = (),
        setting: str = "min_count",
    ) -> Self:
        """The vocabulary of the given (training) texts.

        Args:
            texts: what is counted; not read at the fixed levels, letters and byte.
            level: letters, char, byte, word or symbol.
            min_count: a symbol seen fewer times becomes ``<unk>``. Default: 2 for char, 3 for word, 1 for symbol
                (which has an ``<unk>`` only if `min_count` is above 1). Meaningless at the fixed levels.
            end: add ``<end>``.
            stop_words: of level ``word``, lower-cased: words that are no symbols and are left out of every text.
            setting: what messages call `min_count`.

        Raises:
            InputError: an unknown level, a `min_count` below 1 or so high that ``<unk>`` would be the only symbol.
        """
        check_level(level)
        if isinstance(stop_words, str):
            raise InputError(f"stop_words is the text {stop_words!r}; expected words, such as [{stop_words!r}]")
        removed = frozenset(stop_words)
        least = _MIN_COUNT.get(level, 1) if min_count is None else min_count
        if least < 1:
            raise InputError(f"{setting} is {least}; expected 1 or more")
        if level == "letters":
            symbols = [*string.ascii_lowercase, " "]
        elif level == "byte":
            symbols = [chr(i) if 32 <= i < 127 else f"\\x{i:02x}" for i in range(256)]
        else:
            counted = _count(texts, level)
            seen = sorted(s for s, n in counted.items() if n >= least and s not in (UNKNOWN, END, *removed))
            spelled = (
                level == "symbol" and UNKNOWN in counted
            )  # text in which someone has replaced rare symbols already
            symbols = seen if level == "symbol" and least == 1 and not spelled else [UNKNOWN, *seen]
            if min_count is not None and counted and not seen:
                most = max((n for symbol, n in counted.items() if symbol not in removed), default=0)
                raise InputError(
                    f"{setting} is {least}, and no symbol occurs more than {most} times in the training text, so that "
                    f"{UNKNOWN} would be the only one; expected a smaller {setting}, or more text"
                )
        return cls((*symbols, END) if end else tuple(symbols), level, tuple(removed))

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} symbols, level {self.level!r})"

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @property
    def unknown(self) -> int | None:
        """The id of ``<unk>``, or None."""
        return self._ids.get(UNKNOWN)

    @property
    def end(self) -> int | None:
        """The id of ``<end>``, or None."""
        return self._ids.get(END)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The smallest integer type that holds every id."""
        return np.min_scalar_type(len(self) - 1)

    def encode(self, text: str) -> NDArray[Any]:
        """The symbol ids of a text, ``(T,)`` of the smallest integer type that holds them. No ``<end>`` is added.

        Raises:
            InputError: no text; or a symbol outside the vocabulary, where it has no ``<unk>``: the sentence names it
                and its place.
        """
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InputError(f"received a {kind}; expected a text (of a list: ' '.join(tokens), at level symbol)")
        if self.level == "letters":
            return _encode_letters(text)
        if self.level == "byte":
            return np.frombuffer(_utf8(text), dtype=np.uint8).astype(self.dtype)
        if self.level == "char":
            ids = self._char_table[np.minimum(_code_points(text), len(self._char_table) - 1)]
        else:
            get, missing = self._ids.get, self._missing
            ids = np.array([get(token, missing) for token in self.tokens(text)], dtype=np.int64)
        if self.unknown is None and ids.size and ids.max() == len(self):
            self._raise_unseen(text, int(ids.argmax()))
        return ids.astype(self.dtype, copy=False)

    def encode_document(self, text: str) -> NDArray[Any]:
        """`encode`, and then ``<end>`` if the vocabulary has one."""
        ids = self.encode(text)
        return ids if self.end is None else np.concatenate([ids, np.array([self.end], dtype=self.dtype)])

    def tokens(self, text: str) -> list[str]:
        """The pieces of a text as they stand there, one for each symbol of `encode`; of levels with an ``<unk>``."""
        tokens = list(text) if self.level == "char" else _split(text, self.level)
        return [token for token in tokens if token not in self._removed] if self.stop_words else tokens

    @cached_property
    def _removed(self) -> frozenset[str]:
        return frozenset(self.stop_words)

    @property
    def _missing(self) -> int:
        """What an unseen symbol becomes: ``<unk>``, or the impossible id V, which is then an error."""
        return len(self) if self.unknown is None else self.unknown

    @cached_property
    def _char_table(self) -> NDArray[Any]:
        """The id of every code point up to the largest known one; the last entry is that of all others."""
        known = {ord(s): i for s, i in self._ids.items() if len(s) == 1}
        table = np.full(max(known, default=0) + 2, self._missing, dtype=np.min_scalar_type(len(self)))
        table[list(known)] = list(known.values())
        return table

    def _raise_unseen(self, text: str, position: int) -> None:
        tokens = self.tokens(text)
        whole = self.level == "symbol" and len(tokens) == 1 and len(tokens[0]) > 1
        or_char = "; or, where each of its characters is a symbol, choose --level char" if whole else ""
        raise InputError(
            f"symbol {tokens[position]!r} at position {position} is not among the {len(self)} symbols of the "
            f"vocabulary (level {self.level!r}); remove it, or build the vocabulary with {UNKNOWN}: min_count=2"
            f"{or_char}"
        )

    def decode(self, ids: ArrayLike) -> str:
        """The text of symbol ids: words and symbols with spaces between them, everything else end to end.

        Raises:
            InputError: an id outside 0 to V - 1.
        """
        array = np.asarray(ids, dtype=np.int64)
        if array.size and not 0 <= array.min() <= array.max() < len(self):
            raise InputError(f"ids run from {array.min()} to {array.max()}; expected 0 to {len(self) - 1}")
        if self.level == "byte":
            pieces = (END.encode() if i == self.end else bytes([i]) for i in array.tolist())
            return b"".join(pieces).decode("utf-8", "replace")
        return (" " if self.level in ("word", "symbol") else "").join(self.symbols[i] for i in array.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Plain values (JSON); `from_dict` is the inverse."""
        return {"level": self.level, "symbols": list(self.symbols), "stop_words": list(self.stop_words)}

    @cached_property
    def digest(self) -> str:
        """A hash of all that decides into which symbols a text is cut: two with one digest give the same tokens."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(tuple(values["symbols"]), values["level"], tuple(values.get("stop_words", ())))
