"""What the restarts of one model tell: which one is best, and how much depends on the starting point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.evaluate import Score, evaluate
from probseq.models.base import SequenceModel


@dataclass(frozen=True)
class RestartSummary:
    """How the R restarts of one model score on the same data.

    Attributes:
        best: the restart with the fewest nats per token; the lowest of equals.
        nats_per_token: ``(R,)``; inf or NaN where a restart failed or found a sequence impossible.

    Example:
        >>> summary = RestartSummary.from_score(Score(np.array([[-4.0], [-2.0]]), np.array([2]), np.ones(1), "exact"))
        >>> summary.best, summary.nats_per_token.tolist(), summary.hit_rate(tolerance=0.01)
        (1, [2.0, 1.0], 0.5)
    """

    best: int
    nats_per_token: NDArray[np.float64]

    @classmethod
    def from_score(cls, score: Score) -> RestartSummary:
        """The summary of a `Score` that is already there. A non-finite restart wins only where all are."""
        nats = score.nats_per_token
        return cls(int(np.argmin(np.where(np.isfinite(nats), nats, np.inf))), nats)

    def num_at_best(self, tolerance: float = 0.01) -> int:
        """How many restarts are within `tolerance` nats per token of the best, the best itself included.

        Raises:
            InputError: a negative tolerance.
        """
        if not tolerance >= 0:
            raise InputError(f"tolerance is {tolerance}; expected 0 or more nats per token")
        close = self.nats_per_token <= self.nats_per_token[self.best] + tolerance
        return int((close & np.isfinite(self.nats_per_token)).sum())

    def hit_rate(self, tolerance: float = 0.01) -> float:
        """`num_at_best` as a share of the restarts: the chance that one start is as good as all of them."""
        return self.num_at_best(tolerance) / len(self.nats_per_token)


def best_restart(model: SequenceModel, validation: Sequences) -> RestartSummary:
    """Score every restart on validation data, and say which is best. Report that one on other data, not on these.

    Args:
        model: R restarts.
        validation: the sequences to choose on.

    Raises:
        InputError: no data, or data that the model cannot score.
    """
    return RestartSummary.from_score(evaluate(model, validation))


def select(model: SequenceModel, restart: int) -> SequenceModel:
    """The model with one restart only (R = 1): ``select(model, best_restart(model, validation).best)``.

    Raises:
        InputError: `restart` is not one of the R restarts.
    """
    return model.select(restart)
