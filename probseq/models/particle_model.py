"""What models share whose likelihood is estimated by `probseq.ops.particles`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.base import Model
from probseq.models.emissions import Categorical
from probseq.ops import particles
from probseq.types import Likelihood, TokenLogProb


def check_prior(name: str, value: float | Sequence[float], size: int, dtype: torch.dtype) -> Float[Tensor, "size"]:
    """The parameters of a Dirichlet prior, of which the data type of a model must not make 0 or inf.

    Raises:
        InputError: no numbers, some that are not positive, too small or too large, or not as many as there should be.
    """
    limits = torch.finfo(dtype)
    try:
        prior = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    except (TypeError, ValueError):
        prior = torch.empty(0)  # nothing that is a number
    if prior.numel() not in (1, size) or not ((prior >= limits.tiny) & (prior <= limits.max)).all():
        more = f", or {size} of them" if size > 1 else ""
        raise InputError(f"{name} is {value}; expected a positive number{more}, {limits.tiny:.1e} or more")
    return prior.expand(size).clone()


class ParticleModel(Model):
    """A model that says where its words come from, and is scored by particles for that.

    Attributes:
        num_particles: of one particle filter.
        num_replicates: filters whose estimates are averaged.
        seed: of the filters.
    """

    likelihood: Likelihood = "estimate"
    num_particles: int
    num_replicates: int
    seed: int
    initialized: bool
    _symbols: int

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        arguments = {k: v for k, v in config.items() if k != "initialized"}
        model = cls(**{**arguments, "dtype": getattr(torch, config["dtype"])})
        model.initialized = config["initialized"]
        return model

    @property
    def emission(self) -> Categorical:  # type: ignore[override]
        """The family of the observations; what it needs to know is part of the model."""
        return Categorical(self._symbols)

    @property
    def source(self) -> particles.Source:
        """Where words come from."""
        raise NotImplementedError

    @torch.no_grad()
    def estimate(self, batch: Batch) -> particles.Estimate:
        """``log p(x)`` by sequential Monte Carlo: its terms, its standard error, and its drift.

        The drift is what all replicates together gained over one of them: what log p(x) rises by on average with
        `num_replicates` times the particles. The rest of the way to the exact value is about a third of it for four.
        """
        self.check_values(batch)
        sizes = (self.num_particles, self.num_replicates, self.seed)
        terms = particles.token_log_prob(batch.values, batch.observed, self.source, *sizes)
        first = batch.observed.int().argmax(dim=1, keepdim=True)
        return particles.combine(terms, shared=batch.values.gather(1, first)[:, 0])  # a key depends on the words so far

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        return self.estimate(batch).token_log_prob

    def initial_state(self, num_sequences: int) -> particles.Particles:
        keys = particles.replicate_keys(self.seed, self.num_replicates).to(self.device)
        return particles.begin(self.source, num_sequences, self.num_particles, keys)

    @torch.no_grad()
    def next_log_prob(self, state: particles.Particles) -> Float[Tensor, "R N V"]:
        source = self.source
        return (particles.predicted_labels(state, source) @ source.emission).log()

    @torch.no_grad()
    def advance(self, state: particles.Particles, values: Int[Tensor, "N"]) -> particles.Particles:
        return particles.advance(state, values, self.source)
