"""The alignment model as a generative program in Pyro, with every position explicit: what the engine computes, stated.

Summing out the positions (``TraceEnum_ELBO``) gives the same likelihood as ``AlignmentHMM.token_log_prob``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro.ops.indexing import Vindex
from torch import Tensor

from probseq.data.batch import Batch
from probseq.models.given import given_source

if TYPE_CHECKING:
    from probseq.models.alignment_hmm import AlignmentHMM


def program(model: AlignmentHMM, batch: Batch) -> None:
    """Sites: the tables ``start``, ``jumps`` and ``probs`` with Dirichlet priors; ``state_t`` and ``value_t``.

    Weights of the batch and known positions are not part of it.
    """
    model.check_values(batch)
    source, device = given_source(batch), model.device
    restarts = pyro.plate("restarts", model.num_restarts, dim=-1)
    with restarts:
        start = pyro.sample("start", _prior(model.log_start[0], model.concentration))
        jumps = pyro.sample("jumps", _prior(model.log_jumps[0], model.concentration))
        table = pyro.sample("probs", _prior(model.emission.logits[0], model.concentration))
    steps = _steps(jumps, model.jumps.lowest, source.lengths, source.values.shape[1])  # (N, R, S, S)
    row, column = torch.arange(len(batch.lengths), device=device)[:, None], torch.arange(len(start), device=device)
    probs, lengths, only_end = _first(start, source), batch.lengths[:, None], model.jumps.is_strict
    with restarts, pyro.plate("sequences", len(batch.lengths), dim=-2):
        for t in pyro.markov(range(batch.values.shape[1])):
            values = batch.values[:, t, None]
            with pyro.poutine.mask(mask=t < lengths):
                state = pyro.sample(f"state_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                symbols = Vindex(table)[column, Vindex(source.values)[row, state]]
                if only_end:
                    last = (state == source.lengths[:, None] - 1)[..., None]
                    symbols = torch.where(last, torch.eye(model.num_symbols).to(table)[model.end], symbols)
                with pyro.poutine.mask(mask=values >= 0):
                    pyro.sample(f"value_{t}", dist.Categorical(symbols), obs=values.clamp(min=0))
                before = state if model.order == 1 else (source.lengths[:, None] - 1).clamp(max=t)
                probs = Vindex(steps)[row, column, before]


def _prior(like: Float[Tensor, "*B K"], concentration: float) -> dist.Distribution:
    return dist.Dirichlet(torch.full_like(like, concentration)).to_event(like.ndim - 1)


def _first(start: Float[Tensor, "R B"], source: Batch) -> Float[Tensor, "N R S"]:
    """``p(s_1)``: the table as far as it reaches into each source."""
    width = source.values.shape[1]
    weights = torch.nn.functional.pad(start, (0, max(0, width - start.shape[1])))[:, :width] * source.mask[:, None]
    return weights / weights.sum(dim=-1, keepdim=True)


def _steps(jumps: Float[Tensor, "R W"], lowest: int, lengths: Int[Tensor, "N"], width: int) -> Float[Tensor, "N R S S"]:
    """``p(k | j)``: the weight of the jump, among those that stay inside; even rows where there is none."""
    position = torch.arange(width, device=jumps.device)
    number = position - position[:, None] - lowest
    weights = jumps[:, number.clamp(0, jumps.shape[1] - 1)] * ((number >= 0) & (number < jumps.shape[1]))
    inside = weights * (position < lengths[:, None, None, None])
    total = inside.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, inside / total.where(total > 0, 1.0), 1 / width)
