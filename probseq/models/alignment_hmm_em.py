"""EM for `probseq.AlignmentHMM`: expected counts, and the tables that raise their probability."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.models.alignment_chain import diagonal
from probseq.models.given import given_source
from probseq.ops import chain_conditional
from probseq.ops.chain_conditional import JumpWindow
from probseq.ops.cut_table import fit_cut_table

if TYPE_CHECKING:
    from probseq.models.alignment_hmm import AlignmentHMM


class Statistics(NamedTuple):
    """What the E-step finds, summed over the (weighted) sequences of a batch; batches add up.

    Attributes:
        log_likelihood: of every sequence, in nats.
        start: of first positions, by how many are within reach.
        jumps: of jumps, by the set of those within reach.
        emission: of target symbols, by source symbol.
    """

    log_likelihood: Float[Tensor, "R N"]
    start: Float[Tensor, "R B B"]
    jumps: Float[Tensor, "R C W"]
    emission: Float[Tensor, "R X V"]


@torch.no_grad()
def expect(model: AlignmentHMM, batch: Batch) -> Statistics:
    r"""The E-step: expected counts are gradients of the log-likelihood with respect to log-probabilities.

    The engine normalizes jumps, so their gradient is :math:`n_{jd} - n_j p(d \mid j)`, and what it lacks of the counts
    follows from how often each position is left.
    """
    model.check_possible(batch)
    chain, log_emission = model.conditioned(batch)
    parts = [log_emission, chain.log_jump] if isinstance(chain, JumpWindow) else [log_emission]
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_() for part in parts]
        if isinstance(chain, JumpWindow):
            chain = replace(chain, log_jump=leaves[1])
        log_likelihood = chain_conditional.token_log_prob(chain, leaves[0], batch.lengths).sum(dim=-1)
        possible = log_likelihood.where(log_likelihood > -torch.inf, 0.0)
        visits, *rest = torch.autograd.grad((possible @ batch.weights.to(possible)).sum(), leaves)
    visits = visits.clamp(min=0.0)  # (R, N, T, S); counts are differences and may come out below zero by rounding
    if rest:
        left = visits.masked_fill((_steps(batch) == batch.lengths[:, None] - 1)[..., None], 0.0).sum(dim=2)
        jumps, places = rest[0] + left[..., None] * leaves[1].detach().exp(), _positions(log_emission)[None]
    else:
        places = diagonal(_steps(batch)[1:], given_source(batch).lengths)
        jumps = _from(visits[:, :, 1:], places, model.jumps.lowest, model.jumps.size)
    return Statistics(
        log_likelihood.detach(),
        _start(visits[:, :, 0], given_source(batch).lengths, model.jumps.highest),
        _by_set(model, jumps.clamp(min=0.0)[..., -model.jumps.size :], given_source(batch).lengths, places),
        _emission(model, visits, batch),
    )


def _steps(batch: Batch) -> Int[Tensor, "T"]:
    return torch.arange(batch.values.shape[1], device=batch.values.device)


def _positions(log_emission: Float[Tensor, "R N T S"]) -> Int[Tensor, "S"]:
    return torch.arange(log_emission.shape[-1], device=log_emission.device)


def _from(
    visits: Float[Tensor, "R N T S"], places: Int[Tensor, "N T"], lowest: int, size: int
) -> Float[Tensor, "R N T W"]:
    """Visits as jumps from these places."""
    target = places[..., None] + torch.arange(lowest, lowest + size, device=places.device)
    outside = (target < 0) | (target >= visits.shape[-1])
    rows = visits.gather(-1, target.clamp(0, visits.shape[-1] - 1).expand(len(visits), -1, -1, -1))
    return rows.masked_fill(outside, 0.0)


def _by_set(
    model: AlignmentHMM, jumps: Float[Tensor, "R N P W"], lengths: Int[Tensor, "N"], places: Int[Tensor, "#N P"]
) -> Float[Tensor, "R C W"]:
    """Counts of jumps from these places, by the set that each place has."""
    total = jumps.new_zeros(len(jumps), len(model.allowed), jumps.shape[-1])
    return total.index_add_(1, model.jumps.sets(lengths, places).flatten(), jumps.flatten(1, 2))


def _start(counts: Float[Tensor, "R N S"], lengths: Int[Tensor, "N"], reach: int) -> Float[Tensor, "R B B"]:
    rows = F.pad(counts[..., :reach], (0, max(0, reach - counts.shape[-1])))
    return counts.new_zeros(len(counts), reach, reach).index_add_(1, lengths.clamp(max=reach) - 1, rows)


def _emission(model: AlignmentHMM, counts: Float[Tensor, "R N T S"], batch: Batch) -> Float[Tensor, "R X V"]:
    source, size = given_source(batch), model.num_symbols
    cell = model.rows_of(source.values, source.lengths)[:, None] * size + batch.values.clamp(min=0)[..., None]
    total = counts.new_zeros(len(counts), (model.num_source_symbols + 1) * size)
    total.index_add_(1, cell.flatten(), (counts * (batch.values >= 0)[..., None]).flatten(1))
    return total.view(len(counts), -1, size)[:, :-1]


@torch.no_grad()
def maximize(model: AlignmentHMM, statistics: Statistics) -> None:
    """The M-step: in closed form but for the tables of which the ends of a source cut some entries off."""
    excess = model.concentration - 1
    model.log_start.copy_(fit_cut_table(statistics.start, model.log_start, model.allowed_start, excess))
    model.log_jumps.copy_(fit_cut_table(statistics.jumps, model.log_jumps, model.allowed, excess))
    model.emission.m_step(statistics.emission)
