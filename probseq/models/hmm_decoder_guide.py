"""The `BayesianHMMDecoder` in Pyro: its program with states and components summed out, its guide, and the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from probseq.data.batch import Batch
from probseq.models.guides import Given, OwnNoise, RestartELBO

if TYPE_CHECKING:
    from probseq.models.bayesian_hmm_decoder import BayesianHMMDecoder

Sites = dict[str, Tensor]


def marginal_program(model: BayesianHMMDecoder, batch: Batch, num_sequences: int | None = None) -> None:
    r"""Tables from their priors, and one factor for each sequence.

    .. math::
        \theta_r \sim N(0, \sigma^2), \qquad \frac{N}{|B|} \sum_{i \in B} w_i \log p(y_i \mid x_i, \theta_r)

    Plates: ``restarts`` (dim -1), ``sequences`` (dim -2). The program with every state explicit is
    `probseq.models.hmm_decoder_program`.

    Args:
        model: says priors and all other weights.
        batch: the sequences B.
        num_sequences: N, of the data that B was drawn from. Default: those of the batch.
    """
    restarts = pyro.plate("restarts", model.num_restarts, dim=-1)
    with restarts:
        zeros = {key: torch.zeros_like(value) for key, value in model.log_scales.items()}
        sites = _sample(zeros, {key: torch.full_like(value, model.prior_scale) for key, value in zeros.items()})
    with restarts, pyro.plate("sequences", num_sequences or len(batch.index), subsample=batch.index, dim=-2):
        pyro.factor("log_likelihood", _log_likelihood(model, sites, batch))


def guide(model: BayesianHMMDecoder, noise: OwnNoise) -> None:
    """Independent normals around the networks' own tables.

    The draw is differentiable, and its log-density is a function of the draw alone; see `guides.mean_field`.
    """
    means = {key: model.weights[key] for key in model.log_scales}
    scales = {key: value.exp() for key, value in model.log_scales.items()}
    with pyro.plate("restarts", model.num_restarts, dim=-1):
        with pyro.poutine.block(), noise:
            drawn = _sample(means, scales)
        with Given(drawn):
            _sample(*({key: value.detach() for key, value in part.items()} for part in (means, scales)))


def elbo(
    model: BayesianHMMDecoder,
    batch: Batch,
    noise: OwnNoise,
    num_sequences: int | None = None,
    num_particles: int = 1,
) -> Float[Tensor, "S R"]:
    """Of each draw an estimate of the evidence lower bound in nats, differentiable; see `guides.elbo`."""
    with pyro.validation_enabled(False):  # one restart that diverges must not stop the others
        bound: Tensor = RestartELBO(num_particles, max_plate_nesting=2).by_restart(
            lambda batch: marginal_program(model, batch, num_sequences), lambda _: guide(model, noise), batch
        )
    return bound


def _sample(means: Sites, scales: Sites) -> Sites:
    """A site for each table, within the plate ``restarts``."""
    return {key: pyro.sample(key, dist.Normal(means[key], scales[key]).to_event(means[key].ndim - 1)) for key in means}


def _log_likelihood(model: BayesianHMMDecoder, sites: Sites, batch: Batch) -> Float[Tensor, "N R"]:
    model.check_values(batch)
    found = []
    for r in range(model.num_restarts):
        tables = {key.replace("/", "."): value[r] for key, value in sites.items()}
        found.append(model.call(r, "token_log_prob", batch, tables=tables).sum(dim=-1))
    return torch.stack(found, dim=-1) * batch.weights[:, None].to(found[0].dtype)
