"""Models of sequences. A new one is a file here, a line below, and a row in ``tests/cases.py``."""

from __future__ import annotations

from probseq.models.alignment_hmm import AlignmentHMM
from probseq.models.autoregressive import Autoregressive, Network
from probseq.models.base import Model
from probseq.models.bayesian_hmm import BayesianHMM
from probseq.models.bayesian_hmm_decoder import BayesianHMMDecoder
from probseq.models.cache import CacheUnigram
from probseq.models.conditional import Conditional
from probseq.models.given import Given
from probseq.models.hmm import HMM
from probseq.models.hmm_decoder import HMMDecoder
from probseq.models.input_hmm import InputHMM
from probseq.models.ngram import NGram, Uniform, Unigram
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.models.recurrent import GRU, LSTM, RNN, UpdateGateRNN
from probseq.models.seq2seq import Seq2Seq
from probseq.models.syntax_topics import SyntaxTopics
from probseq.models.topic import LDA
from probseq.models.transformer import Transformer
from probseq.models.transformer_seq2seq import TransformerSeq2Seq
from probseq.models.variational import VariationalHMM

MODELS: dict[str, type[Model]] = {
    kind.__name__: kind
    for kind in (
        Uniform,
        Unigram,
        CacheUnigram,
        NGram,
        HMM,
        InputHMM,
        VariationalHMM,
        BayesianHMM,
        PosteriorHMM,
        LDA,
        SyntaxTopics,
        Autoregressive,
        Conditional,
        AlignmentHMM,
        BayesianHMMDecoder,
        Given,
    )
}
"""What can be loaded from a folder, by name."""

NETWORKS: dict[str, type[Network]] = {
    kind.__name__: kind
    for kind in (RNN, UpdateGateRNN, GRU, LSTM, Transformer, Seq2Seq, TransformerSeq2Seq, HMMDecoder)
}
"""What `Autoregressive` and `Conditional` can be loaded with, by name."""
