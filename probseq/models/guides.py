"""Guides: the families of posteriors that `probseq.svi` searches, in Pyro, and the evidence lower bound.

``mean_field``
    The conjugate family: independent Dirichlets of all rows, and the conjugate distribution of every emission. It is
    the prior's own program with other numbers, and the family of variational Bayes.
``structured``
    A joint normal with any covariance over all parameters at once, mapped to probabilities, rates and covariances. It
    can say that two parameters are uncertain together.

An amortised guide, a network from a sequence to the posterior of its own hidden variables, has nothing to do here: the
engine sums the states out, and what is left to guess belongs to all sequences alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

from probseq.data.batch import Batch
from probseq.models.base import restart_generator, restart_seed
from probseq.models.emission_priors import Sites
from probseq.models.hmm_priors import Belief, marginal_program, own_sites, sample_sites, supports
from probseq.models.parameter_distributions import Beta, DirichletTable, Gamma, InverseWishartFactor, log_gamma_draws
from probseq.models.variational import VariationalHMM


class OwnNoise(Messenger):  # type: ignore[misc]
    """Draws of every restart from a source of its own: a function of ``(seed, restart, step)``, never of R.

    Args:
        numbers: the restarts' numbers.
        seed: of all.
        step: of the run.
    """

    def __init__(self, numbers: Sequence[int], seed: int, step: int = 0) -> None:
        super().__init__()
        self.sources = [restart_generator(restart_seed(seed, number), step) for number in numbers]

    def _pyro_sample(self, message: Any) -> None:
        if message["value"] is None and not message["is_observed"]:
            message["value"] = self.draw(message["fn"])

    def normals(self, like: Tensor) -> Tensor:
        """Standard normal draws of the shape of `like`, ``(R, ...)``."""
        rows = [torch.randn(row.shape, generator=g, dtype=row.dtype) for g, row in zip(self.sources, like, strict=True)]
        return torch.stack(rows).to(like.device)

    def log_gammas(self, shapes: Tensor) -> Tensor:
        """Logarithms of standard Gamma draws with these shapes ``(R, ...)``, differentiable in them."""
        rows = [log_gamma_draws(row, g) for g, row in zip(self.sources, shapes.cpu(), strict=True)]
        return torch.stack(rows).to(shapes.device)

    def draw(self, fn: Any) -> Any:
        """A reparametrised draw; None from what is no distribution of parameters."""
        match fn:
            case dist.Independent():
                return self.draw(fn.base_dist)
            case DirichletTable() | Gamma():
                return fn.from_log_gammas(self.log_gammas(fn.concentration))
            case Beta():
                return fn.from_log_gammas(self.log_gammas(fn.concentration1), self.log_gammas(fn.concentration0))
            case InverseWishartFactor():
                return fn.from_standard(self.log_gammas(fn.halves), self.normals(fn.scale_tril))
            case dist.MultivariateNormal():
                return fn.loc + (fn.scale_tril @ self.normals(fn.loc)[..., None])[..., 0]
            case dist.Normal():
                return fn.loc + fn.scale * self.normals(fn.loc)
        return None


class Given(Messenger):  # type: ignore[misc]
    """Values that have been drawn before."""

    def __init__(self, values: Sites) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, message: Any) -> None:
        message["value"] = self.values.get(message["name"], message["value"])


class Coordinates:
    """All sites of a model as one unconstrained vector, and back.

    Attributes:
        maps: of every site, from unconstrained numbers to its support.
        sizes: of every site, how many numbers.
    """

    def __init__(self, model: VariationalHMM) -> None:
        self.maps = {name: biject_to(support) for name, support in supports(model).items()}
        with torch.no_grad():
            free = {name: self.maps[name].inv(value) for name, value in own_sites(model).items()}
        self.shapes = {name: free[name].shape[1:] for name in self.maps}
        self.sizes = [shape.numel() for shape in self.shapes.values()]

    def flat(self, sites: Sites) -> Tensor:
        """``(R, F)``."""
        return torch.cat([self.maps[name].inv(sites[name]).flatten(1) for name in self.maps], dim=1)

    def sites(self, flat: Tensor) -> tuple[Sites, dict[str, Tensor]]:
        """The sites, and of each the logarithm of the Jacobian of its map, ``(R,)``."""
        parts = zip(self.shapes.items(), torch.split(flat, self.sizes, dim=1), strict=True)
        free = {name: part.reshape(len(flat), *shape) for (name, shape), part in parts}
        sites = {name: self.maps[name](value) for name, value in free.items()}
        return sites, {name: self.maps[name].log_abs_det_jacobian(free[name], sites[name]) for name in sites}


def mean_field(model: VariationalHMM, noise: OwnNoise) -> None:
    r"""The conjugate family, at the model's own means and strengths.

    The draw is differentiable, and its log-density is a function of the draw alone: what :math:`\log q(\theta)` owes
    directly to means and strengths has a gradient with mean 0, which is only noise. So where the guide is the exact
    posterior the gradient of the bound is 0 for every draw.

    Reference:
        G. Roeder, Y. Wu, D. Duvenaud (2017), "Sticking the landing: simple, lower-variance gradient estimators for
        variational inference".
    """
    belief = model._belief()
    with pyro.plate("restarts", model.num_restarts, dim=-1):
        with pyro.poutine.block(), noise:
            drawn = sample_sites(model, belief)
        with Given(drawn):
            sample_sites(model, _constant(belief))


def _constant(belief: Belief) -> Belief:
    """The same numbers, without a gradient."""
    parts = {name: value.detach() for name, value in belief._asdict().items() if isinstance(value, Tensor)}
    emission = None if belief.emission is None else {name: value.detach() for name, value in belief.emission.items()}
    return belief._replace(**parts, emission=emission)


def structured(model: Any, noise: OwnNoise) -> None:
    """A normal distribution of all coordinates, around those of the model's own parameters: standard noise, moved."""
    coordinates = Coordinates(model)
    with pyro.plate("restarts", model.num_restarts, dim=-1), noise:
        standard = dist.Normal(torch.zeros_like(model.guide_log_scale), 1.0).to_event(1)
        drawn = pyro.sample("noise", standard, infer={"is_auxiliary": True})
        sites, jacobians = coordinates.sites(_moved(model, coordinates, drawn[:, None])[:, 0])
        jacobians[next(iter(sites))] += model.guide_log_scale.sum(dim=-1)  # from the noise to the coordinates
        for name, value in sites.items():
            pyro.sample(name, dist.Delta(value, log_density=-jacobians[name], event_dim=value.ndim - 1))


