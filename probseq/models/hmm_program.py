"""The hidden Markov model as a generative program in Pyro, with every state explicit: what the engine computes, stated.

Summing out the states (``TraceEnum_ELBO``) gives the same likelihood as ``HMM.token_log_prob``.
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

if TYPE_CHECKING:
    from probseq.models.hmm import HMM


def program(model: HMM, batch: Batch) -> None:
    """Sites: ``initial`` and ``transition`` (Dirichlet priors), ``emission`` for symbols, ``state_t`` and ``value_t``.

    The parameters of other emissions are those of the model. Weights of the batch, known states and missing entries of
    a vector are not part of it: Pyro scales and masks an enumerated site as a whole only.

    Raises:
        InputError: masks, or vectors of which some entries are missing.
    """
    _check(model, batch)
    like, restarts = model.log_initial.new_ones, pyro.plate("restarts", model.num_restarts, dim=-2)
    row = torch.arange(model.num_restarts, device=model.device)[:, None]
    stay = model.sticky * torch.eye(model.num_states, dtype=like(1).dtype, device=model.device)
    with restarts:
        initial = pyro.sample("initial", dist.Dirichlet(like(model.num_states) * model.initial_concentration))
        with pyro.plate("states", model.num_states, dim=-1):
            transition = pyro.sample("transition", dist.Dirichlet(model.transition_concentration + stay))
        raw = _emission_parameters(model)
    observed = batch.observed
    values = batch.values.clamp(min=0) if batch.values.ndim == 2 else batch.values.nan_to_num()  # what is masked below
    with restarts, pyro.plate("sequences", len(batch.lengths), dim=-1):
        probs = initial
        for t in pyro.markov(range(batch.values.shape[1])):
            with pyro.poutine.mask(mask=t < batch.lengths):
                state = pyro.sample(f"state_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                of_state = {name: Vindex(value)[row, model.groups[state]] for name, value in raw.items()}
                with pyro.poutine.mask(mask=observed[:, t]):
                    pyro.sample(f"value_{t}", distribution(model.emission, of_state), obs=values[:, t])
                probs = Vindex(transition)[row, state]


def _emission_parameters(model: HMM) -> dict[str, Tensor]:
    """(R, G, ...): the logits behind a draw from the prior for symbols, else the model's own parameters."""
    if not isinstance(model.emission, Categorical):
        return model.emission.raw
    with pyro.plate("groups", int(model.groups.max()) + 1, dim=-1):
        concentration = getattr(model, "emission_concentration", model.emission.concentration)
        prior = dist.Dirichlet(model.log_initial.new_ones(model.num_symbols) * concentration)
        return {"logits": pyro.sample("emission", prior).log()}


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


def _check(model: HMM, batch: Batch) -> None:
    if not (model.initial_mask.all() and model.transition_mask.all()):
        raise InputError("a Dirichlet has no zeros, so a model with masks has no program; leave the masks out")
    if batch.values.ndim == 3 and (batch.values.isnan().any(-1) != batch.values.isnan().all(-1)).any():
        raise InputError("the program takes vectors that are observed as a whole or not at all")
