"""One Markov chain over the parameters of a hidden Markov model: its target, its steps, its randomness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.hmm import HMM

if TYPE_CHECKING:
    from probseq.models.hmm_priors import Sites

_FAR = 10.0  # an unconstrained number that stands for infinity where a chain begins


class Potential:
    r"""What NUTS descends: :math:`-\log p(\theta) - \sum_i w_i \log p(x_i \mid \theta)` of unconstrained numbers.

    It is that of `probseq.models.hmm_priors.marginal_program`, with the Jacobian of the constraints. Pyro makes the
    same of the program by itself; with the plates left out, and the prior looked up once, a step takes two thirds of
    the time.
    """

    def __init__(self, model: HMM, batch: Batch) -> None:
        from torch.distributions import biject_to

        from probseq.models.hmm_priors import prior, supports

        self.model, self.batch, self.prior = model, batch, prior(model)
        self.transforms = {name: biject_to(support) for name, support in supports(model).items()}

    def __call__(self, position: Sites) -> Tensor:
        from pyro import poutine

        from probseq.models.hmm_priors import sample_sites

        sites = self.sites(position)
        with poutine.trace() as recorded, poutine.condition(data=sites):
            sample_sites(self.model, self.prior)
        total = recorded.trace.log_prob_sum() + self.log_likelihood(sites).sum()
        for name, value in position.items():
            total = total + self.transforms[name].log_abs_det_jacobian(value, sites[name]).sum()
        result: Tensor = -total
        return result

    def log_likelihood(self, sites: Sites) -> Tensor:
        """Of the sequences, ``(1, N)``."""
        from probseq.models.hmm_priors import log_likelihood

        return log_likelihood(self.model, sites, self.batch)

    def sites(self, position: Sites) -> Sites:
        """The parameters at this position."""
        return {name: self.transforms[name](value) for name, value in position.items()}

    @torch.no_grad()
    def start(self) -> Sites:
        """The position of the model's own parameters; no trajectory leads away from a probability of exactly 0."""
        from probseq.models.hmm_priors import own_sites

        free = {name: self.transforms[name].inv(value) for name, value in own_sites(self.model).items()}
        return {name: value.nan_to_num(nan=0.0, posinf=_FAR, neginf=-_FAR) for name, value in free.items()}


class Chain:
    """One Markov chain, with its own source of randomness: what it draws does not depend on the others.

    Args:
        potential: what it descends, and where it begins.
        num_warmup: steps that adapt; their positions are not kept.
        seed: of its randomness.
        settings: of Pyro's sampler.
    """

    def __init__(self, potential: Potential, num_warmup: int, seed: int, **settings: float) -> None:
        from pyro.infer import NUTS

        self.potential, self.num_warmup = potential, num_warmup
        self.draws: list[Sites] = []
        self.position, self.num_steps = self.potential.start(), 0
        if not self.potential(self.position).isfinite():
            raise InputError(
                "a chain begins where the data are impossible; begin elsewhere, with another start or seed"
            )
        self.kernel = NUTS(potential_fn=self.potential, **settings)
        self.kernel.initial_params = self.position
        self.random_state = torch.Generator().manual_seed(seed).get_state()
        with self._own_randomness():
            self.kernel.setup(num_warmup)

    @torch.no_grad()
    def step(self) -> float:
        """One trajectory; the log-likelihood of all data where it ends."""
        with torch.enable_grad(), self._own_randomness():
            self.position = self.kernel.sample(self.position)
        self.num_steps += 1
        sites = self.potential.sites(self.position)
        if self.num_steps > self.num_warmup:
            self.draws.append(sites)
        return float(self.potential.log_likelihood(sites).sum())

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Pyro draws from torch's own source, and its checks would stop a trajectory that leaves for infinity."""
        import pyro

        with torch.random.fork_rng([]), pyro.validation_enabled(False):
            torch.set_rng_state(self.random_state)
            yield
            self.random_state = torch.get_rng_state()

    @property
    def divergent(self) -> NDArray[np.bool_]:
        """``(S,)``: the draws that end a divergent trajectory."""
        result = np.zeros(len(self.draws), dtype=bool)
        result[self.kernel.diagnostics()["divergences"]] = True
        return result
