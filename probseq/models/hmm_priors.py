r"""The priors of a hidden Markov model, and its program in Pyro with the states summed out by the engine.

A *belief* about parameters is a distribution with the parameters' mean and a strength, in observations; the prior is
one, and so is every posterior of variational Bayes. Their distributions are

===================  =======================================================================================
``initial``          Dirichlet over the states that a sequence may begin in
``transition``       a Dirichlet for each row, over the steps that are possible
``probs``            of `Categorical`: Dirichlet; of `Bernoulli`: Beta
``rates``            of `Poisson`: Gamma
``precision, mean``  of `Gaussian`, diag: Gamma; normal given the precision
``packed_tril``,     of `Gaussian`, full: the Cholesky factor of a covariance that is inverse-Wishart, packed;
``mean``             normal given the covariance
===================  =======================================================================================

Each is a site of the program, with the restarts as its only batch axis. What is fixed is known and has no site.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.emission_priors import Sites as Sites
from probseq.models.emission_priors import emission_prior
from probseq.models.emissions import Poisson
from probseq.models.parameter_distributions import DirichletTable, TableSupport
from probseq.ops import chain

if TYPE_CHECKING:
    from probseq.models.hmm import HMM


class Belief(NamedTuple):
    """A distribution over parameters. A part that is None has none: it is known, or has no proper prior.

    Attributes:
        initial: ``(R, K)`` concentrations.
        transition: ``(R, K, K)`` concentrations.
        emission: the family's parameters ``(R, G, ...)`` at the mean.
        strength: ``(R, G, Q)``: how many observations the emission's mean rests on.
    """

    initial: Tensor | None
    transition: Tensor | None
    emission: dict[str, Tensor] | None
    strength: Tensor | None


def prior(model: HMM) -> Belief:
    """What the model's priors say."""
    ones = model.log_initial.new_ones(model.num_restarts, 1, 1)
    stay = model.sticky * torch.eye(model.num_states, dtype=ones.dtype, device=ones.device)
    initial = ones[..., 0] * model.initial_concentration * model.initial_mask
    transition = ones * (model.transition_concentration + stay) * model.transition_mask
    return Belief(
        None if "initial" in model.fixed else initial,
        None if "transition" in model.fixed else transition,
        *_emission_belief(model),
    )


def _emission_belief(model: HMM) -> tuple[dict[str, Tensor], Tensor] | tuple[None, None]:
    """Mean and strength of the prior of the emissions, where they have a proper one."""
    bank, family = model.emission, emission_prior(model.emission)
    own = getattr(bank, "prior_rate", getattr(bank, "concentration", 0.0))  # of the prior that EM finds the mode of
    concentration = getattr(model, "emission_concentration", own)
    if family is None or "emission" in model.fixed or concentration == 0:
        return None, None
    raw = bank.neutral()
    if isinstance(bank, Poisson) and not hasattr(model, "emission_concentration"):
        raw = {"log_rate": torch.full_like(raw["log_rate"], bank.prior_shape / bank.prior_rate).log()}
    lead = (model.num_restarts, int(model.groups.max()) + 1)
    mean = {name: value.to(model.log_initial).expand(*lead, *value.shape) for name, value in raw.items()}
    return mean, model.log_initial.new_full((*lead, family.num_strengths), family.per_number * concentration)


def sample_sites(model: HMM, belief: Belief) -> Sites:
    """Sites in Pyro's words, within the plate ``restarts``: of the prior a model's, of any other belief a guide's."""
    sites = {}
    if belief.initial is not None:
        sites["initial"] = pyro.sample("initial", DirichletTable(belief.initial, model.initial_mask))
    if belief.transition is not None:
        sites["transition"] = pyro.sample("transition", DirichletTable(belief.transition, model.transition_mask))
    if belief.emission is not None and belief.strength is not None:
        family = emission_prior(model.emission)
        assert family is not None
        sites |= family.sample(belief.emission, belief.strength)
    return sites


def marginal_program(model: HMM, batch: Batch, num_sequences: int | None = None) -> Sites:
    r"""The model in Pyro, with its states summed out: parameters from their priors, and one factor for each sequence.

    .. math::
        \theta_r \sim p(\theta), \qquad \frac{N}{|B|} \sum_{i \in B} w_i \log p(x_i \mid \theta_r)

    Plates: ``restarts`` (dim -1), ``sequences`` (dim -2). States that the batch knows are taken into account.

    Args:
        model: any hidden Markov model with proper priors.
        batch: the sequences B.
        num_sequences: N, of the data that B was drawn from. Default: those of the batch.

    Returns:
        The sites.

    Raises:
        InputError: emissions without a proper prior.
    """
    belief = prior(model)
    check_proper(model, belief)
    restarts = pyro.plate("restarts", model.num_restarts, dim=-1)
    with restarts:
        sites = sample_sites(model, belief)
    with restarts, pyro.plate("sequences", num_sequences or len(batch.index), subsample=batch.index, dim=-2):
        pyro.factor("log_likelihood", log_likelihood(model, sites, batch).mT)
    return sites


