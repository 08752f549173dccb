"""Expectation-maximization, all restarts in one tensor program."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.sequences import Batch, Sequences
from probseq.errors import InputError
from probseq.inference.device import resolve_device
from probseq.inference.run import Fit, StopReason, run


class EMModel(Protocol):
    """What EM asks of a model: expected counts, the parameters that maximize them, and restarts as an axis."""

    num_restarts: int

    def e_step(self, batch: Batch) -> Any:
        """A named tuple of tensors whose first is ``log_likelihood`` (R, N) and whose others add up over batches."""

    def m_step(self, counts: Any) -> None: ...
    def log_prior(self) -> Tensor: ...
    def parameters(self) -> Iterator[torch.nn.Parameter]: ...
    def to(self, device: torch.device) -> Any: ...
    def take(self, restarts: Sequence[int]) -> Self: ...
    def put(self, restarts: Sequence[int], other: Any) -> None: ...


M = TypeVar("M", bound=EMModel)


class ObjectiveDecreased(RuntimeError):
    """EM's objective fell, which exact EM cannot do: the model's E-step and M-step disagree.

    Attributes:
        fit: the fit so far, with ``"decreased"`` among its stop reasons; the parameters before the fall are kept.
    """

    def __init__(self, message: str, fit: Fit[Any]) -> None:
        super().__init__(message)
        self.fit = fit


def em(
    model: M,
    data: Sequences,
    *,
    num_steps: int = 200,
    tol: float = 1e-6,
    seconds: float | None = None,
    max_tokens: int = 2**22,
    device: str | None = None,
    progress: bool | None = None,
) -> Fit[M]:
    r"""Fit by expectation-maximization, changing `model` in place.

    The objective is :math:`\sum_i w_i \log p(x_i) + \log p(\text{parameters})` divided by the number of (weighted)
    tokens, in nats. Every restart is run to its own end and leaves the batch when it gets there:

    - ``converged``: the objective rose by at most `tol` times its absolute value (or times 1, if that is more);
    - ``max_steps``, ``max_seconds``, ``interrupted``: the budget ended, or Ctrl-C;
    - ``nonfinite``: the objective is not a number or minus infinity (say, impossible data); the restart goes back to
      its last parameters with a finite objective (or its first), and the others go on unharmed;
    - ``decreased``: the objective fell beyond rounding; the restart goes back to the parameters before the fall, and
      `em` raises after all restarts have ended.

    Args:
        model: a model with an E-step and an M-step, for example `probseq.HMM`.
        data: the training sequences.
        num_steps: EM steps at most.
        tol: relative tolerance of the objective per token.
        seconds: wall-clock seconds at most.
        max_tokens: padded tokens in one batch of the E-step; changes memory, not the result.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``. Default: where the model is.
        progress: show progress. Default: only on a terminal.

    Returns:
        The `Fit`; ``history[s]`` is the objective of the parameters that step s began with.

    Raises:
        InputError: no sequences, a model without an E-step, a budget of nothing.
        ObjectiveDecreased: see above.

    Reference:
        A. P. Dempster, N. M. Laird, D. B. Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm";
        L. E. Baum et al. (1970), "A maximization technique occurring in the statistical analysis of probabilistic
        functions of Markov chains".
    """
    if not hasattr(model, "e_step"):
        raise InputError(f"{type(model).__name__} has no E-step; fit networks with fit_gradient")
    if len(data) == 0:
        raise InputError("there is nothing to fit: the data set has no sequences")
    if tol < 0:
        raise InputError(f"tol is {tol}; expected 0 or more")
    if device is not None:
        model.to(resolve_device(device))
    stepper = _EM(model, data, tol, max_tokens)
    fit = run(
        stepper,
        model,
        num_restarts=model.num_restarts,
        num_steps=num_steps,
        seconds=seconds,
        objective="log-likelihood and log-prior per token (nats)",
        title="em",
        progress=progress,
    )
    stepper.write_back()
    if "decreased" in fit.stop_reason:
        restarts = [r for r, why in enumerate(fit.stop_reason) if why == "decreased"]
        raise ObjectiveDecreased(f"EM's objective fell in restarts {restarts}; see the history in error.fit", fit)
    return fit


class _EM:
    """The step: E-step and M-step of the running restarts, which live in a model of their own."""

    def __init__(self, model: EMModel, data: Sequences, tol: float, max_tokens: int) -> None:
        self.model, self.data, self.tol, self.max_tokens = model, data, tol, max_tokens
        self.tokens = float(data.lengths @ data.weights)
        self.previous = np.full(model.num_restarts, -np.inf)
        self.running = list(range(model.num_restarts))
        self.current = model.take(self.running)
        self.before = copy.deepcopy(self.current)  # the parameters one step earlier

    def __call__(self, number: int, active: list[int]) -> tuple[NDArray[np.float64], Mapping[int, StopReason]]:
        if active != self.running:  # someone stopped: shrink the batch
            self.write_back()
            self.before = self.before.take([self.running.index(r) for r in active])
            self.running, self.current = active, self.model.take(active)
        counts, objective = self._e_step()
        previous = self.previous[active]
        stopped = {r: why for r, o, p in zip(active, objective, previous, strict=True) if (why := self._verdict(o, p))}
        failed = [i for i, r in enumerate(active) if stopped.get(r) in ("nonfinite", "decreased")]
        back = self.before.take(failed) if failed else None
        self.before = copy.deepcopy(self.current)
        self.current.m_step(counts)
        if back is not None:
            self.current.put(failed, back)
        self.previous[active] = objective
        return objective, stopped

    def _e_step(self) -> tuple[NamedTuple, NDArray[np.float64]]:
        total: Any = None
        log_likelihood: Any = 0.0
        for batch in self.data.batches(self.max_tokens, device=next(self.model.parameters()).device):
            counts = self.current.e_step(batch)
            log_likelihood = log_likelihood + counts[0] @ batch.weights.to(counts[0].dtype)
            total = counts if total is None else counts._make([None, *map(torch.add, total[1:], counts[1:])])
        objective = (log_likelihood + self.current.log_prior().double()) / self.tokens
        return total, objective.cpu().numpy()

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
        exact = next(self.current.parameters()).dtype == torch.float64
        return 1e-9 if exact else 1e-5

    def write_back(self) -> None:
        """Copy the running restarts into the model that the caller sees."""
        self.model.put(self.running, self.current)
