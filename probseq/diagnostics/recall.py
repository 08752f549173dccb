"""Whether a model remembers: questions whose answer follows from something that was said before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.questions import Questions
from probseq.data.sequences import Sequences
from probseq.models.base import SequenceModel, evaluation_mode


@dataclass(frozen=True, eq=False)
class Recall:
    """How a model answered N questions with A possible answers each.

    Attributes:
        distance: ``(N,)`` how far back the question reached.
        depth: ``(N,)`` how deeply nested it was.
        log_prob: ``(R, N)`` the log-probability of the right answer among the possible ones, in nats: 0 at best, and
            ``-log A`` by chance.
        correct: ``(R, N)`` 1 where the right answer was the most probable one, 0 where not; shared where several were.
    """

    distance: NDArray[np.int64]
    depth: NDArray[np.int64]
    log_prob: NDArray[np.float64]
    correct: NDArray[np.float64]

    def at(self, distance: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(R,)`` accuracy, and ``(R,)`` nats of the right answer, over the questions of one distance."""
        return self._over(self.distance == distance)

    def at_depth(self, depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(R,)`` accuracy, and ``(R,)`` nats of the right answer, over the questions of one depth."""
        return self._over(self.depth == depth)

    def _over(self, rows: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.correct[:, rows].mean(axis=1), -self.log_prob[:, rows].mean(axis=1)

    @property
    def distances(self) -> NDArray[np.int64]:
        """The distances that were asked about, in order."""
        return np.unique(self.distance)

    @property
    def depths(self) -> NDArray[np.int64]:
        """The depths that were asked about, in order."""
        return np.unique(self.depth)


@torch.no_grad()
def recall(model: SequenceModel, questions: Questions, max_tokens: int = 2**16) -> Recall:
    """Ask a model: every possible answer is put after the prompt and scored.

    Args:
        model: of symbols, any number of restarts. A model that finds no answer possible is taken to guess.
        questions: see `probseq.data.questions.ask`.
        max_tokens: padded tokens in one batch, at most; changes memory, not the result.
    """
    count = questions.answers.shape[1]
    rows = [
        np.append(prompt, one)
        for prompt, found in zip(questions.prompts, questions.answers, strict=True)
        for one in found
    ]
    data, last = Sequences.from_list(rows), np.zeros((model.num_restarts, len(rows)))
    device = getattr(model, "device", "cpu")
    with evaluation_mode(model):
        for batch in data.batches(max_tokens, device=device):
            terms = model.token_log_prob(batch)  # (R, N, T)
            at = (batch.lengths - 1).expand(len(terms), -1)[..., None]
            last[:, batch.index.cpu().numpy()] = terms.gather(2, at)[..., 0].double().cpu().numpy()
    scores = last.reshape(len(last), len(questions), count)
    scores[~np.isfinite(scores).any(axis=2)] = 0.0
    top = scores.max(axis=2, keepdims=True)
    log_prob = scores[..., 0] - top[..., 0] - np.log(np.exp(scores - top).sum(axis=2))
    best = scores == top
    return Recall(questions.distance, questions.depth, log_prob, best[..., 0] / best.sum(axis=2))
