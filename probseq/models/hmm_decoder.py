"""`HMMDecoder`: what a decoder writes depends on hidden states that are drawn, and the likelihood sums over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.errors import InputError, unknown
from probseq.models.conditional import given_source
from probseq.models.encoder import Encoded, Encoder
from probseq.models.hmm_decoder_chains import ChainDecoder, DecoderChains
from probseq.models.hmm_decoder_past import Memory, Past
from probseq.models.hmm_decoder_states import (
    AlignmentStates,
    LatentStates,
    Reading,
    States,
    by_component,
    last_positions,
)
from probseq.models.jumps import Jumps
from probseq.models.network import check_sizes
from probseq.ops import chain_conditional, product_softmax
from probseq.ops.conditional_recursion import known

STATES = ("alignment", "latent")
_NUM_STATES, _JUMPS = 32, (-2, 3)


class BeliefState(NamedTuple):
    """What is known before the next symbol; every tensor has the sequences as its first axis.

    Attributes:
        encoded: the sources.
        reading: what the states make of them.
        memory: of what reads the past outputs.
        past: ``(N, 1, D)``, what the next step knows of the past outputs.
        log_weights: ``(N, M)``, ``log p(m | y_<t, x)``.
        log_belief: ``(N, M, K)``, ``log p(s_t | y_<t, x, m)``.
    """

    encoded: Encoded
    reading: Reading
    memory: Memory
    past: Float[Tensor, "N 1 D"]
    log_weights: Float[Tensor, "N M"]
    log_belief: Float[Tensor, "N M K"]


class HMMDecoder(ChainDecoder):
    r"""An encoder, and M hidden Markov chains that write; the likelihood is the exact sum over components and paths.

    .. math::
        p(y \mid x) = \sum_m \phi_m(h) \sum_{s_1, \ldots, s_T} \prod_t p(s_t \mid s_{t-1}, y_{<t}, h, m) \,
        p(y_t \mid s_t, y_{<t}, h, m)

    The states are

    - ``"alignment"``: the positions of the source (`AlignmentStates`), with a window of jumps (``order=1``; *monotone*:
      none leads back) or drawn anew at each step (``order=0``);
    - ``"latent"``: K abstract states (`LatentStates`), with initial, transition and emission probabilities that are
      functions of the source's summary h.

    What is written at a step depends on the state and on the past outputs (``emission``): not at all, by the previous
    symbol, or by a recurrent network that has read them all. So much of them the transitions of an alignment see, too;
    those of latent states see none. The sum stays exact, because past outputs are observed.
    Emissions are products of two factors, what the state says and what the past says (`probseq.ops.product_softmax`).
    What is carried from step to step is the belief over states.

    Args:
        num_source_symbols: how many symbols the source is of.
        num_symbols: V, how many the target is of.
        states: ``"alignment"`` or ``"latent"``.
        num_states: K, for latent states alone. Default: 32.
        num_components: M.
        order: 1, or 0 for states that do not depend on one another.
        monotone: for an alignment of order 1 that never goes back: jumps from 0 on at least.
        jumps: of an alignment of order 1, the smallest and the largest jump; 1 must be among them. A smallest jump of 1
            is strictly monotone: a target that is longer than its source is impossible. Default: (-2, 3).
        end: the number of the end symbol in the target; for strictly monotone alignments.
        emission: ``"state"``, ``"previous"`` or ``"recurrent"``: what emissions, and transitions between positions,
            know of the past outputs.
        cell: ``"lstm"`` or ``"gru"``.
        bidirectional: whether the source is read from both ends.
        hidden_dim: H, units of the encoder (both directions together) and of what reads the past outputs.
        embed_dim: the size of a symbol's code. Default: `hidden_dim`.
        num_layers: of the encoder.
        dropout: the share of units dropped, in training.

    Raises:
        InputError: a size below 1, a setting that is unknown or that states of this kind do not have, jumps without 1,
            a strictly monotone alignment without `end`.

    Reference:
        L. Yu, J. Buys, P. Blunsom (2016), "Online segment to segment neural transduction"; S. Wu, P. Shapiro,
        R. Cotterell (2018), "Hard non-monotonic attention for character-level transduction"; S. Wu, R. Cotterell
        (2019), "Exact hard monotonic attention for character-level transduction"; Y. Deng et al. (2018), "Latent
        alignment and variational attention".

    Example:
        >>> from probseq import Conditional, HMMDecoder, Sequences
        >>> model = Conditional.from_seed(lambda: HMMDecoder(5, 3, hidden_dim=8), seed=0)
        >>> data = Sequences.from_list([[0, 1, 2]], source=Sequences.from_list([[3, 0, 4]]))
        >>> model.nets[0].posterior_states(data.batch()).shape
        torch.Size([1, 3, 3])
    """

    def __init__(
        self,
        num_source_symbols: int,
        num_symbols: int,
        *,
        states: str = "alignment",
        num_states: int | None = None,
        num_components: int = 1,
        order: int = 1,
        monotone: bool = False,
        jumps: Sequence[int] | None = None,
        end: int | None = None,
        emission: str = "recurrent",
        cell: str = "lstm",
        bidirectional: bool = True,
        hidden_dim: int = 128,
        embed_dim: int | None = None,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_source_symbols, num_symbols, dropout)
        check_states(states, order, num_states=num_states, monotone=monotone, jumps=jumps)
        self.states, self.num_components, self.order = states, num_components, order
        self.are_positions = states == "alignment"
        self.num_states = _NUM_STATES if num_states is None else num_states
        check_sizes(num_states=self.num_states, num_components=num_components)
        self.monotone, self.jumps = monotone, Jumps.read(_JUMPS if jumps is None else jumps, monotone)
        self.emission_kind, self.cell, self.bidirectional = emission, cell, bidirectional
        self.hidden_dim, self.num_layers = hidden_dim, num_layers
        self.embed_dim = hidden_dim if embed_dim is None else embed_dim
        self.encoder = Encoder(num_source_symbols, self.embed_dim, hidden_dim, cell, bidirectional, num_layers, dropout)
        self.past = Past(emission, num_symbols, self.embed_dim, hidden_dim, cell, dropout)
        self.hidden = self._states()
        self.end = self.jumps.check_end(end, num_symbols) if self.hidden.only_end else end
        self.weigh = nn.Linear(hidden_dim, num_components) if num_components > 1 else None
        inputs = self.past.size + (0 if self.are_positions else hidden_dim)
        self.mix, self.drop = nn.Linear(inputs, hidden_dim), nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, num_components * num_symbols)

    def _states(self) -> States:
        if not self.are_positions:
            return LatentStates(self.num_states, self.num_components, self.num_symbols, self.hidden_dim, self.order)
        return AlignmentStates(
            self.num_components,
            self.num_symbols,
            self.hidden_dim,
            self.past.size,
            self.order,
            self.jumps,
            self.dropout,
        )

    def config(self) -> dict[str, Any]:
        names = ("states", "num_components", "order", "monotone", "end", "cell", "bidirectional")
        sizes = ("hidden_dim", "embed_dim", "num_layers")
        own = {name: getattr(self, name) for name in (*names, *sizes)}
        if not self.are_positions:
            own["num_states"] = self.num_states
        elif self.order:
            own["jumps"] = [self.jumps.lowest, self.jumps.highest]
        return {**super().config(), **own, "emission": self.emission_kind}

    # All at once

    def chains(self, batch: Batch) -> DecoderChains:
        """Weights, transitions and emissions, given the sources and the past outputs of a batch."""
        encoded = self.encoder(given_source(batch))
        inputs = torch.cat([self.begin(len(batch.values)), batch.values[:, :-1]], dim=1)
        past, _ = self.past(inputs, self.past.begin(encoded.summary))
        reading = self.hidden.read(encoded)
        log_emission = self._emission(encoded, reading, past, batch.values)
        return DecoderChains(self._log_weights(encoded), self.hidden.chain(encoded, reading, past), log_emission)

    def check_possible(self, batch: Batch) -> None:
        if self.hidden.only_end and batch.source is not None:
            self.jumps.check_possible(batch, batch.source)

    def _log_weights(self, encoded: Encoded) -> Float[Tensor, "M N"]:
        if self.weigh is None:
            return encoded.summary.new_zeros(1, len(encoded.summary))
        return torch.log_softmax(self.weigh(encoded.summary), dim=-1).T

    def _past_scores(self, encoded: Encoded, past: Float[Tensor, "N #T D"]) -> Float[Tensor, "M N #T V"]:
        """How much what was written before calls for each symbol, and with latent states the source."""
        if not self.are_positions:
            summary = encoded.summary[:, None].expand(-1, past.shape[1], -1)
            past = torch.cat([past, summary], dim=-1)
        scores: Tensor = self.head(self.drop(self.mix(past).tanh()))
        return by_component(scores, self.num_components)

    def _emission(
        self, encoded: Encoded, reading: Reading, past: Tensor, values: Int[Tensor, "N T"]
    ) -> Float[Tensor, "M N T K"]:
        scores = self.hidden.scores(reading)
        log_emission = product_softmax.log_prob(scores, self._past_scores(encoded, past), values)
        if self.hidden.only_end:
            certain = torch.zeros_like(log_emission[:1, ..., :1]).masked_fill(~self._ends(values)[..., None], -math.inf)
            log_emission = torch.where(last_positions(encoded.mask)[:, None], certain, log_emission)
        return log_emission

    def _ends(self, symbols: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        assert self.end is not None  # the constructor has seen to it
        return symbols == self.end

    # Step by step

    def initial_state(self, source: Batch) -> BeliefState:
        encoded = self.encoder(source)
        past, memory = self.past(self.begin(len(encoded.summary)), self.past.begin(encoded.summary))
        reading = self.hidden.read(encoded)
        belief = chain_conditional.predicted(self.hidden.chain(encoded, reading, past), None)
        return BeliefState(encoded, reading, memory, past, self._log_weights(encoded).T, belief.transpose(0, 1))

    def next_log_prob(self, state: BeliefState) -> Float[Tensor, "N V"]:
        encoded, belief = state.encoded, state.log_belief.transpose(0, 1)[:, :, None]  # (M, N, 1, K)
        if self.hidden.only_end:
            last = last_positions(encoded.mask)[:, None]
            ended = belief.masked_fill(~last, -math.inf).logsumexp(dim=-1)  # (M, N, 1)
            belief = belief.masked_fill(last, -math.inf)
        of_states, of_past = self.hidden.scores(state.reading), self._past_scores(encoded, state.past)
        scores = product_softmax.predictive(of_states, of_past, belief)
        if self.hidden.only_end:
            symbols = torch.arange(scores.shape[-1], device=scores.device)
            scores = torch.where(self._ends(symbols), scores.logaddexp(ended[..., None]), scores)
        return (state.log_weights.T[..., None] + scores[:, :, 0]).logsumexp(dim=0)

    def advance(self, state: BeliefState, values: Int[Tensor, "N"]) -> BeliefState:
        encoded, reading = state.encoded, state.reading
        log_emission = self._emission(encoded, reading, state.past, values[:, None])[:, :, 0]  # (M, N, K)
        joint = state.log_belief.transpose(0, 1) + log_emission
        term = joint.logsumexp(dim=-1)  # (M, N)
        past, memory = self.past(values[:, None], state.memory)
        belief = joint - known(term)[..., None]
        ahead = chain_conditional.predicted(self.hidden.chain(encoded, reading, past), belief)
        weights = state.log_weights + term.T
        weights = weights - known(weights.logsumexp(dim=-1, keepdim=True))
        return BeliefState(encoded, reading, memory, past, weights, ahead.transpose(0, 1))

    # The statement of the model

    def program(self, batch: Batch) -> None:
        """The generative program in Pyro, with every state explicit; see `probseq.models.hmm_decoder_program`."""
        from probseq.models.hmm_decoder_program import program

        program(self, batch)


def check_states(states: str, order: int, *, num_states: Any, monotone: bool, jumps: Any) -> None:
    """Raise `InputError` for states of an unknown kind, and for a setting that they do not have.

    Args:
        states, order: of which kind they are.
        num_states, monotone, jumps: as they were given; None or False where they were not.
    """
    if states not in STATES:
        raise unknown("states", states, STATES)
    if order not in (0, 1):
        raise InputError(f"order is {order}; expected 0 or 1")
    walks = states == "alignment" and order == 1
    for name, is_unused, owner in (
        ("num_states", num_states is not None and states != "latent", "states='latent'"),
        ("monotone", monotone and not walks, "states='alignment', order=1"),
        ("jumps", jumps is not None and not walks, "states='alignment', order=1"),
    ):
        if is_unused:
            raise InputError(f"{name} is a setting of {owner}, not of states={states!r}, order={order}; leave it out")
