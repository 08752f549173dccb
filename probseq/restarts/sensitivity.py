"""`sensitivity`: what R runs from different starting points tell about one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.evaluate import evaluate
from probseq.inference.run import Fit
from probseq.models import emissions
from probseq.models.alignment import align
from probseq.models.base import SequenceModel
from probseq.models.hmm import HMM
from probseq.models.variational import VariationalHMM
from probseq.restarts.optima import distinct_optima, path_agreement
from probseq.restarts.summary import TOLERANCE, RestartSummary, best_of, final_values

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
            posterior over hidden Markov models, it is the model at its mean.
        measure: what `nats_per_token` is minus one times of.
        tolerance: nats per token within which two values are the same.
        fit: where the model comes from, or None.
        permutations: ``(R, K)``: which state of each restart has become which; None for a model without states.
        optimum: ``(R,)``: the number of the optimum that each restart has found, 0 is the best and -1 a failed restart;
            None for a model without states.
        agreement: ``(R, R)``: the share of tokens to which two restarts give the same state; None without data.
    """

    model: SequenceModel
    measure: str
    tolerance: float = TOLERANCE
    fit: Fit[Any] | None = None
    permutations: NDArray[np.int64] | None = None
    optimum: NDArray[np.int64] | None = None
    agreement: NDArray[np.float64] | None = None

    @property
    def num_optima(self) -> int | None:
        """How many distinct optima were found; None for a model without states, whose values are all there is."""
        return None if self.optimum is None else int(self.optimum.max(initial=-1)) + 1

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
            "tolerance": self.tolerance,
            "num_at_best": self.num_at_best(self.tolerance),
            "hit_rate": self.hit_rate(self.tolerance),
            "num_optima": self.num_optima,
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
    is within `tolerance` of the best has found the best. That much is said of every model.

    The states of a hidden Markov model are aligned first (see `probseq.align`): to the best restart for everything that
    is shown, pair by pair to tell optima apart. Two restarts have found the same optimum if both their values and their
    aligned parameters agree within the tolerances, or if others link them (single linkage). Where a likelihood is flat,
    as with more states than the data support, one value may belong to many optima.

    Args:
        fitted: a `Fit`, or a model with R restarts.
        data: where the most probable paths of the restarts are compared; of a model by itself also what it is scored
            on.
        tolerance: nats per token.
        parameter_tolerance: the largest distance of two distributions that count as the same: Hellinger distance of
            emissions, total variation of the rest, 0 to 1.

    Raises:
        InputError: neither a fit nor data, data that the model cannot score, or a negative tolerance.

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
    if isinstance(fitted, Fit):
        model, values, measure = fitted.model, final_values(fitted), _measure(fitted)
    elif data is None:
        raise InputError("received a model and no data; expected data to score it on, or the Fit that it comes from")
    else:
        score = evaluate(fitted, data)
        model, values, measure = fitted, score.nats_per_token, f"log-likelihood per token (nats), {score.likelihood}"
    fit = fitted if isinstance(fitted, Fit) else None
    best = best_of(values)
    if not isinstance(model, HMM):
        return Sensitivity(best, values, model, measure, tolerance, fit)
    model = _at_mean(model)
    order = align(model, best)
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
    )


def _at_mean(model: HMM) -> HMM:
    """A posterior as the one model that its likelihood is of, whose states can be renamed whatever the posterior is."""
    if not isinstance(model, VariationalHMM):
        return model
    names = ("num_restarts", "initial_mask", "transition_mask", "emission_groups")
    config = model.config()
    emission = emissions.from_config(config["emission"])
    options = {name: config[name] for name in names}
    plain = HMM(model.num_states, emission, start="parameters", dtype=model.log_initial.dtype, **options)
    values = model.state_dict()
    plain.load_state_dict({name: values[name] for name in plain.state_dict()})
    return plain.to(model.device)


def _measure(fit: Fit[Any]) -> str:
    validated = fit.validation is not None and len(fit.validation)
    return "log-likelihood per token of the validation data (nats)" if validated else fit.objective
