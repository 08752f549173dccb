"""One optimizer step of every restart that is still running, and what each restart is scored and restored by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.inference.gradient_settings import GradientSettings
from probseq.inference.lone_restarts import Each, LoneRestarts
from probseq.inference.precision import Precision, autocast
from probseq.inference.run import Budgets, Course, Fit, StopReason
from probseq.inference.sampler import Sampler
from probseq.inference.schedule import Rate
from probseq.models.base import restart_seed

_UNFINISHED = ("max_steps", "max_tokens", "max_seconds", "interrupted")


class Best(NamedTuple):
    """Weights to go back to, their validation score, and at which look it was; -1 where no score was finite yet."""

    score: float
    look: int
    weights: dict[str, Tensor]


class Aside(NamedTuple):
    """After which step weights were set aside, which restarts had stopped by then and why, the weights of each."""

    step: int
    reasons: dict[int, StopReason]
    weights: list[dict[str, Tensor]]


class GradientStep:
    """The step: one batch or several, and one optimizer step of every running restart.

    Attributes:
        restarts: the restarts as modules of their own.
        optimizers: one for each.
        each: a map over restarts.
        course: how far the fit has come.
        rate: the learning rate of the next step.
        learning_rate: of the last step.
        norms: the norm ``(R,)`` of every restart's gradient before clipping, for every step; NaN where it had stopped.
        failures: what was not finite in a restart that stopped as ``nonfinite``, and when.
    """

    def __init__(
        self,
        restarts: LoneRestarts,
        settings: GradientSettings,
        budgets: Budgets,
        each: Each,
        data: Sequences,
        validation: Sequences | None,
    ) -> None:
        self.restarts, self.settings, self.each = restarts, settings, each
        self.optimizers = [_optimizer(restarts, module, settings) for module in restarts.modules]
        self.course = Course()
        self.rate = Rate(settings.learning_rate, settings.warmup_steps, settings.schedule, budgets, self.course)
        self.validation, self.num_tokens = validation, float(data.num_observed @ data.weights)
        self.precision: Precision = "float32"
        self.sampler = Sampler(data, settings.batch_size, settings.seed, restarts.device)
        self.learning_rate = 0.0
        self.norms: list[NDArray[np.float64]] = []
        self.failures: dict[int, str] = {}
        self.aside: dict[float, Aside] = {}  # by seconds
        self.steps: list[int] = []  # after which validation was scored
        self.scores: list[NDArray[np.float64]] = []
        self.best = [Best(-math.inf, -1, _weights(one)) for one in restarts.modules]  # where each began

    def __call__(self, number: int, active: list[int]) -> tuple[NDArray[np.float64], Mapping[int, StopReason]]:
        batches = [next(self.sampler) for _ in range(self.settings.accumulate)]
        self.learning_rate = self.rate()
        self.norms.append(np.full(len(self.best), np.nan))
        objective = np.array(list(self.each(lambda r: self._update(r, number, batches), active)))
        self.course.tokens += sum(int(batch.observed.sum()) for batch in batches)
        stopped: dict[int, StopReason] = {}
        for r, value in zip(active, objective, strict=True):
            if not np.isfinite(value):
                self._fail(r, f"step {number + 1}: the loss or its gradient was not finite")
                stopped[r] = "nonfinite"
        if (number + 1) % self.settings.eval_every == 0:
            running = [r for r in active if r not in stopped]
            self._look(number + 1, running)
            stopped |= {r: "early_stopping" for r in running if not self.is_patient(r)}
        return objective, stopped

    def _update(self, restart: int, number: int, batches: list[Batch]) -> float:
        """One optimizer step; returns the objective, NaN if the weights were left as they were."""
        module, optimizer = self.restarts.modules[restart].train(), self.optimizers[restart]
        optimizer.zero_grad()
        objective = torch.zeros((), device=self.restarts.device)
        for part in self._parts(module, number, batches):
            (-part).backward()  # type: ignore[no-untyped-call]
            objective = objective + part.detach()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), self.settings.clip_norm)
        self.norms[-1][restart] = norm.item()
        if not bool(torch.isfinite(objective) & torch.isfinite(norm)):
            return math.nan
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate
        optimizer.step()
        return objective.item()

    def _parts(self, module: nn.Module, number: int, batches: list[Batch]) -> Iterator[Tensor]:
        """What each batch adds to the objective, one at a time, so that only one is held in memory."""
        total = torch.stack([_tokens(batch) for batch in batches]).sum()
        prior = self.restarts.log_prior(module) / self.num_tokens
        for i, batch in enumerate(batches):
            with torch.random.fork_rng(devices=range(torch.cuda.device_count()), enabled=self.restarts.dropout > 0):
                if self.restarts.dropout > 0:
                    torch.manual_seed(restart_seed(self.settings.seed, number * self.settings.accumulate + i))
                with autocast(self.precision, self.restarts.device):
                    log_prob = self.restarts.training_log_prob(module, batch)
            mean = log_prob.sum(dim=1) @ batch.weights.to(log_prob.dtype) / total.to(log_prob.dtype)
            yield mean if i else mean + prior

    def trial(self, precision: Precision) -> None:
        """The work of a step of the first restart in this precision, without an update."""
        module, chosen = self.restarts.modules[0].train(), self.precision
        self.precision = precision
        try:
            for part in self._parts(module, 0, [self.sampler.first()]):
                part.backward()  # type: ignore[no-untyped-call]
        finally:
            self.precision = chosen
            self.optimizers[0].zero_grad()

    def _fail(self, restart: int, why: str) -> None:
        """Put a restart back to its best weights, and note why."""
        self.failures[restart] = why
        self.restarts.modules[restart].load_state_dict(self.best[restart].weights)

    @property
    def is_sound(self) -> bool:
        """Whether every weight that was finite still is; the last update can have been one too far."""
        return not any(_went_astray(m, k.weights) for m, k in zip(self.restarts.modules, self.best, strict=True))

    def set_aside(self, seconds: float) -> None:
        """Set aside the best weights so far, as those of so many seconds; those of now where none were scored."""
        aside = self.aside[seconds] = Aside(len(self.course.history), dict(self.course.reasons), [])
        for r, (module, best) in enumerate(zip(self.restarts.modules, self.best, strict=True)):
            if astray := _went_astray(module, best.weights):  # as a fit that ended here would find
                aside.reasons[r] = "nonfinite"
            aside.weights.append(best.weights if best.look >= 0 or astray else _weights(module))

    def is_patient(self, restart: int) -> bool:
        """Whether validation improved lately; where no score was finite it says nothing, and stops nobody."""
        look = self.best[restart].look
        return look < 0 or len(self.steps) - 1 - look < self.settings.patience

    def _look(self, step: int, running: list[int]) -> None:
        """Score validation data, if there are any, and remember the weights that each restart would go back to."""
        row = np.full(len(self.best), np.nan)
        if self.validation is not None:
            validation = self.validation
            row[running] = list(self.each(lambda r: self._validation_score(r, validation), running))
        for r in running:
            module, best = self.restarts.modules[r], self.best[r]
            if np.isfinite(row[r]) and row[r] > best.score:
                self.best[r] = Best(row[r], len(self.steps), _weights(module))
            elif best.look < 0 and not _went_astray(module, best.weights):
                self.best[r] = best._replace(weights=_weights(module))
        if self.validation is not None:
            self.steps.append(step)
            self.scores.append(row)

    @torch.no_grad()
    def _validation_score(self, restart: int, validation: Sequences, max_tokens: int = 2**14) -> float:
        """Mean log-probability per observed token (nats), in evaluation mode; every sequence by itself."""
        module, total = self.restarts.modules[restart].eval(), 0.0
        for batch in validation.batches(max_tokens, device=self.restarts.device):
            total += float(self.restarts.log_prob(module, batch).double().sum(dim=1) @ batch.weights)
        return total / float(validation.num_observed @ validation.weights)

    def finish(self, fit: Fit[Any]) -> None:
        """Score what is not yet scored, restore the best weights, and put into the fit what was seen on the way."""
        for r, (module, best) in enumerate(zip(self.restarts.modules, self.best, strict=True)):
            if _went_astray(module, best.weights):  # with the last update
                self._fail(r, f"step {len(fit.history)}: the weights were not finite after the update")
                fit.stop_reason[r] = "nonfinite"
        if self.validation is not None:
            ended = [r for r, why in enumerate(fit.stop_reason) if why in _UNFINISHED]
            if ended and (not self.steps or self.steps[-1] != len(fit.history)):
                self._look(len(fit.history), ended)
            fit.validation_steps, fit.validation = np.array(self.steps, dtype=np.int64), np.array(self.scores)
            for module, best in zip(self.restarts.modules, self.best, strict=True):
                if best.look >= 0:
                    module.load_state_dict(best.weights)
        fit.details |= {"gradient_norm": np.array(self.norms), "num_tokens": self.course.tokens}
        fit.details["precision"] = self.precision
        if self.failures:
            fit.details["failures"] = {str(r): why for r, why in self.failures.items()}
        fit.snapshots = {seconds: self._snapshot(fit, seconds) for seconds in self.aside}
        self.restarts.write_back()

    def _snapshot(self, fit: Fit[Any], seconds: float) -> Fit[Any]:
        """What the fit would have been with a budget of these seconds."""
        step, reasons, weights = self.aside[seconds]
        scored = sum(one <= step for one in self.steps)
        validation = np.array(self.scores[:scored]).reshape(scored, len(self.best))
        return Fit(
            model=self.restarts.copy(weights),
            objective=fit.objective,
            history=fit.history[:step],
            stop_reason=[
                why if seconds > fit.seconds else reasons.get(r, "max_seconds") for r, why in enumerate(fit.stop_reason)
            ],
            seconds=seconds,
            validation_steps=np.array(self.steps[:scored], dtype=np.int64),
            validation=None if self.validation is None else validation,
        )


def _optimizer(restarts: LoneRestarts, module: nn.Module, settings: GradientSettings) -> torch.optim.Optimizer:
    groups = restarts.parameter_groups(module, settings.weight_decay)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)


def _tokens(batch: Batch) -> Tensor:
    """Observed tokens, rows counted by their weights."""
    tokens = batch.observed.sum(dim=1).to(batch.weights.dtype) @ batch.weights
    return tokens.clamp(min=torch.finfo(torch.float32).tiny)


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _went_astray(module: nn.Module, before: Mapping[str, Tensor]) -> bool:
    """Whether something that was finite no longer is. The logarithm of a probability of 0 never was."""
    return any(bool((before[name].isfinite() & ~p.isfinite()).any()) for name, p in module.named_parameters())
