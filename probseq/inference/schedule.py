"""The learning rate over a budget."""

from __future__ import annotations

import math
import time

_FINAL_RATE = 0.1  # the cosine ends at this share of the learning rate


class Rate:
    """The learning rate: linear warm-up, then a cosine (or constant) over the budget in steps, tokens or seconds.

    Args:
        peak: the rate at the end of the warm-up.
        warmup: steps over which it rises linearly from 0.
        schedule: ``"cosine"`` (down to a tenth of the peak) or ``"constant"``.
        num_steps: the budget in steps.
        seconds: the budget in seconds, or None.
        num_tokens: the budget in tokens, or None. The cosine follows whichever budget is closest to its end.
        spent: seconds that were spent before.
    """

    def __init__(
        self,
        peak: float,
        warmup: int,
        schedule: str,
        num_steps: int,
        seconds: float | None,
        num_tokens: int | None = None,
        spent: float = 0.0,
    ) -> None:
        self.peak, self.warmup, self.schedule = peak, warmup, schedule
        self.num_steps, self.seconds, self.num_tokens = num_steps, seconds, num_tokens
        self.begin = time.monotonic() - spent

    def __call__(self, step: int, tokens: int = 0) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.peak
        done = (step - self.warmup) / max(1, self.num_steps - self.warmup)
        if self.seconds is not None:
            done = max(done, (time.monotonic() - self.begin) / self.seconds)
        if self.num_tokens is not None:
            done = max(done, tokens / self.num_tokens)
        cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
        return self.peak * (_FINAL_RATE + (1 - _FINAL_RATE) * cosine)
