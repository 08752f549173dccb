"""One optimizer step of every restart that is still running, and what each restart is scored and restored by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.inference.lone_restarts import Each, LoneRestarts
from probseq.inference.precision import Precision, autocast
from probseq.inference.run import Course, Fit, StopReason
from probseq.inference.sampler import Sampler
from probseq.inference.schedule import Rate
from probseq.models.base import restart_seed

_UNFINISHED = ("max_steps", "max_tokens", "max_seconds", "interrupted")


class _Kept(NamedTuple):
    """Weights to go back to, their validation score, and which score that was."""

    score: float
    number: int
    weights: dict[str, Tensor]


class GradientStep:
    """The step: one batch or several, and one optimizer step of every running restart.

    Attributes:
        restarts: the restarts as modules of their own.
        optimizers: one for each.
        rate: the learning rate of each step.
        each: a map over restarts.
        tokens: observed tokens of training data seen so far.
        learning_rate: of the last step.
        norms: the norm ``(R,)`` of every restart's gradient before clipping, for every step; NaN where it had stopped.
        failures: what was not finite in a restart that stopped as ``nonfinite``, and when.
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
        accumulate: int,
        clip_norm: float,
        seed: int,
    ) -> None:
        self.restarts, self.optimizers, self.rate, self.each = restarts, optimizers, rate, each
        self.validation, self.num_tokens = validation, float(data.num_observed @ data.weights)
        self.eval_every, self.patience, self.clip_norm, self.seed = eval_every, patience, clip_norm, seed
        self.accumulate = accumulate
        self.precision: Precision = "float32"
        self.sampler = Sampler(data, batch_size, seed, restarts.device)
        self.tokens, self.learning_rate = 0, 0.0
        self.norms: list[NDArray[np.float64]] = []
        self.failures: dict[int, str] = {}
        self.kept: dict[float, tuple[int, list[dict[str, Tensor]]]] = {}  # set aside: after which step, the weights
        self.steps: list[int] = []  # after which validation was scored
        self.scores: list[NDArray[np.float64]] = []
        self.best = [_Kept(-math.inf, -1, _weights(one)) for one in restarts.modules]  # where each began

    def __call__(self, number: int, active: list[int]) -> tuple[NDArray[np.float64], Mapping[int, StopReason]]:
        batches = [next(self.sampler) for _ in range(self.accumulate)]
        self.learning_rate = self.rate(number, self.tokens)
        self.norms.append(np.full(len(self.best), np.nan))
        objective = np.array(list(self.each(lambda r: self._update(r, number, batches), active)))
        self.tokens += sum(int(batch.observed.sum()) for batch in batches)
        stopped: dict[int, StopReason] = {}
        for r, value in zip(active, objective, strict=True):
            if not np.isfinite(value):
                self._fail(r, f"step {number + 1}: the loss or its gradient was not finite")
                stopped[r] = "nonfinite"
        if self.validation is not None and (number + 1) % self.eval_every == 0:
            self._score(number + 1, [r for r in active if r not in stopped], self.validation)
            waited = {r: len(self.steps) - 1 - self.best[r].number for r in active}
            stopped |= {r: "early_stopping" for r, n in waited.items() if n >= self.patience and r not in stopped}
        return objective, stopped

    def _update(self, restart: int, number: int, batches: list[Batch]) -> float:
        """One optimizer step; returns the objective, NaN if the weights were left as they were."""
        module, optimizer = self.restarts.modules[restart].train(), self.optimizers[restart]
        optimizer.zero_grad()
        objective = torch.zeros((), device=self.restarts.device)
        for part in self._parts(module, number, batches):
            (-part).backward()  # type: ignore[no-untyped-call]
            objective = objective + part.detach()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), self.clip_norm)
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
                    torch.manual_seed(restart_seed(self.seed, number * self.accumulate + i))
                with autocast(self.precision, self.restarts.device):
                    log_prob = self.restarts.training_log_prob(module, batch)
            mean = log_prob.sum(dim=1) @ batch.weights.to(log_prob.dtype) / total.to(log_prob.dtype)
            yield mean if i else mean + prior

    def trial(self, precision: Precision, batch: Batch) -> None:
        """The work of a step of the first restart in this precision, without an update."""
        module, chosen = self.restarts.modules[0].train(), self.precision
        self.precision = precision
        try:
            for part in self._parts(module, 0, [batch]):
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

    def keep(self, seconds: float, step: int) -> None:
        """Set aside the best weights so far; those of now where none were scored."""
        pairs = zip(self.restarts.modules, self.best, strict=True)
        self.kept[seconds] = (step, [_weights(m) if k.number < 0 else k.weights for m, k in pairs])

    # To disk and back

    def state(self, course: Course) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next steps depend on: tensors by name, and plain values."""
        tensors: dict[str, Tensor] = {}
        for r, (module, optimizer, best) in enumerate(
            zip(self.restarts.modules, self.optimizers, self.best, strict=True)
        ):
            tensors |= {f"{r}/weights/{name}": value for name, value in module.state_dict().items()}
            tensors |= {f"{r}/best/{name}": value for name, value in best.weights.items()}
            for name, parameter in module.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{r}/optimizer/{name}/{key}"] = value
        rows = {"history": course.history, "norms": self.norms, "scores": self.scores}
        for name, row in rows.items():
            tensors[name] = torch.from_numpy(np.array(row, np.float64).reshape(len(row), len(self.best)))
        tensors["best"] = torch.tensor([[one.score, one.number] for one in self.best], dtype=torch.float64)
        for seconds, (_, weights) in self.kept.items():
            for r, one in enumerate(weights):
                tensors |= {f"{r}/after {seconds}/{name}": value for name, value in one.items()}
        values = {
            "kept": [[seconds, step] for seconds, (step, _) in self.kept.items()],
            "epoch": self.sampler.epoch,
            "batch": self.sampler.number,
            "tokens": self.tokens,
            "scored": self.steps,
            "reasons": {str(r): why for r, why in course.reasons.items()},
            "failures": {str(r): why for r, why in self.failures.items()},
            "precision": self.precision,
        }
        return tensors, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> tuple[list[Any], dict[int, Any]]:
        """Go on from a `state`; returns the history of the objective, and who has stopped and why."""
        for r, (module, optimizer) in enumerate(zip(self.restarts.modules, self.optimizers, strict=True)):
            module.load_state_dict(_under(tensors, f"{r}/weights/"))
            for name, parameter in module.named_parameters():
                # the step count stays where the optimizer wants it, the moments are where the weights are
                found = _under(tensors, f"{r}/optimizer/{name}/")
                optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in found.items()}
            score, which = tensors["best"][r].tolist()
            best = {name: value.to(self.restarts.device) for name, value in _under(tensors, f"{r}/best/").items()}
            self.best[r] = _Kept(score, int(which), best)
        for seconds, step in values["kept"]:
            weights = [_under(tensors, f"{r}/after {seconds}/") for r in range(len(self.best))]
            self.kept[seconds] = (step, weights)
        self.norms, self.scores = list(tensors["norms"].numpy()), list(tensors["scores"].numpy())
        self.steps, self.tokens = list(values["scored"]), values["tokens"]
        self.failures = {int(r): why for r, why in values["failures"].items()}
        self.precision = values["precision"]
        self.sampler.seek(values["epoch"], values["batch"])
        return list(tensors["history"].numpy()), {int(r): why for r, why in values["reasons"].items()}

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
        """Score what is not yet scored, restore the best weights, and put into the fit what was seen on the way."""
        for r, (module, kept) in enumerate(zip(self.restarts.modules, self.best, strict=True)):
            if _went_astray(module, kept.weights):  # with the last update
                self._fail(r, f"step {len(fit.history)}: the weights were not finite after the update")
                fit.stop_reason[r] = "nonfinite"
        if self.validation is not None:
            ended = [r for r, why in enumerate(fit.stop_reason) if why in _UNFINISHED]
            if ended and (not self.steps or self.steps[-1] != len(fit.history)):
                self._score(len(fit.history), ended, self.validation)
            fit.validation_steps, fit.validation = np.array(self.steps, dtype=np.int64), np.array(self.scores)
            for module, kept in zip(self.restarts.modules, self.best, strict=True):
                module.load_state_dict(kept.weights)
        fit.details |= {"gradient_norm": np.array(self.norms), "num_tokens": self.tokens, "precision": self.precision}
        if self.failures:
            fit.details["failures"] = {str(r): why for r, why in self.failures.items()}
        fit.snapshots = {seconds: self._snapshot(fit, seconds) for seconds in self.kept}
        self.restarts.write_back()

    def _snapshot(self, fit: Fit[Any], seconds: float) -> Fit[Any]:
        """What the fit would have been with a budget of these seconds."""
        step, weights = self.kept[seconds]
        scored = sum(one <= step for one in self.steps)
        validation = np.array(self.scores[:scored]).reshape(scored, len(self.best))
        return Fit(
            model=self.restarts.copy(weights),
            objective=fit.objective,
            history=fit.history[:step],
            stop_reason=["max_seconds" if np.isfinite(now) else "early_stopping" for now in fit.history[step - 1]],
            seconds=seconds,
            validation_steps=np.array(self.steps[:scored], dtype=np.int64),
            validation=None if self.validation is None else validation,
        )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _tokens(batch: Batch) -> Tensor:
    """Observed tokens, rows counted by their weights."""
    tokens = batch.observed.sum(dim=1).to(batch.weights.dtype) @ batch.weights
    return tokens.clamp(min=torch.finfo(torch.float32).tiny)


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _went_astray(module: nn.Module, before: Mapping[str, Tensor]) -> bool:
    """Whether something that was finite no longer is. The logarithm of a probability of 0 never was."""
    return any(bool((before[name].isfinite() & ~p.isfinite()).any()) for name, p in module.named_parameters())
