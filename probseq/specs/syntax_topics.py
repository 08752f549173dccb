"""A model of topics and syntax together, fitted by variational EM."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.models.base import Model
from probseq.models.syntax_topics import SyntaxTopics
from probseq.specs.base import Count, Positive
from probseq.specs.counts import num_symbols
from probseq.specs.stochastic import EMBudget


class SyntaxTopicsSpec(EMBudget):
    """A Markov chain of classes, one of which emits from the document's topics."""

    kind: Literal["syntax-topics"] = "syntax-topics"
    num_topics: Count
    num_classes: Count = Field(description="classes of words, that of the topics included")
    num_restarts: Count = Field(2, description="runs from different starting points, all kept")
    start: Literal["gibbs", "random"] = Field("gibbs", description="how starting points are found")
    alpha: Positive = Field(0.1, description="where learning the prior over a document's topics begins")
    eta: Positive = Field(0.05, description="where learning the priors over words begins")
    transition_concentration: Positive = Field(0.5, description="of the prior over the steps from each class")
    tol: Annotated[float, Field(ge=0)] = Field(1e-5, description="stop at a smaller gain, relative to the objective")
    num_steps: Count = Field(20, description="EM steps at most; no limit where only seconds is set")
    num_particles: Count = Field(64, description="of one particle filter that estimates a likelihood")
    num_replicates: Count = Field(4, description="filters whose estimates are averaged")

    def build(self, corpus: Corpus, seed: int) -> Model:
        names = ("num_topics", "num_classes", "num_restarts", "start", "alpha", "eta", "transition_concentration")
        chosen = {name: getattr(self, name) for name in (*names, "num_particles", "num_replicates")}
        return SyntaxTopics(num_symbols=num_symbols(self, corpus), seed=seed, **chosen)
