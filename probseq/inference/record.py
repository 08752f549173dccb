"""What is written down between two steps of a gradient fit, and the budget in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from probseq.inference.checkpointing import Checkpoints
from probseq.inference.gradient_step import GradientStep
from probseq.inference.metrics import Metrics
from probseq.inference.run import Course, StopReason


class Record:
    """Called between two steps: writes metrics and checkpoints, and says when the tokens are spent.

    Args:
        step: what is fitted.
        checkpoints: where its state goes, or None.
        every: steps between two checkpoints.
        metrics: where its course goes.
        num_tokens: the budget in tokens, or None.
        snapshots: seconds after which the weights are set aside.
    """

    def __init__(
        self,
        step: GradientStep,
        checkpoints: Checkpoints | None,
        every: int,
        metrics: Metrics,
        num_tokens: int | None,
        snapshots: Sequence[float] = (),
    ) -> None:
        self.step, self.checkpoints, self.every = step, checkpoints, every
        self.metrics, self.num_tokens, self.snapshots = metrics, num_tokens, snapshots

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.metrics.close()

    def __call__(self, course: Course) -> StopReason | None:
        number = len(course.history)
        self.metrics.write(number, self._values(course))
        self.keep(course, course.seconds)
        if number % self.every == 0:
            self.save(course)
        return "max_tokens" if self.num_tokens is not None and self.step.tokens >= self.num_tokens else None

    def _values(self, course: Course) -> dict[str, float | list[float]]:
        values: dict[str, float | list[float]] = {
            "objective": course.history[-1].tolist(),
            "gradient_norm": self.step.norms[-1].tolist(),
            "learning_rate": self.step.learning_rate,
            "tokens": self.step.tokens,
            "seconds": course.seconds,
        }
        if self.step.steps and self.step.steps[-1] == len(course.history):
            values["validation"] = self.step.scores[-1].tolist()
        return values

    def keep(self, course: Course, seconds: float) -> None:
        """Set aside the weights for every snapshot that is due after so many seconds."""
        for due in self.snapshots:
            if due <= seconds and due not in self.step.kept:
                self.step.keep(due, len(course.history))

    def save(self, course: Course) -> None:
        """Write a checkpoint, unless there is one of this step, or weights that no longer are finite."""
        number = len(course.history)
        if self.checkpoints is None or number == 0 or number in self.checkpoints.states():
            return
        failed = sum(why == "nonfinite" for why in course.reasons.values())
        if self.step.is_sound and failed < len(self.step.best):
            self.checkpoints.save(number, *self.step.state(course), course.seconds)
