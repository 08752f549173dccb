"""probseq: one likelihood for every model of sequences.

The names below are the public interface; everything else may change.
"""

from probseq.checkpoint import load, save
from probseq.compare import Comparison, compare
from probseq.data.catalog import corpora, load_corpus
from probseq.data.corpus import Corpus, read_corpus
from probseq.data.parallel import read_pairs
from probseq.data.sequences import Batch, Sequences
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError
from probseq.evaluate import Score, evaluate
from probseq.export import to_arviz
from probseq.generation import generate, stream
from probseq.inference.counts import fit_counts
from probseq.inference.em import em
from probseq.inference.gradient import Diverged, fit_gradient
from probseq.inference.mcmc import Mcmc, nuts
from probseq.inference.run import Fit
from probseq.inference.svi import svi
from probseq.models import emissions, masks
from probseq.models.alignment_hmm import AlignmentHMM
from probseq.models.autoregressive import Autoregressive
from probseq.models.base import SequenceModel
from probseq.models.bayesian_hmm import BayesianHMM
from probseq.models.bayesian_hmm_decoder import BayesianHMMDecoder
from probseq.models.cache import CacheUnigram
from probseq.models.conditional import Conditional
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
from probseq.restarts import Sensitivity, align, best_restart, model_choice, select, sensitivity
from probseq.search import Hypotheses, beam_search
from probseq.study import Study, preset, read_study, run_study
from probseq.transduction.errors import TranscriptionErrors, decoding_errors, transcription_errors

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "HMM",
    "LDA",
    "LSTM",
    "RNN",
    "AlignmentHMM",
    "Autoregressive",
    "Batch",
    "BayesianHMM",
    "BayesianHMMDecoder",
    "CacheUnigram",
    "Comparison",
    "Conditional",
    "Corpus",
    "Diverged",
    "Fit",
    "HMMDecoder",
    "Hypotheses",
    "InputError",
    "InputHMM",
    "Mcmc",
    "NGram",
    "PosteriorHMM",
    "Score",
    "Sensitivity",
    "Seq2Seq",
    "SequenceModel",
    "Sequences",
    "Study",
    "SyntaxTopics",
    "TranscriptionErrors",
    "Transformer",
    "TransformerSeq2Seq",
    "Uniform",
    "Unigram",
    "UpdateGateRNN",
    "VariationalHMM",
    "Vocabulary",
    "align",
    "beam_search",
    "best_restart",
    "compare",
    "corpora",
    "decoding_errors",
    "em",
    "emissions",
    "evaluate",
    "fit_counts",
    "fit_gradient",
    "generate",
    "load",
    "load_corpus",
    "masks",
    "model_choice",
    "nuts",
    "preset",
    "read_corpus",
    "read_pairs",
    "read_study",
    "run_study",
    "save",
    "select",
    "sensitivity",
    "stream",
    "svi",
    "to_arviz",
    "transcription_errors",
]
