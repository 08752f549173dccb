"""Models whose hidden state is drawn, fitted by EM."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.inference.em import em
from probseq.inference.run import Fit
from probseq.models.base import Model
from probseq.models.hmm import HMM
from probseq.specs.base import BaseSpec, Count, EmissionSpec, Positive


class EMBudget(BaseSpec):
    """How long EM runs, for every kind that it fits."""

    num_restarts: Count = Field(10, description="runs from different starting points, all kept")
    accelerate: bool = Field(False, description="extrapolate EM's steps (SQUAREM); the objective still never falls")
    minibatch: Count | None = Field(None, description="sequences of one EM step; default: all, and with that exact EM")
    tol: Annotated[float, Field(ge=0)] = Field(1e-6, description="stop at a smaller gain, relative to the objective")
    num_steps: Count = Field(200, description="EM steps at most; no limit where only seconds is set")
    seconds: Positive | None = Field(None, description="wall-clock budget of all restarts together")

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return em(
            model,
            corpus.train,
            num_steps=self.num_steps,
            tol=self.tol,
            accelerate=self.accelerate,
            minibatch=self.minibatch,
            seed=seed,
            seconds=self.seconds,
            device=device,
            progress=progress,
        )


class EMSpec(EMBudget, EmissionSpec):
    """What the kinds share that are fitted by EM.

    The concentrations are those of Dirichlet priors. A little above 1, so that a symbol or a step that training never
    saw keeps a positive probability. The covariance strength keeps a state from shrinking onto one observation.
    """

    start: Literal["dirichlet", "near_uniform", "unigram", "kmeans", "race", "spectral"] = Field(
        "dirichlet", description="how starting points are found"
    )
    initial_concentration: Annotated[float, Field(ge=1)] = Field(
        1.1, description="of the prior on the first state; 1 is maximum likelihood"
    )
    transition_concentration: Annotated[float, Field(ge=1)] = Field(
        1.1, description="of the prior on every row of the transitions; 1 is maximum likelihood"
    )
    emission_concentration: Annotated[float, Field(ge=1)] = Field(
        1.1, description="of categorical and bernoulli emissions; 1 is maximum likelihood"
    )
    covariance_strength: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="of gaussian emissions: the prior is worth so many observations with the data's variances; "
        "0 is maximum likelihood",
    )
    sticky: Annotated[float, Field(ge=0)] = Field(0.0, description="added to the concentration of staying in a state")
    dtype: Literal["float32", "float64"] = Field(
        "float64", description="of parameters and beliefs; with many states float32 takes half the time"
    )

    def hmm(self, num_states: int, corpus: Corpus, seed: int) -> Model:
        """An HMM with these settings."""
        return HMM(
            num_states=num_states,
            emission=self.family(corpus, self.emission_concentration, self.covariance_strength),
            num_restarts=self.num_restarts,
            seed=seed,
            start=self.start,
            initial_concentration=self.initial_concentration,
            transition_concentration=self.transition_concentration,
            sticky=self.sticky,
            dtype=getattr(torch, self.dtype),
        )


class HMMSpec(EMSpec):
    """A hidden Markov model."""

    kind: Literal["hmm"] = "hmm"
    num_states: Count

    def build(self, corpus: Corpus, seed: int) -> Model:
        return self.hmm(self.num_states, corpus, seed)


class IIDSpec(EMSpec):
    """One distribution for every token, whatever came before: an HMM of one state, the baseline of vectors."""

    kind: Literal["iid"] = "iid"
    num_restarts: Count = Field(1, description="only a mixture has more than one optimum")

    def build(self, corpus: Corpus, seed: int) -> Model:
        return self.hmm(1, corpus, seed)
