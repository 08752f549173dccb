"""Gradient descent on the negative log-likelihood: AdamW with warm-up, one optimizer for each restart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.sequences import Batch, Sequences
from probseq.errors import InputError
from probseq.inference.device import resolve_device
from probseq.inference.run import Fit, StopReason, run
from probseq.models.autoregressive import Autoregressive, Network, net_token_log_prob
from probseq.models.base import restart_seed

_FINAL_RATE = 0.1  # the cosine ends at this share of the learning rate


def fit_gradient(
    model: Autoregressive,
    data: Sequences,
    validation: Sequences | None = None,
    *,
    num_steps: int = 2000,
    seconds: float | None = None,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    warmup_steps: int = 100,
    schedule: str = "cosine",
    clip_norm: float = 1.0,
    eval_every: int = 200,
    patience: int = 5,
    seed: int = 0,
    device: str | None = None,
    progress: bool | None = None,
) -> Fit[Autoregressive]:
    """Fit every network of `model` by AdamW, in place.

    All restarts see the same batches in the same order and the same dropout noise, drawn from `seed`: what differs
    between them is where they started. Each has its own optimizer, gradient clipping and early stopping, so a restart
    comes out as it would alone (to rounding).

    With `validation`, each restart is scored every `eval_every` steps and at its end; it stops after `patience` scores
    in a row without improvement, and its best weights are restored.

    Args:
        model: networks behind the likelihood contract.
        data: the training sequences.
        validation: sequences to choose weights and stopping by.
        num_steps: optimizer steps of each restart, at most.
        seconds: wall-clock seconds at most, all restarts together; the schedule follows whichever budget is closer to
            its end.
        batch_size: sequences in a batch; sequences of like length are put together.
        learning_rate: at the end of the warm-up.
        weight_decay: of AdamW, on matrices only.
        warmup_steps: steps over which the rate rises linearly from 0.
        schedule: ``"cosine"`` (down to a tenth of the rate) or ``"constant"``.
        clip_norm: the norm that each network's gradient is clipped to.
        eval_every: steps between validation scores.
        patience: validation scores without improvement before a restart stops.
        seed: of the order of batches and the dropout noise.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``. Default: where the model is.
        progress: show progress. Default: only on a terminal.

    Returns:
        The `Fit`; ``history`` is the mean log-probability per token of each step's batch, before the update. A restart
        whose loss or gradient is not finite stops as ``nonfinite`` and goes back to its best weights on validation (or,
        without validation, to those it began with).

    Raises:
        InputError: a model that is not `Autoregressive`, no data, a setting outside its range.

    Reference:
        I. Loshchilov, F. Hutter (2019), "Decoupled weight decay regularization".
    """
    if not isinstance(model, Autoregressive):
        raise InputError(f"fit_gradient fits Autoregressive networks, and em an HMM; received {type(model).__name__}")
    for part in (data, validation):
        if part is not None:
            if len(part) == 0:
                raise InputError("there is nothing to fit or to validate on: a data set has no sequences")
            model.check_symbols(torch.as_tensor(np.asarray(part.values))[None])
    _check(learning_rate, clip_norm, batch_size, eval_every, patience, schedule)
    if warmup_steps < 0 or not 0 <= weight_decay < math.inf:
        raise InputError(f"warmup_steps is {warmup_steps} and weight_decay {weight_decay}; expected 0 or more")
    if device is not None:
        model.to(resolve_device(device))
    method = _Gradient(model, data, validation, eval_every, patience, batch_size, clip_norm, seed)
    method.optimizers = [_optimizer(net, learning_rate, weight_decay) for net in model.nets]
    method.rate = _Rate(learning_rate, warmup_steps, schedule, num_steps, seconds)
    with _over_restarts(model) as method.each:
        fit = run(
            method,
            model,
            num_restarts=model.num_restarts,
            num_steps=num_steps,
            seconds=seconds,
            objective="log-likelihood per token of the batch (nats)",
            title="gradient",
            progress=progress,
        )
        method.finish(fit)
    return fit


def _check(
    learning_rate: float, clip_norm: float, batch_size: int, eval_every: int, patience: int, schedule: str
) -> None:
    if schedule not in ("cosine", "constant"):
        raise InputError(f"schedule is {schedule!r}; expected 'cosine' or 'constant'")
    positive = {
        "learning_rate": learning_rate,
        "clip_norm": clip_norm,
        "batch_size": batch_size,
        "eval_every": eval_every,
        "patience": patience,
    }
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name} is {value}; expected more than 0")


def _optimizer(net: Network, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Fused AdamW; vectors (biases, norms) are not decayed."""
    matrices = [p for p in net.parameters() if p.ndim >= 2]
    vectors = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), fused=True)


