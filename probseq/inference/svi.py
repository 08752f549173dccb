"""`svi`: stochastic variational inference, all restarts in one tensor program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole
from probseq.inference.device import resolve_device
from probseq.inference.em import initialize
from probseq.inference.em_step import Floats, State
from probseq.inference.run import Budgets, Course, Fit, StopReason, interrupts, run
from probseq.inference.schedule import Rate
from probseq.models.base import restart_seed
from probseq.models.guided import OBJECTIVE, Guided

G = TypeVar("G", bound=Guided)

_WARMUP = 0.05  # share of the steps over which the rate rises
_MAX_TOKENS = 2**20  # padded tokens in one pass of the engine
_FINAL_DRAWS = 8, 64  # at least and at most, of the bound where a fit ends


def svi(
    model: G,
    data: Sequences,
    *,
    num_steps: int = 2000,
    batch_size: int | None = None,
    learning_rate: float = 0.1,
    num_particles: int = 1,
    seed: int = 0,
    seconds: float | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> Fit[G]:
    r"""Fit the guide of a `probseq.BayesianHMM`, a `probseq.BayesianHMMDecoder` or a `probseq.LDA` by stochastic
    variational inference, in place.

    Each step draws parameters from the guide and climbs the gradient of Pyro's ``Trace_ELBO``, reparametrised, by Adam.
    With minibatches B of the N sequences, the step's estimate of the evidence lower bound is

    .. math::
        \frac{N}{|B|} \sum_{i \in B} w_i \log p(x_i \mid \theta) + \log p(\theta) - \log q(\theta), \quad \theta \sim q

    and its expectation over B and the draw is the bound itself. Of a `probseq.LDA`, the prior and the guide of what
    belongs to document i stand in the sum as well. The learning rate rises over the first twentieth of the budget and
    falls to a tenth along a cosine.

    All restarts see the same minibatches in the same order, drawn from `seed`; the noise of restart r at step s depends
    on ``(seed, r, s)`` alone. Nothing couples the restarts, so each comes out as it would alone (to rounding).

    Args:
        model: the model.
        data: the training sequences. A starting point that depends on data is made from them.
        num_steps: steps at most.
        batch_size: sequences in a minibatch, B. Default: all.
        learning_rate: of Adam, at its highest. The weights of encoders and networks take steps of a tenth of
            it.
        num_particles: draws of the parameters in one step.
        seed: of minibatches and draws.
        seconds: wall-clock seconds at most, those of the starting point included; the rate follows whichever budget is
            closer to its end.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``. Default: where the model is.
        progress: show progress. Default: only on a terminal.

    Returns:
        The `Fit`; ``history[s]`` is the estimate of the bound at step s, divided by the number of (weighted) observed
        tokens of the data. A restart whose estimate, gradient or parameters are not finite stops as ``nonfinite`` and
        keeps its last good parameters; the others go on unharmed.

        One step's estimate is mostly noise where draws or minibatches are few. So ``details["final"]`` holds for each
        restart the bound where it ended, in the same unit, from all data and the same draws in every fit, and
        ``details["final_standard_error"]`` the Monte Carlo standard error; NaN where it cannot be computed. It takes 64
        draws, or fewer, so that it looks at no more sequences than the steps have; but 8 at least, so that of large
        data it costs 8 passes without gradients. `Fit.seconds` includes it.

    Raises:
        InputError: another kind of model, nothing to fit, a setting outside its range.

    Reference:
        D. Wingate, T. Weber (2013), "Automated variational inference in probabilistic programming"; M. D. Hoffman,
        D. M. Blei, C. Wang, J. Paisley (2013), "Stochastic variational inference".
    """
    _check(model, data, batch_size, learning_rate, num_particles)
    budgets, course = Budgets(num_steps, seconds), Course()
    if device is not None:
        model.to(resolve_device(device))
    with course.timed():
        initialize(model, data, progress)
    rate = Rate(learning_rate, round(_WARMUP * num_steps), "cosine", budgets, course)
    step = SVIStep(model, data, rate, batch_size, num_particles, seed)
    fit = run(
        step,
        model,
        num_restarts=model.num_restarts,
        budgets=budgets,
        objective=OBJECTIVE,
        title="svi",
        progress=progress,
        course=course,
    )
    step.write_back()
    with course.timed(), interrupts():
        seen = len(fit.history) * (batch_size or len(data)) * num_particles
        fit.details |= _final(model, data, min(max(seen // len(data), _FINAL_DRAWS[0]), _FINAL_DRAWS[1]))
    return replace(fit, seconds=course.seconds)


def _final(model: Guided, data: Sequences, num_draws: int) -> dict[str, list[float]]:
    """The bound of every restart per token, and the standard error over draws."""
    draws = model.elbo_draws(data, _MAX_TOKENS, num_particles=num_draws) / float(data.num_observed @ data.weights)
    error = draws.std(dim=0) / math.sqrt(num_draws)
    finite = draws.isfinite().all(dim=0)
    return {
        "final": draws.mean(dim=0).where(finite, torch.nan).tolist(),
        "final_standard_error": error.where(finite, torch.nan).tolist(),
    }


def _check(model: Any, data: Sequences, batch_size: int | None, learning_rate: float, num_particles: int) -> None:
    if not isinstance(model, Guided):
        raise InputError(
            "svi fits models that have a guide, BayesianHMMDecoder, BayesianHMM and LDA; "
            f"received a {type(model).__name__}"
        )
    model.check_data(data)
    if not any(True for _ in model.guide_parameters()):
        raise InputError("there is nothing to fit: all parts of the model are fixed")
    if batch_size is not None and check_whole("batch_size", batch_size) > len(data):
        raise InputError(f"batch_size is {batch_size}; expected 1 to {len(data)}, the number of sequences, or None")
    check_whole("num_particles", num_particles)
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate is {learning_rate}; expected more than 0")


class SVIStep:
    """One step of Adam for the restarts that are still running.

    Attributes:
        running: the restarts that take part.
        current: a model of these restarts.
        before: their parameters before the last update.
    """

    def __init__(
        self,
        model: Guided,
        data: Sequences,
        rate: Rate,
        batch_size: int | None,
        num_particles: int,
        seed: int,
    ) -> None:
        self.model, self.data, self.rate = model, data, rate
        self.num_particles, self.seed = num_particles, seed
        self.tokens = float(data.num_observed @ data.weights)
        self.batches = _batches(data, batch_size, seed, model.device)
        self.running = list(range(model.num_restarts))
        self._take(model, {})
        self.before = _copies(self.parameters)

    def _take(self, model: Guided, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on with a model, and with what Adam remembers of it."""
        self.current = model
        self.parameters = dict(model.guide_parameters())
        groups = [{"params": [p], "share": model.rate_share(name)} for name, p in self.parameters.items()]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), foreach=True)
        for name, found in moments.items():
            self.optimizer.state[self.parameters[name]] = dict(found)

    def _keep(self, active: list[int]) -> None:
        """Go on with these restarts only."""
        if active == self.running:
            return
        self.write_back()
        rows = torch.as_tensor([self.running.index(r) for r in active], device=self.model.device)
        moments = {
            name: {k: v[rows] if v.ndim else v for k, v in self.optimizer.state[parameter].items()}
            for name, parameter in self.parameters.items()
        }
        self.before = {name: value[rows] for name, value in self.before.items()}
        self.running = active
        self._take(self.model.take(active), moments)

    def __call__(self, number: int, active: list[int]) -> tuple[Floats, Mapping[int, StopReason]]:
        self._keep(active)
        objective, gradients = self._climb(next(self.batches), number)
        lost = ~(objective.isfinite() & _finite({name: value.abs() for name, value in gradients.items()}))
        self._restore(lost)
        for name, parameter in self.parameters.items():
            parameter.grad = -gradients[name]
        self.before = _copies(self.parameters)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        self.optimizer.step()
        lost = lost | ~_finite(self.parameters)
        self._restore(lost)
        stopped: dict[int, StopReason] = {r: "nonfinite" for r, bad in zip(active, lost.tolist(), strict=True) if bad}
        return objective.cpu().numpy(), stopped

    def _restore(self, lost: Tensor) -> None:
        """Put the restarts that are `lost` ``(r,)`` back to their parameters before the last update."""
        if lost.any():
            for name, parameter in self.parameters.items():
                parameter.data[lost] = self.before[name][lost]

    def _climb(self, batches: list[Batch], number: int) -> tuple[Tensor, State]:
        """The objective ``(r,)`` in nats per token, and its gradient."""
        from probseq.models.guides import OwnNoise  # loads Pyro

        size = sum(len(batch.lengths) for batch in batches)
        objective = torch.zeros(len(self.running), dtype=torch.float64, device=self.model.device)
        totals = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        with _learning(self.parameters):
            for batch in batches:
                noise = OwnNoise(self.current.numbers, self.seed, number)  # the same draws for every batch
                part = self.current.guide_bound(batch, noise, len(self.data), self.num_particles).mean(dim=0)
                part = part * (len(batch.lengths) / size / self.tokens)
                found = torch.autograd.grad(part.sum(), list(self.parameters.values()))
                totals = {name: total + one for (name, total), one in zip(totals.items(), found, strict=True)}
                objective = objective + part.detach().double()
        return objective, totals

    def write_back(self) -> None:
        """Copy the running restarts into the model that the caller sees."""
        if self.current is not self.model:
            self.model.put(self.running, self.current)


