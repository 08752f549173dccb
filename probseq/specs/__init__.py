"""What a study says about one model: a class per kind, with its settings, `build` and `fit`.

A new kind is one class, in the file of its family, and one name in `ModelSpec` and `KINDS`.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from probseq.specs.base import BaseSpec, Count, Settings
from probseq.specs.bayesian import NutsHMMSpec, SVIHMMSpec, VBHMMSpec
from probseq.specs.counts import CacheSpec, NGramSpec, UniformSpec, UnigramSpec
from probseq.specs.networks import GRUSpec, LSTMSpec, RNNSpec, TransformerSpec, UpdateGateSpec
from probseq.specs.seq2seq import (
    AlignmentHMMSpec,
    HMMDecoderSpec,
    Seq2SeqSpec,
    SVIHMMDecoderSpec,
    TransformerSeq2SeqSpec,
)
from probseq.specs.stochastic import HMMSpec, IIDSpec
from probseq.specs.syntax_topics import SyntaxTopicsSpec
from probseq.specs.topics import LDASpec

__all__ = ["KINDS", "BaseSpec", "Count", "ModelSpec", "Settings"]

ModelSpec = Annotated[
    UniformSpec
    | UnigramSpec
    | CacheSpec
    | NGramSpec
    | IIDSpec
    | HMMSpec
    | LDASpec
    | SyntaxTopicsSpec
    | VBHMMSpec
    | SVIHMMSpec
    | NutsHMMSpec
    | RNNSpec
    | UpdateGateSpec
    | GRUSpec
    | LSTMSpec
    | TransformerSpec
    | Seq2SeqSpec
    | TransformerSeq2SeqSpec
    | HMMDecoderSpec
    | SVIHMMDecoderSpec
    | AlignmentHMMSpec,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[BaseSpec]] = {
    spec.model_fields["kind"].default: spec for spec in get_args(get_args(ModelSpec)[0])
}
