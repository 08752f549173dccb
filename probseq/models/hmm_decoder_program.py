"""The HMM decoder as a program in Pyro, with component and states explicit: what the engine computes, stated.

Summing them out (``TraceEnum_ELBO``) gives the same likelihood as `HMMDecoder.token_log_prob`. Here every step has a
matrix of its own, so the program is for tiny cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.ops.indexing import Vindex
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.hmm_decoder_states import AlignmentStates, LatentStates
from probseq.ops.product_softmax import bounded

if TYPE_CHECKING:
    from probseq.models.encoder import Encoded
    from probseq.models.hmm_decoder import HMMDecoder


class Tables(NamedTuple):
    """What a decoder has made of the sources and the past outputs: probabilities of N sequences, for M components.

    Attributes:
        component: ``p(m)``.
        first: ``p(s_1 | m)``.
        steps: ``p(s_t | s_{t-1}, m)``; those of the first step are of no use.
        symbols: ``p(y_t | s_t, m)``.
    """

    component: Float[Tensor, "N M"]
    first: Float[Tensor, "N M K"]
    steps: Float[Tensor, "N T M K K"]
    symbols: Float[Tensor, "N T M K V"]


def program(net: HMMDecoder, batch: Batch) -> None:
    """Sites: ``component``, and for every step ``state_t`` and ``value_t``. Weights of the batch are not part of it.

    Raises:
        InputError: the batch has no source.
    """
    if batch.source is None:
        raise InputError("the batch has no source; give one: Sequences.from_list(targets, source=...)")
    tables, row = _tables(net, batch), torch.arange(len(batch.lengths), device=batch.lengths.device)
    with pyro.plate("sequences", len(batch.lengths), dim=-1):
        component = pyro.sample("component", dist.Categorical(tables.component), infer={"enumerate": "parallel"})
        probs = Vindex(tables.first)[row, component]
        for t in pyro.markov(range(batch.values.shape[1])):
            with pyro.poutine.mask(mask=t < batch.lengths):
                state = pyro.sample(f"state_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                symbols = Vindex(tables.symbols)[row, t, component, state]
                pyro.sample(f"value_{t}", dist.Categorical(symbols), obs=batch.values[:, t])
                if t + 1 < batch.values.shape[1]:
                    probs = Vindex(tables.steps)[row, t + 1, component, state]


def _tables(net: HMMDecoder, batch: Batch) -> Tables:
    assert batch.source is not None
    encoded, times = net.encoder(batch.source), batch.values.shape[1]
    inputs = torch.cat([net.begin(len(batch.values)), batch.values[:, :-1]], dim=1)
    past = net.past(inputs, net.past.begin(encoded.summary))[0].expand(-1, times, -1)  # (N, T, D)
    hidden = net.hidden
    if isinstance(hidden, LatentStates):
        first, steps = _latent(hidden, encoded, past)
    else:
        assert isinstance(hidden, AlignmentStates)
        first, steps = _positions(hidden, encoded, past)
    component = torch.ones_like(encoded.summary[:, :1]) if net.weigh is None else net.weigh(encoded.summary).softmax(-1)
    return Tables(component, first, steps, _symbols(net, encoded, past))


def _latent(states: LatentStates, encoded: Encoded, past: Float[Tensor, "N T D"]) -> tuple[Tensor, Tensor]:
    """The first state and the steps where states are numbers."""
    size = (states.num_components, -1)
    first = bounded(states.initial(encoded.summary).unflatten(-1, size)).softmax(dim=-1)  # (N, M, K)
    if not states.order:
        return first, first[:, None, :, None].expand(-1, past.shape[1], -1, first.shape[-1], -1)
    drive = bounded(states.drive(encoded.summary).unflatten(-1, size))
    steps = (bounded(states.transition) + drive[:, :, None]).softmax(dim=-1)  # (N, M, K, K)
    return first, steps[:, None].expand(-1, past.shape[1], -1, -1, -1)


def _positions(states: AlignmentStates, encoded: Encoded, past: Float[Tensor, "N T D"]) -> tuple[Tensor, Tensor]:
    """The first state and the steps where states are positions of the source."""
    size, lowest, highest = encoded.mask.shape[1], states.jumps.lowest, states.jumps.highest
    query = states.query(past).unflatten(-1, (states.num_components, -1))  # (N, T, M, E)
    drive = torch.einsum("ntme,nse->ntms", query, encoded.outputs) / encoded.outputs.shape[-1] ** 0.5
    drive = drive.masked_fill(~encoded.mask[:, None, None], -torch.inf)
    if not states.order:
        return drive[:, 0].softmax(dim=-1), drive.softmax(dim=-1)[..., None, :].expand(*drive.shape, -1)
    position = torch.arange(size, device=past.device)
    near = position < highest
    bias = torch.where(near, states.start[:, position.clamp(max=highest - 1)], -torch.inf if lowest >= 0 else 0.0)
    number = position - position[:, None] - lowest  # (S, S)
    inside = (number >= 0) & (number <= highest - lowest)
    jumps = states.jump(encoded.outputs).unflatten(-1, (states.num_components, -1)).transpose(1, 2)  # (N, M, S, W)
    jumps = jumps[:, :, position[:, None], number.clamp(0, highest - lowest)].masked_fill(~inside, -torch.inf)
    logits = jumps[:, None] + drive[..., None, :]  # (N, T, M, S, S)
    closed = logits.isneginf().all(dim=-1)[..., None]  # of a last position that nothing leads on from, and of padding
    stay = torch.eye(size, device=past.device).log().to(logits).expand_as(logits)
    return (drive[:, 0] + bias).softmax(dim=-1), torch.where(closed, stay, logits).softmax(dim=-1)


def _symbols(net: HMMDecoder, encoded: Encoded, past: Float[Tensor, "N T D"]) -> Float[Tensor, "N T M K V"]:
    of_states = bounded(net.hidden.scores(net.hidden.read(encoded))).transpose(0, 1)[:, None]  # (N or 1, 1, M, K, V)
    of_past = bounded(net._past_scores(encoded, past)).permute(1, 2, 0, 3)[..., None, :]
    symbols = (of_states + of_past).softmax(dim=-1)
    if not net.hidden.only_end:
        return symbols
    last = torch.arange(encoded.mask.shape[1], device=past.device) == encoded.mask.sum(dim=-1, keepdim=True) - 1
    only_end = torch.eye(net.num_symbols, device=past.device).to(symbols)[net.end]
    return torch.where(last[:, None, None, :, None], only_end, symbols)
