"""Models that are averaged over draws from their posterior."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.inference.mcmc import nuts
from probseq.inference.run import Fit
from probseq.inference.svi import svi
from probseq.models.base import Model
from probseq.models.bayesian_hmm import BayesianHMM
from probseq.models.variational import VariationalHMM
from probseq.specs.base import BaseSpec, Count, EmissionSpec, Positive
from probseq.specs.stochastic import EMBudget


class PosteriorSpec(EmissionSpec):
    """What the kinds share that have a posterior over the parameters of a hidden Markov model.

    The concentrations are those of priors that draws are made with, so below 1 they have a meaning too. Gaussian
    emissions may be diag or full.
    """

    num_states: Count
    start: Literal["dirichlet", "near_uniform", "unigram", "kmeans", "race", "spectral"] = Field(
        "dirichlet", description="how starting points are found"
    )
    initial_concentration: Positive = 1.0
    transition_concentration: Positive = 1.0
    emission_concentration: Positive = Field(1.0, description="the strength of the prior on an emission distribution")
    sticky: Annotated[float, Field(ge=0)] = Field(0.0, description="added to the concentration of staying in a state")

    def options(self, corpus: Corpus, seed: int) -> dict[str, Any]:
        """What every one of these models is built with."""
        names = ("start", "initial_concentration", "transition_concentration", "emission_concentration", "sticky")
        chosen = {name: getattr(self, name) for name in names}
        return {"num_states": self.num_states, "emission": self.family(corpus), "seed": seed, **chosen}


class SVIBudget(BaseSpec):
    """How long stochastic variational inference runs, for every kind that it fits."""

    num_restarts: Count = Field(10, description="runs from different starting points, all kept")
    num_steps: Count = Field(1000, description="steps at most; no limit where only seconds is set")
    seconds: Positive | None = Field(None, description="wall-clock budget of all restarts together")
    batch_size: Count | None = Field(None, description="sequences in a minibatch; default: all")
    learning_rate: Positive = 0.1
    num_particles: Count = Field(1, description="draws of the parameters in one step")

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return svi(
            model,
            corpus.train,
            num_steps=self.num_steps,
            batch_size=self.batch_size and min(self.batch_size, len(corpus.train)),
            learning_rate=self.learning_rate,
            num_particles=self.num_particles,
            seed=seed,
            seconds=self.seconds,
            device=device,
            progress=progress,
        )


class VBHMMSpec(PosteriorSpec, EMBudget):
    """A hidden Markov model averaged over draws of a posterior by variational Bayes, which EM's steps find."""

    kind: Literal["vb-hmm"] = "vb-hmm"
    num_draws: Count = Field(100, description="draws from the posterior that a score is averaged over")

    def build(self, corpus: Corpus, seed: int) -> Model:
        return VariationalHMM(num_restarts=self.num_restarts, **self.options(corpus, seed))

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        fit = super().fit(model, corpus, seed=seed, device=device, progress=progress)
        return replace(fit, model=model.posterior(self.num_draws, seed))


class SVIHMMSpec(PosteriorSpec, SVIBudget):
    """A hidden Markov model averaged over draws of a posterior by stochastic variational inference."""

    kind: Literal["svi-hmm"] = "svi-hmm"
    guide: Literal["mean_field", "structured"] = Field("mean_field", description="the family of posteriors")
    num_draws: Count = Field(100, description="draws from the posterior that a score is averaged over")

    def build(self, corpus: Corpus, seed: int) -> Model:
        return BayesianHMM(guide=self.guide, num_restarts=self.num_restarts, **self.options(corpus, seed))

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        fit = super().fit(model, corpus, seed=seed, device=device, progress=progress)
        return replace(fit, model=model.posterior(self.num_draws, seed))


class NutsHMMSpec(PosteriorSpec):
    """A hidden Markov model averaged over draws of NUTS; for small data, which every step sees many times."""

    kind: Literal["nuts-hmm"] = "nuts-hmm"
    num_samples: Count = Field(500, description="draws of each chain")
    num_warmup: Annotated[int, Field(ge=0)] = Field(500, description="steps of each chain that adapt, before its draws")
    num_chains: Count = Field(2, description="chains, from different starting points")
    target_acceptance: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.8, description="the nearer to 1, the smaller the steps, and the fewer diverge"
    )
    max_tree_depth: Count = Field(10, description="a draw costs at most 2 to this power looks at the data")

    def build(self, corpus: Corpus, seed: int) -> Model:
        return BayesianHMM(num_restarts=self.num_chains, **self.options(corpus, seed))

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return nuts(
            model,
            corpus.train,
            num_samples=self.num_samples,
            num_warmup=self.num_warmup,
            num_chains=self.num_chains,
            seed=seed,
            target_acceptance=self.target_acceptance,
            max_tree_depth=self.max_tree_depth,
            progress=progress,
        ).fit
