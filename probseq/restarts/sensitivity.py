"""`sensitivity`: what R runs from different starting points tell about one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.evaluate import evaluate
from probseq.inference.run import Fit
from probseq.models.alignment import align
from probseq.models.base import SequenceModel
from probseq.models.hmm import HMM
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.restarts.at_mean import at_mean
from probseq.restarts.optima import distinct_optima, path_agreement
from probseq.restarts.summary import TOLERANCE, RestartSummary, best_of, final_standard_error, final_values

if TYPE_CHECKING:
    import pandas as pd

PARAMETER_TOLERANCE = 0.1
"""Two distributions this near one another are the same, in Hellinger distance or total variation (0 to 1)."""


@dataclass(frozen=True, repr=False)
class Sensitivity(RestartSummary):
    """What the restarts of a model tell.

    Attributes:
        best: the restart with the fewest nats per token.
        nats_per_token: ``(R,)``, smaller is better.
        model: the R restarts; the states of a hidden Markov model are named after those of the best restart. Of a
            posterior over hidden Markov models, it is the model at its mean; of draws, at the mean of the aligned ones.
        measure: what `nats_per_token` is minus one times of.
        tolerance: nats per token within which two values are the same: what was asked for, or more where values are
            estimates.
        fit: where the model comes from, or None.
        permutations: ``(R, K)``: which state of each restart has become which; None for a model without states.
        optimum: ``(R,)``: the number of the optimum that each restart has found, 0 is the best and -1 a failed restart;
            None for a model without states.
        agreement: ``(R, R)``: the share of tokens to which two restarts give the same state; None without data.
        standard_error: ``(R,)``: of values that are estimates, their Monte Carlo standard error; None for others.
    """

    model: SequenceModel
    measure: str
    tolerance: float = TOLERANCE
    fit: Fit[Any] | None = None
    permutations: NDArray[np.int64] | None = None
    optimum: NDArray[np.int64] | None = None
    agreement: NDArray[np.float64] | None = None
    standard_error: NDArray[np.float64] | None = None

    @property
    def num_optima(self) -> int | None:
        """How many distinct optima were found; None for a model without states, whose values are all there is."""
        return None if self.optimum is None else int(self.optimum.max(initial=-1)) + 1

    @property
    def num_converged(self) -> int | None:
        """How many restarts stopped because they had converged; None without a fit."""
        return None if self.fit is None else self.fit.stop_reason.count("converged")

    @property
    def cut_off(self) -> bool:
        """Whether optima were counted of which some are only places where a budget ended."""
        finished = self.num_restarts - self.num_failed
        return self.num_optima is not None and self.num_converged is not None and self.num_converged < finished

    @property
    def optima_label(self) -> str | None:
        """`num_optima` in words, with how many converged where some were cut off: ``"5, none converged"``."""
        if self.num_optima is None or not self.cut_off:
            return None if self.num_optima is None else str(self.num_optima)
        return f"{self.num_optima}, {self.num_converged or 'none'} converged"

    @property
    def mean_agreement(self) -> float | None:
        """`agreement` on average over all pairs of different restarts; None without data, or with one restart."""
        if self.agreement is None or self.num_restarts < 2:
            return None
        return float(self.agreement[~np.eye(self.num_restarts, dtype=bool)].mean())

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each restart, best first: its value, how far it is from the best, and what else is known."""
        import pandas as pd

        columns: dict[str, Any] = {"restart": np.arange(self.num_restarts), "nats_per_token": self.nats_per_token}
        columns["above_best"] = self.nats_per_token - self.nats_per_token[self.best]
        columns["at_best"] = self.at_best(self.tolerance)
        if self.optimum is not None:
            columns["optimum"] = self.optimum
        if self.agreement is not None:
            columns["agreement_with_best"] = self.agreement[self.best]
        if self.fit is not None:
            columns |= {"steps": self.fit.num_steps, "stop_reason": self.fit.stop_reason}
        return pd.DataFrame(columns).sort_values("nats_per_token", kind="stable", ignore_index=True)

    @property
    def summary(self) -> dict[str, Any]:
        """All that is one number, as plain values."""
        return {
            "measure": self.measure,
            "num_restarts": self.num_restarts,
            "num_failed": self.num_failed,
            "best": self.best,
            "best_nats_per_token": float(self.nats_per_token[self.best]),
            "spread": self.spread,
            "standard_error": None if self.standard_error is None else _typical(self.standard_error),
            "tolerance": self.tolerance,
            "num_at_best": self.num_at_best(self.tolerance),
            "hit_rate": self.hit_rate(self.tolerance),
            "num_optima": self.num_optima,
            "num_converged": self.num_converged,
            "mean_agreement": self.mean_agreement,
        }

    def __repr__(self) -> str:
        shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in self.summary.items()}
        return f"Sensitivity({', '.join(f'{key}={value}' for key, value in shown.items())})"


