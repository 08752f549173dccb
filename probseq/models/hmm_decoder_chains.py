"""What any decoder of hidden chains can say of a pair: its likelihood, and which components and states were at work."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.models.base import evaluation_mode
from probseq.models.conditional import ConditionalNetwork
from probseq.models.network import check_sizes
from probseq.ops import chain_conditional, paths_conditional
from probseq.ops.chain_conditional import Chain
from probseq.ops.conditional_recursion import known, log_sum


class DecoderChains(NamedTuple):
    """What the sum over components and paths is made of.

    Attributes:
        log_weights: ``(M, N)``, the logarithms of the weights of the components.
        chain: initial probabilities and transitions, M chains side by side.
        log_emission: ``(M, N, T, K)``, ``log p(y_t | s_t, y_<t, x, m)``.
    """

    log_weights: Float[Tensor, "M N"]
    chain: Chain
    log_emission: Float[Tensor, "M N T K"]


class ChainDecoder(ConditionalNetwork):
    """A network that makes M hidden chains of a pair, and sums over component and path.

    A subclass writes `chains`, and the steps of a `ConditionalNetwork`.

    Attributes:
        num_components: M.
        num_states: K of latent states.
        are_positions: whether the states are positions of the source, the same ones in every component.
    """

    num_components: int
    num_states: int
    are_positions: bool

    def chains(self, batch: Batch) -> DecoderChains:
        """Weights, transitions and emissions, given the sources and the past outputs of a batch."""
        raise NotImplementedError

    def token_log_prob(self, batch: Batch) -> Float[Tensor, "N T"]:
        log_weights, chain, log_emission = self.chains(batch)
        terms = chain_conditional.token_log_prob(chain, log_emission, batch.lengths)
        return chain_conditional.mixture(log_weights, terms).masked_fill(~batch.mask, 0.0)

    def posterior_states(self, batch: Batch) -> Float[Tensor, "N T K"]:
        """``p(s_t | y, x)``, 0 at padding of target and source, and throughout where y is impossible.

        The states of M latent components are not the same, and follow one another: ``(N, T, M K)``, numbered
        ``m K + k``. Positions are the same, and the components are summed over: ``(N, T, S)``.
        """
        with evaluation_mode(self), torch.enable_grad():
            parts = self._detached(batch)
            parts.log_emission.requires_grad_()
            total = log_sum(self._log_joint(*parts, batch), dim=0)
            (found,) = torch.autograd.grad(total.sum(), parts.log_emission)
        return found.sum(dim=0) if self.are_positions else found.permute(1, 2, 0, 3).flatten(2)

    @torch.no_grad()
    def posterior_components(self, batch: Batch) -> Float[Tensor, "N M"]:
        """``p(m | y, x)``, 0 throughout where y is impossible."""
        with evaluation_mode(self):
            parts = self._detached(batch)
        return self._posterior_components(parts, batch).to(parts.log_weights)

    @torch.no_grad()
    def viterbi(self, batch: Batch) -> tuple[Int[Tensor, "N T"], Float[Tensor, "N"]]:
        """The most probable component and path of each pair, and ``log p(m, s, y | x)`` in nats.

        Returns:
            States, numbered as in `posterior_states`, -1 at padding and where y is impossible; log-probabilities.
        """
        with evaluation_mode(self):
            log_weights, chain, log_emission = self._detached(batch)
        paths, log_prob = paths_conditional.viterbi(chain, log_emission, batch.lengths)
        best, component = (log_weights + log_prob).max(dim=0)
        return self._numbered(paths, component), best

    @torch.no_grad()
    def sample_paths(
        self, batch: Batch, num_draws: int, generator: torch.Generator | None = None
    ) -> Int[Tensor, "draws N T"]:
        """Draws of component and path from ``p(m, s | y, x)``, numbered as in `posterior_states`; -1 at padding.

        Raises:
            InputError: no draws.
        """
        check_sizes(num_draws=num_draws)
        with evaluation_mode(self):
            parts = self._detached(batch)
        posterior = self._posterior_components(parts, batch)
        weights = posterior.masked_fill((posterior == 0).all(dim=-1, keepdim=True), 1.0)
        components = torch.multinomial(weights, num_draws, replacement=True, generator=generator).T  # (draws, N)
        paths = paths_conditional.sample_paths(parts.chain, parts.log_emission, batch.lengths, num_draws, generator)
        return torch.stack([self._numbered(paths[:, :, d], component) for d, component in enumerate(components)])

    def _detached(self, batch: Batch) -> DecoderChains:
        with torch.no_grad():
            return self.chains(batch)

    def _log_joint(self, log_weights: Tensor, chain: Chain, log_emission: Tensor, batch: Batch) -> Float[Tensor, "M N"]:
        """``log p(m, y | x)``; the sum over a long target would lose digits in single precision."""
        terms = chain_conditional.token_log_prob(chain, log_emission, batch.lengths)
        return log_weights.double() + terms.double().sum(dim=-1)

    def _posterior_components(self, parts: DecoderChains, batch: Batch) -> Float[Tensor, "N M"]:
        joint = self._log_joint(*parts, batch)
        return (joint - known(log_sum(joint, dim=0))).exp().T

    def _numbered(self, paths: Int[Tensor, "M N T"], component: Int[Tensor, "N"]) -> Int[Tensor, "N T"]:
        """The path of that component for each pair, its states numbered as in `posterior_states`."""
        chosen = paths[component, torch.arange(len(component), device=component.device)]
        if self.are_positions:
            return chosen
        return torch.where(chosen >= 0, chosen + self.num_states * component[:, None], chosen)
