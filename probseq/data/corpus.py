"""`Corpus`, a data set in three parts; `read_corpus` makes one from a user's own files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.documents import PARTS, Document, split_documents, warn_of_giant
from probseq.data.left_out import warn_of_absent, without_empty
from probseq.data.paragraphs import cut_paragraphs
from probseq.data.parts import cut_windows, split_in_time
from probseq.data.preparation import Preparation, encode_documents, make_preparation
from probseq.data.readers import read_documents
from probseq.data.sequences import Sequences
from probseq.data.series import read_series
from probseq.data.sources import keep_together
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError


@dataclass(frozen=True)
class Truth:
    """What is known of generated data, because the distribution that it was drawn from is known.

    Attributes:
        log_prob: sequences to ``(N,)``, the exact ``log p(x)`` of each in nats; minus infinity if it cannot occur. Of
            pairs, ``log p(y | x)`` of each target given its source.
        test_nats_per_token: minus the mean log-probability per token of the test part under the true distribution.
            No model can beat it except by chance.
        entropy_rate: nats per token, or None where it is not known.
        parameters: plain arrays and numbers, by name.
    """

    log_prob: Callable[[Sequences], NDArray[np.float64]]
    test_nats_per_token: float
    entropy_rate: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """A data set in three parts, with what is needed to read and to describe it.

    Attributes:
        name: of the catalog entry or the file.
        level: letters, char, byte, word, symbol or vector.
        train, validation, test: the parts, cut into windows.
        vocabulary: what the symbols are; None for vectors and for data that was given as integers.
        num_documents: documents by part.
        description: where the data is from and how it was split, in a few sentences.
        truth: of generated data, the true distribution.
        documents: by part, what is known about each document: its name, and for example its year.
        document_of: by part, ``(N,)``: the document that each sequence was cut from.
        columns: of vectors, the names of their D numbers; empty where they have none.
        emission: of vectors, the family of distributions that a study gives its models where it names none.
        source_vocabulary: of pairs, what the symbols of the sources are; `vocabulary` is that of the targets.
    """

    name: str
    level: str
    train: Sequences
    validation: Sequences
    test: Sequences
    vocabulary: Vocabulary | None
    num_documents: dict[str, int]
    description: str
    truth: Truth | None = None
    documents: dict[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)
    document_of: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)
    columns: tuple[str, ...] = ()
    emission: str = "gaussian"
    source_vocabulary: Vocabulary | None = None

    @property
    def is_symbolic(self) -> bool:
        """True for symbols, False for vectors."""
        return self.train.is_symbolic

    @property
    def is_parallel(self) -> bool:
        """True where every sequence has a source that it may be predicted from."""
        return self.train.source is not None

    @property
    def num_dims(self) -> int:
        """D: how many numbers a vector has; 0 for symbols."""
        return 0 if self.is_symbolic else int(self.train.values.shape[1])

    @property
    def parts(self) -> dict[str, Sequences]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def num_symbols(self) -> int:
        """V: the size of the vocabulary; without one, the largest symbol of all parts, plus one.

        Raises:
            InputError: the corpus holds vectors.
        """
        if self.vocabulary is not None:
            return len(self.vocabulary)
        if not self.is_symbolic:
            raise InputError(
                f"corpus {self.name!r} holds vectors of size {self.num_dims}; expected symbols: "
                "text, or whole numbers from 0 (round or bin the values)"
            )
        return 1 + max(int(part.values.max()) for part in self.parts.values())

    @property
    def num_source_symbols(self) -> int:
        """The size of the vocabulary of the sources.

        Raises:
            InputError: the corpus holds no pairs.
        """
        if self.source_vocabulary is None:
            raise InputError(
                f"corpus {self.name!r} has no sources; expected pairs, for example cmudict or those of ps.read_pairs"
            )
        return len(self.source_vocabulary)


def read_corpus(
    path: str | Path,
    level: str = "char",
    window: int | None = 256,
    *,
    column: str | None = None,
    id_column: str | None = None,
    name: str | None = None,
    **options: Any,
) -> Corpus:
    """A corpus from a user's own file or folder.

    ============ ====================================================================================================
    .txt         one text; about 50 contiguous sections, cut at line ends, count as its documents
    a folder     one document for each .txt file in it (and in its folders)
    .jsonl       one document a line: an object with a text, a list of symbols (ints) or of vectors
    .csv, .tsv   one document a row: a text column, or all columns numbers (a series); with `id_column`, a row is one
                 step and the rows of one id are a document, in file order; blank rows are left out
    .npz         arrays ``values`` and ``offsets`` (or ``lengths``), with or without ``weights``; or an array for each
                 document
    ============ ====================================================================================================

    Ints are symbols 0 to V - 1 (V is one more than the largest), floats are vectors; neither has a vocabulary. Text is
    UTF-8 (at level ``byte`` any bytes). The vocabulary is that of train alone.

    At level ``vector`` numbers are vectors, ints too, and a row of a table is a step in time:

    ============ ====================================================================================================
    .csv, .tsv   one series; `column` names the columns that are read (``"a,b"``, default: all). With `id_column`, one
                 series for each id. An empty cell, or NaN, is a missing value, and so is every value of a blank row
    .npy         one series ``(T,)`` or ``(T, D)``; NaN is missing
    .npz, .jsonl as above; NaN and null are missing
    ============ ====================================================================================================

    One series alone is split in time: its first part is train, then comes validation, then test. Values are taken as
    they are. Nothing is standardized, because a density depends on the units of the data.

    Args:
        path: the file or folder.
        level: letters, char, byte, word, symbol or vector.
        window: the most tokens in a sequence; None for whole documents.
        column: the column (.csv, .tsv) or key (.jsonl) of the text or the values. Default: ``text``, and for .jsonl
            then ``tokens`` or ``values``. At level ``vector``, several columns with commas between them.
        id_column: the column that names the document each row belongs to.
        name: of the corpus. Default: the file's name.
        **options: the other fields of `Preparation`.

    Raises:
        InputError: a file that is missing, empty, malformed or too small, in one sentence.
    """
    preparation = make_preparation(level=level, window=window, **options)
    path = Path(path)
    columns: tuple[str, ...] = ()
    if level == "vector":
        documents, columns = read_series(path, column, id_column)
    else:
        documents = read_documents(path, level=level, column=column, id_column=id_column)
    cut = f" Its {len(documents)} contiguous sections count as its documents." if path.suffix.lower() == ".txt" else ""
    description = f"Read from {path.name}.{cut}"
    return build_corpus(documents, preparation, name=name or path.stem, description=description, columns=columns)


def build_corpus(
    documents: Sequence[Document],
    preparation: Preparation,
    *,
    name: str,
    description: str,
    columns: tuple[str, ...] = (),
    emission: str = "gaussian",
) -> Corpus:
    """Split documents into parts, encode them, and cut them into windows. One series alone is split in time.

    Raises:
        InputError: fewer than three different documents, a series of fewer than two steps, or text mixed with numbers.
    """
    paired = bool(documents) and documents[0].source is not None
    if paired:
        preparation = replace(preparation, end=True)
        keep_together(documents, preparation.source_level or "char")
    if paired and preparation.unit == "paragraph":
        raise InputError("unit is 'paragraph', which would cut the targets of pairs; leave it out")
    if preparation.unit == "paragraph":
        documents = cut_paragraphs(documents, preparation.stop_words)
        description = f"{description} Every paragraph is a document of its own."
    documents = without_empty(documents, preparation)
    warn_of_absent(documents, preparation.stop_words)
    shares = " and ".join(f"{share:.0%}" for share in preparation.fractions)
    vocabulary = sources = None
    if len(documents) == 1 and not isinstance(documents[0].content, str):
        parts = split_in_time(documents[0], preparation)
        how = f"One series, split in time: the last {shares} are validation and test."
    else:
        split = split_documents(documents, preparation.fractions, preparation.seed)
        warn_of_giant(documents, split)
        whole, vocabulary, sources = encode_documents(documents, split, preparation)
        known = {part: [{"name": documents[i].name} | documents[i].metadata for i in split[part]] for part in PARTS}
        parts = {part: (whole[part], known[part]) for part in PARTS}
        unit = "text" if preparation.unit == "paragraph" else "source" if paired else "document"
        how = f"Split by {unit}, {shares} for validation and test."
        how += _what_is_left(whole["test"], vocabulary, preparation)
    corpus = assemble(
        parts,
        preparation,
        name=name,
        vocabulary=vocabulary,
        description=f"{description} {how}",
        source_vocabulary=sources,
    )
    return replace(corpus, columns=columns, emission=emission)


def _what_is_left(test: Sequences, vocabulary: Vocabulary | None, preparation: Preparation) -> str:
    """In words, what was done to the tokens, and what a score may then be compared with."""
    done = []
    if preparation.min_count is not None and vocabulary is not None and vocabulary.unknown is not None:
        share = float((test.values == vocabulary.unknown).mean())
        number = preparation.min_count
        if number > 1:
            done.append(f"Symbols seen fewer than {number} times in training are <unk>, {share:.1%} of test.")
        else:
            done.append(f"Symbols never seen in training are <unk>, {share:.1%} of test.")
    if removed := len(preparation.stop_words):
        what = "1 stop word was" if removed == 1 else f"{removed} stop words were"
        done.append(f"{what} left out of every text.")
    if not done:
        return ""
    return " ".join(["", *done, "A score compares only with those of the same vocabulary on the same tokens."])


def assemble(
    parts: dict[str, tuple[Sequences, list[dict[str, Any]]]],
    preparation: Preparation,
    *,
    name: str,
    vocabulary: Vocabulary | None,
    description: str,
    truth: Callable[[Sequences], Truth] | None = None,
    source_vocabulary: Vocabulary | None = None,
) -> Corpus:
    """Cut whole documents into windows, keep as many as the limits allow, and name the result.

    Args:
        parts: by part, its documents and what is known about each of them.
        preparation: window and limits.
        name, vocabulary, description: of the corpus.
        truth: for generated data, what is known, given the test part.
        source_vocabulary: of pairs, what the symbols of the sources are.

    Raises:
        InputError: an end symbol asked of data that has none, or a limit that leaves nothing.
    """
    if preparation.end and (vocabulary is None or vocabulary.end is None):
        raise InputError(f"corpus {name!r} is no text and can have no end symbol; leave end=True out")
    if source_vocabulary is None and (preparation.source_level or preparation.source_min_count is not None):
        raise InputError(f"corpus {name!r} has no sources; leave the settings of sources out, or read ps.read_pairs")
    cut: dict[str, Sequences] = {}
    document_of: dict[str, NDArray[np.int64]] = {}
    for part, (whole, _) in parts.items():
        cut[part], document_of[part] = cut_windows(whole, preparation, part)
    level = "vector" if not cut["train"].is_symbolic else vocabulary.level if vocabulary else "symbol"
    for kept_part in cut.values():
        kept_part.vocabulary = None if vocabulary is None else vocabulary.digest
        if kept_part.source is not None and source_vocabulary is not None:
            kept_part.source.vocabulary = source_vocabulary.digest
    return Corpus(
        name=name,
        level=level,
        train=cut["train"],
        validation=cut["validation"],
        test=cut["test"],
        vocabulary=vocabulary,
        num_documents={part: len(whole) for part, (whole, _) in parts.items()},
        description=description,
        truth=None if truth is None else truth(cut["test"].joined()),
        documents={part: known for part, (_, known) in parts.items()},
        document_of=document_of,
        source_vocabulary=source_vocabulary,
    )
