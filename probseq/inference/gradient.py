"""`fit_gradient`: gradient ascent on the log-likelihood, AdamW with warm-up, one optimizer for each restart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from probseq.data.sequences import Sequences, check_sequences
from probseq.data.vocabulary import Vocabulary
from probseq.errors import ImpossibleError, InputError
from probseq.inference.checkpointing import fingerprint
from probseq.inference.device import resolve_device
from probseq.inference.em import initialize
from probseq.inference.gradient_settings import GradientSettings
from probseq.inference.gradient_step import GradientStep
from probseq.inference.lone_restarts import check_kind, lone_restarts
from probseq.inference.record import Storage
from probseq.inference.run import UNLIMITED_STEPS, Budgets, Course, Fit, run
from probseq.models.base import Model
from probseq.models.network_model import NetworkModel

M = TypeVar("M", bound=Model)

_STEPS = 2000  # where no budget is given


class Diverged(InputError):
    """No restart is left: the loss, the gradient or the weights of every one turned NaN or infinite.

    Attributes:
        fit: the fit so far; each restart has the weights that it went back to.
    """

    def __init__(self, message: str, fit: Fit[Any]) -> None:
        super().__init__(message)
        self.fit = fit


def fit_gradient(
    model: M,
    data: Sequences,
    validation: Sequences | None = None,
    *,
    num_steps: int | None = None,
    num_tokens: int | None = None,
    seconds: float | None = None,
    batch_size: int = 64,
    accumulate: int = 1,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    warmup_steps: int = 100,
    schedule: str = "cosine",
    clip_norm: float = 1.0,
    precision: str = "float32",
    eval_every: int = 100,
    patience: int = 5,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    keep_checkpoints: int = 3,
    resume: bool = False,
    vocabulary: Vocabulary | None = None,
    snapshots: Sequence[float] = (),
    metrics: str | Path | None = None,
    tensorboard: str | Path | None = None,
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
    in a row without improvement, and its best weights are restored. A model to which validation is impossible, all
    scores minus infinity, has nothing to choose by: it stops by its budget and keeps its last weights. Every sequence
    is scored by itself, as in training, also where it goes on with a document (`Sequences.continues`); `compare` then
    chooses between the restarts with the document before it.

    **Stop and go on.** With `checkpoint`, everything that the next step depends on is written to that folder every
    `checkpoint_every` steps and at the end: weights, best weights, moments of the optimizer, the place in the data,
    histories, and what early stopping has counted. Noise is a function of the seed and the step and needs no state.
    A process that was killed at any moment is continued with ``resume=True`` and the same settings, and ends with the
    same weights and history, bit for bit, on the same machine with the same number of threads. Budgets and `patience`
    may differ, to train longer: a restart that early stopping had ended goes on if it now has patience left, unless
    others have gone on without it. A budget in seconds counts those that were spent before, and a cosine over seconds
    follows the clock, so there nothing is repeated exactly.

    Args:
        model: `probseq.Autoregressive`, `probseq.Conditional`, or a hidden Markov model.
        data: the training sequences. What a model wants to know of the data before it is fitted, it learns from these.
        validation: sequences to choose weights and stopping by.
        num_steps: optimizer steps of each restart, at most. Default: 2000, or no limit where another budget is given.
        num_tokens: training tokens at most; the step in progress is finished.
        seconds: wall-clock seconds at most, all restarts together, those of a starting point that looks at the data
            included; the schedule follows whichever budget is closest to its end.
        batch_size: sequences in a batch; sequences of like length are put together.
        accumulate: batches whose gradients are added up for one step, as if they were one batch.
        learning_rate: of AdamW, at its highest.
        weight_decay: of AdamW, on the matrices of networks only.
        warmup_steps: steps over which the rate rises linearly from 0, as a factor of the schedule.
        schedule: ``"cosine"`` (down to a tenth of the rate) or ``"constant"``. A cosine over steps begins after the
            warm-up, one over tokens or seconds at the beginning.
        clip_norm: the norm that each restart's gradient is clipped to; ``math.inf`` does not clip.
        precision: ``"float32"``, ``"bfloat16"`` (matrix products under autocast) or ``"auto"``: bfloat16 where a
            self-test finds it at least 1.1 times as fast here. The test takes ten seconds, or the five steps that it
            makes at least.
        eval_every: steps between validation scores; without validation, between the weights that a restart which
            diverges goes back to.
        patience: validation scores without improvement before a restart stops.
        checkpoint: a folder for checkpoints, which must not hold those of another run.
        checkpoint_every: steps between checkpoints. Default: `eval_every`.
        keep_checkpoints: the last so many are kept.
        resume: go on with the run in `checkpoint`.
        vocabulary: what the symbols mean: a checkpoint of another vocabulary is refused.
        snapshots: seconds after which the best weights so far are set aside, in ``fit.snapshots``: one run is read at
            several budgets. What a fit that ends before has reached stands for all that are later.
        metrics: a JSONL file with a line for each step.
        tensorboard: a folder for TensorBoard's event files (needs the package ``tensorboard``).
        seed: of the order of batches and the dropout noise.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``. Default: where the model is.
        progress: show progress. Default: only on a terminal.

    Returns:
        The `Fit`; ``history`` is the objective per observed token of each step's batch, before the update. A restart
        whose loss or gradient is not finite stops as ``nonfinite`` and goes back to its best weights on validation (or,
        without validation, to the last good ones of every `eval_every` steps). ``details`` has ``gradient_norm``
        ``(S, R)``, before clipping, ``num_tokens``, ``precision``, and under ``failures`` what was not finite.

    Raises:
        InputError: a model without a gradient, no data, data that the model cannot score, a setting outside its range,
            a checkpoint that is damaged or of another architecture, vocabulary, data set or setting, a disk that is
            full. Checkpoints that were written before are not touched.
        Diverged: every restart stopped as ``nonfinite``.

    Reference:
        I. Loshchilov, F. Hutter (2019), "Decoupled weight decay regularization".
    """
    settings = GradientSettings(
        batch_size=batch_size, accumulate=accumulate, learning_rate=learning_rate, weight_decay=weight_decay,
        warmup_steps=warmup_steps, schedule=schedule, clip_norm=clip_norm, precision=precision, eval_every=eval_every,
        patience=patience, seed=seed,
    )  # fmt: skip
    limit = _STEPS if seconds is None and num_tokens is None else UNLIMITED_STEPS
    budgets = Budgets(limit if num_steps is None else num_steps, seconds, num_tokens)
    every = eval_every if checkpoint_every is None else checkpoint_every
    storage = Storage(checkpoint, every, keep_checkpoints, resume, metrics, tensorboard, snapshots)
    _prepare(model, data, validation, precision, device)
    begun = Course()
    with begun.timed():
        _look_at(model, data)
    identity = None if checkpoint is None else _identity(model, data, validation, vocabulary, settings.identity())
    restarts = lone_restarts(model)
    with restarts.side_by_side() as each:
        step = GradientStep(restarts, settings, budgets, each, data, validation)
        step.course.seconds = begun.seconds  # a checkpoint that is resumed brings its own
        with storage.open(step, identity) as record:
            fit = run(
                step, model, num_restarts=model.num_restarts, budgets=budgets, objective=restarts.objective,
                title="gradient", progress=progress, course=step.course, between=record,
            )  # fmt: skip
            record.end()
        step.finish(fit)
    if set(fit.stop_reason) == {"nonfinite"}:
        why = "; ".join(f"restart {r}, {reason}" for r, reason in fit.details["failures"].items())
        raise Diverged(f"no restart is left: {why}; take a smaller learning_rate, or look at the data", fit)
    return fit


