"""`Guided`: what `probseq.svi` asks of a model, and the evidence lower bound that it gets for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError, check_whole
from probseq.models.stacked import Stacked

if TYPE_CHECKING:
    from probseq.models.guides import OwnNoise

OBJECTIVE = "evidence lower bound per token (nats), estimated"


class Guided(Stacked):
    """A model with a guide: a family of posteriors that `probseq.svi` searches by the gradient of the bound."""

    start: str
    initialized: bool

    def guide_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What `probseq.svi` changes, by name. Restarts are the first axis of every one."""
        raise NotImplementedError

    def rate_share(self, name: str) -> float:
        """How large the steps of this parameter are, as a share of the learning rate."""
        return 1.0

    def guide_bound(
        self, batch: Batch, noise: OwnNoise, num_sequences: int | None = None, num_particles: int = 1
    ) -> Float[Tensor, "S R"]:
        """``(S, R)``: of each draw an estimate of the bound of `num_sequences` sequences, in nats; differentiable.

        Args:
            batch: some of the sequences. What belongs to them alone is scaled up to all.
            noise: the source of the guide's draws.
            num_sequences: N. Default: those of the batch.
            num_particles: S, draws from the guide.
        """
        raise NotImplementedError

    def elbo(
        self, data: Sequences, max_tokens: int = 2**16, *, num_particles: int = 100, seed: int = 0
    ) -> Float[Tensor, "R"]:
        """``(R,)``: an estimate of the evidence lower bound of these data, in nats.

        Args:
            data: the sequences.
            max_tokens: padded tokens in one batch. Of a model whose sequences have draws of their own, which these are
                depends on it; of any other it changes memory, not the result.
            num_particles: draws from the guide; the error falls with their square root.
            seed: of the draws.

        Raises:
            InputError: no data, data that the model cannot score, no draw, or a start that no fit has made yet.
        """
        return self.elbo_draws(data, max_tokens, num_particles=num_particles, seed=seed).mean(dim=0)

    @torch.no_grad()
    def elbo_draws(
        self, data: Sequences, max_tokens: int = 2**16, *, num_particles: int = 100, seed: int = 0
    ) -> Float[Tensor, "S R"]:
        """``(S, R)``: what each draw from the guide says of the bound; `elbo` is the mean, and this its error.

        Arguments and exceptions are those of `elbo`.
        """
        from probseq.models.guides import OwnNoise  # loads Pyro

        self.check_data(data)
        check_whole("num_particles", num_particles)
        self.check_initialized()
        total = torch.zeros(num_particles, self.num_restarts, dtype=torch.float64, device=self.device)
        for batch in data.batches(max_tokens, device=self.device):
            noise = OwnNoise(self.numbers, seed)  # the same draws of what batches share, if sequences have none
            part = self.guide_bound(batch, noise, len(data), num_particles)
            total += part.double() * len(batch.lengths) / len(data)
        return total

    def check_data(self, data: Sequences) -> None:
        """Raise `InputError` unless there is something to score; Pyro would add its trace to what is raised later."""
        check_sequences(data, "data")
        for batch in data.batches():
            self.check_values(batch)
            self.check_possible(batch)

    def check_initialized(self) -> None:
        """Raise `InputError` if the start is made from data, and no fit has seen any."""
        if not self.initialized:
            raise InputError(
                f"the model has no posterior yet: its start, {self.start!r}, is made from data; fit it with svi first"
            )
