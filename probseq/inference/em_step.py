"""One step of EM for the restarts that are still running."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import Batch, Identity
from probseq.data.sequences import Sequences
from probseq.inference.run import StopReason
from probseq.models.emissions import Emission

Floats = NDArray[np.float64]
State = dict[str, Tensor]
"""The parameters of the running restarts by name. Restarts are the first axis of every one."""

_CACHE_BYTES = 256 * 2**20  # batches up to this size are made once and kept
_TABLE_BYTES = 2**30  # what the emission tables of one E-step may hold: of vectors, a row for each token
_TABLES = 3  # log-potentials, potentials and expected counts


class EMModel(Protocol):
    """What EM asks of a model: expected statistics, the parameters that maximize them, and restarts as an axis.

    Every parameter has the restarts as its first axis. A model may name its ``objective``, if that is not the
    log-likelihood and log-prior, may have ``initialized``, False while its starting point waits for data, and may have
    an ``emission`` and ``num_states``: where these are vectors, batches are made to fit into memory.
    """

    num_restarts: int

    def e_step(self, batch: Batch) -> Any:
        """A named tuple of tensors whose first is ``log_likelihood`` (R, N) and whose others add up over batches."""

    def m_step(self, statistics: Any) -> None:
        """Set the parameters to those that maximize the objective, given the statistics of all data."""

    def log_prior(self) -> Tensor:
        """``(R,)``: what the objective adds to the log-likelihood, in nats."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]: ...
    def parameters(self) -> Iterator[torch.nn.Parameter]: ...
    def modules(self) -> Iterator[torch.nn.Module]: ...
    def to(self, device: torch.device) -> Any: ...
    def take(self, restarts: Sequence[int]) -> Self: ...
    def put(self, restarts: Sequence[int], other: Any) -> None: ...


