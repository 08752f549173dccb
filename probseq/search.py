"""`beam_search`: the most probable sequences of a model, with their exact log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import row_groups
from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole
from probseq.generation import checked_model, stop_symbols
from probseq.inference.run import Fit
from probseq.models.base import Model, State, evaluation_mode
from probseq.models.given import Given

_POSITIONS = 2**15  # of sources times beams that are searched side by side, about


@dataclass(frozen=True)
class Hypotheses:
    """What `beam_search` found, best first for each source.

    Attributes:
        sequences: M sequences, each ends with its stop symbol, if it has met one.
        row: ``(M,)``, the source that each belongs to, in ascending order; 0 for a model without sources.
        log_prob: ``(M,)`` float64, the exact log-probability in nats, whatever the length penalty.
        score: ``(M,)`` float64, what they are ranked by: `log_prob` over a power of the length.
        ended: ``(M,)`` bool, False where `max_length` came before a stop symbol: these stand last.
    """

    sequences: Sequences
    row: NDArray[np.int64]
    log_prob: NDArray[np.float64]
    score: NDArray[np.float64]
    ended: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)

    def of(self, row: int) -> Hypotheses:
        """Those of one source."""
        return self._take(np.flatnonzero(self.row == row))

    @property
    def best(self) -> Hypotheses:
        """The first of every source."""
        return self._take(np.unique(self.row, return_index=True)[1])

    def _take(self, which: NDArray[np.int64]) -> Hypotheses:
        return Hypotheses(
            self.sequences[which], self.row[which], self.log_prob[which], self.score[which], self.ended[which]
        )


@torch.no_grad()
def beam_search(
    model: Model | Fit[Any],
    num_beams: int,
    max_length: int,
    stop: int | Iterable[int] | None,
    *,
    num_best: int = 1,
    length_penalty: float = 0.0,
) -> Hypotheses:
    r"""The most probable sequences that a beam of `num_beams` prefixes finds, for every source.

    At each step every prefix in the beam is continued by every symbol. What ends is a hypothesis; of the rest, the
    `num_beams` most probable prefixes stay in the beam. They are ranked by :math:`\log p(y) / T^\alpha`, where T is the
    length of y and :math:`\alpha` the length penalty. The search is over as soon as no prefix can lead to a hypothesis
    that ranks higher than the `num_best` found. A beam that holds all prefixes is exhaustive: what it finds is the
    best there is. A narrow one finds sequences whose probabilities are exact, but it may miss better ones.

    Args:
        model: a model of symbols with one restart, or ``model.given(sources)`` for the best target of each source.
        num_beams: prefixes in the beam.
        max_length: symbols in a hypothesis, the stop symbol included.
        stop: the symbol, or several, that end a hypothesis. None: all have `max_length` symbols.
        num_best: hypotheses for each source, at most.
        length_penalty: :math:`\alpha`. At 0 the most probable comes first, which prefers what is short; at 1 the
            largest mean log-probability of a symbol.

    Raises:
        InputError: more than one restart, a model of vectors, a setting outside its range, or a model that gives NaN.

    Reference:
        A. Graves (2012), "Sequence transduction with recurrent neural networks"; Y. Wu et al. (2016), "Google's neural
        machine translation system", for the length penalty.

    Example:
        >>> from probseq import HMM
        >>> model = HMM.from_parameters([1, 0], [[0.4, 0.6], [0.5, 0.5]], [[0.7, 0.3, 0], [0, 0.2, 0.8]])
        >>> found = beam_search(model, num_beams=4, max_length=3, stop=2, num_best=2)
        >>> [one.tolist() for one in found.sequences], np.exp(found.log_prob).round(3).tolist()
        ([[0, 2], [1, 2]], [0.336, 0.144])
    """
    model = checked_model(model)
    model.check_single()
    ends = stop_symbols(stop, model.num_symbols)
    for name, value in {"num_beams": num_beams, "max_length": max_length, "num_best": num_best}.items():
        check_whole(name, value)
    if not model.num_symbols:
        raise InputError("a beam is for models of symbols, and this one is of vectors; draw with generate")
    if num_best > num_beams:
        raise InputError(f"num_best is {num_best} and num_beams {num_beams}; expected no more than there are beams")
    if not 0 <= length_penalty < math.inf:
        raise InputError(f"length_penalty is {length_penalty}; expected a finite number, 0 or more")
    with evaluation_mode(model):
        settings = _Settings(num_beams, max_length, ends, num_best, length_penalty)
        return _hypotheses(
            [(rows, _search(part, len(rows), settings)) for rows, part in _side_by_side(model, num_beams)]
        )


class _Settings(NamedTuple):
    num_beams: int
    max_length: int
    ends: list[int]
    num_best: int
    length_penalty: float


class _Found(NamedTuple):
    """Hypotheses of N sources, best first; of those that are not there yet, the log-probability is -inf."""

    values: Int[Tensor, "N B T"]
    length: Int[Tensor, "N B"]
    log_prob: Float[Tensor, "N B"]
    score: Float[Tensor, "N B"]
    ended: Bool[Tensor, "N B"]


def _side_by_side(model: Model, num_beams: int) -> Iterator[tuple[Tensor, Model]]:
    """The sources that are searched together, of like length, and the model given those."""
    if not isinstance(model, Given):
        yield torch.zeros(1, dtype=torch.int64), model
        return
    lengths = model.source.lengths.cpu().numpy()
    order = np.argsort(-lengths, kind="stable")
    for rows in row_groups(lengths[order], order, max(1, _POSITIONS // num_beams), len(order)):
        yield torch.from_numpy(rows), model.part(torch.from_numpy(rows).to(model.source.values.device))


def _search(model: Model, num: int, settings: _Settings) -> _Found:
    """The search for `num` sources side by side; a source whose best are known leaves it."""
    active = torch.arange(num, device=model.device)
    values = active.new_empty(num, 1, 0)  # the prefixes in the beam
    total = torch.zeros(num, 1, dtype=torch.float64, device=model.device)  # their log-probabilities
    nothing = total.new_full((num, settings.num_best), -math.inf)
    found = _Found(
        values.expand(-1, settings.num_best, -1),
        torch.zeros_like(nothing, dtype=torch.int64),
        nothing,
        nothing,
        nothing > 0,
    )
    state = model.initial_state(num)
    for length in range(1, settings.max_length + 1):
        log_prob = _continued(model, state, total)
        for end in settings.ends:
            found = _offer(found, active, F.pad(values, (0, 1), value=end), log_prob[..., end], True, settings)
            log_prob[..., end] = -math.inf
        total, which = log_prob.flatten(1).topk(min(settings.num_beams, log_prob[0].numel()))
        parent, symbol = which // model.num_symbols, which % model.num_symbols
        if length == settings.max_length:
            values = torch.cat([_rows(values, parent), symbol[..., None]], dim=2)
            return _offer(found, active, values, total, False, settings)
        hopeful = total / settings.max_length**settings.length_penalty > found.score[active, -1:]
        if not hopeful.any():
            return found
        going, width = hopeful.any(dim=1).nonzero()[:, 0], int(hopeful.sum(dim=1).max())
        total = total.masked_fill(~hopeful, -math.inf)[going, :width]
        parent, symbol = parent[going, :width], symbol[going, :width]
        rows = (going[:, None] * values.shape[1] + parent).flatten()
        active, values = active[going], torch.cat([_rows(values[going], parent), symbol[..., None]], dim=2)
        state = _advance(model, state, rows, values)
    return found


def _continued(model: Model, state: State, total: Float[Tensor, "N B"]) -> Float[Tensor, "N B V"]:
    """The log-probability of every prefix with every symbol after it."""
    log_prob = model.next_log_prob(state)[0].double().view(*total.shape, -1)
    log_prob = log_prob.masked_fill((total == -math.inf)[..., None], -math.inf)  # whatever follows the impossible
    if log_prob.isnan().any():
        raise InputError("the model gives NaN as the probability of a next symbol; fit it again, its fit has diverged")
    return total[..., None] + log_prob


def _advance(model: Model, state: State, rows: Int[Tensor, "M"], values: Int[Tensor, "N B T"]) -> State:
    """The state of the prefixes; a model that cannot put its state in another order reads them anew."""
    if isinstance(model, Given):
        return model.advance(model.take_rows(state, rows), values[..., -1].flatten())
    return model.state_after(values.flatten(0, 1))


def _offer(
    found: _Found,
    active: Int[Tensor, "n"],
    values: Int[Tensor, "n B T"],
    log_prob: Float[Tensor, "n B"],
    ended: bool,
    settings: _Settings,
) -> _Found:
    """What was found, with the best of these hypotheses; those that have not ended only fill up."""
    length = values.shape[2]
    offered = _Found(
        values,
        torch.full_like(log_prob, length, dtype=torch.int64),
        log_prob,
        log_prob / length**settings.length_penalty,
        torch.full_like(log_prob, ended, dtype=torch.bool),
    )
    before = found._replace(values=F.pad(found.values, (0, length - found.values.shape[2])))
    both = _Found(*(torch.cat([old[active], new], dim=1) for old, new in zip(before, offered, strict=True)))
    rank = both.score if ended else (both.log_prob == -math.inf).double().neg()
    order = rank.sort(dim=1, descending=True, stable=True).indices[:, : settings.num_best]
    best = _Found(*(_rows(part, order) for part in both))
    return _Found(*(old.index_copy(0, active, new) for old, new in zip(before, best, strict=True)))


def _rows(tensor: Shaped[Tensor, "N B *T"], rows: Int[Tensor, "N W"]) -> Shaped[Tensor, "N W *T"]:
    """For each source these rows of its own."""
    return tensor[torch.arange(len(rows), device=rows.device)[:, None], rows]


def _hypotheses(parts: list[tuple[Tensor, _Found]]) -> Hypotheses:
    """All that was found, in the order of the sources."""
    row, values, numbers = [], [], []
    for rows, found in parts:
        there = found.log_prob > -math.inf
        if not there.any(dim=1).all():
            raise InputError(
                f"source {int(rows[~there.any(dim=1).cpu()].min())} has no target of positive probability that is so "
                "short; give a larger max_length, or another model"
            )
        row.append(rows[there.nonzero()[:, 0].cpu()])
        pairs = zip(found.values[there].cpu().numpy(), found.length[there].tolist(), strict=True)
        values += [one[:length] for one, length in pairs]
        numbers.append(torch.stack([found.log_prob[there], found.score[there], found.ended[there].double()]).cpu())
    rank = torch.cat(row).sort(stable=True)
    order = rank.indices.numpy()
    log_prob, score, ended = torch.cat(numbers, dim=1).numpy()[:, order]
    return Hypotheses(Sequences.from_list([values[i] for i in order]), rank.values.numpy(), log_prob, score, ended > 0)
