"""Baselines of symbols, fitted by counting."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.errors import InputError
from probseq.inference.counts import fit_counts
from probseq.inference.run import Fit
from probseq.models.base import Model
from probseq.models.cache import CacheUnigram
from probseq.models.ngram import NGram, Uniform, Unigram
from probseq.specs.base import BaseSpec, Count, Positive


class CountSpec(BaseSpec):
    """What is fitted by counting."""

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return fit_counts(model, corpus.train, corpus.validation)


def num_symbols(spec: BaseSpec, corpus: Corpus) -> int:
    """V.

    Raises:
        InputError: the corpus holds vectors.
    """
    if not corpus.is_symbolic:
        kind = type(spec).model_fields["kind"].default
        held = f"vectors of size {corpus.num_dims}"
        raise InputError(
            f"a model of kind {kind!r} is of symbols, and corpus {corpus.name!r} holds {held}; "
            "expected iid, hmm, rnn, gru, lstm or transformer, as in the preset series"
        )
    return corpus.num_symbols


class UniformSpec(CountSpec):
    """Every symbol has probability 1 / V."""

    kind: Literal["uniform"] = "uniform"

    def build(self, corpus: Corpus, seed: int) -> Model:
        return Uniform(num_symbols(self, corpus))


class UnigramSpec(CountSpec):
    """Every symbol has its share of the training data."""

    kind: Literal["unigram"] = "unigram"
    concentration: Positive = Field(1.0, description="added to every count")

    def build(self, corpus: Corpus, seed: int) -> Model:
        return Unigram(num_symbols(self, corpus), concentration=self.concentration)


class CacheSpec(CountSpec):
    """A unigram interpolated with the document's own past counts; the weight of the past is chosen on validation."""

    kind: Literal["cache"] = "cache"
    concentration: Positive = Field(1.0, description="added to every count")

    def build(self, corpus: Corpus, seed: int) -> Model:
        return CacheUnigram(num_symbols(self, corpus), concentration=self.concentration)


class NGramSpec(CountSpec):
    """Interpolated Kneser-Ney; the order is chosen on validation."""

    kind: Literal["ngram"] = "ngram"
    max_order: Count = Field(8, description="the highest order that is tried")

    def build(self, corpus: Corpus, seed: int) -> Model:
        return NGram(num_symbols(self, corpus), max_order=self.max_order)
