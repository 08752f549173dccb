"""What a study may say about its data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from probseq.data.catalog import load_corpus
from probseq.data.corpus import Corpus, read_corpus
from probseq.data.parallel import read_pairs
from probseq.data.vocabulary import Level
from probseq.errors import InputError
from probseq.specs.base import Count, Settings


class DataSpec(Settings):
    """Which corpus, at which level, in windows of what length."""

    corpus: str | None = Field(None, description="a name of the catalog (`probseq data list`)")
    path: str | None = Field(None, description="a file or folder of your own instead, seen from the working directory")
    column: str | None = Field(
        None, description="of a table or JSON lines: where the text or the values are; at level vector several: 'a,b'"
    )
    id_column: str | None = Field(None, description="of a table with a row for each step: which document a row is of")
    level: Level | None = Field(None, description="default: the corpus's own; char for a file, symbol for targets")
    source_level: Level | None = Field(
        None,
        description="of pairs, how the sources are cut into symbols; default: char. A file is read as pairs where "
        "this, source_column or source_min_count is set, or where a kind of the study is one of pairs",
    )
    source_column: str | None = Field(
        None, description="of pairs, the column or key of the sources; default: source, or the first of two columns"
    )
    window: Annotated[int, Field(ge=2, le=10**9)] = Field(256, description="tokens in a sequence, at most")
    history: Literal["window", "document"] = Field(
        "window", description="what a token of validation or test is predicted from: its window, or its whole document"
    )
    train_tokens: Count | None = Field(None, description="use no more than this many; default: all")
    validation_tokens: Count | None = None
    test_tokens: Count | None = None
    unit: Literal["document", "paragraph"] | None = Field(
        None, description="what counts as a document; paragraphs stand between blank lines; default: document"
    )
    min_count: Count | None = Field(
        None, description="symbols seen fewer times in training become <unk>; only scores of one vocabulary compare"
    )
    source_min_count: Count | None = Field(None, description="of pairs, the same for the sources; default: 2")
    stop_words: list[str] | None = Field(
        None,
        description="words left out, or lists of them (english, punctuation); only scores of the same tokens compare",
    )
    end: bool = Field(False, description="close every document with the symbol <end>")
    num_sequences: Count | None = Field(None, description="of generated data: how many to draw")
    length: Count | None = Field(None, description="of generated data: tokens in each sequence")

    @model_validator(mode="after")
    def _one_source(self) -> DataSpec:
        if (self.corpus is None) == (self.path is None):
            raise InputError(f"received corpus {self.corpus!r} and path {self.path!r}; expected exactly one of them")
        if self.path is None and (self.source_level or self.source_column or self.source_min_count):
            raise InputError(
                "source_level, source_column and source_min_count are settings of a file of pairs; leave them out "
                "where corpus is set"
            )
        if self.path is not None and (self.num_sequences or self.length):
            raise InputError(
                "num_sequences and length are settings of generated data; leave them out where path is set"
            )
        return self.of_pairs() if self.source_column or self.source_min_count else self

    def of_pairs(self) -> DataSpec:
        """The same, where a file is read as pairs; corpora know whether they are of pairs."""
        return self if self.path is None else self.model_copy(update={"source_level": self.source_level or "char"})

    def load(self, seed: int) -> Corpus:
        """Read and split the data."""
        options = self.model_dump(exclude_none=True, exclude={"corpus", "path"})
        if self.stop_words is not None:
            options["stop_words"] = tuple(self.stop_words)
        if self.corpus is not None:
            return load_corpus(self.corpus, seed=seed, **options)
        read = read_corpus if self.source_level is None else read_pairs
        return read(str(self.path), seed=seed, **options)
