"""`AlignmentChain`: the likelihood of targets given sources, where hidden positions follow tables of jumps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.errors import InputError, check_whole
from probseq.models.emissions import Categorical
from probseq.models.given import ConditionalModel, given_source, take_rows
from probseq.models.jumps import Jumps
from probseq.ops import chain_conditional, paths_conditional
from probseq.ops.chain_conditional import JumpWindow, Memoryless
from probseq.ops.cut_table import cut_log_probs
from probseq.ops.log_product import log_product
from probseq.types import TokenLogProb

_MAX_NUMBERS = 2**19  # in one table of the engine, so that it stays near the processor


class Alignment(NamedTuple):
    """What the engine computes with: R chains of positions, and ``log p(y_t | x_k)`` of every token and position."""

    chain: JumpWindow | Memoryless
    log_emission: Float[Tensor, "R N T S"]


class AlignmentState(NamedTuple):
    """What is known of N targets: the logarithm of the belief about the next position, the source, and the time."""

    log_belief: Float[Tensor, "N R S"]
    source: Int[Tensor, "N S"]
    lengths: Int[Tensor, "N"]
    time: Int[Tensor, "N"]


class AlignmentChain(ConditionalModel):
    """What an alignment model of tables can say, all at once and step by step.

    Attributes:
        order: 1, a position is a jump from the one before, or 0, one from the diagonal.
        jumps: which there are.
        end: the id of the end symbol, where every step moves on.
        log_start: ``(R, B)``, logarithms of the weights of first positions.
        log_jumps: ``(R, W)``, those of jumps.
        allowed_start, allowed: which of them are within reach.
    """

    order: int
    jumps: Jumps
    end: int | None
    emission: Categorical
    log_start: nn.Parameter
    log_jumps: nn.Parameter
    allowed_start: Tensor
    allowed: Tensor

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        return self._log_prob(batch, self.alignment)

    def conditioned_log_prob(self, batch: Batch) -> TokenLogProb:
        """As `token_log_prob`, of the targets together with the positions that are known.

        Raises:
            InputError: what `conditioned` refuses.
        """
        return self._log_prob(batch, self.conditioned)

    def _log_prob(self, batch: Batch, alignment: Callable[[Batch], Alignment]) -> TokenLogProb:
        steps, terms = batch.values.shape[1], []
        for part in self.parts(batch):
            known = chain_conditional.token_log_prob(*alignment(part), part.lengths)
            terms.append(F.pad(known, (0, steps - known.shape[-1])))
        return torch.cat(terms, dim=1)

    def alignment(self, batch: Batch) -> Alignment:
        """The chains and the emissions of a batch whose values have been checked."""
        source = given_source(batch)
        return Alignment(self._chain(source.values, source.lengths, batch.values.shape[1]), self._log_emission(batch))

    def conditioned(self, batch: Batch) -> Alignment:
        """Those in which a known position leaves no other.

        Raises:
            InputError: values that cannot be scored, a known position beyond the source.
        """
        self.check_values(batch)
        alignment = self.alignment(batch)
        if batch.states is None:
            return alignment
        source = given_source(batch)
        if (beyond := (batch.states >= source.lengths[:, None]).any(dim=-1)).any():
            row = int(beyond.nonzero()[0])
            raise InputError(
                f"the data know of position {int(batch.states[row].max())} of a source of {int(source.lengths[row])} "
                "symbols; expected one of its positions, from 0 on, or -1 where it is not known"
            )
        known = batch.states[..., None]
        other = (known >= 0) & (known != torch.arange(source.values.shape[1], device=known.device))
        return alignment._replace(log_emission=alignment.log_emission.masked_fill(other, -torch.inf))

    def check_possible(self, batch: Batch) -> None:
        self.jumps.check_possible(batch, given_source(batch))

    def _chain(self, source: Int[Tensor, "N S"], lengths: Int[Tensor, "N"], steps: int) -> JumpWindow | Memoryless:
        position = torch.arange(source.shape[1], device=source.device)
        start, beyond = self._log_start(lengths, len(position)), position >= lengths[:, None]
        if self.order == 0:
            prior = [
                start[:, :, None],
                self._log_prior(torch.arange(1, steps, device=source.device), lengths, position),
            ]
            return Memoryless(torch.cat(prior, dim=2))
        drive = torch.zeros_like(start).masked_fill(beyond, -torch.inf)[:, :, None]
        return JumpWindow(start, self._log_jumps(lengths, position[None]), min(self.jumps.lowest, 0), drive)

    def _log_start(self, lengths: Int[Tensor, "N"], width: int) -> Float[Tensor, "R N S"]:
        """``log p(s_1)`` in sources of these lengths, in the first `width` positions."""
        reach = self.jumps.highest
        rows = cut_log_probs(self.log_start, self.allowed_start)[:, lengths.clamp(max=reach) - 1]
        return F.pad(rows[..., :width], (0, max(0, width - reach)), value=-torch.inf)

    def _log_jumps(self, lengths: Int[Tensor, "N"], positions: Int[Tensor, "#N P"]) -> Float[Tensor, "R N P W"]:
        """Log-probabilities of all jumps from these positions; where every step moves on, with that of staying.

        Only the last position is stayed at, where nothing but the end symbol is left to emit.
        """
        table = cut_log_probs(self.log_jumps, self.allowed)
        if self.jumps.is_strict:
            stay = torch.zeros_like(table[..., :1]).masked_fill(self.allowed.any(dim=-1, keepdim=True), -torch.inf)
            table = torch.cat([stay, table], dim=-1)
        return table[:, self.jumps.sets(lengths, positions)]

    def _log_prior(
        self, times: Int[Tensor, "T"], lengths: Int[Tensor, "N"], position: Int[Tensor, "S"]
    ) -> Float[Tensor, "R N T S"]:
        """Of order 0: ``log p(s_t)`` at these times, none of them the first."""
        places = diagonal(times, lengths)
        rows = self._log_jumps(lengths, places)  # (R, N, T, W)
        number = position - places[..., None] - min(self.jumps.lowest, 0)
        inside = (number >= 0) & (number < rows.shape[-1])
        chosen = rows.gather(-1, number.clamp(0, rows.shape[-1] - 1).expand(len(rows), -1, -1, -1))
        return chosen.masked_fill(~inside, -torch.inf)

    def _log_emission(self, batch: Batch) -> Float[Tensor, "R N T S"]:
        """``log p(y_t | x_k)`` of every token and position; 0 where y_t is missing, -inf beyond the source."""
        source, values = given_source(batch), batch.values
        cell = self.rows_of(source.values, source.lengths)[:, None] * self.num_symbols + values.clamp(min=0)[..., None]
        chosen = F.embedding(cell, self._log_table().flatten(1).T).movedim(-1, 0)
        return chosen.masked_fill(values[..., None] < 0, 0.0).masked_fill(~source.mask[:, None], -torch.inf)

    def _log_table(self) -> Float[Tensor, "R X V"]:
        """``log p(y | x)``; where every step moves on, with a last row that is the end symbol's alone."""
        table = self.emission.logits.log_softmax(dim=-1)
        if not self.jumps.is_strict:
            return table
        only_end = torch.full_like(table[:, :1], -torch.inf)
        only_end[..., self.end] = 0.0
        return torch.cat([table, only_end], dim=1)

    def rows_of(self, source: Int[Tensor, "N S"], lengths: Int[Tensor, "N"]) -> Int[Tensor, "N S"]:
        """The row of the emission table that each position uses."""
        last = torch.arange(source.shape[1], device=source.device) == lengths[:, None] - 1
        return torch.where(last, self.num_source_symbols, source) if self.jumps.is_strict else source

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """Parts of the batch of which the tables are small, without the padding that a part has no use for.

        Raises:
            InputError: values that cannot be scored.
        """
        self.check_values(batch)
        (num, steps), width = batch.values.shape, given_source(batch).values.shape[1]
        size = max(1, _MAX_NUMBERS // (self.num_restarts * width * max(self.jumps.size, steps)))
        for begin in range(0, num, size):
            yield batch.take(slice(begin, begin + size))

    # Step by step

    def state_given(self, source: Batch) -> AlignmentState:
        begin = self._log_start(source.lengths, source.values.shape[1]).transpose(0, 1)
        return AlignmentState(begin, source.values, source.lengths, torch.zeros_like(source.lengths))

    def next_log_prob(self, state: AlignmentState) -> Float[Tensor, "R N V"]:
        rows = self._log_table()[:, self.rows_of(state.source, state.lengths)]  # (R, N, S, V)
        return log_product(state.log_belief.transpose(0, 1)[:, :, None], rows)[:, :, 0]

    def advance(self, state: AlignmentState, values: Int[Tensor, "N"]) -> AlignmentState:
        cell = self.rows_of(state.source, state.lengths) * self.num_symbols + values[:, None]
        joint = state.log_belief.transpose(0, 1) + self._log_table().flatten(1)[:, cell]
        if self.order == 1:
            total = joint.logsumexp(dim=-1, keepdim=True)
            belief = joint - total.masked_fill(total == -torch.inf, 0.0)
            ahead = chain_conditional.predicted(self._chain(state.source, state.lengths, 1), belief)
        else:
            position = torch.arange(state.source.shape[1], device=values.device)
            ahead = self._log_prior(state.time[:1] + 1, state.lengths, position)[:, :, 0]
        return state._replace(log_belief=ahead.transpose(0, 1), time=state.time + 1)

    def take_rows(self, state: AlignmentState, rows: Int[Tensor, "M"]) -> AlignmentState:
        taken: AlignmentState = take_rows(state, rows)
        return taken

    # Positions

    def posterior_states(self, batch: Batch) -> Float[Tensor, "R N T S"]:
        """``p(s_t | y, x)``, 0 at padding of target and source, and throughout where y is impossible."""
        with torch.no_grad():
            chain, log_emission = self.conditioned(batch)
        with torch.enable_grad():
            terms = chain_conditional.token_log_prob(chain, log_emission.requires_grad_(), batch.lengths)
            total = terms.sum(dim=-1)
            return torch.autograd.grad(total.where(total != -torch.inf, 0.0).sum(), log_emission)[0]

    @torch.no_grad()
    def viterbi(self, batch: Batch) -> tuple[Int[Tensor, "R N T"], Float[Tensor, "R N"]]:
        """The most probable path of each pair, -1 at padding and where y is impossible, and ``log p(s, y | x)``."""
        return paths_conditional.viterbi(*self.conditioned(batch), batch.lengths)

    @torch.no_grad()
    def sample_paths(
        self, batch: Batch, num_draws: int, generator: torch.Generator | None = None
    ) -> Int[Tensor, "draws R N T"]:
        """Draws of each path from ``p(s | y, x)``; -1 at padding and where y is impossible.

        Raises:
            InputError: no draws.
        """
        check_whole("num_draws", num_draws)
        paths = paths_conditional.sample_paths(*self.conditioned(batch), batch.lengths, num_draws, generator)
        return paths.permute(2, 0, 1, 3)


def diagonal(times: Int[Tensor, "T"], lengths: Int[Tensor, "N"]) -> Int[Tensor, "N T"]:
    """Of order 0: from where the position at these times, counted from 0, is a jump."""
    return (times - 1).minimum(lengths[:, None] - 1)
