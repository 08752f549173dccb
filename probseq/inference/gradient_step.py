"""One optimizer step of every restart that is still running, and what each restart is scored and restored by."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.inference.lone_restarts import Each, LoneRestarts
from probseq.inference.run import Fit, StopReason
from probseq.models.base import restart_seed

_FINAL_RATE = 0.1  # the cosine ends at this share of the learning rate


class Rate:
    """The learning rate: linear warm-up, then a cosine (or constant) over the budget in steps or seconds."""

    def __init__(self, peak: float, warmup: int, schedule: str, num_steps: int, seconds: float | None) -> None:
        self.peak, self.warmup, self.schedule = peak, warmup, schedule
        self.num_steps, self.seconds, self.begin = num_steps, seconds, time.monotonic()

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.peak
        done = (step - self.warmup) / max(1, self.num_steps - self.warmup)
        if self.seconds is not None:
            done = max(done, (time.monotonic() - self.begin) / self.seconds)
        cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
        return self.peak * (_FINAL_RATE + (1 - _FINAL_RATE) * cosine)


class _Kept(NamedTuple):
    """Weights to go back to, their validation score, and which score that was."""

    score: float
    number: int
    weights: dict[str, Tensor]


class GradientStep:
    """The step: one batch, and one optimizer step of every running restart.

    Attributes:
        restarts: the restarts as modules of their own.
        optimizers: one for each.
        rate: the learning rate of each step.
        each: a map over restarts.
    """

    def __init__(
        self,
        restarts: LoneRestarts,
        optimizers: Sequence[torch.optim.Optimizer],
        rate: Rate,
        each: Each,
        data: Sequences,
        validation: Sequences | None,
        *,
        eval_every: int,
        patience: int,
        batch_size: int,
        clip_norm: float,
        seed: int,
    ) -> None:
        self.restarts, self.optimizers, self.rate, self.each = restarts, optimizers, rate, each
        self.validation, self.num_tokens = validation, float(data.num_observed @ data.weights)
        self.eval_every, self.patience, self.clip_norm, self.seed = eval_every, patience, clip_norm, seed
        self.batches = _epochs(data, batch_size, seed, restarts.device)
        self.steps: list[int] = []  # after which validation was scored
        self.scores: list[NDArray[np.float64]] = []
        self.best = [_Kept(-math.inf, -1, _weights(one)) for one in restarts.modules]  # where each began

    def __call__(self, number: int, active: list[int]) -> tuple[NDArray[np.float64], Mapping[int, StopReason]]:
        batch = next(self.batches)
        rate, noise = self.rate(number), restart_seed(self.seed, number)
        objective = np.array(list(self.each(lambda r: self._update(r, batch, rate, noise), active)))
        stopped: dict[int, StopReason] = {
            r: "nonfinite" for r, value in zip(active, objective, strict=True) if not np.isfinite(value)
        }
        if self.validation is not None and (number + 1) % self.eval_every == 0:
            self._score(number + 1, [r for r in active if r not in stopped], self.validation)
            waited = {r: len(self.steps) - 1 - self.best[r].number for r in active}
            stopped |= {r: "early_stopping" for r, n in waited.items() if n >= self.patience and r not in stopped}
        return objective, stopped

    def _update(self, restart: int, batch: Batch, rate: float, noise: int) -> float:
        """One optimizer step; returns the objective, NaN if the weights were left as they were."""
        module, optimizer = self.restarts.modules[restart].train(), self.optimizers[restart]
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()), enabled=self.restarts.dropout > 0):
            if self.restarts.dropout > 0:
                torch.manual_seed(noise)
            objective = self._mean(module, batch) + self.restarts.log_prior(module) / self.num_tokens
        optimizer.zero_grad()
        (-objective).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), self.clip_norm)
        if not bool(torch.isfinite(objective) & torch.isfinite(norm)):
            return math.nan
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return objective.item()

    def _mean(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean log-probability per observed token, rows counted by their weights."""
        log_prob = self.restarts.training_log_prob(module, batch)
        weights = batch.weights.to(log_prob.dtype)
        tokens = batch.observed.sum(dim=1).to(log_prob.dtype) @ weights
        return log_prob.sum(dim=1) @ weights / tokens.clamp(min=torch.finfo(tokens.dtype).tiny)

    def _score(self, step: int, active: list[int], validation: Sequences) -> None:
        """Score validation data; remember each restart's best weights."""
        row = np.full(len(self.best), np.nan)
        row[active] = list(self.each(lambda r: self._validation_score(r, validation), active))
        for r in active:
            if np.isfinite(row[r]) and row[r] > self.best[r].score:
                self.best[r] = _Kept(row[r], len(self.steps), _weights(self.restarts.modules[r]))
        self.steps.append(step)
        self.scores.append(row)

    @torch.no_grad()
    def _validation_score(self, restart: int, validation: Sequences, max_tokens: int = 2**14) -> float:
        """Mean log-probability per observed token (nats), in evaluation mode."""
        module, total = self.restarts.modules[restart].eval(), 0.0
        for batch in validation.batches(max_tokens, device=self.restarts.device):
            total += float(self.restarts.log_prob(module, batch).double().sum(dim=1) @ batch.weights)
        return total / float(validation.num_observed @ validation.weights)

    def finish(self, fit: Fit[Any]) -> None:
        """Score what is not yet scored, restore the best weights, and put the validation curve into the fit."""
        ended = [r for r, why in enumerate(fit.stop_reason) if why in ("max_steps", "max_seconds", "interrupted")]
        if self.validation is not None:
            if ended and (not self.steps or self.steps[-1] != len(fit.history)):
                self._score(len(fit.history), ended, self.validation)
            fit.validation_steps, fit.validation = np.array(self.steps, dtype=np.int64), np.array(self.scores)
        for r, (module, kept) in enumerate(zip(self.restarts.modules, self.best, strict=True)):
            if _went_astray(module, kept.weights):  # with the last update
                fit.stop_reason[r] = "nonfinite"
            if self.validation is not None or fit.stop_reason[r] == "nonfinite":
                module.load_state_dict(kept.weights)
        self.restarts.write_back()


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _went_astray(module: nn.Module, before: Mapping[str, Tensor]) -> bool:
    """Whether something that was finite no longer is. The logarithm of a probability of 0 never was."""
    return any(bool((before[name].isfinite() & ~p.isfinite()).any()) for name, p in module.named_parameters())


def _epochs(data: Sequences, batch_size: int, seed: int, device: torch.device) -> Iterator[Batch]:
    """Batches without end, each pass over the data in a new order."""
    longest = int(data.lengths.max())
    epoch = 0
    while True:
        order = restart_seed(seed, epoch)
        yield from data.batches(batch_size * longest, batch_size=batch_size, shuffle=True, seed=order, device=device)
        epoch += 1
