"""Models of documents as mixtures of topics, fitted by variational EM."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.models.base import Model
from probseq.models.topic import LDA
from probseq.specs.base import Count, Positive
from probseq.specs.counts import num_symbols
from probseq.specs.stochastic import EMBudget


class LDASpec(EMBudget):
    """Latent Dirichlet allocation: every document has a mixture of topics, and the order of its words is nothing."""

    kind: Literal["lda"] = "lda"
    num_topics: Count = 20
    num_restarts: Count = Field(5, description="runs from different starting points, all kept")
    start: Literal["gibbs", "random", "documents", "anchors"] = Field(
        "gibbs", description="how starting points are found"
    )
    alpha: Positive = Field(0.1, description="where learning the prior over a document's topics begins")
    eta: Positive = Field(0.05, description="where learning the prior over a topic's words begins")
    symmetric: bool = Field(False, description="learn one number for all of alpha")
    fixed: list[Literal["topics", "alpha", "eta"]] = Field([], description="parts that the fit leaves as they are")
    tol: Annotated[float, Field(ge=0)] = Field(1e-5, description="stop at a smaller gain, relative to the objective")
    num_steps: Count = Field(50, description="EM steps at most; no limit where only seconds is set")
    num_particles: Count = Field(64, description="of one particle filter that estimates a likelihood")
    num_replicates: Count = Field(4, description="filters whose estimates are averaged")

    def build(self, corpus: Corpus, seed: int) -> Model:
        names = ("num_topics", "num_restarts", "start", "alpha", "eta", "symmetric", "fixed")
        sizes = ("num_particles", "num_replicates")
        chosen = {name: getattr(self, name) for name in (*names, *sizes)}
        return LDA(num_symbols=num_symbols(self, corpus), seed=seed, **chosen)