class EMStep:
    """E-step and M-step of all data.

    Attributes:
        running: the restarts that take part.
        current: their parameters: the model itself while all take part, then a model of their own.
        trail: the parameters at their last two E-steps, newest last, without those that failed.
        previous: ``(R,)`` the last objective of every restart.
    """

    def __init__(self, model: EMModel, data: Sequences, tol: float, max_tokens: int) -> None:
        self.model, self.data, self.tol = model, data, tol
        self.device = next(model.parameters()).device
        self.tokens = float(data.num_observed @ data.weights)
        self.max_tokens = max(1, min(max_tokens, self._room(model.num_restarts)))
        self.batches = _Batches(data, self.max_tokens, self.device)
        self.running = list(range(model.num_restarts))
        self.current = model
        self._project()
        self.trail = [self._state()]
        self.previous = np.full(model.num_restarts, -np.inf)

    def __call__(self, number: int, active: list[int]) -> tuple[Floats, Mapping[int, StopReason]]:
        self._keep(active)
        statistics, objective = self._e_step(number)
        verdicts = [self._verdict(*pair) for pair in zip(objective, self.previous[active], strict=True)]
        sound = np.array([why not in ("nonfinite", "decreased") for why in verdicts])
        self._m_step(statistics, sound, self.trail[-1])
        self.previous[active] = objective
        return objective, {r: why for r, why in zip(active, verdicts, strict=True) if why is not None}

    def _keep(self, active: list[int]) -> None:
        """Go on with these restarts only."""
        if active == self.running:
            return
        self.write_back()
        rows = torch.as_tensor([self.running.index(r) for r in active], device=self.device)
        self.trail = [{name: value[rows] for name, value in state.items()} for state in self.trail]
        self.running, self.current = active, self.model.take(active)

    def _e_step(self, number: int) -> tuple[Any, Floats]:
        """Expected statistics, and the objective ``(r,)`` of the present parameters in nats per token."""
        total, log_likelihood = self._expect(self.batches)
        return total, self._per_token(log_likelihood / self.tokens)

    @torch.no_grad()
    def _expect(self, batches: Iterable[Batch]) -> tuple[Any, Tensor]:
        total: Any = None
        log_likelihood: Any = 0.0
        for batch in batches:
            one = self._e_step_of(batch)
            log_likelihood = log_likelihood + one[0].double() @ batch.weights
            total = one if total is None else one._make([one[0], *map(torch.add, total[1:], one[1:])])
        return total, log_likelihood

    def _e_step_of(self, batch: Batch) -> Any:
        """The E-step of a batch, some restarts at a time where it is one long sequence."""
        size = max(1, self._room(batch.values.shape[0] * batch.values.shape[1]))
        if size >= len(self.running):
            return self.current.e_step(batch)
        rows = range(len(self.running))
        parts = [self.current.take(rows[r : r + size]).e_step(batch) for r in rows[::size]]
        return parts[0]._make(torch.cat(tensors) for tensors in zip(*parts, strict=True))

    def _room(self, times: int) -> int:
        """How many tokens of so many restarts, or restarts of so many tokens, the tables have room for."""
        emission, states = getattr(self.model, "emission", None), getattr(self.model, "num_states", 1)
        if emission is None or emission.num_symbols:
            return sys.maxsize
        row = _TABLES * states * next(self.model.parameters()).element_size()
        return _TABLE_BYTES // (row * times)

    @torch.no_grad()
    def _per_token(self, log_likelihood: Tensor) -> Floats:
        objective: Floats = (log_likelihood + self.current.log_prior().double() / self.tokens).cpu().numpy()
        return objective

    def _verdict(self, objective: float, before: float) -> StopReason | None:
        if not np.isfinite(objective):
            return "nonfinite"
        if not np.isfinite(before):
            return None
        scale = max(1.0, abs(before))
        if objective < before - self._rounding * scale:
            return "decreased"
        return "converged" if objective - before <= self.tol * scale else None

    @property
    def _rounding(self) -> float:
        """How far the objective may fall, relatively, by rounding alone."""
        return 1e-9 if next(self.model.parameters()).dtype == torch.float64 else 1e-5

    @torch.no_grad()
    def _m_step(self, statistics: Any, sound: NDArray[np.bool_], otherwise: State) -> None:
        """Maximize, and note where from; restarts that are not sound get the parameters `otherwise`."""
        present = self._state()
        if sound.all():
            self.current.m_step(statistics)
            self.trail = [self.trail[-1], present]
            return
        rows = torch.as_tensor(sound, device=self.device)
        # An M-step has to be given numbers: no data at all is the plainest statistics there are.
        self.current.m_step(
            statistics._make([statistics[0], *(choose(rows, s, s.new_zeros(())) for s in statistics[1:])])
        )
        reached = self._state()
        self._load({name: choose(rows, reached[name], otherwise[name]) for name in reached})
        last = self.trail[-1]
        self.trail = [last, {name: choose(rows, present[name], last[name]) for name in present}]

    def _state(self) -> State:
        return {name: value.detach().clone() for name, value in self.current.named_parameters()}

    def _load(self, state: State) -> None:
        for name, value in self.current.named_parameters():
            value.data.copy_(state[name])

    def _project(self) -> None:
        """Parameters below a floor have an objective that EM, which respects it, would fall from."""
        for module in self.current.modules():
            if isinstance(module, Emission) and all(p.requires_grad for p in module.parameters()):
                module.project()

    def write_back(self) -> None:
        """Copy the running restarts into the model that the caller sees."""
        if self.current is not self.model:
            self.model.put(self.running, self.current)


def choose(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """The restarts of `one` where `rows` ``(r,)`` is true, and those of `other` elsewhere."""
    return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), one, other)


class _Batches:
    """Passes over the data. Batches are made once and kept, if all of them fit into the cache."""

    def __init__(self, data: Sequences, max_tokens: int, device: torch.device) -> None:
        self.data, self.max_tokens, self.device = data, max_tokens, device
        self.kept: list[Batch] | None = None
        self.identities: list[Identity] = []  # of the batches of the first pass, for those made again

    def __iter__(self) -> Iterator[Batch]:
        if self.kept is not None:
            yield from self.kept
            return
        kept: list[Batch] = []
        size = 0
        for number, batch in enumerate(self.data.batches(self.max_tokens, device=self.device)):
            if number < len(self.identities):
                batch = replace(batch, identity=self.identities[number])
            else:
                self.identities.append(batch.identity)
            size += _num_bytes(batch)
            kept = [*kept, batch] if size <= _CACHE_BYTES else []
            yield batch
        self.kept = kept if size <= _CACHE_BYTES else None


def _num_bytes(batch: Batch) -> int:
    tensors = [batch.values, *([] if batch.states is None else [batch.states])]
    return sum(t.nbytes for t in tensors) + (0 if batch.source is None else _num_bytes(batch.source))
