"""The values of all restarts, which is the best, and what fewer of them would have found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.evaluate import Score, evaluate
from probseq.inference.run import Fit
from probseq.models.base import Model, SequenceModel
from probseq.models.given import ConditionalModel

TOLERANCE = 1e-3
"""Nats per token: a restart this near the best has found it. What a restart has found means this everywhere."""


@dataclass(frozen=True)
class RestartSummary:
    """How the R restarts of one model end.

    Attributes:
        best: the restart with the fewest nats per token; the lowest of equals.
        nats_per_token: ``(R,)``; inf or NaN where a restart failed or found a sequence impossible.

    Example:
        >>> summary = RestartSummary.from_score(Score(np.array([[-4.0], [-2.0]]), np.array([2]), np.ones(1), "exact"))
        >>> summary.best, summary.nats_per_token.tolist(), summary.hit_rate()
        (1, [2.0, 1.0], 0.5)
        >>> summary.spread, summary.expected_best.tolist()
        (1.0, [1.5, 1.0])
    """

    best: int
    nats_per_token: NDArray[np.float64]

    @classmethod
    def from_score(cls, score: Score) -> RestartSummary:
        """The summary of a `Score` that is already there. A non-finite restart wins only where all are."""
        return RestartSummary(best_of(score.nats_per_token), score.nats_per_token)

    @classmethod
    def from_fit(cls, fit: Fit[Any]) -> RestartSummary:
        """The summary of where a fit ended, by what it was made to improve; see `final_values`."""
        values = final_values(fit)
        return RestartSummary(best_of(values), values)

    @property
    def num_restarts(self) -> int:
        """R."""
        return len(self.nats_per_token)

    @property
    def num_failed(self) -> int:
        """How many restarts have no finite value."""
        return int((~np.isfinite(self.nats_per_token)).sum())

    @property
    def spread(self) -> float:
        """The worst finite value less the best, in nats per token; 0 where one is finite, NaN where none is."""
        finite = self.nats_per_token[np.isfinite(self.nats_per_token)]
        return float(np.ptp(finite)) if len(finite) else float("nan")

    @property
    def expected_best(self) -> NDArray[np.float64]:
        """``(R,)``: the fewest nats per token among 1, 2, ..., R of these runs, on average; see `expected_best`."""
        return expected_best(self.nats_per_token)

    def at_best(self, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
        """``(R,)``: which restarts are within `tolerance` nats per token of the best, the best itself included.

        Raises:
            InputError: a negative tolerance.
        """
        if not tolerance >= 0:
            raise InputError(f"tolerance is {tolerance}; expected 0 or more nats per token")
        close = self.nats_per_token <= self.nats_per_token[self.best] + tolerance
        return np.asarray(close & np.isfinite(self.nats_per_token))

    def num_at_best(self, tolerance: float = TOLERANCE) -> int:
        """How many restarts have found the best, to within `tolerance` nats per token."""
        return int(self.at_best(tolerance).sum())

    def hit_rate(self, tolerance: float = TOLERANCE) -> float:
        """`num_at_best` as a share of the restarts: the chance that one start is as good as all of them."""
        return self.num_at_best(tolerance) / self.num_restarts


def final_values(fit: Fit[Any]) -> NDArray[np.float64]:
    """``(R,)``: minus what each restart reached, in nats per token; NaN for one that never had a finite value.

    That is its best score on validation where there are such scores, because its weights are those of that step; where
    the fit has computed its objective anew at the end, because its steps only estimate it (``details["final"]``), that;
    its last finite objective otherwise.
    """
    if fit.validation is not None and len(fit.validation):
        reached = np.where(np.isfinite(fit.validation), fit.validation, -np.inf).max(axis=0)
        return np.where(np.isfinite(reached), -reached, np.nan)
    if "final" in fit.details:
        final = np.asarray(fit.details["final"], dtype=np.float64)
        return np.where(np.isfinite(final), -final, np.nan)
    history = np.asarray(fit.history, dtype=np.float64)
    steps = np.arange(1, len(history) + 1)[:, None] * np.isfinite(history)
    last = np.maximum(steps.max(axis=0, initial=0), 1) - 1
    return np.asarray(-history[last, np.arange(history.shape[1])])


def final_standard_error(fit: Fit[Any]) -> NDArray[np.float64] | None:
    """``(R,)``: the Monte Carlo standard error of `final_values`; None where the fit knows of none."""
    found = fit.details.get("final_standard_error")
    if found is None or (fit.validation is not None and len(fit.validation)):
        return None
    return np.asarray(found, dtype=np.float64)


def best_of(nats_per_token: NDArray[np.float64]) -> int:
    """The restart with the fewest; a non-finite one only where all are."""
    return int(np.argmin(np.where(np.isfinite(nats_per_token), nats_per_token, np.inf)))


def expected_best(nats_per_token: ArrayLike) -> NDArray[np.float64]:
    r"""The expected best of r runs, for r = 1 to R, when r of these R are taken at random without replacement.

    With the values in order, :math:`x_{(1)} \le \ldots \le x_{(R)}`, the i-th is the smallest of r of them in
    :math:`\binom{R - i}{r - 1}` of the :math:`\binom{R}{r}` subsets:

    .. math::
        \mathrm{E}[\min] = \sum_{i=1}^{R} x_{(i)} \binom{R - i}{r - 1} \, / \, \binom{R}{r} .

    This is an exact average over all subsets; nothing is simulated.

    Args:
        nats_per_token: ``(R,)``; smaller is better. A value that is not finite is never the best of several.

    Returns:
        ``(R,)``; inf for an r so small that all r runs may be ones that failed.

    Raises:
        InputError: no values.

    Reference:
        H. A. David, H. N. Nagaraja (2003), "Order statistics"; J. Dodge et al. (2019), "Show your work: improved
        reporting of experimental results", which draws with replacement.

    Example:
        >>> expected_best([3.0, 1.0, 2.0]).tolist()
        [2.0, 1.3333333333333333, 1.0]
    """
    values = np.asarray(nats_per_token, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"received values of shape {values.shape}; expected (R,): one for each restart")
    ordered, total = np.sort(np.where(np.isfinite(values), values, np.inf)), len(values)
    r, i = np.arange(1, total + 1)[:, None], np.arange(1, total)
    # Each chance follows from the one before: C(R - i - 1, r - 1) / C(R - i, r - 1) = (R - i - r + 1) / (R - i).
    factors = np.clip((total - i - r + 1) / (total - i), 0, None)
    chances = r / total * np.cumprod(np.hstack([np.ones_like(r, dtype=np.float64), factors]), axis=1)
    return np.asarray(np.where(chances > 0, chances * np.where(chances > 0, ordered, 0.0), 0.0).sum(axis=1))


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
    chosen = model.select(restart)
    if isinstance(chosen, Model):
        chosen.vocabulary = getattr(model, "vocabulary", None)
    if isinstance(chosen, ConditionalModel):
        chosen.source_vocabulary = getattr(model, "source_vocabulary", None)
    return chosen