def _prepare(model: Model, data: Sequences, validation: Sequences | None, precision: str, device: str | None) -> None:
    """Look at everything that can be wrong with the model and the data."""
    check_kind(model)
    if precision != "float32" and not isinstance(model, NetworkModel):
        raise InputError(
            f"precision is {precision!r}, which is for networks; leave it out for a {type(model).__name__}"
        )
    _check_data(model, data, "data")
    if validation is not None:
        _check_data(model, validation, "validation")
    if device is not None:
        model.to(resolve_device(device))


def _check_data(model: Model, data: Sequences, part: str) -> None:
    check_sequences(data, part)
    for batch in data.batches():
        model.check_values(batch)
        try:
            model.check_possible(batch)
        except ImpossibleError as error:
            raise error.named(f"sequence {error.row} of {part}") from None


def _look_at(model: Any, data: Sequences) -> None:
    """Let the model see the data: a network its first data alone, whose units are its own from then on."""
    if not isinstance(model, NetworkModel):
        initialize(model, data)
    elif not model.initialized:
        model.observe(data)


def _identity(
    model: Model,
    data: Sequences,
    validation: Sequences | None,
    vocabulary: Vocabulary | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What a checkpoint belongs to, by part; in the order in which a difference is named."""
    config = model.config()
    symbols = None if vocabulary is None else json.dumps(vocabulary.to_dict(), sort_keys=True)
    return {
        "vocabulary": {
            "support": list(model.support),
            "symbols": None if symbols is None else hashlib.sha256(symbols.encode()).hexdigest(),
        },
        "architecture": {
            "class": type(model).__name__,
            **config.get("network", {}),
            **{key: value for key, value in config.items() if key != "network"},
            "dtype": str(next(model.parameters()).dtype),
        },
        "setting": settings,
        "training set": fingerprint(data),
        "validation set": None if validation is None else fingerprint(validation),
    }