def sensitivity(
    fitted: Fit[Any] | SequenceModel,
    data: Sequences | None = None,
    *,
    tolerance: float = TOLERANCE,
    parameter_tolerance: float = PARAMETER_TOLERANCE,
) -> Sensitivity:
    """What R runs from different starting points tell: values, spread, how often the best was found, distinct optima.

    The value of a restart is what the fit was made to improve: its final objective, or its best score on validation
    where the fit chose its weights by that; of a model by itself, the log-probability of `data`. A restart whose value
    is within `tolerance` of the best has found the best. That much is said of every model. Where values are estimates,
    as those of `probseq.svi` are, the tolerance is at least four of their standard errors: two for each of the two
    values that are compared.

    An optimum is where a restart has stopped. If it was cut off, by a budget or by a criterion that is too easily met,
    it may have been on its way to the same place as another: fit to the end before you count (``tol=1e-10`` and
    ``accelerate=True`` of `probseq.em`), and look at ``num_converged``.

    The states of a hidden Markov model are aligned first (see `probseq.align`): to the best restart for everything that
    is shown, pair by pair to tell optima apart. Two restarts have found the same optimum if both their values and their
    aligned parameters agree within the tolerances, or if others link them (single linkage). Where a likelihood is flat,
    as with more states than the data support, one value may belong to many optima.

    Args:
        fitted: a `Fit`, or a model with R restarts.
        data: where the most probable paths of the restarts are compared; of a model by itself also what it is scored
            on.
        tolerance: nats per token, at least.
        parameter_tolerance: the largest distance of two distributions that count as the same: Hellinger distance of
            emissions, total variation of the rest, 0 to 1.

    Raises:
        InputError: neither a fit nor data, nothing observed in the data, data that the model cannot score, or a
            negative tolerance.

    Example:
        >>> from probseq import HMM, Sequences, em, emissions
        >>> data = Sequences.from_list([[0, 1, 0, 1, 0, 1, 1, 0, 1]])
        >>> found = sensitivity(em(HMM(1, emissions.Categorical(2), num_restarts=3), data), data)
        >>> found.num_at_best(), found.num_optima, found.mean_agreement
        (3, 1, 1.0)
    """
    for name, value in (("tolerance", tolerance), ("parameter_tolerance", parameter_tolerance)):
        if not value >= 0:
            raise InputError(f"{name} is {value}; expected 0 or more")
    error = None
    if data is not None:
        check_sequences(data, "data")
    if isinstance(fitted, Fit):
        model, values, measure = fitted.model, final_values(fitted), _measure(fitted)
        error = final_standard_error(fitted)
        tolerance = tolerance if error is None else max(tolerance, 4 * _typical(error))
    elif data is None:
        raise InputError("received a model and no data; expected data to score it on, or the Fit that it comes from")
    else:
        score = evaluate(fitted, data)
        model, values, measure = fitted, score.nats_per_token, f"log-likelihood per token (nats), {score.likelihood}"
    fit = fitted if isinstance(fitted, Fit) else None
    best = best_of(values)
    if not isinstance(model, (HMM, PosteriorHMM)):
        return Sensitivity(best, values, model, measure, tolerance, fit, standard_error=error)
    named = isinstance(model, PosteriorHMM) and model.named
    model = at_mean(model)
    order = torch.arange(model.num_states).repeat(model.num_restarts, 1) if named else align(model, best)
    aligned = model.permute(order)
    return Sensitivity(
        best,
        values,
        aligned,
        measure,
        tolerance,
        fit,
        permutations=order.cpu().numpy(),
        optimum=distinct_optima(model, values, tolerance, parameter_tolerance),
        agreement=None if data is None else path_agreement(aligned, data),
        standard_error=error,
    )


def _typical(standard_error: NDArray[np.float64]) -> float:
    """The median over restarts with a finite one, 0 where there is none: a restart that failed must not widen all."""
    finite = standard_error[np.isfinite(standard_error)]
    return float(np.median(finite)) if len(finite) else 0.0


def _measure(fit: Fit[Any]) -> str:
    validated = fit.validation is not None and len(fit.validation)
    return "log-likelihood per token of the validation data (nats)" if validated else fit.objective
