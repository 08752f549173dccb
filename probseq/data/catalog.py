"""The catalog of named corpora: what there is, and how one is loaded."""

from __future__ import annotations

from typing import Any

from probseq.data.corpus import Corpus
from probseq.data.entries import ENTRIES, CorpusEntry
from probseq.data.preparation import Preparation
from probseq.errors import InputError, unknown

__all__ = ["CorpusEntry", "corpora", "load_corpus"]


def corpora() -> list[CorpusEntry]:
    """Every corpus of the catalog, in a fixed order."""
    return list(ENTRIES.values())


def load_corpus(
    name: str, level: str | None = None, window: int | None = 256, *, seed: int = 0, **options: Any
) -> Corpus:
    """A corpus of the catalog by its name.

    Args:
        name: see `corpora`.
        level: letters, char, byte or word for texts, vector for series. Default: the entry's own.
        window: the most tokens in a sequence; None for whole documents.
        seed: of the split into parts; for generated data, of the draws.
        **options: the other fields of `Preparation`; for generated data also `num_sequences` and `length`, for
            ``stdlib`` also `max_bytes`.

    Raises:
        InputError: an unknown name, a level or option that the corpus does not have, or a package that is missing or
            damaged.

    Example:
        >>> corpus = load_corpus("casino", num_sequences=100, length=50)
        >>> corpus.train, corpus.num_symbols
        (Sequences(80 sequences, 4,000 symbols), 6)
    """
    if name not in ENTRIES:
        raise unknown("corpus", name, ENTRIES)
    entry = ENTRIES[name]
    level = entry.level if level is None else level
    if level not in entry.levels:
        raise unknown(f"level of corpus {name!r}", level, entry.levels)
    own = {key: options.pop(key) for key in entry.options if options.get(key) is not None}
    fields = Preparation.__dataclass_fields__.keys() - {"source_level", "source_min_count"}
    for key in options:
        if key not in fields:
            raise unknown(f"option of corpus {name!r}", key, {*fields, *entry.options})
    for key in ("num_sequences", "length", "max_bytes"):
        if key in own and own[key] < 1:
            raise InputError(f"{key} is {own[key]}; expected 1 or more")
    options = {"fractions": entry.fractions, "source_level": entry.source_level} | options
    return entry.load(entry, Preparation(level=level, window=window, seed=seed, **options), **own)