class _Rate:
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


def _weights(net: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


Each = Callable[[Callable[[int], float], list[int]], Iterable[float]]


@contextmanager
def _over_restarts(model: Autoregressive) -> Iterator[Each]:
    """A `map` over restarts: in threads of one core each, where that is possible and faster.

    A small recurrent step keeps one core busy and no more, so on a CPU two restarts side by side take little longer
    than one. Dropout draws from the one random state of torch, so with it restarts take turns.
    """
    workers = min(model.num_restarts, torch.get_num_threads())
    if workers == 1 or model.device.type != "cpu" or model.nets[0].dropout > 0:
        yield map
        return
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)  # threads made later would inherit the pool's setting


class _Gradient:
    """The step: one batch, and one optimizer step of every running network."""

    optimizers: list[torch.optim.Optimizer]
    rate: _Rate
    each: Each

    def __init__(
        self,
        model: Autoregressive,
        data: Sequences,
        validation: Sequences | None,
        eval_every: int,
        patience: int,
        batch_size: int,
        clip_norm: float,
        seed: int,
    ) -> None:
        self.model, self.validation = model, validation
        self.eval_every, self.patience, self.clip_norm, self.seed = eval_every, patience, clip_norm, seed
        self.batches = _epochs(data, batch_size, seed, model.device)
        self.steps: list[int] = []  # after which validation was scored
        self.scores: list[NDArray[np.float64]] = []
        self.best = [_Kept(-math.inf, -1, _weights(net)) for net in model.nets]  # where each began

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
        """One optimizer step; returns the mean log-probability, NaN if the weights were left as they were."""
        net, optimizer = self.model.nets[restart].train(), self.optimizers[restart]
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()), enabled=net.dropout > 0):
            if net.dropout > 0:
                torch.manual_seed(noise)
            log_prob = _weighted_mean(net, batch)
        optimizer.zero_grad()
        (-log_prob).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), self.clip_norm)
        if not bool(torch.isfinite(log_prob) & torch.isfinite(norm)):
            return math.nan
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return log_prob.item()

    def _score(self, step: int, active: list[int], validation: Sequences) -> None:
        """Score validation data; remember each restart's best weights."""
        row = np.full(self.model.num_restarts, np.nan)
        row[active] = list(self.each(lambda r: _validation_score(self.model.nets[r], validation), active))
        for r in active:
            if np.isfinite(row[r]) and row[r] > self.best[r].score:
                self.best[r] = _Kept(row[r], len(self.steps), _weights(self.model.nets[r]))
        self.steps.append(step)
        self.scores.append(row)

    def finish(self, fit: Fit[Autoregressive]) -> None:
        """Score what is not yet scored, restore the best weights, and put the validation curve into the fit."""
        ended = [r for r, why in enumerate(fit.stop_reason) if why in ("max_steps", "max_seconds", "interrupted")]
        if self.validation is not None:
            if ended and (not self.steps or self.steps[-1] != len(fit.history)):
                self._score(len(fit.history), ended, self.validation)
            fit.validation_steps, fit.validation = np.array(self.steps, dtype=np.int64), np.array(self.scores)
        for r, (net, kept) in enumerate(zip(self.model.nets, self.best, strict=True)):
            if not all(p.isfinite().all() for p in net.parameters()):  # the last update went astray
                fit.stop_reason[r] = "nonfinite"
            if self.validation is not None or fit.stop_reason[r] == "nonfinite":
                net.load_state_dict(kept.weights)
        self.model.eval()


def _epochs(data: Sequences, batch_size: int, seed: int, device: torch.device) -> Iterator[Batch]:
    """Batches without end, each pass over the data in a new order."""
    longest = int(data.lengths.max())
    epoch = 0
    while True:
        order = restart_seed(seed, epoch)
        yield from data.batches(batch_size * longest, batch_size=batch_size, shuffle=True, seed=order, device=device)
        epoch += 1


def _weighted_mean(net: Network, batch: Batch) -> Tensor:
    """Mean log-probability per real token, rows counted by their weights."""
    weights = batch.weights.to(next(net.parameters()).dtype)
    total = net_token_log_prob(net, batch).sum(dim=1) @ weights
    return total / (batch.lengths * weights).sum()


def _validation_score(net: Network, data: Sequences, max_tokens: int = 2**14) -> float:
    """Mean log-probability per token (nats), in evaluation mode."""
    net.eval()
    device = next(net.parameters()).device
    total, tokens = 0.0, 0.0
    for batch in data.batches(max_tokens, device=device):
        with torch.no_grad():
            total += float(net_token_log_prob(net, batch).double().sum(dim=1) @ batch.weights)
        tokens += float(batch.lengths.double() @ batch.weights)
    return total / tokens
