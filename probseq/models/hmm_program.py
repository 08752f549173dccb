"""The hidden Markov model as a generative program in Pyro, with every state explicit: what the engine computes, stated.

Summing out the states (``TraceEnum_ELBO``) gives the same likelihood as ``HMM.token_log_prob``, and the same density as
`probseq.models.hmm_priors.marginal_program`, with which it shares the priors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.emissions import Bernoulli, Categorical, Emission, Gaussian, GaussianMixture, Poisson
from probseq.models.hmm_priors import prior, raw_parameters, sample_sites

if TYPE_CHECKING:
    from probseq.models.hmm import HMM


def program(model: HMM, batch: Batch) -> None:
    """Sites: the parameters with their priors, see `probseq.models.hmm_priors`; ``state_t`` and ``value_t``.

    Emissions without a proper prior have the parameters of the model. Weights of the batch, known states and missing
    entries of a vector are not part of it: Pyro scales and masks an enumerated site as a whole only.

    Raises:
        InputError: vectors of which some entries are missing.
    """
    _check(batch)
    restarts = pyro.plate("restarts", model.num_restarts, dim=-1)
    with restarts:
        sites = sample_sites(model, prior(model))
    raw, row = raw_parameters(model, sites), torch.arange(model.num_restarts, device=model.device)
    initial, transition = sites.get("initial", model.initial), sites.get("transition", model.transition)
    observed, lengths = batch.observed[:, :, None], batch.lengths[:, None]
    values = batch.values.clamp(min=0) if batch.values.ndim == 2 else batch.values.nan_to_num()  # what is masked below
    with restarts, pyro.plate("sequences", len(batch.lengths), dim=-2):
        probs = initial
        for t in pyro.markov(range(batch.values.shape[1])):
            with pyro.poutine.mask(mask=t < lengths):
                state = pyro.sample(f"state_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                of_state = {name: Vindex(value)[row, model.groups[state]] for name, value in raw.items()}
                with pyro.poutine.mask(mask=observed[:, t]):
                    pyro.sample(f"value_{t}", distribution(model.emission, of_state), obs=values[:, t, None])
                probs = Vindex(transition)[row, state]


def distribution(emission: Emission, raw: dict[str, Tensor]) -> Any:
    """The family in Pyro's words, with parameters ``(*B, ...)``."""
    if isinstance(emission, Categorical):
        return dist.Categorical(logits=raw["logits"])
    if isinstance(emission, Bernoulli):
        return dist.Bernoulli(logits=raw["logits"]).to_event(1)
    if isinstance(emission, Poisson):
        return dist.Poisson(raw["log_rate"].exp()).to_event(1)
    if isinstance(emission, Gaussian):
        return dist.MultivariateNormal(raw["mean"], scale_tril=emission.scale_tril(raw))
    if isinstance(emission, GaussianMixture):
        parts = dist.Normal(raw["mean"], raw["log_scale"].exp()).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=raw["weight_logits"]), parts)
    raise InputError(f"{type(emission).__name__} has no statement in Pyro yet")


def _check(batch: Batch) -> None:
    if batch.values.ndim == 3 and (batch.values.isnan().any(-1) != batch.values.isnan().all(-1)).any():
        raise InputError("the program takes vectors that are observed as a whole or not at all")
