"""`run`, the only fitting loop, and `Fit`, what every fit returns."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from probseq.errors import InputError, check_whole
from probseq.inference.progress import Display

StopReason = Literal[
    "converged", "max_steps", "max_tokens", "max_seconds", "early_stopping", "decreased", "nonfinite", "interrupted"
]
M = TypeVar("M")


@dataclass(repr=False)
class Fit(Generic[M]):
    """A fitted model and how it got there.

    Attributes:
        model: the fitted model, R restarts.
        objective: what `history` holds, for example ``"log-likelihood per token (nats)"``; larger is better.
        history: ``(S, R)`` the objective at every step; NaN after a restart stopped.
        stop_reason: why each of the R restarts stopped.
        seconds: wall-clock seconds of the whole fit.
        validation_steps: ``(E,)`` the steps after which validation data was scored (empty if never).
        validation: ``(E, R)`` mean log-probability per validation token (nats), NaN after a restart stopped.
        details: what one method has to add, for example the order that was chosen for an n-gram.
        snapshots: what `fit_gradient` was asked to set aside on the way, by seconds.
    """

    model: M
    objective: str
    history: NDArray[np.float64]
    stop_reason: list[StopReason]
    seconds: float
    validation_steps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    validation: NDArray[np.float64] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    snapshots: dict[float, Fit[M]] = field(default_factory=dict)

    @property
    def num_steps(self) -> NDArray[np.int64]:
        """``(R,)`` steps that each restart took."""
        steps: NDArray[np.int64] = np.isfinite(self.history).sum(axis=0)
        return steps

    def __repr__(self) -> str:
        last = [curve[np.isfinite(curve)][-1:] for curve in self.history.T]
        best = max((float(value[0]) for value in last if len(value)), default=float("nan"))
        reasons = ", ".join(f"{num} x {reason}" for reason, num in Counter(self.stop_reason).most_common())
        return (
            f"Fit of {type(self.model).__name__}, {len(self.stop_reason)} restarts in {self.seconds:.1f} s: best "
            f"{self.objective} {best:.4f} after at most {len(self.history)} steps; stopped by: {reasons}"
        )


@dataclass
class Course:
    """How far a run has come: what `run` itself has to know to go on where another process was stopped.

    Attributes:
        history: the objective ``(R,)`` at every step so far; NaN where a restart had stopped.
        reasons: the restarts that have stopped, and why.
        seconds: wall-clock seconds that were spent on these steps.
    """

    history: list[NDArray[np.float64]] = field(default_factory=list)
    reasons: dict[int, StopReason] = field(default_factory=dict)
    seconds: float = 0.0


Step = Callable[[int, list[int]], tuple[NDArray[np.float64], Mapping[int, StopReason]]]
"""One step of a method: the step's number and the running restarts in; their objectives, and who stops and why, out."""


def run(
    step: Step,
    model: M,
    *,
    num_restarts: int,
    num_steps: int,
    seconds: float | None,
    objective: str,
    title: str,
    progress: bool | None,
    course: Course | None = None,
    between: Callable[[Course], StopReason | None] | None = None,
) -> Fit[M]:
    """Call `step` until every restart has stopped, or a budget is spent, or the user presses Ctrl-C.

    A restart that a step reports as stopped takes no part in later steps. Ctrl-C is noticed between steps, so a step
    is never cut in half; pressed twice, it raises `KeyboardInterrupt` as usual.

    Args:
        step: one step of the method.
        model: what the returned `Fit` carries; the step changes it.
        num_restarts: how many restarts the model has.
        num_steps: steps at most.
        seconds: wall-clock seconds at most, or None. One step is always made, and the step in progress is finished.
        objective: what a step returns, for `Fit.objective`.
        title: what the progress display calls this run.
        progress: show progress (None: only when stderr is a terminal).
        course: the steps that were made before, which count: in the budgets, the history and the reasons to stop. It
            grows with every step.
        between: called after every step, to write down where the run stands; a reason that it returns ends the run.

    Raises:
        InputError: a budget below one step or not above zero seconds.
    """
    check_budget(num_steps, seconds)
    course = Course() if course is None else course
    begin = time.monotonic() - course.seconds
    last: StopReason = "max_steps"
    with interrupts() as interrupted, Display(title, num_steps, seconds, progress, course.seconds) as display:
        for number in range(len(course.history), num_steps):
            active = [r for r in range(num_restarts) if r not in course.reasons]
            late = seconds is not None and number > 0 and time.monotonic() - begin >= seconds
            if interrupted.is_set() or late or not active:
                last = "interrupted" if interrupted.is_set() else "max_seconds"
                break
            row = np.full(num_restarts, np.nan)
            row[active], stopped = step(number, active)
            course.history.append(row)
            course.reasons.update(stopped)
            course.seconds = time.monotonic() - begin
            display.update(number + 1, row)
            if between is not None and (ended := between(course)) is not None:
                last = ended
                break
    return Fit(
        model=model,
        objective=objective,
        history=np.array(course.history).reshape(-1, num_restarts),
        stop_reason=[course.reasons.get(r, last) for r in range(num_restarts)],
        seconds=time.monotonic() - begin,
    )


def check_budget(num_steps: int, seconds: float | None) -> None:
    """Raise `InputError` for a budget that allows nothing."""
    check_whole("num_steps", num_steps)
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds is {seconds}; expected more than 0")


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets instead of raising; the second raises.

    Outside the main thread, where Python takes no signals, it stays unset.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(*_: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
