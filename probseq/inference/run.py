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
        seconds: wall-clock seconds of the whole fit, its starting point included.
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
        restarts = f"{len(self.stop_reason)} restart{'s' * (len(self.stop_reason) != 1)}"
        return (
            f"Fit of {type(self.model).__name__}, {restarts} in {self.seconds:.1f} s: best "
            f"{self.objective} {best:.4f} after at most {len(self.history)} steps; stopped by: {reasons}"
        )


@dataclass
class Course:
    """How far a run has come: what `run` itself has to know to go on where another process was stopped.

    Attributes:
        history: the objective ``(R,)`` at every step so far; NaN where a restart had stopped.
        reasons: the restarts that have stopped, and why.
        seconds: wall-clock seconds that were spent on these steps, and on the starting point.
        tokens: training tokens that were seen in them, where the method counts them.
    """

    history: list[NDArray[np.float64]] = field(default_factory=list)
    reasons: dict[int, StopReason] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the seconds of what is done outside of `run` as part of it, such as to find a starting point."""
        begin = time.monotonic()
        yield
        self.seconds += time.monotonic() - begin


UNLIMITED_STEPS = 10**9  # where only another budget is given


@dataclass(frozen=True)
class Budgets:
    """What a fit may spend; the first that is spent ends it.

    Attributes:
        num_steps: steps at most.
        seconds: wall-clock seconds at most, the starting point included, or None. One step is always made, and the step
            in progress is finished.
        num_tokens: training tokens at most, or None; the step in progress is finished.

    Raises:
        InputError: a budget below one step, above no seconds, below one token.
    """

    num_steps: int
    seconds: float | None = None
    num_tokens: int | None = None

    def __post_init__(self) -> None:
        check_whole("num_steps", self.num_steps)
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds is {self.seconds}; expected more than 0")
        if self.num_tokens is not None:
            check_whole("num_tokens", self.num_tokens)

    def spent(self, course: Course) -> StopReason | None:
        """Which budget is spent, or None."""
        if self.num_tokens is not None and course.tokens >= self.num_tokens:
            return "max_tokens"
        if len(course.history) >= self.num_steps:
            return "max_steps"
        late = self.seconds is not None and course.seconds >= self.seconds
        return "max_seconds" if late and course.history else None

    def check_not_passed(self, course: Course) -> None:
        """Raise `InputError` if more steps than these have been made: what they led to cannot be had from here."""
        if len(course.history) > self.num_steps:
            made = len(course.history)
            raise InputError(
                f"the run has made {made} steps, and num_steps is {self.num_steps}; expected {made} or more"
            )

    def share(self, course: Course, skip: int = 0) -> float:
        """The share that is spent of the budget that is closest to its end; the first `skip` steps are no budget's."""
        done = max(0, len(course.history) - skip) / max(1, self.num_steps - skip)
        if self.seconds is not None:
            done = max(done, course.seconds / self.seconds)
        if self.num_tokens is not None:
            done = max(done, course.tokens / self.num_tokens)
        return min(1.0, done)


Step = Callable[[int, list[int]], tuple[NDArray[np.float64], Mapping[int, StopReason]]]
"""One step of a method: the step's number and the running restarts in; their objectives, and who stops and why, out."""


def run(
    step: Step,
    model: M,
    *,
    num_restarts: int,
    budgets: Budgets,
    objective: str,
    title: str,
    progress: bool | None,
    course: Course | None = None,
    between: Callable[[Course], None] | None = None,
) -> Fit[M]:
    """Call `step` until every restart has stopped, or a budget is spent, or the user presses Ctrl-C.

    A restart that a step reports as stopped takes no part in later steps. Ctrl-C is noticed between steps, so a step
    is never cut in half; pressed twice, it raises `KeyboardInterrupt` as usual.

    Args:
        step: one step of the method.
        model: what the returned `Fit` carries; the step changes it.
        num_restarts: how many restarts the model has.
        budgets: what may be spent; a run that had spent it before makes no step.
        objective: what a step returns, for `Fit.objective`.
        title: what the progress display calls this run.
        progress: show progress (None: only when stderr is a terminal).
        course: the steps that were made before, which count: in the budgets, the history and the reasons to stop. It
            grows with every step.
        between: called after every step, to write down where the run stands.
    """
    course = Course() if course is None else course
    begin = time.monotonic() - course.seconds
    last: StopReason | None = None
    display = Display(title, budgets.num_steps, budgets.seconds, progress, course.seconds)
    with interrupts() as interrupted, display:
        while active := [r for r in range(num_restarts) if r not in course.reasons]:
            course.seconds = time.monotonic() - begin
            last = "interrupted" if interrupted.is_set() else budgets.spent(course)
            if last is not None:
                break
            row = np.full(num_restarts, np.nan)
            row[active], stopped = step(len(course.history), active)
            course.history.append(row)
            course.reasons.update(stopped)
            course.seconds = time.monotonic() - begin
            display.update(len(course.history), row)
            if between is not None:
                between(course)
        course.seconds = time.monotonic() - begin
    return Fit(
        model=model,
        objective=objective,
        history=np.array(course.history).reshape(-1, num_restarts),
        stop_reason=[course.reasons.get(r, last or "max_steps") for r in range(num_restarts)],
        seconds=course.seconds,
    )


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
