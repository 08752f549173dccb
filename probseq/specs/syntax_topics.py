"""A model of topics and syntax together, fitted by variational EM."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.inference.em import em
from probseq.inference.run import Fit
from probseq.models.base import Model
from probseq.models.syntax_topics import SyntaxTopics
from probseq.specs.base import BaseSpec, Count, Positive
from probseq.specs.counts import num_symbols


class SyntaxTopicsSpec(BaseSpec):
    """A Markov chain of classes, one of which emits from the document's topics."""

    kind: Literal["syntax-topics"] = "syntax-topics"
    num_topics: Count
    num_classes: Count = Field(description="classes of words, that of the topics included")
    num_restarts: Count = Field(2, description="runs from different starting points, all kept")
    start: Literal["gibbs", "random"] = Field("gibbs", description="how starting points are found")
    alpha: Positive = Field(0.1, description="where learning the prior over a document's topics begins")
    eta: Positive = Field(0.05, description="where learning the priors over words begins")
    gamma: Positive = Field(0.5, description="of the prior over the steps from each class")
    tol: Annotated[float, Field(ge=0)] = Field(1e-5, description="stop at a smaller gain, relative to the objective")
    num_steps: Count = Field(20, description="EM steps at most; a million where only seconds is set")
    seconds: Positive | None = Field(None, description="wall-clock budget of all restarts together")
    num_particles: Count = Field(64, description="of one particle filter that estimates a likelihood")
    num_replicates: Count = Field(4, description="filters whose estimates are averaged")

    def build(self, corpus: Corpus, seed: int) -> Model:
        names = ("num_topics", "num_classes", "num_restarts", "start", "alpha", "eta", "gamma")
        chosen = {name: getattr(self, name) for name in (*names, "num_particles", "num_replicates")}
        return SyntaxTopics(num_symbols=num_symbols(self, corpus), seed=seed, **chosen)

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return em(
            model,
            corpus.train,
            num_steps=self.num_steps,
            tol=self.tol,
            seconds=self.seconds,
            device=device,
            progress=progress,
        )
