"""Data: sequences, vocabularies, corpora in three parts, and the catalog of named ones."""

from probseq.data.catalog import CorpusEntry, corpora, load_corpus
from probseq.data.corpus import Corpus, Truth, read_corpus
from probseq.data.parallel import read_pairs
from probseq.data.preparation import Preparation
from probseq.data.sequences import Batch, Sequences
from probseq.data.vocabulary import LEVELS, Vocabulary

__all__ = [
    "LEVELS",
    "Batch",
    "Corpus",
    "CorpusEntry",
    "Preparation",
    "Sequences",
    "Truth",
    "Vocabulary",
    "corpora",
    "load_corpus",
    "read_corpus",
    "read_pairs",
]