def _copies(values: Mapping[str, Tensor]) -> State:
    return {name: value.detach().clone() for name, value in values.items()}


def _finite(values: Mapping[str, Tensor]) -> Tensor:
    """``(r,)``: which restarts have no number that is NaN, and no infinite one but for logarithms of 0."""
    return torch.stack([(value < torch.inf).flatten(1).all(dim=1) for value in values.values()]).all(dim=0)


@contextmanager
def _learning(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Gradients for all of them, also for what no other method moves by gradients."""
    before = {name: value.requires_grad for name, value in parameters.items()}
    try:
        for value in parameters.values():
            value.requires_grad_(True)
        yield
    finally:
        for name, value in parameters.items():
            value.requires_grad_(before[name])


def _batches(data: Sequences, batch_size: int | None, seed: int, device: torch.device) -> Iterator[list[Batch]]:
    """The batches of every step: all data, or `batch_size` sequences of a random order, anew at each pass.

    What does not fill a minibatch at the end of a pass is left out of it.
    """
    if batch_size is None:
        everything = list(data.batches(_MAX_TOKENS, device=device))
        while True:
            yield everything
    for epoch in itertools.count():
        order = np.random.default_rng(restart_seed(seed, epoch)).permutation(len(data))
        for begin in range(0, len(data) - batch_size + 1, batch_size):
            yield [data.batch(order[begin : begin + batch_size], device=device)]
