"""`MarkovModel`: what every model with a hidden Markov chain can say about its states."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.base import Model
from probseq.ops import chain, paths
from probseq.types import TokenLogProb


class MarkovModel(Model):
    """A model whose hidden state is a Markov chain given what it conditions on.

    A subclass writes `potentials`; the likelihood, the beliefs and the paths follow, exactly. Whatever is said about
    states takes into account the states that the batch knows (``Sequences.states``); the likelihood does not.
    """

    num_states: int

    def potentials(self, batch: Batch) -> chain.Potentials:
        """What the engine computes with: probabilities of steps, and a table of log-potentials with an index."""
        raise NotImplementedError

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        return chain.token_log_prob(self.potentials(batch))

    @torch.no_grad()
    def viterbi(self, batch: Batch) -> Int[Tensor, "R N T"]:
        """The most probable path of states of each sequence; -1 at padding, and throughout if it is impossible."""
        return paths.viterbi(self.conditioned(batch))[0]

    @torch.no_grad()
    def k_best(self, batch: Batch, num_best: int) -> tuple[Int[Tensor, "R N B T"], Float[Tensor, "R N B"]]:
        """The `num_best` most probable paths of states, best first, and their ``log p(s, x)`` in nats.

        Where fewer are possible, the rest are -1 with -inf.
        """
        return paths.k_best(self.conditioned(batch), num_best)

    @torch.no_grad()
    def posterior_marginals(self, batch: Batch) -> Float[Tensor, "R N T K"]:
        """``p(s_t | x_1..x_T)`` for every t; 0 at padding, and throughout if the sequence is impossible."""
        return chain.posterior_marginals(self.conditioned(batch))

    @torch.no_grad()
    def filtered(self, batch: Batch) -> Float[Tensor, "R N T K"]:
        """``p(s_t | x_1..x_t)`` for every t; 0 at padding, and from an impossible observation on."""
        return chain.filtered(self.conditioned(batch))

    @torch.no_grad()
    def sample_path(self, batch: Batch, generator: torch.Generator | None = None) -> Int[Tensor, "R N T"]:
        """One draw of each path of states from ``p(s | x)``; -1 at padding, and throughout if x is impossible."""
        return paths.sample_paths(self.conditioned(batch), generator)

    @torch.no_grad()
    def path_entropy(self, batch: Batch) -> Float[Tensor, "R N"]:
        """Entropy of the path of states given the sequence, in nats: 0 where one is possible, -inf where none is."""
        return paths.path_entropy(self.conditioned(batch))

    def conditioned_log_prob(self, batch: Batch) -> TokenLogProb:
        """As `token_log_prob`, of the observations together with the states that are known."""
        return chain.token_log_prob(self.conditioned(batch))

    def conditioned(self, batch: Batch) -> chain.Potentials:
        """Potentials in which a known state leaves no other."""
        potentials = self.potentials(batch)
        return potentials if batch.states is None else self.pin(potentials, batch.states)[0]

    def check_known(self, state: int) -> None:
        """Raise `InputError` unless the model has a state with this number, the largest that data know of."""
        if state >= self.num_states:
            raise InputError(
                f"the data know of state {state}, and the model has {self.num_states} states; "
                f"expected 0 to {self.num_states - 1}, or -1 where a state is not known"
            )

    def pin(
        self, potentials: chain.Potentials, states: Int[Tensor, "N T"]
    ) -> tuple[chain.Potentials, Int[Tensor, "U"]]:
        """A table with a row for each pair of observation and known state, and the row that each one came from."""
        self.check_known(int(states.max()))
        code = potentials.index * (self.num_states + 1) + states + 1
        codes, index = torch.unique(code, return_inverse=True)
        rows, known = codes // (self.num_states + 1), codes % (self.num_states + 1) - 1
        other = (known[:, None] >= 0) & (known[:, None] != torch.arange(self.num_states, device=known.device))
        table = potentials.log_emission[:, rows].masked_fill(other, -torch.inf)
        return potentials._replace(log_emission=table, index=index), rows