def _moved(model: Any, coordinates: Coordinates, noise: Tensor) -> Tensor:
    """Standard normal noise ``(R, S, F)`` to coordinates."""
    joint = noise + noise @ model.guide_factor.tril(-1).mT
    moved: Tensor = coordinates.flat(own_sites(model))[:, None] + model.guide_log_scale.exp()[:, None] * joint
    return moved


@torch.no_grad()
def structured_draws(model: Any, num_draws: int, seed: int) -> Sites:
    """Values ``(R S, ...)`` of all sites, the S draws of each restart in a row."""
    coordinates = Coordinates(model)
    noise = OwnNoise(model.numbers, seed).normals(model.guide_log_scale[:, None].expand(-1, num_draws, -1))
    return coordinates.sites(_moved(model, coordinates, noise).flatten(0, 1))[0]


GUIDES = {"mean_field": mean_field, "structured": structured}
"""Every guide by name."""


def guide(model: Any, noise: OwnNoise) -> Any:
    """The model's guide as a function of a batch, which it ignores, drawing from `noise`."""
    return lambda *_: GUIDES[model.guide](model, noise)


class RestartELBO(Trace_ELBO):  # type: ignore[misc]
    """Pyro's `Trace_ELBO`, restart by restart."""

    def by_restart(self, program: Any, guide: Any, *args: Any) -> Tensor:
        """``(S, R)``: of every draw, and every restart, the term of the evidence lower bound; differentiable."""
        draws = []
        for traces in self._get_traces(program, guide, args, {}):
            total: Any = 0.0
            for trace, sign in zip(traces, (1, -1), strict=True):
                sites = [node for node in trace.nodes.values() if node["type"] == "sample"]
                terms = [node["log_prob"] for node in sites]
                total = total + sum(sign * self._of_restarts(term) for term in terms)
            draws.append(total)
        return torch.stack(draws)

    def _of_restarts(self, term: Tensor) -> Tensor:
        """``(R,)``: the sum over all other plates, of which restarts are the innermost."""
        return term.reshape(-1, term.shape[-1]).sum(0)


def elbo(model: Any, batch: Batch, noise: OwnNoise, num_sequences: int | None = None, num_particles: int = 1) -> Tensor:
    """``(S, R)``: of each of S draws an estimate of the evidence lower bound in nats, differentiable.

    Args:
        model: R restarts.
        batch: some of the sequences.
        noise: what the guide draws from.
        num_sequences: how many sequences there are. Default: those of the batch.
        num_particles: S.
    """
    program = lambda batch: marginal_program(model, batch, num_sequences)
    with pyro.validation_enabled(False):  # one restart that diverges must not stop the others
        bound: Tensor = RestartELBO(num_particles, max_plate_nesting=2).by_restart(program, guide(model, noise), batch)
    return bound
