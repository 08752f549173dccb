"""The progress line of a fit: step, objective in bits per token, best and spread over restarts, time left."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Display:
    """A rich progress bar on stderr; silent when stderr is not a terminal, unless asked for.

    Args:
        title: the first words of the line.
        num_steps: the budget in steps.
        seconds: the budget in seconds, or None. The bar follows whichever budget is closer to its end.
        show: True or False, or None to show only on a terminal.
        spent: seconds that were spent before.
    """

    def __init__(
        self, title: str, num_steps: int, seconds: float | None, show: bool | None, spent: float = 0.0
    ) -> None:
        self.num_steps, self.seconds = num_steps, seconds
        self.begin = time.monotonic() - spent
        self.latest: NDArray[np.float64] | None = None  # of every restart, those that have stopped included
        self.progress = None
        if sys.stderr.isatty() if show is None else show:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[step]}/{task.fields[steps]}"),
                TextColumn("{task.fields[state]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.task = self.progress.add_task(title, total=1.0, step=0, steps=num_steps, state="")

    def __enter__(self) -> Self:
        if self.progress:
            self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.progress:
            self.progress.stop()

    def update(self, step: int, objective: NDArray[np.float64] | None = None) -> None:
        """Show that `step` steps are done; `objective` (R,) is in nats per token, NaN for restarts that stopped."""
        if self.progress is None:
            return
        if objective is None:
            self.progress.update(self.task, completed=step / self.num_steps, step=step)
            return
        done = step / self.num_steps
        if self.seconds is not None:
            done = max(done, (time.monotonic() - self.begin) / self.seconds)
        running = np.isfinite(objective)
        self.latest = objective if self.latest is None else np.where(running, objective, self.latest)
        bits = -self.latest[np.isfinite(self.latest)] / math.log(2)
        state = f"best {bits.min():.4f} bits/token, spread {np.ptp(bits):.4f}, " if len(bits) else ""
        state += f"{running.sum()} running"
        self.progress.update(self.task, completed=min(done, 1.0), step=step, state=state)