def check_proper(model: HMM, belief: Belief) -> None:
    """Raise `InputError` unless every part that is not fixed has a prior that can be drawn from."""
    if belief.emission is None and "emission" not in model.fixed:
        raise InputError(
            f"the {type(model.emission).__name__} emissions of this model have no proper prior; build a BayesianHMM, "
            "whose emission_concentration gives them one (of Categorical, Bernoulli, Poisson or Gaussian diag or full)"
        )


def log_likelihood(model: HMM, sites: Sites, batch: Batch) -> Tensor:
    """``(R, N)``: ``w log p(x | sites)`` in nats, with the states that the batch knows; differentiable in the sites."""
    p = potentials(model, sites, batch)
    if batch.states is not None:
        p = model.pin(p, batch.states)[0]
    return chain.log_likelihood(p, batch.weights.to(p.initial.dtype))


def potentials(model: HMM, sites: Sites, batch: Batch) -> chain.Potentials:
    """What the engine computes with at these sites, whose leading axis takes the place of the restarts."""
    model.check_values(batch)
    initial, transition = sites.get("initial", model.initial), sites.get("transition", model.transition)
    raw = raw_parameters(model, sites)
    return chain.Potentials(
        initial=initial[:, None],
        transition=transition[:, None],
        log_emission=model._by_state(model.emission.log_table(batch, raw)),
        index=model.emission.index(batch),
        lengths=batch.lengths,
    )


def raw_parameters(model: HMM, sites: Sites) -> dict[str, Tensor]:
    """The parameters of the emissions at these sites; those of the model where there are none."""
    family = emission_prior(model.emission)
    known = family is None or not family.supports(1).keys() <= sites.keys()
    return model.emission.raw if known or family is None else family.raw(sites)


def own_sites(model: HMM) -> Sites:
    """The sites at the model's own parameters."""
    belief, family = prior(model), emission_prior(model.emission)
    chains = {"initial": model.initial, "transition": model.transition}
    sites = {name: value for name, value in chains.items() if name not in model.fixed}
    return sites if belief.emission is None or family is None else sites | family.sites(model.emission.raw)


def supports(model: HMM) -> dict[str, constraints.Constraint]:
    """Where the values of every site lie."""
    belief, family = prior(model), emission_prior(model.emission)
    chains = {"initial": TableSupport(model.initial_mask), "transition": TableSupport(model.transition_mask)}
    found: dict[str, constraints.Constraint] = {n: one for n, one in chains.items() if n not in model.fixed}
    return found if belief.emission is None or family is None else found | family.supports(int(model.groups.max()) + 1)


@torch.no_grad()
def hmm_from_sites(model: HMM, sites: Sites) -> HMM:
    """An `HMM` with one restart for each row of the sites, and the structure of `model`.

    Args:
        model: says masks, groups, the emission family, and what is known where there is no site.
        sites: values ``(R', ...)``, where R' is a multiple of the model's R: the draws of each restart in a row.
    """
    from probseq.models.hmm import HMM

    rows = len(next(iter(sites.values()))) if sites else model.num_restarts
    family = getattr(model, "_family", model.emission.config())
    if "variance_floor" in family:
        family = {**family, "variance_floor": model.emission.variance_floor}
    plain = {"initial_concentration": 1.0, "transition_concentration": 1.0, "sticky": 0.0, "start": "parameters"}
    config = {**HMM.config(model), **plain, "emission": family, "num_restarts": rows, "initialized": True}
    new = HMM.from_config(config).to(model.device)
    new.emission.load_state_dict(dict(model.emission.named_buffers()), strict=False)
    new.log_initial.copy_(_repeated(sites.get("initial", model.initial).log(), rows))
    new.log_transition.copy_(_repeated(sites.get("transition", model.transition).log(), rows))
    own = dict(new.emission.named_parameters())
    for name, value in raw_parameters(model, sites).items():
        own[name].copy_(_repeated(value, rows)[:, : own[name].shape[1]])  # what all states share is there once
    return new


def _repeated(value: Tensor, rows: int) -> Tensor:
    return value.repeat_interleave(rows // len(value), dim=0)
