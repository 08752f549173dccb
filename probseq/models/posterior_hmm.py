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
from probseq.errors import InputError, check_whole
from probseq.models.alignment import align
from probseq.models.base import Model, restart_seed
from probseq.models.draws import fixed_seed
from probseq.models.emissions import Categorical, Emission
from probseq.models.forecast import Forecast, forecast_of_draws
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
    likelihood depends on it, and everything that is said about states aligns the draws first, unless they are `named`.

    Args:
        draws: an HMM with R S restarts, all draws of restart 0 first.
        num_draws: S, the draws of one restart.
        num_chains: C, how many Markov chains the draws of one restart are, one after another. Default: 1.
        named: whether the data said which state is which; then no draw's states are given another order.

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

    def __init__(self, draws: HMM, num_draws: int, num_chains: int = 1, named: bool = False) -> None:
        super().__init__()
        if type(draws) is not HMM:
            raise InputError(f"draws are a {type(draws).__name__}; expected an HMM with one restart for each draw")
        num_draws, num_chains = check_whole("num_draws", num_draws), check_whole("num_chains", num_chains)
        if draws.num_restarts % num_draws or num_draws % num_chains:
            raise InputError(
                f"received {draws.num_restarts} draws in all, num_draws {num_draws} and num_chains {num_chains}; "
                "expected 1 or more of each, num_draws a divisor of all and num_chains a divisor of num_draws"
            )
        self.draws = draws.requires_grad_(False)  # draws are no parameters: nothing fits them
        self.num_draws, self.num_chains, self.named = num_draws, num_chains, named
        self._order: tuple[Any, Tensor] | None = None
        self.num_restarts = draws.num_restarts // num_draws

    def config(self) -> dict[str, Any]:
        sizes = {"num_draws": self.num_draws, "num_chains": self.num_chains}
        return {"draws": self.draws.config(), **sizes, "named": self.named}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PosteriorHMM:
        draws = HMM.from_config(config["draws"])
        return cls(draws, config["num_draws"], config["num_chains"], config.get("named", False))

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
        return self._with(self.draws.take(rows))

    def _with(self, draws: HMM) -> PosteriorHMM:
        new = PosteriorHMM(draws, self.num_draws, self.num_chains, self.named)
        new.vocabulary = self.vocabulary
        return new

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

    @torch.no_grad()
    def forecast(self, batch: Batch, num_steps: int, level: float = 0.9) -> Forecast:
        """What follows each sequence of vectors, see `HMM.forecast`: the mixture over draws and states.

        A draw counts as much as it makes the sequence probable among the draws.
        """
        return forecast_of_draws(self.draws, batch, num_steps, level, self._shares(batch))

    @torch.no_grad()
    def symbols_ahead(self, batch: Batch, num_steps: int) -> Float[Tensor, "R N H V"]:
        """The probability of every symbol, 1 to H steps after the end of each sequence, averaged over the draws."""
        ahead = self._of_restarts(self.draws.symbols_ahead(batch, num_steps))  # (R, S, N, H, V)
        return (ahead * self._shares(batch)[..., None, None]).sum(dim=1)

    def _shares(self, batch: Batch) -> Float[Tensor, "R S N"]:
        """The probability of each draw once a sequence was seen."""
        return self._of_restarts(self.draws.token_log_prob(batch).sum(dim=-1)).softmax(dim=1)

    def parameter_draws(self) -> dict[str, Float[Tensor, "R S ..."]]:
        """``initial``, ``transition`` and those of the emissions, by state, of every draw as it is labelled.

        What they are called is told by `probseq.models.parameter_names.parameters`.
        """
        return {name: self._of_restarts(value) for name, value in parameters(self.draws).items()}

    def mean_parameters(self) -> dict[str, Float[Tensor, "R ..."]]:
        """The mean of every parameter over the draws, once they are aligned."""
        return {name: value.mean(dim=1) for name, value in self.aligned().parameter_draws().items()}

    @torch.no_grad()
    def mean_model(self) -> HMM:
        """R restarts, each at the mean of its aligned draws: one model that stands for many. It is not their average.

        The likelihood of the mean is another than the mean of the likelihoods, which `token_log_prob` gives.
        """
        return _mean(self.aligned().draws, self.num_draws)

    @torch.no_grad()
    def aligned(self, reference: HMM | None = None) -> PosteriorHMM:
        """The same draws with their states in one order; no likelihood changes.

        Every draw is matched with a reference (see `probseq.align`), and then, again and again, with the mean of its
        restart's draws, until no state moves. Where the states are `named`, none moves.

        Args:
            reference: a model with one restart that says which state comes where. It is matched alone, without the
                means. Default: the first draw of restart 0.

        Raises:
            InputError: a reference with other states or observations, or several restarts.
        """
        if self.named:
            return self
        if reference is not None:
            return self._with(self.draws.permute(self._found_order(reference, 0)))
        # Some questions are asked batch by batch, and the order is most of their cost: it is kept for these draws.
        key = [(value.data_ptr(), value._version, value.device) for value in self.draws.parameters()]
        if self._order is None or self._order[0] != key:
            self._order = key, self._found_order(self.draws.select(0), _MAX_TURNS)
        return self._with(self.draws.permute(self._order[1]))

    def _found_order(self, first: HMM, max_turns: int) -> Int[Tensor, "Q K"]:
        """The order of the states of every draw: like those of a model, and then of the mean."""
        permutations = []
        for r in range(self.num_restarts):
            own = self.select(r).draws
            order = align(own, first)
            for _ in range(max_turns):
                moved = own.permute(order)
                more = align(moved, _mean(moved, self.num_draws))
                if torch.equal(more, torch.arange(self.num_states, device=more.device).expand_as(more)):
                    break
                order = order.gather(1, more)
            permutations.append(order)
        return torch.cat(permutations)

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

    check_whole("num_draws", num_draws)
    parts = []
    for r, number in enumerate(model.numbers):
        with fixed_seed(restart_seed(seed, number), model.device):
            parts.append(sample_sites(model, _of_draws(belief, r, num_draws)))
    sites = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    sites.setdefault("initial", model.initial.repeat_interleave(num_draws, 0))  # it may be fixed, as may all be
    return PosteriorHMM(hmm_from_sites(model, sites), num_draws)


def _of_draws(belief: Belief, restart: int, times: int) -> Belief:
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


def _mean(draws: HMM, num_draws: int) -> HMM:
    """One restart in the middle of so many: probabilities are averaged as such, other parameters as they are stored."""
    new = draws.take(range(0, draws.num_restarts, num_draws))
    for name, value in draws.named_parameters():
        table = name in ("log_initial", "log_transition") or isinstance(draws.emission, Categorical)
        own = value.reshape(-1, num_draws, *value.shape[1:])  # (R, S, ...)
        new.get_parameter(name).data.copy_(own.softmax(dim=-1).mean(1).log() if table else own.mean(1))
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
