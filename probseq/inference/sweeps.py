"""The sweeps of a sampler that makes starting points: shown as they go on, and ended by Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from probseq.inference.progress import Display

Count = Callable[[Iterable[Any]], Iterable[Any]]
"""What is done around the sweeps of one restart: `Sweeps.count`, or `iter` for nothing."""


class Sweeps:
    """Counts the sweeps of all restarts, which may run in threads, and ends them when the block is left.

    A thread that Ctrl-C leaves behind would otherwise sweep on to its end, and the process would wait for it.

    Args:
        num_sweeps: of each restart.
        num_restarts: R.
        progress: show a bar; None: only where stderr is a terminal.
    """

    def __init__(self, num_sweeps: int, num_restarts: int, progress: bool | None) -> None:
        self._display = Display("gibbs", num_sweeps * num_restarts, None, progress)
        self._done, self._lock, self._over = 0, threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._display.__exit__(kind, error, at)

    def count(self, sweeps: Iterable[Any]) -> Iterator[Any]:
        """The sweeps of one restart.

        Raises:
            KeyboardInterrupt: the block was left.
        """
        for one in sweeps:
            if self._over.is_set():
                raise KeyboardInterrupt
            yield one
            with self._lock:
                self._done += 1
                self._display.update(self._done)
