"""Models of a target given its source: networks with several decoders, and an alignment model of tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from probseq.data.corpus import Corpus
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.models.alignment_hmm import AlignmentHMM
from probseq.models.base import Model
from probseq.models.bayesian_hmm_decoder import BayesianHMMDecoder
from probseq.models.conditional import Conditional, ConditionalNetwork
from probseq.models.hmm_decoder import HMMDecoder, check_states
from probseq.models.seq2seq import Seq2Seq
from probseq.models.transformer_seq2seq import TransformerSeq2Seq
from probseq.specs.base import BaseSpec, Count, Positive
from probseq.specs.bayesian import SVIBudget
from probseq.specs.networks import GradientSpec
from probseq.specs.stochastic import EMBudget

Jumps = Annotated[list[int], Field(min_length=2, max_length=2)]


def num_symbols_of_pairs(spec: BaseSpec, corpus: Corpus) -> tuple[int, int]:
    """How many symbols sources and targets are made of.

    Raises:
        InputError: the corpus has no sources.
    """
    if not corpus.is_parallel:
        kind = type(spec).model_fields["kind"].default
        raise InputError(
            f"a model of kind {kind!r} says how probable a target is given its source, and corpus {corpus.name!r} has "
            "no sources; expected pairs: a .tsv or .jsonl file of your own, or a corpus of pairs, such as cmudict "
            "(`probseq data list`)"
        )
    return corpus.num_source_symbols, corpus.num_symbols


def end_symbol(corpus: Corpus) -> int | None:
    """What every target ends with."""
    return None if corpus.vocabulary is None else corpus.vocabulary.end


class ConditionalSpec(GradientSpec):
    """What the networks share that predict a target from its source and from its own past."""

    of_pairs = True
    net: ClassVar[Callable[..., ConditionalNetwork]]
    own: ClassVar[tuple[str, ...]]  # the settings that the network takes

    def settings(self, corpus: Corpus) -> dict[str, Any]:
        """What the network is built with."""
        return {name: getattr(self, name) for name in (*self.own, "dropout")}

    def build(self, corpus: Corpus, seed: int) -> Model:
        sizes, settings, net = num_symbols_of_pairs(self, corpus), self.settings(corpus), type(self).net
        return Conditional.from_seed(lambda: net(*sizes, **settings), num_restarts=self.num_restarts, seed=seed)


class Seq2SeqSpec(ConditionalSpec):
    """A recurrent decoder that sees the source in one vector, or anew at every step through attention."""

    kind: Literal["seq2seq"] = "seq2seq"
    attention: Literal["none", "additive", "dot"] = Field("dot", description="none: one vector, the bottleneck")
    cell: Literal["lstm", "gru"] = "lstm"
    bidirectional: bool = Field(True, description="the encoder reads the source from both ends")
    hidden_dim: Count = Field(128, description="of the decoder; of the encoder, both directions together")
    embed_dim: Count | None = Field(None, description="of a symbol's code; default: hidden_dim")
    num_layers: Count = 1
    net = Seq2Seq
    own = ("attention", "cell", "bidirectional", "hidden_dim", "embed_dim", "num_layers")


class TransformerSeq2SeqSpec(ConditionalSpec):
    """An encoder and a decoder that are attention all through."""

    kind: Literal["transformer-seq2seq"] = "transformer-seq2seq"
    num_layers: Count = Field(2, description="of the encoder, and as many of the decoder")
    num_heads: Count = 4
    embed_dim: Count = 128
    learning_rate: Positive = 1e-3
    net = TransformerSeq2Seq
    own = ("num_layers", "num_heads", "embed_dim")


class ChainSettings(BaseSpec):
    """What the decoders share that are hidden Markov chains given the source."""

    of_pairs = True

    states: Literal["latent", "alignment"] = Field("alignment", description="a state is a number, or a source position")
    num_states: Count | None = Field(None, description="of latent states; default: 32")
    num_components: Count = Field(1, description="chains that are mixed; the source weighs them")
    order: Literal[0, 1] = Field(1, description="0 draws each state anew, 1 goes on from the last one")
    monotone: bool = Field(False, description="of alignment, order 1: never back")
    jumps: Jumps | None = Field(
        None,
        description="of alignment, order 1: the furthest jumps back and forward; default: [-2, 3], monotone [0, 3]",
    )
    emission: Literal["state", "previous", "recurrent"] = Field(
        "recurrent",
        description="a symbol, and in an alignment the next position, depends on its state alone, on the symbol before "
        "it too, or on all before it",
    )
    cell: Literal["lstm", "gru"] = "lstm"
    bidirectional: bool = Field(True, description="the encoder reads the source from both ends")
    hidden_dim: Count = Field(128, description="of what reads the past; of the encoder, both directions together")
    embed_dim: Count | None = Field(None, description="of a symbol's code; default: hidden_dim")
    num_layers: Count = Field(1, description="of the encoder")

    @model_validator(mode="after")
    def _of_these_states(self) -> ChainSettings:
        check_states(self.states, self.order, num_states=self.num_states, monotone=self.monotone, jumps=self.jumps)
        return self

    def settings(self, corpus: Corpus) -> dict[str, Any]:
        """What the network is built with."""
        return {name: getattr(self, name) for name in ChainSettings.model_fields} | {"end": end_symbol(corpus)}


class HMMDecoderSpec(ChainSettings, ConditionalSpec):
    """A decoder that is a hidden Markov chain given the source: the probability is a sum over its paths."""

    kind: Literal["hmm-decoder"] = "hmm-decoder"
    net = HMMDecoder
    own = ()

    def settings(self, corpus: Corpus) -> dict[str, Any]:
        return {**super().settings(corpus), "dropout": self.dropout}


class SVIHMMDecoderSpec(ChainSettings, SVIBudget):
    """The same decoder with priors on the tables that all sources share, scored at the mean of their posterior."""

    kind: Literal["svi-hmm-decoder"] = "svi-hmm-decoder"
    prior_scale: Positive = Field(1.0, description="the standard deviation of the priors, in nats")
    num_restarts: Count = Field(3, description="runs from different starting points, all kept")
    batch_size: Count | None = Field(64, description="pairs in a minibatch")

    def build(self, corpus: Corpus, seed: int) -> Model:
        sizes, options = num_symbols_of_pairs(self, corpus), self.settings(corpus)
        return BayesianHMMDecoder(
            *sizes, num_restarts=self.num_restarts, seed=seed, prior_scale=self.prior_scale, **options
        )

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        fit = super().fit(model, corpus, seed=seed, device=device, progress=progress)
        return replace(fit, model=fit.model.networks())


class AlignmentHMMSpec(EMBudget):
    """An alignment model of tables, fitted by EM: each symbol is drawn from a table of its source symbol."""

    of_pairs = True
    kind: Literal["alignment-hmm"] = "alignment-hmm"
    order: Literal[0, 1] = Field(1, description="0 draws each position anew, 1 jumps from the last one")
    monotone: bool = Field(False, description="never back")
    jumps: Jumps = Field([-2, 3], description="the furthest jumps back and forward")
    concentration: Annotated[float, Field(ge=1)] = Field(
        1.1, description="of the priors on all tables; 1 is maximum likelihood"
    )

    def build(self, corpus: Corpus, seed: int) -> Model:
        sizes, end = num_symbols_of_pairs(self, corpus), end_symbol(corpus)
        names = ("order", "monotone", "jumps", "num_restarts", "concentration")
        return AlignmentHMM(*sizes, end=end, seed=seed, **{name: getattr(self, name) for name in names})
