"""The learning rate over a budget."""

from __future__ import annotations

import math

from probseq.inference.run import Budgets, Course

_FINAL_RATE = 0.1  # the cosine ends at this share of the learning rate


class Rate:
    """The learning rate of the next step: a linear warm-up times a cosine (or a constant) over the budget.

    The cosine follows whichever budget is closest to its end. That of steps begins after the warm-up, those of tokens
    and seconds at the beginning, so the warm-up rises under the cosine and nothing jumps where it ends.

    Args:
        peak: the learning rate.
        warmup: steps over which it rises linearly from 0.
        schedule: ``"cosine"`` (down to a tenth of the peak) or ``"constant"``.
        budgets: what may be spent.
        course: what was spent; it grows.
    """

    def __init__(self, peak: float, warmup: int, schedule: str, budgets: Budgets, course: Course) -> None:
        self.peak, self.warmup, self.schedule = peak, warmup, schedule
        self.budgets, self.course = budgets, course

    def __call__(self) -> float:
        step = len(self.course.history)
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "constant":
            return self.peak * rising
        cosine = (1 + math.cos(math.pi * self.budgets.share(self.course, self.warmup))) / 2
        return self.peak * rising * (_FINAL_RATE + (1 - _FINAL_RATE) * cosine)
