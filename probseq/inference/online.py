"""Online EM: an M-step after every few sequences, for data of which one pass is long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.inference.em_step import EMModel, EMStep, Floats
from probseq.inference.run import StopReason


class OnlineStep(EMStep):
    """E-step of some sequences, and an M-step of a running average of statistics.

    The average begins, at step 0, with the statistics of all sequences: what a few sequences do not have is not
    impossible. From then on the statistics of `size` sequences, drawn without replacement pass by pass and scaled up to
    all data, enter it with weight ``(step + delay) ** -decay``.

    Reference:
        O. Cappé, E. Moulines (2009), "On-line expectation-maximization algorithm for latent data models".
    """

    def __init__(
        self, model: EMModel, data: Sequences, max_tokens: int, size: int, decay: float, delay: float, seed: int
    ) -> None:
        super().__init__(model, data, 0.0, max_tokens)
        self.size, self.decay, self.delay = min(size, len(data)), decay, delay
        self.rows = _shuffled(len(data), self.size, seed)
        self.average: Any = None

    def _keep(self, active: list[int]) -> None:
        if active != self.running and self.average is not None:
            rows = torch.as_tensor([self.running.index(r) for r in active], device=self.device)
            self.average = [value[rows] for value in self.average]
        super()._keep(active)

    def _e_step(self, number: int) -> tuple[Any, Floats]:
        part = self.data if self.average is None else self.data[next(self.rows)]
        one, log_likelihood = self._expect(part.batches(self.max_tokens, device=self.device))
        scaled = [value * (len(self.data) / len(part)) for value in one[1:]]
        weight = (number + self.delay) ** -self.decay
        last = scaled if self.average is None else self.average
        self.average = [torch.lerp(old, new, weight) for old, new in zip(last, scaled, strict=True)]
        tokens = float(part.num_observed @ part.weights)
        # Sequences of which nothing was observed say nothing of the objective.
        objective = self._per_token(log_likelihood / tokens) if tokens else self.previous[self.running]
        return one._make([one[0], *self.average]), objective

    def _verdict(self, objective: float, before: float) -> StopReason | None:
        """The objective of a part of the data may fall, and says nothing about convergence."""
        return None if np.isfinite(objective) else "nonfinite"


def _shuffled(num: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows without end, `size` at a time: every row once, then every row once more in a new order."""
    rng = np.random.default_rng(seed)
    queue = rng.permutation(num)
    while True:
        if len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(num)])
        yield queue[:size]
        queue = queue[size:]
