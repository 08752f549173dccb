"""What a gradient fit is told about its steps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from probseq.errors import InputError, check_whole
from probseq.inference.precision import check_precision


@dataclass(frozen=True)
class GradientSettings:
    """How the steps of `fit_gradient`, which says what each of these means, are made.

    Two fits that differ in one of them are two runs, but for `patience`, which may be raised to train longer.

    Raises:
        InputError: a setting outside its range.
    """

    batch_size: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: str
    clip_norm: float
    precision: str
    eval_every: int
    patience: int
    seed: int

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "constant"):
            raise InputError(f"schedule is {self.schedule!r}; expected 'cosine' or 'constant'")
        for name in ("batch_size", "accumulate", "eval_every", "patience"):
            check_whole(name, getattr(self, name))
        for name, most in (("learning_rate", "a finite number"), ("clip_norm", "math.inf at most")):
            value = getattr(self, name)
            if not value > 0 or (name == "learning_rate" and value == math.inf):
                raise InputError(f"{name} is {value}; expected more than 0, and {most}")
        if self.warmup_steps < 0 or not 0 <= self.weight_decay < math.inf:
            raise InputError(
                f"warmup_steps is {self.warmup_steps} and weight_decay {self.weight_decay}; expected 0 or more"
            )
        check_precision(self.precision)

    def identity(self) -> dict[str, Any]:
        """Those that make a run what it is."""
        return {name: value for name, value in asdict(self).items() if name != "patience"}
