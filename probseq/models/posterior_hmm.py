"""`PosteriorHMM`: draws from a posterior over hidden Markov models, and the predictive distribution they make."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.alignment import align
from probseq.models.base import Model, restart_seed
from probseq.models.draws import fixed_seed
from probseq.models.emissions import Categorical, Emission
from probseq.models.hmm import HMM, one_step
from probseq.models.parameter_names import parameters
from probseq.ops.log_product import log_product
from probseq.types import TokenLogProb

if TYPE_CHECKING:
    from probseq.models.hmm_priors import Belief

_MAX_TURNS = 20
_CELLS = 2**24  # entries of the largest tensor of one pass over the draws


class PosteriorHMM(Model):
    r"""The posterior predictive distribution of a hidden Markov model: the average over S draws of its parameters.

    .. math::
        p(x) = \frac{1}{S} \sum_{s=1}^{S} p(x \mid \theta_s), \qquad \theta_s \sim p(\theta \mid \text{data})

    The average is taken for each sequence as a whole, so that ``log p(x)`` is the log-mean-exp of the S
    log-likelihoods, and the terms ``log p(x_t | x_<t)`` add up to it: what a sequence has shown so far makes some draws
    more probable than others. Every likelihood is exact for these S draws. Make one with ``posterior()`` of a fitted
    model, or with `probseq.nuts`.

    States have no names of their own: two draws may hold the same model with its states in another order. No
    likelihood depends on it, and everything that is said about states aligns the draws first.

    Args:
        draws: an HMM with R S restarts, all draws of restart 0 first.
        num_draws: S, the draws of one restart.
        num_chains: C, how many Markov chains the draws of one restart are, one after another. Default: 1.

    Raises:
        InputError: numbers that do not divide one another, or a model that is not a plain `HMM`.

    Example:
        >>> from probseq import HMM, PosteriorHMM, Sequences, emissions
        >>> draws = HMM(2, emissions.Categorical(3), num_restarts=20)
        >>> model = PosteriorHMM(draws, num_draws=10)
        >>> model.token_log_prob(Sequences.from_list([[0, 1, 2]]).batch()).shape
        torch.Size([2, 1, 3])
    """

    draws: HMM

    def __init__(self, draws: HMM, num_draws: int, num_chains: int = 1) -> None:
        super().__init__()
        if type(draws) is not HMM:
            raise InputError(f"draws are a {type(draws).__name__}; expected an HMM with one restart for each draw")
        if num_draws < 1 or draws.num_restarts % num_draws or num_chains < 1 or num_draws % num_chains:
            raise InputError(
                f"received {draws.num_restarts} draws in all, num_draws {num_draws} and num_chains {num_chains}; "
                "expected 1 or more of each, num_draws a divisor of all and num_chains a divisor of num_draws"
            )
        self.draws = draws.requires_grad_(False)  # draws are no parameters: nothing fits them
        self.num_draws, self.num_chains = num_draws, num_chains
        self.num_restarts = draws.num_restarts // num_draws

    def config(self) -> dict[str, Any]:
        return {"draws": self.draws.config(), "num_draws": self.num_draws, "num_chains": self.num_chains}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PosteriorHMM:
        return cls(HMM.from_config(config["draws"]), config["num_draws"], config["num_chains"])

    @property
    def num_states(self) -> int:
        """K."""
        return self.draws.num_states

    @property
    def num_parameters(self) -> int:
        """Free parameters of one draw."""
        return self.draws.num_parameters

    @property
    def emission(self) -> Emission:  # type: ignore[override]  # it is that of the draws
        """The emission distributions of all draws, ``(R S, K, ...)``."""
        return self.draws.emission

    def select(self, restart: int) -> PosteriorHMM:
        first = self.check_restart(restart) * self.num_draws
        rows = range(first, first + self.num_draws)
        return PosteriorHMM(self.draws.take(rows), self.num_draws, self.num_chains)

    # The likelihood

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_values(batch)
        return self._over_draws(batch, self._telescoped)

    def _telescoped(self, batch: Batch) -> TokenLogProb:
        """What each token adds to the log-mean-exp of the draws; nothing after an impossible one."""
        terms = self._of_restarts(self.draws.token_log_prob(batch))  # (R, S, N, T)
        total = terms.double().cumsum(dim=-1).logsumexp(dim=1)
        first = total[..., :1] - math.log(self.num_draws)
        later = torch.where(total[..., 1:] == -torch.inf, -torch.inf, total.diff(dim=-1))
        return torch.cat([first, later], dim=-1).to(terms.dtype)

    def initial_state(self, num_sequences: int) -> Float[Tensor, "R S N K"]:
        """The logarithm of the belief about draw and next state; -inf throughout after something impossible."""
        return self._of_restarts(self.draws.initial_state(num_sequences)) - math.log(self.num_draws)

    def next_log_prob(self, state: Float[Tensor, "R S N K"]) -> Float[Tensor, "R N V"]:
        if not isinstance(self.emission, Categorical):
            raise InputError("only a model of symbols has a probability for each next symbol; draw with draw_next")
        log_probs = self._of_restarts(self.emission.logits.log_softmax(dim=-1)[:, self.draws.groups])  # (R, S, K, V)
        return log_product(state.transpose(1, 2).flatten(2), log_probs.flatten(1, 2))

    def draw_next(
        self, state: Float[Tensor, "R S N K"], generator: torch.Generator | None = None
    ) -> Shaped[Tensor, "N *D"]:
        cells = state[0].transpose(0, 1).flatten(1).exp()  # (N, S K)
        if not cells.any(dim=-1).all():
            raise InputError("the prefix has probability 0 under this model; give another, or fit with a prior")
        drawn = torch.multinomial(cells, 1, generator=generator)[:, 0]
        rows, groups = drawn // self.num_states, self.draws.groups[drawn % self.num_states]
        return self.emission.draw({name: value[rows, groups] for name, value in self.emission.raw.items()}, generator)

    def advance(self, state: Float[Tensor, "R S N K"], values: Shaped[Tensor, "N *D"]) -> Float[Tensor, "R S N K"]:
        given = self.draws.potentials(one_step(values))
        joint = state + self._of_restarts(given.log_emission[:, given.index[:, 0]])
        total = joint.logsumexp(dim=(1, 3), keepdim=True)
        belief = joint - total.masked_fill(total == -torch.inf, 0.0)
        return log_product(belief, self._of_restarts(self.draws.transition.log()))

    # What the draws say about states

    @torch.no_grad()
    def posterior_marginals(self, batch: Batch) -> Float[Tensor, "R N T K"]:
        """``p(s_t | x)`` of the aligned draws, averaged; 0 at padding.

        All draws count alike, which is right for sequences that the posterior has seen.
        """
        draws = self.aligned().draws
        return self._over_draws(batch, lambda part: self._of_restarts(draws.posterior_marginals(part)).mean(dim=1))

    @torch.no_grad()
    def viterbi(self, batch: Batch) -> Int[Tensor, "R S N T"]:
        """The most probable path of states under each of the aligned draws; -1 at padding."""
        return self._of_restarts(self.aligned().draws.viterbi(batch))

    def parameter_draws(self) -> dict[str, Float[Tensor, "R S ..."]]:
        """``initial``, ``transition`` and those of the emissions, by state, of every draw as it is labelled.

        What they are called is told by `probseq.models.parameter_names.parameters`.
        """
        return {name: self._of_restarts(value) for name, value in parameters(self.draws).items()}

    def mean_parameters(self) -> dict[str, Float[Tensor, "R ..."]]:
        """The mean of every parameter over the draws, once they are aligned."""
        return {name: value.mean(dim=1) for name, value in self.aligned().parameter_draws().items()}

    @torch.no_grad()
    def aligned(self, reference: HMM | None = None) -> PosteriorHMM:
        """The same draws with their states in one order; no likelihood changes.

        Every draw is matched with a reference (see `probseq.align`), and then, again and again, with the mean of its
        restart's draws, until no state moves.

        Args:
            reference: a model with one restart that says which state comes where. It is matched alone, without the
                means. Default: the first draw of restart 0.

        Raises:
            InputError: a reference with other states or observations, or several restarts.
        """
        first = self.draws.select(0) if reference is None else reference
        permutations = []
        for r in range(self.num_restarts):
            own = self.select(r).draws
            order = align(own, first)
            for _ in range(0 if reference is not None else _MAX_TURNS):
                moved = own.permute(order)
                more = align(moved, _mean(moved))
                if torch.equal(more, torch.arange(self.num_states, device=more.device).expand_as(more)):
                    break
                order = order.gather(1, more)
            permutations.append(order)
        return PosteriorHMM(self.draws.permute(torch.cat(permutations)), self.num_draws, self.num_chains)

    # Draws and sequences, in parts

    def _of_restarts(self, of_draws: Shaped[Tensor, "Q ..."]) -> Shaped[Tensor, "R S ..."]:
        """A row for every draw, put where its restart is."""
        return of_draws.reshape(self.num_restarts, self.num_draws, *of_draws.shape[1:])

    def _over_draws(self, batch: Batch, compute: Callable[[Batch], Tensor]) -> Tensor:
        """`compute` of a few sequences at a time, so that memory is bounded; ``(R, N, ...)``."""
        num, length = batch.values.shape[:2]
        size = max(1, _CELLS // (self.draws.num_restarts * self.num_states * length))
        rows = torch.split(torch.arange(num, device=batch.lengths.device), size)
        return torch.cat([compute(_part(batch, part)) for part in rows], dim=1)


@torch.no_grad()
def draw_posterior(model: HMM, belief: Belief, num_draws: int, seed: int) -> PosteriorHMM:
    """Draws from a belief about the parameters of each restart of `model`; those of r depend on ``(seed, r)`` alone.

    Raises:
        InputError: fewer than one draw, or a negative seed.
    """
    from probseq.models.hmm_priors import hmm_from_sites, sample_sites

    if num_draws < 1:
        raise InputError(f"num_draws is {num_draws}; expected 1 or more")
    parts = []
    for r, number in enumerate(model.numbers):
        with fixed_seed(restart_seed(seed, number), model.device):
            parts.append(sample_sites(model, _repeated(belief, r, num_draws)))
    sites = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    sites.setdefault("initial", model.initial.repeat_interleave(num_draws, 0))  # it may be fixed, as may all be
    return PosteriorHMM(hmm_from_sites(model, sites), num_draws)


def _repeated(belief: Belief, restart: int, times: int) -> Belief:
    """What is believed of one restart, as of so many."""

    def rows(value: Tensor | None) -> Any:
        return None if value is None else value[[restart] * times]

    emission = None if belief.emission is None else {name: rows(value) for name, value in belief.emission.items()}
    return belief._replace(
        initial=rows(belief.initial),
        transition=rows(belief.transition),
        emission=emission,
        strength=rows(belief.strength),
    )


def _mean(draws: HMM) -> HMM:
    """One restart in the middle of all: probabilities are averaged as such, other parameters as they are stored."""
    new = draws.select(0)
    for name, value in draws.named_parameters():
        table = name in ("log_initial", "log_transition") or isinstance(draws.emission, Categorical)
        mean = value.softmax(dim=-1).mean(0).log() if table else value.mean(0)
        new.get_parameter(name).data.copy_(mean[None])
    return new


def _part(batch: Batch, rows: Int[Tensor, "N"]) -> Batch:
    """These sequences alone, padded as before."""
    return replace(
        batch,
        values=batch.values[rows],
        lengths=batch.lengths[rows],
        weights=batch.weights[rows],
        index=batch.index[rows],
        states=None if batch.states is None else batch.states[rows],
    )
