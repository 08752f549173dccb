"""`VariationalHMM`: a hidden Markov model with a posterior over its parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.models.conjugate import posterior
from probseq.models.emissions import Emission
from probseq.models.hmm import HMM, Statistics
from probseq.models.posterior_hmm import PosteriorHMM, draw_posterior
from probseq.ops import chain
from probseq.ops.divergences import dirichlet_divergence, expected_log_probs

if TYPE_CHECKING:
    from probseq.models.hmm_priors import Belief

_START = 100.0  # observations behind each number at the start: the first E-step nearly takes the start for the truth


class VariationalHMM(HMM):
    r"""Hidden Markov model with a posterior over its parameters, fitted by variational Bayes with `probseq.em`.

    Initial probabilities, rows of transitions and emissions :math:`\theta` have conjugate priors. The posterior is
    approximated by :math:`q(\theta) \, q(s)`, parameters and states independent of one another, and the objective is
    the evidence lower bound

    .. math::
        \log Z(q) - \mathrm{KL}\left(q(\theta) \,\|\, p(\theta)\right) \le \log p(x), \qquad
        Z(q) = \sum_s \exp \mathrm{E}_q[\log p(s, x \mid \theta)].

    The sum is one pass of the engine with :math:`\exp \mathrm{E}_q[\log \theta]` in place of :math:`\theta`. With
    concentrations well below 1, a state that the data do not need is left with its prior alone. The bound has local
    optima in which two states share what one could do, and it is lower there: take the restart with the highest bound.

    All that a hidden Markov model has is there as well: `token_log_prob`, `viterbi`, `sample` and the rest are those of
    the HMM at the **mean of the posterior** (of a Gaussian: at the means of its mean and of its precision), so a score
    is the exact likelihood of that one model. It is not the predictive probability, which would average over q.

    Args:
        num_states: K, at most.
        emission: `Categorical`, `Bernoulli`, `Poisson`, or `Gaussian` with ``"diag"`` or ``"full"`` covariance, without
            a prior of its own.
        initial_concentration: of the Dirichlet prior on the initial probabilities; above 0.
        transition_concentration: of the Dirichlet prior on every row of the transition matrix; above 0.
        emission_concentration: the strength of the prior on an emission distribution, above 0; see
            `probseq.models.conjugate`.
        **options: as for `HMM`: ``num_restarts``, ``seed``, ``start``, ``sticky``, masks, ``fixed``,
            ``emission_groups``, ``dtype``. What is fixed is known: it has no posterior.

    Raises:
        InputError: a concentration of 0 or less, another family, options that `HMM` refuses.

    Reference:
        D. J. C. MacKay (1997), "Ensemble learning for hidden Markov models"; M. J. Beal (2003), "Variational algorithms
        for approximate Bayesian inference".

    Example:
        >>> from probseq import Sequences, VariationalHMM, em, emissions
        >>> data = Sequences.from_list([[0, 1, 0, 1, 0, 1], [1, 0, 1, 0]])
        >>> model = VariationalHMM(2, emissions.Categorical(2), num_restarts=3)
        >>> em(model, data).objective
        'evidence lower bound per token (nats)'
        >>> model.elbo(data).shape
        torch.Size([3])
    """

    objective = "evidence lower bound per token (nats)"

    def __init__(
        self,
        num_states: int,
        emission: Emission,
        initial_concentration: float = 1.0,
        transition_concentration: float = 1.0,
        emission_concentration: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(num_states, emission, **options)
        given = {
            "initial": initial_concentration,
            "transition": transition_concentration,
            "emission": emission_concentration,
        }
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise InputError(f"{name} concentration is {value}; expected more than 0")
        self.initial_concentration, self.transition_concentration = initial_concentration, transition_concentration
        self.emission_concentration = emission_concentration
        self._family = emission.config()
        self._posterior = posterior(self.emission, emission_concentration)
        groups, rows = int(self.groups.max()) + 1, self.log_initial.new_ones(self.num_restarts, num_states, 1)
        self.log_initial_strength = _strength(rows[:, 0], float(num_states))
        self.log_transition_strength = _strength(rows, float(num_states))
        per_number = self._posterior.prior_strength / emission_concentration
        shape = rows[:, :groups].expand(-1, -1, self._posterior.num_strengths)
        self.log_emission_strength = _strength(shape, per_number)

    @classmethod
    def from_parameters(cls, *_: Any, **__: Any) -> HMM:
        raise InputError("a VariationalHMM has a posterior and not parameters; build it and fit it with em")

    def config(self) -> dict[str, Any]:
        return {**super().config(), "emission": self._family, "emission_concentration": self.emission_concentration}

    @property
    def state_axes(self) -> dict[str, str]:
        strengths = {"log_initial_strength": "", "log_transition_strength": "K", "log_emission_strength": "G"}
        return {**super().state_axes, **strengths}

    @torch.no_grad()
    def elbo(self, data: Sequences, max_tokens: int = 2**16) -> Float[Tensor, "R"]:
        """``(R,)``: the evidence lower bound of these data, in nats; at most ``log p(data)``."""
        total = self.log_prior().double()
        for batch in data.batches(max_tokens, device=self.device):
            total = total + self.e_step(batch).log_likelihood @ batch.weights
        return total

    def posterior(self, num_draws: int = 100, seed: int = 0) -> PosteriorHMM:
        """Draws from the variational posterior of each restart, and the average of their likelihoods.

        Args:
            num_draws: S, the draws of each restart.
            seed: those of restart r depend on ``(seed, r)`` alone.

        Raises:
            InputError: fewer than one draw, or a negative seed.
        """
        return draw_posterior(self, self._belief(), num_draws, seed)

    def _belief(self) -> Belief:
        from probseq.models.hmm_priors import Belief

        chains = {"initial": self._initial_counts, "transition": self._transition_counts}
        known = "emission" in self.fixed
        return Belief(
            **{name: None if name in self.fixed else counts for name, counts in chains.items()},
            emission=None if known else self.emission.raw,
            strength=None if known else self.log_emission_strength.exp(),
        )

    # What EM needs

    @torch.no_grad()
    def e_step(self, batch: Batch) -> Statistics:
        """``log Z(q)`` of each sequence, and expected statistics under ``q(s)``, weighted."""
        return self._expect(self._expected_potentials(batch), batch)

    def _expected_potentials(self, batch: Batch) -> chain.Potentials:
        """``exp E log`` of every probability; their rows sum to less than 1."""
        potentials = self.potentials(batch)
        if "initial" not in self.fixed:
            potentials = potentials._replace(initial=expected_log_probs(self._initial_counts).exp()[:, None])
        if "transition" not in self.fixed:
            potentials = potentials._replace(transition=expected_log_probs(self._transition_counts).exp()[:, None])
        if "emission" not in self.fixed:
            table = self._posterior.log_table(self.log_emission_strength.exp(), batch)
            potentials = potentials._replace(log_emission=self._by_state(table))
        return potentials

    @property
    def _initial_counts(self) -> Float[Tensor, "R K"]:
        """Concentrations of the posterior."""
        return self.log_initial_strength.exp() * self.initial

    @property
    def _transition_counts(self) -> Float[Tensor, "R K K"]:
        return self.log_transition_strength.exp() * self.transition

    def _prior(self) -> tuple[Float[Tensor, "K"], Float[Tensor, "K K"]]:
        """Concentrations of the priors; 0 where a mask forbids."""
        like = self.log_initial
        stay = self.sticky * torch.eye(self.num_states, dtype=like.dtype, device=like.device)
        initial = self.initial_concentration * self.initial_mask.to(like.dtype)
        return initial, (self.transition_concentration + stay) * self.transition_mask

    @torch.no_grad()
    def m_step(self, statistics: Statistics) -> None:
        """Set every posterior that is not fixed to the best one given the expected statistics."""
        initial, transition = self._prior()
        if "initial" not in self.fixed:
            _set(self.log_initial, self.log_initial_strength, statistics.initial + initial)
        if "transition" not in self.fixed:
            _set(self.log_transition, self.log_transition_strength, statistics.transition + transition)
        if "emission" not in self.fixed:
            self._posterior.m_step(statistics.emission)
            self.log_emission_strength.copy_(self._posterior.strength(statistics.emission).log())

    @torch.no_grad()
    def log_prior(self) -> Float[Tensor, "R"]:
        """``-KL(q || prior)``: what the evidence lower bound has beside ``log Z(q)``."""
        initial, transition = self._prior()
        total = torch.zeros_like(self.log_initial[:, 0])
        if "initial" not in self.fixed:
            total -= dirichlet_divergence(self._initial_counts, initial.expand_as(self.log_initial))
        if "transition" not in self.fixed:
            total -= dirichlet_divergence(self._transition_counts, transition.expand_as(self.log_transition)).sum(-1)
        if "emission" not in self.fixed:
            total -= self._posterior.divergence(self.log_emission_strength.exp()).sum(-1)
        return total


def _strength(like: Tensor, size: float) -> nn.Parameter:
    """Strengths at the start, as logarithms. They belong to a posterior, and no gradient moves them."""
    return nn.Parameter((like * _START * size).log(), requires_grad=False)


def _set(log_mean: Tensor, log_strength: Tensor, counts: Tensor) -> None:
    """A Dirichlet with these concentrations, as its mean and their sum."""
    total = counts.sum(dim=-1, keepdim=True)
    log_mean.copy_((counts / total).log())
    log_strength.copy_(total.log())
