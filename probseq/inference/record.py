"""What is written down between two steps of a gradient fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probseq.errors import InputError, check_whole
from probseq.inference.checkpointing import Checkpoints
from probseq.inference.gradient_state import restore, state_of
from probseq.inference.gradient_step import GradientStep
from probseq.inference.metrics import Metrics
from probseq.inference.precision import choose_precision
from probseq.inference.run import Course


@dataclass(frozen=True)
class Storage:
    """Where a fit leaves what it has reached, and what it goes on from.

    Attributes:
        checkpoint: the folder of its checkpoints, or None.
        every: steps between two of them.
        keep: the last so many are kept.
        resume: go on with the run that is there.
        metrics: the file of metrics, or None.
        tensorboard: the folder of event files, or None.
        snapshots: seconds after which the weights are set aside.

    Raises:
        InputError: one of them outside its range, nothing to resume.
    """

    checkpoint: str | Path | None
    every: int
    keep: int
    resume: bool
    metrics: str | Path | None
    tensorboard: str | Path | None
    snapshots: Sequence[float]

    def __post_init__(self) -> None:
        check_whole("checkpoint_every", self.every)
        check_whole("keep_checkpoints", self.keep)
        if not all(0 < one < math.inf for one in self.snapshots):
            raise InputError(f"snapshots is {list(self.snapshots)}; expected seconds, each more than 0")
        if self.resume and self.checkpoint is None:
            raise InputError("resume is True, and no folder of checkpoints is given; name it: checkpoint='...'")

    def open(self, step: GradientStep, identity: Mapping[str, Any] | None) -> closing[Record]:
        """Let `step` go on from the last checkpoint, or begin, and write down what follows.

        The folder of checkpoints is made last, when nothing else can refuse the fit.

        Args:
            step: what is fitted.
            identity: what its checkpoints belong to (see `Checkpoints`); None where there are none.

        Raises:
            InputError: a checkpoint that is damaged or of another run, no place to write, no kernel for the precision.
        """
        checkpoints = None
        if self.checkpoint is not None and identity is not None:
            checkpoints = Checkpoints(self.checkpoint, identity, keep=self.keep, resume=self.resume)
        state = checkpoints.load() if checkpoints and self.resume else None
        if state is not None:
            restore(step, state)
        else:
            step.precision = choose_precision(step.settings.precision, step.trial)
        metrics = Metrics(self.metrics, self.tensorboard, len(step.course.history) if self.resume else None)
        record = Record(step, checkpoints, self.every, metrics, self.snapshots)
        try:
            if checkpoints is not None:
                checkpoints.begin()
        except InputError:
            record.close()
            raise
        return closing(record)


class Record:
    """Called between two steps: writes metrics and checkpoints.

    Args:
        step: what is fitted.
        checkpoints: where its state goes, or None.
        every: steps between two checkpoints.
        metrics: where its course goes.
        snapshots: seconds after which the weights are set aside.
    """

    def __init__(
        self,
        step: GradientStep,
        checkpoints: Checkpoints | None,
        every: int,
        metrics: Metrics,
        snapshots: Sequence[float] = (),
    ) -> None:
        self.step, self.checkpoints, self.every = step, checkpoints, every
        self.metrics, self.snapshots = metrics, snapshots

    def close(self) -> None:
        """Close the files of metrics."""
        self.metrics.close()

    def __call__(self, course: Course) -> None:
        number = len(course.history)
        self.metrics.write(number, self._values(course))
        self._set_aside(course.seconds)
        if number % self.every == 0:
            self._save(course)

    def end(self) -> None:
        """Write the last checkpoint, then fill the snapshots that were not reached: a longer fit will reach them."""
        self._save(self.step.course)
        self._set_aside(math.inf)

    def _values(self, course: Course) -> dict[str, float | list[float]]:
        values: dict[str, float | list[float]] = {
            "objective": course.history[-1].tolist(),
            "gradient_norm": self.step.norms[-1].tolist(),
            "learning_rate": self.step.learning_rate,
            "tokens": course.tokens,
            "seconds": course.seconds,
        }
        if self.step.steps and self.step.steps[-1] == len(course.history):
            values["validation"] = self.step.scores[-1].tolist()
        return values

    def _set_aside(self, seconds: float) -> None:
        """Set aside the weights for every snapshot that is due after so many seconds."""
        for due in self.snapshots:
            if due <= seconds and due not in self.step.aside:
                self.step.set_aside(due)

    def _save(self, course: Course) -> None:
        """Write a checkpoint, unless weights no longer are finite; only the clock where there is one of this step."""
        number = len(course.history)
        failed = sum(why == "nonfinite" for why in course.reasons.values())
        if self.checkpoints is None or number == 0 or not self.step.is_sound or failed == len(self.step.best):
            return
        if number in self.checkpoints.states():
            self.checkpoints.note(number, course.seconds)
        else:
            self.checkpoints.save(number, state_of(self.step))
