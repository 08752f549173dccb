"""`fit_gradient`: gradient ascent on the log-likelihood, AdamW with warm-up, one optimizer for each restart."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.inference.device import resolve_device
from probseq.inference.em import initialize
from probseq.inference.gradient_step import GradientStep, Rate
from probseq.inference.lone_restarts import check_kind, lone_restarts
from probseq.inference.run import Fit, check_budget, run
from probseq.models.autoregressive import Autoregressive
from probseq.models.base import Model

M = TypeVar("M", bound=Model)


def fit_gradient(
    model: M,
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
) -> Fit[M]:
    r"""Fit every restart of `model` by AdamW on minibatches, in place.

    All restarts see the same batches in the same order and the same dropout noise, drawn from `seed`: what differs
    between them is where they started. Each has its own optimizer, gradient clipping and early stopping, so a restart
    comes out as it would alone (to rounding).

    For a hidden Markov model the objective is that of `em`: the exact log-likelihood (together with the states that the
    data know), and the log-prior divided by the number of tokens of the data. The gradient is in its unconstrained
    parameters; fixed parts stay, and so does every probability of 0. A learning rate of about 0.03 suits it better than
    the default, which is for networks.

    With `validation`, each restart is scored every `eval_every` steps and at its end; it stops after `patience` scores
    in a row without improvement, and its best weights are restored.

    Args:
        model: `probseq.Autoregressive`, or a hidden Markov model.
        data: the training sequences. What a model wants to know of the data before it is fitted, it learns from these.
        validation: sequences to choose weights and stopping by.
        num_steps: optimizer steps of each restart, at most.
        seconds: wall-clock seconds at most, all restarts together; the schedule follows whichever budget is closer to
            its end.
        batch_size: sequences in a batch; sequences of like length are put together.
        learning_rate: at the end of the warm-up.
        weight_decay: of AdamW, on the matrices of networks only.
        warmup_steps: steps over which the rate rises linearly from 0.
        schedule: ``"cosine"`` (down to a tenth of the rate) or ``"constant"``.
        clip_norm: the norm that each restart's gradient is clipped to.
        eval_every: steps between validation scores.
        patience: validation scores without improvement before a restart stops.
        seed: of the order of batches and the dropout noise.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``. Default: where the model is.
        progress: show progress. Default: only on a terminal.

    Returns:
        The `Fit`; ``history`` is the objective per observed token of each step's batch, before the update. A restart
        whose loss or gradient is not finite stops as ``nonfinite`` and goes back to its best weights on validation (or,
        without validation, to those it began with).

    Raises:
        InputError: a model without a gradient, no data, data that the model cannot score, a setting outside its range.

    Reference:
        I. Loshchilov, F. Hutter (2019), "Decoupled weight decay regularization".
    """
    _check(learning_rate, clip_norm, batch_size, eval_every, patience, schedule)
    if warmup_steps < 0 or not 0 <= weight_decay < math.inf:
        raise InputError(f"warmup_steps is {warmup_steps} and weight_decay {weight_decay}; expected 0 or more")
    check_budget(num_steps, seconds)
    check_kind(model)
    _check_data(model, data, "data")
    if validation is not None:
        _check_data(model, validation, "validation")
    if device is not None:
        model.to(resolve_device(device))
    _look_at(model, data)
    restarts = lone_restarts(model)
    optimizers = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), fused=True)
        for groups in (restarts.parameter_groups(one, weight_decay) for one in restarts.modules)
    ]
    with restarts.side_by_side() as each:
        step = GradientStep(
            restarts,
            optimizers,
            Rate(learning_rate, warmup_steps, schedule, num_steps, seconds),
            each,
            data,
            validation,
            eval_every=eval_every,
            patience=patience,
            batch_size=batch_size,
            clip_norm=clip_norm,
            seed=seed,
        )
        fit = run(
            step,
            model,
            num_restarts=model.num_restarts,
            num_steps=num_steps,
            seconds=seconds,
            objective=restarts.objective,
            title="gradient",
            progress=progress,
        )
        step.finish(fit)
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


def _check_data(model: Model, data: Sequences, part: str) -> None:
    check_sequences(data, part)
    for batch in data.batches():
        model.check_values(batch)


def _look_at(model: Any, data: Sequences) -> None:
    """Let the model see the data: a network its first data alone, whose units are its own from then on."""
    if not isinstance(model, Autoregressive):
        initialize(model, data)
    elif not model.initialized:
        model.observe(data)
