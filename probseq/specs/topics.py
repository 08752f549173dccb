"""Models of documents as mixtures of topics, fitted by variational EM."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.inference.em import em
from probseq.inference.run import Fit
from probseq.models.base import Model
from probseq.models.topic import LDA
from probseq.specs.base import BaseSpec, Count, Positive
from probseq.specs.counts import num_symbols


class LDASpec(BaseSpec):
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
    num_steps: Count = Field(50, description="EM steps at most; a million where only seconds is set")
    seconds: Positive | None = Field(None, description="wall-clock budget of all restarts together")
    minibatch: Count | None = Field(None, description="documents in a step of online inference; default: all, and EM")
    num_particles: Count = Field(64, description="of one particle filter that estimates a likelihood")
    num_replicates: Count = Field(4, description="filters whose estimates are averaged")

    def build(self, corpus: Corpus, seed: int) -> Model:
        names = ("num_topics", "num_restarts", "start", "alpha", "eta", "symmetric", "fixed")
        sizes = ("num_particles", "num_replicates")
        chosen = {name: getattr(self, name) for name in (*names, *sizes)}
        return LDA(num_symbols=num_symbols(self, corpus), seed=seed, **chosen)

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return em(
            model,
            corpus.train,
            num_steps=self.num_steps,
            tol=self.tol,
            minibatch=self.minibatch,
            seconds=self.seconds,
            seed=seed,
            device=device,
            progress=progress,
        )
